"""Memory that a conversion holds at its peak, estimated from the header before anything is decoded. Pure.

Measured with `VmHWM` at 48 megapixels, one process for each kind, and rounded up: docs/architecture.md has the table.
"""

import math

from pipeline.images.facts import SERVICE_MAX_SIDE, Header

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

# The scaled image in a few versions, and the encoded one.
_PEAK_BYTES_ALWAYS = 32_000_000

# A JPEG can be decoded at half, a quarter or an eighth of its size, for a fraction of the time and memory. Of what most
# phones take (4032 and 8064 px) that leaves 2016 px: as good as 2048, and spares the scaling that costs most.
_CLOSE_ENOUGH = 0.95


def conversion_bytes(kind: str, header: Header, copied: int) -> int:
    """Estimate the peak of a conversion beside the file, of which it copies so many bytes."""
    width, height = header.width, header.height
    if kind == "jpeg":
        scale = _draft_scale(width, height)
        width, height = -(-width // scale), -(-height // scale)
    per_pixel = _PEAK_BYTES_PER_PIXEL[kind][_OF_CHANNELS.get(header.channels, 2)]
    return width * height * per_pixel + header.planes_bytes + copied + _PEAK_BYTES_ALWAYS


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size at which the model sees a picture of that size."""
    factor = min(1, SERVICE_MAX_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def draft(width: int, height: int) -> tuple[int, int]:
    """The least size at which to have a JPEG decoded."""
    wide, high = fitted(width, height)
    return math.ceil(wide * _CLOSE_ENOUGH), math.ceil(high * _CLOSE_ENOUGH)


def _draft_scale(width: int, height: int) -> int:
    """By which Pillow divides the size of a JPEG that is asked for at `draft`: `JpegImageFile.draft`."""
    wide, high = draft(width, height)
    return next((scale for scale in (8, 4, 2) if min(width // wide, height // high) >= scale), 1)
