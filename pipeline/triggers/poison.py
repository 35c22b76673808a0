"""Poison messages, which the host gave up on: they end in a result all the same."""

import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.job.last_resort import LastResort
from pipeline.job.race import Outcome
from pipeline.job.requests import InvalidRequest, Redrive, Request, parse_message
from pipeline.one_line import blob_label, short
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.telemetry import DeliveryRecord
from pipeline.triggers.deliveries import Deliveries

logger = logging.getLogger("pipeline.deliveries")  # as that of the deliveries, whose ends these are

DELAY_SECONDS = 60.0
"""Before an upload that the host gave up on is looked at again: the host tried five times within half a second."""


class Poison:
    """The host's two poison queues, one call for each message."""

    def __init__(
        self,
        deliveries: Deliveries,
        last_resort: LastResort,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._deliveries = deliveries
        self._last_resort = last_resort
        self._now = now

    async def requeue_upload(self, message: str) -> None:
        """Put an upload that the host gave up on onto the request queue.

        The host's message does not say whether the function ever ran: a blob that the trigger itself may not look at
        ends here, too. On the request queue the function does its own reading, so what crashes there is a crash.

        Raises:
            RetryableFailure: the queue can't be reached; the message stays.
        """
        try:
            content = json.loads(message)
            request = Request(container=content["ContainerName"], name=content["BlobName"], since=self._now())
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            await self._last_resort.record_unreadable(message, f"it is not the blob trigger's ({type(error).__name__})")
            return
        await self._deliveries.defer(request, DELAY_SECONDS)
        logger.warning("%s: given up by the host, and queued again", blob_label(request.container, request.name))

    async def record_crash(self, message: str) -> None:
        """Write the failed result for a request that used up its deliveries.

        Raises:
            RetryableFailure: it can't be written now; the message stays.
        """
        try:
            requests = parse_message(message)
        except InvalidRequest as error:
            await self._last_resort.record_unreadable(message, str(error))
            return
        for request in requests:
            if isinstance(request, Redrive):
                logger.error(
                    "A redrive used up its deliveries and was dropped: send it again (%s)", short(message, 1000)
                )
                continue
            record = DeliveryRecord(request.container, request.name, request.attempt)
            try:
                outcome = await self._deliveries.end_as_failed(request, _CRASHED, record)
            except ClaimedElsewhere as failure:
                # Another run goes on with it; or died at it, which the claim's count of runs shows to the next one.
                await self._deliveries.defer_or_give_up(request, failure, record, math.inf)
                continue
            if outcome is Outcome.FAILED:
                logger.error(
                    "%s: crashed, its deliveries are used up",
                    blob_label(request.container, request.name),
                    extra={**record.fields(), "error_code": ErrorCode.CRASHED.value},
                )
            await self._deliveries.unmark(request.name)


_CRASHED = PermanentFailure(
    ErrorCode.CRASHED,
    "The analysis of this image crashed each time it was tried. Nothing is wrong with the upload as far as we know; the"
    " app's log says more. Have it run again once the cause is fixed.",
)
