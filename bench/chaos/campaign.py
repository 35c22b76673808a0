"""The campaign: the cloud, somebody who uploads, faults until all is sent, then peace until nothing is pending."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from bench.chaos.faults import Disturbances, EventFaults, ModelFaults, Schedule
from bench.chaos.ledger import Ledger
from bench.chaos.plan import Item, Kind
from localcloud.cloud import HOST_ACCOUNT, QUEUES, LocalCloud
from localcloud.model import Question
from pipeline.names import result_name, wants_result
from pipeline.requests import RequestQueue
from pipeline.storage import Results
from pipeline.upkeep import Upkeep
from pipeline.waiting import Waiting

ROOT = Path(__file__).parent.parent.parent

AT_ONCE = 32
"""Images that people upload, change or delete at the same time."""
BACKLOG = 100
"""Uploads ahead of their results, those that wait for faults to pass included: the next one then waits too. Keeps the
faults going while the work is done, and not only while it is sent."""
LONGEST_WAIT = 15.0
"""Seconds for which somebody who is going to touch an image waits for its result: events are lost, too."""
QUIET_SECONDS = 2
"""The grace of the reconciliation here, where the production one is an hour: all that is younger has just been sent."""

CLAIM_SECONDS = 4
MODEL_TIMEOUT_SECONDS = 4

APP_SETTINGS = {
    "FUNCTIONS_WORKER_PROCESS_COUNT": "2",
    "CLAIM_SECONDS": str(CLAIM_SECONDS),
    "MODEL_TIMEOUT_SECONDS": str(MODEL_TIMEOUT_SECONDS),
    # What a host that is killed, or an answer of the queue that a restart cuts off, hides from everybody.
    "LOCAL_HOST_HIDDEN_SECONDS": "10",
}

type Say = Callable[[str, int, int], None]
"""Told what is done now, how much of it, of how much."""


class Echo:
    """Answers at no cost."""

    def answer(self, question: Question) -> str:
        return f"You asked: {question.instructions}"


@dataclass(slots=True)
class Sent:
    """What became of one item on our side."""

    item: Item
    versions: int = 0
    """Uploads that were tried; one that failed may have arrived nevertheless."""
    question: str | None = None
    """What is asked of it in the end."""
    touched_at: float | None = None
    """Its ETag is younger than this, in seconds since 1970; its bytes and its question may be older."""
    deleted_at: float | None = None
    """By then it was certainly gone, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob in a listing."""

    name: str
    etag: str
    modified: float
    """Seconds since 1970, whole ones."""
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
    disturbances: Disturbances = field(init=False)
    plan: list[Item]
    schedule: Schedule
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
        self.disturbances = Disturbances(
            cloud, self.model, self.ledger, self.model.seed, self._part_sent, lambda: self.finished, self.schedule
        )
        key, bundle = cloud.front.connection_string, str(cloud.certificates.bundle)
        enter = self._stack.enter_async_context
        # What fails is tried again by us: as another version, since it may have arrived.
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
        async with self._watched(), self.disturbances.going_on():
            places = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as tasks:
                for item in self.plan:
                    await places.acquire()
                    await self._backlog_down()
                    sent = Sent(item)
                    self.sent.append(sent)
                    tasks.create_task(self._live(sent)).add_done_callback(lambda _: places.release())
                    self.say("Uploading while everything fails", len(self.sent), len(self.plan))
        self.model.active = self.events.active = False
        began = time.monotonic()
        await self._settle()
        self.settled_for = time.monotonic() - began

    async def _backlog_down(self) -> None:
        while len(self.sent) - self.finished - self.events.counts["lost"] > BACKLOG:  # noqa: ASYNC110 - others' work
            await asyncio.sleep(0.1)

    def _part_sent(self) -> float:
        return len(self.sent) / len(self.plan)

    # --- what people do

    async def _live(self, sent: Sent) -> None:
        """One item's story."""
        item = sent.item
        if item.kind is Kind.SIDECAR_BEFORE:
            await self._ask_aside(sent)
        await self._upload(sent)
        for pause in item.pauses:
            if item.kind is Kind.TOUCHED:
                await self._result_there(sent)
            await asyncio.sleep(pause)
            match item.kind:
                case Kind.SIDECAR_AFTER:
                    await self._ask_aside(sent)
                case Kind.DELETED:
                    await self._delete(sent)
                case Kind.TOUCHED:
                    await self._touch(sent)
                case Kind.REUPLOADED:
                    await self._upload(sent, again=True)
                case _:
                    await self._upload(sent)

    async def _upload(self, sent: Sent, *, again: bool = False) -> None:
        """Upload the next version, or the same one again."""

        async def once() -> None:
            if again:
                sent.touched_at = time.time()
            else:
                sent.versions += 1
            blob = self.blobs.get_blob_client("images", sent.item.name)
            data, metadata = sent.item.content(sent.versions), sent.item.metadata(sent.versions)
            self.model.names.note(sent.item.name, data)
            headers = ContentSettings(content_encoding="gzip") if sent.item.kind is Kind.MISENCODED else None
            await blob.upload_blob(BytesIO(data), overwrite=True, metadata=metadata, content_settings=headers)
            sent.question = metadata.get("instructions", sent.question)

        await _until_done(once)

    async def _result_there(self, sent: Sent) -> None:
        """Until it has a result; for as long as people wait before they do something else."""
        deadline = time.monotonic() + LONGEST_WAIT
        blob = self.blobs.get_blob_client("results", result_name(sent.item.name))
        while time.monotonic() < deadline:
            with suppress(AzureError):
                if await blob.exists():
                    return
            await asyncio.sleep(0.5)

    async def _touch(self, sent: Sent) -> None:
        async def once() -> None:
            sent.touched_at = time.time()
            metadata = sent.item.metadata(sent.versions) | {"remark": "seen"}
            await self.blobs.get_blob_client("images", sent.item.name).set_blob_metadata(metadata)

        await _until_done(once)

    async def _ask_aside(self, sent: Sent) -> None:
        question = sent.item.question(1)
        blob = self.blobs.get_blob_client("images", sent.item.sidecar)
        # The same text again is no other work, so this one may be sent twice.
        await _until_done(lambda: blob.upload_blob(BytesIO(question.encode()), overwrite=True))
        sent.question = question

    async def _delete(self, sent: Sent) -> None:
        async def once() -> None:
            try:
                await self.blobs.get_blob_client("images", sent.item.name).delete_blob()
            except ResourceNotFoundError:
                return  # the try before was heard

        await _until_done(once)
        sent.deleted_at = time.time()

    # --- what is there

    async def listed(self, container: str, prefix: str = "") -> list[Stored]:
        listing = self.blobs.get_container_client(container).list_blobs(prefix or None, include=["metadata"])
        return [
            Stored(blob.name, blob.etag.strip('"'), blob.last_modified.timestamp(), dict(blob.metadata or {}))
            async for blob in listing
        ]

    async def queued(self) -> dict[str, int]:
        """Messages in each queue, those that are processed or hidden included."""
        clients = [self.queues.get_queue_client(queue) for queue in QUEUES]
        clients.append(self.host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{self.cloud.functions.host_id}"))
        counts = await asyncio.gather(*(client.get_queue_properties() for client in clients))
        return {
            client.queue_name: count.approximate_message_count or 0
            for client, count in zip(clients, counts, strict=True)
        }

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
        upkeep = self._upkeep()
        most = 1
        while True:
            self.pending, queued = await self._without_result(), sum((await self.queued()).values())
            most = max(most, len(self.pending) + queued)
            self.say("Waiting for what is left", most - len(self.pending) - queued, most)
            if (not self.pending and not queued) or time.monotonic() > deadline:
                return
            if self.pending and not await self._processing():
                await upkeep.reconcile()
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

    def _upkeep(self) -> Upkeep:
        """What the timer runs, with less grace."""
        return Upkeep(
            self.blobs,
            Results(self.blobs, "results"),
            RequestQueue(self.queues, "analysis-requests"),
            Waiting(self.blobs, "pipeline-state"),
            images="images",
            state="pipeline-state",
            dead_letters="dead-letters",
            grace=timedelta(seconds=QUIET_SECONDS),
        )


class _Identity:
    """The app's own identity, to look into the host's account: nobody here has its key."""

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


async def _until_done(once: Callable[[], Awaitable[object]]) -> None:
    """A person tries again until it works: the emulator may be restarting."""
    while True:
        try:
            await once()
        except AzureError:
            await asyncio.sleep(0.3)
        else:
            return
