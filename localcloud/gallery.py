"""`blobsight gallery` and other commands of the people's tool, run as a person would run them."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from localcloud.guardian import GUARDED

START_SECONDS = 30
STOP_SECONDS = 5


@asynccontextmanager
async def gallery(*options: str, log: Path) -> AsyncIterator[str | None]:
    """Run the gallery while the context is open. Yields its address, or None when it does not start: `log` says why."""
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *GUARDED,
            *_blobsight("gallery", "--no-browser", *options),
            stdin=PIPE,
            stdout=PIPE,
            stderr=stderr,
            env=_environment(),
            start_new_session=True,
        )
    try:
        yield await _first_line(process)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _first_line(process: Process) -> str | None:
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline() if process.stdout else b""
    except TimeoutError:
        return None
    return line.decode().strip() or None


async def run_blobsight(*arguments: str) -> bool:
    """Run a command to its end, without a word. Returns whether it succeeded."""
    process = await asyncio.create_subprocess_exec(
        *_blobsight(*arguments), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=_environment()
    )
    try:
        return await process.wait() == 0
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise


def _blobsight(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", "blobsight", *arguments


def _environment() -> dict[str, str]:
    """The environment without what would name another account."""
    naming = (
        "BLOBSIGHT_",
        "AZURE_STORAGE_",
        "INPUT_CONTAINER",
        "OUTPUT_CONTAINER",
        "STATE_CONTAINER",
        "TRIALS_CONTAINER",
        "REQUESTS_QUEUE",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(naming)}
