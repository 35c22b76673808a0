"""The state of each image, from listings alone: 5,000 names a request, and no result is read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import click
from azure.storage.blob.aio import ContainerClient

from blobsight.terminal import Problem, Unknown
from pipeline.names import image_of_sidecar, result_name, wants_result
from pipeline.result import ResultMetadata
from pipeline.storage.facts import ListedBlob, Page
from pipeline.storage.listing import listed

SHORTENED_AT = 900
"""Characters of an image's name that even a shortened result name keeps."""


def checked_prefix(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check an argument or option that is the start of blob names: what a terminal hands over need not be UTF-8."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8, and blob names are: correct it.") from None
    return value


class State(StrEnum):
    """The state of an image's present version: a result of an earlier one does not count."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImageState:
    """One image, and its result as far as listings show it."""

    image: ListedBlob
    state: State
    result: str
    """The name of its result, whether there is one or not."""
    error_code: str | None = None
    finished: datetime | None = None
    """When the result was written; None while pending."""
    result_etag: str | None = None
    """ETag of the result; None while pending."""
    origin: str | None = None
    """The origin of the result's question; None while pending, or when it is not known."""
    tokens: int | None = None
    """Tokens of input and output together; None while pending, or when it is not known."""


def odd_ones(page: Page) -> list[Problem]:
    """The entries of a listing that can't be understood."""
    return [Problem(entry.name, Unknown(f"it is left out: {entry.why}")) for entry in page.odd]


async def image_states(
    images: ContainerClient, results: ContainerClient, prefix: str = "", problems: list[Problem] | None = None
) -> AsyncIterator[ImageState]:
    """Yield every image whose name starts with `prefix`, as soon as its state is known; pending ones come last.

    That includes instruction files with a failed result, which belong to no image.

    Both containers are listed concurrently, in about the same order. So little has to be kept in memory: two pages, the
    pending images, and results whose images are gone.

    Args:
        images: the input container.
        results: the result container.
        prefix: of the images' names.
        problems: gets the entries of the listings that can't be understood.

    Raises:
        AzureError: as the SDK gives it.
    """
    async for state, is_final in states_as_listed(images, results, prefix, problems if problems is not None else []):
        if is_final:
            yield state


async def states_as_listed(
    images: ContainerClient, results: ContainerClient, prefix: str, problems: list[Problem]
) -> AsyncIterator[tuple[ImageState, bool]]:
    """As `image_states`, for a caller that does not wait: (state, whether it is final).

    An image whose result has not been listed yet comes twice: at once as pending, and later as what it is.
    """
    ahead = _Side(listed(images, metadata=False, prefix=prefix), problems)
    behind = _Side(listed(results, metadata=True, prefix=prefix[:SHORTENED_AT]), problems)
    async for state, is_final in _matched(ahead, behind, problems):
        if state.state is not State.PENDING or wants_result(state.image.name):
            yield state, is_final


async def _matched(ahead: "_Side", behind: "_Side", problems: list[Problem]) -> AsyncIterator[tuple[ImageState, bool]]:
    """Yield the states of images, and of misnamed instruction files, by the results in `behind`."""
    waiting = _Waiting()
    found: dict[str, ListedBlob] = {}
    while not (ahead.ended and behind.ended):
        if not ahead.ended and (behind.ended or ahead.last <= behind.last):
            for image in (await ahead.page()).blobs:
                if wants_result(image.name) or image_of_sidecar(image.name):
                    name = result_name(image.name)
                    result = found.pop(name, None)
                    if result is None:
                        waiting.add(name, image)
                        yield ImageState(image, State.PENDING, name), False
                    else:
                        yield _state(image, result, problems), True
        else:
            for result in (await behind.page()).blobs:
                matching = waiting.pop(result.name)
                if matching is None:
                    found[result.name] = result
                else:
                    yield _state(matching, result, problems), True
        waiting.forget_sidecars(behind)
    for name, image in waiting.images.items():
        yield ImageState(image, State.PENDING, name), True


class _Waiting:
    """Listed images whose result has not been listed yet, by the result's name."""

    def __init__(self) -> None:
        self.images: dict[str, ListedBlob] = {}
        self._sidecars: dict[str, ListedBlob] = {}

    def add(self, name: str, blob: ListedBlob) -> None:
        (self.images if wants_result(blob.name) else self._sidecars)[name] = blob

    def pop(self, name: str) -> ListedBlob | None:
        return self.images.pop(name, None) or self._sidecars.pop(name, None)

    def forget_sidecars(self, results: "_Side") -> None:
        """Drop images whose results would have been listed already: nearly all of them have none."""
        for name in [name for name in self._sidecars if results.ended or name <= results.last]:
            del self._sidecars[name]


def _state(image: ListedBlob, result: ListedBlob, problems: list[Problem]) -> ImageState:
    if result.metadata.get("sourceetag") != image.etag:
        return ImageState(image, State.PENDING, result.name)
    status = result.metadata.get("status")
    if status not in (State.SUCCEEDED, State.FAILED):
        why = "its metadata does not say whether the image succeeded or failed; the image is counted as pending"
        problems.append(Problem(result.name, Unknown(why)))
        return ImageState(image, State.PENDING, result.name)
    return ImageState(
        image,
        State(status),
        result.name,
        result.metadata.get("errorcode") if status == State.FAILED else None,
        result.last_modified,
        result.etag,
        result.metadata.get("origin"),
        _tokens(result),
    )


def _tokens(result: ListedBlob) -> int | None:
    facts = ResultMetadata.from_blob(result.metadata)
    counts = [count for count in (facts.input_tokens, facts.output_tokens) if count is not None]
    return sum(counts) if counts else None


class _Side:
    """One of the two listings."""

    def __init__(self, pages: AsyncIterator[Page], problems: list[Problem]) -> None:
        self._pages = pages
        self._problems = problems
        self.ended = False
        self.last = ""
        """The name listed last."""

    async def page(self) -> Page:
        page = await anext(self._pages)
        self._problems += odd_ones(page)
        self.ended = page.next_token is None
        self.last = page.blobs[-1].name if page.blobs else self.last
        return page
