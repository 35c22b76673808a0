"""The shards' blobs: small documents that are changed on the condition that nobody else has changed them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated
from pipeline.storage.facts import ListedBlob
from pipeline.storage.listing import listed

PREFIX = "batches/shards/"
"""In the state container."""
DONE = "done"
"""Key in the metadata of a shard that is done."""
SEND_NOW = "batches/send-now"
"""A blob that a person writes to have all lines sent that wait."""


class Shards:
    """The shards' blobs."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def unfinished(self) -> AsyncIterator[tuple[str, str, bytes]]:
        """Id, ETag and content of each shard that is not done, the oldest first. A storage request for each, and the
        listing.

        Raises:
            RetryableFailure: they can't be read now.
        """
        for listed_blob in await self._listed():
            if DONE in listed_blob.metadata:
                continue
            with translated(f"reading {listed_blob.name}"):
                try:
                    blob = self._container.get_blob_client(listed_blob.name)
                    stream = await blob.download_blob(decompress=False)
                except ResourceNotFoundError:
                    continue
                body = await stream.readall()
            yield listed_blob.name.removeprefix(PREFIX), str(stream.properties.etag), body

    async def forget_done(self, before: datetime) -> None:
        """Delete the shards that were done before that moment. A storage request for each, and the listing.

        Raises:
            RetryableFailure: they can't be deleted now.
        """
        for blob in await self._listed():
            if DONE in blob.metadata and blob.last_modified < before:
                with translated(f"deleting {blob.name}"), suppress(ResourceNotFoundError):
                    await self._container.delete_blob(blob.name)

    async def _listed(self) -> list[ListedBlob]:
        with translated(f"listing {PREFIX}"):
            pages = listed(self._container, metadata=True, prefix=PREFIX)
            return sorted([blob async for page in pages for blob in page.blobs], key=lambda blob: blob.name)

    async def write(self, shard_id: str, body: bytes, etag: str | None, *, is_done: bool) -> str | None:
        """Write the shard over the one that has this ETag, or as a new one; its new ETag. None where another run has
        changed it.

        Raises:
            RetryableFailure: it can't be written now.
        """
        condition = (
            {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            if etag
            else {"match_condition": MatchConditions.IfMissing}
        )
        with translated(f"writing {PREFIX}{shard_id}"):
            blob = self._container.get_blob_client(f"{PREFIX}{shard_id}")
            try:
                return str(
                    (
                        await blob.upload_blob(
                            body, overwrite=True, metadata={DONE: "yes"} if is_done else {}, **condition
                        )
                    )["etag"]
                )
            except (ResourceModifiedError, ResourceExistsError, ResourceNotFoundError):
                return None

    async def take_send_now(self) -> bool:
        """Whether a person wants all lines to be sent that wait; asked once, it is done.

        Raises:
            RetryableFailure: storage can't be asked.
        """
        with translated(f"looking for {SEND_NOW}"):
            try:
                await self._container.delete_blob(SEND_NOW)
            except ResourceNotFoundError:
                return False
        return True
