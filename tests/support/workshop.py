"""The app's own parts in this process, on the emulator and with a scripted model: for tests that look inside."""

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, NoReturn, Self, override

from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpResponse, HttpRequest
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry
from azure.storage.queue.aio import QueueServiceClient

from localcloud.cloud import LocalCloud
from pipeline.batches.batches import Batches
from pipeline.batches.collecting import Collector
from pipeline.batches.service import BatchService
from pipeline.documents.facts import Picture, sent_pages
from pipeline.errors import Failure, RetryableFailure
from pipeline.job.analysis import Analyzer
from pipeline.job.batched import BatchLane
from pipeline.job.last_resort import LastResort
from pipeline.job.places import Place, Places
from pipeline.job.public import Allowed, parse_public
from pipeline.job.requests import Redrive, Request, parse_deferred
from pipeline.model.question import Question, Reply
from pipeline.pacing.gate import Busy
from pipeline.pacing.governor import Governor
from pipeline.pacing.rates import DailyTokens
from pipeline.settings import Settings
from pipeline.storage.claims import Claims
from pipeline.storage.lines import Lines
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results
from pipeline.storage.shards import Shards
from pipeline.storage.uploads import Uploads
from pipeline.triggers.deliveries import Deliveries, Pacing
from pipeline.triggers.lanes import Lanes
from pipeline.triggers.messages import Messages
from pipeline.triggers.poison import Poison
from pipeline.upkeep.reconcile import Reconciler
from pipeline.upkeep.redrive import Redriver
from support.person import Person
from support.pictures import picture

RETRY_FOR = timedelta(hours=24)


@dataclass
class Model:
    """Follows its scripted behaviours in order, then answers."""

    behaviours: deque[Callable[[], Any]] = field(default_factory=deque)
    replies: deque[Reply] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    """At which it was asked."""

    async def ask(self, question: Question, image: Picture) -> Reply:
        assert all(page.image.data for page in sent_pages(image))
        self.asked.append(question.instructions)
        self.tiers.append(question.service_tier)
        if self.behaviours:
            await self.behaviours.popleft()()
        return self.replies.popleft() if self.replies else Reply("An answer.", "stop", "fake", None, 1, 1, None, None)


def failing(failure: Failure) -> Callable[[], Any]:
    async def fail() -> NoReturn:
        await asyncio.sleep(0)
        raise failure

    return fail


THROTTLED = failing(RetryableFailure("The model is throttling (HTTP 429).", status=429, retry_after=7))
BUSY = failing(Busy("The deployment is at its limit.", retry_after=33))


@dataclass
class Queue:
    """Keeps what is sent."""

    sent: list[tuple[Request, float]] = field(default_factory=list)
    refuses: bool = False

    async def send(self, message: Any, delay: float) -> None:
        if self.refuses:
            raise RetryableFailure("The queue can't be reached.")
        self.sent.append((message, delay))


class Connection(AioHttpTransport):  # type: ignore[misc]  # the SDK hands it out lazily, untyped
    """Loses answers on the wire, or does not get as far as the service."""

    def __init__(self) -> None:
        super().__init__()
        self.is_lost: Callable[[str, str], bool] = lambda _method, _path: False
        self.is_refused: Callable[[str, str], bool] = lambda _method, _path: False
        self.is_down = False

    @override
    async def send(self, request: HttpRequest, **options: Any) -> AsyncHttpResponse:
        if self.is_down or self.is_refused(request.method, request.url):
            raise ServiceResponseError("down")
        answer: AsyncHttpResponse = await super().send(request, **options)
        if self.is_lost(request.method, request.url):
            self.is_lost = lambda _method, _path: False
            raise ServiceResponseError("lost")
        return answer


