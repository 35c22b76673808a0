"""A night by batch: images that go into files, the files' batches, and the answers back to results; and other images
that go by the default lane meanwhile.

Deliveries, analysis, batch lane, batches, collecting, claims and the adapters of storage are those that are deployed.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from time import perf_counter
from typing import Any, override

from bench.measure import ROOT
from bench.simulation.batch_service import Conditions, Seen, SimulatedBatchService
from bench.simulation.burst import small_image
from bench.simulation.clock import now, seeded, virtually
from bench.simulation.host import Listener, Parallelism, Queue, ScaleGroup, Uploads, parallelism
from bench.simulation.model import Endpoint
from bench.simulation.process import deliveries
from bench.simulation.service import Service, Windows
from bench.simulation.storage import Account, Container, Images, Operations, date
from pipeline.batches.batches import Batches
from pipeline.batches.collecting import Collector
from pipeline.settings import Settings
from pipeline.storage.claims import Claims
from pipeline.storage.facts import ListedBlob
from pipeline.storage.lines import PREFIX as LINES
from pipeline.storage.lines import Lines
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.shards import PREFIX as SHARDS
from pipeline.storage.shards import Shards

LONGEST_NIGHT = 5 * 24 * 3600.0
"""Seconds after which the simulation ends, done or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    images: int = 100_000
    """By batch."""
    others: int = 0
    """By the default lane, evenly over the time in which the first are uploaded."""
    image_bytes: int = 1_000_000
    per_second: float = 100.0
    """Uploads a second, of both."""
    seed: int = 1
    instances: int = 4
    quota: float = 4_000_000.0
    """Tokens a minute of the default lane's deployment."""
    service: Conditions = field(default_factory=Conditions)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> int:
        return self.images + self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReport:
    night: Night
    results: Mapping[str, int]
    """Results by status, or by error code if failed."""
    seen: Seen
    written: float
    """Seconds until the last line was written."""
    hours: float
    """Until the last result of a batch."""
    waits: Mapping[str, float]
    """Seconds from upload to result within which half of the others and 99 % were done, and the longest."""
    deliveries: int
    runs: int
    """Of the timer."""
    longest_run: float
    """Seconds."""
    operations: Mapping[str, int]
    instance_hours: float
    wall_seconds: float

    @property
    def paid_twice(self) -> int:
        return len(self.seen.billed) - len(set(self.seen.billed))

    @property
    def is_complete(self) -> bool:
        """Whether every image has succeeded, and no line was paid twice."""
        return self.results == {"succeeded": self.night.all} and not self.paid_twice


def spend(night: Night) -> NightReport:
    """Simulate the night. The outcome is the same for the same night, except for the real time that it takes."""
    pipeline = logging.getLogger("pipeline")
    level = pipeline.level
    pipeline.setLevel(logging.ERROR)
    try:
        return virtually(_Cloud(night).run())
    finally:
        pipeline.setLevel(level)


class _Lines(Lines):
    """Lists without the XML, of which the simulation would do little else than make and read it."""

    def __init__(self, account: Account, container: str) -> None:
        super().__init__(account, container)  # type: ignore[arg-type]  # as much of the SDK as is used
        self._listed: Any = account.get_container_client(container)
        self.written = 0.0
        """When the last line was written."""

    @override
    async def all(self) -> AsyncIterator[ListedBlob]:
        async for blob in self._listed.listing(LINES):
            yield blob

    @override
    async def write(self, name: str, body: AsyncGenerator[bytes], size: int, facts: Mapping[str, str]) -> None:
        await super().write(name, body, size, facts)
        self.written = now()


class _Shards(Shards):
    def __init__(self, account: Account, container: str) -> None:
        super().__init__(account, container)  # type: ignore[arg-type]
        self._listed: Any = account.get_container_client(container)

    @override
    async def listed(self) -> list[ListedBlob]:
        return sorted([blob async for blob in self._listed.listing(SHARDS)], key=lambda blob: blob.name)


