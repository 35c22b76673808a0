"""Somebody who uses the running pipeline from outside."""

import asyncio
import json
import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import aiohttp
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from localcloud.cloud import LocalCloud
from localcloud.model import Answer, Asked, Behaviour, Question

ROOT = Path(__file__).parents[2]


class Echo:
    """A brain that costs nothing: it repeats the question."""

    def answer(self, question: Question) -> str:
        return f"You asked: {question.instructions}"


@dataclass
class Person:
    """Somebody who drops files and reads results, with the emulator's connection string and nothing else."""

    cloud: LocalCloud
    blobs: BlobServiceClient
    log: Path
    patience: float = 30
    """Seconds for one result to come."""
    scripts: defaultdict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    """The model's behaviours for the next requests, by their instructions; after those it answers."""

    async def drop(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, **options: Any) -> str:
        """Upload; the new blob's ETag as results have it."""
        client = self.blobs.get_blob_client("images", name)
        uploaded = await client.upload_blob(BytesIO(data), overwrite=True, metadata=dict(metadata or {}), **options)
        return str(uploaded["etag"]).strip('"')

    async def result(self, name: str, *, etag: str | None = None, container: str = "results") -> dict[str, Any]:
        """The result of `name`, once it is there; with `etag`, the one for that version."""
        client = self.blobs.get_blob_client(container, f"{name}.json")
        deadline = monotonic() + self.patience
        while monotonic() < deadline:
            try:
                result = json.loads(await (await client.download_blob()).readall())
            except ResourceNotFoundError:
                pass
            else:
                if etag in (None, result["source"]["etag"]):
                    return dict(result)
            await asyncio.sleep(0.05)
        raise AssertionError(f"no result of {name} within {self.patience} s; the app's log ends:\n{self.tail()}")

    async def result_names(self, prefix: str) -> list[str]:
        return [
            name async for name in self.blobs.get_container_client("results").list_blob_names(name_starts_with=prefix)
        ]

    async def logged(self, *texts: str, since: int = 0) -> None:
        """Wait until the app's log holds one of `texts`, behind its first `since` bytes."""
        deadline = monotonic() + self.patience
        while not any(text in self.log.read_bytes()[since:].decode() for text in texts):
            if monotonic() > deadline:
                raise AssertionError(f"not logged: {' / '.join(texts)}\nThe app's log ends:\n{self.tail()}")
            await asyncio.sleep(0.05)

    def asked(self, instructions: str) -> list[Asked]:
        """The requests that the model got with these instructions."""
        return [asked for asked in self.cloud.model.history if asked.instructions == instructions]

    def tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-25:])

    def behave(self, asked: Asked) -> Behaviour:
        queue = self.scripts[asked.instructions]
        return queue.popleft() if queue else Answer()


type People = Callable[..., AbstractAsyncContextManager[Person]]


@asynccontextmanager
async def a_person(
    directory: Path, settings: Mapping[str, str] | None = None, *, app: Path = ROOT
) -> AsyncIterator[Person]:
    """A person with a local cloud of their own, and short times in it. `app` is the folder of the app."""
    log = directory / "functions.log"
    quick = {
        "PROCESS_IMAGE_ENABLED": "true",
        "MODEL_TIMEOUT_SECONDS": "3",
        "CLAIM_SECONDS": "3",
        "SETTLE_SECONDS": "1",
        "MAX_IMAGE_BYTES": "3000000",
    }
    cloud = LocalCloud(directory=directory, app=app, log=log, brain=Echo(), settings=quick | dict(settings or {}))
    async with cloud, BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs:
        person = Person(cloud, blobs, log)
        cloud.model.script.policy = person.behave
        yield person


SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))


def blob_created(name: str, container: str = "images", kind: str = "Microsoft.Storage.BlobCreated") -> dict[str, Any]:
    """An event in Event Grid's own schema."""
    return {
        "id": os.urandom(8).hex(),
        "topic": "t",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "eventType": kind,
        "eventTime": "2026-01-01T00:00:00Z",
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {
            "api": "PutBlob",
            "blobType": "BlockBlob",
            "eTag": "0x0",
            "url": f"https://a.blob.core.windows.net/{container}/{quote(name)}",
        },
    }


async def deliver_again(person: Person, name: str, container: str = "images") -> None:
    """Deliver an event again, as Event Grid does when it is not sure that the first delivery arrived."""
    url = person.cloud.functions.webhook_url("analyze_image")
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=[blob_created(name, container)], headers={"aeg-event-type": "Notification"}) as answer,
    ):
        assert answer.status == 202
