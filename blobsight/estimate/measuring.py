"""The sizes of images, from the first bytes of their files."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from blobsight.local_files import LocalFile
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageLimits, inspect, too_many_bytes
from pipeline.listing import ListedBlob

LIMITS = ImageLimits()

type Size = tuple[int, int]
"""Width and height in pixels, as stored."""

HEADS = (65_536, 1_048_576, LIMITS.max_bytes)
"""Bytes to read until the size is known. The first is enough for most; a camera's preview may stand before it, and a
TIFF may have it at the end."""

_DOWNLOADS = 16
_THREADS = 8
_BATCH = 512


async def blob_sizes(images: ContainerClient, blobs: Sequence[ListedBlob]) -> Counter[Size | None]:
    """How many of `blobs` have which size; None for what costs nothing: no image, damaged, too large, or gone.

    Raises:
        AzureError: as the SDK gives it.
    """
    turn = asyncio.Semaphore(_DOWNLOADS)

    async def size(blob: ListedBlob) -> Size | None:
        async with turn:
            try:
                async for head in _heads(images, blob):
                    known, found = _size(head, blob.size)
                    if known:
                        return found
            except ResourceNotFoundError:
                pass
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(size(blob)) for blob in blobs]
    return Counter(task.result() for task in tasks)


def file_sizes(files: Iterable[LocalFile]) -> Iterator[tuple[LocalFile, Size | OSError | None]]:
    """Each of `files`, with its size; None for what costs nothing, an error for what can't be read."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in itertools.batched(files, _BATCH, strict=False):
            yield from zip(batch, pool.map(_file_size, batch), strict=True)


def _file_size(file: LocalFile) -> Size | OSError | None:
    try:
        with file.path.open("rb") as opened:
            head = b""
            for length in HEADS:
                head += opened.read(length - len(head))
                known, found = _size(head, file.size)
                if known:
                    return found
    except OSError as error:
        return error
    return None


async def _heads(images: ContainerClient, blob: ListedBlob) -> AsyncIterator[bytes]:
    head = b""
    for length in HEADS:
        if len(head) < min(length, blob.size):
            download = await images.download_blob(blob.name, offset=len(head), length=length - len(head))
            head += await download.readall()
        yield head


def _size(head: bytes, size: int) -> tuple[bool, Size | None]:
    """(whether this is the last word, the size of the image that begins with `head` and is `size` bytes long)."""
    try:
        if size > LIMITS.max_bytes:
            raise too_many_bytes(size, LIMITS)
        facts = inspect(head, LIMITS).facts
    except PermanentFailure as failure:
        # Seemingly damaged: its header may lie further back.
        return failure.code is not ErrorCode.CORRUPT_IMAGE or len(head) >= size, None
    return True, (facts.width, facts.height)
