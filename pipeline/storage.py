"""Azure Blob Storage: the uploads that are read and the results that are written."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobServiceClient, StorageStreamDownloader

from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.names import stands_for_folder

FIRST_READ_BYTES = 8 * 1024 * 1024
"""What the opening request of a download brings along. Nearly every photo fits, so one request does; and of a 5 GB
blob that is going to be refused, no more than this is ever read."""


def first_read_bytes(memory: int, at_once: int) -> int:
    """What the opening request may bring, so that those of `at_once` uploads take no more than half of `memory`."""
    return min(FIRST_READ_BYTES, memory // 2 // at_once)


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of an uploaded blob. `read` brings its bytes, once: of this version, or `VersionGone`."""

    container: str
    name: str
    url: str
    etag: str
    last_modified: datetime
    size: int
    content_type: str | None
    metadata: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a result blob tells without being read. `etag` is the result blob's own."""

    etag: str
    work_key: str | None
    failed: bool
    source_etag: str | None
    source_modified: datetime | None
    origin: str | None
    """Where its instructions came from."""

    def is_newer_than(self, upload: Upload) -> bool:
        """Whether it is of a later version of the image than `upload`, or may be: the clock has whole seconds."""
        if self.source_etag == upload.etag or self.source_modified is None:
            return False
        return self.source_modified >= upload.last_modified


class VersionGone(Exception):
    """The blob was overwritten or deleted while it was read."""


class Uploads:
    """The input container."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.container = container
        self._client = service.get_container_client(container)

    async def open(self, name: str) -> Upload | None:
        """The current version of the upload `name`, or None when there is none. One request.

        A blob that only marks a folder is not an upload.
        """
        blob = self._client.get_blob_client(name)
        with translated(f"reading {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                stream = await blob.download_blob()
            except ResourceNotFoundError as error:
                _require_container(error, self.container)
                return None
        properties: BlobProperties = stream.properties
        if stands_for_folder(name, stream.size, properties.metadata or {}):
            return None
        return Upload(
            container=self.container,
            name=name,
            url=blob.url,
            etag=_bare(properties.etag),
            last_modified=properties.last_modified.astimezone(UTC),
            size=stream.size,
            content_type=properties.content_settings.content_type,
            metadata=dict(properties.metadata or {}),
            read=_Reading(stream, f"reading {self.container}/{name}"),
        )

    async def read_start(self, name: str, length: int) -> bytes | None:
        """At most the first `length` bytes of the blob `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                stream = await self._client.get_blob_client(name).download_blob(offset=0, length=length)
                return await stream.readall()
            except ResourceNotFoundError as error:
                _require_container(error, self.container)
                return None
            except HttpResponseError as error:
                if error.status_code == 416:  # no byte 0: the blob is empty
                    return b""
                raise

    async def current_etag(self, name: str) -> str | None:
        """The ETag of the upload as it is now, or None when it is gone. One request."""
        with translated(f"reading {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                properties = await self._client.get_blob_client(name).get_blob_properties()
            except ResourceNotFoundError:
                return None
        return _bare(properties.etag)


class _Reading:
    """Reads a download to its end, and lets go of it: it would keep what the opening request brought, too."""

    def __init__(self, stream: StorageStreamDownloader[bytes], what: str) -> None:
        self._streams = [stream]
        self._what = what

    async def __call__(self) -> bytes:
        stream = self._streams.pop()
        with translated(self._what, "Storage Blob Data Owner"):
            try:
                return await stream.readall()
            except (ResourceModifiedError, ResourceNotFoundError) as error:
                raise VersionGone from error


class Results:
    """The result container."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.container = container
        self._client = service.get_container_client(container)

    async def find(self, name: str) -> StoredResult | None:
        """What is known of the result `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                properties = await self._client.get_blob_client(name).get_blob_properties()
            except ResourceNotFoundError:
                return None
        metadata = {key.lower(): value for key, value in (properties.metadata or {}).items()}
        modified = metadata.get("sourcemodified")
        return StoredResult(
            etag=_bare(properties.etag),
            work_key=metadata.get("workkey"),
            failed=metadata.get("status") == "failed",
            source_etag=metadata.get("sourceetag"),
            source_modified=datetime.fromisoformat(modified) if modified else None,
            origin=metadata.get("origin"),
        )

    async def read(self, name: str) -> bytes | None:
        """The result `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                return await (await self._client.get_blob_client(name).download_blob()).readall()
            except ResourceNotFoundError:
                return None

    async def write(self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None) -> bool:
        """Write the result `name`, provided it is still as `replacing` says (None: there is none yet).

        One request, so that Azure raises one event for it. Returns False, and writes nothing, when somebody
        else wrote or deleted the result meanwhile.
        """
        condition = (
            {"etag": f'"{replacing.etag}"', "match_condition": MatchConditions.IfNotModified}
            if replacing
            else {"match_condition": MatchConditions.IfMissing}
        )
        with translated(f"writing {self.container}/{name}", "Storage Blob Data Owner"):
            try:
                await self._client.get_blob_client(name).upload_blob(
                    body,
                    overwrite=True,  # the condition decides
                    metadata=dict(metadata),
                    content_settings=ContentSettings(content_type="application/json; charset=utf-8"),
                    **condition,
                )
            except (ResourceModifiedError, ResourceExistsError):
                return False
            except ResourceNotFoundError as error:
                _require_container(error, self.container)
                return False
        return True


def _bare(etag: str | None) -> str:
    """An ETag as listings show it: without the quotation marks of the HTTP header."""
    return (etag or "").strip('"')


def _require_container(error: ResourceNotFoundError, container: str) -> None:
    if _code(error) == "ContainerNotFound":
        raise OperatorFailure(
            f"The container '{container}' does not exist: create it, or name one that does in the app's settings."
        ) from error


@contextmanager
def translated(what: str, role: str) -> Iterator[None]:
    """The storage SDK's errors as ours; `what` says what was being done, `role` what it takes."""
    try:
        yield
    except ClientAuthenticationError as error:
        raise OperatorFailure(
            f"The storage account refused the app's identity for {what}: give it the role '{role}' on the account"
            f" ({_code(error)})."
        ) from error
    except HttpResponseError as error:
        if error.status_code == 403:
            raise OperatorFailure(
                f"The app's identity may not do this: {what}. Give it the role '{role}' on the storage account, and"
                f" check the account's firewall ({_code(error)}).",
                status=403,
            ) from error
        raise RetryableFailure(f"Storage failed at {what} ({_code(error)}).", status=error.status_code) from error
    except AzureError as error:
        raise RetryableFailure(f"Storage can't be reached for {what} ({_code(error)}).") from error


def _code(error: AzureError) -> str:
    code = getattr(error, "error_code", None)  # an enum's member, or text for codes that the SDK does not know
    code = getattr(code, "value", code)
    return str(code) if code else error.message.partition("\n")[0]
