"""Read blobs, one or many concurrently, so that a bad one never stops the others."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import ContainerClient

from blobsight.account import about_blob, affects_all, may_affect_all, of_the_sdk
from blobsight.terminal import Unknown
from pipeline.errors import RetryableFailure
from pipeline.storage.listing import understood

AT_ONCE = 32
"""Concurrent requests: at 50 ms each that is 600 a second, more than most connections carry."""
FAILURES_IN_A_ROW = 20
"""After so many failures in a row the rest is assumed to fail, too."""


class UnreadableError(Exception):
    """A blob does not hold what it should. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a blob as stored, and the encoding that its uploader declared, which may be wrong."""

    data: bytes
    encoding: str | None
    """Content-Encoding."""


async def read_blob(
    container: ContainerClient, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
) -> Content:
    """Read the blob `name`; with `length`, at most that many bytes from `start` on.

    Raises:
        UnreadableError: it has more than `most` bytes.
        AzureError: as the SDK gives it.
    """
    offset = start if length is not None else None
    with understood():
        try:
            stream = await container.download_blob(name, offset=offset, length=length, decompress=False)
        except HttpResponseError as error:
            if error.status_code == 416:  # the blob ends before `start`
                return Content(b"", None)
            raise
        if most is not None and stream.size > most:
            raise UnreadableError(f"it has {stream.size:,} bytes, more than the {most:,} that are read")
        return Content(await stream.readall(), stream.properties.content_settings.content_encoding)


async def properties_of(container: ContainerClient, name: str) -> BlobProperties | None:
    """Return properties and metadata of the blob `name`, None if there is none.

    Raises:
        AzureError: as the SDK gives it.
    """
    with understood():
        try:
            properties = await container.get_blob_client(name).get_blob_properties()
        except ResourceNotFoundError as error:
            if affects_all(error):
                raise
            return None
        if not (properties.etag and properties.last_modified):
            raise ValueError("neither is optional")
        return properties


def metadata_of(blob: BlobProperties) -> dict[str, str]:
    """The blob's metadata, keys in lower case: the service ignores case, too."""
    return {key.lower(): value or "" for key, value in (blob.metadata or {}).items()}


class Tries:
    """Runs requests for one blob each, and separates failures of one blob from those that affect all."""

    def __init__(self, doing: str = "read") -> None:
        self._doing = doing
        self._any_answered = False
        self._in_a_row: list[AzureError | RetryableFailure] = []

    async def of[T](self, request: Awaitable[T]) -> T | Unknown:
        """Return the answer to one request, or why there is none.

        Raises:
            AzureError, RetryableFailure: all other requests would fail as well.
        """
        try:
            answer = await request
        except UnreadableError as error:
            self._answered()
            return Unknown(str(error))
        except (AzureError, RetryableFailure) as error:
            self._failed(error)
            return about_blob(error, self._doing)
        self._answered()
        return answer

    def end(self) -> None:
        """Finish: there are no more requests.

        Raises:
            AzureError, RetryableFailure: no request got through.
        """
        if self._in_a_row and not self._any_answered:
            raise self._in_a_row[0]

    def _answered(self) -> None:
        self._any_answered = True
        self._in_a_row.clear()

    def _failed(self, error: AzureError | RetryableFailure) -> None:
        cause = of_the_sdk(error)
        if cause is not None and affects_all(cause):
            raise error
        if cause is None or not may_affect_all(cause):
            self._answered()
        elif getattr(cause, "status_code", None) != 403 or not self._any_answered:  # a right may be limited to some
            self._in_a_row.append(error)
            if len(self._in_a_row) >= FAILURES_IN_A_ROW:
                raise error


async def side_by_side[T, R](  # noqa: PLR0913 - what differs between commands
    items: Iterable[T] | AsyncIterable[T],
    work: Callable[[T], Awaitable[R]],
    take: Callable[[T, R | Unknown], None],
    *,
    doing: str = "read",
    at_once: int = AT_ONCE,
    in_order: bool = False,
) -> None:
    """Do `work` on each item, several at a time, and hand each outcome to `take`. One item's failure stops no other.

    Args:
        items: taken one by one, as earlier ones finish.
        work: may raise UnreadableError, AzureError and RetryableFailure; they become Unknown.
        take: gets each item with what `work` returned, or Unknown.
        doing: what `work` does with a blob, for messages: "read", "sent", …
        at_once: items in progress, including finished ones that wait to be taken.
        in_order: take in the order of the items instead of as they finish.

    Raises:
        AzureError, RetryableFailure: a failure that affects all items.
    """
    tries = Tries(doing)
    under_way: list[asyncio.Task[tuple[T, R | Unknown]]] = []

    async def one(item: T) -> tuple[T, R | Unknown]:
        return item, await tries.of(work(item))

    async def take_some() -> None:
        waited_for = under_way[:1] if in_order else under_way
        ended, _ = await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            under_way.remove(task)
            take(*task.result())

    try:
        async for item in _each(items):
            if len(under_way) >= at_once:
                await take_some()
            under_way.append(asyncio.create_task(one(item)))
        while under_way:
            await take_some()
        tries.end()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _each[T](items: Iterable[T] | AsyncIterable[T]) -> AsyncIterable[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
