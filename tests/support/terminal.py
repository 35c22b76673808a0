"""The command line as a person at a terminal, or a script, runs it: a process with pipes."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.forks import CAN_FORK, forks
from support.person import ROOT, Person

PATIENCE_SECONDS = 100


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it said: data on stdout, talk on stderr."""

    status: int
    out: str
    talk: str

    @property
    def lines(self) -> list[list[str]]:
        """The cells of a table in a pipe."""
        return [line.split("\t") for line in self.out.splitlines()]

    def json(self) -> Any:
        return json.loads(self.out)


async def started(
    person: Person | None,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "blobsight"),
) -> Process:
    """`blobsight …`, under way against the person's cloud, or with no account named."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "BLOBSIGHT_"))}
    clean |= {"AZURE_STORAGE_CONNECTION_STRING": person.cloud.front.connection_string} if person else {}
    return await asyncio.create_subprocess_exec(
        *command, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=clean | dict(environment or {})
    )


async def blobsight(
    person: Person | None, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
) -> Ran:
    """Run `blobsight …` to its end; without an environment of its own in a fork, which has imported everything."""
    command = {"command": forks()} if environment is None and CAN_FORK else {}
    process = await started(person, *arguments, environment=environment, **command)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, talk = await process.communicate(os.fsencode(stdin))
    ran = Ran(process.returncode or 0, out.decode(), talk.decode())
    sys.stderr.write(ran.talk)  # pytest shows it where the test fails
    assert "\x1b" not in ran.out + ran.talk, "escape codes in a pipe"
    assert "Traceback" not in ran.talk, ran.talk
    return ran
