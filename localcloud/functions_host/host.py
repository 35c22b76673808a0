"""The host: a worker pool, the listeners of its triggers, and a web server for webhooks, routes and the admin
endpoints.

    POST /runtime/webhooks/blobs?functionName=Host.Functions.<name>&code=<key>    Event Grid's way in
    *    /<routePrefix>/...                                                       HTTP functions
    GET  /admin/host/ping                                                         200; no key
    GET  /admin/host/status                                                       no key, as with Core Tools
    GET  /admin/host/systemkeys, /admin/host/systemkeys/blobs_extension           master key
    GET  /admin/functions                                                         master key
    POST /admin/functions/<name>   {"input": "..."}                               master key; 202, runs the function

The first line on stdout tells the keys (see announcement()).
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from azure.core.exceptions import AzureError

from localcloud.functions_host import bindings, host_json, http_routes, queue_trigger, timer
from localcloud.functions_host.bindings import BlobTrigger, Function, HttpTrigger, QueueTrigger, TimerTrigger
from localcloud.functions_host.blob_trigger import BlobTriggers
from localcloud.functions_host.connections import HOST_CONNECTION, Connection, Storage, host_id
from localcloud.functions_host.errors import FunctionError, HostError, InvocationError
from localcloud.functions_host.keys import BLOBS_EXTENSION, Keys
from localcloud.functions_host.platform_times import PlatformTimes
from localcloud.functions_host.queue_listener import QueueListener, QueueWatcher
from localcloud.functions_host.trigger_context import TriggerContext
from localcloud.functions_host.worker_pool import Input, Returned, WorkerPool

_LOG = logging.getLogger(__name__)

VERSION = "4.0.0-local"
MAXIMUM_REQUEST_BYTES = 210_000_000
"""The platform's limit for a request's body."""
MAXIMUM_WORKERS = 10
"""The platform's limit for FUNCTIONS_WORKER_PROCESS_COUNT."""
_ADDRESS = "127.0.0.1"


