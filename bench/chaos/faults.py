"""Faults by seed: of the model, events, workers and storage; and a record of them."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any, Literal

import aiohttp

from bench.chaos.ledger import IMAGES, RESULTS, Ledger, Refusing
from bench.chaos.plan import FILTERED, REFUSED, Names
from bench.chaos.steps import Kill, StepKiller
from localcloud.app_storage import StorageRefusal, StorageRequest
from localcloud.cloud import LocalCloud
from localcloud.event_grid import Event, Fault
from localcloud.model import (
    DEPLOYMENT_NOT_FOUND,
    SERVER_ERROR,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    Asked,
    Behaviour,
    Dropped,
    Garbled,
    Hang,
    PromptFiltered,
    Refusal,
    Slow,
    Throttled,
)
from pipeline.job.work import work_key
from pipeline.model.question import Question

type Work = tuple[str, str]
"""A piece of work that is paid for once: the question and the picture's digest, unique to each version."""
type Fate = Literal["answered", "lost on the wire", "turned away"]

FAULTY_CALLS = 2
"""Calls of one work that may meet a fault of their own; further ones meet only the faults that all calls
meet. Three unreadable answers in a row would be a failed result."""
FEW = 8
"""Invocations in a worker that may be killed at any step, however few results there were since the kill before."""
SLOWEST = 0.6
"""Seconds that an answer takes at most, so that kills and changes find calls in flight."""

SINGLE: tuple[tuple[Behaviour, int], ...] = (
    (Throttled(retry_after_ms=300), 4),
    (Throttled(retry_after=1), 3),
    (Throttled(reset_tokens=1), 2),
    (Throttled(), 3),
    (SERVER_ERROR, 8),
    (UNAVAILABLE, 8),
    (UNAUTHORIZED, 2),
    (Dropped(), 8),
    (Dropped(midway=True), 8),
    (Garbled(), 8),
    (Garbled(b""), 4),
    (Hang(), 2),
)
"""Faults in a thousand calls."""
SPELLS: tuple[Behaviour, ...] = (
    Throttled(retry_after=1, reset_tokens=1),
    Throttled(),
    UNAVAILABLE,
    UNAUTHORIZED,
    DEPLOYMENT_NOT_FOUND,
    Dropped(),
)
"""A fault that all calls meet for a while."""


def _no_role(request: StorageRequest, _: Ledger) -> StorageRefusal | None:
    """The app's identity may read results, and write none."""
    if request.container != RESULTS or request.method in ("GET", "HEAD"):
        return None
    message = "This request is not authorized to perform this operation using this permission."
    return StorageRefusal(403, "AuthorizationPermissionMismatch", message)


def _no_container(request: StorageRequest, _: Ledger) -> StorageRefusal | None:
    if request.container != RESULTS:
        return None
    return StorageRefusal(404, "ContainerNotFound", "The specified container does not exist.")


def _immutable(request: StorageRequest, ledger: Ledger) -> StorageRefusal | None:
    """Results that are there can't be replaced; new ones can be written."""
    if request.method != "PUT" or request.container != RESULTS or not ledger.exists(RESULTS, request.blob):
        return None
    message = "This operation is not permitted as the blob is immutable due to a policy."
    return StorageRefusal(409, "BlobImmutableDueToPolicy", message)


def _leased(request: StorageRequest, ledger: Ledger) -> StorageRefusal | None:
    """Another program holds a lease on each result that is there."""
    if request.method != "PUT" or request.container != RESULTS or not ledger.exists(RESULTS, request.blob):
        return None
    message = "There is currently a lease on the blob and no lease ID was specified in the request."
    return StorageRefusal(412, "LeaseIdMissing", message)


REFUSALS: tuple[Refusing, ...] = (_no_role, _no_container, _immutable, _leased)
"""Why results can't be written for a while."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the model. Times are seconds since 1970."""

    work: Work
    question: list[object]
    """The identity of all that was asked, see `pipeline.model.azure_openai.Question`."""
    claims: tuple[str, ...]
    """The blobs that claim this question about any version of the image; other versions' are mostly never there."""
    at: float
    fate: Fate
    request_id: str
    worker: str | None
    """The id of the process that asked."""


