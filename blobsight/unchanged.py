"""Whether a blob holds a file's content already: compared by what its other uploaders can't make up.

The service works out a blob's MD5 only for what comes in one request. Otherwise, and at any time later, those who may
write the blob may state any. So what looks the same by size and MD5 is checked once more:

an image               by the SHA-256 that the app found when it read this version: it is in the metadata of the
                       result, which uploaders can't write
an instruction file    by its content, since it has no result

Of an image without a result of this version, or whose result the caller may not read, size and MD5 have to do.
"""

from collections.abc import Collection
from os.path import commonprefix

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from blobsight.account import about_blob
from blobsight.image_states import SHORTENED_AT
from blobsight.reading import UnreadableError, metadata_of, properties_of, read_blob
from blobsight.terminal import say
from pipeline.names import result_name
from pipeline.result import ResultMetadata
from pipeline.storage.listing import listed


class DigestsOfApp:
    """The SHA-256 of images, as the app found them, from the metadata of their results."""

    def __init__(self, results: ContainerClient) -> None:
        self._results = results
        self._listed: dict[str, ResultMetadata] | None = None
        self._readable = True

    async def list(self, images: Collection[str]) -> None:
        """Look up many at once, by listing their results."""
        wanted = {result_name(name) for name in images}
        prefix = commonprefix(list(wanted))[:SHORTENED_AT]  # noqa: RUF071 - the service's prefix is one
        self._listed = {}
        try:
            async for page in listed(self._results, metadata=True, prefix=prefix):
                found = ((blob.name, blob.metadata) for blob in page.blobs if blob.name in wanted)
                self._listed |= {name: ResultMetadata.from_blob(metadata) for name, metadata in found}
        except AzureError as error:
            self._do_without(error)

    async def of(self, image: str, etag: str) -> str | None:
        """The SHA-256 of the version `etag` of `image`, hexadecimal; None where the app has not told it."""
        found = await self._metadata(result_name(image))
        return found.source_sha256 if found and found.source_etag == etag else None

    async def _metadata(self, result: str) -> ResultMetadata | None:
        if self._listed is not None:
            return self._listed.get(result)
        try:
            properties = await properties_of(self._results, result) if self._readable else None
        except AzureError as error:
            self._do_without(error)
            return None
        return ResultMetadata.from_blob(metadata_of(properties)) if properties else None

    def _do_without(self, error: AzureError) -> None:
        if self._readable:
            say(f"Images are compared by size and MD5 alone: their results can't be read ({about_blob(error).reason}).")
        self._readable = False


async def holds(container: ContainerClient, name: str, data: bytes) -> bool:
    """Whether the blob `name` holds just `data`.

    Raises:
        AzureError: as the SDK gives it.
    """
    try:
        return (await read_blob(container, name, most=len(data))).data == data
    except (ResourceNotFoundError, UnreadableError):
        return False
