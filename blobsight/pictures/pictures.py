"""Pictures for the page: thumbnails, and whole images as a browser can show them."""

import asyncio
import os
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

from azure.storage.blob.aio import ContainerClient

from blobsight.pictures.wire import ANSWER, MOST_BYTES, REQUEST
from blobsight.reading import UnreadableError, read_blob
from pipeline.documents.choice import PageChoice
from pipeline.documents.pdf import KEPT_ENVIRONMENT, render_pdf
from pipeline.documents.recognise import is_pdf
from pipeline.errors import Failure, PermanentFailure
from pipeline.images import PreparedImage
from pipeline.images.recognise import find_picture
from pipeline.job.memory import Budget
from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

THUMBNAIL_SIDE = 480
"""Pixels: twice what a tile has, for dense screens."""
WHOLE_SIDE = 2048
"""Pixels of a converted image: what the model sees of it."""
SHOWN_BY_BROWSERS = frozenset({"jpeg", "png", "gif", "webp", "avif", "bmp"})
DECODERS = max(1, min(4, (os.cpu_count() or 2) - 1))
DECODED_WITHIN_SECONDS = 20.0
KEPT_BYTES = 64 * 1024 * 1024
"""Of thumbnails: of 3,000 or so."""
MEMORY_BYTES = 256 * 1024 * 1024
"""Of all files that are read at a time."""


class NoPictureError(Exception):
    """There is nothing to show. The message says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for the browser."""

    data: bytes
    media_type: str


type _Key = tuple[str, str, int]
"""Name, ETag, longest side."""


class Pictures:
    """Reads images and makes them fit for the page. Used as a context manager, which ends the decoders."""

    def __init__(self, images: ContainerClient) -> None:
        self._images = images
        self._decoders = _Decoders()
        self._memory = Budget(MEMORY_BYTES)
        self._kept: OrderedDict[_Key, Picture | NoPictureError] = OrderedDict()
        self._bytes = 0
        self._in_progress: dict[_Key, asyncio.Task[Picture]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._in_progress.values():
            task.cancel()
        await asyncio.gather(*self._in_progress.values(), return_exceptions=True)
        await self._decoders.end()

    async def thumbnail(self, name: str, etag: str, size: int, *, side: int = THUMBNAIL_SIDE) -> Picture:
        """A small picture of the image `name`, whose version is `etag`.

        Raises:
            NoPictureError: it can't be shown.
            AzureError: it can't be read.
        """
        key = name, etag, side
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            if isinstance(known, NoPictureError):
                raise NoPictureError(str(known))
            return known
        task = self._in_progress.get(key)
        if task is None:
            task = self._in_progress[key] = asyncio.create_task(self._make(key, size))
            task.add_done_callback(partial(self._done, key))
        return await asyncio.shield(task)

    async def whole(self, name: str, size: int, *, page: int = 1) -> Picture:
        """The image itself where browsers know its format, by its content; otherwise a converted one.

        Of a PDF it is one page, counted from 1.

        Raises:
            NoPictureError: it can't be shown.
            AzureError: it can't be read.
        """
        async with self._memory.held(min(size, MOST_BYTES)):
            data = await self._read(name)
            if is_pdf(data):
                drawn = await _drawn(data, page)
                return Picture(drawn.data, f"image/{drawn.format}")
            try:
                plain = unpacked(data, MOST_BYTES) if is_packed(data) else data
                kind, start = find_picture(plain)
            except (TooLarge, Broken):
                raise NoPictureError("The file is compressed, and can't be unpacked.") from None
            except PermanentFailure as failure:
                raise NoPictureError(failure.message) from failure
            if kind in SHOWN_BY_BROWSERS:
                return Picture(plain[start:], f"image/{kind}")
            return await self._decoders.picture(data, WHOLE_SIDE)

    async def _make(self, key: _Key, size: int) -> Picture:
        name, _, side = key
        try:
            async with self._memory.held(min(size, MOST_BYTES)):
                data = await self._read(name)
                if is_pdf(data):
                    data = (await _drawn(data, 1)).data
                made = await self._decoders.picture(data, side)
        except NoPictureError as why:
            self._keep(key, why)
            raise
        self._keep(key, made)
        return made

    def _done(self, key: _Key, task: asyncio.Task[Picture]) -> None:
        del self._in_progress[key]
        if not task.cancelled():
            task.exception()  # those who waited for it may be gone

    async def _read(self, name: str) -> bytes:
        try:
            return (await read_blob(self._images, name, most=MOST_BYTES)).data
        except UnreadableError as error:
            raise NoPictureError(f"It can't be shown: {error}.") from error

    def _keep(self, key: _Key, made: Picture | NoPictureError) -> None:
        self._kept[key] = made
        self._bytes += _size(made)
        while self._bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)


async def _drawn(data: bytes, page: int) -> PreparedImage:
    """A page of a PDF, from the process that the app draws them in.

    Raises:
        NoPictureError: it can't be drawn.
    """
    try:
        drawn = await render_pdf(data, PageChoice(((page, page),)), 1)
    except Failure as failure:
        raise NoPictureError(failure.message) from failure
    return drawn.pages.sent[0].image


def _size(made: Picture | NoPictureError) -> int:
    return len(made.data) if isinstance(made, Picture) else len(str(made))


class _Decoders:
    """A few processes that decode. One that takes too long, or ends, is replaced."""

    def __init__(self) -> None:
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._slots = asyncio.Semaphore(DECODERS)

    async def picture(self, data: bytes, longest: int) -> Picture:
        """The image as WEBP.

        Raises:
            NoPictureError: it can't be decoded.
        """
        async with self._slots, self._process() as process:
            stdin, stdout = cast("StreamWriter", process.stdin), cast("StreamReader", process.stdout)
            try:
                async with asyncio.timeout(DECODED_WITHIN_SECONDS):
                    stdin.write(REQUEST.pack(longest, len(data)) + data)
                    await stdin.drain()
                    done, size = ANSWER.unpack(await stdout.readexactly(ANSWER.size))
                    content = await stdout.readexactly(size)
            except TimeoutError:
                raise NoPictureError("The image takes too long to decode.") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                raise NoPictureError("The image can't be decoded.") from None
            self._idle.append(process)
        if not done:
            raise NoPictureError(content.decode())
        return Picture(content, "image/webp")

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        """A process, which goes back to the idle ones only if all went well."""
        if self._idle:
            process = self._idle.pop()
        else:
            command = (sys.executable, "-P", "-m", "blobsight.pictures.decoder")
            # Without the rest of the environment, which may hold keys and connection strings.
            environment = {name: os.environ[name] for name in (*KEPT_ENVIRONMENT, "PYTHONPATH") if name in os.environ}
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
            )
            self._all.add(process)
        try:
            yield process
        finally:
            if process not in self._idle:
                await self._kill(process)

    async def _kill(self, process: Process) -> None:
        self._all.discard(process)
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def end(self) -> None:
        for process in list(self._all):
            await self._kill(process)
