"""The running app while its workers are killed, its host is stopped and its messages are spoilt."""

import asyncio
import base64
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
import pytest
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from support.person import ROOT, Echo, Person, blob_created
from support.pictures import picture
from support.workshop import Identity

from bench.chaos.explanations import Cause, Witness
from bench.chaos.faults import Kill, call_of
from bench.chaos.ledger import Ledger
from localcloud.app_storage import StorageRefusal, StorageRequest, StorageWatch
from localcloud.cloud import DATA_ACCOUNT, LocalCloud
from localcloud.event_grid import StorageQueue
from localcloud.model import Slow
from pipeline.errors import ErrorCode

CLAIM_SECONDS = 2
IMAGES = "/blobServices/default/containers/images/blobs/"


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

    async def drained(self, *queues: str) -> None:
        """Wait until these queues hold no message, visible or not."""
        deadline = monotonic() + 30
        for queue in queues:
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


def cloud_event(name: str) -> dict[str, Any]:
    given = blob_created(name)
    return {
        "specversion": "1.0",
        "type": given["eventType"],
        "source": "t",
        "id": given["id"],
        "time": given["eventTime"],
        "subject": given["subject"],
        "data": given["data"],
    }


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


@pytest.fixture(scope="module")
async def fire(tmp_path_factory: pytest.TempPathFactory, local_cloud: type[LocalCloud]) -> AsyncIterator[Fire]:
    directory = tmp_path_factory.mktemp("fire")
    log = directory / "functions.log"
    settings: Mapping[str, str] = {
        "FUNCTIONS_WORKER_PROCESS_COUNT": "2",
        "CLAIM_SECONDS": str(CLAIM_SECONDS),
        "MODEL_TIMEOUT_SECONDS": "20",
        "LOCAL_HOST_HIDDEN_SECONDS": "3",
        "LOCAL_HOST_RESTART_SECONDS": "0.1",
    }
    ledger = Ledger()
    cloud = local_cloud(
        directory=directory,
        app=impatient_app(directory / "app"),
        log=log,
        brain=Echo(),
        settings=settings,
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
            while len(await fire.workers()) < 2:
                await asyncio.sleep(0.1)
            yield fire


async def test_two_worker_processes_at_the_same_work_make_one_call(fire: Fire) -> None:
    fire.person.scripts["Twice?"].append(Slow(1.5))
    await fire.silent.get_blob_client("images", "twice.png").upload_blob(picture(), metadata={"instructions": "Twice?"})
    await fire.deliver("twice.png", copies=6)
    await fire.asked("Twice?")
    await fire.person.result("twice.png")
    await fire.drained("analysis-requests")
    assert len(fire.person.asked("Twice?")) == 1
    log = fire.person.log.read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if "twice.png" in line and " worker " in line]
    assert len({line.split(" worker ")[1].split()[0] for line in lines}) == 2, "one process did it all"
    assert await fire.claims() == []


async def test_work_whose_worker_was_killed_is_done_once_its_claim_has_expired(fire: Fire) -> None:
    fire.person.scripts["Killed?"].append(Slow(15))
    await fire.person.drop("killed.png", picture(), {"instructions": "Killed?"})
    await fire.asked("Killed?")
    await fire.kill_busy_workers()
    result = await fire.person.result("killed.png")
    assert (result["status"], result["attempts"]) == ("succeeded", 2)
    await fire.drained("analysis-requests")
    assert (len(fire.person.asked("Killed?")), await fire.claims()) == (2, [])


async def test_a_kill_explains_what_its_own_worker_lost_and_no_other_payment(fire: Fire) -> None:
    """`make chaos` finds work that is paid for twice, however close to a kill, and the killed worker's own included."""
    content = picture()
    fire.person.scripts["Lost?"].append(Slow(15))
    await fire.person.drop("lost.png", content, {"instructions": "Lost?"})
    await fire.asked("Lost?")
    killed = fire.person.asked("Lost?")[0].caller
    answered_by: dict[str | None, str] = {}
    while len(answered_by) < 2:
        name = f"stored-{len(fire.person.cloud.model.history)}"
        await fire.person.drop(f"{name}.png", content, {"instructions": name})
        await fire.person.result(f"{name}.png")
        answered_by[fire.person.asked(name)[0].caller] = name
    assert answered_by.keys() == {str(pid) for pid in await fire.workers()} > {killed}
    await fire.kill_busy_workers()
    for name in answered_by.values():  # which makes the app pay again for what it had stored
        await fire.person.blobs.get_blob_client("results", f"{name}.png.json").delete_blob()
        await fire.send("analysis-requests", json.dumps(blob_created(f"{name}.png")))
    for name in ("lost", *answered_by.values()):
        await fire.person.result(f"{name}.png")

    digest = hashlib.sha256(content).hexdigest()
    calls = [
        call_of(asked, f"{name}.png", [digest], "answered")
        for name, question in (("lost", "Lost?"), *((name, name) for name in answered_by.values()))
        for asked in fire.person.asked(question)
    ]
    kills = {kill.worker: kill for kill in fire.killed}
    found = Witness(fire.ledger, kills, fire.person.cloud.model.unheard, patience=20, claim_seconds=2).repeated(calls)
    assert (len(calls), found.causes) == (6, {Cause.KILL: 1})
    assert sorted(text.partition(" ")[0] for text in found.unexplained) == sorted(answered_by.values())


