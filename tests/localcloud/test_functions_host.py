"""The functions host, through its real processes: host, worker library, storage emulator, identity endpoint."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import ResourceNotFoundError
from hypothesis import given
from hypothesis import strategies as st
from support.host_cloud import PROBE, Cloud, call, event, life, notification, notify, probe, status, variant
from support.person import ROOT

from localcloud.functions_host.blob_trigger import BlobPath
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.functions_host.queue_listener import poll_delays
from localcloud.functions_host.system_text_json import encoded

type Running = tuple[Cloud, FunctionsHostProcess]

GIVEN = PROBE.parent / "given"
DAYS_7 = timedelta(days=7)


# --- blob trigger


@pytest.mark.parametrize("name", ["a.jpg", "folder/ü %25 #1?+&.jpg", "日本.png"])
async def test_an_event_runs_the_function_with_the_blobs_container_and_decoded_name(
    running: Running, name: str
) -> None:
    """The SDK's BlobClient gets the name as it was uploaded, without the URL's encoding; the loop is uvloop's."""
    cloud, host = running
    created = await cloud.upload(name)
    assert await notify(host, created) == 202
    (seen,) = await cloud.seen_times("on_blob", 1, name)
    assert (seen["container"], seen["name"], seen["loop"]) == (cloud.input, name, "uvloop")
    await cloud.internal_queue_is_empty()


async def test_a_failing_blob_is_delivered_five_times_then_goes_to_the_data_accounts_poison_queue(
    running: Running,
) -> None:
    """The real one's text and life; attempts as far apart as its poll, 100 ms, and no more; nothing is left."""
    cloud, host = running
    created = await cloud.upload("fail-1.jpg")
    await notify(host, created)
    (poison,) = await cloud.messages(cloud.data_poison(), 1)
    await cloud.internal_queue_is_empty()
    assert base64.b64decode(poison.content).decode() == (
        "{\n"
        '  "Type": "BlobTrigger",\n'
        '  "FunctionId": "Host.Functions.on_blob",\n'
        '  "BlobType": "BlockBlob",\n'
        f'  "ContainerName": "{cloud.input}",\n'
        '  "BlobName": "fail-1.jpg",\n'
        '  "ETag": "\\"0x8D\\""\n'
        "}"
    )
    assert life(poison) == DAYS_7
    starts = [record["at"] for record in cloud.seen("on_blob", "fail-1.jpg")]
    assert len(starts) == 5
    assert max(later - earlier for earlier, later in pairwise(starts)) > 0.1


def test_polls_of_an_empty_queue_get_further_apart() -> None:
    """As the extension's: 100 ms first, then about 200, 300, 500, ..., up to the maximum."""
    delays = poll_delays(2.0)
    assert next(delays) == 0.1
    for expected in (0.2, 0.3, 0.5, 0.9, 1.7):
        assert expected * 0.8 <= next(delays) <= expected * 1.2
    assert [next(delays) for _ in range(9)][-3:] == [2.0, 2.0, 2.0]


async def test_a_message_for_an_unknown_function_or_a_blob_that_is_gone_is_deleted_silently(running: Running) -> None:
    """Nothing runs, nothing goes to a poison queue, and the listener goes on."""
    cloud, host = running
    created = await cloud.upload("there.jpg")
    gone = event(created["data"]["url"].replace("there.jpg", "gone.jpg"))
    assert await notify(host, created, function="nobody") == 202
    assert await notify(host, gone) == 202
    assert await notify(host, created) == 202
    await cloud.seen_times("on_blob", 1, "there.jpg")
    await cloud.internal_queue_is_empty()
    assert (len(cloud.seen("on_blob", "there.jpg")), cloud.seen("on_blob", "gone.jpg"), host.ends) == (1, [], [])


