"""How a question travels: the image intact, in slices, over connections that are kept, given back and given up."""

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.certificates import Certificates
from pipeline.errors import ErrorCode, OperatorFailure, PermanentFailure, RetryableFailure, TimedOut
from pipeline.images import PreparedImage
from pipeline.model.azure_openai import AzureOpenAIModel
from pipeline.model.question import Question
from pipeline.model.request_body import SLICE_BYTES, TURN_BYTES, request_body
from pipeline.pacing.gate import COLD_PART
from pipeline.pacing.governor import Governor

QUESTION = Question("What is it?", "vision", "Be brief.", "auto", 100)
COMPLETION = json.dumps({"choices": [{"message": {"content": "A boat."}, "finish_reason": "stop"}]}).encode()


def image(size: int) -> PreparedImage:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    return PreparedImage(data=data, format="png", width=1, height=1, transformed=False)


async def token() -> str:
    return "a-token"


def response(status: str = "200 OK", body: bytes = COMPLETION, *headers: str, length: int | None = None) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


@dataclass
class Seen:
    """One request, as far as it was read."""

    connection: int
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def image(self) -> bytes:
        url = json.loads(self.body)["messages"][-1]["content"][-1]["image_url"]["url"]
        return base64.b64decode(url.partition(",")[2], validate=True)


