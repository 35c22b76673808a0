"""Damaged images end in a failed result: none crashes the process, hangs it, eats its memory or is paid for."""

import random

import pytest
from PIL import Image
from support.damaged_images import damaged_images, encoded, outcome, photo, run, samples
from support.preparing import LIMITS, inspected, prepare

from pipeline.images import convert

SENT_BY_THE_SERVICE = [name for name in samples() if outcome(samples()[name]) == "sent as it is"]


@pytest.mark.parametrize("name", SENT_BY_THE_SERVICE)
def test_a_file_cut_short_anywhere_is_not_sent(name: str) -> None:
    """Found without decoding. What the decoder still finds complete, as a GIF without its end, is converted."""
    data = samples()[name]
    ends = {*range(1, min(len(data), 300)), *range(len(data) - 40, len(data))}
    ends |= {random.Random(name).randrange(len(data)) for _ in range(100)}  # noqa: S311 - repeatable, not secret
    if name.startswith("jpeg"):
        ends -= {len(data) - 1, len(data) - 2}  # nothing but the end marker: see below
    outcomes = {outcome(data[:end]) for end in ends}
    assert outcomes <= {"corrupt_image", "unsupported_image", "converted"}
    assert name.startswith(("gif", "png")) or "converted" not in outcomes


def cut_jpegs() -> dict[str, bytes]:
    photograph = photo(240, 180)
    return {name: data for name, data in samples().items() if name.startswith("jpeg")} | {
        "blank": encoded(Image.new("RGB", (300, 200), "white"), "JPEG", optimize=True),
        "every colour": encoded(photograph, "JPEG", quality=100, subsampling=0),
        "every colour, progressive": encoded(photograph, "JPEG", quality=100, subsampling=0, progressive=True),
        "grey, progressive": encoded(photograph.convert("L"), "JPEG", progressive=True),
        "a restart after each block": encoded(photograph, "JPEG", restart_marker_blocks=1),
        "restarts, progressive": encoded(photograph, "JPEG", restart_marker_rows=1, progressive=True),
    }


@pytest.mark.parametrize("behind", [b"", b"\xff", b"\0\0", b"\r\n", b"\n"])
@pytest.mark.parametrize("name", cut_jpegs())
def test_a_jpeg_without_its_end_marker_is_sent_with_one(name: str, behind: bytes) -> None:
    """All its pixels are there, and every viewer opens it."""
    data = cut_jpegs()[name]
    image = prepare(data[:-2] + behind)
    assert image == convert(data, inspected(data), LIMITS)
    assert (image.data[:2], image.data[-2:]) == (b"\xff\xd8", b"\xff\xd9")


@pytest.mark.parametrize("name", cut_jpegs())
def test_a_jpeg_that_lacks_one_byte_of_its_picture_is_corrupt(name: str) -> None:
    """Also where a whole scan of a progressive one is missing, or all that follows a restart."""
    data = cut_jpegs()[name]
    scan = data.index(b"\xff\xda", data.index(b"\xff\xc4"))
    markers = [at + 2 * skip for at in range(scan + 2, len(data) - 2) for skip in (0, 1) if is_marker(data, at)]
    somewhere = random.Random(name).choices(range(scan, len(data) - 2), k=20)  # noqa: S311 - repeatable, not secret
    ends = {*range(len(data) - 40, len(data) - 2), *markers[-30:], *somewhere}
    assert {outcome(data[:end]) for end in ends} == {"corrupt_image"}


def is_marker(data: bytes, at: int) -> bool:
    """Whether a marker begins there, of those that stand within or between scans."""
    return data[at] == 0xFF and data[at + 1] in {0xC4, 0xDA, *range(0xD0, 0xD8)}


def test_a_jpeg_cut_at_any_byte_of_its_header_is_corrupt() -> None:
    data = samples()["jpeg"]
    scan = data.index(b"\xff\xda")
    assert {outcome(data[:end]) for end in range(3, scan + 20)} == {"corrupt_image"}


@pytest.mark.parametrize("name", [name for name in SENT_BY_THE_SERVICE if name.startswith("jpeg")])
def test_a_jpeg_whose_tail_was_never_written_is_not_sent(name: str) -> None:
    """As an interrupted transfer leaves it: the right length, zeros from somewhere on."""
    data = samples()[name]
    half = len(data) // 2
    assert outcome(data[:half] + bytes(len(data) - half)) == "corrupt_image"


def test_the_same_seed_makes_the_same_files() -> None:
    first, second = damaged_images(5), damaged_images(5)
    assert [next(first) for _ in range(50)] == [next(second) for _ in range(50)]


@pytest.mark.timeout(90)
def test_nothing_crashes_on_damaged_images_of_every_format() -> None:
    """A second of them; `python tests/support/damaged_images.py --seconds 300` is the long run."""
    report = run(seconds=1, seed=2026)
    assert report.findings == []
    assert report.tried > 100
    assert report.slowest[0] < 5, report.slowest
    assert report.peak_bytes - report.idle_bytes < 900_000_000
