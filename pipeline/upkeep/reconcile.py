"""Queueing the uploads whose events were lost, on a timer."""

import logging
from datetime import UTC, datetime, timedelta

from azure.storage.blob.aio import BlobServiceClient

from pipeline.job.requests import Request
from pipeline.names import image_of_sidecar, wants_result
from pipeline.storage.listing import ContainerListing
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.notes import Notes
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads
from pipeline.upkeep.dead_letters import DeadLetters
from pipeline.upkeep.reconciliation import Progress, Reconciliation

logger = logging.getLogger(__name__)

RUN_SECONDS = 240
"""One run's time, well inside functionTimeout; the next one goes on where it stopped."""
GRACE = timedelta(hours=1)
"""Age from which an upload without a result counts as lost. Ordinary work in progress is younger, or it waits behind
others; an event that was lost can wait as long."""
MOST_QUEUED = 10_000
"""Messages that wait on both queues, beyond which reconcile adds none. In a backlog of hours the images that wait on
the host's own queue, or as events on the request queue, have neither result nor mark: without this limit, each of them
would be queued once more, every hour."""
_PROGRESS = "reconciliation.json"


class Reconciler:
    """Finds lost uploads, by dead letters and by listing."""

    def __init__(  # noqa: PLR0913 - two containers of three, by keyword
        self,
        service: BlobServiceClient,
        results: Results,
        deferred: MessageQueue,
        requests: MessageQueue,
        marks: QueuedMarks,
        *,
        images: str,
        state: str,
        dead_letters: str,
        grace: timedelta = GRACE,
        most_queued: int = MOST_QUEUED,
    ) -> None:
        self._images = images
        self._results = results
        self._deferred = deferred
        self._requests = requests
        self._marks = marks
        self._most_queued = most_queued
        self._notes = Notes(service, state)
        letters = service.get_container_client(dead_letters)
        self._dead_letters = DeadLetters(
            ContainerListing(letters, metadata=False), Uploads(service, dead_letters), self._notes
        )
        self._reconciliation = Reconciliation(
            images=ContainerListing(service.get_container_client(images), metadata=False),
            results=ContainerListing(service.get_container_client(results.container), metadata=True),
            source_etag=self._source_etag,
            is_waiting=self._is_waiting,
            queue=self._queue_upload,
            grace=grace,
        )

    async def run(self) -> None:
        """Queue uploads whose events Event Grid gave up on; go on looking for others without a current result.

        Raises:
            RetryableFailure: storage can't be reached; the next run goes on.
        """
        queued = await self._deferred.length() + await self._requests.length()
        if queued >= self._most_queued:
            logger.info("not reconciled: %d messages wait already", queued)
            return
        allowance = self._most_queued - queued
        lost = await self._dead_letters.queue_new(self._queue_lost, most=allowance)
        if lost:
            logger.warning("%d uploads were queued whose events Event Grid gave up on", lost)
        allowance -= lost
        stored = await self._notes.read(_PROGRESS)
        before = Progress.from_json(stored) if stored else None
        progress = await self._reconciliation.run(before, seconds=RUN_SECONDS, allowance=allowance)
        await self._notes.write(_PROGRESS, progress.to_json())
        logger.info("reconciled%s: %s", "" if progress.finished else " so far", progress.summary)

    async def _source_etag(self, result: str) -> str | None:
        stored = await self._results.find(result)
        return None if stored is None else stored.facts.source_etag or ""

    async def _is_waiting(self, name: str, _etag: str) -> bool:
        return await self._marks.is_marked(name)

    async def _queue_lost(self, request: Request) -> bool:
        """Queue the image or the sidecar of a dead letter, unless it is another container's or waits already."""
        asks = wants_result(request.name) or image_of_sidecar(request.name) is not None
        if request.container != self._images or not asks:
            return False
        if await self._marks.is_marked(request.name):
            return False
        await self._queue_upload(request.name, "")
        return True

    async def _queue_upload(self, name: str, _etag: str) -> None:
        await self._marks.mark(name, 0)
        await self._deferred.send(Request(container=self._images, name=name, since=datetime.now(UTC)), 0)
