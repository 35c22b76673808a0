"""Coroutines, run to their end or to Ctrl-C."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Do what `asyncio.run` does, and end in KeyboardInterrupt alone if Ctrl-C is pressed while it begins, too."""
    try:
        return asyncio.run(main, loop_factory=_new_loop)
    finally:
        main.close()  # Python complains on stderr of one that has not begun


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop. An interrupt in the middle would leave half of one, which complains when it is collected."""
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        loop = asyncio.new_event_loop()
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        loop.close()
        raise KeyboardInterrupt
    return loop
