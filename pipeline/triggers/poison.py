"""Poison messages, which the host gave up on: they end in a result all the same.

| poison queue of | holds | becomes |
| --- | --- | --- |
| the blob trigger | the host's form, naming an upload | deferred work |
| the request queue | what others sent | deferred work, as if sent again |
| the deferred queue | the app's own work, which crashed there each time | a failed result, `crashed` |

So only the app's own deliveries can end in `crashed`: a message from outside says nothing about what was tried.
"""

import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.job.last_resort import LastResort
from pipeline.job.places import Places
from pipeline.job.public import Allowed, parse_public
from pipeline.job.race import Outcome
from pipeline.job.requests import InvalidRequest, Redrive, Request, parse_deferred
from pipeline.one_line import blob_label, short
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.telemetry import DeliveryRecord
from pipeline.triggers.deliveries import Deliveries
from pipeline.triggers.messages import Queue, is_ours

logger = logging.getLogger("pipeline.deliveries")  # as that of the deliveries, whose ends these are

DELAY_SECONDS = 60.0
"""Before work that the host gave up on is looked at again: an upload was tried five times within half a second."""


class Poison:
    """The host's poison queues, one call for each message.

    Args:
        deferred: the queue of the app's own work.
        places: where work may be.
    """

    def __init__(  # noqa: PLR0913 - who does the work, and by keyword what is ours
        self,
        deliveries: Deliveries,
        last_resort: LastResort,
        deferred: Queue,
        *,
        places: Places,
        allowed: Allowed,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._deliveries = deliveries
        self._last_resort = last_resort
        self._deferred = deferred
        self._places = places
        self._allowed = allowed
        self._now = now

    async def requeue_upload(self, message: str) -> None:
        """Defer an upload that the host gave up on.

        The host's message does not say whether the function ever ran: a blob that the trigger itself may not look at
        ends here, too. The function of the deferred queue does its own reading, so what crashes there is a crash.

        Raises:
            RetryableFailure: the queue can't be reached; the message stays.
        """
        try:
            content = json.loads(message)
            request = Request(container=content["ContainerName"], name=content["BlobName"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            await self._last_resort.record_unreadable(message, f"it is not the blob trigger's ({type(error).__name__})")
            return
        await self._requeue(request)

    async def requeue_request(self, message: str) -> None:
        """Defer what a message asks for that used up its deliveries, or say what is wrong with it in a failed result.

        Raises:
            RetryableFailure: storage can't be reached; the message stays.
        """
        try:
            found = parse_public(message, self._allowed)
        except InvalidRequest as refusal:
            await self._last_resort.record_refused(message, str(refusal))
            return
        for work in found:
            await self._requeue(work)

    async def _requeue(self, work: Request | Redrive) -> None:
        if isinstance(work, Redrive):
            await self._deferred.send(work, DELAY_SECONDS)
            logger.warning("A redrive was given up by the host, and queued again")
        elif is_ours(work, self._places):
            await self._deliveries.defer(work.model_copy(update={"since": self._now()}), DELAY_SECONDS)
            logger.warning("%s: given up by the host, and queued again", blob_label(work.container, work.name))

    async def record_crash(self, message: str) -> None:
        """Write the failed result for deferred work that used up its deliveries.

        Raises:
            RetryableFailure: it can't be written now; the message stays.
        """
        try:
            work = parse_deferred(message)
        except InvalidRequest as error:
            await self._last_resort.record_unreadable(message, str(error))
            return
        if isinstance(work, Redrive):
            logger.error("A redrive used up its deliveries and was dropped: send it again (%s)", short(message, 1000))
        elif is_ours(work, self._places):
            await self._end_as_crashed(work)

    async def _end_as_crashed(self, request: Request) -> None:
        record = DeliveryRecord(request.container, request.name, request.attempt, request.trial)
        try:
            outcome = await self._deliveries.end_as_failed(request, _CRASHED, record)
        except ClaimedElsewhere as failure:
            # Another run goes on with it; or died at it, which the claim's count of runs shows to the next one.
            await self._deliveries.defer_or_give_up(request, failure, record, math.inf)
            return
        if outcome is Outcome.FAILED:
            logger.error(
                "%s: crashed, its deliveries are used up",
                blob_label(request.container, request.name),
                extra={**record.fields(), "error_code": ErrorCode.CRASHED.value},
            )
        await self._deliveries.remark(outcome, request, record)


_CRASHED = PermanentFailure(
    ErrorCode.CRASHED,
    "The analysis of this image crashed each time it was tried. Nothing is wrong with the upload as far as we know; the"
    " app's log says more. Have it run again once the cause is fixed.",
)
