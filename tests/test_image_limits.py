"""How large an image may be: what docs/architecture.md says is what the code works out."""

import re
from itertools import takewhile

import pytest
from support.damaged_images import many_passes
from support.person import ROOT

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import convert, inspect
from pipeline.images.cost import conversion_bytes
from pipeline.images.facts import Header, ImageLimits
from pipeline.settings import Settings

PIXELS: int = Settings.model_fields["max_image_pixels"].default
MEMORY: int = Settings.model_fields["image_memory_bytes"].default
SMALL_MEMORY = 512 * 131_072
"""IMAGE_MEMORY_BYTES of an instance of 512 MB, as infra/bicep/resources.bicep sets it."""

# The row's title → the format, the channels it can have, and the bytes for each pixel of a progressive JPEG's planes.
ROWS = {
    "JPEG, not progressive": ("jpeg", (1, 3), 0),
    "JPEG, progressive, colours at half resolution": ("jpeg", (1, 3), 3),
    "JPEG, progressive, colours at full resolution": ("jpeg", (3,), 6),
    "PNG": ("png", (1, 3, 4), 0),
    "TIFF": ("tiff", (1, 3, 4), 0),
    "BMP": ("bmp", (3, 4), 0),
    "GIF": ("gif", (4,), 0),
    "HEIC": ("heic", (3, 4), 0),
    "AVIF": ("avif", (3, 4), 0),
    "WEBP": ("webp", (3, 4), 0),
}


def largest(kind: str, channels: int, plane_bytes: int, memory: int) -> int:
    """Megapixels up to which every square is converted.

    A JPEG above may still be: the larger it is, the more it is reduced while it is decoded.
    """

    def fits(side: int) -> bool:
        planes = (2 if channels == 1 else plane_bytes) * side * side if plane_bytes else 0
        header = Header(side, side, channels=channels, planes_bytes=planes)
        return side * side <= PIXELS and conversion_bytes(kind, header, 0) <= 2 * memory

    *_, side = takewhile(fits, range(16, 16_000, 4))
    return round(side * side / 1_000_000)


def cells() -> list[str]:
    found = []
    for title, (kind, channels, planes) in ROWS.items():
        normal = [str(largest(kind, c, planes, MEMORY)) if c in channels else "" for c in (1, 3, 4)]
        small = [str(largest(kind, c, planes, SMALL_MEMORY)) for c in channels]
        found.append(f"| {title} | {' | '.join(normal)} | {', '.join(small)} |")
    return found


def test_the_table_of_sizes_is_what_the_code_works_out() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| format \| grey \|.*\n\| --- .*\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table.splitlines() == cells()


def test_a_progressive_jpeg_of_the_usual_passes_is_taken_at_any_size() -> None:
    """Programs write ten passes, twelve at most: what bounds their size is MAX_IMAGE_PIXELS alone."""
    data = many_passes(2_400, 1_600, 8)  # six of its own, of which the last is there eight times and once more
    pixels = 2_400 * 1_600
    limits = ImageLimits(max_pixels=pixels)
    assert convert(data, inspect(data, limits), limits).transformed


def test_a_progressive_jpeg_of_too_many_passes_for_its_size_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.images.conversion._MIN_PASS_PIXELS", 0)
    limits = ImageLimits(max_pixels=2_400 * 1_600)
    data = many_passes(2_400, 1_600, 30)
    with pytest.raises(PermanentFailure) as caught:
        convert(data, inspect(data, limits), limits)
    assert caught.value.code is ErrorCode.IMAGE_TOO_LARGE
    assert (caught.value.details or {})["max_passes"] == 12
    assert "Save it smaller" in caught.value.message
