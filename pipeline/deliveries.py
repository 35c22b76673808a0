"""Deliveries: what reaches the app is brought to a result, or put off. Nothing is lost and nothing burns.

The host tries a failed blob trigger again five times within a second and then calls it poison: no outage is that short.
So what may work later is put on the request queue with a growing delay instead, until it works or has waited for
RETRY_FOR_SECONDS; raising into the host is left for when the queue itself can't be reached.

What there is no room for yet is held, though, not put off: the host takes only so many deliveries at a time, so a
backlog stays on its queue, where it costs nothing.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from typing import Protocol

from pipeline.analysis import Analyzer, Outcome
from pipeline.claims import ClaimedElsewhere
from pipeline.errors import ErrorCode, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.governor import Busy
from pipeline.requests import InvalidRequest, Redrive, Request, parse_message
from pipeline.retrying import DEFERRALS, deferral_delay
from pipeline.telemetry import Attempt, count_put_off, error_type

logger = logging.getLogger(__name__)

HOLD_SECONDS = 1200.0
"""How long a delivery waits for room, with nothing in hand but a name."""
DEADLINE_SECONDS = 540.0
"""For one delivery from there on, however its time is spent: at host.json's functionTimeout of half an hour the host
kills the worker, and with it all else that runs there."""


class Queue(Protocol):
    """See `pipeline.requests.RequestQueue`."""

    async def send(self, request: Request, delay: float) -> None: ...


class Marks(Protocol):
    """See `pipeline.waiting.Waiting`."""

    async def mark(self, name: str, seconds: float) -> None: ...
    async def clear(self, name: str) -> None: ...


class Rooms(Protocol):
    """See `pipeline.governor.Governor`."""

    def room(self, deployment: str, hold: float) -> AbstractAsyncContextManager[None]: ...
    def answers(self, deployment: str) -> bool: ...


class Deliveries:
    """All that triggers hand over, one call each.

    Args:
        rooms: decides when work that will call the deployment may begin.
        deployment: the one that most images are for.
        retry_for: seconds after which work that fails again and again becomes a failed result.
        deadline: seconds for one delivery once it has room; what takes longer is put off.
        rng: for the jitter.
    """

    def __init__(  # noqa: PLR0913 - who does the work, and by keyword its times
        self,
        analyzer: Analyzer,
        queue: Queue,
        waiting: Marks,
        rooms: Rooms,
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
        self._rooms = rooms
        self._deployment = deployment
        self._retry_for = timedelta(seconds=retry_for)
        self._deadline = deadline
        self._now = now
        self._rng = rng or SystemRandom()

    async def handle(self, request: Request) -> None:
        """Bring `request` to its result, or put it off.

        Raises:
            RetryableFailure: neither is possible, since the queue can't be reached: the host delivers again.
        """
        attempt = Attempt(request.container, request.name, request.attempt)
        try:
            async with self._rooms.room(self._deployment_of(request), HOLD_SECONDS), asyncio.timeout(self._deadline):
                await self._analyzer.analyze(request, attempt=attempt)
        except TimeoutError:
            failure = RetryableFailure(f"It was not done within {self._deadline:g} seconds.")
            await self._put_off(request, failure, attempt)
        except RetryableFailure as failure:
            await self._put_off(request, failure, attempt)
        else:
            if request.since is not None:
                await self._unmark(request.name)

    async def _put_off(self, request: Request, failure: RetryableFailure, attempt: Attempt) -> None:
        now = self._now()
        # Work that was not tried, because somebody else has it or there was no room, has not failed: a backlog that
        # takes longer than RETRY_FOR_SECONDS is no failure either. The time runs from the first try that failed.
        tried = not (isinstance(failure, ClaimedElsewhere | Busy) or self._lacked_room(request, failure))
        since = request.since if request.attempt > 1 and request.since else now
        if tried and now - since >= self._retry_for and await self._give_up(request, failure):
            return
        later = request.again(since=since, attempt=request.attempt + tried)
        delay = (
            deferral_delay(request.attempt, failure.retry_after, self._rng)
            if tried
            else min(max(failure.retry_after or 1.0, 1.0), DEFERRALS[-1])
        )
        await self._mark(request.name, delay)
        await self._queue.send(later, delay)
        count_put_off(failure)
        logger.warning(
            "%s/%s: put off for %.0f s: %s (%s)",
            request.container,
            request.name,
            delay,
            failure.message,
            attempt.ids,
            extra={**attempt.fields(), "error_type": error_type(failure), "delay_s": round(delay)},
        )

    def _lacked_room(self, request: Request, failure: RetryableFailure) -> bool:
        """Whether it was refused where others got through: in a long backlog that may well happen to an image today and
        tomorrow.
        """
        throttled = failure.status == 429 and not isinstance(failure, OperatorFailure)
        return throttled and self._rooms.answers(self._deployment_of(request))

    def _deployment_of(self, request: Request) -> str:
        return request.options.deployment or self._deployment

    async def _give_up(self, request: Request, failure: RetryableFailure) -> bool:
        """Write the failed result; False when that is not possible yet either."""
        hours = self._retry_for.total_seconds() / 3600
        verdict = PermanentFailure(
            ErrorCode.RETRIES_EXHAUSTED,
            f"Given up after {request.attempt} attempts in {hours:.1f} hours. The last one failed like this:"
            f" {failure.message} Once that is mended, have the failed images run again.",
            {"attempts": request.attempt, "last_cause": failure.message, "status": failure.status},
        )
        try:
            await self._analyzer.analyze(request, verdict)
        except RetryableFailure:
            return False
        await self._unmark(request.name)
        return True

    # The marks only save reconcile from queueing what is queued: work must not fail for want of one.

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

    async def record_crash(self, message: str) -> None:
        """Write the failed result for a message that used up its deliveries, whichever queue it was on.

        Raises:
            RetryableFailure: it can't be written now; the message stays.
        """
        verdict = PermanentFailure(
            ErrorCode.CRASHED,
            "The analysis of this image crashed each time it was tried. Nothing is wrong with the upload as far as we"
            " know; the app's log says more. Have it run again once the cause is mended.",
        )
        try:
            requests = _requests_in_poison(message)
        except InvalidRequest as error:
            await self._analyzer.record_unreadable(message, str(error))
            return
        for request in requests:
            if isinstance(request, Redrive):
                logger.error("A redrive used up its deliveries and was dropped: send it again (%s)", message)
                continue
            attempt = Attempt(request.container, request.name, request.attempt)
            try:
                outcome = await self._analyzer.analyze(request, verdict, attempt)
            except ClaimedElsewhere as failure:
                # Somebody goes on with it; or died at it, then the claim's count of runs tells the next one.
                await self._put_off(request, failure, attempt)
                continue
            except RetryableFailure:
                raise
            except Exception as error:  # noqa: BLE001 - whatever crashes the analysis may well crash it here, too
                logger.warning(
                    "%s/%s: even its failure crashes (%s)", request.container, request.name, type(error).__name__
                )
                outcome = await self._analyzer.record_crash(request, verdict)
            if outcome is Outcome.FAILED:
                logger.error("%s/%s: crashed, its deliveries are used up", request.container, request.name)
            await self._unmark(request.name)


def _requests_in_poison(message: str) -> list[Request | Redrive]:
    """The work in a poison message: the host's own form for the blob trigger, or a request's."""
    try:
        content = json.loads(message)
        return [Request(container=content["ContainerName"], name=content["BlobName"])]
    except (ValueError, TypeError, KeyError, RecursionError):
        return parse_message(message)
