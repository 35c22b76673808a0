"""The plain-HTTP front: people's tools work through it, and each upload raises the event that Azure raises."""

import asyncio
import gzip
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobSasPermissions, ContentSettings, StandardBlobTier, generate_blob_sas
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient
from azure.storage.queue.aio import QueueServiceClient
from multidict import CIMultiDict

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.front import PortInUse, StorageFront
from localcloud.front.blob_created import BlobWrite, blob_write

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

AWKWARD_NAMES = [
    "plain.jpg",
    "folder/sub folder/a b.jpg",
    "été/日本/🖼.jpg",
    "100% #1?x+y&z=1.jpg",
    "literally%20encoded%2F.jpg",
    "dots../...jpg",
    "(a)~'b'!*,;:@$[c].jpg",
    "長" * 1024,
]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """The events that the front of this module has published."""
    return []


@pytest.fixture(scope="module")
async def front(
    azurite: Azurite, certificates: Certificates, events: list[dict[str, Any]]
) -> AsyncIterator[StorageFront]:
    targets = azurite.blob_url(ACCOUNT), azurite.queue_url(ACCOUNT)
    async with StorageFront(*targets, certificates, {ACCOUNT: KEY}, events.append) as front:
        yield front


@pytest.fixture
async def container(front: StorageFront, events: list[dict[str, Any]]) -> AsyncIterator[ContainerClient]:
    """A new container, through the front, with which the published events start anew."""
    async with BlobServiceClient.from_connection_string(
        front.connection_string, max_single_put_size=1024, max_block_size=1024 * 1024
    ) as service:
        container = await service.create_container(f"images-{uuid.uuid4()}")
        events.clear()
        yield container


