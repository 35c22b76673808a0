"""An event that Event Grid gave up on costs its image minutes: the timer reads the dead letters."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.person import Person
from support.pictures import picture
from support.workshop import Workshop, workshop

from pipeline.job.requests import Request
from pipeline.upkeep.reconcile import GRACE, Reconciler


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        await person.blobs.create_container("shop-letters")
        yield shop
        await person.blobs.delete_container("shop-letters")


def event(name: str, container: str = "shop-images") -> dict[str, Any]:
    """As Event Grid writes it. https://learn.microsoft.com/azure/event-grid/manage-event-delivery"""
    return {
        "id": "930d35dd-601e-003b-2b10-3b5bd5068d94",
        "eventTime": "2026-11-27T02:00:00.1234567Z",
        "eventType": "Microsoft.Storage.BlobCreated",
        "dataVersion": "",
        "metadataVersion": "1",
        "topic": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "deadLetterReason": "UndeliverableDueToHttpUnauthorized",
        "deliveryAttempts": 1,
        "lastDeliveryOutcome": "Unauthorized",
        "lastHttpStatusCode": 401,
        "publishTime": "2026-11-27T02:00:00.5Z",
        "lastDeliveryAttemptTime": "2026-11-27T02:00:01.5Z",
        "data": {"api": "PutBlob", "eTag": "0x8D4BCC2E4835CD0", "blobType": "BlockBlob", "url": "https://a/b"},
    }


async def give_up(shop: Workshop, number: int, content: object) -> None:
    name = f"TOPIC/SUBSCRIPTION/2026/11/27/2/{number}.json"
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    await shop.person.blobs.get_blob_client("shop-letters", name).upload_blob(body)


def reconciler(shop: Workshop, **options: Any) -> Reconciler:
    """Without its grace reconcile would find the images in any case."""
    return shop.reconciler(grace=GRACE, **options)


async def queued(shop: Workshop) -> list[str]:
    return sorted(request.name for request in await shop.queued() if isinstance(request, Request))


async def test_the_images_of_new_dead_letters_are_queued_once(shop: Workshop) -> None:
    for name in ("a.png", "b.png", "c.png"):
        await shop.drop(name)
    await give_up(shop, 1, [event("a.png"), event("b.png"), event("x.png", "another")])
    await reconciler(shop).run()
    assert await queued(shop) == ["a.png", "b.png"]
    for name in ("a.png", "b.png"):
        await shop.marks.clear(name)
    await give_up(shop, 2, [event("c.png"), event("_instructions.md")])
    await reconciler(shop).run()
    await reconciler(shop).run()
    assert await queued(shop) == ["c.png"]


async def test_a_sidecar_whose_event_is_a_dead_letter_has_its_image_asked_anew(shop: Workshop) -> None:
    """The listings don't show it: the image has a current result."""
    images = shop.person.blobs.get_container_client("shop-images")
    await images.upload_blob("a.png", picture())
    await shop.analyzer.analyze(Request(container="shop-images", name="a.png"))
    await images.upload_blob("a.png.instructions.txt", "And now?")
    await give_up(shop, 1, [event("a.png.instructions.txt"), event("a.schema.json"), event("_instructions.txt")])
    await reconciler(shop).run()
    (request,) = await shop.queued()
    assert isinstance(request, Request)
    await shop.deliveries().handle(request)
    assert (await shop.result("a.png"))["instructions"]["text"] == "And now?"
    assert not await shop.marks.is_marked("a.png.instructions.txt")
    await reconciler(shop).run()
    assert await queued(shop) == []


async def test_unreadable_dead_letters_are_named_and_the_rest_goes_on(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.drop("a.png")
    for number, content in enumerate([b"\xff{", b"", {"no": "event"}, [event("a.png")]]):
        await give_up(shop, number, content)
    await reconciler(shop).run()
    assert await queued(shop) == ["a.png"]
    unread = [record.getMessage() for record in caplog.records if "can't be read" in record.getMessage()]
    assert len(unread) == 3


async def test_no_more_are_queued_than_may_wait(shop: Workshop) -> None:
    for number in range(4):
        await shop.drop(f"{number}.png")
        await give_up(shop, number, [event(f"{number}.png")])
    await reconciler(shop, most_queued=2).run()
    assert len(await queued(shop)) == 2
    await reconciler(shop, most_queued=10).run()
    assert len(await queued(shop)) == 2


async def test_without_a_dead_letter_container_there_is_nothing_to_read(shop: Workshop) -> None:
    await shop.person.blobs.delete_container("shop-letters")
    await reconciler(shop).run()
    assert await queued(shop) == []
    await shop.person.blobs.create_container("shop-letters")
