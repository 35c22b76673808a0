"""Images to measure with, made here: the same bytes on every machine with the same versions."""

from functools import cache
from io import BytesIO
from random import Random
from typing import Any

from PIL import Image, ImageDraw

_SEGMENT_BYTES = 65_533
"""A JPEG comment's content at most: two bytes of its length count the length itself."""


@cache
def photo(megapixels: float) -> Image.Image:
    """4:3, with a photo's mixture of smooth parts and grain: it compresses as one."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    size = (width, round(width * 3 / 4))
    # In bands of noise that is coarse, finer and fine, the same at every run.
    bands = [
        Image.frombytes("L", (cells, cells * 3 // 4), Random(cells).randbytes(cells * (cells * 3 // 4))).resize(  # noqa: S311 - no secret
            size, Image.Resampling.BICUBIC
        )
        for cells in (16, 256, 2048)
    ]
    return Image.merge("RGB", bands)


def screenshot(width: int, height: int) -> Image.Image:
    """Flat colours, lines of text, some icons."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 60), "navy")
    for line, top in enumerate(range(80, height - 20, 18)):
        draw.text((40 + 20 * (line % 4), top), f"{line:5}  the quick brown fox jumps over the lazy dog " * 3, "black")
        draw.rectangle((width - 300, top, width - 300 + 3 * (line % 80), top + 12), (line % 255, 120, 200))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_of(size_bytes: int) -> bytes:
    """A JPEG that the service takes as it is, of just this size: what a picture of it does not fill, comments do."""
    picture = encoded(photo(0.1), "JPEG", quality=20)
    missing = size_bytes - len(picture)
    if missing < 4:
        raise ValueError(f"no JPEG of {size_bytes} bytes: the picture alone has {len(picture)}")
    comments = bytearray()
    while missing:
        # What is left over for the last one has to hold its own four bytes.
        content = min(_SEGMENT_BYTES, missing - 4)
        if 0 < missing - 4 - content < 4:
            content -= 4
        comments += b"\xff\xfe" + (content + 2).to_bytes(2) + bytes(content)
        missing -= 4 + content
    return picture[:2] + bytes(comments) + picture[2:]
