"""Claims: at most one run at a time on each piece of work, over all instances; and answers that are kept.

A claim is a blob in the state container, and creating it on the condition that it is not there yet is the whole trick:

    instance A                     storage                    instance B
    create claim, if missing  ->   created
                                   already there         <-    create claim, if missing
    ask the model                                              defer the work until A's claim would expire
    write the result
    delete claim              ->   gone
                                                               find the result: done already

A claim names its owner, so that a response which was lost on the wire does not shut out the instance that it was for:
an instance that finds the claim in another state than expected looks whether it is its own.

An instance that dies leaves its claim behind. One that lives renews it, so a claim that has not been renewed for its
lifetime is a dead one's, and the next instance takes it over, again on the condition that no other just did. Age is the
storage service's clock against itself (Date against Last-Modified): instances' clocks do not matter.

A claim counts how often the work was begun. Work that has killed its worker every time is not begun for ever.

A claim also keeps what was paid for and can't be delivered yet, or was delivered and is about to be replaced. `keep`
writes the answer into the claim and lets go of it in the same request; the next instance takes such a claim at once,
and finds the answer in it.

    instance A                     storage                    instance B
    ask the model
    write the result          ->   refused: a lease
    keep the answer in the claim
                              ->   kept, owned by no run
                                                        <-    create claim, if missing: already there
                                                              take it over, read the answer
                                   result written       <-    write the result
                                   gone                 <-    delete claim
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from pipeline.storage.errors import is_lost_race, translated
from pipeline.storage.facts import Claim, ClaimedElsewhere
from pipeline.storage.service_time import ServiceTime

logger = logging.getLogger(__name__)


class Claims:
    """The claims of all instances.

    Args:
        lifetime: seconds after which a claim that was not renewed is a dead one's. Renewed at a third of it, so most
            calls of a model need no renewal, and two renewals may fail before another instance begins.
    """

    def __init__(self, service: BlobServiceClient, container: str, lifetime: float) -> None:
        self._container = service.get_container_client(container)
        self._lifetime = lifetime

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[Claim]:
        """Work on `key` while no other instance does. Two storage requests: create and delete.

        The claim ends with the work, unless it keeps an answer.

        Raises:
            ClaimedElsewhere: another run has it.
            RetryableFailure: storage can't be asked.
        """
        blob = self._container.get_blob_client(f"claims/{key}")
        held = await self._take(blob)
        kept = await _read(blob) if held.keeps else None
        renewing = asyncio.create_task(self._renew(blob, held))
        try:
            yield Claim(held.runs, kept, lambda answer: _keep(blob, held, answer), held.discard, self.keep_for)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await _release(blob, held)

    async def keep_for(self, key: str, answer: bytes) -> None:
        """Keep an answer for the next run of the work `key`. One storage request, or three where the claim is there.

        An answer that is kept for that work already is left alone.

        Raises:
            ClaimedElsewhere: the run that gave the answer has not released its claim yet.
            RetryableFailure: it can't be kept now.
        """
        blob, kept = self._container.get_blob_client(f"claims/{key}"), _Held("", 1, "", keeps=True)
        with translated(f"keeping an answer in {blob.blob_name}"):
            try:
                await _write(blob, answer, kept, {"match_condition": MatchConditions.IfMissing})
            except ResourceExistsError as error:
                if not is_lost_race(error):
                    raise
                await self._keep_over(blob, answer, kept)

    async def amend(self, key: str, change: Callable[[bytes], bytes | None]) -> bytes | None:
        """Change what a claim keeps, while no run has it. Two storage requests.

        Args:
            key: of the work.
            change: gives what is kept from then on, by what was kept; None: the same.

        Returns:
            What is kept now; None where nothing is.

        Raises:
            ClaimedElsewhere: a run has it.
            RetryableFailure: it can't be changed now.
        """
        blob, busy = self._container.get_blob_client(f"claims/{key}"), ClaimedElsewhere("A run is at it.")
        time = ServiceTime()
        with translated(f"changing what {blob.blob_name} keeps"):
            try:
                stream = await blob.download_blob(decompress=False, raw_response_hook=time)
            except ResourceNotFoundError:
                return None
            found = _Held.of(stream.properties)
            if found.owner and (time.since(stream.properties.last_modified) or 0.0) <= self._lifetime:
                raise busy
            kept = await stream.readall() if found.keeps else None
            changed = change(kept) if kept is not None else None
            if changed is None:
                return kept
            try:
                await _write(blob, changed, _Held("", found.runs, "", keeps=True), _still(found.etag))
            except (ResourceNotFoundError, ResourceModifiedError):
                raise busy from None
        return changed

    async def _keep_over(self, blob: BlobClient, answer: bytes, kept: "_Held") -> None:
        """Keep an answer where there is a claim: of a run that died, once it had written its result."""
        busy = ClaimedElsewhere("The run before has not ended yet.", retry_after=1)
        time = ServiceTime()
        try:
            found = await blob.get_blob_properties(raw_response_hook=time)
            if _Held.of(found).owner:
                if (time.since(found.last_modified) or 0.0) <= self._lifetime:
                    raise busy
                await _write(blob, answer, kept, _still(str(found.etag)))
        except (ResourceNotFoundError, ResourceModifiedError):
            raise busy from None

    async def _take(self, blob: BlobClient) -> "_Held":
        owner = uuid.uuid4().hex
        with translated(f"claiming {blob.blob_name}"):
            try:
                created = _Held("", 1, owner)
                return created.at(await _write(blob, b"", created, {"match_condition": MatchConditions.IfMissing}))
            except ResourceExistsError as error:
                if not is_lost_race(error):
                    raise
            time = ServiceTime()
            try:
                found = await blob.get_blob_properties(raw_response_hook=time)
            except ResourceNotFoundError:  # released meanwhile: the result is there, or the work failed for now
                raise ClaimedElsewhere("Another run has just ended.", retry_after=1) from None
            earlier = _Held.of(found)
            if earlier.owner == owner:
                return earlier
            age = time.since(found.last_modified) or 0.0  # not known: it counts as just renewed
            if earlier.owner and age <= self._lifetime:
                raise ClaimedElsewhere("Another run is at this image.", retry_after=self._lifetime - age + 1)
            taken = _Held(earlier.etag, earlier.runs + bool(earlier.owner), owner, keeps=earlier.keeps)
            try:
                taken.etag = await _write_metadata(blob, taken)
            except (ResourceModifiedError, ResourceNotFoundError):
                etag = await _etag_if_owned(blob, owner)
                if etag is None:
                    raise ClaimedElsewhere("Another run has just begun.", retry_after=self._lifetime) from None
                taken.etag = etag
        if earlier.owner:
            logger.warning("%s: taken over from a run that ended without a word, run %d", blob.blob_name, taken.runs)
        return taken

    async def _renew(self, blob: BlobClient, held: "_Held") -> None:
        while True:
            await asyncio.sleep(self._lifetime / 3)
            try:
                try:
                    held.etag = await _write_metadata(blob, held)
                except (ResourceModifiedError, ResourceNotFoundError):
                    etag = await _etag_if_owned(blob, held.owner)
                    if etag is None:
                        logger.warning("%s: lost, though the work goes on", blob.blob_name)
                        return
                    held.etag = etag
            except AzureError as error:
                logger.warning("%s: not renewed (%s)", blob.blob_name, type(error).__name__)


@dataclass(slots=True)
class _Held:
    """A claim as it stands in storage."""

    etag: str
    runs: int
    owner: str
    """Of the run that has it; empty when none has."""
    keeps: bool = False
    """Whether its content is an answer."""

    @classmethod
    def of(cls, found: BlobProperties) -> Self:
        metadata = found.metadata or {}
        return cls(str(found.etag), int(metadata.get("runs", "1")), metadata.get("owner", ""), "keeps" in metadata)

    def at(self, etag: str) -> Self:
        self.etag = etag
        return self

    def discard(self) -> None:
        self.keeps = False

    def metadata(self) -> Mapping[str, str]:
        said = {"runs": str(self.runs), "owner": self.owner, "keeps": "answer" if self.keeps else ""}
        return {key: value for key, value in said.items() if value}


async def _write(blob: BlobClient, content: bytes, held: _Held, condition: dict[str, Any]) -> str:
    """Write the claim whole; its new ETag."""
    written = await blob.upload_blob(content, overwrite=True, metadata=dict(held.metadata()), **condition)
    return str(written["etag"])


async def _write_metadata(blob: BlobClient, held: _Held) -> str:
    """Write what the claim says, and leave its content; its new ETag."""
    return str((await blob.set_blob_metadata(dict(held.metadata()), **_still(held.etag)))["etag"])


async def _read(blob: BlobClient) -> bytes:
    with translated(f"reading {blob.blob_name}"):
        return await (await blob.download_blob(decompress=False)).readall()


async def _keep(blob: BlobClient, held: _Held, answer: bytes) -> None:
    keeping = _Held(held.etag, held.runs, held.owner, keeps=True)
    with translated(f"keeping an answer in {blob.blob_name}"):
        try:
            held.etag = await _write(blob, answer, keeping, _still(held.etag))
        except ResourceModifiedError:  # renewed just now, or taken over
            etag = await _etag_if_owned(blob, held.owner)
            if etag is None:
                raise
            held.etag = await _write(blob, answer, keeping, _still(etag))
    held.keeps = True


async def _release(blob: BlobClient, held: _Held) -> None:
    """Delete the claim, or leave it and the answer that it keeps to the next run."""

    async def release(etag: str) -> None:
        if held.keeps:
            await _write_metadata(blob, _Held(etag, held.runs, "", keeps=True))
        else:
            await blob.delete_blob(**_still(etag))

    try:
        try:
            await release(held.etag)
        except ResourceModifiedError:
            # Taken over: it is the other's to release. Or renewed just now, and the answer not awaited.
            etag = await _etag_if_owned(blob, held.owner)
            if etag is not None:
                await release(etag)
    except (ResourceNotFoundError, ResourceModifiedError):
        pass
    except AzureError as error:  # what was worth doing is done; the claim expires
        logger.warning("%s: not released (%s)", blob.blob_name, type(error).__name__)


def _still(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


async def _etag_if_owned(blob: BlobClient, owner: str) -> str | None:
    """The claim's ETag, if it is still `owner`'s."""
    try:
        found = await blob.get_blob_properties()
    except ResourceNotFoundError:
        return None
    held = _Held.of(found)
    return held.etag if held.owner == owner else None