async def test_the_webhook_answers_as_the_real_one(running: Running) -> None:
    """By aeg-event-type; a notification with any number of events or a lone one; an exception where it can't read."""
    cloud, host = running
    first, second, third = [await cloud.upload(f"hook-{number}.jpg") for number in range(3)]
    url = host.webhook_url("on_blob")
    handshake = [{"data": {"validationCode": "512d"}, "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent"}]
    answers = [
        await call(url, "POST", json=handshake, headers={"aeg-event-type": "SubscriptionValidation"}),
        await call(url, "POST", json=[], headers={"aeg-event-type": "Unsubscribe"}),
        await notification(host, []),
        await notification(host, first),
        await notification(host, [second, third]),
        await notification(host, [first], function="nobody"),
    ]
    assert answers == [(200, b'{"validationResponse": "512d"}'), *[(202, b"")] * 5]
    no_events = [
        b"{",
        b"5",
        b"null",
        [{"data": {}}],
        ["a"],
        event("relative/url"),
        event("https://a/b/c", blobType="x"),
    ]
    statuses = [(await notification(host, content))[0] for content in no_events]
    assert statuses == [500] * len(no_events)
    statuses = [
        (await call(url, "POST", json=[]))[0],
        (await call(url.replace("code=", "code=x"), "POST", json=handshake))[0],
    ]
    assert statuses == [400, 401]
    await cloud.seen_times("on_blob", 3, "hook-")
    await cloud.internal_queue_is_empty()
    assert len(cloud.seen("on_blob", "hook-")) == 3


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.blob.core.windows.net/images/b/c%20d.jpg", ("images", "b/c d.jpg")),
        ("https://a.dfs.core.windows.net/images/b.jpg", ("images", "b.jpg")),
        ("https://127.0.0.1:10000/devstoreaccount1/images/%C3%A4.jpg", ("images", "ä.jpg")),
        ("https://a.blob.core.windows.net/images", ("images", "")),
        ("https://a.blob.core.windows.net/", ("", "")),
    ],
)
def test_an_events_url_is_read_as_the_extension_reads_it(url: str, path: tuple[str, str]) -> None:
    """Both endpoints of an account alike; a URL without a blob's name is taken, and stops the host later."""
    assert BlobPath.of_url(url) == BlobPath(*path)


async def test_functions_are_given_what_the_real_host_gives(cloud: Cloud) -> None:
    """The blob's reference as bytes, escaped as .NET does; the metadata of both triggers, in their types."""
    name = "dir/ä+1.jpg"
    created = await cloud.upload(name)
    await cloud.order('{"a": "text", "n": 1, "o": {"p": 1}, "l": [1], "z": null, "dequeuecount": 7}')
    async with cloud.host(GIVEN) as host:
        await notify(host, created)
        ((blob,), (queue,)) = [await cloud.seen_times("given", 1, kind) for kind in ("blob", "queue")]
    assert (blob["type"], blob["content"]) == (
        "model_binding_data",
        repr(
            f'{{"Connection":"DataStorage","ContainerName":"{cloud.input}","BlobName":"dir/\\u00E4\\u002B1.jpg"}}'.encode()
        ),
    )
    metadata = {key: json.loads(value) if kind == "json" else value for key, (kind, value) in blob["metadata"].items()}
    properties, system = metadata.pop("Properties"), metadata.pop("sys")
    assert metadata == {
        "BlobTrigger": f"{cloud.input}/{name}",
        "Uri": created["data"]["url"],
        "Metadata": {"note": "mine"},
        "folder": "dir",
        "name": "ä+1",
        "ending": "jpg",
    }
    assert {key: properties[key] for key in ("ContentLength", "BlobType", "Metadata", "LeaseState")} == {
        "ContentLength": 7,
        "BlobType": 0,
        "Metadata": {"note": "mine"},
        "LeaseState": 0,
    }
    assert set(system) == {"MethodName", "UtcNow", "RandGuid"}
    kinds = {key: kind for key, (kind, _) in queue["metadata"].items()}
    assert kinds == {
        **dict.fromkeys(("QueueTrigger", "Id", "PopReceipt", "a", "n", "DequeueCount"), "string"),
        **dict.fromkeys(("InsertionTime", "ExpirationTime", "NextVisibleTime", "sys", "o"), "json"),
    }
    assert queue["metadata"]["DequeueCount"] == ["string", "7"]  # a message's own fields go over the trigger's