@dataclass
class Peer:
    """The server's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen

    async def read_body(self) -> None:
        self.seen.body = await self.reader.readexactly(int(self.seen.headers["content-length"]))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def drop(self) -> None:
        self.writer.transport.abort()


type Behaviour = Callable[[Peer], Awaitable[None]]


def answering(data: bytes) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.read_body()
        await peer.send(data)

    return behave


@dataclass
class Server:
    """Follows its scripted behaviours, one a request, then answers."""

    behaviours: deque[Behaviour] = field(default_factory=deque)
    history: list[Seen] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    """The connections that have ended."""
    port: int = 0
    _connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                seen = Seen(number, first.split()[1], headers)
                self.history.append(seen)
                behave = self.behaviours.popleft() if self.behaviours else answering(response())
                await behave(Peer(reader, writer, seen))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self.closed.append(number)
            writer.transport.abort()

    @classmethod
    @asynccontextmanager
    async def running(cls, certificates: Certificates | None = None) -> AsyncIterator[Self]:
        server = cls()
        context = certificates.server_context() if certificates else None
        async with await asyncio.start_server(server, "127.0.0.1", 0, ssl=context) as listening:
            server.port = listening.sockets[0].getsockname()[1]
            yield server
            listening.close_clients()


@asynccontextmanager
async def asking(endpoint: str, timeout: float = 60, at_once: int = 8) -> AsyncIterator[AzureOpenAIModel]:  # noqa: ASYNC109 - the model's own
    model = AzureOpenAIModel(endpoint, token, timeout, Governor(most_in_flight=at_once, patience=60))
    try:
        yield model
    finally:
        await model.close()


@pytest.fixture(autouse=True)
def few_authorities(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the Internet take a client longer to load than most tests here last."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server.running() as server:
        yield server


@pytest.fixture
async def model(server: Server) -> AsyncIterator[AzureOpenAIModel]:
    async with asking(f"http://127.0.0.1:{server.port}") as model:
        yield model


# ---- The body --------------------------------------------------------------------------------------------------------

EDGES = sorted({max(0, of + by) for of in (0, SLICE_BYTES, 2 * SLICE_BYTES, TURN_BYTES) for by in range(-3, 4)})
SPLITTING = ["", ";base64,", 'data:image/png;base64,"', '"}}]}]}', '\\"', "\ud83d", "日本語", "\x00\n"]
"""Texts that might be mistaken for the place of the image."""
TEXTS = st.text(st.characters()) | st.lists(st.sampled_from(SPLITTING)).map("".join)


async def sent(question: Question, data: bytes) -> bytes:
    prepared = PreparedImage(data=data, format="webp", width=1, height=1, transformed=False)
    body = request_body(question, prepared)
    first, again = [b"".join([part async for part in body]) for _ in range(2)]
    assert first == again, "another try sends the same"
    assert len(body) == len(first)
    return first


@given(instructions=TEXTS, system=TEXTS, deployment=TEXTS, data=st.binary(max_size=9))
async def test_any_text_and_the_image_arrive_as_they_are(
    instructions: str, system: str, deployment: str, data: bytes
) -> None:
    question = Question(instructions, deployment, system, "low", 7, "minimal")
    assert json.loads(await sent(question, data)) == {
        "model": deployment,
        "max_completion_tokens": 7,
        "reasoning_effort": "minimal",
        "messages": [
            {"role": "system", "content": system},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": instructions},
                    {
                        "type": "image_url",
                        "image_url": {
                            "url": f"data:image/webp;base64,{base64.b64encode(data).decode()}",
                            "detail": "low",
                        },
                    },
                ],
            },
        ],
    }


@pytest.mark.parametrize("size", EDGES)
async def test_an_image_of_any_size_arrives_intact(size: int, server: Server, model: AzureOpenAIModel) -> None:
    picture = image(size)
    reply = await model.ask(QUESTION, picture)
    (seen,) = server.history
    assert reply.text == "A boat."
    assert seen.image == picture.data
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert "transfer-encoding" not in seen.headers
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["authorization"] == "Bearer a-token"


# ---- Connections -----------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(server: Server, model: AzureOpenAIModel) -> None:
    for _ in range(3):
        await model.ask(QUESTION, image(10))
    assert [seen.connection for seen in server.history] == [1, 1, 1]


async def test_more_calls_than_any_pools_default_are_under_way_at_once(server: Server) -> None:
    everybody = 150
    arrived = asyncio.Semaphore(0)
    all_here = asyncio.Event()

    async def wait_for_all(peer: Peer) -> None:
        await peer.read_body()
        arrived.release()
        await all_here.wait()
        await peer.send(response())

    async def let_go() -> None:
        for _ in range(everybody):
            await arrived.acquire()
        all_here.set()

    async with asking(f"http://127.0.0.1:{server.port}", at_once=COLD_PART * everybody) as model:
        server.behaviours.extend([wait_for_all] * everybody)
        async with asyncio.TaskGroup() as group:
            group.create_task(let_go())
            for _ in range(everybody):
                group.create_task(model.ask(QUESTION, image(10)))


async def test_a_call_that_is_cancelled_in_mid_body_leaves_nothing_open(
    server: Server, model: AzureOpenAIModel
) -> None:
    begun, cancelled, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read_no_further(peer: Peer) -> None:
        begun.set()
        await cancelled.wait()
        try:
            while await peer.reader.read(1_000_000):
                pass
        finally:
            ended.set()

    server.behaviours.append(read_no_further)
    asked = asyncio.create_task(model.ask(QUESTION, image(20_000_000)))
    await begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    cancelled.set()
    await model.ask(QUESTION, image(10))
    assert [seen.connection for seen in server.history] == [1, 2], "half a request is on the first one"
    await ended.wait()


# ---- Trouble ---------------------------------------------------------------------------------------------------------


async def drop_at_once(peer: Peer) -> None:
    peer.drop()


async def drop_instead_of_answering(peer: Peer) -> None:
    await peer.read_body()
    peer.drop()


async def close_instead_of_answering(peer: Peer) -> None:
    await peer.read_body()
    peer.writer.close()


async def cut_the_answer_off(peer: Peer) -> None:
    await answering(response(length=5000))(peer)
    peer.writer.close()


async def cut_the_refusal_off(peer: Peer) -> None:
    await answering(response("503 Service Unavailable", length=5000))(peer)
    peer.writer.close()


async def never_answer(peer: Peer) -> None:
    await peer.read_body()
    await asyncio.sleep(3600)


FAILED = "The connection to the model failed ("
BROKE_OFF = "The model's answer broke off, or can't be decoded ("
TROUBLE: list[tuple[Behaviour, str]] = [
    (drop_at_once, FAILED),
    (drop_instead_of_answering, FAILED),
    (close_instead_of_answering, FAILED),
    (cut_the_answer_off, BROKE_OFF),
    (cut_the_refusal_off, FAILED),
    (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), FAILED),
    (answering(response("200 OK", b"no gzip at all", "Content-Encoding: gzip")), BROKE_OFF),
    (answering(response("502 Bad Gateway", b"no gzip at all", "Content-Encoding: gzip")), FAILED),
]


@pytest.mark.usefixtures("short_pauses")
async def test_connection_failures_are_named_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pipeline.model.azure_openai")

    async def meet(behaviour: Behaviour) -> str:
        async with Server.running() as server, asking(f"http://127.0.0.1:{server.port}") as model:
            server.behaviours.append(behaviour)
            return (await model.ask(QUESTION, image(300_000))).text

    assert set(await asyncio.gather(*(meet(behaviour) for behaviour, _ in TROUBLE))) == {"A boat."}
    messages = [
        record.message.removeprefix("Asking again: ")
        for record in caplog.records
        if record.name == "pipeline.model.azure_openai"
    ]
    wanted = [start for _, start in TROUBLE]
    assert len(messages) == len(wanted)
    for start in set(wanted):
        assert sum(message.startswith(start) for message in messages) == wanted.count(start), messages


async def test_an_answer_that_does_not_come_in_time_is_given_up_at_once(server: Server) -> None:
    """Whoever delivers the work decides whether it is the image's fault."""
    server.behaviours.append(never_answer)
    async with asking(f"http://127.0.0.1:{server.port}", timeout=0.2) as model:
        with pytest.raises(TimedOut, match=r"The model did not answer within 0\.2 seconds\."):
            await model.ask(QUESTION, image(300_000))
    assert len(server.history) == 1


