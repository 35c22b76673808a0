"""A proxy between the app and its data account, for tests that watch or refuse requests.

The emulator has no roles and does not record callers. This proxy reads the caller from each request's token, lets a
`StorageWatch` refuse what Azure would refuse, and reports to it how each request ended.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy

from localcloud.certificates import Certificates
from localcloud.front.forwarding import HEADER_BYTES, Forwarder, storage_error
from localcloud.identity import IdentityEndpoint, TokenRefused, caller_of

AUDIENCE = "https://storage.azure.com"
STOP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """One request to the Blob or the Queue service."""

    caller: str | None
    """The app's process; see `localcloud.identity`. None for the functions host."""
    method: str
    container: str
    """The container, or the queue."""
    blob: str
    """"" for a request about the container or the queue itself; `messages` or `messages/ID` for a queue's messages."""
    headers: CIMultiDictProxy[str]
    body: bytes
    """The bytes to write."""


@dataclass(frozen=True, slots=True)
class StorageRefusal:
    """An error that the service answers with instead of doing the request."""

    status: int
    code: str
    message: str


class StorageWatch(Protocol):
    """Sees every request to the data account, by the app and by its host for the app."""

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        """Decide on a request that has arrived; None lets it through."""
        ...

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        """Take note of how a request ended, before the app sees it. `status` is None if the emulator gave no answer."""
        ...


class AppStorage:
    """One service of one account over HTTPS on 127.0.0.1, alive inside `async with`."""

    def __init__(
        self, target: str, certificates: Certificates, identity: IdentityEndpoint, watch: StorageWatch
    ) -> None:
        """`target` is the account's endpoint (`https://127.0.0.1:PORT/ACCOUNT`)."""
        origin, _, self._account = target.rpartition("/")
        self._certificates = certificates
        self._identity = identity
        self._watch = watch
        self._forwarder = Forwarder(origin, certificates.client_context())
        self._port = 0
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}/{self._account}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._forwarder)
            server = web.Server(self._answer, access_log=None, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES)
            runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._certificates.server_context())
            await site.start()
            self._port = runner.addresses[0][1]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()
        except (OSError, web.RequestPayloadError):  # the process was killed while it sent
            return web.Response(status=499)
        received = self._read(request, body)
        refusal = self._watch.refuse(received)
        if refusal is not None:
            self._watch.ended(received, refusal.status, refused=True)
            return storage_error(refusal.status, refusal.code, refusal.message)
        answered = False

        async def on_answer(answer: aiohttp.ClientResponse) -> None:
            nonlocal answered
            answered = True
            self._watch.ended(received, answer.status, refused=False)

        response = await self._forwarder.forward(request, on_answer, body=body)
        if not answered:
            self._watch.ended(received, None, refused=False)
            if request.transport is not None:  # as without a proxy: no answer at all
                request.transport.abort()
        return response

    def _read(self, request: web.BaseRequest, body: bytes) -> StorageRequest:
        path = request.raw_path.partition("?")[0].removeprefix(f"/{self._account}/")
        container, _, blob = path.partition("/")
        return StorageRequest(
            self._caller(request), request.method, unquote(container), unquote(blob), request.headers, body
        )

    def _caller(self, request: web.BaseRequest) -> str | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims: dict[str, Any] = self._identity.verify(token, AUDIENCE)
        except TokenRefused:  # the emulator refuses it, too
            return None
        return caller_of(claims)