class _Cloud:
    def __init__(self, night: Night) -> None:
        self.night = night
        self.settings = Settings.from_environment(
            {
                "DataStorage__blobServiceUri": "https://simulated.blob.core.windows.net",
                "DataStorage__queueServiceUri": "https://simulated.queue.core.windows.net",
                "AZURE_OPENAI_ENDPOINT": "https://simulated.openai.azure.com",
                "AZURE_OPENAI_DEPLOYMENT": "vision",
                "BATCH_DEPLOYMENT": "vision-batch",
                **night.settings,
            }
        )
        self.operations = Operations()
        self.results: Counter[str] = Counter()
        self.waits: list[float] = []
        self.last = 0.0
        self.runs: list[float] = []
        self.done = asyncio.Event()
        self.seeds = count(night.seed * 1_000_000)

    def rng(self) -> Random:
        return seeded(next(self.seeds))

    def is_other(self, number: int) -> bool:
        """Whether the image goes by the default lane: those are spread evenly."""
        night = self.night
        return (number + 1) * night.others // night.all > number * night.others // night.all

    async def run(self) -> NightReport:
        started, night, config = perf_counter(), self.night, self.settings
        self.endpoint = Endpoint(Service(Windows(night.quota), talkative=True), config.max_output_tokens, self.rng())
        self.service = SimulatedBatchService(night.service, self.rng())
        self.uploads = Uploads(self.operations, night.all, night.per_second)
        self.requests = Queue(self.operations)
        image = small_image()
        self.account = Account(
            {
                config.input_container: _Mixed(self.operations, image, self.is_other),
                config.output_container: Container(self.operations, self._result),
                config.state_container: Container(
                    self.operations, lambda *_: None, keeps=True, more=(night.image_bytes - len(image)) * 4 // 3
                ),
            }
        )
        self.lines = _Lines(self.account, config.state_container)
        host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
        groups = [
            ScaleGroup(queue, allowed, night.instances, 1, self._starter(queue, allowed))
            for queue, allowed in zip((self.uploads, self.requests), parallelism(host), strict=True)
        ]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in (*(group.run() for group in groups), self._timer())]
            try:
                async with asyncio.timeout(LONGEST_NIGHT):
                    await self.done.wait()
            except TimeoutError:
                pass  # the report says how many results there are
            listeners = [listener for group in groups for listener in group.listeners]
            await asyncio.sleep(60)  # the last ones are still cleaning up
            for task in running:
                task.cancel()
        waits = sorted(self.waits) or [0.0]
        return NightReport(
            night=night,
            results=dict(sorted(self.results.items())),
            seen=self.service.seen,
            written=self.lines.written,
            hours=self.last / 3600,
            waits={"half": waits[len(waits) // 2], "99 %": waits[len(waits) * 99 // 100], "longest": waits[-1]},
            deliveries=sum(listener.delivered for listener in listeners),
            runs=len(self.runs),
            longest_run=max(self.runs, default=0.0),
            operations=dict(sorted(self.operations.counts.items())),
            instance_hours=sum(listener.busy_seconds for listener in listeners) / 3600,
            wall_seconds=perf_counter() - started,
        )

    def _starter(self, queue: Queue, allowed: Parallelism) -> Callable[[], Listener]:
        def start() -> Listener:
            rng = self.rng()
            process = deliveries(self.settings, self.account, self.endpoint, self.requests, rng, lines=self.lines)
            return Listener(queue, allowed, process.handle, rng)

        return start

    async def _timer(self) -> None:
        """Run the batches as the host's timer does: at the full periods, and one run at a time."""
        config, state = self.settings, self.settings.state_container
        claims = Claims(self.account, state, config.claim_seconds)  # type: ignore[arg-type]  # as much of the SDK as is used
        marks = QueuedMarks(self.account, state)  # type: ignore[arg-type]
        service: Any = self.service
        batches = Batches(
            service=service,
            lines=self.lines,
            shards=_Shards(self.account, state),
            collector=Collector(service, self.lines, claims, self.requests, marks, reread_for=300.0, now=date),
            wait=config.batch_wait_seconds,
            poll=config.batch_poll_seconds,
            lost_after=90.0,
            now=date,
        )
        while True:
            await asyncio.sleep(config.batch_poll_seconds - now() % config.batch_poll_seconds)
            began = now()
            await batches.run()
            self.runs.append(now() - began)

    def _result(self, name: str, metadata: Mapping[str, str]) -> None:
        number = int(name.partition(".")[0])
        self.results[metadata.get("errorcode", metadata["status"])] += 1
        if self.is_other(number):
            self.waits.append(now() - self.uploads.arrival(number))
        else:
            self.last = now()
        if self.results.total() == self.night.all:
            self.done.set()


class _Mixed(Images):
    """The input container: most images say that they go by batch."""

    def __init__(self, operations: Operations, image: bytes, is_other: Callable[[int], bool]) -> None:
        super().__init__(operations, image)
        self._others, self._batch = Images(operations, image), Images(operations, image)
        self._others.properties.metadata |= {"service_tier": "default"}
        self._batch.properties.metadata |= {"service_tier": "batch"}
        self._is_other = is_other

    @override
    def get_blob_client(self, name: str) -> Images:
        return self._others if self._is_other(int(name.partition(".")[0])) else self._batch


def nights(images: int, seed: int) -> Mapping[str, Night]:
    """The nights by name: the first of so many images, the others of a fifth."""
    usual = Night(images=images, seed=seed)
    less = replace(usual, images=images // 5)
    small = max(less.images * 500, 400_000)
    """A quota for less than half of the tokens: of 20,000 images, that of the Bicep parameter batchCapacity."""
    return {
        "the night": usual,
        "slow batches": replace(less, service=Conditions(hours=20)),
        "small quota": replace(less, service=Conditions(quota=small)),
        "small quota, told late": replace(less, service=Conditions(quota=small, refuses_late=True)),
        "both lanes": replace(less, others=less.images // 10),
        "the default lane alone": replace(less, images=0, others=less.images // 10, per_second=usual.per_second / 11),
    }
