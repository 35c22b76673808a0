"""Going through all uploads: finding those that an event was lost for, and running failed ones again."""

import json
import logging
from datetime import UTC, datetime, timedelta
from time import monotonic

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.dead_letters import DeadLetters
from pipeline.errors import RetryableFailure
from pipeline.job.requests import Redrive, Request
from pipeline.names import image_of_result, wants_result
from pipeline.reconciliation import Progress, Reconciliation
from pipeline.storage.errors import translated
from pipeline.storage.facts import ListedBlob, TokenRefused
from pipeline.storage.listing import ContainerListing
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.queue import RequestQueue
from pipeline.storage.results import Results

logger = logging.getLogger(__name__)

RUN_SECONDS = 240
"""One run's time, well inside functionTimeout; the next one goes on where it stopped."""
GRACE = timedelta(hours=1)
"""Ordinary work under way is younger, or it waits behind others; an event that was lost can wait as long."""
MOST_QUEUED = 10_000
"""Requests that wait, beyond which reconcile adds none. In a backlog of hours the images that wait on the host's own
queue have neither result nor mark: without this, each of them would be queued once more, every hour."""
REDRIVE_AGAIN_SECONDS = 60
_PROGRESS = "reconciliation.json"


class Upkeep:
    """What timers and operators ask for."""

    def __init__(  # noqa: PLR0913 - two containers of three, by keyword
        self,
        service: BlobServiceClient,
        results: Results,
        queue: RequestQueue,
        waiting: QueuedMarks,
        *,
        images: str,
        state: str,
        dead_letters: str,
        grace: timedelta = GRACE,
        most_queued: int = MOST_QUEUED,
    ) -> None:
        self._images = images
        self._results = results
        self._queue = queue
        self._waiting = waiting
        self._most_queued = most_queued
        self._state = service.get_container_client(state)
        self._dead_letters = DeadLetters(service, dead_letters, state)
        self._result_listing = ContainerListing(service.get_container_client(results.container), metadata=True)
        self._reconciliation = Reconciliation(
            images=ContainerListing(service.get_container_client(images), metadata=False),
            results=self._result_listing,
            source_etag=self._source_etag,
            is_waiting=self._is_waiting,
            queue=self._queue_upload,
            grace=grace,
        )

    async def reconcile(self) -> None:
        """Queue uploads whose events Event Grid gave up on; go on looking for others without a current result.

        Raises:
            RetryableFailure: storage can't be reached; the next run goes on.
        """
        waiting = await self._queue.length()
        if waiting >= self._most_queued:
            logger.info("not reconciled: %d requests wait already", waiting)
            return
        allowance = self._most_queued - waiting
        lost = await self._dead_letters.queue_new(self._queue_lost, most=allowance)
        if lost:
            logger.warning("%d uploads were queued whose events Event Grid gave up on", lost)
        allowance -= lost
        with translated(f"reading {_PROGRESS}"):
            try:
                stored = await (await self._state.get_blob_client(_PROGRESS).download_blob(decompress=False)).readall()
            except ResourceNotFoundError:
                stored = None
        before = Progress.from_json(stored) if stored else None
        progress = await self._reconciliation.run(before, seconds=RUN_SECONDS, allowance=allowance)
        with translated(f"writing {_PROGRESS}"):
            await self._state.upload_blob(_PROGRESS, progress.to_json(), overwrite=True)
        logger.info("reconciled%s: %s", "" if progress.finished else " so far", progress.summary)

    async def _source_etag(self, result: str) -> str | None:
        stored = await self._results.find(result)
        return None if stored is None else stored.facts.source_etag or ""

    async def _is_waiting(self, name: str, _etag: str) -> bool:
        return await self._waiting.is_marked(name)

    async def _queue_lost(self, request: Request) -> bool:
        """Queue the upload of a dead letter, unless it is another container's or waits already."""
        if request.container != self._images or not wants_result(request.name):
            return False
        if await self._waiting.is_marked(request.name):
            return False
        await self._queue_upload(request.name, "")
        return True

    async def _queue_upload(self, name: str, _etag: str) -> None:
        await self._waiting.mark(name, 0)
        await self._queue.send(Request(container=self._images, name=name, since=datetime.now(UTC)), 0)

    async def redrive(self, asked: Redrive) -> None:
        """Queue every failed upload whose error code is asked for, and nothing else.

        When storage fails it goes on later: a role that was given just now takes minutes to count everywhere.

        Raises:
            RetryableFailure: the queue can't be reached; done again, what was queued is queued twice and run once.
        """
        deadline = monotonic() + RUN_SECONDS
        token, queued, delay = asked.token, 0, 0
        while True:
            try:
                page = await self._result_listing.page(token)
                for blob in page.blobs:
                    if blob.metadata.get("status") == "failed" and blob.metadata.get("errorcode") in asked.redrive:
                        queued += await self._run_again(blob)
            except TokenRefused:
                logger.warning("redrive: the listing can't be continued, it starts anew")
                token = None
                continue
            except RetryableFailure as failure:
                logger.warning("redrive: put off for %d s: %s", REDRIVE_AGAIN_SECONDS, failure.message)
                delay = REDRIVE_AGAIN_SECONDS
                break
            token = page.next_token
            if token is None or monotonic() > deadline:
                break
        logger.info("redrive of %s: %d queued", ", ".join(asked.redrive), queued)
        if token is not None or delay:
            await self._queue.send(asked.model_copy(update={"token": token}), delay)

    async def _run_again(self, result: ListedBlob) -> bool:
        name = await self._image_of(result)
        if name is None:
            return False
        await self._waiting.mark(name, 0)
        request = Request(
            container=self._images, name=name, since=datetime.now(UTC), rerun_failed=True, rerun_of=result.etag
        )
        await self._queue.send(request, 0)
        return True

    async def _image_of(self, result: ListedBlob) -> str | None:
        """The image's name, from the result's; a shortened one is in the result itself."""
        name = image_of_result(result.name)
        if name is None:
            body = await self._results.read(result.name)
            name = json.loads(body)["source"]["name"] if body else None
        return name
