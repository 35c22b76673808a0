"""How many model calls may be under way, and how quickly they may follow each other, learnt from what the service says.

A quota is a rate: tokens a minute, whatever a call's latency. So the governor holds for each deployment

- a **pace**, in cost a second, at which calls start evenly. It is unknown, and holds nobody back, until the service
  first throttles. From then on each success quickens it a little, the more the longer all goes well, and a
  throttling episode slows it once: a little, or, when far less was accepted than it allows, to that;
- a **pause** for all callers, until the time the service named, or one that doubles while nothing is accepted;
- a **limit** on calls in flight, which opens by one with each success up to a fixed ceiling and halves when calls fail
  one after another for other reasons than throttling;
- a **door** before the work itself: what would only wait for its turn is not begun. It waits outside and holds no more
  than a name, and the place that it keeps at the host keeps the host from taking yet more off its queue.

Where the service tells what is left of the quota, the pace slows before that runs out. Instances know nothing of each
other: each finds its share, since the one that calls more often is refused more often.

One event loop, no threads: state changes between awaits only. Times are the loop's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random, SystemRandom

from pipeline.errors import NotTried
from pipeline.retrying import LONGEST_ASKED_WAIT, asked_wait

# The numbers were chosen by the simulation in tests/test_governor.py. What they trade: while the pace hovers around the
# quota, an instance has about QUICKER / (1 - SLOWER) = 3 % of its calls refused, however many instances there are and
# however large the quota is; half of that would take twice as long to notice that the quota grew.
QUICKER = 0.001
"""Part of itself by which a success quickens the pace right after throttling, …"""
CALM = 15
"""… twice that after as many successes since, five times after twice as many, …"""
QUICKEST = 0.01
"""… and never by more than this part in a second: answers tell of the quota when their calls began, seconds ago."""
SLOWER = 0.97
"""Part of the pace that throttling leaves; but when less than …"""
NEAR = 0.8
"""… of it was accepted, it was far from right and falls to what was accepted, at most to …"""
SLOWEST = 0.5
"""… of itself."""
MEASURED_OVER = 15.0
"""Seconds that tell what is accepted. Azure counts in windows of up to ten."""
LONGEST_STEP = 60.0
"""Seconds between two starts at the slowest pace."""
RESERVE = 0.25
"""Part of the quota; when less is left the pace slows before the service refuses."""
PLENTY = 0.75
"""Part of the quota; while more is left, others have stopped calling or it has grown, and each success quickens the
pace as much as QUICKEST allows. An instance with a call in ten seconds would need a quarter of an hour to find out."""
SMOOTHING = 0.1
"""Weight of the newest word on what is left: a quota counted in windows is always low at their ends."""

AHEAD = 10.0
"""Seconds of calls that are made ready in advance: to open an image takes a fraction of one, to convert it a few."""

COLD_PART = 16
"""Of the most calls in flight, what a cold instance begins with; each round of successes doubles it. Dozens of them may
start at once, and the quota so small that there is a call a minute for each."""
FIRST_PAUSE = 0.75
"""Seconds to pause when throttled without a named time; doubled each time in a row."""
PATIENT_REFUSALS = 3
"""Refusals in a row after which the service's own time is no longer believed when ours is longer."""
SPREAD = 0.1
"""Part of a pause that is added at random, so that instances don't come back together."""
FAILURES_IN_A_ROW = 5
"""Failures other than throttling that look like an outage rather than bad luck."""
LIVELY = 3600.0
"""Seconds for which a success says that the deployment answers."""
MOST_DEPLOYMENTS = 64
"""Instruction files may name any deployment; beyond this many the one unused for longest is forgotten."""


class Busy(NotTried):
    """A turn would come too late to wait for it here; `retry_after` says in how many seconds it may come."""


