"""`python guardian.py COMMAND…`: run a command, and stop it when the process that launched it ends in any way.

A launcher that is killed can't stop its children. But its end of our stdin closes, which we notice. SIGTERM is passed
on; the exit status is the command's.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

GUARDED = (sys.executable, str(Path(__file__).absolute()))
"""Prefix of a guarded command. Its stdin must be a pipe, and it needs its own process group."""

GRACE_SECONDS = 10
"""Seconds for the command to end before it is killed."""


def main() -> int:
    command = subprocess.Popen(  # noqa: S603 - the launcher's own command
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        close_fds=False,  # the command holds an inherited lock
    )
    asked = threading.Lock()

    def stop(*_: object) -> None:
        if asked.acquire(blocking=False):  # only once: on a second SIGTERM the emulator ends without saving
            command.terminate()

    signal.signal(signal.SIGTERM, stop)

    def follow_launcher() -> None:
        while os.read(0, 1):  # nothing is ever sent: this ends when the launcher is gone
            pass
        stop()
        try:
            command.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            command.kill()

    threading.Thread(target=follow_launcher, daemon=True).start()
    return command.wait()


if __name__ == "__main__":
    sys.exit(main())
