"""What is known about an image, before and after it was prepared."""

from dataclasses import dataclass
from typing import Literal

SentFormat = Literal["jpeg", "png", "webp", "gif"]

# Azure OpenAI, "Use vision-enabled chat models": an image is at most 20 MB, and one whose longer side has more
# than 2048 px is scaled down to that before the model sees it.
SERVICE_MAX_BYTES = 20 * 1024 * 1024
SERVICE_MAX_SIDE = 2048


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What this deployment is willing to open. `max_pixels` is width times height."""

    max_bytes: int = 52_428_800
    max_pixels: int = 80_000_000


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the file's header says. Width and height are as stored, before any EXIF rotation."""

    format: str
    width: int
    height: int


# What a conversion holds at its peak for each pixel of the original, measured at 80 megapixels, rounded up. A pixel is
# 4 bytes to Pillow; the decoders of WEBP and AVIF keep copies of their own, and progressive JPEGs all coefficients.
_PEAK_BYTES_PER_PIXEL = {"jpeg": 8, "png": 10, "gif": 10, "bmp": 10, "tiff": 12, "heic": 10, "avif": 14, "webp": 18}
# What it takes for any size: the scaled image in a few versions, and the encoded one.
_PEAK_BYTES_ALWAYS = 60_000_000


@dataclass(frozen=True, slots=True)
class Inspection:
    """`orientation` is EXIF's, 1 to 8, 1 being upright. `obstacle` is why the image cannot be sent as it is."""

    facts: ImageFacts
    orientation: int = 1
    obstacle: str | None = None

    @property
    def sendable(self) -> bool:
        return self.obstacle is None

    @property
    def conversion_bytes(self) -> int:
        """What `convert` may hold at its peak beside the file: for whoever bounds an instance's memory."""
        pixels = self.facts.width * self.facts.height
        return pixels * _PEAK_BYTES_PER_PIXEL[self.facts.format] + _PEAK_BYTES_ALWAYS


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What is sent to the model. `transformed` is false when `data` is the blob's own bytes."""

    data: bytes
    format: SentFormat
    width: int
    height: int
    transformed: bool

    @property
    def media_type(self) -> str:
        return f"image/{self.format}"
