"""A burst of uploads, from the first event to the last result."""

import asyncio
import json
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import count
from random import Random
from time import perf_counter

from PIL import Image

from bench.measure import ROOT
from bench.simulation.clock import now, seeded, virtually
from bench.simulation.host import Listener, Parallelism, Queue, ScaleGroup, Uploads, parallelism
from bench.simulation.model import Endpoint
from bench.simulation.process import deliveries
from bench.simulation.service import Bucket, Service, Windows
from bench.simulation.storage import Account, Container, Images, Operations
from pipeline.settings import Settings

SAMPLE_EVERY = 60.0
"""Seconds between two looks at the queues."""
QUOTAS = {"bucket": Bucket, "windows": Windows}


@dataclass(frozen=True, slots=True)
class Span:
    """A period, in seconds from the first upload."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    images: int = 1_000_000
    seed: int = 1
    per_second: float = 1_000.0
    """Uploads a second, while the burst lasts."""
    instances: int = 20
    """Most instances for each of the two functions."""
    at_once: int = 1
    """Instances at the start; the platform adds the others step by step."""
    quota: float = 4_000_000.0
    """Tokens a minute."""
    counted: str = "windows"
    """The service's way of counting: see QUOTAS."""
    talkative: bool = True
    """Whether the service sends its rate-limit headers."""
    halved: Span | None = None
    """The period with only half of the quota."""
    outage: Span | None = None
    """The period in which the model answers only with 503."""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment."""

    at: float
    uploads: int
    """Messages on the blob trigger's queue."""
    requests: int
    """On the deferred queue."""
    in_work: int
    results: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    scenario: Scenario
    drained_seconds: float
    ideal_seconds: float
    """Seconds in which the quota alone, fully used from the first upload on, would have let the same calls through."""
    results: Mapping[str, int]
    """Results by status, or by error code if failed."""
    poison: int
    calls: int
    refused: int
    failed: int
    """Calls that met the outage."""
    waits: Mapping[str, float]
    """Seconds from upload to result within which half of the images and 99 % were done, and the longest."""
    most_waiting: int
    """On both queues."""
    most_requests: int
    """On the deferred queue."""
    deliveries: int
    deferred: int
    most_attempts: int
    operations: Mapping[str, int]
    instances: int
    instance_hours: float
    """Seconds with anything in progress, over all instances."""
    samples: list[Sample]
    wall_seconds: float

    @property
    def quota_used(self) -> float:
        """Part of the quota of that time that was used."""
        return self.ideal_seconds / self.drained_seconds

    @property
    def refused_share(self) -> float:
        return self.refused / self.calls

    @property
    def operations_per_image(self) -> float:
        """Operations on storage, including the host's own on its queues."""
        return sum(self.operations.values()) / self.scenario.images

    @property
    def is_complete(self) -> bool:
        """Whether every image has succeeded and no poison message is left."""
        return self.results == {"succeeded": self.scenario.images} and not self.poison


def simulate(scenario: Scenario) -> Report:
    """Simulate the burst. The outcome is the same for the same scenario, except for the real time that it takes."""
    pipeline = logging.getLogger("pipeline")
    level = pipeline.level
    pipeline.setLevel(logging.ERROR)  # a warning for each deferred image, with a real time instead of a virtual one
    try:
        return virtually(_Cloud(scenario).run())
    finally:
        pipeline.setLevel(level)