async def test_work_that_kills_its_worker_each_time_ends_in_a_failed_result(fire: Fire) -> None:
    fire.person.scripts["Deadly?"].extend([Slow(15)] * 10)
    await fire.person.drop("deadly.png", picture(), {"instructions": "Deadly?"})
    fire.person.patience = 60
    killing = asyncio.create_task(_kill_whenever_asked(fire, "Deadly?"))
    try:
        result = await fire.person.result("deadly.png")
    finally:
        killing.cancel()
        fire.person.scripts.clear()
    assert (result["status"], result["error"]["code"]) == ("failed", "crashed")
    assert len(fire.person.asked("Deadly?")) <= 5
    await fire.drained("analysis-requests", "analysis-requests-poison", "webjobs-blobtrigger-poison")
    assert await fire.claims() == []


async def _kill_whenever_asked(fire: Fire, instructions: str) -> None:
    killed = 0
    while True:
        killed += 1
        await fire.asked(instructions, times=killed)
        await fire.kill_busy_workers()


async def test_messages_that_can_not_be_understood_end_in_failed_results(fire: Fire) -> None:
    """Also content that is not JSON, and bytes that are not text."""
    messages = [b"not json", b'{"version": 2}', b"\xff\xfe", b"[[]]"]
    for message in messages:
        await fire.send("analysis-requests", message)
    deadline = monotonic() + 30
    while len(names := await fire.person.result_names("unreadable-requests/")) < len(messages):
        assert monotonic() < deadline, fire.person.tail()
        await asyncio.sleep(0.1)
    errors = [(await fire.person.result(name.removesuffix(".json")))["error"] for name in names]
    assert {error["code"] for error in errors} == {"crashed"}
    recorded = {error["details"]["message"] for error in errors}
    assert recorded == {message.decode(errors="backslashreplace") for message in messages}
    await fire.drained("analysis-requests", "analysis-requests-poison")


async def test_an_upload_that_the_host_calls_poison_is_queued_again(fire: Fire) -> None:
    """The host may have given up on it before the function ever ran."""
    await fire.silent.get_blob_client("images", "poison.png").upload_blob(picture())
    poison = {"Type": "BlobTrigger", "FunctionId": "Host.Functions.analyze_image", "BlobType": "Block"}
    poison |= {"ContainerName": "images", "BlobName": "poison.png", "ETag": '"0x0"'}
    await fire.send("webjobs-blobtrigger-poison", json.dumps(poison))
    await fire.drained("webjobs-blobtrigger-poison")
    requests = fire.queues.get_queue_client("analysis-requests")
    assert (await requests.get_queue_properties()).approximate_message_count == 1
    await requests.clear_messages()


async def test_events_on_the_queue_are_analyzed_without_any_key(fire: Fire) -> None:
    """As Event Grid delivers to a storage queue; the Event Grid and the CloudEvents schema, one or several."""
    for name in ("single", "cloud", "first", "second"):
        await fire.silent.get_blob_client("images", f"keyless/{name}.png").upload_blob(picture())
    await fire.send("analysis-requests", json.dumps(blob_created("keyless/single.png")))
    await fire.send("analysis-requests", json.dumps(cloud_event("keyless/cloud.png")))
    await fire.send(
        "analysis-requests", json.dumps([blob_created("keyless/first.png"), blob_created("keyless/second.png")])
    )
    for name in ("single", "cloud", "first", "second"):
        assert (await fire.person.result(f"keyless/{name}.png"))["status"] == "succeeded"


