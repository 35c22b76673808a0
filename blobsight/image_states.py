"""What has become of each image, by listing alone: 5,000 names a request, and no result is read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from azure.storage.blob.aio import ContainerClient

from pipeline.instructions.misnamed import may_be_of_no_image
from pipeline.listing import ListedBlob, Page, list_page
from pipeline.names import result_name, wants_result

SHORTENED_AT = 900
"""Characters of a name that even the shortened form of its result's name keeps."""


class State(StrEnum):
    """Of the image as it is now: a result of an earlier version does not count."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImageState:
    """One image, and its result as far as listings tell."""

    image: ListedBlob
    state: State
    result: str
    """The name of its result, whether there is one or not."""
    error_code: str | None = None
    finished: datetime | None = None
    """When the result was written; None while pending."""
    result_etag: str | None = None
    """Which result it is; None while pending."""
    origin: str | None = None
    """Where the question of the result came from; None while pending, or when that can't be told."""


async def image_states(
    images: ContainerClient, results: ContainerClient, prefix: str = "", *, metadata: bool = False
) -> AsyncIterator[ImageState]:
    """Every image whose name starts with `prefix`, each once, as soon as its state is known; pending ones at the end.

    Instruction files that have a failed result, since they belong to no image, are among them.

    Both containers are listed side by side, in about the same order, so that what waits for its counterpart stays
    little: all that is held besides two pages is the pending images, and results whose images are gone.

    Args:
        images: the input container.
        results: the result container.
        prefix: of the images' names.
        metadata: whether the images' own metadata is wanted.

    Raises:
        AzureError: as the SDK gives it.
    """
    async for state in _states(images, results, prefix, metadata=metadata):
        if state.state is not State.PENDING or wants_result(state.image.name):
            yield state


async def _states(
    images: ContainerClient, results: ContainerClient, prefix: str, *, metadata: bool
) -> AsyncIterator[ImageState]:
    ahead = _Side(images, prefix, metadata=metadata)
    behind = _Side(results, prefix[:SHORTENED_AT], metadata=True)
    waiting: dict[str, ListedBlob] = {}
    found: dict[str, ListedBlob] = {}
    while not (ahead.ended and behind.ended):
        if not ahead.ended and (behind.ended or ahead.last <= behind.last):
            for image in (await ahead.page()).blobs:
                if wants_result(image.name) or may_be_of_no_image(image.name):
                    name = result_name(image.name)
                    result = found.pop(name, None)
                    if result is None:
                        waiting[name] = image
                    else:
                        yield _state(image, name, result)
        else:
            for result in (await behind.page()).blobs:
                matching = waiting.pop(result.name, None)
                if matching is None:
                    found[result.name] = result
                else:
                    yield _state(matching, result.name, result)
    for name, image in waiting.items():
        yield ImageState(image, State.PENDING, name)


def _state(image: ListedBlob, name: str, result: ListedBlob) -> ImageState:
    if result.metadata.get("sourceetag") != image.etag:
        return ImageState(image, State.PENDING, name)
    failed = result.metadata.get("status") == "failed"
    return ImageState(
        image,
        State.FAILED if failed else State.SUCCEEDED,
        name,
        result.metadata.get("errorcode") if failed else None,
        result.last_modified,
        result.etag,
        result.metadata.get("origin"),
    )


class _Side:
    """One of the two listings."""

    def __init__(self, container: ContainerClient, prefix: str, *, metadata: bool) -> None:
        self._container = container
        self._prefix = prefix
        self._metadata = metadata
        self._token: str | None = None
        self.ended = False
        self.last = ""
        """The name listed last."""

    async def page(self) -> Page:
        page = await list_page(self._container, self._token, metadata=self._metadata, prefix=self._prefix)
        self._token = page.next_token
        self.ended = page.next_token is None
        self.last = page.blobs[-1].name if page.blobs else self.last
        return page