class _Cloud:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.settings = Settings.from_environment(
            {
                "DataStorage__blobServiceUri": "https://simulated.blob.core.windows.net",
                "DataStorage__queueServiceUri": "https://simulated.queue.core.windows.net",
                "AZURE_OPENAI_ENDPOINT": "https://simulated.openai.azure.com",
                "AZURE_OPENAI_DEPLOYMENT": "vision",
                **scenario.settings,
            }
        )
        self.host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
        self.operations = Operations()
        self.waits = array("f", bytes(4 * scenario.images))
        self.results: Counter[str] = Counter()
        self.drained = asyncio.Event()
        self.seeds = count(scenario.seed * 1_000_000)

    def rng(self) -> Random:
        return seeded(next(self.seeds))

    async def run(self) -> Report:
        started, scenario = perf_counter(), self.scenario
        service = Service(QUOTAS[scenario.counted](scenario.quota), scenario.talkative)
        self.endpoint = Endpoint(service, self.settings.max_output_tokens, self.rng())
        self.uploads = Uploads(self.operations, scenario.images, scenario.per_second)
        self.requests = Queue(self.operations)
        self.account = Account(
            {
                self.settings.input_container: Images(self.operations, small_image()),
                self.settings.output_container: Container(self.operations, self._result),
                self.settings.state_container: Container(self.operations, lambda *_: None),
            }
        )
        groups = [
            ScaleGroup(queue, allowed, scenario.instances, scenario.at_once, self._starter(queue, allowed))
            for queue, allowed in zip((self.uploads, self.requests), parallelism(self.host), strict=True)
        ]
        samples: list[Sample] = []
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work)
                for work in (*(group.run() for group in groups), self._sample(groups, samples), self._bad_days())
            ]
            await self.drained.wait()
            drained = now()
            listeners = [listener for group in groups for listener in group.listeners]
            while any(listener.in_work for listener in listeners):  # noqa: ASYNC110 - at the end only
                await asyncio.sleep(0.1)  # the last ones are still cleaning up
            for task in running:
                task.cancel()
        waits = sorted(self.waits)
        return Report(
            scenario=scenario,
            drained_seconds=drained,
            ideal_seconds=self._ideal(sum(tokens for _, tokens in service.accepted)),
            results=dict(sorted(self.results.items())),
            poison=self.poison,
            calls=len(service.accepted) + len(service.refused) + self.endpoint.failed,
            refused=len(service.refused),
            failed=self.endpoint.failed,
            waits={"half": waits[len(waits) // 2], "99 %": waits[len(waits) * 99 // 100], "longest": waits[-1]},
            most_waiting=max(sample.uploads + sample.requests for sample in samples),
            most_requests=max(sample.requests for sample in samples),
            deliveries=sum(listener.delivered for listener in listeners),
            deferred=self.requests.sent,
            most_attempts=self.requests.most_attempts,
            operations=dict(sorted(self.operations.counts.items())),
            instances=len(listeners),
            instance_hours=sum(listener.busy_seconds for listener in listeners) / 3600,
            samples=samples,
            wall_seconds=perf_counter() - started,
        )

    @property
    def poison(self) -> int:
        return len(self.uploads.poison) + len(self.requests.poison)

    def _starter(self, queue: Queue, allowed: Parallelism) -> Callable[[], Listener]:
        def start() -> Listener:
            rng = self.rng()
            process = deliveries(self.settings, self.account, self.endpoint, self.requests, rng)
            return Listener(queue, allowed, process.handle, rng)

        return start

    def _result(self, name: str, metadata: Mapping[str, str]) -> None:
        number = int(name.partition(".")[0])
        self.results[metadata.get("errorcode", metadata["status"])] += 1
        self.waits[number] = now() - self.uploads.arrival(number)
        if self.results.total() == self.scenario.images:
            self.drained.set()

    async def _sample(self, groups: list[ScaleGroup], samples: list[Sample]) -> None:
        while True:
            in_work = sum(listener.in_work for group in groups for listener in group.listeners)
            samples.append(Sample(now(), self.uploads.length, self.requests.length, in_work, self.results.total()))
            if self.results.total() + self.poison >= self.scenario.images:
                self.drained.set()  # of what can be
            await asyncio.sleep(SAMPLE_EVERY)

    async def _bad_days(self) -> None:
        changes: list[tuple[float, Callable[[], None]]] = []
        if halved := self.scenario.halved:
            change = self.endpoint.service.change_quota
            changes += [
                (halved.begin, partial(change, self.scenario.quota / 2)),
                (halved.end, partial(change, self.scenario.quota)),
            ]
        if outage := self.scenario.outage:
            changes += [(outage.begin, self.endpoint.go_down), (outage.end, self.endpoint.come_back)]
        for at, change_at_last in sorted(changes, key=lambda change: change[0]):
            await asyncio.sleep(at - now())
            change_at_last()

    def _ideal(self, tokens: float) -> float:
        """Seconds that the quota takes to let so many tokens through."""
        seconds = tokens / (self.scenario.quota / 60)
        if (halved := self.scenario.halved) and seconds > halved.begin:
            seconds += min(seconds - halved.begin, (halved.end - halved.begin) / 2)
        if (outage := self.scenario.outage) and seconds > outage.begin:
            seconds += outage.end - outage.begin
        return seconds


def small_image() -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 48), "gray").save(file, "JPEG")
    return file.getvalue()
