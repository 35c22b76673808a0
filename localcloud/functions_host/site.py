"""The host's web server: webhooks, routes and the admin endpoints.

POST /runtime/webhooks/blobs?functionName=Host.Functions.<name>&code=<key>    Event Grid's way in
*    /<routePrefix>/...                                                       HTTP functions
GET  /admin/host/ping                                                         200; no key
GET  /admin/host/status                                                       no key, as with Core Tools
GET  /admin/host/systemkeys, /admin/host/systemkeys/blobs_extension           master key
GET  /admin/functions                                                         master key
POST /admin/functions/<name>   {"input": "..."}                               master key; 202, runs the function
"""

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from azure.core.exceptions import AzureError

from localcloud.functions_host import http_routes, queue_trigger, timer
from localcloud.functions_host.bindings import BlobTrigger, Function, HttpTrigger, QueueTrigger, TimerTrigger
from localcloud.functions_host.blob_trigger import BlobTriggers
from localcloud.functions_host.errors import FunctionError, HostError, InvocationError, first_line
from localcloud.functions_host.keys import BLOBS_EXTENSION, Keys
from localcloud.functions_host.queue_listener import QueueListener
from localcloud.functions_host.trigger_context import Invoke
from localcloud.functions_host.worker_pool import Input, WorkerPool

_LOG = logging.getLogger(__name__)

VERSION = "4.0.0-local"
MAXIMUM_REQUEST_BYTES = 210_000_000
"""The platform's limit for a request's body, unless FUNCTIONS_REQUEST_BODY_SIZE_LIMIT sets another.
https://learn.microsoft.com/azure/azure-functions/functions-app-settings#functions_request_body_size_limit"""
_ADDRESS = "127.0.0.1"


@dataclass(slots=True)
class HostState:
    """The facts about the host, filled in as it starts."""

    phase: Literal["Initializing", "Running", "Stopping", "Error"] = "Initializing"
    id: str = ""
    """The end of the internal queue's name."""
    port: int = 0
    started: float = field(default_factory=time.monotonic)
    errors: list[str] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)
    pool: WorkerPool | None = None
    blob_triggers: BlobTriggers | None = None
    routes: http_routes.Routes | None = None
    listeners: list[QueueListener] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{_ADDRESS}:{self.port}"


