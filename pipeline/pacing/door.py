"""The door before the work itself: work that would only wait for its turn is not begun."""

import asyncio
from collections import deque

from pipeline.pacing.gate import Gate


class Door:
    """The door of one deployment. Work outside holds no more than a name."""

    def __init__(self, gate: Gate, most_inside: int) -> None:
        self._gate = gate
        self._most_inside = most_inside
        self._loop = asyncio.get_running_loop()
        self._outside: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._inside = 0
        """Pieces of work that came in, whatever they do there."""
        gate.changed = self.open

    @property
    def outside(self) -> int:
        return len(self._outside)

    @property
    def idle(self) -> bool:
        return not (self._inside or self._outside)

    async def come_in(self, hold: float) -> None:
        """Wait, at most `hold` seconds, until it is worthwhile to begin.

        Raises:
            Busy: it did not become worthwhile.
        """
        comer = self._loop.create_future()
        self._outside.append(comer)
        self.open()
        if comer.done():
            return
        try:
            async with asyncio.timeout(hold):
                await comer
        except BaseException as error:
            if comer in self._outside:
                self._outside.remove(comer)
            elif not comer.cancelled():
                self.go_out()  # it was let in just now, and its caller is gone
            if not isinstance(error, TimeoutError):
                raise
            raise self._gate.busy() from None

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
                return
            comer = self._outside.popleft()
            if not comer.done():
                self._inside += 1
                comer.set_result(None)
