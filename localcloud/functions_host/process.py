"""A functions host as a child process: how tests and the local cloud start one, and start it again."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from localcloud.functions_host.errors import HostError
from localcloud.functions_host.keys import Keys
from localcloud.functions_host.platform_times import PlatformTimes
from localcloud.guardian import GUARDED

_LOG = logging.getLogger(__name__)
_PACKAGE_ROOT = Path(__file__).parents[2]
_FURTHER_GRACE_SECONDS = 10.0
"""After the host's own grace time: to end its workers, release messages and close connections."""
_STABLE_SECONDS = 60.0
"""A host that ran for so long is started again after the shortest pause."""
_LONGEST_PAUSE = 30
"""Before a start, in shortest pauses."""


@dataclass(frozen=True, slots=True)
class HostEnd:
    """An unexpected end of a host, with all its workers."""

    at: float
    """Seconds since 1970."""
    exit_code: int
    """3: it stopped itself, by an error that stops the platform's host."""


class FunctionsHostProcess:
    """Starts `python -m localcloud.functions_host` and waits until it runs; stops it when left.

    It stands in for the platform, too: a host that ends unexpectedly is started again, on the same port with the same
    keys, as `LOCAL_HOST_RESTART_SECONDS` says (see platform_times).

    Attributes (once entered):
        url: where it listens, without a slash at the end.
        pid: of the host's process, a new one after each start.
        host_id: the end of the internal queue's name.
        master_key, function_key, blobs_extension_key: for `x-functions-key` or `code=`.
        functions: the names of the app's functions.
        ends: the unexpected ends of hosts, in the order of time.
    """

    url: str
    pid: int
    host_id: str
    master_key: str
    function_key: str
    blobs_extension_key: str
    functions: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - one for each option of the command
        self,
        app: Path,
        environment: Mapping[str, str],
        *,
        port: int = 0,
        grace: float = 10.0,
        log: Path | None = None,
        debug: bool = False,
    ) -> None:
        """A host that is not started yet.

        Args:
            app: the directory with function_app.py and host.json.
            environment: the app settings, and all of the environment that host and app get.
            port: 0: a free one.
            grace: seconds that running invocations may take to end when the host is stopped.
            log: the file to which the log is appended; None: this process's stderr.
            debug: tracebacks and the libraries' own messages in the log.
        """
        self.ends: list[HostEnd] = []
        self._app = app.resolve()
        self._environment = {**environment, **Keys().environment()}
        self._port = port
        self._grace = grace
        self._log = log
        self._debug = debug
        self._process: asyncio.subprocess.Process | None = None
        self._is_up = False
        self._stopped = False
        self._change = asyncio.Condition()
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Starts the host.

        Raises:
            HostError: it did not start; its problems are those that the host reported.
        """
        times = PlatformTimes.of(self._environment)
        await self._start()
        self._supervisor = asyncio.create_task(self._supervise(times.restart))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def webhook_url(self, function: str) -> str:
        """The blob trigger's webhook, key included: the endpoint of an Event Grid subscription."""
        query = urlencode({"functionName": f"Host.Functions.{function}", "code": self.blobs_extension_key})
        return f"{self.url}/runtime/webhooks/blobs?{query}"

    async def kill(self) -> HostEnd:
        """Kill the whole host with its workers, in the midst of their work.

        Returns once the platform has started another. Messages that were being processed stay invisible for
        LOCAL_HOST_HIDDEN_SECONDS.
        """
        async with self._change:
            await self._change.wait_for(lambda: self._is_up)
        ended = len(self.ends)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.restarted(ended)
        return self.ends[ended]

    async def change_settings(self, settings: Mapping[str, str]) -> None:
        """Change app settings. The host ends and starts again with them, as on the platform."""
        self._environment |= settings
        await self.kill()

    async def restarted(self, ends: int) -> None:
        """Wait until more than `ends` hosts have ended and another one runs, or until stop()."""
        async with self._change:
            await self._change.wait_for(lambda: self._stopped or (len(self.ends) > ends and self._is_up))

    async def stop(self) -> int | None:
        """Stops the host gracefully, by SIGTERM, for good; kills it when that takes too long. Its exit code; None if it
        never started.
        """
        self._stopped = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        async with self._change:
            self._change.notify_all()
        return await self._end()

    async def _end(self) -> int | None:
        if self._process is None:
            return None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(self._grace + _FURTHER_GRACE_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                os.killpg(self._process.pid, signal.SIGKILL)  # the guardian, and what it guards
        return await self._process.wait()

    async def _supervise(self, shortest: float) -> None:
        """Start the host again whenever it ends."""
        pause = shortest
        while True:
            began = time.monotonic()
            assert self._process is not None  # noqa: S101 - it was started
            code = await self._process.wait()
            self._is_up = False
            self.ends.append(HostEnd(time.time(), code))
            if time.monotonic() - began > _STABLE_SECONDS:
                pause = shortest
            while not self._is_up:
                _LOG.warning("The functions host ended (exit code %d); it is started again in %g s.", code, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, shortest * _LONGEST_PAUSE)
                with contextlib.suppress(HostError):  # its log says why
                    await self._start()

    async def _start(self) -> None:
        with contextlib.ExitStack() as files:
            log = files.enter_context(self._log.open("ab")) if self._log else None
            self._process = await asyncio.create_subprocess_exec(
                *GUARDED,
                sys.executable,
                *("-m", "localcloud.functions_host", "--app", str(self._app), "--port", str(self._port)),
                *("--grace", str(self._grace)),
                *(["--debug"] if self._debug else []),
                cwd=_PACKAGE_ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            facts = await _announcement(self._process)
        except BaseException:
            await self._end()
            raise
        self.url = facts["url"]
        self._port = facts["port"]
        self.pid = facts["pid"]
        self.host_id = facts["host_id"]
        self.master_key = facts["master_key"]
        self.function_key = facts["function_key"]
        self.blobs_extension_key = facts["blobs_extension_key"]
        self.functions = tuple(facts["functions"])
        async with self._change:
            self._is_up = True
            self._change.notify_all()


async def _announcement(process: asyncio.subprocess.Process) -> Any:
    """Read what a host writes to its stdout once it runs.

    Raises:
        HostError: it does not.
    """
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = await process.stdout.readline()
    if not line:
        code = await process.wait()
        raise HostError(f"the functions host ended with code {code}; see its log")
    facts = json.loads(line)
    if facts["state"] != "Running":
        with contextlib.suppress(TimeoutError):  # it is ending; its exit code is reported
            await asyncio.wait_for(process.wait(), _FURTHER_GRACE_SECONDS)
        raise HostError(*facts["errors"])
    return facts