@dataclass
class Workshop:
    """The app's own parts on the emulator, with containers of their own that raise no events, and a model to script."""

    person: Person
    service: BlobServiceClient
    connection: Connection
    requests: MessageQueue
    deferred: MessageQueue
    queue: Queue = field(default_factory=Queue)
    model: Model = field(default_factory=Model)
    time: datetime = datetime(2026, 3, 14, tzinfo=UTC)
    claim_seconds: float = 60
    retry_for: timedelta = RETRY_FOR
    tokens: DailyTokens | None = None

    def __post_init__(self) -> None:
        self.settings = Settings.from_environment(self.person.cloud.app_settings() | {"ALLOWED_DEPLOYMENTS": "another"})
        self.marks = QueuedMarks(self.service, "shop-state")

    @property
    def claims(self) -> Claims:
        return Claims(self.service, "shop-state", self.claim_seconds)

    @property
    def places(self) -> Places:
        trials = Place(Uploads(self.service, "shop-trials"), Results(self.service, "shop-trials"))
        return Places(Place(Uploads(self.service, "shop-images"), Results(self.service, "shop-results")), trials)

    @property
    def analyzer(self) -> Analyzer:
        """Another one each time, as in another process."""
        lane = BatchLane(self.model, self.lines, self.settings.batch_deployment, self.tokens, now=lambda: self.time)
        return Analyzer(self.settings, self.places, self.claims, self.model, batch_lane=lane, now=lambda: self.time)

    @property
    def lines(self) -> Lines:
        return Lines(self.service, "shop-state")

    @property
    def shards(self) -> Shards:
        return Shards(self.service, "shop-state")

    def batches(self, service: BatchService, *, wait: float = 0) -> Batches:
        """Another one each time, as in another process."""
        collector = Collector(
            service, self.lines, self.claims, self.queue, self.marks, reread_for=300, now=lambda: self.time
        )
        return Batches(
            service=service,
            tokens=self.tokens,
            lines=self.lines,
            shards=self.shards,
            collector=collector,
            wait=wait,
            poll=60,
            lost_after=90,
            now=lambda: self.time,
        )

    @property
    def last_resort(self) -> LastResort:
        return LastResort(self.settings.openai_deployment, self.places, self.claims)

    @property
    def poison(self) -> Poison:
        return Poison(
            self.deliveries(),
            self.last_resort,
            self.queue,
            places=self.places,
            allowed=Allowed(),
            now=lambda: self.time,
        )

    def messages(self, allowed: Allowed | None = None) -> Messages:
        return Messages(
            self.deliveries(),
            self.last_resort,
            self.redriver,
            self.queue,
            places=self.places,
            allowed=allowed or Allowed(),
        )

    def deliveries(self, pacing: Pacing | None = None, **options: Any) -> Deliveries:
        return Deliveries(
            self.analyzer,
            self.last_resort,
            self.queue,
            self.marks,
            pacing or Governor(most_in_flight=8, patience=30),
            lanes=Lanes.of(self.settings),
            retry_for=self.retry_for.total_seconds(),
            now=lambda: self.time,
            **options,
        )

    def reconciler(self, *, grace: timedelta = timedelta(0), **options: Any) -> Reconciler:
        return Reconciler(
            self.service,
            Results(self.service, "shop-results"),
            self.deferred,
            self.requests,
            self.marks,
            images="shop-images",
            state="shop-state",
            dead_letters="shop-letters",
            grace=grace,
            **options,
        )

    @property
    def redriver(self) -> Redriver:
        results = Results(self.service, "shop-results")
        return Redriver(self.service, results, self.deferred, self.marks, images="shop-images")

    async def drop(self, name: str) -> Request:
        await self.person.blobs.get_blob_client("shop-images", name).upload_blob(
            picture(), metadata={"instructions": "?"}
        )
        return Request(container="shop-images", name=name)

    async def result(self, name: str) -> Any:
        client = self.person.blobs.get_blob_client("shop-results", f"{name}.json")
        return json.loads(await (await client.download_blob()).readall())

    async def results(self) -> list[str]:
        return [name async for name in self.person.blobs.get_container_client("shop-results").list_blob_names()]

    async def state(self) -> list[str]:
        """The claims and marks that are there, without their hashes."""
        container = self.person.blobs.get_container_client("shop-state")
        return [name.partition("/")[0] async for name in container.list_blob_names()]

    async def die_in_mid_call(self, request: Request) -> None:
        """Leave behind what a worker leaves that is killed while the model is asked."""

        async def die() -> NoReturn:
            self.connection.is_down = True
            raise asyncio.CancelledError

        self.model.behaviours.append(die)
        try:
            with suppress(asyncio.CancelledError):
                await self.analyzer.analyze(request)
        finally:
            self.connection.is_down = False

    async def hidden(self) -> int:
        """How many messages the queues hold, those that are not visible yet included."""
        return await self.requests.length() + await self.deferred.length()

    async def queued(self) -> list[Request | Redrive]:
        """Take the visible work from the queues."""
        async with QueueServiceClient.from_connection_string(self.person.cloud.front.connection_string) as service:
            found: list[Request | Redrive] = []
            for text in await _taken(service, "shop-requests"):
                found += parse_public(text, Allowed())
            return found + [parse_deferred(text) for text in await _taken(service, "shop-deferred")]


async def _taken(service: QueueServiceClient, queue: str) -> list[str]:
    client, found = service.get_queue_client(queue), []
    async for message in client.receive_messages(messages_per_page=32):
        found.append(base64.b64decode(message.content).decode())
        await client.delete_message(message)
    return found


CONTAINERS = ("shop-images", "shop-results", "shop-state")


@asynccontextmanager
async def workshop(person: Person) -> AsyncIterator[Workshop]:
    connection = Connection()
    front = person.cloud.front.connection_string
    quickly = ExponentialRetry(initial_backoff=0, increment_base=0, retry_total=1, random_jitter_range=0)
    async with (
        BlobServiceClient.from_connection_string(front, transport=connection, retry_policy=quickly) as service,
        QueueServiceClient.from_connection_string(front) as queues,
    ):
        for container in CONTAINERS:
            await person.blobs.create_container(container)
        for queue in ("shop-requests", "shop-deferred"):
            await queues.create_queue(queue)
        try:
            yield Workshop(
                person,
                service,
                connection,
                MessageQueue(queues, "shop-requests"),
                MessageQueue(queues, "shop-deferred"),
            )
        finally:
            for queue in ("shop-requests", "shop-deferred"):
                await queues.delete_queue(queue)
            for container in CONTAINERS:
                await person.blobs.delete_container(container)


class Identity:
    """The app's identity, for clients in this process."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._cloud.identity.token("https://storage.azure.com"), int(time()) + 3600)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass
