"""The command line as people run it: a process of its own, with pipes or at a terminal."""

import asyncio
import os
import pty
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from person import ROOT

_OTHERS = ("AZURE_", "BLOBSIGHT_", "IDENTITY_", "INPUT_", "OUTPUT_", "STATE_", "REQUESTS_")
"""What the machine's own environment may say of some account; it is not for tests."""


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str


async def blobsight(
    *arguments: str, environment: Mapping[str, str] | None = None, types: str | None = None, patience: float = 60
) -> Ran:
    """Run `blobsight` with these arguments, in pipes; with `types`, its stdin is a terminal where that is typed."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OTHERS)}
    terminal, stdin = pty.openpty() if types is not None else (None, asyncio.subprocess.DEVNULL)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "blobsight", *arguments, stdin=stdin, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=inherited | dict(environment or {}),
        )  # fmt: skip
        if terminal is not None and types is not None:
            os.write(terminal, types.encode())
        async with asyncio.timeout(patience):
            out, err = await process.communicate()
    finally:
        if terminal is not None:
            os.close(terminal)
            os.close(stdin)
    assert b"\x1b" not in out + err, "escape codes in a pipe"
    return Ran(process.returncode or 0, out.decode(), err.decode())