class HostSite:
    def __init__(self, state: HostState, keys: Keys, invoke: Invoke, most_bytes: int) -> None:
        """A site that does not serve yet.

        Args:
            state: the host's.
            keys: the ones that callers need.
            invoke: runs a function.
            most_bytes: of a request's body. A larger one is refused by its Content-Length, before it is read.
        """
        self._most_bytes = most_bytes
        self._state = state
        self._keys = keys
        self._invoke = invoke
        self.by_hand: set[asyncio.Task[None]] = set()
        """Functions that an operator has run."""

    async def serve(self, stack: AsyncExitStack) -> None:
        """Serve until `stack` is closed, on the state's port; 0 is replaced by the one that was free.

        Raises:
            HostError: the port can't be had.
        """
        site = web.Application(client_max_size=self._most_bytes)
        site.add_routes(
            [
                web.post("/runtime/webhooks/blobs", self._webhook),
                web.get("/admin/host/ping", self._ping),
                web.get("/admin/host/status", self._status),
                web.get("/admin/host/systemkeys", self._system_keys),
                web.get("/admin/host/systemkeys/{name}", self._system_keys),
                web.get("/admin/functions", self._list_functions),
                web.post("/admin/functions/{name}", self._run_by_hand),
                web.route("*", "/{path:.*}", self._route),
            ]
        )
        server_log = logging.getLogger("aiohttp.server")
        server_log.addFilter(_without_request)
        stack.callback(server_log.removeFilter, _without_request)
        runner = web.AppRunner(site, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        port = self._state.port
        try:
            await web.TCPSite(runner, _ADDRESS, port, shutdown_timeout=1.0).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise HostError(
                    f"port {port} is in use: is Core Tools or another `make up` running? Stop it"
                ) from error
            raise HostError(f"cannot listen on {_ADDRESS}:{port}: {error.strerror}") from error
        self._state.port = runner.addresses[0][1]

    # --- Event Grid's webhook

    async def _webhook(self, request: web.Request) -> web.Response:
        if not self._keys.allow_webhook(request):
            return web.Response(status=401)
        if self._state.phase != "Running":
            return web.Response(status=503)
        if self._state.blob_triggers is None:
            return web.Response(status=404)
        try:
            return await _receive(request, self._state.blob_triggers)
        except (ValueError, LookupError, TypeError) as error:
            # The extension lets its parser's exception out, which the host answers with 500.
            return web.Response(status=500, text=f"the request is not an Event Grid event: {error!r}")
        except AzureError as error:
            _LOG.warning("an event could not be put on the internal queue: %s", error)
            return web.Response(status=500, text="the host's storage cannot be reached")

    # --- HTTP functions

    async def _route(self, request: web.Request) -> web.Response:
        if self._state.phase != "Running" or self._state.routes is None:
            return web.Response(status=503)
        found = self._state.routes.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        route, parameters = found
        if not self._keys.allow_route(request, route.trigger.auth_level):
            return web.Response(status=401)
        if (request.content_length or 0) > self._most_bytes:
            return web.Response(status=413)
        given = await http_routes.http_input(route.function, request, parameters)
        try:
            return http_routes.response(await self._invoke(route.function, given))
        except InvocationError as error:
            self._report(route.function, error)
            return web.Response(status=500)

    def _report(self, function: Function, error: InvocationError) -> None:
        _LOG.warning("function %s failed: %s", function.name, first_line(error))
        if isinstance(error, FunctionError):
            _LOG.debug("%s", error.stack_trace)

    # --- admin

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _status(self, _request: web.Request) -> web.Response:
        workers = self._state.pool.workers if self._state.pool is not None else ()
        problem = self._state.pool.last_problem if self._state.pool is not None else None
        return web.json_response(
            {
                "id": self._state.id,
                "state": self._state.phase,
                "version": VERSION,
                "processUptime": int((time.monotonic() - self._state.started) * 1000),
                "errors": [*self._state.errors, *([problem] if problem else [])],
                # Not on the platform:
                "local": {
                    "pid": os.getpid(),
                    "workers": [{"pid": worker.pid, "running": worker.running} for worker in workers],
                    "messages": sum(listener.running for listener in self._state.listeners),
                },
            }
        )

    async def _system_keys(self, request: web.Request) -> web.Response:
        if not self._keys.allow_master(request):
            return web.Response(status=401)
        key = {"name": BLOBS_EXTENSION, "value": self._keys.blobs_extension}
        name = request.match_info.get("name")
        if name is None:
            return web.json_response({"keys": [key]})
        return web.json_response(key) if name == BLOBS_EXTENSION else web.Response(status=404)

    async def _list_functions(self, request: web.Request) -> web.Response:
        if not self._keys.allow_master(request):
            return web.Response(status=401)
        return web.json_response(
            [
                {
                    "name": function.name,
                    "language": "python",
                    "isDisabled": function.disabled,
                    "config": {"bindings": [json.loads(text) for text in function.indexed.bindings]},
                }
                for function in self._state.functions.values()
            ]
        )

    async def _run_by_hand(self, request: web.Request) -> web.Response:
        if not self._keys.allow_master(request):
            return web.Response(status=401)
        function = self._state.functions.get(request.match_info["name"])
        if function is None:
            return web.Response(status=404)
        if self._state.phase != "Running":
            return web.Response(status=503)
        try:
            content = json.loads(await request.text() or "{}")
            given = await self._input_by_hand(function, content.get("input") or "")
        except (ValueError, AttributeError, AzureError, InvocationError) as error:
            return web.Response(status=400, text=f'{error}; the body is {{"input": "..."}}')
        task = asyncio.create_task(self._run(function, given))
        self.by_hand.add(task)
        task.add_done_callback(self.by_hand.discard)
        return web.Response(status=202)

    async def _input_by_hand(self, function: Function, text: str) -> Input:
        match function.trigger:
            case BlobTrigger() as trigger:
                assert self._state.blob_triggers is not None  # noqa: S101 - one of its functions exists
                return await self._state.blob_triggers.input_by_hand(function, trigger, text)
            case QueueTrigger() as trigger:
                return queue_trigger.queue_input(function, trigger, text.encode(), None)
            case TimerTrigger():
                return timer.timer_input(function)
            case HttpTrigger():
                raise ValueError("an HTTP function is run through its route")

    async def _run(self, function: Function, given: Input) -> None:
        try:
            await self._invoke(function, given)
        except InvocationError as error:
            self._report(function, error)


def request_bytes(settings: Mapping[str, str]) -> int:
    """The most bytes of a request's body. As on the platform, a value that is not a number counts as none."""
    text = settings.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "")
    return int(text) if text.isdecimal() else MAXIMUM_REQUEST_BYTES


def _without_request(record: logging.LogRecord) -> bool:
    """Reduce the HTTP parser's errors to their type: they quote the request, with keys in its query."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args, record.exc_info = "a request is not HTTP (%s)", (type(error).__name__,), None
    return True


async def _receive(request: web.Request, triggers: BlobTriggers) -> web.Response:
    """Event Grid's requests; an array of events, or a single one."""
    kind = request.headers.get("aeg-event-type", "").lower()
    if kind == "unsubscribe":
        return web.Response(status=202)
    if kind not in {"subscriptionvalidation", "notification"}:
        return web.Response(status=400, text="the header aeg-event-type is missing or unknown")
    content = await request.json()
    events = content if isinstance(content, list) else [content]
    if kind == "subscriptionvalidation":
        return web.json_response({"validationResponse": events[0]["data"]["validationCode"]})
    for event in events:
        await triggers.enqueue(event, request.query.get("functionName"))
    return web.Response(status=202)
