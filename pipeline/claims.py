"""Who works on what: at most one at a time on each piece of work, over all instances.

A claim is a blob in the state container, and creating it on the condition that it is not there yet is the whole trick:

    instance A                     storage                    instance B
    create claim, if missing  ->   created
                                   already there         <-    create claim, if missing
    ask the model                                              put the work off until A's claim would expire
    write the result
    delete claim              ->   gone
                                                               find the result: done already

A claim names its owner, so that an answer which was lost on the wire does not shut out the one whom it was for: whoever
finds the claim in another state than expected looks whether it is their own.

An instance that dies leaves its claim behind. One that lives renews it, so a claim that has not been renewed for its
lifetime is a dead one's, and whoever comes next takes it over, again on condition that nobody else just did. Age is the
storage service's clock against itself (Date against Last-Modified): instances' clocks do not matter.

A claim counts how often the work was begun. Work that has killed its worker every time is not begun for ever.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from pipeline.errors import RetryableFailure
from pipeline.storage import translated

logger = logging.getLogger(__name__)


class ClaimedElsewhere(RetryableFailure):
    """Somebody is at this work, or died at it; `retry_after` is when their claim expires if nobody renews it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`runs`: how often this work was begun, this time included."""

    runs: int


class Claims:
    """The claims of all instances.

    Args:
        lifetime: seconds after which a claim that was not renewed is a dead one's. Renewed at a third of it, so most
            calls of a model need no renewal, and two renewals may fail before anybody else begins.
    """

    def __init__(self, service: BlobServiceClient, container: str, lifetime: float) -> None:
        self._container = service.get_container_client(container)
        self._lifetime = lifetime

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[Claim]:
        """Work on `key` while nobody else does. Two storage requests: create and delete.

        Raises:
            ClaimedElsewhere: somebody else has it.
            RetryableFailure: storage can't be asked.
        """
        blob = self._container.get_blob_client(f"claims/{key}")
        held = await self._take(blob)
        renewing = asyncio.create_task(self._renew(blob, held))
        try:
            yield Claim(held.runs)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await self._release(blob, held)

    async def _take(self, blob: BlobClient) -> "_Held":
        owner = uuid.uuid4().hex
        with translated(f"claiming {blob.blob_name}", "Storage Blob Data Owner"):
            try:
                return await _write(blob, 1, owner, {"match_condition": MatchConditions.IfMissing})
            except ResourceExistsError:
                pass
            dates: list[str] = []
            try:
                found = await blob.get_blob_properties(
                    raw_response_hook=lambda answer: dates.append(answer.http_response.headers["Date"])
                )
            except ResourceNotFoundError:  # released meanwhile: the result is there, or the work failed for now
                raise ClaimedElsewhere("Another run has just ended.", retry_after=1) from None
            if _owner(found) == owner:
                return _Held(str(found.etag), 1, owner)
            age = (parsedate_to_datetime(dates[-1]) - found.last_modified).total_seconds()
            if age <= self._lifetime:
                raise ClaimedElsewhere("Another run is at this image.", retry_after=self._lifetime - age + 1)
            runs = int(found.metadata.get("runs", "1")) + 1
            try:
                held = await _write(blob, runs, owner, _still(str(found.etag)))
            except (ResourceModifiedError, ResourceNotFoundError):
                etag = await _etag_if_owned(blob, owner)
                if etag is None:
                    raise ClaimedElsewhere("Another run has just begun.", retry_after=self._lifetime) from None
                held = _Held(etag, runs, owner)
        logger.warning("%s: taken over from a run that ended without a word, run %d", blob.blob_name, runs)
        return held

    async def _renew(self, blob: BlobClient, held: "_Held") -> None:
        while True:
            await asyncio.sleep(self._lifetime / 3)
            try:
                try:
                    held.etag = (await _write(blob, held.runs, held.owner, _still(held.etag))).etag
                except (ResourceModifiedError, ResourceNotFoundError):
                    etag = await _etag_if_owned(blob, held.owner)
                    if etag is None:
                        logger.warning("%s: lost, though the work goes on", blob.blob_name)
                        return
                    held.etag = etag
            except AzureError as error:
                logger.warning("%s: not renewed (%s)", blob.blob_name, type(error).__name__)

    async def _release(self, blob: BlobClient, held: "_Held") -> None:
        try:
            try:
                await blob.delete_blob(**_still(held.etag))
            except ResourceModifiedError:
                # Taken over: it is the other's to release. Or renewed just now, and the answer not awaited.
                etag = await _etag_if_owned(blob, held.owner)
                if etag is not None:
                    await blob.delete_blob(**_still(etag))
        except (ResourceNotFoundError, ResourceModifiedError):
            pass
        except AzureError as error:  # what was worth doing is done; the claim expires by itself
            logger.warning("%s: not released (%s)", blob.blob_name, type(error).__name__)


@dataclass(slots=True)
class _Held:
    etag: str
    runs: int
    owner: str


async def _write(blob: BlobClient, runs: int, owner: str, condition: dict[str, Any]) -> _Held:
    written = await blob.upload_blob(b"", overwrite=True, metadata={"runs": str(runs), "owner": owner}, **condition)
    return _Held(str(written["etag"]), runs, owner)


def _still(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


async def _etag_if_owned(blob: BlobClient, owner: str) -> str | None:
    """The claim's ETag, if it is still `owner`'s."""
    try:
        found = await blob.get_blob_properties()
    except ResourceNotFoundError:
        return None
    return str(found.etag) if _owner(found) == owner else None


def _owner(found: BlobProperties) -> str | None:
    return (found.metadata or {}).get("owner")
