"""`python -m localcloud demo` and `up`: what `make demo` and `make up` run."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from localcloud import demo, up
from localcloud.errors import LocalCloudError
from localcloud.terminal import talk

COMMANDS: dict[str, Callable[[], Coroutine[Any, Any, int]]] = {"demo": demo.run, "up": up.run}


def main() -> int:
    """The exit status: 0 for success, 1 for failure with a line that says why, 130 for Ctrl-C."""
    match sys.argv[1:]:
        case [command] if command in COMMANDS:
            pass
        case _:
            talk.print(f"usage: python -m localcloud {'|'.join(COMMANDS)}")
            return 2
    try:
        return asyncio.run(_until_stopped(COMMANDS[command]))
    except KeyboardInterrupt:
        talk.print("Stopped.")
        return 130
    except LocalCloudError as error:
        talk.print(f"error: {error}", markup=False, soft_wrap=True)
        return 1


async def _until_stopped(command: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `command`; a request to terminate ends it as Ctrl-C does, so that nothing stays behind."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os.kill(os.getpid(), signal.SIGINT))
    return await command()


if __name__ == "__main__":
    sys.exit(main())
