"""The host's side of its workers: start, dispatch, time-outs, restarts."""

import asyncio
import contextlib
import logging
import secrets
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from localcloud.functions_host import frames
from localcloud.functions_host.errors import FunctionError, FunctionTimeout, HostError, WorkerExited

_LOG = logging.getLogger(__name__)
_PACKAGE_ROOT = Path(__file__).parents[2]

RESTART_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before the n-th start in a row that failed; a success resets it."""
START_SECONDS = 60.0
"""The platform's limit for a worker's start (processStartupTimeout)."""
CRASHES = 3
CRASHES_WITHIN_SECONDS = 1800.0
"""After so many crashes for each worker, each within half an hour of the one before, the platform replaces no further
one; when the last is gone, it stops the whole host. (Azure/azure-functions-host, RpcFunctionInvocationDispatcher)"""


@dataclass(frozen=True, slots=True)
class IndexedFunction:
    """The worker's report on one function; each of `bindings` is JSON text in the form of function.json."""

    name: str
    id: str
    bindings: tuple[str, ...]
    has_retry_policy: bool


def traceparent(trace_id: str) -> str:
    """A new span of the trace, sampled. https://www.w3.org/TR/trace-context/#traceparent-header"""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


@dataclass(frozen=True, slots=True)
class Input:
    """The trigger's value, in the terms of the worker's TypedData."""

    parameter: str
    type: Literal["string", "json", "bytes", "http", "model_binding_data"]
    value: Any = None
    body: bytes = b""
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Trigger metadata: name -> {"string": text} or {"json": JSON text}."""
    traceparent: str = field(default_factory=lambda: traceparent(secrets.token_hex(16)))
    """The invocation's own span, as W3C Trace Context has it."""


@dataclass(frozen=True, slots=True)
class Returned:
    """An HTTP function's response."""

    status: int
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    body: bytes


