"""Small documents in the state container, which one run leaves for the next."""

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated


class Notes:
    """The notes of all instances. Each method is one storage request."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def read(self, name: str) -> bytes | None:
        """The note `name`, or None when there is none.

        Raises:
            RetryableFailure: it can't be read now.
        """
        with translated(f"reading {name}"):
            try:
                return await (await self._container.get_blob_client(name).download_blob(decompress=False)).readall()
            except ResourceNotFoundError:
                return None

    async def write(self, name: str, body: bytes) -> None:
        """Write the note `name`, over an earlier one.

        Raises:
            RetryableFailure: it can't be written now.
        """
        with translated(f"writing {name}"):
            await self._container.upload_blob(name, body, overwrite=True)
