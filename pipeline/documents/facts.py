"""Pages, as facts."""

from dataclasses import dataclass

from pipeline.images import PreparedImage
from pipeline.images.resolution import Resolution

MOST_PAGES = 50
"""Pages in one question. Azure's quotas page says so, and 50 were taken where 51 were not:
https://github.com/Azure/azure-rest-api-specs/issues/46145."""
MOST_SENT_BYTES = 32 * 1024 * 1024
"""Bytes of all images in one question: as base64 43 MB, and OpenAI takes 50 MB.
https://platform.openai.com/docs/guides/images-vision"""

PROCESS_BYTES = 224 * 1024 * 1024
"""The most memory of the process that draws a PDF, beyond its libraries: with the pages that it sends, half of the
default of `IMAGE_MEMORY_BYTES`, so that two documents are drawn at a time. A4 at 600 dpi in colour takes 100 MB as a
JPEG."""

PROCESS_BYTES_PER_PATCH = 12 * 1024
"""In addition, where pages are drawn larger than usual: three times the pixels, at 4 bytes. Measured: 9 KiB."""


def process_bytes(seen: Resolution) -> int:
    """The most memory of the process beyond its libraries, where pages are drawn for this resolution."""
    return PROCESS_BYTES + (seen.patches or 0) * PROCESS_BYTES_PER_PATCH


@dataclass(frozen=True, slots=True)
class SentPage:
    """A page as the model gets it. `number` counts from 1, as people do."""

    number: int
    image: PreparedImage


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages that are sent, of `count` that there are. `noun` is what they are called: page or frame."""

    count: int
    sent: tuple[SentPage, ...]
    noun: str = "page"

    @property
    def size_bytes(self) -> int:
        return sum(len(page.image.data) for page in self.sent)


type Picture = PreparedImage | Pages | SentPage
"""What is sent: an image, pages together, or a page that is asked about alone."""


def sent_pages(picture: Picture) -> tuple[SentPage, ...]:
    """The images of `picture`, with their numbers."""
    if isinstance(picture, Pages):
        return picture.sent
    return (picture if isinstance(picture, SentPage) else SentPage(1, picture),)
