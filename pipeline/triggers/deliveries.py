"""Deliveries: each is brought to a result, deferred or given up. Nothing is lost.

The host tries a failed blob trigger again five times within a second and then calls it poison: no outage is that short.
So work that may succeed later is put on the deferred queue with a growing delay instead, until it succeeds or has
waited for RETRY_FOR_SECONDS; raising into the host is left for when the queue itself can't be reached.

Work for which there is no place yet is held, not deferred: the host takes only so many deliveries at a time, so
a backlog stays on its queue, where it costs nothing.

Giving up never depends on what failed: where the usual way to a failed result is blocked, too, the result is written
from the container's listing, or from the name alone.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Protocol

from pipeline.errors import (
    AnswerKept,
    OperatorFailure,
    PermanentFailure,
    RetryableFailure,
    TimedOut,
)
from pipeline.job.analysis import Analyzer
from pipeline.job.answering import Failing
from pipeline.job.batched import LONGEST
from pipeline.job.last_resort import LastResort
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.names import image_of_sidecar, wants_result
from pipeline.one_line import blob_label, one_line
from pipeline.pacing.lane import Lane
from pipeline.pacing.rates import DailyTokens
from pipeline.storage.facts import IN_BATCH, ClaimedElsewhere
from pipeline.telemetry import DeliveryRecord, count_deferred, error_type
from pipeline.triggers.lanes import Lanes, flex_wait
from pipeline.triggers.sequel import Stopped, follow_up

logger = logging.getLogger("pipeline.deliveries")  # a name that people's queries match (docs/operations.md)

HOLD_SECONDS = 1200.0
"""How long a delivery waits at the governor's door, with nothing in hand but a name."""
DEADLINE_SECONDS = 1020.0
"""For one delivery from there on, however its time is spent: at host.json's functionTimeout of 40 minutes the host
kills the worker, and with it all else that runs there. A call at the tier flex takes FLEX_TIMEOUT_SECONDS of it."""


class Queue(Protocol):
    """See `pipeline.storage.queue.MessageQueue`."""

    async def send(self, message: Request, delay: float) -> None: ...


class Marks(Protocol):
    """See `pipeline.storage.marks.QueuedMarks`."""

    async def mark(self, name: str, seconds: float, why: str) -> None: ...
    async def clear(self, name: str) -> None: ...


class Pacing(Protocol):
    """See `pipeline.pacing.governor.Governor`."""

    def door(self, lane: Lane, hold: float, *, failed_before: bool) -> AbstractAsyncContextManager[None]: ...
    def answers(self, lane: Lane) -> bool: ...
    def answered_since(self, lane: Lane, moment: float) -> bool: ...
    def refusing(self, lane: Lane) -> bool: ...


