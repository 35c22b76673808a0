"""Deliveries: what reaches the app is brought to a result, or deferred. Nothing is lost and nothing burns.

The host tries a failed blob trigger again five times within a second and then calls it poison: no outage is that short.
So work that may succeed later is put on the request queue with a growing delay instead, until it succeeds or has waited
for RETRY_FOR_SECONDS; raising into the host is left for when the queue itself can't be reached.

Work for which there is no place yet is held, though, not deferred: the host takes only so many deliveries at a time, so
a backlog stays on its queue, where it costs nothing.

Giving up never depends on what failed: where the usual way to a failed result is blocked, too, the result is written
from the container's listing, or from the name alone.
"""

import asyncio
import json
import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Protocol

from pipeline.errors import (
    AnswerKept,
    ErrorCode,
    NotTried,
    OperatorFailure,
    PermanentFailure,
    RetryableFailure,
    TimedOut,
)
from pipeline.job.analysis import Analyzer
from pipeline.job.answering import Failing
from pipeline.job.race import Outcome
from pipeline.job.requests import InvalidRequest, Redrive, Request, parse_message
from pipeline.pacing.waits import DEFERRALS, deferral_delay
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.telemetry import Attempt, count_put_off, error_type

logger = logging.getLogger("pipeline.deliveries")  # a name that people's queries match (docs/operations.md)

HOLD_SECONDS = 1200.0
"""How long a delivery waits at the governor's door, with nothing in hand but a name."""
DEADLINE_SECONDS = 540.0
"""For one delivery from there on, however its time is spent: at host.json's functionTimeout of half an hour the host
kills the worker, and with it all else that runs there."""


MOST_TIME_OUTS = 5
"""Deliveries of one image whose call times out while calls for other images are answered, before it is given up."""
POISON_DELAY_SECONDS = 60.0
"""Before an upload that the host gave up on is looked at again: the host tried five times within half a second."""


class Queue(Protocol):
    """See `pipeline.storage.queue.RequestQueue`."""

    async def send(self, request: Request, delay: float) -> None: ...


class Marks(Protocol):
    """See `pipeline.storage.marks.QueuedMarks`."""

    async def mark(self, name: str, seconds: float) -> None: ...
    async def clear(self, name: str) -> None: ...


class Pacing(Protocol):
    """See `pipeline.pacing.governor.Governor`."""

    def door(self, deployment: str, hold: float) -> AbstractAsyncContextManager[None]: ...
    def answers(self, deployment: str) -> bool: ...
    def answered_since(self, deployment: str, moment: float) -> bool: ...


