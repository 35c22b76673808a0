"""Event Grid's documented behaviour: handshake, filters, at-least-once delivery, retries, dead letters."""

import base64
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from azure.storage.queue.aio import QueueClient

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.event_grid import (
    RETRY_SCHEDULE,
    DeadLetter,
    EventGrid,
    Fault,
    StorageQueue,
    SubscriptionError,
    WebHook,
)

QUICK = (0.01,) * len(RETRY_SCHEDULE)


def event(name: str = "a.jpg", container: str = "images", **changes: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {"api": "PutBlob"},
    } | changes


class Subscriber:
    """A webhook with a script: statuses for its next requests, 202 afterwards."""

    def __init__(self) -> None:
        self.url = ""
        self.script: deque[int] = deque()
        self.history: list[tuple[dict[str, str], Any]] = []
        self.answers_handshake = True

    async def answer(self, request: web.Request) -> web.Response:
        events = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            code = events[0]["data"]["validationCode"] if self.answers_handshake else "something else"
            return web.json_response({"validationResponse": code})
        self.history.append(
            ({name: value for name, value in request.headers.items() if name.startswith("aeg-")}, events)
        )
        return web.Response(status=self.script.popleft() if self.script else 202)

    @property
    def names(self) -> list[str]:
        return [events[0]["subject"].rpartition("/")[2] for _, events in self.history]


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    subscriber = Subscriber()
    site = web.Application()
    site.router.add_post("/hook", subscriber.answer)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    subscriber.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield subscriber
    await runner.cleanup()


async def test_a_webhook_gets_each_event_alone_in_an_array_with_the_documented_headers(subscriber: Subscriber) -> None:
    """One event per request, also for events published together."""
    async with EventGrid() as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        published = event()
        grid.publish(published)
        await grid.settled()
    ((headers, events),) = subscriber.history
    assert events == [published]
    assert headers == {
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "IMAGES",
        "aeg-delivery-count": "0",
        "aeg-data-version": "",
        "aeg-metadata-version": "1",
    }


async def test_a_webhook_that_fails_the_handshake_gets_nothing(subscriber: Subscriber) -> None:
    """Whether it answers without the code or not at all."""
    subscriber.answers_handshake = False
    async with EventGrid() as grid:
        with pytest.raises(SubscriptionError, match="without the code; check its URL and key"):
            await grid.subscribe("images", WebHook(subscriber.url))
        with pytest.raises(SubscriptionError, match="cannot be reached"):
            await grid.subscribe("images", WebHook("http://127.0.0.1:1/hook"))
        grid.publish(event())
        assert grid.pending == 0
    assert subscriber.history == []


async def test_filters_are_those_of_an_event_subscription(subscriber: Subscriber) -> None:
    """Subject (without regard to case), event type, data.api; without /blobs/ the filter would take images2 too."""
    async with EventGrid() as grid:
        await grid.subscribe(
            "images",
            WebHook(subscriber.url),
            subject_begins_with="/blobServices/default/containers/images/blobs/",
            subject_ends_with=".JPG",
            included_event_types=["Microsoft.Storage.BlobCreated"],
            apis=["PutBlob", "PutBlockList"],
        )
        grid.publish(event("taken.jpg"))
        grid.publish(event("other.jpg", "images2"))
        grid.publish(event("text.txt"))
        grid.publish(event("deleted.jpg", eventType="Microsoft.Storage.BlobDeleted"))
        grid.publish(event("chunk.jpg", data={"api": "AppendBlock"}))
        await grid.settled()
    assert subscriber.names == ["taken.jpg"]


async def test_failed_deliveries_are_retried_until_they_succeed(subscriber: Subscriber) -> None:
    """Counted in a header; nothing becomes a dead letter."""
    subscriber.script.extend([500, 503, 404, 200])
    async with EventGrid(schedule=QUICK) as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        grid.publish(event())
        await grid.settled()
        assert grid.dead_letters == []
    assert [headers["aeg-delivery-count"] for headers, _ in subscriber.history] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("status", [400, 401, 403, 413])
async def test_statuses_that_no_retry_can_help_make_dead_letters_at_once(subscriber: Subscriber, status: int) -> None:
    subscriber.script.append(status)
    async with EventGrid(schedule=QUICK) as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        published = event()
        grid.publish(published)
        await grid.settled()
        assert grid.dead_letters == [DeadLetter(published, "images", "NotRetried", 1, f"HTTP {status}")]
    assert len(subscriber.history) == 1


async def test_an_event_is_given_up_after_thirty_attempts(subscriber: Subscriber) -> None:
    """The service's default."""
    subscriber.script.extend([500] * 40)
    async with EventGrid(schedule=QUICK) as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        grid.publish(event())
        await grid.settled()
        (letter,) = grid.dead_letters
    assert (letter.reason, letter.attempts, len(subscriber.history)) == ("MaxDeliveryAttemptsExceeded", 30, 30)


async def test_an_event_is_given_up_when_its_next_retry_would_come_after_a_day(subscriber: Subscriber) -> None:
    """Time to live: 1,440 minutes."""
    subscriber.script.append(500)
    async with EventGrid(schedule=(200_000,)) as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        grid.publish(event())
        await grid.settled()
        assert [letter.reason for letter in grid.dead_letters] == ["TimeToLiveExceeded"]


async def test_a_storage_queue_gets_the_events_base64(
    azurite: Azurite, account_keys: dict[str, str], certificates: Certificates
) -> None:
    """So that a queue trigger can read it; while the queue is missing, delivery is retried."""
    queue = QueueClient(
        azurite.queue_url("devstoreaccount1"),
        f"events-{uuid.uuid4().hex[:8]}",
        account_keys["devstoreaccount1"],
        connection_verify=str(certificates.bundle),
    )
    async with queue, EventGrid(schedule=(0.05,)) as grid:
        await grid.subscribe("images", StorageQueue(queue))
        published = event()
        grid.publish(published)
        await queue.create_queue()
        await grid.settled()
        message = await queue.receive_message()
        assert message is not None
        assert json.loads(base64.b64decode(message.content)) == published


async def test_scripted_faults_lose_double_and_reorder(subscriber: Subscriber) -> None:
    """As the service may do, and its users must bear."""
    faults = {"lost": Fault(lose=True), "late": Fault(delay=0.2), "twice": Fault(copies=2)}
    async with EventGrid(faults=lambda event: faults[event["subject"].rpartition("/")[2]]) as grid:
        await grid.subscribe("images", WebHook(subscriber.url))
        for name in ("lost", "late", "twice"):
            grid.publish(event(name))
        await grid.settled()
    assert subscriber.names == ["twice", "twice", "late"]
