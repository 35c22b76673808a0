"""A contender: `blobsight upload` as it is, from its own start to its end."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from bench.measure import ContenderError, answer

LOOK_EVERY_SECONDS = 0.05


def run(task: Mapping[str, Any]) -> dict[str, float]:
    """Uploads the first `files` of `folder`.

    Raises:
        ContenderError: the command failed.
    """
    paths = sorted(Path(task["folder"]).rglob("*.png"))[: task["files"]]
    listed = "\n".join(str(path.relative_to(task["folder"])) for path in paths)
    command = [sys.executable, "-m", "blobsight", "upload", "-", "--json"]
    began = perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=task["folder"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stderr  # noqa: S101, PT018 - pipes
        process.stdin.write(listed)
        process.stdin.close()
        peak, seen = 0, psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, seen.memory_info().rss)
            try:
                process.wait(LOOK_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        if process.returncode:
            raise ContenderError(f"blobsight upload ended with status {process.returncode}: {process.stderr.read()}")
    return {"wall": perf_counter() - began, "peak": peak}


if __name__ == "__main__":
    answer(run)