@dataclass(frozen=True, slots=True)
class GovernorState:
    """One deployment at one moment, for metrics and for deciding whether to begin at all."""

    limit: int
    in_flight: int
    waiting: int
    """For a turn, or outside the door."""
    pace: float | None
    """Cost a second; None until the service first throttles."""
    paused_for: float
    """Seconds."""
    wait: float
    """Seconds that one more call would wait, estimated. Beyond the governor's patience its turn is refused."""


class Governor:
    """One per process.

    Args:
        most_in_flight: calls to one deployment under way at the same time.
        patience: seconds to wait for a turn; whoever would wait longer gets `Busy` at once.
        rng: for the jitter.
    """

    def __init__(self, *, most_in_flight: int, patience: float, rng: Random | None = None) -> None:
        self._most_in_flight = most_in_flight
        self._patience = patience
        self._rng = rng or SystemRandom()
        self._gates: OrderedDict[str, _Gate] = OrderedDict()

    @asynccontextmanager
    async def turn(self, deployment: str, cost: float = 1.0) -> "AsyncIterator[Turn]":
        """Wait until it is one's turn to call `deployment`, first come, first served; the call is made inside.

            async with governor.turn("vision", cost=5_000) as turn:
                response = await post(…)
                turn.succeeded(response.headers)

        Args:
            deployment: each has a quota of its own.
            cost: what the call counts against the quota, as near as one knows, in a unit that is always the same:
                its tokens, or 1 where all calls are alike.

        Raises:
            Busy: the wait would be longer than the governor's patience, or has become so.
        """
        gate = self._gate(deployment)
        turn = await gate.enter(cost)
        try:
            yield turn
        finally:
            gate.leave()

    @asynccontextmanager
    async def room(self, deployment: str, hold: float) -> AsyncIterator[None]:
        """Wait, at most `hold` seconds, until it is worth while to begin work that will call `deployment`.

        Whoever is in vain waits all that time, too: sent away at once, a backlog would go round between queue and
        app as quickly as both can.

            async with governor.room("vision", hold=300):
                image = await download(…)
                async with governor.turn("vision", cost=5_000) as turn: …

        Raises:
            Busy: there was no room.
        """
        gate = self._gate(deployment)
        await gate.come_in(hold)
        try:
            yield
        finally:
            gate.go_out()

    def answers(self, deployment: str) -> bool:
        """Whether any call to it succeeded lately: who is refused then only lacks room."""
        gate = self._gates.get(deployment)
        return gate is not None and gate.answers

    def answered_since(self, deployment: str, moment: float) -> bool:
        """Whether a call to it succeeded since `moment`, by the event loop's clock."""
        gate = self._gates.get(deployment)
        return gate is not None and gate.succeeded_at is not None and gate.succeeded_at >= moment

    @property
    def deployments(self) -> tuple[str, ...]:
        """Those it knows something about."""
        return tuple(self._gates)

    def state(self, deployment: str) -> GovernorState:
        return (self._gates.get(deployment) or self._new_gate(deployment)).state()

    def _gate(self, deployment: str) -> "_Gate":
        gate = self._gates.get(deployment) or self._new_gate(deployment)
        self._gates[deployment] = gate
        self._gates.move_to_end(deployment)
        if len(self._gates) > MOST_DEPLOYMENTS:
            # Those in use are as few as the calls that the process holds.
            forgotten = next((name for name, other in self._gates.items() if other.idle and other is not gate), None)
            if forgotten is not None:
                del self._gates[forgotten]
        return gate

    def _new_gate(self, deployment: str) -> "_Gate":
        return _Gate(deployment, self._most_in_flight, self._patience, self._rng)


@dataclass(slots=True, eq=False)
class Turn:
    """A call under way. Report what the service said; a call that ends without a report (cancelled) says nothing.

    Headers are case-insensitive, or in lower case.
    """

    gate: "_Gate" = field(repr=False)
    cost: float
    started: float
    paced: bool
    """Whether it was the pace that held the call back: only then its success says that the pace may quicken."""

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """The service did its part: an answer, a refusal by its content filter, a request that it rejects for good."""
        self.gate.succeeded(self, headers)

    def throttled(self, headers: Mapping[str, str]) -> None:
        """The service wants fewer calls: 429, or any error with a time to stay away for."""
        self.gate.throttled(self, headers)

    def failed(self) -> None:
        """The service was of no use for another reason: an error, a time-out, a broken connection."""
        self.gate.failed(self)


