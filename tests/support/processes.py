"""Programs under test and what they start."""

import subprocess
from time import monotonic, sleep

import psutil

PATIENCE_SECONDS = 90


def descendants(process: subprocess.Popen[str], at_least: int) -> list[psutil.Process]:
    """The processes it started, once there are so many."""
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        found = psutil.Process(process.pid).children(recursive=True)
        if len(found) >= at_least:
            return found
        sleep(0.05)
    raise AssertionError("the local cloud did not start")


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie does not count."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
