"""Blob storage in memory behind the SDK's own calls, so that the pipeline's adapters run on it as they are.

As much of the SDK as they use. Each call takes its time and is counted.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobType

from bench.simulation.clock import now
from pipeline.storage.facts import ListedBlob
from pipeline.storage.listing import PAGE_SIZE

SECONDS = 0.01
"""For one call, and for a small image's bytes."""
LISTING_SECONDS = 0.2
"""For a page of a listing. An assumption."""
BEGINNING = datetime(2026, 3, 14, tzinfo=UTC)
"""The loop's time 0."""


def date() -> datetime:
    return BEGINNING + timedelta(seconds=now())


def _response() -> Any:
    return SimpleNamespace(http_response=SimpleNamespace(headers={"Date": format_datetime(date())}))


@dataclass
class Operations:
    """Numbers of operations by billing class. A delete is free."""

    counts: Counter[str] = field(default_factory=Counter)

    async def one(self, kind: str, seconds: float = SECONDS) -> None:
        self.counts[kind] += 1
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Sized:
    """Stands for the content of the blob `name`, of which there are too many bytes."""

    name: str
    size: int

    def __len__(self) -> int:
        return self.size


@dataclass(slots=True)
class _Blob:
    etag: str
    modified: float
    metadata: bytes
    """As JSON: a million of them are kept."""
    content: bytes | Sized = b""
    listed: ListedBlob | None = None
    """As it is listed, once it was."""

    def properties(self) -> Any:
        return SimpleNamespace(
            etag=self.etag,
            last_modified=BEGINNING + timedelta(seconds=self.modified),
            metadata=json.loads(self.metadata),
            size=len(self.content),
            blob_tier=None,
        )

    def in_listing(self, name: str) -> ListedBlob:
        if self.listed is None:
            modified = BEGINNING + timedelta(seconds=self.modified)
            self.listed = ListedBlob(name, self.etag.strip('"'), modified, json.loads(self.metadata), len(self.content))
        return self.listed


class Container:
    """Blobs that the app writes: results, claims, marks, lines and shards.

    Args:
        operations: counts them.
        written: called with the name and the metadata of each blob that is written.
        keeps: whether what is written can be read.
        more: bytes by which a blob that is streamed is taken to be larger than it is.
    """

    def __init__(
        self,
        operations: Operations,
        written: Callable[[str, Mapping[str, str]], None],
        *,
        keeps: bool = False,
        more: int = 0,
    ) -> None:
        self.folders: dict[str, dict[str, _Blob]] = defaultdict(dict)
        self.operations = operations
        self.written = written
        self.keeps = keeps
        self.more = more
        self._versions = 0

    def folder(self, name: str) -> dict[str, _Blob]:
        """The blobs of the folder that the blob `name` is in, by their names."""
        return self.folders[name[: name.rfind("/") + 1]]

    def get_blob_client(self, name: str) -> "BlobClient":
        return BlobClient(self, name)

    async def upload_blob(self, name: str, data: bytes, **options: Any) -> None:
        await BlobClient(self, name).upload_blob(data, **options)

    async def delete_blob(self, name: str) -> None:
        await BlobClient(self, name).delete_blob()

    async def listing(self, folder: str) -> AsyncIterator[ListedBlob]:
        """The folder's blobs as `pipeline.storage.listing` finds them, without the XML that they would come in."""
        blobs = list(self.folders[folder].items())
        for start in range(0, max(len(blobs), 1), PAGE_SIZE):
            await self.operations.one("listing", LISTING_SECONDS)
            for name, blob in blobs[start : start + PAGE_SIZE]:
                yield blob.in_listing(name.removeprefix(folder))

    def next_etag(self) -> str:
        self._versions += 1
        return f'"0x{self._versions:X}"'

    def content(self, name: str, data: bytes | AsyncGenerator[bytes], length: int) -> bytes | Sized:
        """What is kept of `data`."""
        if not isinstance(data, bytes):
            return Sized(name, length + self.more)
        return data if self.keeps else b""


