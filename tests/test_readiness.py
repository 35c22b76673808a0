"""The note that the app can do its work: what a deployment waits for before it subscribes to events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from support.guarded_storage import guarded
from support.person import Person
from support.workshop import Workshop, workshop

from pipeline.settings import Settings
from pipeline.storage.notes import Notes
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads
from pipeline.upkeep.readiness import NOTE, Readiness, asking


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def note(person: Person, container: str) -> dict[str, Any]:
    stream = await person.blobs.get_blob_client(container, NOTE).download_blob()
    return dict(json.loads(await stream.readall()))


async def test_a_missing_role_is_noted_until_it_counts(shop: Workshop) -> None:
    refused = True

    def refuses(method: str, path: str) -> bool:
        return refused and method == "PUT" and "/shop-results/" in path

    async with (
        guarded(shop.person, refuses) as door,
        BlobServiceClient.from_connection_string(door, retry_total=0) as blobs,
        QueueServiceClient.from_connection_string(door, retry_total=0) as queues,
    ):
        readiness = Readiness(
            shop.settings,
            Notes(blobs, "shop-state"),
            Uploads(blobs, "shop-images"),
            Results(blobs, "shop-results"),
            MessageQueue(queues, "shop-deferred"),
            MessageQueue(queues, "shop-requests"),
        )
        await readiness.note()
        found = await note(shop.person, "shop-state")
        assert (found["read_input"], found["write_results"], found["queue"]) == (True, False, True)
        assert "Give it the role 'Storage Blob Data Contributor'" in found["problems"][0]
        refused = False
        await readiness.note()
        found = await note(shop.person, "shop-state")
        assert (found["read_input"], found["write_results"], found["queue"], found["problems"]) == (
            True,
            True,
            True,
            [],
        )
        await shop.person.blobs.get_blob_client("shop-state", NOTE).delete_blob()
        await readiness.note()  # once is enough
        assert await shop.state() == []
    assert await shop.results() == []


async def test_the_running_app_notes_it_at_its_start(person: Person) -> None:
    found: dict[str, Any] = {}
    async with asyncio.timeout(person.patience):
        while not found:
            with suppress(ResourceNotFoundError):
                found = await note(person, "pipeline-state")
            await asyncio.sleep(0.05)
    assert (found["version"], found["problems"]) == (1, [])
    assert found["asking"] == json.loads(json.dumps(asking(Settings.from_environment(person.cloud.app_settings()))))
    assert (found["asking"]["deployment"], found["asking"]["requests_may_ask"]) == ("vision", True)
