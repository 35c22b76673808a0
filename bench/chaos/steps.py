"""Kill a worker at a step of the batch lane: before what it asks for is done, or after, with the answer unheard."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from bench.chaos.ledger import DEFERRED, SHARDS, STATE, Ledger
from localcloud.app_storage import StorageRefusal, StorageRequest

LINES, CLAIMS = "batches/lines/", "claims/"
LINE_STEPS = {"HEAD": "looking for a line", "GET": "reading a line", "DELETE": "deleting a line"}
IMPATIENT_SECONDS = 2.0
"""How long a kill waits for a step at which no worker has been killed yet."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker process that got SIGKILL while so many invocations ran in it."""

    at: float
    """By then it was dead."""
    worker: str
    """Its process id."""
    running: int


@dataclass(slots=True)
class StepKiller:
    """A `localcloud.app_storage.StorageWatch` in front of the ledger's.

    Kills come at intervals, each at a step at which fewest have come so far, so that rare steps get theirs.

    Args:
        every: seconds between two kills, from and to.
        kills: of workers, wherever; others add theirs.
    """

    ledger: Ledger
    rng: Random
    every: tuple[float, float]
    kills: list[Kill] = field(default_factory=list)
    active: bool = False
    living: set[str] = field(default_factory=set)
    """Workers that may be killed now, by what the host has said of them."""
    at: Counter[str] = field(default_factory=Counter)
    """Kills by step; steps that were seen have an entry."""
    _due: float = 0.0
    _when: Literal["before", "after"] = "after"

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        step = step_of(request)
        if step and self._strikes(request.caller, step, "before"):
            return StorageRefusal(503, "ServerBusy", "The worker is dead.")
        return self.ledger.refuse(request)

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        self.ledger.ended(request, status, refused=refused)
        step = step_of(request)
        if step and not refused and status is not None:
            self._strikes(request.caller, step, "after")

    def struck(self, caller: str | None, step: str) -> Literal["before", "after"] | None:
        """Whether the worker was killed now, and whether what it asks for is to be done nevertheless."""
        when = self._when
        return when if self._strikes(caller, step, when) else None

    def now_living(self, workers: Iterable[str]) -> None:
        """Take note of the workers that may be killed."""
        self.living = set(workers) - {kill.worker for kill in self.kills}

    def _strikes(self, caller: str | None, step: str, when: Literal["before", "after"]) -> bool:
        step = f"{when} {step}"
        self.at.setdefault(step, 0)
        now = time.monotonic()
        if not self.active or when != self._when or now < self._due or caller not in self.living:
            return False
        fewest = min(count for other, count in self.at.items() if other.startswith(when))
        if self.at[step] > fewest and now < self._due + IMPATIENT_SECONDS:
            return False
        with suppress(ProcessLookupError):
            os.kill(int(caller), signal.SIGKILL)
            self.kills.append(Kill(time.time(), caller, running=1))
            self.at[step] += 1
        self.living.discard(caller)
        self._due = now + self.rng.uniform(*self.every)
        self._when = self.rng.choice(("before", "after"))
        return True


def step_of(request: StorageRequest) -> str | None:
    """The step of the batch lane that a request to storage is, in words."""
    if request.container == DEFERRED and request.method == "POST":
        return "sending a message"
    if request.container != STATE:
        return None
    if request.blob.startswith(LINES):
        return LINE_STEPS.get(request.method, "writing a line" if request.body else "noting a line's shard")
    if request.blob.startswith(SHARDS) and request.method == "PUT":
        return f"noting a shard as {_state(request.body)}"
    if request.blob.startswith(CLAIMS) and request.body.startswith(b'{"batch_log"'):
        return "writing a log"
    return None


def _state(shard: bytes) -> str:
    try:
        return str(json.loads(shard).get("state", "filling"))
    except (ValueError, AttributeError):
        return "unreadable"
