"""The Functions host, as far as it decides when work begins: queues, their listeners, instances.

Written from the host's and the storage extension's sources. (`make up` runs a faithful reimplementation with real
queues; this one has none of their cost.) A listener takes a batch of messages, starts them all, and takes the next
batch when no more than a threshold are left; if there are none it polls again after a growing pause.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from bench.simulation.clock import now
from bench.simulation.storage import Operations
from pipeline.job.requests import Redrive, Request

LARGEST_BATCH = 32
"""Most messages of one Get Messages.
https://learn.microsoft.com/rest/api/storageservices/get-messages"""
FIRST_POLL, LONGEST_POLL = 0.1, 60.0
"""Seconds between two looks at an empty queue: doubled up to a minute, host.json's default maxPollingInterval."""


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Of one function on one instance."""

    batch: int
    threshold: int
    retry_after: float
    """Seconds for which a message is invisible after a failed delivery."""
    deliveries: int
    """Failed deliveries after which a message is poison."""


def parallelism(host: Any) -> tuple[Parallelism, Parallelism]:
    """Of blob triggers and of queue triggers, by host.json's content."""
    blobs, queues = host["extensions"]["blobs"], host["extensions"]["queues"]
    most = blobs["maxDegreeOfParallelism"]
    batch = min(LARGEST_BATCH, most // 2 + 1)  # as SharedBlobQueueListenerFactory has it
    hours, minutes, seconds = map(float, queues["visibilityTimeout"].split(":"))
    return (
        Parallelism(batch, most - batch, 0.0, blobs["poisonBlobThreshold"]),
        Parallelism(
            queues["batchSize"],
            queues["newBatchThreshold"],
            hours * 3600 + minutes * 60 + seconds,
            queues["maxDequeueCount"],
        ),
    )


@dataclass(order=True, slots=True)
class Message:
    visible_at: float
    number: int
    request: Request = field(compare=False)
    failed: int = field(default=0, compare=False)


class Queue:
    """A storage queue; its messages come in the order in which they become visible."""

    def __init__(self, operations: Operations) -> None:
        self._messages: list[Message] = []
        self._numbers = count()
        self._operations = operations
        self.poison: list[Request] = []
        self.sent = 0
        """Messages sent by the app: deferred work."""
        self.most_attempts = 1

    async def send(self, request: Request | Redrive, delay: float) -> None:
        """As `pipeline.storage.queue.MessageQueue`."""
        assert isinstance(request, Request)  # noqa: S101 - redrives are not simulated
        await self._operations.one("queue")
        self.sent += 1
        self.most_attempts = max(self.most_attempts, request.attempt)
        self.put(request, delay)

    def put(self, request: Request, delay: float, failed: int = 0) -> None:
        heapq.heappush(self._messages, Message(now() + delay, next(self._numbers), request, failed))

    async def take(self, most: int) -> list[Message]:
        await self._operations.one("queue")
        taken: list[Message] = []
        while self._messages and self._messages[0].visible_at <= now() and len(taken) < most:
            taken.append(heapq.heappop(self._messages))
        return taken

    async def delete(self) -> None:
        await self._operations.one("queue")

    @property
    def length(self) -> int:
        """Hidden ones included: as the platform counts when it decides how many instances there should be."""
        return len(self._messages)


class Uploads(Queue):
    """The blob trigger's own queue, on which an event is put for each image: `total` of them, so many a second."""

    def __init__(self, operations: Operations, total: int, per_second: float) -> None:
        super().__init__(operations)
        self._total = total
        self._per_second = per_second
        self._begun = 0

    def arrival(self, number: int) -> float:
        """When the image was uploaded, in seconds."""
        return number / self._per_second

    async def take(self, most: int) -> list[Message]:
        taken = await super().take(most)
        last = min(self._arrived, self._begun + most - len(taken))
        for number in range(self._begun, last):
            request = Request(container="images", name=f"{number}.jpg")
            taken.append(Message(self.arrival(number), number, request))
        self._begun = max(self._begun, last)
        return taken

    @property
    def _arrived(self) -> int:
        return min(self._total, int(now() * self._per_second) + 1)

    @property
    def length(self) -> int:
        return super().length + self._arrived - self._begun


class Listener:
    """One function on one instance."""

    def __init__(
        self, queue: Queue, allowed: Parallelism, handle: Callable[[Request], Awaitable[None]], rng: Random
    ) -> None:
        self._queue = queue
        self._allowed = allowed
        self._handle = handle
        self._rng = rng
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy_since = 0.0
        self.busy_seconds = 0.0
        """Seconds with anything in progress, which Flex Consumption bills."""
        self.delivered = 0

    @property
    def in_work(self) -> int:
        return len(self._tasks)

    async def listen(self) -> None:
        pause = FIRST_POLL
        while True:
            messages = await self._queue.take(self._allowed.batch)
            if messages and not self._tasks:
                self._busy_since = now()
            for message in messages:
                task = asyncio.create_task(self._deliver(message))
                self._tasks.add(task)
                task.add_done_callback(self._done)
            if messages:
                pause = FIRST_POLL
                while self.in_work > self._allowed.threshold:
                    self._room.clear()
                    await self._room.wait()
            else:
                await asyncio.sleep(pause * self._rng.uniform(0.8, 1.2))
                pause = min(pause * 2, LONGEST_POLL)

    async def _deliver(self, message: Message) -> None:
        self.delivered += 1
        try:
            await self._handle(message.request)
        except Exception:  # noqa: BLE001 - on any exception of a function, the host delivers again
            if message.failed + 1 < self._allowed.deliveries:
                self._queue.put(message.request, self._allowed.retry_after, message.failed + 1)
            else:
                self._queue.poison.append(message.request)
        else:
            await self._queue.delete()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self.busy_seconds += now() - self._busy_since
        if self.in_work <= self._allowed.threshold:
            self._room.set()


SCALE_EVERY = 10.0
"""Seconds between two looks of the platform at the queues. An assumption: Azure documents none."""
SCALE_STEP = 4
"""Instances that target-based scaling adds at most in one step.
https://learn.microsoft.com/azure/azure-functions/functions-target-based-scaling"""
COLD_START = 5.0
"""Seconds to start an instance. An assumption; `make bench` measures the app's own part."""


class ScaleGroup:
    """The instances for one function. Flex Consumption scales the blob functions as one group, the others separately.

    https://learn.microsoft.com/azure/azure-functions/event-driven-scaling#per-function-scaling
    As many as the queue's length asks for, up to a maximum; here none is ever taken away, but only busy ones cost.
    """

    def __init__(
        self, queue: Queue, allowed: Parallelism, maximum: int, at_once: int, start: Callable[[], Listener]
    ) -> None:
        self._queue = queue
        self._allowed = allowed
        self._maximum = maximum
        self._at_once = at_once
        self._start = start
        self.listeners: list[Listener] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = min(self._maximum, -(-self._queue.length // self._allowed.batch))
                step = SCALE_STEP if self.listeners else max(self._at_once, 1)
                for _ in range(min(step, wanted - len(self.listeners))):
                    group.create_task(self._run_one())
                await asyncio.sleep(SCALE_EVERY)

    async def _run_one(self) -> None:
        listener = self._start()
        self.listeners.append(listener)
        await asyncio.sleep(COLD_START)
        await listener.listen()
