"""The host: puts together a worker pool, the listeners of its triggers, and a web site.

The first line on stdout has its address and keys (see announcement()).
"""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.core.exceptions import AzureError

from localcloud.functions_host import bindings, host_json, http_routes, queue_trigger, timer
from localcloud.functions_host.bindings import BlobTrigger, Function, QueueTrigger, TimerTrigger
from localcloud.functions_host.blob_trigger import BlobTriggers
from localcloud.functions_host.connections import HOST_CONNECTION, Connection, Storage, host_id
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.keys import Keys
from localcloud.functions_host.platform_times import PlatformTimes
from localcloud.functions_host.queue_listener import QueueWatcher
from localcloud.functions_host.site import HostSite, HostState, request_bytes
from localcloud.functions_host.trigger_context import TriggerContext
from localcloud.functions_host.worker_pool import Input, Returned, WorkerPool

_LOG = logging.getLogger(__name__)

MAXIMUM_WORKERS = 10
"""The platform's limit for FUNCTIONS_WORKER_PROCESS_COUNT."""


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
        self._grace = grace
        self._debug = debug
        self._keys = keys
        self._state = HostState(port=port)
        self._site = HostSite(self._state, keys, self._invoke, request_bytes(settings))
        self._pollers: list[asyncio.Task[None]] = []
        self._invocations: set[asyncio.Task[Returned | None]] = set()
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
            self._state.id = host_id(self._app, self._settings)
            await self._site.serve(self._stack)
            storage = await self._stack.enter_async_context(Storage(times.unreachable))
            # After the workers are gone and before the storage clients are closed, the messages of what the workers
            # did not finish are released.
            self._stack.push_async_callback(self._drain_listeners)
            self._state.pool = WorkerPool(
                self._app, _worker_count(self._settings), self._workers_are_gone, debug=self._debug
            )
            self._state.pool.timeout = options.timeout_seconds
            await self._stack.enter_async_context(self._state.pool)
            functions = bindings.read(self._state.pool.functions, self._settings)
            self._state.functions = {function.name: function for function in functions}
            self._state.routes = http_routes.Routes(functions, options.extensions.http.route_prefix)
            self._listen(options, storage, times)
        except BaseException as error:
            self._state.phase = "Error"
            self._state.errors = list(error.problems) if isinstance(error, HostError) else [repr(error)]
            await self._stack.aclose()
            raise
        self._state.phase = "Running"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._state.listeners:
            listener.stop()
        await self._stop_polling()
        if running := [*self._invocations, *self._site.by_hand]:
            _LOG.info("waiting up to %g s for %d invocations to end", self._grace, len(running))
            await asyncio.wait(running, timeout=self._grace)
        await self._stack.aclose()

    async def fatal(self) -> None:
        """Wait until the host has to stop as a whole, as the platform's does on an uncaught exception.

        Its workers are killed by then; for the process there is nothing left to do but to end.
        """
        await self._fatal.wait()

    def announcement(self) -> dict[str, Any]:
        """The facts that a caller needs: the URL, the keys, the functions."""
        return {
            "state": self._state.phase,
            "url": self._state.url,
            "port": self._state.port,
            "pid": os.getpid(),
            "host_id": self._state.id,
            "master_key": self._keys.master,
            "function_key": self._keys.function,
            "blobs_extension_key": self._keys.blobs_extension,
            "functions": sorted(self._state.functions),
        }

    # --- starting and stopping

    def _listen(self, options: host_json.HostJson, storage: Storage, times: PlatformTimes) -> None:
        hidden = timedelta(seconds=max(1, math.ceil(times.hidden)))  # the queue service's unit
        context = TriggerContext(storage, QueueWatcher(), self._invoke, self._stop_whole, hidden)
        functions = self._state.functions.values()
        if any(isinstance(function.trigger, BlobTrigger) for function in functions):
            connection = Connection.resolve(HOST_CONNECTION, self._settings, ("queue",))
            self._state.blob_triggers = BlobTriggers(
                functions, connection, self._state.id, options.extensions.blobs, context
            )
            self._state.listeners += self._state.blob_triggers.listeners
        timers: list[Coroutine[Any, Any, None]] = []
        for function in functions:
            match function.trigger:
                case _ if function.disabled:
                    pass
                case QueueTrigger() as trigger:
                    self._state.listeners.append(
                        queue_trigger.listener(function, trigger, options.extensions.queues, context)
                    )
                case TimerTrigger() as trigger:
                    timers.append(timer.run(function, trigger, self._invoke))
                case _:
                    pass
        self._pollers = [
            asyncio.create_task(work) for work in (*(listener.run() for listener in self._state.listeners), *timers)
        ]
        for poller in self._pollers:
            poller.add_done_callback(self._poller_ended)

    def _poller_ended(self, poller: asyncio.Task[None]) -> None:
        # They run until cancelled.
        if not poller.cancelled() and isinstance(error := poller.exception(), Exception):
            self._stop_whole(error)

    async def _stop_polling(self) -> None:
        self._state.phase = "Stopping"
        for poller in self._pollers:
            poller.cancel()
        await asyncio.gather(*self._pollers, return_exceptions=True)

    def _stop_whole(self, error: Exception) -> None:
        _LOG.error(
            "An unhandled exception has occurred. Host is shutting down. %s",
            str(error).partition("\n")[0],
            exc_info=None if isinstance(error, AzureError) else error,
        )
        if self._state.pool is not None:
            self._state.pool.kill()
        self._fatal.set()

    def _workers_are_gone(self, problem: str) -> None:
        _LOG.error("%s Host is shutting down.", problem)
        self._ending = asyncio.create_task(self._stop_without_workers())

    async def _stop_without_workers(self) -> None:
        """Stop the host, which has no workers left, after releasing their messages as failed deliveries."""
        await self._stop_polling()
        await self._stack.aclose()
        self._fatal.set()

    async def _drain_listeners(self) -> None:
        for listener in self._state.listeners:
            await listener.drain()

    async def _invoke(self, function: Function, given: Input) -> Returned | None:
        """Run a function. It goes on running if the caller is cancelled."""
        assert self._state.pool is not None  # noqa: S101 - triggers exist only once the pool does
        invocation = asyncio.create_task(self._state.pool.invoke(function.indexed, given))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._invocation_ended)
        return await asyncio.shield(invocation)

    def _invocation_ended(self, invocation: asyncio.Task[Returned | None]) -> None:
        self._invocations.discard(invocation)
        if not invocation.cancelled():
            invocation.exception()  # marks it as seen: its caller may be gone


def _worker_count(settings: Mapping[str, str]) -> int:
    text = settings.get("FUNCTIONS_WORKER_PROCESS_COUNT") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= MAXIMUM_WORKERS:
        raise HostError(
            f"the app setting FUNCTIONS_WORKER_PROCESS_COUNT is {text!r}; it must be a number "
            f"from 1 to {MAXIMUM_WORKERS}"
        )
    return int(text)