class Deliveries:
    """All that triggers hand over, one call each.

    Args:
        pacing: decides when work that will call the model may begin.
        lanes: those that there are.
        retry_for: seconds after which work that fails again and again becomes a failed result.
        tokens: what is left of the day's; None: there is no limit.
        deadline: seconds for one delivery once it has begun; what takes longer is deferred.
        rng: for the jitter.
    """

    def __init__(  # noqa: PLR0913 - who does the work, and by keyword its times
        self,
        analyzer: Analyzer,
        last_resort: LastResort,
        queue: Queue,
        marks: Marks,
        pacing: Pacing,
        *,
        lanes: Lanes,
        retry_for: float,
        tokens: DailyTokens | None = None,
        deadline: float = DEADLINE_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Random | None = None,
    ) -> None:
        self._analyzer = analyzer
        self._last_resort = last_resort
        self._queue = queue
        self._marks = marks
        self._pacing = pacing
        self._lanes = lanes
        self._retry_for = timedelta(seconds=retry_for)
        self._tokens = tokens
        self._deadline = deadline
        self._now = now
        self._rng = rng or SystemRandom()

    async def handle(self, request: Request) -> None:
        """Bring `request` to its result, or defer it.

        Raises:
            RetryableFailure: neither is possible, since the queue can't be reached: the host delivers again.
        """
        record = DeliveryRecord(request.container, request.name, request.attempt, request.trial)
        begun = math.inf
        try:
            if self._tokens and _calls_the_model(request):
                await self._tokens.require_left()
            async with self._door(request), asyncio.timeout(self._deadline):
                begun = asyncio.get_running_loop().time()
                outcome = await self._analyzer.analyze(request, record=record)
        except TimeoutError:
            failure = RetryableFailure(f"It was not done within {self._deadline:g} seconds.")
            await self.defer_or_give_up(request, failure, record, begun)
        except RetryableFailure as failure:
            await self.defer_or_give_up(request, failure, record, begun)
        else:
            if outcome is Outcome.IN_BATCH or request.since is not None:
                await self.remark(outcome, request, record)

    def _door(self, request: Request) -> AbstractAsyncContextManager[None]:
        if not _calls_the_model(request) or self._lanes.goes_by_batch(request):
            return nullcontext()
        lane = self._lanes.at_hand(request, self._now())
        if lane.lacks_capacity and request.flex is None and self._pacing.refusing(lane):
            return nullcontext()  # it is refused inside, where its question says how long its patience is
        return self._pacing.door(lane, HOLD_SECONDS, failed_before=request.attempt > 1)

    async def defer_or_give_up(
        self, request: Request, failure: RetryableFailure, record: DeliveryRecord, begun: float
    ) -> None:
        """Defer work that `failure` has stopped, or end it as failed where it has been tried for long enough.

        `begun` is when the delivery began its work, by the event loop's clock; inf: it did not.

        Raises:
            RetryableFailure: the queue can't be reached.
        """
        now = self._now()
        lane = self._lanes.known(request, record, now)
        sequel = follow_up(
            Stopped(
                request,
                failure,
                flex_wait(request, failure, lane, now),
                backlogged=self._throttled_in_backlog(lane, failure),
                # Where no image is answered, it is an outage, and no fault of this one.
                singled_out=isinstance(failure, TimedOut) and self._pacing.answered_since(lane, begun),
            ),
            self._retry_for,
            now,
            self._rng,
        )
        if sequel.given_up and await self._give_up(request, sequel.given_up):
            return
        await self.defer(sequel.later, sequel.delay, error_type(failure))
        count_deferred(failure)
        logger.warning(
            "%s: deferred for %.0f s: %s (%s)",
            blob_label(request.container, request.name),
            sequel.delay,
            failure.message,
            record.ids,
            extra={**record.fields(), "error_type": error_type(failure), "delay_s": round(sequel.delay)},
        )

    async def defer(self, request: Request, delay: float, why: str = "") -> None:
        """Put the work on the deferred queue, to be delivered after `delay` seconds. `why` is a kind of failure.

        Raises:
            RetryableFailure: the queue can't be reached.
        """
        if request.is_of_an_upload:
            await self._mark(request.name, delay, why)
        await self._queue.send(request, delay)

    def _throttled_in_backlog(self, lane: Lane, failure: RetryableFailure) -> bool:
        """Whether it was throttled while others were answered: in a long backlog that may well happen to an image today
        and tomorrow.
        """
        throttled = failure.status == 429 and not isinstance(failure, OperatorFailure)
        return throttled and self._pacing.answers(lane)

    async def _give_up(self, request: Request, failure: PermanentFailure) -> bool:
        """Write the failed result; False when that is not possible yet either, or another run has the work."""
        record = DeliveryRecord(request.container, request.name, request.attempt, request.trial)
        try:
            outcome = await self.end_as_failed(request, failure, record)
        except RetryableFailure:
            return False
        await self.remark(outcome, request, record)
        return True

    async def end_as_failed(self, request: Request, failure: PermanentFailure, record: DeliveryRecord) -> Outcome:
        """Write `failure` as the request's result, in the usual way or by the last resort.

        Raises:
            ClaimedElsewhere: another run has the work.
            AnswerKept: there is an answer after all, and its result can't be written.
            RetryableFailure: the result can't be written.
        """
        try:
            return await self._analyzer.analyze(request, Failing(failure), record)
        except (AnswerKept, ClaimedElsewhere):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the work ran into is in the way of its result, too
            logger.warning(
                "%s: its failed result is written from the listing (%s)",
                blob_label(request.container, request.name),
                error_type(error),
            )
            return await self._last_resort.record(request, failure)

    # The marks only save reconcile from queueing what is queued: work must not fail because one is missing.

    async def _mark(self, name: str, delay: float, why: str) -> None:
        try:
            await self._marks.mark(name, delay, why)
        except RetryableFailure as failure:
            logger.warning("%s is queued without its mark: %s", one_line(name), failure.message)

    async def remark(self, outcome: Outcome, request: Request, record: DeliveryRecord) -> None:
        """Mark the upload as one that waits for its batch, or no longer as one that waits.

        A sidecar that was queued for it waits no longer either way.
        """
        if not request.is_of_an_upload:
            return
        done = {record.name, request.name}
        if outcome is Outcome.IN_BATCH:
            await self._mark(record.name, LONGEST.total_seconds(), IN_BATCH)
            done.discard(record.name)
        for name in done:
            await self._unmark(name)

    async def _unmark(self, name: str) -> None:
        try:
            await self._marks.clear(name)
        except RetryableFailure as failure:
            logger.warning("%s keeps its mark until that expires: %s", one_line(name), failure.message)


def _calls_the_model(request: Request) -> bool:
    return wants_result(image_of_sidecar(request.name) or request.name)
