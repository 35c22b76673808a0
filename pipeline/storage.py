"""Azure Blob Storage: the uploads that are read and the results that are written.

Every download asks for the bytes as stored. Content-Encoding is the uploader's remark: obeyed, a wrong one breaks the
download, and a right one unpacks before any limit is looked at.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobProperties, BlobType, ContentSettings
from azure.storage.blob.aio import BlobServiceClient, StorageStreamDownloader

from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.listing import ListedBlob, list_page
from pipeline.names import stands_for_folder
from pipeline.result import ResultMetadata
from pipeline.service_time import ServiceTime
from pipeline.storage_errors import code_of, is_lost_race, require_container, translated

FIRST_READ_BYTES = 8 * 1024 * 1024
"""What the opening request of a download brings along. Nearly every photo fits, so one request does; and of a 5 GB
blob that is going to be refused, no more than this is ever read."""

ROLE = "Storage Blob Data Owner"

_WRITE_CHECK = ".blobsight-write-check"
_NO_ETAG = '"0x0"'
"""No blob has it."""

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


def first_read_bytes(memory: int, at_once: int) -> int:
    """What the opening request may bring, so that those of `at_once` uploads take no more than half of `memory`."""
    return min(FIRST_READ_BYTES, memory // 2 // at_once)


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of an uploaded blob, as storage describes it."""

    container: str
    name: str
    url: str
    etag: str
    last_modified: datetime
    size: int
    """Bytes."""
    content_type: str | None = None
    content_encoding: str | None = None
    """What the uploader says of the bytes; true or not."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    age: float | None = None
    """Seconds since it was last changed, by the service's clock; None where that is not known."""
    grown_for: float | None = None
    """Seconds from its creation to its last change, for an append or page blob: those are written piece by piece, and
    readable all the while. None for any other."""


@dataclass(frozen=True, slots=True)
class OpenedUpload:
    """An upload, and its bytes. `read` brings them, once.

    `read` raises VersionGone when the blob is of another version by now, PermanentFailure (unreadable_blob) when
    storage refuses for good, RetryableFailure when it can't be read now.
    """

    facts: Upload
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a result blob tells without being read. `etag` and `size` (in bytes) are the result blob's own."""

    etag: str
    size: int
    facts: ResultMetadata

    def is_newer_than(self, upload: Upload) -> bool:
        """Whether it is of a later version of the image than `upload`, or may be: the clock has whole seconds."""
        if self.facts.source_etag == upload.etag or self.facts.source_modified is None:
            return False
        return self.facts.source_modified >= upload.last_modified


class VersionGone(Exception):
    """The blob was overwritten or deleted while it was read."""


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
        with translated(what, ROLE):
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
        with translated(f"reading {self.container}/{name}", ROLE):
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
        with translated(f"listing {self.container}", ROLE):
            try:
                # Of the names that start with `name`, it is the first; pages may be empty.
                page = await list_page(self._client, None, metadata=True, prefix=name, page_size=1)
                while not page.blobs and page.next_token:
                    page = await list_page(self._client, page.next_token, metadata=True, prefix=name, page_size=1)
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                raise
        found = next((blob for blob in page.blobs if blob.name == name), None)
        return self._of_listing(found) if found else None

    async def read_start(self, name: str, length: int) -> bytes | None:
        """At most the first `length` bytes of the blob `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", ROLE):
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
                        ErrorCode.INVALID_INSTRUCTIONS, f"The file '{name}' can't be used: {refusal.message}"
                    ) from error
                raise

    def _described(self, name: str, url: str, properties: BlobProperties, time: ServiceTime) -> Upload:
        modified = properties.last_modified.astimezone(UTC)
        return Upload(
            container=self.container,
            name=name,
            url=url,
            etag=_bare(properties.etag),
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
        with translated(self._what, ROLE):
            try:
                return await stream.readall()
            except (ResourceModifiedError, ResourceNotFoundError) as error:
                raise VersionGone from error
            except HttpResponseError as error:
                if (refusal := _refusal(error)) is None:
                    raise
                raise refusal from error


class Results:
    """The result container."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.container = container
        self._client = service.get_container_client(container)
        self._writable = False
        self._checking = asyncio.Lock()

    async def find(self, name: str) -> StoredResult | None:
        """What is known of the result `name`, or None when there is none. One request.

        Raises:
            OperatorFailure: there is no container for results.
            RetryableFailure: storage can't be asked.
        """
        with translated(f"reading {self.container}/{name}", ROLE):
            try:
                properties = await self._client.get_blob_client(name).get_blob_properties()
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                return None
        return StoredResult(
            _bare(properties.etag), properties.size, ResultMetadata.from_blob(properties.metadata or {})
        )

    async def read(self, name: str) -> bytes | None:
        """The result `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", ROLE):
            try:
                return await (await self._client.get_blob_client(name).download_blob(decompress=False)).readall()
            except ResourceNotFoundError:
                return None

    async def require_writable(self) -> None:
        """Make sure that results may be written, before anything is paid that could not be.

        One request in each process, and one more after each refused write.

        Raises:
            OperatorFailure: they may not be written.
            RetryableFailure: storage can't be asked.
        """
        async with self._checking:
            if not self._writable:
                await self.try_writing()
                self._writable = True

    async def try_writing(self) -> None:
        """Write on a condition that no blob meets: 412 where writing is allowed, and 403 where a role is missing.

        One request, which writes nothing.

        Raises:
            OperatorFailure: results may not be written.
            RetryableFailure: storage can't be asked.
        """
        condition: dict[str, Any] = {"etag": _NO_ETAG, "match_condition": MatchConditions.IfNotModified}
        with translated(f"writing to {self.container}", ROLE):
            try:
                await self._client.get_blob_client(_WRITE_CHECK).upload_blob(b"", overwrite=True, **condition)
            except ResourceNotFoundError as error:
                require_container(error, self.container)
            except HttpResponseError as error:
                if not is_lost_race(error):
                    raise

    async def write(self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None) -> bool:
        """Write the result `name`, provided it is still as `replacing` says (None: there is none yet).

        One request, so that Azure raises one event for it. Returns False, and writes nothing, when another run
        wrote or deleted the result meanwhile.

        Raises:
            RetryableFailure: it can't be written now.
        """
        condition = (
            {"etag": f'"{replacing.etag}"', "match_condition": MatchConditions.IfNotModified}
            if replacing
            else {"match_condition": MatchConditions.IfMissing}
        )
        try:
            with translated(f"writing {self.container}/{name}", ROLE):
                return await self._write(name, body, metadata, condition)
        except RetryableFailure:
            self._writable = False
            raise

    async def _write(self, name: str, body: bytes, metadata: Mapping[str, str], condition: dict[str, Any]) -> bool:
        try:
            await self._client.get_blob_client(name).upload_blob(
                body,
                overwrite=True,  # the condition decides
                metadata=dict(metadata),
                content_settings=ContentSettings(content_type="application/json; charset=utf-8"),
                **condition,
            )
        except (ResourceModifiedError, ResourceExistsError) as error:
            if is_lost_race(error):
                return False
            raise
        except ResourceNotFoundError as error:
            require_container(error, self.container)
            return False
        return True


def _bare(etag: str | None) -> str:
    """An ETag as listings show it: without the quotation marks of the HTTP header."""
    return (etag or "").strip('"')