class FunctionsHost:
    """Runs one function app while its context is open."""

    def __init__(  # noqa: PLR0913 - one for each option of the command
        self,
        app: Path,
        settings: Mapping[str, str],
        keys: Keys,
        *,
        port: int = 0,
        grace: float = 10.0,
        debug: bool = False,
    ) -> None:
        """A host that is not started yet.

        Args:
            app: the directory with function_app.py and host.json.
            settings: the app settings: the environment, which the workers inherit.
            keys: the ones that callers need.
            port: 0: a free one.
            grace: seconds that running invocations may take to end when the host stops.
            debug: tracebacks and the libraries' own messages in the log.
        """
        self._app = app.resolve()
        self._settings = settings
        self._port = port
        self._grace = grace
        self._debug = debug
        self._state = "Initializing"
        self._errors: list[str] = []
        self._started = time.monotonic()
        self._keys = keys
        self._id = ""
        self._functions: dict[str, Function] = {}
        self._pool: WorkerPool | None = None
        self._blob_triggers: BlobTriggers | None = None
        self._routes: http_routes.Routes | None = None
        self._listeners: list[QueueListener] = []
        self._pollers: list[asyncio.Task[None]] = []
        self._invocations: set[asyncio.Task[Returned | None]] = set()
        self._by_hand: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._fatal = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Starts everything.

        Raises:
            HostError: with all that is wrong with the app, its settings, or the port.
        """
        try:
            options = host_json.load(self._app)
            times = PlatformTimes.of(self._settings)
            self._id = host_id(self._app, self._settings)
            await self._serve()
            storage = await self._stack.enter_async_context(Storage(times.unreachable))
            # After the workers are gone and before the storage clients are closed, the messages of what the workers
            # did not finish are released.
            self._stack.push_async_callback(self._drain_listeners)
            self._pool = WorkerPool(self._app, _worker_count(self._settings), self._workers_are_gone, debug=self._debug)
            self._pool.timeout = options.timeout_seconds
            await self._stack.enter_async_context(self._pool)
            functions = bindings.read(self._pool.functions, self._settings)
            self._functions = {function.name: function for function in functions}
            self._routes = http_routes.Routes(functions, options.extensions.http.route_prefix)
            self._listen(options, storage, times)
        except BaseException as error:
            self._state = "Error"
            self._errors = list(error.problems) if isinstance(error, HostError) else [repr(error)]
            await self._stack.aclose()
            raise
        self._state = "Running"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.stop()
        await self._stop_polling()
        if running := [*self._invocations, *self._by_hand]:
            _LOG.info("waiting up to %g s for %d invocations to end", self._grace, len(running))
            await asyncio.wait(running, timeout=self._grace)
        await self._stack.aclose()

    async def fatal(self) -> None:
        """Until the host has to stop whole, as the platform's does on an exception that nothing catches.

        Its workers are killed by then; for the process there is nothing left to do but to end.
        """
        await self._fatal.wait()

    def announcement(self) -> dict[str, Any]:
        """What a caller needs to know: the URL, the keys, the functions."""
        return {
            "state": self._state,
            "url": self._url,
            "port": self._port,
            "pid": os.getpid(),
            "host_id": self._id,
            "master_key": self._keys.master,
            "function_key": self._keys.function,
            "blobs_extension_key": self._keys.blobs_extension,
            "functions": sorted(self._functions),
        }

    @property
    def _url(self) -> str:
        return f"http://{_ADDRESS}:{self._port}"

    # --- starting and stopping

    async def _serve(self) -> None:
        site = web.Application(client_max_size=MAXIMUM_REQUEST_BYTES)
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
        self._stack.callback(server_log.removeFilter, _without_request)
        runner = web.AppRunner(site, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        server = web.TCPSite(runner, _ADDRESS, self._port, shutdown_timeout=1.0)
        try:
            await server.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise HostError(
                    f"port {self._port} is in use: is Core Tools or another `make up` running? Stop it"
                ) from error
            raise HostError(f"cannot listen on {_ADDRESS}:{self._port}: {error.strerror}") from error
        self._port = runner.addresses[0][1]

    def _listen(self, options: host_json.HostJson, storage: Storage, times: PlatformTimes) -> None:
        hidden = timedelta(seconds=times.hidden)
        context = TriggerContext(storage, QueueWatcher(), self._invoke, self._stop_whole, hidden)
        functions = self._functions.values()
        if any(isinstance(function.trigger, BlobTrigger) for function in functions):
            connection = Connection.resolve(HOST_CONNECTION, self._settings, ("queue",))
            self._blob_triggers = BlobTriggers(functions, connection, self._id, options.extensions.blobs, context)
            self._listeners += self._blob_triggers.listeners
        timers: list[Coroutine[Any, Any, None]] = []
        for function in functions:
            match function.trigger:
                case _ if function.disabled:
                    pass
                case QueueTrigger() as trigger:
                    self._listeners.append(
                        queue_trigger.listener(function, trigger, options.extensions.queues, context)
                    )
                case TimerTrigger() as trigger:
                    timers.append(timer.run(function, trigger, self._invoke))
                case _:
                    pass
        self._pollers = [
            asyncio.create_task(work) for work in (*(listener.run() for listener in self._listeners), *timers)
        ]
        for poller in self._pollers:
            poller.add_done_callback(self._poller_ended)

    def _poller_ended(self, poller: asyncio.Task[None]) -> None:
        # They run until cancelled.
        if not poller.cancelled() and isinstance(error := poller.exception(), Exception):
            self._stop_whole(error)

    async def _stop_polling(self) -> None:
        self._state = "Stopping"
        for poller in self._pollers:
            poller.cancel()
        await asyncio.gather(*self._pollers, return_exceptions=True)

    def _stop_whole(self, error: Exception) -> None:
        _LOG.error(
            "An unhandled exception has occurred. Host is shutting down. %s",
            str(error).partition("\n")[0],
            exc_info=None if isinstance(error, AzureError) else error,
        )
        if self._pool is not None:
            self._pool.kill()
        self._fatal.set()

    def _workers_are_gone(self, problem: str) -> None:
        _LOG.error("%s Host is shutting down.", problem)
        self._ending = asyncio.create_task(self._stop_without_workers())

    async def _stop_without_workers(self) -> None:
        """What the last workers were killed with is a failed delivery of each message, which the host still sees to."""
        await self._stop_polling()
        await self._stack.aclose()
        self._fatal.set()

    async def _drain_listeners(self) -> None:
        for listener in self._listeners:
            await listener.drain()

    async def _invoke(self, function: Function, given: Input) -> Returned | None:
        """Runs a function. A cancelled caller leaves it running: what a function has begun, it ends."""
        assert self._pool is not None  # noqa: S101 - triggers exist only once the pool does
        invocation = asyncio.create_task(self._pool.invoke(function.indexed, given))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._invocation_ended)
        return await asyncio.shield(invocation)

    def _invocation_ended(self, invocation: asyncio.Task[Returned | None]) -> None:
        self._invocations.discard(invocation)
        if not invocation.cancelled():
            invocation.exception()  # marks it as seen: its caller may be gone

    # --- Event Grid's webhook

    async def _webhook(self, request: web.Request) -> web.Response:
        if not self._keys.allow_webhook(request):
            return web.Response(status=401)
        if self._state != "Running":
            return web.Response(status=503)
        if self._blob_triggers is None:
            return web.Response(status=404)
        try:
            return await _receive(request, self._blob_triggers)
        except (ValueError, LookupError, TypeError) as error:
            # The extension lets its parser's exception out, which the host answers with 500.
            return web.Response(status=500, text=f"the request is no Event Grid event: {error!r}")
        except AzureError as error:
            _LOG.warning("an event could not be put on the internal queue: %s", error)
            return web.Response(status=500, text="the host's storage cannot be reached")

    # --- HTTP functions

    async def _route(self, request: web.Request) -> web.Response:
        if self._state != "Running" or self._routes is None:
            return web.Response(status=503)
        found = self._routes.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        route, parameters = found
        if not self._keys.allow_route(request, route.trigger.auth_level):
            return web.Response(status=401)
        given = await http_routes.http_input(route.function, request, parameters)
        try:
            return http_routes.response(await self._invoke(route.function, given))
        except InvocationError as error:
            self._report(route.function, error)
            return web.Response(status=500)

    def _report(self, function: Function, error: InvocationError) -> None:
        _LOG.warning("function %s failed: %s", function.name, error)
        if isinstance(error, FunctionError):
            _LOG.debug("%s", error.stack_trace)

    # --- admin

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _status(self, _request: web.Request) -> web.Response:
        workers = self._pool.workers if self._pool is not None else ()
        problem = self._pool.last_problem if self._pool is not None else None
        return web.json_response(
            {
                "id": self._id,
                "state": self._state,
                "version": VERSION,
                "processUptime": int((time.monotonic() - self._started) * 1000),
                "errors": [*self._errors, *([problem] if problem else [])],
                # Not on the platform:
                "local": {
                    "pid": os.getpid(),
                    "workers": [{"pid": worker.pid, "running": worker.running} for worker in workers],
                    "messages": sum(listener.running for listener in self._listeners),
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
                for function in self._functions.values()
            ]
        )

    async def _run_by_hand(self, request: web.Request) -> web.Response:
        if not self._keys.allow_master(request):
            return web.Response(status=401)
        function = self._functions.get(request.match_info["name"])
        if function is None:
            return web.Response(status=404)
        if self._state != "Running":
            return web.Response(status=503)
        try:
            content = json.loads(await request.text() or "{}")
            given = await self._input_by_hand(function, content.get("input") or "")
        except (ValueError, AttributeError, AzureError, InvocationError) as error:
            return web.Response(status=400, text=f'{error}; the body is {{"input": "..."}}')
        task = asyncio.create_task(self._run(function, given))
        self._by_hand.add(task)
        task.add_done_callback(self._by_hand.discard)
        return web.Response(status=202)

    async def _input_by_hand(self, function: Function, text: str) -> Input:
        match function.trigger:
            case BlobTrigger() as trigger:
                assert self._blob_triggers is not None  # noqa: S101 - one of its functions exists
                return await self._blob_triggers.input_by_hand(function, trigger, text)
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


def _without_request(record: logging.LogRecord) -> bool:
    """The HTTP parser's errors quote what it could not read, keys in the query included."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args, record.exc_info = "a request is no HTTP (%s)", (type(error).__name__,), None
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


def _worker_count(settings: Mapping[str, str]) -> int:
    text = settings.get("FUNCTIONS_WORKER_PROCESS_COUNT") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= MAXIMUM_WORKERS:
        raise HostError(
            f"the app setting FUNCTIONS_WORKER_PROCESS_COUNT is {text!r}; it must be a number "
            f"from 1 to {MAXIMUM_WORKERS}"
        )
    return int(text)