@given(st.text())
def test_a_blobs_reference_is_json_in_ascii(text: str) -> None:
    """Whatever the name: nothing in it means anything to HTML or to the shell of a log."""
    content = encoded({"BlobName": text})
    assert json.loads(content) == {"BlobName": text}
    assert not set(content.decode("ascii")) & set("&'+<>`\x7f")


async def test_no_more_blob_functions_run_at_once_than_max_degree_of_parallelism(cloud: Cloud) -> None:
    """The probe's host.json says 4."""
    events = [await cloud.upload(f"sleep-0.3-{number}") for number in range(10)]
    async with cloud.host() as host:
        await notify(host, *events)
        seen = await cloud.seen_times("on_blob", 10)
    starts = [record["at"] for record in seen]
    assert all(later - earlier > 0.25 for earlier, later in zip(starts, starts[4:], strict=False))


# --- workers


async def test_a_killed_worker_is_replaced_and_its_messages_are_delivered_again(cloud: Cloud) -> None:
    """SIGKILL in the midst of an invocation loses nothing."""
    created = await cloud.upload("sleep-1-a")
    async with cloud.host() as host:
        await notify(host, created)
        (first,) = await cloud.seen_times("on_blob", 1)
        os.kill(first["pid"], signal.SIGKILL)
        second = (await cloud.seen_times("on_blob", 2))[1]
        assert second["pid"] != first["pid"]
        await cloud.internal_queue_is_empty()
        facts = await status(host)
        assert facts["state"] == "Running"
        assert [worker["pid"] for worker in facts["local"]["workers"]] == [second["pid"]]
    with pytest.raises(ResourceNotFoundError):
        await cloud.data_poison().get_queue_properties()


async def test_code_that_exits_ends_its_worker_and_fails_its_delivery(cloud: Cloud) -> None:
    """SystemExit from a function: what else runs on the worker ends with it, and comes again on the next one."""
    quitting, bystander = await cloud.upload("quit-1"), await cloud.upload("hang-1")
    async with cloud.host() as host:
        await notify(host, bystander)
        await cloud.seen_times("on_blob", 1, "hang-1")
        await notify(host, quitting)
        first, second = (await cloud.seen_times("on_blob", 2, "quit-1"))[:2]
        assert first["pid"] != second["pid"]
        await cloud.seen_times("on_blob", 2, "hang-1")


@pytest.mark.parametrize("order", ["hang-1", "block-1", "cancel-1"])
async def test_function_timeout_restarts_the_whole_worker(cloud: Cloud, order: str, tmp_path: Path) -> None:
    """An awaiting, a blocking, and a swallowed (CancelledError) invocation: each only ends by the time-out."""
    app = probe(tmp_path / "app", {"functionTimeout": "00:00:01", "extensions": {"blobs": {"poisonBlobThreshold": 2}}})
    created = await cloud.upload(order)
    async with cloud.host(app) as host:
        await notify(host, created)
        await cloud.messages(cloud.data_poison(), 1)
    first, second = cloud.seen("on_blob")
    assert first["pid"] != second["pid"]
    assert second["at"] - first["at"] > 0.9


async def test_several_workers_share_the_work(cloud: Cloud) -> None:
    """FUNCTIONS_WORKER_PROCESS_COUNT, the platform's setting."""
    events = [await cloud.upload(f"image-{number}") for number in range(12)]
    async with cloud.host(settings={"FUNCTIONS_WORKER_PROCESS_COUNT": "2"}) as host:
        while len((await status(host))["local"]["workers"]) < 2:
            await asyncio.sleep(0.02)
        await notify(host, *events)
        seen = await cloud.seen_times("on_blob", 12)
    assert len({record["pid"] for record in seen}) == 2


# --- queue trigger


async def test_a_queue_message_comes_with_its_metadata(running: Running) -> None:
    """Body, id, dequeue count, pop receipt and times, as the worker's own converter reads them."""
    cloud, _ = running
    await cloud.order("grüße")
    (seen,) = await cloud.seen_times("on_message", 1, "grüße")
    assert (seen["text"], seen["dequeue_count"]) == ("grüße", 1)
    assert seen["id"]
    assert seen["pop_receipt"]
    assert all(moment.endswith("+00:00") for moment in seen["times"])