class Deliveries:
    """All that triggers hand over, one call each.

    Args:
        pacing: decides when work that will call the deployment may begin.
        deployment: the one that most images are for.
        retry_for: seconds after which work that fails again and again becomes a failed result.
        deadline: seconds for one delivery once it has begun; what takes longer is deferred.
        rng: for the jitter.
    """

    def __init__(  # noqa: PLR0913 - who does the work, and by keyword its times
        self,
        analyzer: Analyzer,
        queue: Queue,
        waiting: Marks,
        pacing: Pacing,
        *,
        deployment: str,
        retry_for: float,
        deadline: float = DEADLINE_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Random | None = None,
    ) -> None:
        self._analyzer = analyzer
        self._queue = queue
        self._waiting = waiting
        self._pacing = pacing
        self._deployment = deployment
        self._retry_for = timedelta(seconds=retry_for)
        self._deadline = deadline
        self._now = now
        self._rng = rng or SystemRandom()

    async def handle(self, request: Request) -> None:
        """Bring `request` to its result, or defer it.

        Raises:
            RetryableFailure: neither is possible, since the queue can't be reached: the host delivers again.
        """
        attempt = Attempt(request.container, request.name, request.attempt)
        begun = math.inf
        try:
            async with self._pacing.door(self._deployment_of(request), HOLD_SECONDS), asyncio.timeout(self._deadline):
                begun = asyncio.get_running_loop().time()
                await self._analyzer.analyze(request, attempt=attempt)
        except TimeoutError:
            failure = RetryableFailure(f"It was not done within {self._deadline:g} seconds.")
            await self._defer_or_give_up(request, failure, attempt, begun)
        except RetryableFailure as failure:
            await self._defer_or_give_up(request, failure, attempt, begun)
        else:
            if request.since is not None:
                await self._unmark(request.name)

    async def _defer_or_give_up(
        self, request: Request, failure: RetryableFailure, attempt: Attempt, begun: float
    ) -> None:
        now = self._now()
        # Work that was not tried has not failed: a backlog that takes longer than RETRY_FOR_SECONDS is no failure
        # either. The time runs from the first attempt that failed.
        tried = not (isinstance(failure, NotTried) or self._throttled_in_backlog(request, failure))
        since = request.since if request.attempt > 1 and request.since else now
        # Where no image is answered, it is an outage, and no fault of this one.
        singled_out = isinstance(failure, TimedOut) and self._pacing.answered_since(self._deployment_of(request), begun)
        later = request.again(since=since, attempt=request.attempt + tried, timed_out=request.timed_out + singled_out)
        if later.timed_out >= MOST_TIME_OUTS:
            if await self._give_up(request, _timed_out(later.timed_out, failure)):
                return
        elif (
            tried and now - since >= self._retry_for and await self._give_up(request, self._exhausted(request, failure))
        ):
            return
        delay = (
            deferral_delay(request.attempt, failure.retry_after, self._rng)
            if tried
            else min(max(failure.retry_after or 1.0, 1.0), DEFERRALS[-1])
        )
        await self._defer(later, delay)
        count_put_off(failure)
        logger.warning(
            "%s/%s: deferred for %.0f s: %s (%s)",
            request.container,
            request.name,
            delay,
            failure.message,
            attempt.ids,
            extra={**attempt.fields(), "error_type": error_type(failure), "delay_s": round(delay)},
        )

    async def _defer(self, request: Request, delay: float) -> None:
        await self._mark(request.name, delay)
        await self._queue.send(request, delay)

    def _throttled_in_backlog(self, request: Request, failure: RetryableFailure) -> bool:
        """Whether it was throttled while others were answered: in a long backlog that may well happen to an image today
        and tomorrow.
        """
        throttled = failure.status == 429 and not isinstance(failure, OperatorFailure)
        return throttled and self._pacing.answers(self._deployment_of(request))

    def _deployment_of(self, request: Request) -> str:
        return request.options.deployment or self._deployment

    def _exhausted(self, request: Request, failure: RetryableFailure) -> PermanentFailure:
        hours = self._retry_for.total_seconds() / 3600
        exhausted = PermanentFailure(
            ErrorCode.RETRIES_EXHAUSTED,
            f"Given up after {request.attempt} attempts in {hours:.1f} hours. The last one failed like this:"
            f" {failure.message} Once that is fixed, have the failed images run again.",
            {"attempts": request.attempt, "last_cause": failure.message, "status": failure.status},
        )
        exhausted.reply = failure.reply
        return exhausted

    async def _give_up(self, request: Request, failure: PermanentFailure) -> bool:
        """Write the failed result; False when that is not possible yet either, or another run has the work."""
        try:
            await self._record(request, failure, Attempt(request.container, request.name, request.attempt))
        except RetryableFailure:
            return False
        await self._unmark(request.name)
        return True

    async def _record(self, request: Request, failure: PermanentFailure, attempt: Attempt) -> Outcome:
        """Write `failure` as the result, in the usual way or by the last resort.

        Raises:
            ClaimedElsewhere: another run has the work.
            AnswerKept: there is an answer after all, and its result can't be written.
            RetryableFailure: the result can't be written.
        """
        try:
            return await self._analyzer.analyze(request, Failing(failure), attempt)
        except (AnswerKept, ClaimedElsewhere):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the work ran into is in the way of its result, too
            logger.warning(
                "%s/%s: its failed result is written from the listing (%s)",
                request.container,
                request.name,
                error_type(error),
            )
            return await self._analyzer.record_failure(request, failure)

    # The marks only save reconcile from queueing what is queued: work must not fail because one is missing.

    async def _mark(self, name: str, delay: float) -> None:
        try:
            await self._waiting.mark(name, delay)
        except RetryableFailure as failure:
            logger.warning("%s is queued without its mark: %s", name, failure.message)

    async def _unmark(self, name: str) -> None:
        try:
            await self._waiting.clear(name)
        except RetryableFailure as failure:
            logger.warning("%s keeps its mark until that expires: %s", name, failure.message)

    async def requeue_poison_upload(self, message: str) -> None:
        """Put an upload that the host gave up on onto the request queue.

        The host's message does not tell whether the function ever ran: a blob that the trigger itself may not look at
        ends here, too. On the request queue the function does its own reading, so what crashes there is a crash.

        Raises:
            RetryableFailure: the queue can't be reached; the message stays.
        """
        try:
            content = json.loads(message)
            request = Request(container=content["ContainerName"], name=content["BlobName"], since=self._now())
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            await self._analyzer.record_unreadable(message, f"it is not the blob trigger's ({type(error).__name__})")
            return
        await self._defer(request, POISON_DELAY_SECONDS)
        logger.warning("%s/%s: given up by the host, and queued again", request.container, request.name)

    async def record_crash(self, message: str) -> None:
        """Write the failed result for a request that used up its deliveries.

        Raises:
            RetryableFailure: it can't be written now; the message stays.
        """
        try:
            requests = parse_message(message)
        except InvalidRequest as error:
            await self._analyzer.record_unreadable(message, str(error))
            return
        for request in requests:
            if isinstance(request, Redrive):
                logger.error("A redrive used up its deliveries and was dropped: send it again (%s)", message)
                continue
            attempt = Attempt(request.container, request.name, request.attempt)
            try:
                outcome = await self._record(request, _CRASHED, attempt)
            except ClaimedElsewhere as failure:
                # Another run goes on with it; or died at it, then the claim's count of runs tells the next one.
                await self._defer_or_give_up(request, failure, attempt, math.inf)
                continue
            if outcome is Outcome.FAILED:
                logger.error(
                    "%s/%s: crashed, its deliveries are used up",
                    request.container,
                    request.name,
                    extra={**attempt.fields(), "error_code": ErrorCode.CRASHED.value},
                )
            await self._unmark(request.name)


_CRASHED = PermanentFailure(
    ErrorCode.CRASHED,
    "The analysis of this image crashed each time it was tried. Nothing is wrong with the upload as far as we know; the"
    " app's log says more. Have it run again once the cause is fixed.",
)


def _timed_out(deliveries: int, failure: RetryableFailure) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.RETRIES_EXHAUSTED,
        f"Given up after {deliveries} calls that were not answered in time, while those for other images were answered."
        f" {failure.message} Ask for less, use a smaller image, or raise MODEL_TIMEOUT_SECONDS; then have it run"
        " again.",
        {"attempts": deliveries, "last_cause": failure.message, "status": failure.status},
    )
