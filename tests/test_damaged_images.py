"""Damaged images end in a failed result: none crashes the process, hangs it, eats its memory or is paid for."""

import random

import pytest
from support.damaged_images import damaged_images, outcome, run, samples

SENT_BY_THE_SERVICE = [name for name in samples() if outcome(samples()[name]) == "sent as it is"]


@pytest.mark.parametrize("name", SENT_BY_THE_SERVICE)
def test_a_file_cut_short_anywhere_is_not_sent(name: str) -> None:
    """Found without decoding. What the decoder finds complete all the same, as a GIF without its end, is converted."""
    data = samples()[name]
    ends = {*range(1, min(len(data), 300)), *range(len(data) - 40, len(data))}
    ends |= {random.Random(name).randrange(len(data)) for _ in range(100)}  # noqa: S311 - repeatable, not secret
    outcomes = {outcome(data[:end]) for end in ends}
    assert outcomes <= {"corrupt_image", "unsupported_image", "converted"}
    assert name.startswith(("gif", "png")) or "converted" not in outcomes


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
    """Twelve seconds of them; `python tests/support/damaged_images.py --seconds 300` is the long run."""
    report = run(seconds=12, seed=2026)
    assert report.findings == []
    assert report.tried > 200
    assert report.slowest[0] < 5, report.slowest
    assert report.peak_bytes - report.idle_bytes < 900_000_000
