"""Processes of the command line that begin where its imports end: forks of one process that has made them.

Each has its own arguments, environment, folder, streams and end, and differs from `python -m blobsight` by the half
second that the imports take.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
from atexit import register
from contextlib import suppress
from functools import cache
from pathlib import Path
from select import select
from tempfile import mkdtemp

ROOT = Path(__file__).parent.parent.parent
CAN_FORK = sys.platform == "linux"
"""Elsewhere a process that has loaded the system's frameworks can't be forked safely."""


@cache
def _door() -> Path:
    """The address of a process that has imported the command line; it ends with this one."""
    path = Path(mkdtemp(prefix="blobsight-forks-")) / "door"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks", str(door.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            pass_fds=[door.fileno()],
        )

    def end() -> None:
        server.communicate()  # it ends with its input
        path.unlink()
        path.parent.rmdir()

    register(end)
    return path


def forks() -> list[str]:
    """The command that runs as `python -m blobsight` does, in a fork."""
    return [sys.executable, "-I", "-S", str(ROOT / "tests" / "support" / "fork_client.py"), str(_door())]


def _serve(door: socket.socket) -> None:
    """Fork for each that asks, until this process's own input ends. A fork returns from this, to run the command."""
    import genai_prices.data  # noqa: F401, PLC0415 - but for what only an estimate needs

    import blobsight.cli  # noqa: F401, PLC0415 - all that there is to import

    while True:
        ready, _, _ = select([door.fileno(), 0], [], [])
        if 0 in ready:
            os._exit(0)
        connection, _ = door.accept()
        if os.fork() == 0:
            door.close()
            return _watch(connection)
        connection.close()
        with suppress(ChildProcessError):  # there is none any more
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _watch(connection: socket.socket) -> None:
    """Fork once more for the command, and say how that one ended."""
    first, streams, _, _ = socket.recv_fds(connection, 1, 3)
    folder, environment, arguments = json.loads(first + connection.makefile("rb").readline())
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("blobsight", run_name="__main__", alter_sys=True)
