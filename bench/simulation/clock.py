"""Virtual time: unchanged asyncio code on a clock that jumps to the next event.

Of the libraries for this, async-solipsism is under the GPL, and looptime's plugin patches every event loop of a pytest
run, real sockets and all; so these few lines replace them.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from random import Random
from typing import Any


class JumpingClock(selectors.DefaultSelector):
    """A selector that advances the clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            self.now += max(timeout, 0.0)
            return []
        ready = super().select(0)
        assert ready, "all tasks wait, and no event is scheduled"  # noqa: S101 - for the simulation's author
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0."""

    def __init__(self) -> None:
        self._clock = JumpingClock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def virtually[T](main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - nothing secret, and the same every time


def now() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time()
