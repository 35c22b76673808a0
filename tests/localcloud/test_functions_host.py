"""The functions host, through its real processes: host, worker library, storage emulator, identity endpoint."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import IdentityEndpoint

PROBE = Path(__file__).parent / "apps" / "probe"
DATA_ACCOUNT = "devstoreaccount1"
HOST_ACCOUNT = "hoststorage"
NEVER = "0 0 0 1 1 *"


async def until[T](look: Callable[[], T], seconds: float = 20) -> T:
    """The first true thing that `look` returns."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s for it in vain"
        await asyncio.sleep(0.02)
    return seen


@dataclass(frozen=True)
class Cloud:
    """One test's own containers, queues and folder of records, in the shared emulator."""

    environment: dict[str, str]
    records: Path
    log: Path
    blobs: BlobServiceClient
    queues: QueueServiceClient
    host_queues: QueueServiceClient
    input: str
    orders: str

    @contextlib.asynccontextmanager
    async def host(
        self, app: Path = PROBE, *, grace: float = 5, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[FunctionsHostProcess]:
        process = FunctionsHostProcess(app, self.environment | dict(settings or {}), grace=grace, log=self.log)
        async with process:
            yield process

    def seen(self, function: str) -> list[dict[str, Any]]:
        """What the runs of a function wrote down, in the order of time."""
        records = [json.loads(path.read_bytes()) for path in self.records.glob(f"{function}-*.json")]
        return sorted(records, key=lambda record: record["at"])

    async def seen_times(self, function: str, count: int) -> list[dict[str, Any]]:
        await until(lambda: len(self.seen(function)) >= count)
        return self.seen(function)

    async def upload(self, name: str) -> dict[str, Any]:
        """Writes a blob; its BlobCreated event."""
        blob = self.blobs.get_blob_client(self.input, name)
        await blob.upload_blob(b"content")
        return event(blob.url)

    async def order(self, text: str, *, encode: bool = True) -> None:
        content = base64.b64encode(text.encode()).decode() if encode else text
        await self.queues.get_queue_client(self.orders).send_message(content)

    async def messages(self, queue: QueueClient, count: int) -> list[QueueMessage]:
        """The messages of a queue, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(ResourceNotFoundError):
                found = await queue.peek_messages(32)
                if len(found) >= count:
                    return found
            assert time.monotonic() < deadline, f"no {count} messages came into {queue.queue_name}"
            await asyncio.sleep(0.02)

    def data_poison(self) -> QueueClient:
        return self.queues.get_queue_client("webjobs-blobtrigger-poison")

    async def internal_queue_is_empty(self, host: FunctionsHostProcess) -> None:
        queue = self.host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{host.host_id}")
        deadline = time.monotonic() + 20
        while (await queue.get_queue_properties()).approximate_message_count:
            assert time.monotonic() < deadline, "the internal queue does not get empty"
            await asyncio.sleep(0.02)


def event(url: str, **data: object) -> dict[str, Any]:
    return {
        "topic": "/subscriptions/x",
        "subject": "/blobServices/default/containers/images/blobs/a.jpg",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": str(uuid.uuid4()),
        "eventTime": "2026-01-01T00:00:00Z",
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {"api": "PutBlob", "eTag": "0x8D", "blobType": "BlockBlob", "url": url} | data,
    }


@pytest.fixture
async def cloud(
    azurite: Azurite,
    account_keys: dict[str, str],
    identity: IdentityEndpoint,
    certificates: Certificates,
    tmp_path: Path,
) -> AsyncIterator[Cloud]:
    own = uuid.uuid4().hex[:8]
    (records := tmp_path / "records").mkdir()

    def transport() -> AioHttpTransport:
        # Not connection_verify=<path>: the SDK would then read the bundle anew for each request, at 20 ms.
        return AioHttpTransport(session=session, session_owner=False)

    environment = identity.environment() | {
        "REQUESTS_CA_BUNDLE": str(certificates.bundle),
        "SSL_CERT_FILE": str(certificates.bundle),
        "AzureFunctionsWebHost__hostid": f"test-{own}",
        "INPUT_CONTAINER": f"images-{own}",
        "ORDERS_QUEUE": f"orders-{own}",
        "TICK": NEVER,
        "RECORDS": str(records),
    }
    for connection, account in (("DataStorage", DATA_ACCOUNT), ("AzureWebJobsStorage", HOST_ACCOUNT)):
        environment |= {
            f"{connection}__blobServiceUri": azurite.blob_url(account),
            f"{connection}__queueServiceUri": azurite.queue_url(account),
            f"{connection}__credential": "managedidentity",
            f"{connection}__clientId": identity.client_id,
        }
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.client_context())) as session,
        BlobServiceClient(azurite.blob_url(DATA_ACCOUNT), account_keys[DATA_ACCOUNT], transport=transport()) as blobs,
        QueueServiceClient(
            azurite.queue_url(DATA_ACCOUNT), account_keys[DATA_ACCOUNT], transport=transport()
        ) as queues,
        QueueServiceClient(
            azurite.queue_url(HOST_ACCOUNT), account_keys[HOST_ACCOUNT], transport=transport()
        ) as host_queues,
    ):
        await blobs.create_container(f"images-{own}")
        await queues.create_queue(f"orders-{own}")
        with contextlib.suppress(ResourceNotFoundError):
            await queues.delete_queue("webjobs-blobtrigger-poison")
        yield Cloud(
            environment, records, tmp_path / "host.log", blobs, queues, host_queues, f"images-{own}", f"orders-{own}"
        )


async def notify(host: FunctionsHostProcess, *events: dict[str, Any], function: str = "on_blob") -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(host.webhook_url(function), json=events, headers={"aeg-event-type": "Notification"}) as response,
    ):
        return response.status


async def call(url: str, method: str = "GET", **options: Any) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, await response.read()


async def status(host: FunctionsHostProcess) -> dict[str, Any]:
    _, body = await call(f"{host.url}/admin/host/status")
    facts: dict[str, Any] = json.loads(body)
    return facts


def variant(directory: Path, code: str, host_json: object = None) -> Path:
    """A function app of one's own."""
    directory.mkdir()
    (directory / "host.json").write_text(json.dumps(host_json or {"version": "2.0"}))
    header = "import azure.functions as func\napp = func.FunctionApp()\n"
    (directory / "function_app.py").write_text(header + code)
    return directory


# --- blob trigger


@pytest.mark.parametrize("name", ["a.jpg", "folder/ü %25 #1?+&.jpg", "日本.png"])
async def test_an_event_runs_the_function_with_the_blobs_container_and_decoded_name(cloud: Cloud, name: str) -> None:
    """The SDK's BlobClient gets the name as it was uploaded, whatever the URL had to encode."""
    created = await cloud.upload(name)
    async with cloud.host() as host:
        assert await notify(host, created) == 202
        (seen,) = await cloud.seen_times("on_blob", 1)
        assert (seen["container"], seen["name"]) == (cloud.input, name)
        await cloud.internal_queue_is_empty(host)


async def test_a_failing_blob_is_delivered_five_times_then_goes_to_the_data_accounts_poison_queue(cloud: Cloud) -> None:
    """At once, with no back-off; the internal queue is left empty."""
    created = await cloud.upload("fail-1.jpg")
    async with cloud.host() as host:
        await notify(host, created)
        (poison,) = await cloud.messages(cloud.data_poison(), 1)
        await cloud.internal_queue_is_empty(host)
    assert len(cloud.seen("on_blob")) == 5
    assert json.loads(base64.b64decode(poison.content)) == {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.on_blob",
        "BlobType": "Block",
        "ContainerName": cloud.input,
        "BlobName": "fail-1.jpg",
        "ETag": '"0x8D"',
    }


async def test_a_message_for_an_unknown_function_or_a_blob_that_is_gone_is_deleted_silently(cloud: Cloud) -> None:
    """Nothing runs, nothing goes to a poison queue, and the listener goes on."""
    created = await cloud.upload("a.jpg")
    gone = event(created["data"]["url"].replace("a.jpg", "gone.jpg"))
    async with cloud.host() as host:
        assert await notify(host, created, function="nobody") == 202
        assert await notify(host, gone) == 202
        assert await notify(host, created) == 202
        (seen,) = await cloud.seen_times("on_blob", 1)
        await cloud.internal_queue_is_empty(host)
        assert seen["name"] == "a.jpg"
    assert len(cloud.seen("on_blob")) == 1


async def test_the_webhook_answers_as_documented(cloud: Cloud) -> None:
    """Handshake 200 with the code, unsubscribe 202, unknown kinds 400, a wrong key 401, no event 500."""
    async with cloud.host() as host:
        url = host.webhook_url("on_blob")
        handshake = [
            {"data": {"validationCode": "512d"}, "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent"}
        ]
        answers = [
            await call(url, "POST", json=handshake, headers={"aeg-event-type": "SubscriptionValidation"}),
            await call(url, "POST", json=[], headers={"aeg-event-type": "Unsubscribe"}),
        ]
        statuses = [
            (await call(url, "POST", json=[]))[0],
            (await call(url.replace("code=", "code=x"), "POST", json=handshake))[0],
            (await call(url, "POST", json=[{"data": {}}], headers={"aeg-event-type": "Notification"}))[0],
            (await call(url, "POST", data=b"{", headers={"aeg-event-type": "Notification"}))[0],
        ]
    assert answers == [(200, b'{"validationResponse": "512d"}'), (202, b"")]
    assert statuses == [400, 401, 500, 500]


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
        await cloud.internal_queue_is_empty(host)
        facts = await status(host)
        assert facts["state"] == "Running"
        assert [worker["pid"] for worker in facts["local"]["workers"]] == [second["pid"]]
    with pytest.raises(ResourceNotFoundError):
        await cloud.data_poison().get_queue_properties()


async def test_code_that_ends_its_own_process_uses_up_its_five_deliveries(cloud: Cloud) -> None:
    """os._exit() takes the ordinary failure path, and the host survives it."""
    created = await cloud.upload("exit-1")
    async with cloud.host() as host:
        await notify(host, created)
        await cloud.messages(cloud.data_poison(), 1)
        assert len(cloud.seen("on_blob")) == 5
        await notify(host, await cloud.upload("fine"))
        await until(lambda: cloud.seen("on_blob")[-1]["name"] == "fine")


@pytest.mark.parametrize("order", ["hang-1", "block-1", "cancel-1"])
async def test_function_timeout_restarts_the_whole_worker(cloud: Cloud, order: str, tmp_path: Path) -> None:
    """An awaiting, a blocking, and a swallowed (CancelledError) invocation: each only ends by the time-out."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "function_app.py").write_bytes((PROBE / "function_app.py").read_bytes())
    (app / "host.json").write_text(
        json.dumps(
            {"version": "2.0", "functionTimeout": "00:00:01", "extensions": {"blobs": {"poisonBlobThreshold": 2}}}
        )
    )
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


async def test_no_worker_outlives_a_killed_host(cloud: Cloud) -> None:
    """Not even one whose event loop is blocked."""
    created = await cloud.upload("block-1")
    async with cloud.host() as host:
        await notify(host, created)
        (seen,) = await cloud.seen_times("on_blob", 1)
        os.kill(host.pid, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(seen["pid"]) or _is_zombie(seen["pid"]))


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# --- queue trigger


async def test_a_queue_message_comes_with_its_metadata(cloud: Cloud) -> None:
    """Body, id, dequeue count, pop receipt and times, as the worker's own converter reads them."""
    await cloud.order("grüße")
    async with cloud.host():
        (seen,) = await cloud.seen_times("on_message", 1)
    assert (seen["text"], seen["dequeue_count"]) == ("grüße", 1)
    assert seen["id"]
    assert seen["pop_receipt"]
    assert all(moment.endswith("+00:00") for moment in seen["times"])


async def test_a_failing_message_is_dequeued_five_times_then_goes_to_its_queues_poison_queue(cloud: Cloud) -> None:
    """On the same account, unchanged."""
    await cloud.order("fail-now")
    async with cloud.host():
        (poison,) = await cloud.messages(cloud.queues.get_queue_client(f"{cloud.orders}-poison"), 1)
    assert base64.b64decode(poison.content) == b"fail-now"
    assert [record["dequeue_count"] for record in cloud.seen("on_message")] == [1, 2, 3, 4, 5]


async def test_a_message_that_is_not_base64_goes_to_the_poison_queue_without_an_attempt(cloud: Cloud) -> None:
    """As it came, so that somebody can see what it was."""
    await cloud.order("{not base64}", encode=False)
    async with cloud.host():
        (poison,) = await cloud.messages(cloud.queues.get_queue_client(f"{cloud.orders}-poison"), 1)
    assert poison.content == "{not base64}"
    assert cloud.seen("on_message") == []


async def test_visibility_timeout_delays_a_queues_retries(cloud: Cloud, tmp_path: Path) -> None:
    """extensions.queues.visibilityTimeout and maxDequeueCount; blobs know no such delay."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "function_app.py").write_bytes((PROBE / "function_app.py").read_bytes())
    queues = {"visibilityTimeout": "00:00:01", "maxDequeueCount": 2, "messageEncoding": "none"}
    (app / "host.json").write_text(json.dumps({"version": "2.0", "extensions": {"queues": queues}}))
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


async def test_http_functions_get_the_request_and_give_the_response(cloud: Cloud) -> None:
    """Route and query parameters, headers and raw bytes in; status, headers, cookies and raw bytes out."""
    body = os.urandom(1_000_000)
    async with cloud.host() as host, aiohttp.ClientSession() as session:
        keyed = {"x-functions-key": host.function_key, "user-agent": "probe"}
        async with session.post(f"{host.url}/api/echo/j%C3%BCrgen?a=1&b=%26", data=body, headers=keyed) as response:
            assert (response.status, response.headers["x-probe"]) == (201, "1")
            facts = await response.json()
        async with session.post(f"{host.url}/api/shout/2", data=b"hey\xff") as response:
            shouted = await response.read()
            assert response.cookies["seen"].OutputString() == "seen=yes; HttpOnly; Max-Age=60; Path=/; SameSite=Lax"
        plain = await call(f"{host.url}/api/secret", headers={"x-functions-key": host.master_key})
    assert facts.pop("url").startswith(f"{host.url}/api/echo/")
    assert facts == {
        "method": "POST",
        "who": "jürgen",
        "params": {"a": "1", "b": "&"},
        "agent": "probe",
        "length": len(body),
    }
    assert shouted == b"HEY\xffHEY\xff"
    assert plain == (200, b"hello GET")


async def test_http_statuses_are_the_platforms(cloud: Cloud) -> None:
    """401 without the right key, 404 for no such route, method or constraint, a bare 500 for an exception."""
    async with cloud.host() as host:
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


async def test_functions_run_by_hand(cloud: Cloud) -> None:
    """POST /admin/functions/<name>, with the master key; a blob's path, a message's text, or nothing for a timer."""
    async with cloud.host() as host:
        url, master = f"{host.url}/admin/functions", {"x-functions-key": host.master_key}

        async def run(name: str, content: object, headers: Mapping[str, str] = master) -> int:
            return (await call(f"{url}/{name}", "POST", json=content, headers=headers))[0]

        await cloud.seen_times("on_timer", 1)
        statuses = [
            await run("on_blob", {"input": f"{cloud.input}/by/hand.jpg"}),
            await run("on_message", {"input": "by hand"}),
            await run("on_timer", {}),
            await run("nobody", {}),
            await run("on_blob", {"input": "no-path"}),
            await run("on_timer", [1]),
            await run("on_timer", {}, {"x-functions-key": host.function_key}),
        ]
        assert statuses == [202, 202, 202, 404, 400, 400, 401]
        assert (await cloud.seen_times("on_blob", 1))[0]["name"] == "by/hand.jpg"
        assert (await cloud.seen_times("on_message", 1))[0]["text"] == "by hand"
        await cloud.seen_times("on_timer", 2)
        _, listing = await call(url, headers=master)
        assert {function["name"] for function in json.loads(listing)} == set(host.functions)
        _, key = await call(f"{host.url}/admin/host/systemkeys/blobs_extension", headers=master)
        assert json.loads(key) == {"name": "blobs_extension", "value": host.blobs_extension_key}


async def test_the_status_tells_id_state_and_workers(cloud: Cloud) -> None:
    """Without a key, as with Core Tools; so does ping."""
    async with cloud.host() as host:
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


async def test_a_disabled_function_does_not_run(cloud: Cloud) -> None:
    """AzureWebJobs.<name>.Disabled, in the form that Linux takes."""
    await cloud.order("hello")
    async with cloud.host(settings={"AzureWebJobs__on_timer__Disabled": "true"}):
        await cloud.seen_times("on_message", 1)
    assert cloud.seen("on_timer") == []


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
        await cloud.internal_queue_is_empty(host)


async def test_what_does_not_end_in_the_grace_time_is_visible_again_at_once(cloud: Cloud) -> None:
    """Nothing is lost, nothing waits for the 10 minutes of its visibility, and no attempt of five is the last one."""
    created = await cloud.upload("hang-1")
    async with cloud.host(grace=0.2) as host:
        await notify(host, created)
        await cloud.seen_times("on_blob", 1)
        assert await host.stop() == 0
    queue = cloud.host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{host.host_id}")
    (message,) = await cloud.messages(queue, 1)
    assert message.dequeue_count == 1
    async with cloud.host(grace=0.2):
        await cloud.seen_times("on_blob", 2)
