"""The door before the work itself: work that would only wait for its turn is not begun."""

import asyncio
from collections import deque
from dataclasses import dataclass

from pipeline.pacing.gate import Busy, Gate


@dataclass(slots=True, eq=False)
class _Comer:
    failed_before: bool
    let_in: asyncio.Future[None]


class Door:
    """The door of one lane. Work outside holds no more than a name."""

    def __init__(self, gate: Gate, most_inside: int) -> None:
        self._gate = gate
        self._most_inside = most_inside
        self._loop = asyncio.get_running_loop()
        self._outside: deque[_Comer] = deque()
        self._last_failed_before = True
        self._timer: asyncio.TimerHandle | None = None
        self._inside = 0
        """Pieces of work that have a place, whatever they do there."""
        gate.changed = self.open

    @property
    def outside(self) -> int:
        return len(self._outside)

    async def come_in(self, hold: float, *, failed_before: bool) -> None:
        """Wait, at most `hold` seconds, until it is worthwhile to begin.

        Work that has `failed_before` and other work take turns, so that a few images that always fail don't hold up the
        others; while calls fail one after the other, the other work goes first.

        Raises:
            Busy: it did not become worthwhile.
        """
        comer = _Comer(failed_before, self._loop.create_future())
        self._outside.append(comer)
        self.open()
        try:
            async with asyncio.timeout(hold):
                await comer.let_in
        except Busy:  # sent away
            raise
        except BaseException as error:
            if comer in self._outside:
                self._outside.remove(comer)
            elif not comer.let_in.cancelled():
                self.go_out()  # it was let in just now, and its caller is gone
            if not isinstance(error, TimeoutError):
                raise
            raise self._gate.busy() from None

    def take_in(self) -> None:
        """Give a place to work that came in by another lane's door."""
        self._inside += 1

    def go_out(self) -> None:
        self._inside -= 1
        self.open()

    def open(self) -> None:
        """Let in the work whose turn comes soon, and come back when the next one's does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        while self._outside and self._inside < self._most_inside:
            opens_at = self._gate.worth_beginning_at(max(0, self._inside - self._gate.in_flight))
            if opens_at > now:
                self._timer = self._loop.call_at(opens_at, self.open)
                break
            comer = self._next()
            self._outside.remove(comer)
            if not comer.let_in.done():
                self._inside += 1
                comer.let_in.set_result(None)
        while self._outside and self._gate.sends_away:
            comer = self._outside.popleft()
            if not comer.let_in.done():
                comer.let_in.set_exception(self._gate.busy())

    def _next(self) -> _Comer:
        failed_before = not (self._gate.failing or self._last_failed_before)
        comer = next((one for one in self._outside if one.failed_before == failed_before), self._outside[0])
        self._last_failed_before = comer.failed_before
        return comer
