"""The governor: how many calls may be in flight and how quickly they follow each other, learnt from the service.

A quota is a rate: tokens a minute, whatever a call's latency. So the governor holds for each lane (a deployment
at a tier)

- a **pace** (`pace.py`), in cost a second, at which calls start evenly. It is unknown, and holds nothing back, until
  the service first throttles. From then on each success quickens it a little, the more the longer all goes well, and a
  throttling episode slows it once: a little, or, when far less was accepted than it allows, to what was accepted;
- a **pause** (`pauses.py`) for all callers, until the time the service named, or one that doubles while nothing is
  accepted;
- a **limit** (`gate.py`) on calls in flight, which opens by one with each success up to a fixed ceiling and halves when
  calls fail one after another for other reasons than throttling;
- a **door** (`door.py`) before the work itself: what would only wait for its turn is not begun. It waits outside and
  holds no more than a name, and the slot that it keeps at the host keeps the host from taking yet more off its queue.

Where the service says what is left of the quota, the pace slows before that runs out. Instances know nothing of each
other: each finds its share, since the one that calls more often is refused more often.

One event loop, no threads: state changes between awaits only. Times are the loop's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random, SystemRandom

from pipeline.pacing.door import Door
from pipeline.pacing.gate import Gate, Turn
from pipeline.pacing.lane import Lane


@dataclass(frozen=True, slots=True)
class GovernorState:
    """One lane at one moment, for metrics and for deciding whether to begin at all."""

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


@dataclass(frozen=True, slots=True)
class _Known:
    gate: Gate
    door: Door


@dataclass(slots=True)
class _Place:
    """The place of one piece of work, inside a door."""

    governor: "Governor"
    door: Door

    def move_to(self, door: Door) -> None:
        if door is not self.door:
            self.door.go_out()
            door.take_in()
            self.door = door


_place: ContextVar[_Place | None] = ContextVar("place", default=None)
"""Of the work that the current task does."""


class Governor:
    """One per process.

    Args:
        most_in_flight: calls in one lane under way at the same time.
        patience: seconds to wait for a turn; a caller that would wait longer gets `Busy` at once.
        rng: for the jitter.

    Settings say which deployments may be asked (`ALLOWED_DEPLOYMENTS`), so they are few.
    """

    def __init__(self, *, most_in_flight: int, patience: float, rng: Random | None = None) -> None:
        self._most_in_flight = most_in_flight
        self._patience = patience
        self._rng = rng or SystemRandom()
        self._lanes: dict[Lane, _Known] = {}

    @asynccontextmanager
    async def turn(self, lane: Lane, cost: float = 1.0) -> AsyncIterator[Turn]:
        """Wait for a turn to call in `lane`, first come, first served; the call is made inside.

            async with governor.turn(Lane("vision"), cost=5_000) as turn:
                response = await post(…)
                turn.succeeded(response.headers)

        Work that came in by another lane's door moves over: there nobody waits for its turn.

        Args:
            lane: each has a pace of its own.
            cost: what the call counts against the quota, as near as the caller knows, in a unit that is always the
                same: its tokens, or 1 where all calls are alike.

        Raises:
            Busy: the wait would be longer than the governor's patience, or has become so.
        """
        known = self._used(lane)
        if (place := _place.get()) and place.governor is self:
            place.move_to(known.door)
        gate = known.gate
        turn = await gate.enter(cost)
        try:
            yield turn
        finally:
            gate.leave()

    @asynccontextmanager
    async def door(self, lane: Lane, hold: float, *, failed_before: bool = False) -> AsyncIterator[None]:
        """Wait, at most `hold` seconds, until it is worthwhile to begin work that will call in `lane`.

        First come, first served, but work that has `failed_before` and other work take turns; while calls fail one
        after the other, the other work goes first. Where a few images fail each time, one that is answered ends the
        pause for all.

        A caller that gets no place also waits the full `hold`: refusing it at once would spin the backlog between
        queue and app.

            async with governor.door(Lane("vision"), hold=300):
                image = await download(…)
                async with governor.turn(Lane("vision"), cost=5_000) as turn: …

        Raises:
            Busy: no place came free.
        """
        place = _Place(self, self._used(lane).door)
        await place.door.come_in(hold, failed_before=failed_before)
        _place.set(place)
        try:
            yield
        finally:
            _place.set(None)
            place.door.go_out()

    def answers(self, lane: Lane) -> bool:
        """Whether any call to it succeeded in the last hour: a call that is refused then is only one too many."""
        known = self._lanes.get(lane)
        return known is not None and known.gate.answers

    def answered_since(self, lane: Lane, moment: float) -> bool:
        """Whether a call to it succeeded since `moment`, by the event loop's clock."""
        known = self._lanes.get(lane)
        return known is not None and known.gate.succeeded_at is not None and known.gate.succeeded_at >= moment

    def refusing(self, lane: Lane) -> bool:
        """Whether it has throttled, and answered nothing since."""
        known = self._lanes.get(lane)
        return known is not None and known.gate.refusing

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those it knows something about."""
        return tuple(self._lanes)

    def state(self, lane: Lane) -> GovernorState:
        known = self._lanes.get(lane) or self._new(lane)
        gate = known.gate
        return GovernorState(
            limit=gate.limit,
            in_flight=gate.in_flight,
            waiting=gate.waiting + known.door.outside,
            pace=gate.pace,
            paused_for=gate.paused_for,
            wait=gate.wait(),
        )

    def _used(self, lane: Lane) -> _Known:
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = self._new(lane)
        return known

    def _new(self, lane: Lane) -> _Known:
        gate = Gate(lane, self._most_in_flight, self._patience, self._rng)
        return _Known(gate, Door(gate, self._most_in_flight))