@dataclass(slots=True)
class BlobClient:
    container: Container
    blob_name: str

    async def upload_blob(
        self,
        data: bytes | AsyncGenerator[bytes],
        *,
        length: int = 0,
        metadata: Mapping[str, str] | None = None,
        etag: str | None = None,
        match_condition: MatchConditions | None = None,
        **_options: object,
    ) -> dict[str, str]:
        await self.container.operations.one("blob write")
        folder = self.container.folder(self.blob_name)
        found = folder.get(self.blob_name)
        if match_condition is MatchConditions.IfMissing and found:
            raise _refused(ResourceExistsError, "BlobAlreadyExists")
        self._check(found, etag)
        content = self.container.content(self.blob_name, data, length)
        return self._write(content, metadata or {})

    def _write(self, content: bytes | Sized, metadata: Mapping[str, str]) -> dict[str, str]:
        written = _Blob(self.container.next_etag(), now(), json.dumps(dict(metadata)).encode(), content)
        self.container.folder(self.blob_name)[self.blob_name] = written
        self.container.written(self.blob_name, metadata)
        return {"etag": written.etag}

    async def get_blob_properties(self, raw_response_hook: Callable[[Any], None] | None = None) -> Any:
        return (await self._found(raw_response_hook)).properties()

    async def exists(self) -> bool:
        await self.container.operations.one("blob read")
        return self.blob_name in self.container.folder(self.blob_name)

    async def download_blob(
        self,
        *,
        decompress: bool = True,  # noqa: ARG002 - nothing here is compressed
        raw_response_hook: Callable[[Any], None] | None = None,
        etag: str | None = None,
        **_options: object,
    ) -> "_Stream":
        found = await self._found(raw_response_hook)
        self._check(found, etag)
        return _Stream(found.properties(), found.content)

    async def _found(self, raw_response_hook: Callable[[Any], None] | None) -> _Blob:
        await self.container.operations.one("blob read")
        found = self.container.folder(self.blob_name).get(self.blob_name)
        if raw_response_hook:
            raw_response_hook(_response())
        if found is None:
            raise ResourceNotFoundError
        return found

    async def delete_blob(self, etag: str | None = None, match_condition: MatchConditions | None = None) -> None:  # noqa: ARG002 - the SDK's: with an ETag it is always IfNotModified
        await self.container.operations.one("delete")
        folder = self.container.folder(self.blob_name)
        found = folder.get(self.blob_name)
        if found is None:
            raise ResourceNotFoundError
        self._check(found, etag)
        del folder[self.blob_name]

    @staticmethod
    def _check(found: _Blob | None, etag: str | None) -> None:
        if etag is not None and (found is None or found.etag.strip('"') != etag.strip('"')):
            raise _refused(ResourceModifiedError, "ConditionNotMet")

    async def set_blob_metadata(
        self, metadata: Mapping[str, str], *, etag: str | None = None, **_options: object
    ) -> dict[str, str]:
        await self.container.operations.one("blob metadata")
        found = self.container.folder(self.blob_name).get(self.blob_name)
        if found is None:
            raise ResourceNotFoundError
        self._check(found, etag)
        return self._write(found.content, metadata)


@dataclass(frozen=True, slots=True)
class _Stream:
    properties: Any
    content: bytes | Sized

    async def readall(self) -> bytes:
        assert isinstance(self.content, bytes)  # noqa: S101 - of what is not kept, only the size is known
        return self.content

    async def chunks(self) -> AsyncIterator[bytes | Sized]:
        yield self.content


def _refused[Refusal: HttpResponseError](kind: type[Refusal], code: str) -> Refusal:
    error = kind(code)
    error.error_code = code  # type: ignore[attr-defined]  # as the storage SDK does
    return error


class Images:
    """The input container: the same image under any name, with a question in its metadata."""

    def __init__(self, operations: Operations, image: bytes) -> None:
        self.operations = operations
        self.properties = SimpleNamespace(
            etag='"0x1"',
            last_modified=BEGINNING,
            metadata={"instructions": "What is in this image?"},
            content_settings=SimpleNamespace(content_type="image/jpeg", content_encoding=None),
            size=len(image),
            blob_type=BlobType.BLOCKBLOB,
        )
        self._image = image

    def get_blob_client(self, name: str) -> "Images":  # noqa: ARG002 - they are all the same
        return self

    url = "https://simulated.blob.core.windows.net/images/image.jpg"

    async def download_blob(self, *, raw_response_hook: Callable[[Any], None], **_options: object) -> "Images":
        await self.operations.one("blob read")
        raw_response_hook(_response())
        return self

    async def readall(self) -> bytes:
        return self._image

    async def get_blob_properties(self, *, raw_response_hook: Callable[[Any], None]) -> Any:
        await self.operations.one("blob read")
        raw_response_hook(_response())
        return self.properties


class Account:
    """Stands in for the adapters' `BlobServiceClient`."""

    def __init__(self, containers: Mapping[str, Container | Images]) -> None:
        self._containers = containers

    def get_container_client(self, name: str) -> Container | Images:
        return self._containers[name]