async def test_a_subscription_may_deliver_to_the_queue_instead_of_the_webhook(fire: Fire) -> None:
    cloud = fire.person.cloud
    destination = StorageQueue(fire.queues.get_queue_client("analysis-requests"))
    await cloud.events.subscribe("to-queue", destination, subject_begins_with=f"{IMAGES}keyless/")
    await fire.person.drop("keyless/subscribed.png", picture(), {"instructions": "Subscribed?"})
    assert (await fire.person.result("keyless/subscribed.png"))["status"] == "succeeded"
    await fire.drained("analysis-requests")
    assert len(fire.person.asked("Subscribed?")) == 1  # though both subscriptions delivered it


async def test_other_events_on_the_queue_are_left_alone(fire: Fire) -> None:
    await fire.silent.get_blob_client("images", "left.png").upload_blob(picture())
    await fire.send("analysis-requests", json.dumps(blob_created("left.png", kind="Microsoft.Storage.BlobDeleted")))
    await fire.send("analysis-requests", json.dumps(blob_created("left.png", container="elsewhere")))
    await fire.person.logged("Ignored an event of container elsewhere")
    await fire.drained("analysis-requests", "analysis-requests-poison")
    assert await fire.person.result_names("left.png") == []


async def test_one_message_runs_again_what_failed_and_nothing_else(fire: Fire) -> None:
    """As an operator sends it once the cause is fixed."""
    poison = {"version": 1, "container": "images", "name": "redrive/crashed.png"}
    for name in ("redrive/crashed.png", "redrive/good.png"):
        await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": name})
    await fire.send("analysis-requests-poison", json.dumps(poison))
    await fire.send("analysis-requests", json.dumps(blob_created("redrive/good.png")))
    await fire.person.drop("redrive/text.png", b"no image")
    before = {name: await fire.person.result(f"redrive/{name}.png") for name in ("crashed", "good", "text")}
    await fire.send("analysis-requests", json.dumps({"version": 1, "redrive": [ErrorCode.CRASHED]}))
    deadline = monotonic() + 30
    while (await fire.person.result("redrive/crashed.png"))["status"] == "failed":
        assert monotonic() < deadline, fire.person.tail()
        await asyncio.sleep(0.1)
    await fire.drained("analysis-requests")
    after = {name: await fire.person.result(f"redrive/{name}.png") for name in ("good", "text")}
    assert after == {name: before[name] for name in after}
    assert len(fire.person.asked("redrive/good.png")) == 1


async def test_a_host_that_stops_whole_in_mid_work_loses_nothing(fire: Fire) -> None:
    """Nothing is cancelled: the message is back once it is visible again, and no claim is in its way for long."""
    fire.person.scripts["Stopped?"].append(Slow(15))
    await fire.person.drop("stopped.png", picture(), {"instructions": "Stopped?"})
    await fire.asked("Stopped?")
    await fire.person.cloud.functions.kill()
    result = await fire.person.result("stopped.png")
    assert (result["status"], len(fire.person.asked("Stopped?"))) == ("succeeded", 2)
    await fire.drained("analysis-requests")
    assert await fire.claims() == []


class NoLook(StorageWatch):
    """Azure while the trigger's own look at a blob is refused: a role that was removed."""

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        if request.caller is None and request.method == "HEAD":  # the host's
            return StorageRefusal(403, "AuthorizationPermissionMismatch", "This request is not authorized.")
        return None

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        pass


async def test_an_upload_that_the_trigger_may_not_look_at_waits_and_is_not_called_crashed(
    tmp_path: Path, local_cloud: type[LocalCloud]
) -> None:
    """Each look stops the whole host; in the end the host calls the upload poison, though its function never ran."""
    app = impatient_app(tmp_path / "app", deliveries=2)
    short = {"LOCAL_HOST_HIDDEN_SECONDS": "1", "LOCAL_HOST_RESTART_SECONDS": "0.02"}
    cloud = local_cloud(
        directory=tmp_path, app=app, log=tmp_path / "log", brain=Echo(), settings=short, storage_watch=NoLook()
    )
    async with (
        cloud,
        BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs,
        QueueServiceClient.from_connection_string(cloud.front.connection_string) as queues,
    ):
        person, requests = Person(cloud, blobs, tmp_path / "log"), queues.get_queue_client("analysis-requests")
        await person.drop("refused.png", picture())
        deadline = monotonic() + 60
        while not (await requests.get_queue_properties()).approximate_message_count:
            assert monotonic() < deadline, person.tail()
            await asyncio.sleep(0.1)
        assert (len(cloud.functions.ends), await person.result_names("refused.png")) == (2, [])
