"""Blob storage in memory behind the SDK's own calls, so that the pipeline's adapters run on it as they are.

As much of the SDK as they use. Each call takes its time and is counted.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobType

from bench.simulation.clock import now

SECONDS = 0.01
"""For one call, and for a small image's bytes."""
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


@dataclass(slots=True)
class _Blob:
    etag: str
    modified: float
    metadata: bytes
    """As JSON: a million of them are kept."""

    def properties(self) -> Any:
        return SimpleNamespace(
            etag=self.etag,
            last_modified=BEGINNING + timedelta(seconds=self.modified),
            metadata=json.loads(self.metadata),
            size=0,
            blob_tier=None,
        )


class Container:
    """Blobs that the app writes: results, claims, marks."""

    def __init__(self, operations: Operations, written: Callable[[str, Mapping[str, str]], None]) -> None:
        self.blobs: dict[str, _Blob] = {}
        self.operations = operations
        self.written = written
        self._versions = 0

    def get_blob_client(self, name: str) -> "BlobClient":
        return BlobClient(self, name)

    async def upload_blob(self, name: str, data: bytes, **options: Any) -> None:
        await BlobClient(self, name).upload_blob(data, **options)

    async def delete_blob(self, name: str) -> None:
        await BlobClient(self, name).delete_blob()

    def next_etag(self) -> str:
        self._versions += 1
        return f'"0x{self._versions:X}"'


@dataclass(slots=True)
class BlobClient:
    container: Container
    blob_name: str

    async def upload_blob(
        self,
        data: bytes,  # noqa: ARG002 - what is written is not read
        *,
        metadata: Mapping[str, str] | None = None,
        etag: str | None = None,
        match_condition: MatchConditions | None = None,
        **_options: object,
    ) -> dict[str, str]:
        await self.container.operations.one("blob write")
        found = self.container.blobs.get(self.blob_name)
        if match_condition is MatchConditions.IfMissing and found:
            raise _refused(ResourceExistsError, "BlobAlreadyExists")
        self._check(found, etag)
        written = _Blob(self.container.next_etag(), now(), json.dumps(dict(metadata or {})).encode())
        self.container.blobs[self.blob_name] = written
        self.container.written(self.blob_name, metadata or {})
        return {"etag": written.etag}

    async def get_blob_properties(self, raw_response_hook: Callable[[Any], None] | None = None) -> Any:
        await self.container.operations.one("blob read")
        found = self.container.blobs.get(self.blob_name)
        if raw_response_hook:
            raw_response_hook(_response())
        if found is None:
            raise ResourceNotFoundError
        return found.properties()

    async def delete_blob(self, etag: str | None = None, match_condition: MatchConditions | None = None) -> None:  # noqa: ARG002 - the SDK's: with an ETag it is always IfNotModified
        await self.container.operations.one("delete")
        found = self.container.blobs.get(self.blob_name)
        if found is None:
            raise ResourceNotFoundError
        self._check(found, etag)
        del self.container.blobs[self.blob_name]

    @staticmethod
    def _check(found: _Blob | None, etag: str | None) -> None:
        if etag is not None and (found is None or found.etag.strip('"') != etag.strip('"')):
            raise _refused(ResourceModifiedError, "ConditionNotMet")

    async def set_blob_metadata(self, metadata: Mapping[str, str], **options: Any) -> dict[str, str]:
        return await self.upload_blob(b"", metadata=metadata, **options)


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