def summary(events: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [
        (
            event["data"]["api"],
            event["subject"].split("/blobs/", 1)[1],
            event["data"]["contentLength"],
        )
        for event in events
    ]


async def test_an_upload_raises_one_event_before_it_is_answered(
    azurite: Azurite, container: ContainerClient, events: list[dict[str, Any]]
) -> None:
    uploaded = await container.get_blob_client("a b.jpg").upload_blob(
        b"picture", content_settings=ContentSettings(content_type="image/jpeg")
    )

    name = container.container_name
    (event,) = events
    assert event == {
        "topic": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/localcloud"
        "/providers/Microsoft.Storage/storageAccounts/devstoreaccount1",
        "subject": f"/blobServices/default/containers/{name}/blobs/a b.jpg",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": str(uuid.UUID(event["id"])),
        "eventTime": event["eventTime"],
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {
            "api": "PutBlob",
            "clientRequestId": event["data"]["clientRequestId"],
            "requestId": uploaded["request_id"],
            "eTag": uploaded["etag"].strip('"'),
            "contentType": "image/jpeg",
            "contentLength": 7,
            "blobType": "BlockBlob",
            "url": f"{azurite.blob_url(ACCOUNT)}/{name}/a%20b.jpg",
            "sequencer": event["data"]["sequencer"],
            "storageDiagnostics": {"batchId": event["data"]["storageDiagnostics"]["batchId"]},
        },
    }
    assert datetime.now(UTC) - datetime.fromisoformat(event["eventTime"]) < timedelta(seconds=10)
    assert event["data"]["clientRequestId"]


async def test_an_upload_in_blocks_raises_one_event_with_the_whole_size(
    container: ContainerClient, events: list[dict[str, Any]]
) -> None:
    await container.get_blob_client("big.jpg").upload_blob(
        b"x" * 5_000_000, content_settings=ContentSettings(content_type="image/jpeg")
    )

    assert summary(events) == [("PutBlockList", "big.jpg", 5_000_000)]
    assert (events[0]["data"]["contentType"], events[0]["data"]["blobType"]) == ("image/jpeg", "BlockBlob")


async def test_an_overwrite_raises_an_event_that_sorts_later(
    container: ContainerClient, events: list[dict[str, Any]]
) -> None:
    blob = container.get_blob_client("a.jpg")
    await blob.upload_blob(b"one")
    await blob.upload_blob(b"", overwrite=True)

    first, second = events
    assert summary(events) == [("PutBlob", "a.jpg", 3), ("PutBlob", "a.jpg", 0)]
    assert first["data"]["sequencer"] < second["data"]["sequencer"]


@pytest.mark.parametrize("synchronous", [False, True], ids=["started", "synchronous"])
@pytest.mark.parametrize("signed", [False, True], ids=["same account", "SAS"])
async def test_a_copy_between_blobs_of_the_front_works_and_raises_one_event(
    container: ContainerClient, events: list[dict[str, Any]], *, synchronous: bool, signed: bool
) -> None:
    """The source's address names the front, which the emulator does not know."""
    name = "source é #1.jpg"
    source = container.get_blob_client(name)
    await source.upload_blob(b"picture", metadata={"instructions": "Read it"})
    events.clear()
    address = source.url
    if signed:
        sas = generate_blob_sas(
            ACCOUNT,
            container.container_name,
            name,
            account_key=KEY,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        address = f"{address}?{sas}"

    copy = container.get_blob_client("copies/copy %.jpg")
    started = await copy.start_copy_from_url(address, requires_sync=synchronous)

    assert started["copy_status"] == "success"
    assert await (await copy.download_blob()).readall() == b"picture"
    assert summary(events) == [("CopyBlob", "copies/copy %.jpg", 7)]


@pytest.mark.parametrize("name", AWKWARD_NAMES, ids=lambda name: name[:20])
async def test_any_name_goes_through_and_can_be_read_from_the_event(
    container: ContainerClient, events: list[dict[str, Any]], name: str
) -> None:
    blob = container.get_blob_client(name)
    await blob.upload_blob(b"picture", metadata={"instructions": "100% of it"})

    assert [found.name async for found in container.list_blobs()] == [name]
    properties = await blob.get_blob_properties()
    assert (properties.name, properties.metadata) == (name, {"instructions": "100% of it"})
    assert await (await blob.download_blob()).readall() == b"picture"
    assert summary(events) == [("PutBlob", name, 7)]
    async with BlobClient.from_blob_url(events[0]["data"]["url"]) as named:
        assert (named.account_name, named.container_name, named.blob_name) == (
            ACCOUNT,
            container.container_name,
            name,
        )

    await blob.delete_blob()
    assert [found.name async for found in container.list_blobs()] == []


async def test_page_and_append_blobs_raise_their_event_when_created(
    container: ContainerClient, events: list[dict[str, Any]]
) -> None:
    append = container.get_blob_client("log.txt")
    await append.create_append_blob()
    await append.append_block(b"line")
    page = container.get_blob_client("disk.vhd")
    await page.create_page_blob(1024)
    await page.upload_page(b"x" * 512, offset=0, length=512)

    assert [(event["data"]["blobType"], event["data"]["contentLength"]) for event in events] == [
        ("AppendBlob", 0),
        ("PageBlob", 1024),
    ]


async def test_nothing_else_raises_an_event(
    front: StorageFront, container: ContainerClient, events: list[dict[str, Any]]
) -> None:
    blob = container.get_blob_client("a.jpg")
    await blob.upload_blob(b"picture")
    events.clear()

    with pytest.raises(ResourceExistsError):
        await blob.upload_blob(b"picture", overwrite=False)
    await blob.set_blob_metadata({"instructions": "other"})
    await blob.set_http_headers(ContentSettings(content_type="image/png"))
    await blob.set_blob_tags({"kind": "receipt"})
    await blob.set_standard_blob_tier(StandardBlobTier.COOL)
    await blob.create_snapshot()
    await (await blob.acquire_lease(lease_duration=15)).release()
    await container.get_blob_client("staged.jpg").stage_block("0001", b"block")
    await (await blob.download_blob()).readall()
    await blob.delete_blob(delete_snapshots="include")
    async with QueueServiceClient.from_connection_string(front.connection_string) as queues:
        queue = await queues.create_queue(container.container_name)
        await queue.send_message("héllo <&>")
        assert [message.content async for message in queue.receive_messages()] == ["héllo <&>"]
        await queue.delete_queue()
    await container.delete_container()

    assert events == []


async def test_a_failed_publish_does_not_fail_the_upload(
    azurite: Azurite, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def publish(_event: dict[str, Any]) -> None:
        raise ConnectionError("no Event Grid today")

    targets = azurite.blob_url(ACCOUNT), azurite.queue_url(ACCOUNT)
    async with (
        StorageFront(*targets, certificates, {ACCOUNT: KEY}, publish) as front,
        BlobServiceClient.from_connection_string(front.connection_string) as service,
    ):
        container = await service.create_container(f"images-{uuid.uuid4()}")
        await container.upload_blob("a.jpg", b"picture")

    assert "blobs/a.jpg: publishing it failed" in caplog.text
    assert "no Event Grid today" in caplog.text


async def test_large_blobs_arrive_whole(container: ContainerClient, events: list[dict[str, Any]]) -> None:
    content = bytes(range(256)) * (64 * 1024 * 1024 // 256)
    blob = container.get_blob_client("large.bin")
    await blob.upload_blob(content, max_concurrency=4)

    assert await (await blob.download_blob(max_concurrency=4)).readall() == content
    assert summary(events) == [("PutBlockList", "large.bin", len(content))]


async def test_stored_compression_is_handed_on_as_it_is(container: ContainerClient) -> None:
    packed = gzip.compress(b"text" * 1000)
    blob = container.get_blob_client("text.gz")
    await blob.upload_blob(packed, content_settings=ContentSettings(content_encoding="gzip"))

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        sas = generate_blob_sas(
            ACCOUNT,
            container.container_name,
            "text.gz",
            account_key=KEY,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        async with session.get(f"{blob.url}?{sas}") as response:
            assert (response.headers["Content-Encoding"], await response.read()) == ("gzip", packed)


async def test_a_port_in_use_is_named(front: StorageFront, azurite: Azurite, certificates: Certificates) -> None:
    taken = int(front.queue_url.split(":")[2].split("/")[0])
    targets = azurite.blob_url(ACCOUNT), azurite.queue_url(ACCOUNT)
    second = StorageFront(*targets, certificates, {ACCOUNT: KEY}, lambda _event: None, queue_port=taken)
    with pytest.raises(
        PortInUse, match=rf"^Port {taken} \(the queue service\) is in use. Is another storage emulator running\?"
    ):
        await second.__aenter__()


# From here on the emulator is replaced by a server that does what the test needs.

type Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def front_of(certificates: Certificates, service: Service) -> AsyncIterator[StorageFront]:
    connections: list[asyncio.StreamWriter] = []
    serving: set[asyncio.Task[Any]] = set()  # the event loop alone would let them be collected half done

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
        connections.append(writer)
        try:
            await service(reader, writer)
        except ConnectionError:
            pass  # the client's end of the connection is what many of these tests break
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", ssl=certificates.server_context(), limit=2**16)
    async with server:
        target = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/{ACCOUNT}"
        published: list[dict[str, Any]] = []
        async with StorageFront(target, target, certificates, {ACCOUNT: KEY}, published.append) as front:
            yield front
            for connection in connections:
                connection.transport.abort()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        assert published == []


async def connect(front: StorageFront) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(front.blob_url.split(":")[2].split("/")[0])
    return await asyncio.open_connection("127.0.0.1", port, limit=2**16)


async def test_signed_requests_and_responses_arrive_unchanged(certificates: Certificates) -> None:
    """Path, query, header spelling and order; no header added, the hop's own ones dropped."""
    received: list[bytes] = []

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        received.append(await reader.readexactly(4))
        writer.write(
            b"HTTP/1.1 409 Odd reason\r\nServer: Emulator\r\nDate: then\r\nx-ms-Meta-CaSe: 1\r\n"
            b"Keep-Alive: timeout=5\r\nContent-Length: 2\r\nContent-Type: text/x\r\nContent-Encoding: gzip\r\n\r\nno"
        )
        await writer.drain()
        await reader.read()

    async with front_of(certificates, service) as front:
        reader, writer = await connect(front)
        request = (
            b"PUT /devstoreaccount1/c/a%20b%2F%23+&;%7e//../x?comp=metadata&x=%2b&y HTTP/1.1\r\n"
            b"Host: 127.0.0.1:10000\r\nX-MS-Meta-CaSe: a,  b\r\nx-ms-meta-utf8: caf\xc3\xa9\r\n"
            b"Authorization: SharedKey devstoreaccount1:sig=\r\nContent-Length: 4\r\n"
        )
        writer.write(request + b"Connection: close, X-Hop\r\nX-Hop: 1\r\n\r\nbody")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert received == [request + b"\r\n", b"body"]
    assert answer == (
        b"HTTP/1.1 409 Odd reason\r\nServer: Emulator\r\nDate: then\r\nx-ms-Meta-CaSe: 1\r\n"
        b"Content-Length: 2\r\nContent-Type: text/x\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nno"
    )


async def stalls(step: Callable[[], Awaitable[int]], most: int) -> int:
    """How many bytes move before nothing moves for half a second; more than `most` is a failure at once."""
    moved = 0
    while moved <= most:
        try:
            moved += await asyncio.wait_for(step(), timeout=0.5)
        except TimeoutError:
            return moved
    pytest.fail(f"More than {most} bytes were accepted with no service to forward them to.")


# What the sockets between client, front and service hold in the kernel, with a margin.
ON_THE_WAY = 32 * 1024 * 1024


async def test_an_upload_waits_for_the_service(certificates: Certificates) -> None:
    """The front takes in no more than it can hand on: its memory does not grow with the blob."""

    async def service(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with front_of(certificates, service) as front:
        _, writer = await connect(front)
        writer.write(b"PUT /devstoreaccount1/c/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")

        async def step() -> int:
            writer.write(bytes(2**20))
            await writer.drain()
            return 2**20

        assert await stalls(step, ON_THE_WAY) > 0
        writer.transport.abort()


async def test_a_download_waits_for_the_client(certificates: Certificates) -> None:
    sent: asyncio.Queue[int] = asyncio.Queue()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(2**20))
            await writer.drain()
            sent.put_nowait(2**20)

    async with front_of(certificates, service) as front:
        _, writer = await connect(front)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, which typeshed leaves out
        writer.write(b"GET /devstoreaccount1/c/b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await stalls(sent.get, ON_THE_WAY) > 0
        writer.transport.abort()


async def test_a_client_that_asks_first_is_told_to_continue(certificates: Certificates) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect" not in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"body"
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with front_of(certificates, service) as front:
        reader, writer = await connect(front)
        writer.write(
            b"PUT /devstoreaccount1/c?comp=x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 Created\r\n")
        writer.transport.abort()


async def test_without_the_emulator_clients_are_told_to_retry(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with front_of(certificates, _hang_up) as front:
        async with BlobServiceClient.from_connection_string(front.connection_string, retry_total=0) as service:
            with pytest.raises(HttpResponseError) as refusal:
                await service.get_blob_client("images", "a.jpg").upload_blob(b"picture")
        assert (refusal.value.status_code, refusal.value.error_code) == (503, "ServerBusy")  # type: ignore[attr-defined]  # set by the storage SDK
    assert "The storage emulator does not answer" in caplog.text


async def _hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close the connection without a word."""


async def test_a_client_that_goes_away_is_not_an_outage(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def service(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        client.transport.abort()
        await reader.read()
        ended.set()

    async with front_of(certificates, service) as front:
        _, client = await connect(front)
        client.write(b"PUT /devstoreaccount1/c/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        await asyncio.wait_for(ended.wait(), timeout=10)

    assert caplog.text == ""


async def test_half_an_answer_is_no_answer(certificates: Certificates) -> None:
    """The emulator dies within a download: the client must not take the first half for the blob."""

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the half is on its way when the connection breaks

    async with front_of(certificates, service) as front, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"{front.blob_url}/c/b") as response:
                await response.read()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"PUT /devstoreaccount1/c/b HTTP/1.1\r\nHost: x\r\nx-ms-meta-name: \xe9\r\nContent-Length: 0\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
    ids=["metadata in Latin-1", "no path"],
)
async def test_requests_that_cannot_be_forwarded_are_refused(
    certificates: Certificates, request_head: bytes, status: int
) -> None:
    async with front_of(certificates, _hang_up) as front:
        reader, writer = await connect(front)
        writer.write(request_head)
        head = await reader.readuntil(b"\r\n")
        writer.transport.abort()

    assert re.match(rb"HTTP/1.1 (\d+)", head)[1] == str(status).encode()  # type: ignore[index]  # None fails the test as well


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected"),
    [
        ("PUT", "/devstoreaccount1/c/b", {}, ("PutBlob", "c", "b")),
        ("PUT", "/devstoreaccount1/c/a/b%20%23?timeout=30", {}, ("PutBlob", "c", "a/b #")),
        ("PUT", "/devstoreaccount1/c/a%5Cb", {}, ("PutBlob", "c", "a/b")),
        ("PUT", "/devstoreaccount1/c/b?comp=blocklist", {}, ("PutBlockList", "c", "b")),
        ("PUT", "/devstoreaccount1/c/b", {"X-Ms-Copy-Source": "http://x"}, ("CopyBlob", "c", "b")),
        ("PUT", "/devstoreaccount1/$root/b", {}, ("PutBlob", "$root", "b")),
        ("PUT", "/devstoreaccount1/$logs/b", {}, None),
        ("PUT", "/devstoreaccount1/$blobchangefeed/b", {}, None),
        ("PUT", "/devstoreaccount1/c/b?comp=block&blockid=MDE%3D", {}, None),
        ("PUT", "/devstoreaccount1/c/b?comp=copy&copyid=1", {}, None),
        ("PUT", "/devstoreaccount1/c?restype=container", {}, None),
        ("PUT", "/devstoreaccount1/c/", {}, None),
        ("PUT", "/hoststorage/c/b", {}, None),
        ("PUT", "/", {}, None),
        ("DELETE", "/devstoreaccount1/c/b", {}, None),
        ("GET", "/devstoreaccount1/c/b", {}, None),
    ],
)
def test_only_requests_that_create_a_blob_are_taken_for_one(
    method: str, target: str, headers: dict[str, str], expected: tuple[str, str, str] | None
) -> None:
    write = blob_write(method, target, CIMultiDict(headers), ACCOUNT)

    found = None if write is None else (write.api, write.container, write.blob)
    assert found == expected
    assert write is None or isinstance(write, BlobWrite)
