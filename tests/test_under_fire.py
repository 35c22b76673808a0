"""The running app while its workers are killed, its host is stopped and its messages are spoilt."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from support.fire import Fire, fire_in, impatient_app
from support.person import Echo, Person, blob_created
from support.pictures import picture

from bench.chaos.explanations import Cause, Witness
from bench.chaos.faults import call_of
from localcloud.app_storage import StorageRefusal, StorageRequest, StorageWatch
from localcloud.cloud import LocalCloud
from localcloud.event_grid import StorageQueue
from localcloud.model import Slow
from pipeline.errors import ErrorCode

IMAGES = "/blobServices/default/containers/images/blobs/"


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


@pytest.fixture(scope="module")
async def fire(tmp_path_factory: pytest.TempPathFactory, local_cloud: type[LocalCloud]) -> AsyncIterator[Fire]:
    settings = {"REQUESTS_MAY_REDRIVE": "true"}
    async with fire_in(tmp_path_factory.mktemp("fire"), local_cloud, settings) as fire:
        yield fire


async def test_two_worker_processes_at_the_same_work_make_one_call(fire: Fire) -> None:
    fire.person.scripts["Twice?"].append(Slow(1.5))
    await fire.silent.get_blob_client("images", "twice.png").upload_blob(picture(), metadata={"instructions": "Twice?"})
    await fire.deliver("twice.png", copies=6)
    await fire.asked("Twice?")
    await fire.person.result("twice.png")
    await fire.drained()
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
    await fire.drained()
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
    await fire.drained()
    assert await fire.claims() == []


async def _kill_whenever_asked(fire: Fire, instructions: str) -> None:
    killed = 0
    while True:
        killed += 1
        await fire.asked(instructions, times=killed)
        await fire.kill_busy_workers()


async def test_messages_that_can_not_be_understood_end_in_failed_results(fire: Fire) -> None:
    """Also content that is not JSON, and bytes that are not text. Each costs one delivery, and no crash."""
    since = fire.person.log.stat().st_size
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
    await fire.drained()
    said = fire.person.log.read_bytes()[since:].decode()
    assert said.count(": a request was refused") == len(messages)
    assert "InvalidRequest" not in said, "an invocation failed"


async def test_an_upload_that_the_host_calls_poison_is_queued_again(fire: Fire) -> None:
    """The host may have given up on it before the function ever ran."""
    await fire.silent.get_blob_client("images", "poison.png").upload_blob(picture())
    poison = {"Type": "BlobTrigger", "FunctionId": "Host.Functions.analyze_image", "BlobType": "Block"}
    poison |= {"ContainerName": "images", "BlobName": "poison.png", "ETag": '"0x0"'}
    await fire.send("webjobs-blobtrigger-poison", json.dumps(poison))
    await fire.person.logged("images/poison.png: given up by the host, and queued again")
    deferred = fire.queues.get_queue_client("deferred-work")
    assert (await deferred.get_queue_properties()).approximate_message_count == 1
    await deferred.clear_messages()


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
    await fire.drained()
    assert len(fire.person.asked("Subscribed?")) == 1  # though both subscriptions delivered it


async def test_other_events_on_the_queue_are_left_alone(fire: Fire) -> None:
    await fire.silent.get_blob_client("images", "left.png").upload_blob(picture())
    await fire.send("analysis-requests", json.dumps(blob_created("left.png", kind="Microsoft.Storage.BlobDeleted")))
    await fire.send("analysis-requests", json.dumps(blob_created("left.png", container="elsewhere")))
    await fire.person.logged("Ignored an event of container elsewhere")
    await fire.drained()
    assert await fire.person.result_names("left.png") == []


async def test_one_message_runs_again_what_failed_and_nothing_else(fire: Fire) -> None:
    """As an operator sends it once the cause is fixed."""
    poison = {"version": 1, "container": "images", "name": "redrive/crashed.png"}
    for name in ("redrive/crashed.png", "redrive/good.png"):
        await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": name})
    await fire.send("deferred-work-poison", json.dumps(poison))
    await fire.send("analysis-requests", json.dumps(blob_created("redrive/good.png")))
    await fire.person.drop("redrive/text.png", b"no image")
    before = {name: await fire.person.result(f"redrive/{name}.png") for name in ("crashed", "good", "text")}
    await fire.send("analysis-requests", json.dumps({"version": 1, "redrive": [ErrorCode.CRASHED]}))
    deadline = monotonic() + 30
    while (await fire.person.result("redrive/crashed.png"))["status"] == "failed":
        assert monotonic() < deadline, fire.person.tail()
        await asyncio.sleep(0.1)
    await fire.drained()
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
    await fire.drained()
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
        person, deferred = Person(cloud, blobs, tmp_path / "log"), queues.get_queue_client("deferred-work")
        await person.drop("refused.png", picture())
        deadline = monotonic() + 60
        while not (await deferred.get_queue_properties()).approximate_message_count:
            assert monotonic() < deadline, person.tail()
            await asyncio.sleep(0.1)
        assert (len(cloud.functions.ends), await person.result_names("refused.png")) == (2, [])
