"""Queueing failed work to run again, when an operator asks for it."""

import logging
from datetime import UTC, datetime
from time import monotonic

from azure.storage.blob.aio import BlobServiceClient

from pipeline.errors import RetryableFailure
from pipeline.job.requests import Redrive, Request
from pipeline.names import image_of_result, result_name
from pipeline.result import result_in
from pipeline.storage.facts import ListedBlob, TokenRefused
from pipeline.storage.listing import ContainerListing
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results

logger = logging.getLogger(__name__)

RUN_SECONDS = 240
"""One run's time, well inside functionTimeout; a request for the rest goes back onto the queue."""
AGAIN_SECONDS = 60
"""Until a redrive that storage interrupted goes on: a role that was given just now takes minutes to count."""


class Redriver:
    """Goes through all results for those that failed."""

    def __init__(
        self, service: BlobServiceClient, results: Results, queue: MessageQueue, marks: QueuedMarks, *, images: str
    ) -> None:
        self._images = images
        self._results = results
        self._queue = queue
        self._marks = marks
        self._listing = ContainerListing(service.get_container_client(results.container), metadata=True)

    async def run(self, asked: Redrive) -> None:
        """Queue every failed upload whose error code is asked for, and nothing else.

        When storage fails it goes on later.

        Raises:
            RetryableFailure: the queue can't be reached; done again, what was queued is queued twice and run once.
        """
        deadline = monotonic() + RUN_SECONDS
        token, queued, delay = asked.token, 0, 0
        while True:
            try:
                page = await self._listing.page(token)
                for blob in page.blobs:
                    if blob.metadata.get("status") == "failed" and blob.metadata.get("errorcode") in asked.redrive:
                        queued += await self._rerun(blob)
            except TokenRefused:
                logger.warning("redrive: the listing can't be continued, it starts anew")
                token = None
                continue
            except RetryableFailure as failure:
                logger.warning("redrive: deferred for %d s: %s", AGAIN_SECONDS, failure.message)
                delay = AGAIN_SECONDS
                break
            token = page.next_token
            if token is None or monotonic() > deadline:
                break
        logger.info("redrive of %s: %d queued", ", ".join(asked.redrive), queued)
        if token is not None or delay:
            await self._queue.send(asked.model_copy(update={"token": token}), delay)

    async def _rerun(self, result: ListedBlob) -> bool:
        name = await self._image_of(result)
        if name is None:
            return False
        await self._marks.mark(name, 0)
        request = Request(
            container=self._images, name=name, since=datetime.now(UTC), rerun_failed=True, rerun_of=result.etag
        )
        await self._queue.send(request, 0)
        return True

    async def _image_of(self, result: ListedBlob) -> str | None:
        """The image's name, from the result's; a shortened one is in the result itself.

        None where the result is another program's, or of another container.
        """
        name = image_of_result(result.name)
        if name is None:
            body = await self._results.read(result.name)
            found = result_in(body) if body else None
            name = found.source.name if found and found.source.container == self._images else None
        return name if name is not None and result_name(name) == result.name else None
