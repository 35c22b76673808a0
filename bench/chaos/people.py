"""Simulated uploaders: they carry out each item's story, while things fail."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from bench.chaos.plan import Item, Kind, Names
from pipeline.names import result_name

LONGEST_WAIT = 15.0
"""Seconds that an uploader waits for a result before changing the image: its event may be lost."""


@dataclass(slots=True)
class Sent:
    """The state of one item, as its uploader knows it."""

    item: Item
    versions: int = 0
    """Uploads that were tried; one that failed may have arrived nevertheless."""
    question: str | None = None
    """The question about it in the end."""
    touched_at: float | None = None
    """Its ETag is younger than this, in seconds since 1970; its bytes and its question may be older."""


class People:
    """All who upload.

    Args:
        blobs: without retries. A failed upload is repeated as another version, as it may have arrived.
        names: learns the bytes of each version.
    """

    def __init__(self, blobs: BlobServiceClient, names: Names) -> None:
        self._images = blobs.get_container_client("images")
        self._results = blobs.get_container_client("results")
        self._names = names

    async def live(self, sent: Sent) -> None:
        """One item's story."""
        item = sent.item
        if item.kind is Kind.SIDECAR_BEFORE:
            await self._ask_aside(sent)
        await self._upload(sent)
        for pause in item.pauses:
            if item.kind is Kind.TOUCHED and not item.by_batch:
                await self._result_there(sent)
            await asyncio.sleep(pause)
            match item.kind:
                case Kind.SIDECAR_AFTER:
                    await self._ask_aside(sent)
                case Kind.DELETED:
                    await self._delete(sent)
                case Kind.TOUCHED:
                    await self._touch(sent, {"remark": "seen"})
                case Kind.MOVED:
                    await self._touch(sent, {"service_tier": "default"})
                case Kind.REUPLOADED:
                    await self._upload(sent, again=True)
                case _:
                    await self._upload(sent)

    async def _upload(self, sent: Sent, *, again: bool = False) -> None:
        """Upload the next version, or the same one again."""

        async def once() -> None:
            if again:
                sent.touched_at = time.time()
            else:
                sent.versions += 1
            data, metadata = sent.item.content(sent.versions), sent.item.metadata(sent.versions)
            self._names.note(sent.item.name, data)
            headers = ContentSettings(content_encoding="gzip") if sent.item.kind is Kind.MISENCODED else None
            blob = self._images.get_blob_client(sent.item.name)
            await blob.upload_blob(BytesIO(data), overwrite=True, metadata=metadata, content_settings=headers)
            sent.question = metadata.get("instructions", sent.question)

        await _until_done(once)

    async def _result_there(self, sent: Sent) -> None:
        """Wait until it has a result, for as long as people wait before they do something else."""
        deadline = time.monotonic() + LONGEST_WAIT
        blob = self._results.get_blob_client(result_name(sent.item.name))
        while time.monotonic() < deadline:
            with suppress(AzureError):
                if await blob.exists():
                    return
            await asyncio.sleep(0.5)

    async def _touch(self, sent: Sent, changed: dict[str, str]) -> None:
        async def once() -> None:
            sent.touched_at = time.time()
            metadata = sent.item.metadata(sent.versions) | changed
            await self._images.get_blob_client(sent.item.name).set_blob_metadata(metadata)

        await _until_done(once)

    async def _ask_aside(self, sent: Sent) -> None:
        question = sent.item.question(1)
        blob = self._images.get_blob_client(sent.item.sidecar)
        # The same text again is the same work, so this one may be sent twice.
        await _until_done(lambda: blob.upload_blob(BytesIO(question.encode()), overwrite=True))
        sent.question = question

    async def _delete(self, sent: Sent) -> None:
        async def once() -> None:
            try:
                await self._images.get_blob_client(sent.item.name).delete_blob()
            except ResourceNotFoundError:
                return  # the try before was heard

        await _until_done(once)


async def _until_done(once: Callable[[], Awaitable[object]]) -> None:
    """A person tries again until it works: the emulator may be restarting."""
    while True:
        try:
            await once()
        except AzureError:
            await asyncio.sleep(0.3)
        else:
            return
