"""Memory that a conversion holds at its peak, estimated from the header before anything is decoded. Pure.

Measured with `VmHWM` at 48 megapixels, one process for each kind, and rounded up: docs/architecture.md has the table.
"""

import math

from pipeline.images.facts import Header
from pipeline.images.resolution import STANDARD, Resolution

# Bytes for each pixel that is decoded: of grey, of colour, and of all else (transparency, 32 bits a channel). A pixel
# is 1 or 4 bytes to Pillow; the decoders of WEBP and AVIF hold copies of their own.
_PEAK_BYTES_PER_PIXEL = {
    "jpeg": (2, 8, 8),
    "png": (3, 7, 10),
    "gif": (3, 7, 10),
    "bmp": (3, 7, 10),
    "tiff": (3, 8, 10),
    "heic": (4, 8, 12),
    "avif": (12, 12, 14),
    "webp": (17, 17, 20),
    "jpeg2000": (12, 24, 30),
    "psd": (4, 10, 14),
}
_OF_CHANNELS = {1: 0, 3: 1}

# The scaled image in a few versions, and the encoded one: for each pixel, and at least.
_PEAK_BYTES_PER_SCALED_PIXEL = 7
_PEAK_BYTES_ALWAYS = 32_000_000

# A JPEG can be decoded at half, a quarter or an eighth of its size, for a fraction of the time and memory. Of what most
# phones take (4032 and 8064 px) that leaves 2016 px: as good as 2048, and spares the scaling that costs most.
_CLOSE_ENOUGH = 0.95


def conversion_bytes(kind: str, header: Header, copied: int, seen: Resolution = STANDARD) -> int:
    """Estimate the peak of a conversion beside the file, of which it copies so many bytes."""
    width, height = header.width, header.height
    scaled = math.prod(seen.fitted(width, height))
    if kind == "jpeg":
        scale = _draft_scale(width, height, seen)
        width, height = -(-width // scale), -(-height // scale)
    per_pixel = _PEAK_BYTES_PER_PIXEL[kind][_OF_CHANNELS.get(header.channels, 2)]
    always = max(_PEAK_BYTES_ALWAYS, scaled * _PEAK_BYTES_PER_SCALED_PIXEL)
    return width * height * per_pixel + header.planes_bytes + copied + always


def draft(width: int, height: int, seen: Resolution) -> tuple[int, int]:
    """The least size at which to have a JPEG decoded."""
    wide, high = seen.fitted(width, height)
    return math.ceil(wide * _CLOSE_ENOUGH), math.ceil(high * _CLOSE_ENOUGH)


def _draft_scale(width: int, height: int, seen: Resolution) -> int:
    """By which Pillow divides the size of a JPEG that is asked for at `draft`: `JpegImageFile.draft`."""
    wide, high = draft(width, height, seen)
    return next((scale for scale in (8, 4, 2) if min(width // wide, height // high) >= scale), 1)