async def test_a_failing_message_is_dequeued_five_times_then_goes_to_its_queues_poison_queue(cloud: Cloud) -> None:
    """On the same account, unchanged, for the same 7 days."""
    await cloud.order("fail-now")
    async with cloud.host():
        (poison,) = await cloud.messages(cloud.queues.get_queue_client(f"{cloud.orders}-poison"), 1)
    assert base64.b64decode(poison.content) == b"fail-now"
    assert life(poison) == DAYS_7
    assert [record["dequeue_count"] for record in cloud.seen("on_message")] == [1, 2, 3, 4, 5]


async def test_a_message_that_is_not_text_reaches_only_a_function_that_takes_bytes(cloud: Cloud) -> None:
    """A trigger of text fails before any worker hears of it; what is not Base64 goes to the poison queue at once."""
    await cloud.queues.create_queue(f"{cloud.orders}-bytes")
    await cloud.order(b"\xff text", queue=f"{cloud.orders}-bytes")
    await cloud.order(b"\xff text")
    await cloud.order("{not base64}", encode=False)
    async with cloud.host():
        found = await cloud.messages(cloud.queues.get_queue_client(f"{cloud.orders}-poison"), 2)
        (seen,) = await cloud.seen_times("on_bytes", 1)
    assert {message.content for message in found} == {"{not base64}", base64.b64encode(b"\xff text").decode()}
    assert cloud.seen("on_message") == []
    assert (seen["text"], seen["dequeue_count"]) == (repr(b"\xff text"), 1)


async def test_visibility_timeout_delays_a_queues_retries(cloud: Cloud, tmp_path: Path) -> None:
    """extensions.queues.visibilityTimeout and maxDequeueCount; blobs know no such delay."""
    queues = {"visibilityTimeout": "00:00:01", "maxDequeueCount": 2, "messageEncoding": "none"}
    app = probe(tmp_path / "app", {"extensions": {"queues": queues}})
    await cloud.order("fail-1", encode=False)
    async with cloud.host(app):
        await cloud.messages(cloud.queues.get_queue_client(f"{cloud.orders}-poison"), 1)
    first, second = cloud.seen("on_message")
    assert second["at"] - first["at"] > 0.9


# --- timer, HTTP


async def test_a_timer_runs_on_startup_and_by_its_schedule(cloud: Cloud) -> None:
    """A six-field NCRONTAB expression from a setting; runs start on the second."""
    async with cloud.host(settings={"TICK": "* * * * * *"}):
        _, second, third = (await cloud.seen_times("on_timer", 3))[:3]
    assert second["past_due"] is False
    assert 0.8 < third["at"] - second["at"] < 1.3
    assert third["at"] % 1 < 0.3


async def test_http_functions_get_the_request_and_give_the_response(running: Running) -> None:
    """Parameters, lower-case headers, raw bytes and the caller's trace in; status, headers, cookies, raw bytes out."""
    _, host = running
    body = os.urandom(1_000_000)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with aiohttp.ClientSession() as session:
        keyed = {
            "X-Functions-Key": host.function_key,
            "User-Agent": "probe",
            "traceparent": f"00-{trace}-{'a' * 16}-01",
        }
        async with session.post(f"{host.url}/api/echo/j%C3%BCrgen?a=1&b=%26&c=", data=body, headers=keyed) as response:
            assert (response.status, response.headers["x-probe"]) == (201, "1")
            facts = await response.json()
        async with session.post(f"{host.url}/api/shout/2", data=b"hey\xff") as response:
            shouted = await response.read()
            assert response.cookies["seen"].OutputString() == "seen=yes; HttpOnly; Max-Age=60; Path=/; SameSite=Lax"
        plain = await call(f"{host.url}/api/secret", headers={"x-functions-key": host.master_key})
    assert facts.pop("url").startswith(f"{host.url}/api/echo/")
    assert {"x-functions-key", "user-agent", "content-length"} <= set(headers := facts.pop("headers"))
    assert [name.lower() for name in headers] == headers
    given_trace = facts.pop("trace").split("-")
    assert (given_trace[:2], given_trace[2] != "a" * 16) == (["00", trace], True)
    assert facts == {
        "method": "POST",
        "who": "jürgen",
        "params": {"a": "1", "b": "&"},
        "agent": "probe",
        "length": len(body),
    }
    assert shouted == b"HEY\xffHEY\xff"
    assert plain == (200, b"hello GET")


