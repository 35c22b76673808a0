"""Deliveries: what reaches the app is brought to a result, or put off. Nothing is lost and nothing burns.

The host tries a failed blob trigger again five times within a second and then calls it poison: no outage is that short.
So what may work later is put on the request queue with a growing delay instead, until it works or has waited for
RETRY_FOR_SECONDS; raising into the host is left for when the queue itself can't be reached.
"""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Protocol

from pipeline.analysis import Analyzer, Outcome
from pipeline.claims import ClaimedElsewhere
from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.governor import Busy
from pipeline.requests import InvalidRequest, Redrive, Request, parse_message
from pipeline.retrying import deferral_delay

logger = logging.getLogger(__name__)


class Queue(Protocol):
    """See `pipeline.requests.RequestQueue`."""

    async def send(self, request: Request, delay: float) -> None: ...


class Marks(Protocol):
    """See `pipeline.waiting.Waiting`."""

    async def mark(self, name: str, seconds: float) -> None: ...
    async def clear(self, name: str) -> None: ...


class Deliveries:
    """All that triggers hand over, one call each.

    Args:
        retry_for: seconds after which work that fails again and again becomes a failed result.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        queue: Queue,
        waiting: Marks,
        *,
        retry_for: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._analyzer = analyzer
        self._queue = queue
        self._waiting = waiting
        self._retry_for = timedelta(seconds=retry_for)
        self._now = now
        self._rng = SystemRandom()

    async def handle(self, request: Request) -> None:
        """Bring `request` to its result, or put it off.

        Raises:
            RetryableFailure: neither is possible, since storage can't be reached: the host delivers again.
        """
        try:
            await self._analyzer.analyze(request)
        except RetryableFailure as failure:
            await self._put_off(request, failure)
            return
        if request.since is not None:
            await self._waiting.clear(request.name)

    async def _put_off(self, request: Request, failure: RetryableFailure) -> None:
        now = self._now()
        if request.since and now - request.since >= self._retry_for and await self._give_up(request, failure):
            return
        # Work that was not tried, because somebody else has it or there was no room, has not failed once more.
        tried = not isinstance(failure, ClaimedElsewhere | Busy)
        later = request.again(since=now, attempt=request.attempt + tried)
        delay = deferral_delay(request.attempt, failure.retry_after, self._rng) if tried else failure.retry_after or 1.0
        await self._waiting.mark(request.name, delay)
        await self._queue.send(later, delay)
        logger.warning(
            "%s/%s: attempt %d put off for %.0f s: %s",
            request.container,
            request.name,
            request.attempt,
            delay,
            failure.message,
        )

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
        await self._waiting.clear(request.name)
        return True

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
            outcome = await self._analyzer.analyze(request, verdict)
            if outcome is Outcome.FAILED:
                logger.error("%s/%s: crashed, its deliveries are used up", request.container, request.name)
            await self._waiting.clear(request.name)


def _requests_in_poison(message: str) -> list[Request | Redrive]:
    """The work in a poison message: the host's own form for the blob trigger, or a request's."""
    try:
        content = json.loads(message)
        return [Request(container=content["ContainerName"], name=content["BlobName"])]
    except (ValueError, TypeError, KeyError, RecursionError):
        return parse_message(message)
