"""The model as a service: chat completions, and files and batches, of an Azure OpenAI resource's v1 endpoint."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from aiohttp import web

from localcloud.certificates import Certificates
from localcloud.model import errors, replies, wire
from localcloud.model.answering import Answering, asked
from localcloud.model.batches.api import BatchApi
from localcloud.model.batches.service import BatchService
from localcloud.model.brain import Brain, HonestBrain
from localcloud.model.deployments import Deployed, Deployment, admit, by_name
from localcloud.model.errors import RefusedError
from localcloud.model.replies import Reply
from localcloud.model.script import Asked, Script
from localcloud.model.wire import Verify

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
    of an OpenAI-compatible server that answers instead of the brain, e.g. http://localhost:11434/v1. deployments: what
    requests may use as `model`; a bare name is one that answers at once.

    Attributes:
        script: what chat completions meet.
        history: the chat completions; lines of batches are in `batches.billed`.
        batches: files and batches; see `localcloud.model.batches`.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        verify: Verify,
        brain: Brain | None = None,
        upstream: str | None = None,
        deployments: Sequence[Deployment | str] = ("vision",),
    ) -> None:
        self.script = Script()
        self.history: deque[Asked] = deque(maxlen=HISTORY)
        self.unheard: dict[str, float] = {}
        """By request id: calls whose connection had ended before their answer was sent, and the seconds that the answer
        took."""
        self._deployments = by_name(deployments)
        self._certificates = certificates
        self._verify = verify
        own = {name: each.model for name, each in self._deployments.items() if each.model is not None}
        self._answering = Answering(brain or HonestBrain(), upstream, BODIES_AT_ONCE, own)
        self._port = 0
        self._stack = AsyncExitStack()
        self._room = asyncio.Semaphore(BODIES_AT_ONCE)
        self._closing = asyncio.Event()
        self._started = 0
        self.batches = BatchService(self._deployments, self._answering)
        self._batch_api = BatchApi(self.batches, verify, self._closing)

    @property
    def endpoint(self) -> str:
        """https://127.0.0.1:PORT, while the model is entered."""
        return f"https://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._closing.clear()
            await stack.enter_async_context(self._answering)
            await stack.enter_async_context(self.batches)
            application = web.Application()
            application.router.add_post("/openai/v1/chat/completions", self._chat)
            application.router.add_get("/openai/v1/models", self._models)
            application.router.add_routes(self._batch_api.routes("/openai/v1"))
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
            caller = wire.authorize(request, self._verify)
            async with self._room:
                reply, deployment = await self._think(request, identifier, caller)
        except RefusedError as refused:
            reply, deployment = replies.error(refused.reply), ""
        except ConnectionResetError:  # the app was stopped while it asked
            return web.Response(status=499)
        await wire.wait(reply, self._closing)
        if request.transport is None or request.transport.is_closing():
            self.unheard[identifier] = time.monotonic() - began
        return await wire.send(reply, request, replies.common_headers(identifier, deployment))

    async def _think(self, request: web.Request, identifier: str, caller: str | None) -> tuple[Reply, str]:
        """The reply, and the deployment that gave it. The body lives no longer than this call."""
        body = await wire.read_json(request)
        admit(body, self._deployments)
        question = await self._answering.check(body, self._deployments)
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        remembered = asked(question, identifier, caller, headers)
        self.history.append(remembered)
        behaviour = self.script.next(remembered)
        return await self._answering.play(behaviour, question, body), question.deployment

    @property
    def deployed(self) -> Deployed:
        """The model of deployments that have none of their own. It may be changed at any time."""
        return self._answering.deployed

    @deployed.setter
    def deployed(self, deployed: Deployed) -> None:
        self._answering.deployed = deployed

    async def _models(self, request: web.Request) -> web.Response:
        try:
            wire.authorize(request, self._verify)
        except RefusedError as refused:
            return web.json_response(refused.reply.body, status=refused.reply.status)
        models = [
            {"id": name, "object": "model", "created": self._started, "owned_by": self._answering.behind(name).name}
            for name in self._deployments
        ]
        return web.json_response({"object": "list", "data": models})

    async def _elsewhere(self, _: web.Request) -> web.Response:
        reply = errors.resource_not_found()
        return web.json_response(reply.body, status=reply.status)
