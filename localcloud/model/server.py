"""The model as a service: the chat completions part of an Azure OpenAI resource's v1 endpoint."""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import web

from localcloud.certificates import Certificates
from localcloud.identity import TokenRefused, caller_of
from localcloud.model import errors, replies
from localcloud.model.brain import Brain, HonestBrain
from localcloud.model.errors import RefusedError
from localcloud.model.question import MAX_BODY_BYTES, Deployed, Question, check, parse
from localcloud.model.relay import Relay
from localcloud.model.replies import Reply
from localcloud.model.script import Answer, Asked, AskedPicture, Behaviour, Refusal, Script, Slow
from localcloud.model.structured import CannotAnswerError

type Verify = Callable[[str], Mapping[str, Any]]
"""Takes a bearer token, gives its claims; raises TokenRefused unless it is meant for
https://cognitiveservices.azure.com."""

HISTORY = 10_000
"""Requests remembered; older ones are forgotten."""

BODIES_AT_ONCE = 8
"""Requests whose bodies are in memory at the same time. A body is let go before its behaviour begins, so hundreds of
slow or hanging requests hold none."""

KEPT_HEADERS = (
    "user-agent", "content-type", "content-length", "x-ms-client-request-id", "x-request-id", "x-stainless-retry-count",
    "x-stainless-read-timeout", "idempotency-key", "traceparent",
)  # fmt: skip


class LocalModel:
    """Serves while it is entered; `endpoint` is what AZURE_OPENAI_ENDPOINT wants.

    verify: see Verify. brain: who answers; by default one that reads text and measures pixels. upstream: the base URL
    of an OpenAI-compatible server that answers instead of the brain, e.g. http://localhost:11434/v1. deployments: the
    names that requests may use as `model`.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        verify: Verify,
        brain: Brain | None = None,
        upstream: str | None = None,
        deployments: Sequence[str] = ("vision",),
    ) -> None:
        self.script = Script()
        self.history: deque[Asked] = deque(maxlen=HISTORY)
        self.unheard: dict[str, float] = {}
        """By request id: calls whose connection had ended before their answer was sent, and the seconds that the answer
        took."""
        self.deployments = tuple(deployments)
        self.deployed = Deployed()
        """The model behind all of them. It may be changed while this runs, as by a new deployment."""
        self._certificates = certificates
        self._verify = verify
        self._brain = brain or HonestBrain()
        self._relay = Relay(upstream) if upstream else None
        self._port = 0
        self._stack = AsyncExitStack()
        self._room = asyncio.Semaphore(BODIES_AT_ONCE)
        self._closing = asyncio.Event()
        self._started = 0

    @property
    def endpoint(self) -> str:
        """https://127.0.0.1:PORT, while the model is entered."""
        return f"https://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._closing.clear()
            self._threads = ThreadPoolExecutor(BODIES_AT_ONCE, "model")
            # Not waited for: the caller is gone by then, and the loop must not block.
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            if self._relay:
                await stack.enter_async_context(self._relay)
            application = web.Application()
            application.router.add_post("/openai/v1/chat/completions", self._chat)
            application.router.add_get("/openai/v1/models", self._models)
            application.router.add_route("*", "/{path:.*}", self._elsewhere)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._closing.set)
            site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._certificates.server_context())
            await site.start()
            self._port = runner.addresses[0][1]
            self._started = int(time.time())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        identifier, began = replies.request_id(), time.monotonic()
        try:
            caller = self._authorize(request)
            async with self._room:
                reply, deployment = await self._think(request, identifier, caller)
        except RefusedError as refused:
            reply, deployment = replies.error(refused.reply), ""
        except ConnectionResetError:  # the app was stopped while it asked
            return web.Response(status=499)
        await self._wait(reply)
        if request.transport is None or request.transport.is_closing():
            self.unheard[identifier] = time.monotonic() - began
        return await _send(reply, request, replies.common_headers(identifier, deployment))

    async def _think(self, request: web.Request, identifier: str, caller: str | None) -> tuple[Reply, str]:
        """The reply, and the deployment that gave it. The body lives no longer than this call."""
        body = await _body(request)
        question = await self._in_thread(check, body, self.deployments, self.deployed)
        asked = _asked(question, request, identifier, caller)
        self.history.append(asked)
        return await self._play(self.script.next(asked), question, body), question.deployment

    async def _play(self, behaviour: Behaviour, question: Question, body: dict[str, object]) -> Reply:
        innermost = behaviour
        silence = 0.0
        while isinstance(innermost, Slow):
            silence += innermost.seconds
            innermost = innermost.then
        text = ""
        if isinstance(innermost, Answer) and innermost.text is None:
            if self._relay:
                forwarded = await self._relay.forward(body)
                return Reply(forwarded.status, forwarded.body, replies.limit_headers(innermost.limits), silence=silence)
            try:
                text = await self._in_thread(self._brain.answer, question)
            except CannotAnswerError as reason:
                return replies.render(Refusal(str(reason)), question, "", int(time.time()))
        return replies.render(behaviour, question, text, int(time.time()))

    def _authorize(self, request: web.Request) -> str | None:
        """The caller, where the token names one."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(errors.key_rejected() if "api-key" in request.headers else errors.token_rejected())
        try:
            return caller_of(self._verify(token.strip()))
        except TokenRefused as refused:
            raise RefusedError(errors.token_rejected()) from refused

    async def _in_thread[**P, T](self, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        call = functools.partial(work, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _wait(self, reply: Reply) -> None:
        if reply.hangs:
            await self._closing.wait()
        elif reply.silence:
            await self._silence(reply.silence)

    async def _silence(self, seconds: float) -> None:
        """Sleeps, but not into the shutdown."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _models(self, request: web.Request) -> web.Response:
        try:
            self._authorize(request)
        except RefusedError as refused:
            return web.json_response(refused.reply.body, status=refused.reply.status)
        models = [
            {"id": name, "object": "model", "created": self._started, "owned_by": self.deployed.name}
            for name in self.deployments
        ]
        return web.json_response({"object": "list", "data": models})

    async def _elsewhere(self, _: web.Request) -> web.Response:
        reply = errors.resource_not_found()
        return web.json_response(reply.body, status=reply.status)