@dataclass(slots=True)
class ModelFaults:
    """The model's policy: the n-th call of a work meets what the seed says, unless a spell is on.

    Attributes:
        names: which image a call is about.
    """

    seed: int
    names: Names
    calls: list[Call] = field(default_factory=list)
    active: bool = True
    spell: Behaviour | None = None
    _asked: Counter[Work] = field(default_factory=Counter)

    def __call__(self, asked: Asked) -> Behaviour:
        work = (asked.instructions, asked.pictures[0].sha256)
        self._asked[work] += 1
        behaviour = self._behaviour(asked.instructions, work, self._asked[work])
        image = self.names.of(*work)
        self.calls.append(call_of(asked, image, self.names.digests(image), fate(behaviour)))
        return behaviour

    def _behaviour(self, question: str, work: Work, number: int) -> Behaviour:
        if self.active and self.spell is not None:
            return self.spell
        rng = rng_of(self.seed, "model", *work, number)
        behaviours, weights = zip(*SINGLE, strict=True)
        if self.active and number <= FAULTY_CALLS and rng.random() < sum(weights) / 1000:
            faulty: Behaviour = rng.choices(behaviours, weights)[0]
            return faulty
        final: Behaviour = Answer()
        if question.startswith(FILTERED):
            final = PromptFiltered()
        elif question.startswith(REFUSED):
            final = Refusal()
        return Slow(rng.uniform(0.02, SLOWEST), final) if self.active else final


def call_of(asked: Asked, image: str, digests: Sequence[str], fate: Fate) -> Call:
    """The call about `image`, whose versions have these SHA-256 `digests`."""
    question = _identity(asked)
    keys = [work_key(IMAGES, image, f"sha256:{digest}", question) for digest in digests]
    return Call(
        work=(asked.instructions, asked.pictures[0].sha256),
        question=question,
        claims=tuple(f"claims/{key}" for key in keys),
        at=asked.at.timestamp(),
        fate=fate,
        request_id=asked.request_id,
        worker=asked.caller,
    )


def _identity(asked: Asked) -> list[object]:
    question = Question(
        instructions=asked.instructions,
        deployment=asked.deployment,
        system_prompt=asked.system,
        detail=asked.pictures[0].detail,  # type: ignore[arg-type]  # the app sends no other values
        max_output_tokens=asked.options["max_completion_tokens"],
        reasoning_effort=asked.options.get("reasoning_effort"),
    )
    return question.identity()


def fate(behaviour: Behaviour) -> Fate:
    """Return what became of the call. An answer is paid for even if its caller is gone; a refused call is not."""
    match behaviour:
        case Slow():
            return fate(behaviour.then)
        case Dropped() | Garbled() | Hang():
            return "lost on the wire"
        case Answer() | PromptFiltered() | Refusal():
            return "answered"
        case _:
            return "turned away"


