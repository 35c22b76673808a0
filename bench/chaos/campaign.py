"""The campaign: the cloud, uploads, faults until everything is sent, then none until nothing is pending."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from bench.chaos.batch_faults import BatchFaults
from bench.chaos.faults import Disturbances, EventFaults, ModelFaults, Schedule
from bench.chaos.ledger import SHARDS, Ledger
from bench.chaos.people import People, Sent
from bench.chaos.plan import SCHEMA, SCHEMA_NAME, Item
from bench.chaos.steps import LINES
from localcloud.cloud import HOST_ACCOUNT, QUEUES, LocalCloud
from localcloud.model import Question
from pipeline.names import result_name, wants_result
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results
from pipeline.storage.shards import DONE
from pipeline.upkeep.reconcile import Reconciler

ROOT = Path(__file__).parent.parent.parent

AT_ONCE = 32
"""Images that people upload, change or delete at the same time."""
QUIET_SECONDS = 2
"""The grace of the reconciliation here, where the production one is an hour: all that is younger has just been sent."""

CLAIM_SECONDS = 4
MODEL_TIMEOUT_SECONDS = 4

APP_SETTINGS = {
    "FUNCTIONS_WORKER_PROCESS_COUNT": "2",
    "CLAIM_SECONDS": str(CLAIM_SECONDS),
    "MODEL_TIMEOUT_SECONDS": str(MODEL_TIMEOUT_SECONDS),
    # Seconds for which a killed host, or a queue's lost answer, leaves a message invisible.
    "LOCAL_HOST_HIDDEN_SECONDS": "10",
    # Before a host is started again, which doubles each time: so many killed workers stop one every minute.
    "LOCAL_HOST_RESTART_SECONDS": "0.2",
}

type Say = Callable[[str, int, int], None]
"""Called with the current step, its progress and its total."""


class Echo:
    """Answers at no cost."""

    def answer(self, question: Question) -> str:
        return f"You asked: {question.instructions}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob in a listing."""

    name: str
    etag: str
    metadata: dict[str, str]


