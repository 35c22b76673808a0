"""Find the pixel sizes of images from the first bytes of their files."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from blobsight.account import affects_all
from blobsight.local_files import LocalFile
from blobsight.reading import read_blob, side_by_side
from blobsight.terminal import Problem, Unknown
from pipeline.documents.pdf import measure_pdf
from pipeline.documents.recognise import is_pdf
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageLimits, inspect, too_many_bytes
from pipeline.storage.facts import ListedBlob
from pipeline.unpacking import unpacked_start

LIMITS = ImageLimits()


class Size(NamedTuple):
    """Width and height in pixels, as stored; of a document those of its first page, and how many pages it has."""

    width: int
    height: int
    pages: int = 1


HEADS = (65_536, 1_048_576, LIMITS.max_bytes)
"""Bytes to read until the size is known. The first is enough for most; a camera's preview may stand before it, and a
TIFF may have it at the end."""

_DOWNLOADS = 16
_THREADS = 8
_BATCH = 512


async def blob_sizes(
    images: ContainerClient, blobs: Sequence[ListedBlob]
) -> tuple[Counter[Size | None], list[Problem]]:
    """Count `blobs` by size, and return those that can't be read.

    The size is None for blobs that cost nothing: not an image, damaged, too large, deleted, or unreadable.

    Raises:
        AzureError: as the SDK gives it.
    """
    sizes: Counter[Size | None] = Counter()
    problems: list[Problem] = []

    def take(blob: ListedBlob, size: Size | Unknown | None) -> None:
        if isinstance(size, Unknown):
            problems.append(Problem(blob.name, replace(size, reason=f"not part of the estimate: {size.reason}")))
            size = None
        sizes[size] += 1

    await side_by_side(blobs, partial(_blob_size, images), take, at_once=_DOWNLOADS)
    return sizes, sorted(problems, key=lambda problem: problem.name)


async def _blob_size(images: ContainerClient, blob: ListedBlob) -> Size | None:
    head = b""
    try:
        for length in HEADS:
            if len(head) < min(length, blob.size):
                head += (await read_blob(images, blob.name, start=len(head), length=length - len(head))).data
            known, found = await asyncio.to_thread(
                _size, unpacked_start(head, max(HEADS[1], len(head))), blob.size, is_all=len(head) >= blob.size
            )
            if known:
                return found
    except ResourceNotFoundError as error:
        if affects_all(error):
            raise
    return None


def file_sizes(files: Iterable[LocalFile]) -> Iterator[tuple[LocalFile, Size | OSError | None]]:
    """Yield each of `files` with its size; None if it costs nothing, an error if it can't be read."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in itertools.batched(files, _BATCH, strict=False):
            yield from zip(batch, pool.map(_file_size, batch), strict=True)


def _file_size(file: LocalFile) -> Size | OSError | None:
    try:
        with file.path.open("rb") as opened:
            head = b""
            for length in HEADS:
                head += opened.read(length - len(head))
                known, found = _size(head, file.size, is_all=len(head) >= file.size)
                if known:
                    return found
    except OSError as error:
        return error
    return None


def _size(start: bytes, size: int, *, is_all: bool) -> tuple[bool, Size | None]:
    """Return (whether this is final, the pixel size of the image that begins with `start` and has `size` bytes).

    `is_all` says that `start` is the whole file.
    """
    try:
        if size > LIMITS.max_bytes:
            raise too_many_bytes(size, LIMITS)
        if is_pdf(start):
            if not is_all:
                return False, None
            pages, width, height = measure_pdf(start)
            return True, Size(width, height, pages)
        facts = inspect(start, LIMITS).facts
    except PermanentFailure as failure:
        # It may look damaged only because its header lies further back.
        return failure.code is not ErrorCode.CORRUPT_IMAGE or is_all, None
    return True, Size(facts.width, facts.height, facts.pages or 1)
