"""`python guardian.py COMMAND…`: runs a command that ends when whoever started it ends, however that is.

A launcher that is killed, or whose terminal is closed, stops nothing any more. But its end of our stdin closes, and
that we see. SIGTERM is passed on; the exit status is the command's.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

GUARDED = (sys.executable, str(Path(__file__).absolute()))
"""What to put before a command; its stdin must be a pipe, and its process group one of its own."""

GRACE_SECONDS = 10
"""For the command to end by itself before it is killed."""


def main() -> int:
    command = subprocess.Popen(  # noqa: S603 - the launcher's own command
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        close_fds=False,  # an inherited lock is the command's to hold
    )
    asked = threading.Lock()

    def stop(*_: object) -> None:
        if asked.acquire(blocking=False):  # just once: to a second SIGTERM the emulator does not save any more
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
