"""`python -m localcloud demo` and `up`, for `make demo` and `make up`."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from azure.core.exceptions import AzureError

from localcloud import demo, up
from localcloud.errors import LocalCloudError
from localcloud.terminal import talk

COMMANDS: dict[str, Callable[[], Coroutine[Any, Any, int]]] = {"demo": demo.run, "up": up.run}


def main() -> int:
    """Return the exit status: 0 for success, 1 for failure with a line that says why, 130 for Ctrl-C."""
    match sys.argv[1:]:
        case [command] if command in COMMANDS:
            pass
        case _:
            talk.print(f"usage: python -m localcloud {'|'.join(COMMANDS)}")
            return 2
    try:
        return asyncio.run(_until_stopped(COMMANDS[command]))
    except (LocalCloudError, AzureError, OSError) as error:
        talk.print(f"error: {str(error).partition(chr(10))[0]}", markup=False, soft_wrap=True)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # everything is stopped; only the interpreter has to end


async def _until_stopped(command: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `command` until it is done or is stopped. Either way no process stays behind.

    Ctrl-C, a closed terminal and SIGTERM all stop it. Stopping takes seconds; a second Ctrl-C does not interrupt it,
    since that would leave processes behind.
    """
    running = asyncio.create_task(command())
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sent, lambda: running.cancelling() or running.cancel())
    try:
        return await running
    except asyncio.CancelledError:
        talk.print("Stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