async def refuse_unread(peer: Peer) -> None:
    """As a gateway does: answer by the headers alone, and read the rest to throw it away."""
    await peer.send(response("413 Content Too Large", b'{"error": {"message": "Too large."}}'))
    await peer.read_body()


async def test_a_refusal_that_comes_before_the_body_is_read_is_heard(server: Server, model: AzureOpenAIModel) -> None:
    server.behaviours.append(refuse_unread)
    with pytest.raises(PermanentFailure) as refused:
        await model.ask(QUESTION, image(20_000_000))
    assert refused.value.code is ErrorCode.REQUEST_REJECTED
    assert refused.value.details == {"status": 413, "code": None, "param": None, "service_message": "Too large."}
    assert (await model.ask(QUESTION, image(10))).text == "A boat."


async def test_a_refused_identity_is_the_operators(server: Server, model: AzureOpenAIModel) -> None:
    server.behaviours.append(answering(response("401 Unauthorized", b"{}", "x-request-id: r-1")))
    with pytest.raises(OperatorFailure, match="HTTP 401, request id r-1"):
        await model.ask(QUESTION, image(10))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_an_image_goes_nowhere_that_a_response_names(
    server: Server, model: AzureOpenAIModel, status: str
) -> None:
    async with Server.running() as elsewhere:
        host = f"localhost:{elsewhere.port}"
        server.behaviours.append(answering(response(status, b"", f"Location: http://me:secret@{host}/x?sig=secret")))
        with pytest.raises(OperatorFailure) as refused:
            await model.ask(QUESTION, image(SLICE_BYTES + 1))
        assert elsewhere.history == []
    assert f"AZURE_OPENAI_ENDPOINT redirects to {host}, " in refused.value.message
    assert f"(HTTP {status[:3]})" in refused.value.message
    assert "secret" not in refused.value.message
    assert len(server.history) == 1


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("Location: /openai/v1/chat/completions", "another address"),
        ("Location: http://[", "another address"),
        ("Location: //other/x", "other"),
        (f"Location: https://{'x' * 5000}/", "x" * 99 + "…"),
        ("X-Other: y", "another address"),
    ],
)
async def test_a_redirect_is_one_call_and_its_target_a_short_word(
    server: Server, model: AzureOpenAIModel, location: str, host: str
) -> None:
    server.behaviours.append(answering(response("307 Temporary Redirect", b"", location)))
    with pytest.raises(OperatorFailure, match="HTTP 307") as refused:
        await model.ask(QUESTION, image(10))
    assert f"redirects to {host}, where" in refused.value.message
    assert len(server.history) == 1


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "203 Other"])
async def test_an_answer_is_one_with_any_status_of_success(
    server: Server, model: AzureOpenAIModel, status: str
) -> None:
    server.behaviours.append(answering(response(status)))
    assert (await model.ask(QUESTION, image(10))).text == "A boat."
    assert len(server.history) == 1


@pytest.mark.usefixtures("short_pauses")
async def test_a_success_without_an_answer_keeps_its_status(
    server: Server, model: AzureOpenAIModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline.model.azure_openai")
    server.behaviours += [answering(response("204 No Content", b"")), answering(response("202 Accepted", b"{}"))]
    assert (await model.ask(QUESTION, image(10))).text == "A boat."
    assert [message.rpartition("(")[2] for message in caplog.messages] == ["HTTP 204).", "HTTP 202)."]


async def test_a_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    async with asking("http://model.invalid") as model:
        await model.ask(QUESTION, image(10))
    assert [seen.target for seen in server.history] == ["http://model.invalid/openai/v1/chat/completions"]


async def test_a_proxy_is_a_tunnel_for_tls(
    server: Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tunnel(peer: Peer) -> None:
        host, _, port = peer.seen.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(peer.reader, writer))
            group.create_task(pump(reader, peer.writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    server.behaviours.append(tunnel)
    picture = image(2_000_000)
    async with Server.running(certificates) as behind, asking(f"https://127.0.0.1:{behind.port}") as model:
        assert (await model.ask(QUESTION, picture)).text == "A boat."
    assert [seen.target for seen in server.history] == [f"127.0.0.1:{behind.port}"]
    assert [seen.image for seen in behind.history] == [picture.data]


@pytest.mark.usefixtures("short_pauses")
async def test_only_who_is_trusted_is_sent_an_image(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with Server.running(certificates) as server:
        async with asking(f"https://127.0.0.1:{server.port}") as model:
            # Three tries: the same failure comes out of the last.
            with pytest.raises(RetryableFailure, match="CERTIFICATE_VERIFY_FAILED"):
                await model.ask(QUESTION, image(10))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        async with asking(f"https://127.0.0.1:{server.port}") as model:
            assert (await model.ask(QUESTION, image(2_000_000))).text == "A boat."
    assert len(server.history) == 1
