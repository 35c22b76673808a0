"""Pages, as facts."""

from dataclasses import dataclass

from pipeline.images import PreparedImage

MOST_PAGES = 50
"""Pages in one question. Azure's quotas page says so, and 50 were taken where 51 were not:
https://github.com/Azure/azure-rest-api-specs/issues/46145."""
MOST_SENT_BYTES = 32 * 1024 * 1024
"""Bytes of all images in one question: as base64 43 MB, and OpenAI takes 50 MB.
https://platform.openai.com/docs/guides/images-vision"""


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