@dataclass(slots=True, eq=False)
class _Waiter:
    cost: float
    entered: float
    granted: asyncio.Future[Turn]
    paced: bool = False


class _Gate:
    """One deployment: who waits, how many are inside, and until when it is closed."""

    def __init__(self, deployment: str, most_in_flight: int, patience: float, rng: Random) -> None:
        self._deployment = deployment
        self._most_in_flight = most_in_flight
        self._patience = patience
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._outside: deque[asyncio.Future[None]] = deque()
        self._door_timer: asyncio.TimerHandle | None = None
        self._inside = 0
        """Those who came through the door, whatever they do there."""
        self._in_flight = 0
        self._limit = float(min(most_in_flight, max(2, most_in_flight // COLD_PART)))
        self._latency = 0.0
        """Seconds that a success takes, smoothed."""
        self._cost = 0.0
        """Of a call, smoothed."""
        self._pace = _Pace(self._loop.time())
        self._resume_at = 0.0
        self._episode_at = -1.0
        """When it last closed. What befell calls that had started before belongs to the same episode."""
        self._refused_in_a_row = 0
        self._failed_in_a_row = 0
        self.succeeded_at: float | None = None
        """By the event loop's clock; None: never."""

    @property
    def answers(self) -> bool:
        return self.succeeded_at is not None and self._loop.time() - self.succeeded_at < LIVELY

    @property
    def idle(self) -> bool:
        return not (self._in_flight or self._waiting or self._inside or self._outside)

    def state(self) -> GovernorState:
        now = self._loop.time()
        return GovernorState(
            limit=int(self._limit),
            in_flight=self._in_flight,
            waiting=len(self._waiting) + len(self._outside),
            pace=self._pace.current,
            paused_for=max(0.0, self._resume_at - now),
            wait=self._wait(now),
        )

    async def come_in(self, hold: float) -> None:
        comer = self._loop.create_future()
        self._outside.append(comer)
        self._open_door()
        if comer.done():
            return
        try:
            async with asyncio.timeout(hold):
                await comer
        except BaseException as error:
            if comer in self._outside:
                self._outside.remove(comer)
            elif not comer.cancelled():
                self.go_out()  # let in just now, and nobody comes any more
            if not isinstance(error, TimeoutError):
                raise
            raise self._busy(self._loop.time()) from None

    def go_out(self) -> None:
        self._inside -= 1
        self._open_door()

    def _open_door(self) -> None:
        """Let in those whose turn comes soon."""
        if self._door_timer is not None:
            self._door_timer.cancel()
            self._door_timer = None
        now = self._loop.time()
        while self._outside and self._inside < self._most_in_flight:
            ahead = max(0, self._inside - self._in_flight)
            turn_at = max(now, self._pace.next_start) + ahead * self._step()
            opens_at = max(self._resume_at, turn_at - AHEAD)
            if opens_at > now:
                self._door_timer = self._loop.call_at(opens_at, self._open_door)
                return
            comer = self._outside.popleft()
            if not comer.done():
                self._inside += 1
                comer.set_result(None)

    def _step(self) -> float:
        """Seconds between two calls' starts, as far as one knows."""
        by_limit = (self._latency or AHEAD) / self._limit
        if (pace := self._pace.current) is None:
            return by_limit
        return max(by_limit, min(self._cost / pace, LONGEST_STEP))

    async def enter(self, cost: float) -> Turn:
        now = self._loop.time()
        self._cost += (cost - self._cost) / (10 if self._cost else 1)
        if self._wait(now) > self._patience:
            raise self._busy(now)
        waiter = _Waiter(cost, now, self._loop.create_future())
        self._waiting.append(waiter)
        self._advance()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._advance()
            elif not waiter.granted.cancelled() and not waiter.granted.exception():
                self.leave()  # the turn came, but nobody is there any more to take it
            raise

    def leave(self) -> None:
        self._in_flight -= 1
        self._advance()

    def succeeded(self, turn: Turn, headers: Mapping[str, str]) -> None:
        now = self._loop.time()
        self._latency += (now - turn.started - self._latency) / (10 if self._latency else 1)
        self._refused_in_a_row = self._failed_in_a_row = 0
        self.succeeded_at = now
        self._limit = min(self._limit + 1, float(self._most_in_flight))
        self._pace.look_at(_part_left(headers), turn, now)
        if turn.paced and turn.started > self._episode_at:
            self._pace.quicken(turn)
        self._advance()

    def throttled(self, turn: Turn, headers: Mapping[str, str]) -> None:
        now = self._loop.time()
        wait = asked_wait(headers)
        self._pace.refused(turn)
        if turn.started > self._episode_at:
            self._episode_at = now
            self._pace.slow(now)
            if self._pace.current is None:
                self._limit = max(1.0, self._limit / 2)
            if wait is None or self._refused_in_a_row >= PATIENT_REFUSALS:
                wait = max(wait or 0.0, _growing_pause(self._refused_in_a_row))
            self._refused_in_a_row += 1
        self._pause(now, wait or 0.0)

    def failed(self, turn: Turn) -> None:
        if turn.started <= self._episode_at:
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            self._episode_at = now = self._loop.time()
            self._limit = max(1.0, self._limit / 2)
            self._pause(now, _growing_pause(self._failed_in_a_row - FAILURES_IN_A_ROW))

    def _pause(self, now: float, seconds: float) -> None:
        self._resume_at = max(self._resume_at, now + seconds * self._rng.uniform(1.0, 1.0 + SPREAD))
        # They came in order, so those who can wait that long are all behind those who cannot.
        while self._waiting and self._waiting[0].entered + self._patience < self._resume_at:
            self._send_away(self._waiting.popleft(), now)
        self._advance()

    def _advance(self) -> None:
        """Let in whoever may start now, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        self._let_in_order(now)
        self._open_door()

    def _let_in_order(self, now: float) -> None:
        while self._waiting:
            head = self._waiting[0]
            deadline = head.entered + self._patience
            ready = max(self._pace.next_start, self._resume_at)
            if head.granted.done():  # cancelled just now
                self._waiting.popleft()
            elif ready <= now and self._in_flight < int(self._limit):
                self._waiting.popleft()
                self._let_in(head, now)
            elif deadline <= now:
                self._waiting.popleft()
                self._send_away(head, now)
            else:
                head.paced = self._pace.next_start > now and self._in_flight < int(self._limit)
                self._timer = self._loop.call_at(min(ready, deadline) if ready > now else deadline, self._advance)
                return

    def _let_in(self, waiter: _Waiter, now: float) -> None:
        if not self._in_flight and waiter.entered == now:
            self._pace.measure_from(now)  # nobody asked for a while, which tells nothing about the quota
        self._pace.started(waiter.cost, now)
        self._in_flight += 1
        if self._refused_in_a_row:
            # Until something is accepted again: not all those who waited for the end of a pause at once.
            self._resume_at = max(self._resume_at, now + self._rng.uniform(0.0, FIRST_PAUSE))
        waiter.granted.set_result(Turn(self, waiter.cost, now, waiter.paced))

    def _send_away(self, waiter: _Waiter, now: float) -> None:
        if not waiter.granted.done():
            waiter.granted.set_exception(self._busy(now))

    def _wait(self, now: float) -> float:
        """Seconds that one more call would wait."""
        wait = max(0.0, self._resume_at - now)
        if (pace := self._pace.current) is not None:
            wait = max(wait, self._pace.next_start - now) + sum(
                min(waiter.cost / pace, LONGEST_STEP) for waiter in self._waiting
            )
        if self._in_flight + len(self._waiting) >= int(self._limit):
            wait = max(wait, (len(self._waiting) + 1) * self._latency / self._limit)
        return wait

    def _busy(self, now: float) -> Busy:
        wait = max(self._wait(now), 1.0)
        return Busy(
            f"The deployment '{self._deployment}' is at its limit; a turn may come in {wait:.0f} seconds.",
            retry_after=wait,
        )


class _Pace:
    """The pace of one deployment's calls, and what was learnt about it. Pure: it is told the time."""

    def __init__(self, now: float) -> None:
        self.next_start = now
        self._rate: float | None = None
        self._since = now
        self._accepted = 0.0
        """Cost that was started, and not refused, since then."""
        self._calm = 0
        """Paced successes since the last throttling."""
        self._left: float | None = None
        """Part of the quota, smoothed."""
        self._left_at = now

    @property
    def current(self) -> float | None:
        """Cost a second; None while unknown."""
        if self._rate is None or self._left is None:
            return self._rate
        return self._rate * min(1.0, max(0.1, self._left / RESERVE))

    def started(self, cost: float, now: float) -> None:
        self._accepted += cost
        if (pace := self.current) is not None:
            self.next_start = max(now, self.next_start) + min(cost / pace, LONGEST_STEP)

    def refused(self, turn: Turn) -> None:
        self._accepted -= turn.cost

    def quicken(self, turn: Turn) -> None:
        if self._rate is None:
            return
        most = QUICKEST * turn.cost / self._rate
        if self._left is not None and self._left < RESERVE:
            self._calm = 0
            self._rate *= 1 - most * (1 - self._left / RESERVE)
        else:
            self._calm += 1
            plenty = self._left is not None and self._left > PLENTY
            self._rate *= 1 + (most if plenty else min(QUICKER * (1 + (self._calm / CALM) ** 2), most))

    def slow(self, now: float) -> None:
        self._calm = 0
        elapsed, accepted = now - self._since, self._accepted_rate(now)
        if self._rate is None:
            self._begin(now)
        elif elapsed > MEASURED_OVER and 0 < accepted < NEAR * self._rate:
            self._rate = max(accepted, SLOWEST * self._rate)
        elif accepted > 0:  # when nothing is accepted it is no matter of pace: the pauses grow instead
            self._rate *= SLOWER
        if elapsed > MEASURED_OVER:
            self.measure_from(now)

    def look_at(self, left: float | None, turn: Turn, now: float) -> None:
        """Note what was left of the quota when the call arrived. Answers overtake each other: old news is ignored."""
        if left is None or turn.started < self._left_at:
            return
        self._left_at = turn.started
        self._left = left if self._left is None else self._left + (left - self._left) * SMOOTHING
        if self._left < RESERVE and self._rate is None:
            self._begin(now)

    def measure_from(self, now: float) -> None:
        self._since, self._accepted = now, 0.0

    def _begin(self, now: float) -> None:
        """Stays unknown where nothing was accepted yet."""
        self._rate = self._accepted_rate(now) or None

    def _accepted_rate(self, now: float) -> float:
        return max(self._accepted, 0.0) / max(now - self._since, 1.0)


def _growing_pause(times_before: int) -> float:
    return min(FIRST_PAUSE * 2.0 ** min(times_before, 30), LONGEST_ASKED_WAIT)


def _part_left(headers: Mapping[str, str]) -> float | None:
    """Part of the quota that is left, of its tokens or its requests, whichever is less; None where it is not told."""
    parts: list[float] = []
    for of in ("tokens", "requests"):
        try:
            limit, left = (float(headers[f"x-ratelimit-{what}-{of}"]) for what in ("limit", "remaining"))
        except (KeyError, ValueError):
            continue
        if limit > 0 and 0 <= left <= limit:
            parts.append(left / limit)
    return min(parts, default=None)
