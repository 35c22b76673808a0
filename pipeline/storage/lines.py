"""Lines of batches: one blob for each question that waits to be sent in a batch, or was sent and has no reply yet."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated
from pipeline.storage.facts import ListedBlob
from pipeline.storage.listing import listed

PREFIX = "batches/lines/"
"""In the state container."""


class Lines:
    """The lines of all instances."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def write(self, name: str, body: AsyncGenerator[bytes], size: int, facts: Mapping[str, str]) -> None:
        """Write the line `name`, over an earlier one. One storage request up to 64 MB.

        Raises:
            RetryableFailure: it can't be written now.
        """
        with translated(f"writing {PREFIX}{name}"):
            await self._container.upload_blob(
                f"{PREFIX}{name}", body, length=size, overwrite=True, metadata=dict(facts)
            )

    async def exists(self, name: str) -> bool:
        """Whether there is a line `name`. One storage request.

        Raises:
            RetryableFailure: storage can't be asked.
        """
        with translated(f"looking for {PREFIX}{name}"):
            return await self._container.get_blob_client(f"{PREFIX}{name}").exists()

    async def all(self) -> AsyncIterator[ListedBlob]:
        """All lines, named without the prefix. A storage request for 5,000.

        Raises:
            RetryableFailure: they can't be listed now.
        """
        same: dict[str, str] = {}
        """Texts that many lines have, of which one is held: there may be hundreds of thousands of lines."""
        with translated(f"listing {PREFIX}"):
            async for page in listed(self._container, metadata=True, prefix=PREFIX):
                for blob in page.blobs:
                    facts = {
                        same.setdefault(key, key): value if key == "claim" else same.setdefault(value, value)
                        for key, value in blob.metadata.items()
                    }
                    yield ListedBlob(blob.name.removeprefix(PREFIX), blob.etag, blob.last_modified, facts, blob.size)

    async def note(self, line: ListedBlob, facts: Mapping[str, str]) -> ListedBlob | None:
        """Note `facts` with the line in place of those it has; the line as it is then. None where it was changed
        meanwhile, or is gone. One storage request.

        Raises:
            RetryableFailure: it can't be changed now.
        """
        with translated(f"changing {PREFIX}{line.name}"):
            try:
                noted = await self._container.get_blob_client(f"{PREFIX}{line.name}").set_blob_metadata(
                    dict(facts), **_still(line)
                )
            except (ResourceModifiedError, ResourceNotFoundError):
                return None
        return replace(line, etag=str(noted["etag"]).strip('"'), metadata=facts)

    async def read(self, line: ListedBlob) -> AsyncIterator[bytes]:
        """The bytes of the line, a few megabytes at a time; none where it was changed meanwhile, or is gone.

        Raises:
            RetryableFailure: it can't be read now.
        """
        with translated(f"reading {PREFIX}{line.name}"):
            blob = self._container.get_blob_client(f"{PREFIX}{line.name}")
            try:
                stream = await blob.download_blob(decompress=False, **_still(line))
            except (ResourceModifiedError, ResourceNotFoundError):
                return
            async for chunk in stream.chunks():
                yield chunk

    async def delete(self, name: str) -> None:
        """Delete the line `name`, if it is there. One storage request.

        Raises:
            RetryableFailure: it can't be deleted now.
        """
        with translated(f"deleting {PREFIX}{name}"):
            try:
                await self._container.delete_blob(f"{PREFIX}{name}")
            except ResourceNotFoundError:
                return


def _still(line: ListedBlob) -> dict[str, Any]:
    return {"etag": f'"{line.etag}"', "match_condition": MatchConditions.IfNotModified}
