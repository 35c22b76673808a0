"""A functions host of one's own in the shared emulator, and what can be seen of it from outside."""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.cloud import DATA_ACCOUNT, HOST_ACCOUNT
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import IdentityEndpoint

PROBE = Path(__file__).parents[1] / "localcloud" / "apps" / "probe"
NEVER = "0 0 0 1 1 *"


async def until[T](look: Callable[[], T], seconds: float = 60) -> T:
    """The first true thing that `look` returns."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s for it"
        await asyncio.sleep(0.02)
    return seen


@dataclass(frozen=True)
class Parts:
    """The parts of the session's cloud that a host needs."""

    azurite: Azurite
    account_keys: dict[str, str]
    identity: IdentityEndpoint
    certificates: Certificates


@dataclass(frozen=True)
class Cloud:
    """Containers, queues and a folder of records that belong to one host."""

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

    def seen(self, function: str, of: str = "") -> list[dict[str, Any]]:
        """The records of a function's runs, in the order of time; `of`: those for such a name or message."""
        records = [json.loads(path.read_bytes()) for path in self.records.glob(f"{function}-*.json")]
        its = [record for record in records if of in record.get("name", record.get("text", ""))]
        return sorted(its, key=lambda record: record["at"])

    async def seen_times(self, function: str, count: int, of: str = "") -> list[dict[str, Any]]:
        await until(lambda: len(self.seen(function, of)) >= count)
        return self.seen(function, of)

    async def upload(self, name: str) -> dict[str, Any]:
        """Writes a blob; its BlobCreated event."""
        blob = self.blobs.get_blob_client(self.input, name)
        await blob.upload_blob(b"content", metadata={"note": "mine"})
        return event(blob.url)

    async def order(self, text: str | bytes, *, encode: bool = True, queue: str | None = None) -> None:
        content = base64.b64encode(text.encode() if isinstance(text, str) else text).decode() if encode else text
        await self.queues.get_queue_client(queue or self.orders).send_message(content)

    async def messages(self, queue: QueueClient, count: int) -> list[QueueMessage]:
        """The messages of a queue, once there are so many."""
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(ResourceNotFoundError):
                found = await queue.peek_messages(32)
                if len(found) >= count:
                    return found
            assert time.monotonic() < deadline, f"no {count} messages came into {queue.queue_name}"
            await asyncio.sleep(0.02)

    def data_poison(self) -> QueueClient:
        return self.queues.get_queue_client("webjobs-blobtrigger-poison")

    def internal_queue(self) -> QueueClient:
        host_id = self.environment["AzureFunctionsWebHost__hostid"]
        return self.host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{host_id}")

    async def internal_queue_is_empty(self) -> None:
        deadline = time.monotonic() + 60
        while (await self.internal_queue().get_queue_properties()).approximate_message_count:
            assert time.monotonic() < deadline, "the internal queue does not get empty"
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def own_cloud(
    parts: Parts, directory: Path, seen_by_host: Mapping[str, str] | None = None
) -> AsyncIterator[Cloud]:
    """Args:
    parts: the session's.
    directory: for records and log.
    seen_by_host: other origins than the emulator's, where the host finds storage.
    """
    own = uuid.uuid4().hex[:8]
    (records := directory / "records").mkdir()
    azurite, certificates, identity = parts.azurite, parts.certificates, parts.identity

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
        "LOCAL_HOST_RESTART_SECONDS": "0.02",
    }
    for connection, account in (("DataStorage", DATA_ACCOUNT), ("AzureWebJobsStorage", HOST_ACCOUNT)):
        environment |= {
            f"{connection}__blobServiceUri": azurite.blob_url(account),
            f"{connection}__queueServiceUri": azurite.queue_url(account),
            f"{connection}__credential": "managedidentity",
            f"{connection}__clientId": identity.client_id,
        }
    for real, other in (seen_by_host or {}).items():
        environment = {name: value.replace(real, other) for name, value in environment.items()}
    keys = parts.account_keys
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.client_context())) as session,
        BlobServiceClient(azurite.blob_url(DATA_ACCOUNT), keys[DATA_ACCOUNT], transport=transport()) as blobs,
        QueueServiceClient(azurite.queue_url(DATA_ACCOUNT), keys[DATA_ACCOUNT], transport=transport()) as queues,
        QueueServiceClient(azurite.queue_url(HOST_ACCOUNT), keys[HOST_ACCOUNT], transport=transport()) as host_queues,
    ):
        await blobs.create_container(f"images-{own}")
        await queues.create_queue(f"orders-{own}")
        with contextlib.suppress(ResourceNotFoundError):
            await queues.delete_queue("webjobs-blobtrigger-poison")
        cloud = Cloud(
            environment, records, directory / "host.log", blobs, queues, host_queues, f"images-{own}", f"orders-{own}"
        )
        await cloud.internal_queue().create_queue()
        yield cloud


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


async def notify(host: FunctionsHostProcess, *events: dict[str, Any], function: str = "on_blob") -> int:
    return (await notification(host, list(events), function))[0]


async def notification(host: FunctionsHostProcess, content: object, function: str = "on_blob") -> tuple[int, bytes]:
    """Send a notification to the webhook and return its status and body. `content` may be bytes that are not JSON."""
    headers = {"aeg-event-type": "Notification"}
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await call(host.webhook_url(function), "POST", data=data, headers=headers)


async def call(url: str, method: str = "GET", **options: Any) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, await response.read()


async def status(host: FunctionsHostProcess) -> dict[str, Any]:
    _, body = await call(f"{host.url}/admin/host/status")
    facts: dict[str, Any] = json.loads(body)
    return facts


def life(message: QueueMessage) -> timedelta:
    """From its insertion to its expiry."""
    assert message.inserted_on is not None
    assert message.expires_on is not None
    return message.expires_on - message.inserted_on


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def probe(directory: Path, host_json: Mapping[str, object]) -> Path:
    """The probe app with a host.json of one's own."""
    directory.mkdir()
    (directory / "function_app.py").symlink_to(PROBE / "function_app.py")
    (directory / "host.json").write_text(json.dumps({"version": "2.0", **host_json}))
    return directory


def variant(directory: Path, code: str, host_json: object = None) -> Path:
    """A function app of one's own."""
    directory.mkdir()
    (directory / "host.json").write_text(json.dumps(host_json or {"version": "2.0"}))
    header = "import azure.functions as func\napp = func.FunctionApp()\n"
    (directory / "function_app.py").write_text(header + code)
    return directory