@dataclass(slots=True)
class EventFaults:
    """Event Grid's faults: the n-th event of a blob meets what the seed says.

    A sidecar's event is not lost: no pass of `reconcile` makes up for that, as the image does have its result.
    """

    seed: int
    active: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, event: Event) -> Fault:
        subject = str(event["subject"])
        self._seen[subject] += 1
        if not self.active:
            return Fault()
        rng = rng_of(self.seed, "event", subject, self._seen[subject])
        lose = rng.random() < 0.03 and not subject.endswith(".instructions.txt")
        double, late = rng.random() < 0.08, rng.random() < 0.25
        self.counts += Counter(lost=lose, doubled=double and not lose, delayed=late and not lose)
        return Fault(lose=lose, copies=2 if double else 1, delay=rng.uniform(0, 2) if late else 0.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of the faults."""

    kill_every: tuple[float, float]
    """Seconds between two kills of a worker, from and to."""
    done_between_kills: int
    """Results, at least: on a busy machine, images that were in five killed workers would fail, and rightly so."""
    restarts_at: tuple[float, ...]
    """The parts of the uploads that have been sent when the emulator restarts."""
    host_stops_at: tuple[float, ...]
    """The parts of the uploads that have been sent when the whole functions host is killed."""
    kill_at_step_every: tuple[float, float]
    """Seconds between two kills of a worker at a step of the batch lane, from and to."""


@dataclass(slots=True)
class Disturbances:
    """Spells at the model, kills of workers and of the host, restarts of the emulator, results that can't be written.

    Args:
        progress: the part of the uploads that has been sent.
        finished: the number of results that are there.
    """

    cloud: LocalCloud
    model: ModelFaults
    ledger: Ledger
    seed: int
    progress: Callable[[], float]
    finished: Callable[[], int]
    schedule: Schedule
    killer: StepKiller
    restarts: int = 0
    spells: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> list[Kill]:
        """All kills of workers."""
        return self.killer.kills

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """They go on inside; what has begun is ended."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for work in (self._spells, self._kills, self._host_stops, self._restarts, self._refusals, self._steps):
                tasks.create_task(work(over))
            try:
                yield
            finally:
                over.set()

    async def _spells(self, over: asyncio.Event) -> None:
        rng = rng_of(self.seed, "spells")
        while not await _set_within(over, rng.uniform(4, 8)):
            self.model.spell = rng.choice(SPELLS)
            self.spells += 1
            await _set_within(over, rng.uniform(0.5, 2))
            self.model.spell = None

    async def host_status(self) -> Any:
        """Return the functions host's state of workers and messages; None while it is down."""
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{self.cloud.functions.url}/admin/host/status") as answer,
            ):
                return (await answer.json())["local"]
        except aiohttp.ClientError:
            return None

    async def _kills(self, over: asyncio.Event) -> None:
        rng, finished = rng_of(self.seed, "kills"), 0
        while not await _set_within(over, rng.uniform(*self.schedule.kill_every)):
            while self.finished() < finished + self.schedule.done_between_kills:
                if await _set_within(over, 0.1):
                    return
            finished = self.finished()
            if (status := await self.host_status()) and status["workers"]:
                busiest = max(status["workers"], key=lambda worker: worker["running"])
                with suppress(ProcessLookupError):
                    os.kill(busiest["pid"], signal.SIGKILL)
                    self.kills.append(Kill(time.time(), str(busiest["pid"]), busiest["running"]))

    async def _steps(self, over: asyncio.Event) -> None:
        self.killer.active = True
        kills, finished = 0, 0
        while not await _set_within(over, 0.3):
            if len(self.kills) > kills:
                kills, finished = len(self.kills), self.finished()
            is_time = self.finished() >= finished + self.schedule.done_between_kills
            status = await self.host_status()
            workers = status["workers"] if status else []
            self.killer.now_living(str(worker["pid"]) for worker in workers if is_time or worker["running"] <= FEW)
        self.killer.active = False

    async def _host_stops(self, over: asyncio.Event) -> None:
        for part in self.schedule.host_stops_at:
            if await self._reached(part, over):
                await self.cloud.functions.kill()

    async def _refusals(self, over: asyncio.Event) -> None:
        rng = rng_of(self.seed, "refusals")
        order = sorted(REFUSALS, key=lambda _: rng.random())
        for refusing in cycle(order):
            if await _set_within(over, rng.uniform(4, 7)):
                return
            self.ledger.refusing = refusing
            self.refusals[refusing.__name__] += 1
            await _set_within(over, rng.uniform(1, 3))
            self.ledger.refusing = None

    async def _restarts(self, over: asyncio.Event) -> None:
        for part in self.schedule.restarts_at:
            if await self._reached(part, over):
                await self.cloud.azurite.restart()
                self.restarts += 1

    async def _reached(self, part: float, over: asyncio.Event) -> bool:
        """Wait until this part of the uploads is sent. Returns False if the campaign ended before."""
        while self.progress() < part:
            if await _set_within(over, 0.1):
                return False
        return True


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def rng_of(*parts: object) -> Random:
    return Random("/".join(map(str, parts)))  # noqa: S311 - repeatable on purpose
