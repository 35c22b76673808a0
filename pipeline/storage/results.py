"""The result container."""

import asyncio
from collections.abc import Mapping
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import ContentSettings, StandardBlobTier
from azure.storage.blob.aio import BlobServiceClient

from pipeline.errors import RetryableFailure
from pipeline.result import MOST_REUSED_BYTES, ResultMetadata, result_in
from pipeline.storage.errors import is_lost_race, require_container, translated
from pipeline.storage.facts import StoredResult, bare_etag


class Results:
    """The result container."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.container = container
        self._client = service.get_container_client(container)
        self._writable = False
        self._checking = asyncio.Lock()

    async def find(self, name: str) -> StoredResult | None:
        """The result `name` without its content, or None when there is none. One request.

        One request more where its metadata were lost, as to a tagging tool: then the result itself is read.

        Raises:
            OperatorFailure: there is no container for results.
            RetryableFailure: storage can't be asked.
        """
        with translated(f"reading {self.container}/{name}"):
            try:
                properties = await self._client.get_blob_client(name).get_blob_properties()
            except ResourceNotFoundError as error:
                require_container(error, self.container)
                return None
        facts = ResultMetadata.from_blob(properties.metadata or {})
        archived = properties.blob_tier == StandardBlobTier.ARCHIVE
        if facts.work_key is None and properties.size <= MOST_REUSED_BYTES and not archived:
            body = await self.read(name)
            result = result_in(body) if body is not None else None
            facts = ResultMetadata.of(result) if result else facts
        written = facts.written or properties.last_modified
        return StoredResult(bare_etag(properties.etag), properties.size, facts, archived, written)

    async def read(self, name: str) -> bytes | None:
        """The result `name`, or None when there is none. One request."""
        with translated(f"reading {self.container}/{name}"):
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
        with translated(f"writing to {self.container}"):
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
            with translated(f"writing {self.container}/{name}"):
                return await self._write(name, body, metadata, condition)
        except RetryableFailure:
            self._writable = False
            raise

    async def note(self, name: str, metadata: Mapping[str, str], of: StoredResult) -> bool:
        """Change what the metadata of the result `name` say, provided it is still the one that was found.

        One request, which raises no event. Returns False, and changes nothing, when it is another one by now.

        Raises:
            RetryableFailure: it can't be changed now.
        """
        condition: dict[str, Any] = {"etag": f'"{of.etag}"', "match_condition": MatchConditions.IfNotModified}
        with translated(f"noting in {self.container}/{name}"):
            try:
                await self._client.get_blob_client(name).set_blob_metadata(dict(metadata), **condition)
            except (ResourceModifiedError, ResourceNotFoundError) as error:
                if isinstance(error, ResourceNotFoundError):
                    require_container(error, self.container)
                return False
        return True

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


_WRITE_CHECK = ".blobsight-write-check"

_NO_ETAG = '"0x0"'
"""No blob has it."""