@dataclass(slots=True)
class Campaign:
    """One campaign against a cloud that is up."""

    cloud: LocalCloud
    log: Path
    """The functions host's."""
    model: ModelFaults
    ledger: Ledger
    events: EventFaults
    batches: BatchFaults
    disturbances: Disturbances = field(init=False)
    plan: list[Item]
    schedule: Schedule
    backlog: int
    """Uploads ahead of their results, those that wait for faults to pass included: the next one then waits too. Keeps
    the faults going while the work is done, and not only while it is sent."""
    patience: float
    """Seconds for what is left when the faults are over."""
    say: Say
    sent: list[Sent] = field(default_factory=list)
    finished: int = 0
    reconciled: int = 0
    """Uploads that the reconciliation queued."""
    pending: list[str] = field(default_factory=list)
    """Uploads without a current result when patience ended."""
    settled_for: float = 0.0
    """Seconds from the end of the faults until nothing was pending."""
    blobs: BlobServiceClient = field(init=False)
    queues: QueueServiceClient = field(init=False)
    host_queues: QueueServiceClient = field(init=False)
    _stack: AsyncExitStack = field(init=False, default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        cloud = self.cloud
        cloud.model.script.policy = self.model
        self.batches.decide(cloud.model.batches.script)
        self.disturbances = Disturbances(
            cloud,
            self.model,
            self.ledger,
            self.model.seed,
            self._part_sent,
            lambda: self.finished,
            self.schedule,
            self.batches.killer,
        )
        key, bundle = cloud.front.connection_string, str(cloud.certificates.bundle)
        enter = self._stack.enter_async_context
        # A failed upload is repeated by us, as another version, since it may have arrived.
        self.blobs = await enter(BlobServiceClient.from_connection_string(key, retry_total=0))
        self.queues = await enter(QueueServiceClient.from_connection_string(key))
        self.host_queues = await enter(
            QueueServiceClient(cloud.azurite.queue_url(HOST_ACCOUNT), _Identity(cloud), connection_verify=bundle)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Send everything while things fail; then wait until every upload has its result and nothing is queued."""
        schema = self.blobs.get_blob_client("images", SCHEMA_NAME)
        await schema.upload_blob(json.dumps(SCHEMA).encode())
        async with self._watched(), self.disturbances.going_on():
            places, people = asyncio.Semaphore(AT_ONCE), People(self.blobs, self.model.names)
            async with asyncio.TaskGroup() as tasks:
                for item in self.plan:
                    await places.acquire()
                    await self._backlog_down()
                    sent = Sent(item)
                    self.sent.append(sent)
                    tasks.create_task(people.live(sent)).add_done_callback(lambda _: places.release())
                    self.say("Uploading while everything fails", len(self.sent), len(self.plan))
        self.model.active = self.events.active = False
        self.batches.stop()
        began = time.monotonic()
        await self._settle()
        self.settled_for = time.monotonic() - began

    async def _backlog_down(self) -> None:
        while len(self.sent) - self.finished - self.events.counts["lost"] > self.backlog:  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.1)

    def _part_sent(self) -> float:
        return len(self.sent) / len(self.plan)

    # --- what is there

    async def listed(self, container: str, prefix: str = "") -> list[Stored]:
        listing = self.blobs.get_container_client(container).list_blobs(prefix or None, include=["metadata"])
        return [Stored(blob.name, blob.etag.strip('"'), dict(blob.metadata or {})) async for blob in listing]

    async def read(self, container: str, blob: str) -> bytes:
        stream = await self.blobs.get_blob_client(container, blob).download_blob()
        return await stream.readall()

    async def queued(self) -> dict[str, int]:
        """Messages in each queue, those that are processed or hidden included."""
        clients = [self.queues.get_queue_client(queue) for queue in QUEUES]
        clients.append(self.host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{self.cloud.functions.host_id}"))
        counts = await asyncio.gather(*(client.get_queue_properties() for client in clients))
        return {
            client.queue_name: count.approximate_message_count or 0
            for client, count in zip(clients, counts, strict=True)
        }

    async def unfinished_batches(self) -> int:
        """Lines, and shards that are not done."""
        lines, shards = await asyncio.gather(
            self.listed("pipeline-state", LINES), self.listed("pipeline-state", SHARDS)
        )
        return len(lines) + sum(DONE not in shard.metadata for shard in shards)

    async def _without_result(self) -> list[str]:
        images, results = await asyncio.gather(self.listed("images"), self.listed("results"))
        done = {result.name: result.metadata.get("sourceetag") for result in results}
        return [
            image.name
            for image in images
            if wants_result(image.name) and done.get(result_name(image.name)) != image.etag
        ]

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Keep `finished` up to date."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(1)
                names = self.blobs.get_container_client("results").list_blob_names()
                try:
                    self.finished = len([name async for name in names])
                except AzureError:
                    continue  # the emulator restarts

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    # --- when the faults are over

    async def _settle(self) -> None:
        deadline = time.monotonic() + self.patience
        await asyncio.wait_for(self.cloud.events.settled(), self.patience)
        reconciler = self._reconciler()
        most = 1
        while True:
            self.pending, queued = await self._without_result(), sum((await self.queued()).values())
            left = len(self.pending) + queued + await self.unfinished_batches()
            most = max(most, left)
            self.say("Waiting for what is left", most - left, most)
            if not left or time.monotonic() > deadline:
                return
            if self.pending and not await self._processing():
                await reconciler.run()
                self.reconciled += await self._queued_by_reconcile()
            await asyncio.sleep(1)

    async def _queued_by_reconcile(self) -> int:
        """Uploads that the pass that has just ended queued."""
        progress = await self.blobs.get_blob_client("pipeline-state", "reconciliation.json").download_blob()
        return int(json.loads(await progress.readall())["summary"]["queued"])

    async def _processing(self) -> int:
        """Messages that functions run for."""
        status = await self.disturbances.host_status()
        return int(status["messages"]) if status else 0

    def _reconciler(self) -> Reconciler:
        """Run the timer's reconciliation, with less grace."""
        return Reconciler(
            self.blobs,
            Results(self.blobs, "results"),
            MessageQueue(self.queues, "deferred-work"),
            MessageQueue(self.queues, "analysis-requests"),
            QueuedMarks(self.blobs, "pipeline-state"),
            images="images",
            state="pipeline-state",
            dead_letters="dead-letters",
            grace=timedelta(seconds=QUIET_SECONDS),
        )


class _Identity:
    """The app's own identity, to read the host's account: its key is not used here."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._cloud.identity.token("https://storage.azure.com"), int(time.time()) + 3600)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
