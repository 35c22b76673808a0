"""The emulator behind a door that refuses, drops or turns away requests, as storage does."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import ClientResponse, web

from localcloud.certificates import Certificates
from localcloud.front.forwarding import HEADER_BYTES, Forwarder, storage_error

type Fault = Literal["refused", "unreachable", "unavailable"]


@dataclass
class Door:
    """One service of the emulator, over HTTPS on a port of its own.

    Attributes:
        origin: scheme, host and port.
        fault: what meets a request, by its method and path; None: nothing.
        met: requests that met each fault.
    """

    origin: str = ""
    fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
    met: Counter[Fault] = field(default_factory=Counter)

    def heal(self) -> None:
        self.fault = lambda _method, _path: None


@asynccontextmanager
async def door(origin: str, certificates: Certificates) -> AsyncIterator[Door]:
    """A door to the service at `origin`."""
    opened = Door()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        fault = opened.fault(request.method, request.raw_path)
        if fault is None:
            return await forwarder.forward(request, _nothing)
        opened.met[fault] += 1
        if fault == "refused":
            return storage_error(403, "AuthorizationPermissionMismatch", "This request is not authorized.")
        if fault == "unreachable" and request.transport is not None:
            request.transport.abort()
        return storage_error(503, "ServerBusy", "The server is busy.")

    async with Forwarder(origin, certificates.client_context()) as forwarder:
        runner = web.ServerRunner(web.Server(answer, access_log=None, max_line_size=HEADER_BYTES))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server_context()).start()
            opened.origin = f"https://127.0.0.1:{runner.addresses[0][1]}"
            yield opened
        finally:
            await runner.cleanup()


async def _nothing(_answer: ClientResponse) -> None:
    return
