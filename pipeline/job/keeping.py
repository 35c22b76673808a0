"""Keeping what was paid for and can't be written, or is about to be replaced: the same question may come again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.errors import AnswerKept, RetryableFailure
from pipeline.one_line import one_line
from pipeline.result import MOST_REUSED_BYTES, Result, result_in
from pipeline.storage.facts import Claim, StoredResult
from pipeline.telemetry import count_lost_answer

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
"""Seconds between two tries to write an answer while the whole account is away; doubled each time."""
LONGEST_PAUSE = 30.0
"""Seconds."""


class Keeper:
    """Keeps what one run has paid for, in the run's claim.

    Args:
        target: the name of the result that it was meant for.
    """

    def __init__(self, claim: Claim, target: str) -> None:
        self._claim = claim
        self._target = target
        self._pause = FIRST_PAUSE

    async def keep(self, result: Result) -> None:
        """Keep what was paid and has no use now: the same bytes may come again, or the question be asked once more."""
        if not result.paid:
            return
        try:
            await self._claim.keep(result.to_json())
        except RetryableFailure as failure:
            count_lost_answer()
            logger.warning("%s: an answer that was paid for is lost: %s", one_line(self._target), failure.message)

    async def keep_or_wait(self, result: Result, failure: RetryableFailure) -> None:
        """Keep an answer that can't be delivered because of `failure`; wait when that is not possible either.

        Raises:
            AnswerKept: it is kept.
        """
        try:
            await self._claim.keep(result.to_json())
        except RetryableFailure as another:
            logger.warning(
                "%s: %s Nor can the answer be kept: %s", one_line(self._target), failure.message, another.message
            )
        else:
            raise AnswerKept(failure.message, status=failure.status) from failure
        try:
            await asyncio.sleep(self._pause)
        except asyncio.CancelledError:
            count_lost_answer()
            logger.error(  # noqa: TRY400 - the traceback of a cancellation says nothing
                "%s: an answer that was paid for could not be stored anywhere and is lost", one_line(self._target)
            )
            raise
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class Results(Protocol):
    """See `pipeline.storage.results.Results`."""

    async def read(self, name: str) -> bytes | None: ...


async def keep_replaced(
    results: Results, keep_for: Callable[[str, bytes], Awaitable[None]], name: str, stored: StoredResult
) -> None:
    """Keep what was paid for the result `name`, `stored` there for now, under its own content key.

    Two storage requests; none where it was not paid, or where its metadata have lost the key.

    Raises:
        RetryableFailure: it can't be read or kept now.
    """
    key = stored.facts.content_key
    if key is None or not stored.facts.paid or stored.size > MOST_REUSED_BYTES:
        return
    body = await results.read(name)
    if body is None:
        return
    found = result_in(body)
    if found is not None and found.work_key == stored.facts.work_key:  # or another run has just replaced it
        await keep_for(key, body)
