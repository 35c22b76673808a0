"""Rates that the operator sets, above which work waits: tokens a day for the app, re-analyses an hour for an image.

What is above a rate has failed at nothing: it is no attempt, is not counted in RETRY_FOR_SECONDS, and the result that
is there stays until its turn comes.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4

from pipeline.errors import NotTried, RetryableFailure

logger = logging.getLogger(__name__)

SHARED_EVERY_SECONDS = 15.0
"""How often an instance tells the others what it has spent, and asks what they have. While the limit is not reached yet
by what it knows, all instances together may overshoot it by what they spend in this time, and by the calls that are
under way when it is reached."""
LONGEST_WAIT_SECONDS = 3600.0
"""How long work above a rate stays on its queue at a time: when a rate is raised, that is how soon it begins."""

HOUR = timedelta(hours=1)


class OverRate(NotTried):
    """The operator's rate is used up; `retry_after` is when it is free again."""


class OverDailyTokens(OverRate):
    """`TOKENS_PER_DAY`."""


class OverReanalyses(OverRate):
    """`REANALYSES_PER_HOUR`."""


class Spending(Protocol):
    """What all instances have spent; see `pipeline.storage.spending.Spending`."""

    async def write(self, day: str, instance: str, tokens: int, limit: int) -> None: ...
    async def total(self, day: str) -> tuple[int, int | None]: ...


class DailyTokens:
    """Tokens of a day in UTC, for all instances together. One per process.

    Args:
        limit: `TOKENS_PER_DAY`.
    """

    def __init__(self, limit: int, spending: Spending, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._limit = limit
        self._spending = spending
        self._now = now
        self._instance = uuid4().hex
        self._sharing = asyncio.Lock()
        self._day = ""
        self._own = 0
        """Spent by this instance."""
        self._all = 0
        """Spent by all of them, when they last shared."""
        self._shared_own = 0
        self._was_told = False
        self._share_at = datetime.min.replace(tzinfo=UTC)

    async def require_left(self) -> None:
        """Check whether the model may be asked. Two storage requests at most every `SHARED_EVERY_SECONDS`.

        Raises:
            OverDailyTokens: not before tomorrow.
        """
        if self._now() >= self._share_at:
            await self._share()
        elif self._is_used_up and self._own != self._shared_own and not self._was_told:
            self._was_told = True  # the others, and people, hear of it at once
            self._share_at = self._now()
            await self._share()
        if self._is_used_up:
            now = self._now()
            tomorrow = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
            raise OverDailyTokens(
                f"Today's {self._limit:,} tokens are spent (the operator's setting TOKENS_PER_DAY): it goes on at 00:00"
                " UTC.",
                retry_after=(tomorrow - now).total_seconds(),
            )

    @property
    def _is_used_up(self) -> bool:
        return self._all + self._own - self._shared_own >= self._limit

    def count(self, tokens: int) -> None:
        """Tokens have been spent."""
        self._own += tokens

    async def _share(self) -> None:
        async with self._sharing:
            now = self._now()
            if now < self._share_at:
                return
            if (day := f"{now:%Y-%m-%d}") != self._day:
                self._day, self._own, self._all, self._shared_own, self._was_told = day, 0, 0, 0, False
            try:
                own = self._own
                if own != self._shared_own:
                    await self._spending.write(day, self._instance, own, self._limit)
                self._all, _ = await self._spending.total(day)
                self._shared_own = own
            except RetryableFailure as failure:
                logger.warning("Today's tokens are not shared with other instances for now: %s", failure.message)
            midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
            self._share_at = min(now + timedelta(seconds=SHARED_EVERY_SECONDS), midnight)


@dataclass(frozen=True, slots=True)
class Reanalyses:
    """How often an image that has a result may be asked about again. The moments are kept in the result's metadata.

    Args:
        limit: `REANALYSES_PER_HOUR`; None: there is none, and no moments are kept.
    """

    limit: int | None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def require_left(self, moments: Sequence[datetime]) -> None:
        """Check whether the model may be asked, where it was asked again at these `moments`.

        Raises:
            OverReanalyses: not yet.
        """
        if self.limit is None:
            return
        recent = self._recent(moments)
        if len(recent) >= self.limit:
            free = recent[-self.limit] + HOUR
            raise OverReanalyses(
                f"This image was analyzed again {self.limit} times within an hour (the operator's setting"
                " REANALYSES_PER_HOUR): it goes on when the hour is over.",
                retry_after=max(1.0, (free - self.now()).total_seconds()),
            )

    def with_one_more(self, moments: Sequence[datetime]) -> tuple[datetime, ...]:
        """The moments to keep, once it was asked again just now."""
        if self.limit is None:
            return ()
        return (*self._recent(moments), self.now())[-self.limit :]

    def still(self, moments: Sequence[datetime]) -> tuple[datetime, ...]:
        """The moments to keep, where the model was not asked."""
        return tuple(self._recent(moments)) if self.limit is not None else ()

    def _recent(self, moments: Sequence[datetime]) -> list[datetime]:
        now = self.now()  # another instance's clock may be ahead
        return [min(moment, now) for moment in sorted(moments) if moment > now - HOUR]
