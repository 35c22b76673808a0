"""The shards' blobs: small documents that are changed on the condition that nobody else has changed them."""

from contextlib import suppress
from dataclasses import replace

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

    async def listed(self) -> list[ListedBlob]:
        """All shards by their ids, the oldest first. Those that are done have `DONE` in their metadata.

        Raises:
            RetryableFailure: they can't be listed now.
        """
        with translated(f"listing {PREFIX}"):
            pages = listed(self._container, metadata=True, prefix=PREFIX)
            blobs = [blob async for page in pages for blob in page.blobs]
        return sorted(
            (replace(blob, name=blob.name.removeprefix(PREFIX)) for blob in blobs), key=lambda blob: blob.name
        )

    async def read(self, shard_id: str) -> tuple[bytes, str] | None:
        """Content and ETag of a shard; None where there is none. One storage request.

        Raises:
            RetryableFailure: it can't be read now.
        """
        with translated(f"reading {PREFIX}{shard_id}"):
            try:
                blob = self._container.get_blob_client(f"{PREFIX}{shard_id}")
                stream = await blob.download_blob(decompress=False)
            except ResourceNotFoundError:
                return None
            return await stream.readall(), str(stream.properties.etag)

    async def delete(self, shard_id: str) -> None:
        """Delete a shard, if it is there. One storage request.

        Raises:
            RetryableFailure: it can't be deleted now.
        """
        with translated(f"deleting {PREFIX}{shard_id}"), suppress(ResourceNotFoundError):
            await self._container.delete_blob(f"{PREFIX}{shard_id}")

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

    async def send_now(self) -> None:
        """Have all lines sent that wait, at the next run of the timer. One storage request.

        Raises:
            RetryableFailure: that can't be noted now.
        """
        with translated(f"writing {SEND_NOW}"):
            await self._container.upload_blob(SEND_NOW, b"", overwrite=True)

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
