"""The input container: uploads, opened, looked at and read.

Every download asks for the bytes as stored. Content-Encoding is the uploader's remark: obeyed, a wrong one breaks the
download, and a right one unpacks before any limit is looked at.
"""

from datetime import UTC

from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobProperties, BlobType
from azure.storage.blob.aio import BlobServiceClient, StorageStreamDownloader

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.names import stands_for_folder
from pipeline.one_line import short
from pipeline.storage.errors import READER, code_of, require_container, translated
from pipeline.storage.facts import ListedBlob, OpenedUpload, Upload, VersionGone, bare_etag
from pipeline.storage.listing import listed
from pipeline.storage.service_time import ServiceTime

_UNREADABLE = {
    "BlobArchived": (
        "it is in the archive tier, where nothing can read it. Set its tier to hot or cool, wait until it is rehydrated"
        " (up to 15 hours), and have it run again"
    ),
    "BlobUsesCustomerSpecifiedEncryption": (
        "it was uploaded with an encryption key of the uploader's, which the app does not have. Upload it without a key"
    ),
}
"""Refusals of a download that no waiting changes, by error code, and what to do about each.
https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"""


class Uploads:
    """The input container."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.container = container
        self._client = service.get_container_client(container)

    async def open(self, name: str) -> OpenedUpload | None:
        """The current version of the upload `name`, or None when there is none. One request.

        A blob that only marks a folder is not an upload.

        Raises:
            RetryableFailure: it can't be opened now.
        """
        blob = self._client.get_blob_client(name)
        what = f"reading {self.container}/{name}"
        time = ServiceTime()
        with translated(what, READER):
            try:
                stream = await blob.download_blob(decompress=False, raw_response_hook=time)
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                return None
            except HttpResponseError as error:
                if (refusal := _refusal(error)) is None:
                    raise
                facts = await self.listed(name)
                return OpenedUpload(facts, _Refusing(refusal)) if facts else None
        facts = self._described(name, blob.url, stream.properties, time)
        is_folder = stands_for_folder(name, facts.size, facts.metadata)
        return None if is_folder else OpenedUpload(facts, _Reading(stream, what))

    async def look(self, name: str) -> Upload | None:
        """The upload `name` as it is now, without its bytes, or None when there is none. One request.

        Raises:
            RetryableFailure: storage can't be asked.
        """
        blob = self._client.get_blob_client(name)
        time = ServiceTime()
        with translated(f"reading {self.container}/{name}", READER):
            try:
                properties = await blob.get_blob_properties(raw_response_hook=time)
            except ResourceNotFoundError:
                return None
            except HttpResponseError as error:
                if _refusal(error) is None:
                    raise
                return await self.listed(name)
        return self._described(name, blob.url, properties, time)

    async def listed(self, name: str) -> Upload | None:
        """The upload `name` as its container's listing describes it, or None when there is none. One request.

        It works where the blob itself can't be looked at: no content, key or tier is involved.

        Raises:
            RetryableFailure: the container can't be listed.
        """
        with translated(f"listing {self.container}", READER):
            try:
                # Of the names that start with `name`, it is the first; pages may be empty.
                async for page in listed(self._client, metadata=True, prefix=name, page_size=1):
                    for first in page.blobs:
                        return self._of_listing(first) if first.name == name else None
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                raise
        return None

    async def read_start(self, name: str, length: int) -> bytes | None:
        """At most the first `length` bytes of the blob `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", READER):
            try:
                stream = await self._client.get_blob_client(name).download_blob(
                    offset=0, length=length, decompress=False
                )
                return await stream.readall()
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                return None
            except HttpResponseError as error:
                if error.status_code == 416:  # no byte 0: the blob is empty
                    return b""
                if (refusal := _refusal(error)) is not None:
                    raise PermanentFailure(
                        ErrorCode.INVALID_INSTRUCTIONS, f"The file '{short(name)}' can't be used: {refusal.message}"
                    ) from error
                raise

    def _described(self, name: str, url: str, properties: BlobProperties, time: ServiceTime) -> Upload:
        modified = properties.last_modified.astimezone(UTC)
        return Upload(
            container=self.container,
            name=name,
            url=url,
            etag=bare_etag(properties.etag),
            last_modified=modified,
            size=properties.size,
            content_type=properties.content_settings.content_type,
            content_encoding=properties.content_settings.content_encoding,
            metadata=dict(properties.metadata or {}),
            age=time.since(modified),
            grown_for=(properties.last_modified - properties.creation_time).total_seconds()
            if properties.blob_type != BlobType.BLOCKBLOB and properties.creation_time
            else None,
        )

    def _of_listing(self, blob: ListedBlob) -> Upload:
        return Upload(
            container=self.container,
            name=blob.name,
            url=self._client.get_blob_client(blob.name).url,
            etag=blob.etag,
            last_modified=blob.last_modified.astimezone(UTC),
            size=blob.size,
            metadata=blob.metadata,
        )


def _refusal(error: HttpResponseError) -> PermanentFailure | None:
    code = code_of(error)
    if code not in _UNREADABLE:
        return None
    return PermanentFailure(
        ErrorCode.UNREADABLE_BLOB, f"Storage does not hand the file over: {_UNREADABLE[code]}.", {"storage_code": code}
    )


class _Refusing:
    """Stands for the bytes of a blob that storage refuses to hand over."""

    def __init__(self, refusal: PermanentFailure) -> None:
        self._refusal = refusal

    async def __call__(self) -> bytes:
        raise self._refusal


class _Reading:
    """Reads a download to its end, and lets go of it: it would keep what the opening request brought, too."""

    def __init__(self, stream: StorageStreamDownloader[bytes], what: str) -> None:
        self._streams = [stream]
        self._what = what

    async def __call__(self) -> bytes:
        stream = self._streams.pop()
        with translated(self._what, READER):
            try:
                return await stream.readall()
            except (ResourceModifiedError, ResourceNotFoundError) as error:
                raise VersionGone from error
            except HttpResponseError as error:
                if (refusal := _refusal(error)) is None:
                    raise
                raise refusal from error
