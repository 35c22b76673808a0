"""The gate of one lane: which calls wait, how many are in flight, and until when it is closed."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from pipeline.errors import NotTried
from pipeline.pacing.lane import Lane
from pipeline.pacing.pace import LONGEST_STEP, Average, Pace
from pipeline.pacing.pauses import Pauses
from pipeline.pacing.waits import asked_wait

AHEAD = 10.0
"""Seconds of calls that are made ready in advance: to open an image takes a fraction of one, to convert it a few."""
COLD_PART = 16
"""A cold instance begins with the most calls in flight divided by this; each round of successes doubles it. Dozens of
instances may start at once, with a quota of a call a minute for each."""
LIVELY = 3600.0
"""Seconds for which a success says that the deployment answers."""


class Busy(NotTried):
    """A turn would come too late to wait for it here; `retry_after` says in how many seconds it may come."""


@dataclass(slots=True, eq=False)
class Turn:
    """A call under way. Report what the service said; a call that ends without a report (cancelled) says nothing.

    Headers are case-insensitive, or in lower case.
    """

    gate: "Gate" = field(repr=False)
    cost: float
    started: float
    paced: bool
    """Whether it was the pace that held the call back: only then its success says that the pace may quicken."""

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """The service did its part: an answer, a refusal by its content filter, a request that it rejects for good."""
        self.gate.succeeded(self, headers)

    def throttled(self, headers: Mapping[str, str], cause: str = "") -> None:
        """The service wants fewer calls: 429, or any error with a time to stay away for. `cause` is its sentence."""
        self.gate.throttled(self, headers, cause)

    def failed(self, cause: str = "") -> None:
        """The service was of no use for another reason: an error, a time-out, a broken connection."""
        self.gate.failed(self, cause)


@dataclass(slots=True, eq=False)
class _Waiter:
    cost: float
    entered: float
    granted: asyncio.Future[Turn]
    paced: bool = False


class Gate:
    """Grants turns to call in one lane, first come, first served.

    `changed` is called whenever a turn may come sooner or later than was thought.
    """

    def __init__(self, lane: Lane, most_in_flight: int, patience: float, rng: Random) -> None:
        self._lane = lane
        self._most_in_flight = most_in_flight
        self._most_patience = patience
        self._loop = asyncio.get_running_loop()
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._limit = float(min(most_in_flight, max(2, most_in_flight // COLD_PART)))
        self._latency = Average()
        """Seconds that a success takes."""
        self._cost = Average()
        """Of a call."""
        self._pace = Pace(self._loop.time())
        self._pauses = Pauses(rng)
        self.in_flight = 0
        self.succeeded_at: float | None = None
        """By the event loop's clock; None: never."""
        self.changed: Callable[[], None] = lambda: None

    @property
    def answers(self) -> bool:
        return self.succeeded_at is not None and self._loop.time() - self.succeeded_at < LIVELY

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def pace(self) -> float | None:
        """Cost a second; None until the service first throttles."""
        return self._pace.current

    @property
    def paused_for(self) -> float:
        """Seconds."""
        return max(0.0, self._pauses.end_at - self._loop.time())

    @property
    def refusing(self) -> bool:
        """Whether it has throttled, and answered nothing since."""
        return self._pauses.refusing

    @property
    def _patience(self) -> float:
        """Seconds that a caller may wait here, with an image in its hand."""
        return 0.0 if self.sends_away else self._most_patience

    @property
    def sends_away(self) -> bool:
        """Whether no caller may wait here: a lane without capacity would fill the instance with them."""
        return self._lane.lacks_capacity and self.refusing

    @property
    def failing(self) -> bool:
        """Whether calls fail one after the other."""
        return self._pauses.failing

    def wait(self) -> float:
        """Seconds that one more call would wait."""
        wait = self.paused_for
        if (pace := self.pace) is not None:
            wait = max(wait, self._pace.next_start - self._loop.time()) + sum(
                min(waiter.cost / pace, LONGEST_STEP) for waiter in self._waiters
            )
        if self.in_flight + self.waiting >= self.limit:
            wait = max(wait, (self.waiting + 1) * (self._latency.value or 0.0) / self._limit)
        return wait

    def worth_beginning_at(self, ahead: int) -> float:
        """When to begin work whose call comes after those of `ahead` others, which were begun and don't wait yet."""
        by_limit = (self._latency.value or AHEAD) / self._limit
        pace = self.pace
        step = by_limit if pace is None else max(by_limit, min((self._cost.value or 0.0) / pace, LONGEST_STEP))
        turn_at = max(self._loop.time(), self._pace.next_start) + ahead * step
        return max(self._pauses.end_at, turn_at - AHEAD)

    def busy(self) -> Busy:
        wait, cause = max(self.wait(), 1.0), self._pauses.cause
        return Busy(
            f"{self._lane} is at its limit; a turn may come in {wait:.0f} seconds."
            + (f" Its last call failed: {cause}" if cause else ""),
            retry_after=wait,
        )

    async def enter(self, cost: float) -> Turn:
        """Wait for a turn.

        Raises:
            Busy: the wait would be longer than the gate's patience, or has become so.
        """
        self._cost.add(cost)
        if self.wait() > self._patience:
            raise self.busy()
        waiter = _Waiter(cost, self._loop.time(), self._loop.create_future())
        self._waiters.append(waiter)
        self._advance()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._advance()
            elif not waiter.granted.cancelled() and not waiter.granted.exception():
                self.leave()  # the turn came, and its caller is gone
            raise

    def leave(self) -> None:
        self.in_flight -= 1
        self._advance()

    def succeeded(self, turn: Turn, headers: Mapping[str, str]) -> None:
        now = self._loop.time()
        self._latency.add(now - turn.started)
        self._pauses.succeeded()
        self.succeeded_at = now
        self._limit = min(self._limit + 1, float(self._most_in_flight))
        self._pace.note_left(_part_left(headers), turn.started, now)
        if turn.paced and self._pauses.is_over(turn.started):
            self._pace.quicken(turn.cost)
        self._advance()

    def throttled(self, turn: Turn, headers: Mapping[str, str], cause: str) -> None:
        now = self._loop.time()
        self._pace.refused(turn.cost)
        if self._pauses.throttled(turn.started, now, asked_wait(headers), cause):
            self._pace.slow(now)
            if self.pace is None:
                self._limit = max(1.0, self._limit / 2)
        self._pause()

    def failed(self, turn: Turn, cause: str) -> None:
        if self._pauses.failed(turn.started, self._loop.time(), cause):
            self._limit = max(1.0, self._limit / 2)
            self._pause()

    def _pause(self) -> None:
        # They came in order, so those who can wait that long are all behind those who cannot.
        while self._waiters and self._waiters[0].entered + self._patience < self._pauses.end_at:
            self._send_away(self._waiters.popleft())
        self._advance()

    def _advance(self) -> None:
        """Grant the turns that may start now, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._grant(self._loop.time())
        self.changed()

    def _grant(self, now: float) -> None:
        while self._waiters:
            head = self._waiters[0]
            deadline = head.entered + self._patience
            ready = max(self._pace.next_start, self._pauses.end_at)
            if head.granted.done():  # cancelled just now
                self._waiters.popleft()
            elif ready <= now and self.in_flight < self.limit:
                self._waiters.popleft()
                self._start(head, now)
            elif deadline <= now:
                self._waiters.popleft()
                self._send_away(head)
            else:
                head.paced = self._pace.next_start > now and self.in_flight < self.limit
                self._timer = self._loop.call_at(min(ready, deadline) if ready > now else deadline, self._advance)
                return

    def _start(self, waiter: _Waiter, now: float) -> None:
        if not self.in_flight and waiter.entered == now:
            self._pace.measure_from(now)  # there were no calls for a while, which says nothing about the quota
        self._pace.started(waiter.cost, now)
        self.in_flight += 1
        self._pauses.started(now)
        waiter.granted.set_result(Turn(self, waiter.cost, now, waiter.paced))

    def _send_away(self, waiter: _Waiter) -> None:
        if not waiter.granted.done():
            waiter.granted.set_exception(self.busy())


def _part_left(headers: Mapping[str, str]) -> float | None:
    """Part of the quota that is left, of its tokens or its requests, whichever is less; None where it is not said."""
    parts: list[float] = []
    for of in ("tokens", "requests"):
        try:
            limit, left = (float(headers[f"x-ratelimit-{what}-{of}"]) for what in ("limit", "remaining"))
        except (KeyError, ValueError):
            continue
        if limit > 0 and 0 <= left <= limit:
            parts.append(left / limit)
    return min(parts, default=None)
