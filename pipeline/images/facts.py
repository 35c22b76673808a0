"""Facts about an image, before and after it is prepared."""

from dataclasses import dataclass
from typing import Literal

from pipeline.images.resolution import STANDARD, Resolution

SentFormat = Literal["jpeg", "png", "webp", "gif"]

# Azure OpenAI, "Use vision-enabled chat models".
SERVICE_MAX_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest images that this deployment opens. `max_pixels` is width times height.

    `max_conversion_bytes` is what one conversion may hold at its peak, by estimate; see `pipeline.images.cost`. `seen`
    is what the model looks at of an image: what is larger is scaled down to it.
    """

    max_bytes: int = 52_428_800
    max_pixels: int = 250_000_000
    max_conversion_bytes: int = 1_073_741_824
    seen: Resolution = STANDARD


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A file's header. Width and height are as stored, before any EXIF rotation.

    `pages` is the number of pages of a TIFF, without thumbnails and masks; None for formats without pages.
    """

    format: str
    width: int
    height: int
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The findings of a reader in the picture's structure.

    `obstacle` is why the service may not take the file as it is, as far as the structure tells. `channels` is 1 for
    grey of up to 8 bits, 3 for colour without transparency, 4 for all that takes more memory, and what is unknown.
    `planes_bytes` is what a decoder keeps of a JPEG beside the pixels: the coefficients of a progressive one.
    `directory` is the offset of the TIFF page that is the picture, if it is not the first one.
    """

    width: int
    height: int
    orientation: int = 1
    obstacle: str | None = None
    channels: int = 4
    planes_bytes: int = 0
    pages: int | None = None
    directory: int | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """`obstacle` is why the image cannot be sent as it is; `start` is the offset at which the picture begins.

    `conversion_bytes` is what `convert` may hold at its peak beside the file, for a caller that bounds memory.
    """

    facts: ImageFacts
    header: Header
    obstacle: str | None
    conversion_bytes: int
    start: int = 0

    @property
    def sendable(self) -> bool:
        return self.obstacle is None


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image as it is sent to the model. `transformed` is false when `data` is the blob's own bytes."""

    data: bytes
    format: SentFormat
    width: int
    height: int
    transformed: bool

    @property
    def media_type(self) -> str:
        return f"image/{self.format}"