class Worker:
    """One worker process and its running invocations."""

    def __init__(self, app: Path, *, debug: bool) -> None:
        self._app = app
        self._debug = debug
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._running: dict[str, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._ended = False
        self.was_killed = False
        """Whether the host ended it; any other end is a crash."""
        self._receiving: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - only asked of a started worker
        return self._process.pid

    @property
    def takes_work(self) -> bool:
        """False from the moment that it ended or was killed, though its process may still be going."""
        return not self._ended

    @property
    def running(self) -> int:
        return len(self._running)

    async def start(self) -> tuple[IndexedFunction, ...]:
        """Starts the process and has it index the app.

        Raises:
            HostError: the app failed to index.
            WorkerExited: the process ended before it reported, or took too long.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                return await self._start()
        except TimeoutError:
            await self.stop()
            raise WorkerExited(f"the worker took longer than {START_SECONDS:g} s to index the app") from None
        except BaseException:
            if self._process is not None:
                await self.stop()
            raise

    async def _start(self) -> tuple[IndexedFunction, ...]:
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "localcloud.functions_host.worker"),
                *("--app", str(self._app), "--channel", str(theirs.fileno())),
                *(["--debug"] if self._debug else []),
                cwd=_PACKAGE_ROOT,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.PIPE,  # never written to: its end shows the worker that the host is gone
                stdout=sys.stderr,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        frame = await frames.read(reader)
        if frame is None:
            code = await self._process.wait()
            raise WorkerExited(f"the worker ended with code {code} while it indexed the app")
        head, _ = frame
        if head["kind"] == "failed":
            _LOG.debug("%s", head["stack_trace"])
            raise HostError(f"the function app in {self._app} failed to start: {head['message']}")
        self._receiving = asyncio.create_task(self._receive(reader))
        return tuple(
            IndexedFunction(fact["name"], fact["id"], tuple(fact["bindings"]), fact["retry"])
            for fact in head["functions"]
        )

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Hands results to those who wait for them, until the worker ends; then fails what still runs."""
        while (frame := await frames.read(reader)) is not None:
            head, body = frame
            waiting = self._running.pop(head["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result((head, body))
        self._ended = True
        for waiting in self._running.values():
            if not waiting.done():
                waiting.set_exception(WorkerExited(f"worker {self.pid} ended while the function ran"))
        self._running.clear()

    async def invoke(self, function: IndexedFunction, given: Input, limit: float | None) -> Returned | None:
        """Runs a function.

        Args:
            function: which.
            given: its trigger's value.
            limit: functionTimeout in seconds; None: unbounded.

        Raises:
            FunctionError: it raised.
            FunctionTimeout: it ran too long, and the worker was killed.
            WorkerExited: the worker ended.
        """
        assert self._writer is not None  # noqa: S101 - only asked of a started worker
        if self._ended:
            raise WorkerExited(f"worker {self.pid} ended before the function ran")
        id_ = str(uuid.uuid4())
        waiting: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
        self._running[id_] = waiting
        request = {
            "kind": "invoke",
            "id": id_,
            "function_id": function.id,
            "parameter": given.parameter,
            "type": given.type,
            "value": given.value,
            "metadata": given.metadata,
            "traceparent": given.traceparent,
        }
        try:
            self._writer.write(frames.encode(request, given.body))
            with contextlib.suppress(ConnectionError):  # then the worker is ending: receive() fails `waiting`
                await self._writer.drain()
            done, _ = await asyncio.wait([waiting], timeout=limit)
            if not done:
                self.kill()
                raise FunctionTimeout(f"{function.name} ran longer than functionTimeout ({limit:g} s)")
            head, body = waiting.result()
        finally:
            self._running.pop(id_, None)
            waiting.cancel()
        if head["message"] is not None:
            raise FunctionError(head["message"], head["stack_trace"])
        if head["return"] is None:
            return None
        answer = head["return"]
        return Returned(answer["status"], answer["headers"], tuple(answer["cookies"]), body)

    def kill(self) -> None:
        self._ended = self.was_killed = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> int:
        """Wait until the process has ended and everything that ran on it has failed. Returns its exit code."""
        assert self._process is not None  # noqa: S101 - only asked of a started worker
        if self._receiving is not None:
            await asyncio.shield(self._receiving)
        return await self._process.wait()

    async def stop(self) -> None:
        """Kill the process, as the platform's host does to end a worker: nothing in it is cancelled."""
        self.kill()
        await self.wait()
        if self._writer is not None:
            self._writer.close()


class WorkerPool:
    """`count` workers, each replaced when it ends; invocations go to the ready ones in turn, as on the platform.

    Attributes:
        timeout: functionTimeout in seconds; None: unbounded.
        functions: what the app has.
        last_problem: why no worker is ready now; None if one is.
    """

    def __init__(self, app: Path, count: int, on_gone: Callable[[str], None], *, debug: bool = False) -> None:
        """A pool that is not started yet.

        Args:
            app: the app's directory.
            count: workers.
            on_gone: called when workers have crashed too often and none is left.
            debug: they log everything.
        """
        self._app = app
        self._count = count
        self._on_gone = on_gone
        self._debug = debug
        self._ready: list[Worker] = []
        self._change = asyncio.Condition()
        self._next = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._crashes: list[float] = []
        self.timeout: float | None = None
        self.functions: tuple[IndexedFunction, ...] = ()
        self.last_problem: str | None = None

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that are ready."""
        return tuple(worker for worker in self._ready if worker.takes_work)

    async def __aenter__(self) -> Self:
        """Start the first worker, then the others concurrently.

        Raises:
            HostError: the app failed to index.
        """
        first = Worker(self._app, debug=self._debug)
        try:
            self.functions = await first.start()
        except WorkerExited as error:
            raise HostError(str(error)) from error
        self._tasks = [asyncio.create_task(self._keep(first if number == 0 else None)) for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all workers, which fails what runs on them, and fail what waits for one."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._change:
            self._change.notify_all()

    def kill(self) -> None:
        """Kill all workers at once, as the host is ending too."""
        for worker in self._ready:
            worker.kill()

    async def invoke(self, function: IndexedFunction, given: Input) -> Returned | None:
        """Runs a function on the next ready worker, waiting for one when there is none. Raises as
        Worker.invoke.
        """
        async with self._change:
            await self._change.wait_for(lambda: self.workers or self._closed)
            if self._closed:
                raise WorkerExited("the host is stopping")
            self._next += 1
            worker = self.workers[self._next % len(self.workers)]
        return await worker.invoke(function, given, self.timeout)

    async def _keep(self, worker: Worker | None) -> None:
        """Keeps one place of the pool filled, until workers have crashed too often."""
        while True:
            worker = worker or await self._started()
            self.last_problem = None
            self._ready.append(worker)
            try:
                async with self._change:
                    self._change.notify_all()
                code = await worker.wait()
                crashed = not worker.was_killed
            finally:
                self._ready.remove(worker)
                await worker.stop()  # when this task is cancelled: the host ends
            if crashed and self._crashed_too_often():
                self.last_problem = f"{len(self._crashes)} crashes of workers, each soon after the other; start no more"
                _LOG.error("worker %d ended with code %d: %s", worker.pid, code, self.last_problem)
                if not self._ready:
                    self._on_gone(self.last_problem)
                return
            _LOG.warning("worker %d ended with code %d; starting another", worker.pid, code)
            worker = None

    async def _started(self) -> Worker:
        """A new worker that is ready, however many starts that takes."""
        failures = 0
        while True:
            await asyncio.sleep(RESTART_BACKOFF_SECONDS[min(failures, len(RESTART_BACKOFF_SECONDS) - 1)])
            worker = Worker(self._app, debug=self._debug)
            try:
                await worker.start()
            except (HostError, WorkerExited) as error:
                failures += 1
                self.last_problem = str(error)
                _LOG.error("a new worker did not start: %s", error)
            else:
                return worker

    def _crashed_too_often(self) -> bool:
        now = time.monotonic()
        if self._crashes and now - self._crashes[-1] > CRASHES_WITHIN_SECONDS:
            self._crashes.clear()
        self._crashes.append(now)
        return len(self._crashes) >= CRASHES * self._count
