"""How the command line runs coroutines: Ctrl-C says that it stopped, and nothing else, whenever it comes."""

import asyncio
import gc
import signal
import socket
import sys

import pytest

from blobsight.running import run


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_it_returns_what_the_coroutine_does() -> None:
    assert run(answer()) == 42


@pytest.mark.skipif(sys.platform == "win32", reason="a signal arrives otherwise there")
def test_ctrl_c_while_the_event_loop_is_made_leaves_nothing_that_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a loop nor a coroutine that was never awaited: a warning of either fails a test."""
    socketpair, interrupted = socket.socketpair, []

    def interrupt() -> tuple[socket.socket, socket.socket]:
        interrupted.append(True)
        signal.raise_signal(signal.SIGINT)
        return socketpair()

    monkeypatch.setattr(socket, "socketpair", interrupt)  # what a loop wakes itself with
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(answer())
    gc.collect()
    assert interrupted
    assert signal.getsignal(signal.SIGINT) is handler
