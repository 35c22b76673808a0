"""Reading an upload: once it is written to its end, and within the memory that all uploads share."""

import asyncio
import hashlib
from contextlib import AsyncExitStack

from pipeline.errors import NotTried
from pipeline.images import ImageLimits, too_many_bytes
from pipeline.job.memory import Budget, Content
from pipeline.settings import Settings
from pipeline.storage.facts import OpenedUpload, Upload, first_read_bytes

MOST_GROWTH_SECONDS = 600.0
"""How long a blob that is written in pieces is waited for; one that grows for longer is analyzed as it is."""
HASHED_AT_ONCE_BYTES = 1024 * 1024
"""The most that is hashed on the event loop, in half a millisecond; more is hashed in a thread."""


class NotSettled(NotTried):
    """The blob is still being written: it is looked at again after a pause."""


class Reader:
    """Reads uploads. One per process.

    Args:
        memory: what the bytes of uploads may hold in addition to those that come with opening one.
    """

    def __init__(self, settings: Settings, memory: Budget) -> None:
        self._limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
        self._first_read = first_read_bytes(settings.image_memory_bytes, settings.max_concurrency)
        self._settle_seconds = settings.settle_seconds
        self._memory = memory

    async def read(self, opened: OpenedUpload, reserved: AsyncExitStack) -> Content:
        """The upload's bytes; the memory for them is given back with `reserved`.

        Raises:
            PermanentFailure: too large, or storage does not hand them over.
            NotSettled: it is empty or in pieces, and was changed a moment ago.
            NoMemory: other images hold the memory.
            VersionGone: there is a newer version.
        """
        upload = opened.facts
        self._require_settled(upload)
        if upload.size > self._limits.max_bytes:
            raise too_many_bytes(upload.size, self._limits)
        if upload.size > self._first_read:
            await reserved.enter_async_context(self._memory.held(upload.size))
        return Content(await opened.read(), reserved)

    def _require_settled(self, upload: Upload) -> None:
        being_written = upload.size == 0 or (upload.grown_for is not None and upload.grown_for < MOST_GROWTH_SECONDS)
        if being_written and upload.age is not None and upload.age < self._settle_seconds:
            wait = self._settle_seconds - upload.age
            raise NotSettled("It is empty, or written in pieces, and was changed a moment ago.", retry_after=wait)


async def sha256(data: bytes) -> str:
    """The digest of `data`, in hexadecimal."""
    if len(data) <= HASHED_AT_ONCE_BYTES:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