async def _send(reply: Reply, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    transport = request.transport
    if (reply.hangs or reply.sent < 0) and transport is not None:
        transport.abort()
    everything = {"Content-Type": "application/json", **headers, **reply.headers}
    if 0 <= reply.sent < 1 and transport is not None:
        response = web.StreamResponse(status=reply.status, headers=everything)
        response.content_length = len(reply.body)
        await response.prepare(request)
        await response.write(reply.body[: int(len(reply.body) * reply.sent)])
        transport.close()  # sends what is buffered, which abort() would not
        return response
    return web.Response(status=reply.status, body=reply.body, headers=everything)


async def _body(request: web.Request) -> dict[str, object]:
    """The request's JSON object. Read by hand: `request.read()` would keep the bytes until the answer is sent."""
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            message = f"Request body too large: at most {MAX_BODY_BYTES:,} bytes."
            raise RefusedError(errors.invalid_request(message, code="request_too_large", status=413))
    return parse(raw)


def _asked(question: Question, request: web.Request, identifier: str, caller: str | None) -> Asked:
    return Asked(
        at=datetime.now(UTC),
        deployment=question.deployment,
        system=question.system,
        instructions=question.instructions,
        pictures=tuple(
            AskedPicture(
                sha256=picture.sha256,
                size=len(picture.data),
                declared_type=picture.declared_type,
                format=picture.format,
                width=picture.width,
                height=picture.height,
                detail=picture.detail,
            )
            for picture in question.pictures
        ),
        response_format=question.response_format,
        options=question.options,
        prompt_tokens=question.prompt_tokens,
        request_id=identifier,
        caller=caller,
        headers={name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
    )
