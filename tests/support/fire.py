"""A running app of its own, whose workers may be killed and whose messages may be spoilt."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from bench.chaos.ledger import Ledger
from bench.chaos.steps import Kill
from localcloud.cloud import DATA_ACCOUNT, QUEUES, LocalCloud
from support.person import ROOT, Echo, Person, blob_created
from support.workshop import Identity

CLAIM_SECONDS = 2


@dataclass
class Fire:
    """A person with a cloud of their own, which they may harm; two workers run the app."""

    person: Person
    queues: QueueServiceClient
    silent: BlobServiceClient
    """Straight to the emulator, as the app's identity, so that no event is raised."""
    ledger: Ledger
    """The workers' operations on blobs."""
    killed: list[Kill] = field(default_factory=list)

    async def workers(self) -> dict[int, int]:
        """Each worker's process and how many functions it runs."""
        functions = self.person.cloud.functions
        headers = {"x-functions-key": functions.master_key}
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{functions.url}/admin/host/status", headers=headers) as got,
        ):
            return {worker["pid"]: worker["running"] for worker in (await got.json())["local"]["workers"]}

    async def asked(self, instructions: str, *, times: int = 1) -> None:
        """Wait until the model was asked that often."""
        await until(lambda: len(self.person.asked(instructions)) >= times, f"the model was not asked {instructions!r}")

    async def kill_busy_workers(self) -> None:
        for pid, running in (await self.workers()).items():
            if running:
                os.kill(pid, signal.SIGKILL)
                self.killed.append(Kill(time(), str(pid), running))

    async def send(self, queue: str, message: str | bytes) -> None:
        text = message.encode() if isinstance(message, str) else message
        await self.queues.get_queue_client(queue).send_message(base64.b64encode(text).decode())

    async def drained(self) -> None:
        """Wait until the app's queues hold no message, visible or not."""
        deadline = monotonic() + 100  # what a killed worker had comes back after half a minute
        for queue in QUEUES:
            client = self.queues.get_queue_client(queue)
            while (await client.get_queue_properties()).approximate_message_count:
                assert monotonic() < deadline, f"{queue} is not empty\n{self.person.tail()}"
                await asyncio.sleep(0.1)

    async def deliver(self, name: str, *, copies: int) -> None:
        """Event Grid, not sure that its first delivery arrived."""
        url = self.person.cloud.functions.webhook_url("analyze_image")
        async with aiohttp.ClientSession() as http:
            for _ in range(copies):
                answer = await http.post(url, json=[blob_created(name)], headers={"aeg-event-type": "Notification"})
                assert answer.status == 202

    async def claims(self) -> list[str]:
        container = self.person.blobs.get_container_client("pipeline-state")
        return [name async for name in container.list_blob_names(name_starts_with="claims/")]


async def until(condition: Any, problem: str) -> None:
    deadline = monotonic() + 30
    while not condition():
        assert monotonic() < deadline, problem
        await asyncio.sleep(0.02)


def impatient_app(directory: Path, *, deliveries: int = 5) -> Path:
    """The app, with a host that waits one second, not thirty, between two tries of a message.

    `deliveries`: of an upload, before the host calls it poison.
    """
    directory.mkdir()
    for part in ("function_app.py", "pipeline"):
        (directory / part).symlink_to(ROOT / part)
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    host["extensions"]["queues"]["visibilityTimeout"] = "00:00:01"
    host["extensions"]["blobs"]["poisonBlobThreshold"] = deliveries
    (directory / "host.json").write_text(json.dumps(host), encoding="utf-8")
    return directory


@asynccontextmanager
async def fire_in(
    directory: Path, local_cloud: type[LocalCloud], settings: Mapping[str, str] | None = None
) -> AsyncIterator[Fire]:
    """Start a cloud, with two workers unless `settings` say otherwise. They are the app's, beside short times."""
    log, ledger = directory / "functions.log", Ledger()
    settings = {"FUNCTIONS_WORKER_PROCESS_COUNT": "2", **(settings or {})}
    cloud = local_cloud(
        directory=directory,
        app=impatient_app(directory / "app"),
        log=log,
        brain=Echo(),
        settings={
            "CLAIM_SECONDS": str(CLAIM_SECONDS),
            "MODEL_TIMEOUT_SECONDS": "20",
            "LOCAL_HOST_HIDDEN_SECONDS": "3",
            "LOCAL_HOST_RESTART_SECONDS": "0.1",
            **settings,
        },
        storage_watch=ledger,
    )
    async with cloud:
        front = cloud.front.connection_string
        async with (
            BlobServiceClient.from_connection_string(front) as blobs,
            QueueServiceClient.from_connection_string(front) as queues,
            BlobServiceClient(
                cloud.azurite.blob_url(DATA_ACCOUNT), Identity(cloud), connection_verify=str(cloud.certificates.bundle)
            ) as silent,
        ):
            person = Person(cloud, blobs, log)
            cloud.model.script.policy = person.behave
            fire = Fire(person, queues, silent, ledger)
            while len(await fire.workers()) < int(settings["FUNCTIONS_WORKER_PROCESS_COUNT"]):
                await asyncio.sleep(0.1)
            yield fire
