"""Changing over from one delivery to the other loses no upload and pays for none twice."""

from pathlib import Path

import pytest
from azure.storage.queue.aio import QueueServiceClient
from support.person import People, Person
from support.pictures import picture

from localcloud.cloud import COMPLETING_CALLS
from localcloud.event_grid import StorageQueue, WebHook

IMAGES = "/blobServices/default/containers/images/blobs/"
NOWHERE = "/blobServices/default/containers/none/blobs/"


@pytest.mark.parametrize("new", ["queue", "webhook"])
async def test_uploads_go_on_while_the_subscription_changes(tmp_path: Path, new: str, people: People) -> None:
    """As the hook does it: the new one is there before the old one goes."""
    async with (
        people(tmp_path) as person,
        QueueServiceClient.from_connection_string(person.cloud.front.connection_string) as queues,
    ):
        ways: dict[str, WebHook | StorageQueue] = {
            "webhook": WebHook(person.cloud.functions.webhook_url("analyze_image")),
            "queue": StorageQueue(queues.get_queue_client("analysis-requests")),
        }

        async def subscribe(way: str, subjects: str) -> None:
            await person.cloud.events.subscribe(way, ways[way], subject_begins_with=subjects, apis=COMPLETING_CALLS)

        old = "webhook" if new == "queue" else "queue"
        await subscribe(old, IMAGES)
        await person.cloud.events.subscribe("analyze-image", ways["webhook"], subject_begins_with=NOWHERE)
        await drop(person, range(8))
        await subscribe(new, IMAGES)
        await drop(person, range(8, 16))
        await subscribe(old, NOWHERE)
        await drop(person, range(16, 24))
        for number in range(24):
            assert (await person.result(f"{number}.png"))["status"] == "succeeded"
        await person.cloud.events.settled()
        assert not person.cloud.events.dead_letters
        assert {number: len(person.asked(f"Number {number}?")) for number in range(24)} == dict.fromkeys(range(24), 1)


async def drop(person: Person, numbers: range) -> None:
    for number in numbers:
        await person.drop(f"{number}.png", picture(), {"instructions": f"Number {number}?"})