async def test_a_body_that_does_not_say_its_length_is_not_handed_over(running: Running) -> None:
    """Azure/azure-functions-host#7930: chunked requests reach no worker of another process."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"image"

    _, host = running
    _, body = await call(f"{host.url}/api/echo", "POST", params={"code": host.function_key}, data=chunks())
    assert json.loads(body)["length"] == 0


async def test_each_invocation_has_a_trace_of_its_own(running: Running) -> None:
    cloud, host = running
    await notify(host, *[await cloud.upload(f"traced-{number}") for number in range(2)])
    traces = [record["trace"] for record in await cloud.seen_times("on_blob", 2, "traced-")]
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace) for trace in traces)
    assert len(set(traces)) == 2


async def test_http_statuses_are_the_platforms(running: Running) -> None:
    """401 without the right key, 404 for no such route, method or constraint, a bare 500 for an exception."""
    _, host = running
    function, master = {"code": host.function_key}, {"code": host.master_key}
    answers = [
        await call(f"{host.url}/api/echo", "POST"),
        await call(f"{host.url}/api/echo", "POST", params={"code": "wrong"}),
        await call(f"{host.url}/api/secret", params=function),
        await call(f"{host.url}/api/nothing"),
        await call(f"{host.url}/api/echo", "GET", params=function),
        await call(f"{host.url}/api/shout/many"),
        await call(f"{host.url}/api/crash"),
    ]
    allowed = [
        (await call(f"{host.url}/api/echo", "POST", params=function))[0],
        (await call(f"{host.url}/api/echo/you", "POST", params=master))[0],
    ]
    assert answers == [(401, b""), (401, b""), (401, b""), (404, b""), (404, b""), (404, b""), (500, b"")]
    assert allowed == [201, 201]


# --- admin


async def test_functions_can_be_run_by_hand(running: Running) -> None:
    """POST /admin/functions/<name>, with the master key; a blob's path, a message's text, or nothing for a timer."""
    cloud, host = running
    url, master = f"{host.url}/admin/functions", {"x-functions-key": host.master_key}

    async def run(name: str, content: object, headers: Mapping[str, str] = master) -> int:
        return (await call(f"{url}/{name}", "POST", json=content, headers=headers))[0]

    await cloud.seen_times("on_timer", 1)
    await cloud.upload("by/hand.jpg")
    statuses = [
        await run("on_blob", {"input": f"{cloud.input}/by/hand.jpg"}),
        await run("on_message", {"input": "by hand"}),
        await run("on_timer", {}),
        await run("nobody", {}),
        await run("on_blob", {"input": "no-path"}),
        await run("on_blob", {"input": f"{cloud.input}/not/there.jpg"}),
        await run("on_timer", [1]),
        await run("on_timer", {}, {"x-functions-key": host.function_key}),
    ]
    assert statuses == [202, 202, 202, 404, 400, 400, 400, 401]
    await cloud.seen_times("on_blob", 1, "by/hand.jpg")
    await cloud.seen_times("on_message", 1, "by hand")
    await cloud.seen_times("on_timer", 2)
    _, listing = await call(url, headers=master)
    assert {function["name"] for function in json.loads(listing)} == set(host.functions)
    _, key = await call(f"{host.url}/admin/host/systemkeys/blobs_extension", headers=master)
    assert json.loads(key) == {"name": "blobs_extension", "value": host.blobs_extension_key}


async def test_the_status_has_id_state_and_workers(running: Running) -> None:
    """Without a key, as with Core Tools; so does ping."""
    _, host = running
    facts = await status(host)
    assert (await call(f"{host.url}/admin/host/ping"))[0] == 200
    (worker,) = facts["local"].pop("workers")
    assert worker["pid"] != host.pid
    assert facts.pop("processUptime") > 0
    assert facts == {
        "id": host.host_id,
        "state": "Running",
        "version": "4.0.0-local",
        "errors": [],
        "local": {"pid": host.pid, "messages": 0},
    }


async def test_a_disabled_function_does_not_run_but_its_events_are_kept(cloud: Cloud) -> None:
    """AzureWebJobs.<name>.Disabled, in the form that Linux takes; enabled again, it gets what came meanwhile."""
    await cloud.order("hello")
    created = await cloud.upload("kept.jpg")
    disabled = {f"AzureWebJobs__{name}__Disabled": "true" for name in ("on_timer", "on_blob")}
    async with cloud.host(settings=disabled) as host:
        assert await notify(host, created) == 202
        await cloud.seen_times("on_message", 1)
    assert (cloud.seen("on_timer"), cloud.seen("on_blob")) == ([], [])
    (kept,) = await cloud.internal_queue().peek_messages()
    assert (kept.dequeue_count, life(kept)) == (0, DAYS_7)
    async with cloud.host():
        await cloud.seen_times("on_blob", 1, "kept.jpg")


# --- start and stop


WRONG_SETTINGS = """
@app.queue_trigger(arg_name="m", queue_name="%NO_SUCH%", connection="Elsewhere")
def one(m: func.QueueMessage) -> None: ...
@app.queue_trigger(arg_name="m", queue_name="q", connection="Elsewhere")
def two(m: func.QueueMessage) -> None: ...
@app.timer_trigger(arg_name="t", schedule="*/5 * * * *")
def three(t: func.TimerRequest) -> None: ...
"""
POLLED_BLOB = """
import azurefunctions.extensions.bindings.blob as blob
@app.blob_trigger(arg_name="b", path="c/{name}", connection="DataStorage")
def one(b: blob.BlobClient) -> None: ...
"""
STREAMED_BLOB = """
@app.blob_trigger(arg_name="b", path="c/{name}", connection="DataStorage", source=func.BlobSource.EVENT_GRID)
def one(b: func.InputStream) -> None: ...
"""


@pytest.mark.parametrize(
    ("code", "problems"),
    [
        ("raise ValueError('INPUT_CONTAINER is missing')", ["failed to start: ValueError: INPUT_CONTAINER is missing"]),
        ("import nothing_of_that_name", ["No module named 'nothing_of_that_name'"]),
        ("", ["defines no functions"]),
        (
            WRONG_SETTINGS,
            [
                "function 'one': queueTrigger 'm', queueName: '%NO_SUCH%' does not resolve to a value; add the app",
                "function 'two': connection 'Elsewhere': the app setting Elsewhere__queueServiceUri is missing",
                "function 'three': timerTrigger, schedule: '*/5 * * * *' is not a NCRONTAB expression",
            ],
        ),
        (
            POLLED_BLOB,
            ["function 'one': blobTrigger 'b': its source is LogsAndContainerScan, but only EventGrid is supported"],
        ),
        (STREAMED_BLOB, ["function 'one': blobTrigger 'b': its parameter must be of a type that takes no bytes"]),
        (
            "@app.route(route='a/x{b}')\ndef one(req: func.HttpRequest) -> str: return ''",
            ["function 'one', route: 'x{b}' is not understood"],
        ),
    ],
    ids=["raises", "import", "no functions", "settings", "source", "bytes", "route"],
)
async def test_an_app_that_cannot_start_says_why(cloud: Cloud, tmp_path: Path, code: str, problems: list[str]) -> None:
    """Every problem at once, on one line each, naming function, property and setting."""
    with pytest.raises(HostError) as caught:
        async with cloud.host(variant(tmp_path / "app", code)):
            pass
    assert len(caught.value.problems) == len(problems)
    for said, expected in zip(caught.value.problems, problems, strict=True):
        assert expected in said
        assert "\n" not in said
    log = cloud.log.read_text()
    assert [line for line in log.splitlines() if line.startswith("error: ")] == [
        f"error: {problem}" for problem in caught.value.problems
    ]


@pytest.mark.parametrize(
    ("host_json", "problem"),
    [
        ({}, "host.json: version: Field required"),
        ({"version": "2.0", "functionTimeout": "5 min"}, 'functionTimeout.*must be a time span such as "00:05:00"'),
        ({"version": "2.0", "extensions": {"queues": {"batchSize": 64}}}, "extensions.queues.batchSize: .*less than"),
        ({"version": "2.0", "extensions": {"blobs": {"maxParallel": 1}}}, "extensions.blobs.maxParallel: Extra inputs"),
    ],
)
async def test_a_wrong_host_json_names_its_key(
    cloud: Cloud, tmp_path: Path, host_json: dict[str, Any], problem: str
) -> None:
    """Also keys that the platform would silently ignore."""
    app = variant(tmp_path / "app", "")
    (app / "host.json").write_text(json.dumps(host_json))
    with pytest.raises(HostError, match=problem):
        async with cloud.host(app):
            pass


async def test_a_missing_function_app_and_a_missing_host_json_are_errors(cloud: Cloud, tmp_path: Path) -> None:
    """The platform runs nothing and says nothing."""
    app = variant(tmp_path / "app", "")
    (app / "function_app.py").unlink()
    with pytest.raises(HostError, match=r"function_app.py does not exist"):
        async with cloud.host(app):
            pass
    (app / "host.json").unlink()
    with pytest.raises(HostError, match=r"host.json is missing"):
        async with cloud.host(app):
            pass


async def test_a_port_in_use_is_one_clear_line(cloud: Cloud) -> None:
    """And the host ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        host = FunctionsHostProcess(PROBE, cloud.environment, port=port, log=cloud.log)
        with pytest.raises(HostError, match=f"port {port} is in use"):
            await host.__aenter__()
    assert await host.stop() == 1
    assert "Traceback" not in cloud.log.read_text()


