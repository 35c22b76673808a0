"""`python -m localcloud.functions_host --app DIR`: run a function app, configured by the environment as in Azure.

stdout: one line of JSON, once the app runs ({"state": "Running", "url", keys, ...}) or has failed to
    ({"state": "Error", "errors"}).
stderr: the log of host and workers. Exit code: 0 stopped by SIGTERM or SIGINT, 1 not started, 3 stopped as a whole, by
an error that stops the platform's host. There and in the local cloud (process.py) a supervisor then starts another.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from localcloud.functions_host.errors import HostError
from localcloud.functions_host.host import FunctionsHost
from localcloud.functions_host.keys import Keys

STOPPED_WHOLE = 3
"""The exit code."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.functions_host",
        description="Runs an Azure Functions app (Python) on this machine; its settings are the environment.",
        epilog="example: python -m localcloud.functions_host --app . --port 7071",
    )
    parser.add_argument("--app", type=Path, required=True, help="directory with function_app.py and host.json")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): a free one")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for running invocations when stopped (10)")
    parser.add_argument("--debug", action="store_true", help="log tracebacks and the libraries' own messages")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    keys = Keys.taken_from(os.environ)
    host = FunctionsHost(
        arguments.app, os.environ, keys, port=arguments.port, grace=arguments.grace, debug=arguments.debug
    )
    async with host:
        _announce(host.announcement())
        await host.fatal()  # or until cancelled by a signal, the only graceful end
        os._exit(STOPPED_WHOLE)


def _announce(facts: dict[str, object]) -> None:
    # By the descriptor: a reader that has gone away must not end the host.
    try:
        os.write(sys.stdout.fileno(), (json.dumps(facts) + "\n").encode())
    except BrokenPipeError:
        logging.getLogger(__name__).warning("stdout is closed: url and keys were not written")


async def _run(arguments: argparse.Namespace) -> int:
    serving = asyncio.create_task(_serve(arguments))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return 0
    except HostError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        _announce({"state": "Error", "errors": list(error.problems)})
        return 1
    return 0


def main() -> int:
    arguments = _arguments()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format="%(asctime)s host %(levelname)s %(message)s",
    )
    for name in ("azure", "asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a line for each storage request otherwise
    return asyncio.run(_run(arguments))


if __name__ == "__main__":
    sys.exit(main())