async def test_stopping_lets_running_invocations_end(cloud: Cloud) -> None:
    """SIGTERM within the grace time: the work is finished and its message deleted."""
    created = await cloud.upload("sleep-1-a")
    async with cloud.host(grace=10) as host:
        await notify(host, created)
        await cloud.seen_times("on_blob", 1)
        assert await host.stop() == 0
        await cloud.internal_queue_is_empty()


async def test_an_invocation_beyond_the_grace_time_is_killed_and_its_message_visible_at_once(cloud: Cloud) -> None:
    """Nothing is cancelled and no atexit runs; but the person who pressed Ctrl-C does not wait for ten minutes, and no
    attempt of five is the last one.
    """
    created = await cloud.upload("hang-1")
    async with cloud.host(grace=0.2) as host:
        await notify(host, created)
        await cloud.seen_times("on_blob", 1)
        assert await host.stop() == 0
    assert cloud.seen("end") == []
    (message,) = await cloud.messages(cloud.internal_queue(), 1)
    assert message.dequeue_count == 1


def test_the_library_calls_a_start_that_failed_a_success_without_functions(tmp_path: Path) -> None:
    """The platform's host then sees no more than that: the app's own message is in its log only."""
    app = variant(tmp_path / "app", "raise ValueError('a setting is missing')")
    program = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import azure_functions_runtime as runtime
from localcloud.functions_host import messages
def request(**content):
    return messages.WorkerRequest(messages.StreamingMessage(**content), {"protos": messages, "host": "127.0.0.1"})
async def main():
    init = request(worker_init_request=messages.WorkerInitRequest(sys.argv[1]))
    started = await runtime.worker_init_request(init)
    functions = await runtime.functions_metadata_request(request())
    print(started.result.status, started.result.exception.message.strip().splitlines()[-1])
    print(functions.result.status, functions.function_metadata_results)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(app)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["0 ValueError: a setting is missing", "1 None"]
