"""A functions host as a child process: how tests and the local cloud start one."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from localcloud.functions_host.errors import HostError
from localcloud.guardian import GUARDED

_PACKAGE_ROOT = Path(__file__).parents[2]
_FURTHER_GRACE_SECONDS = 10.0
"""After the host's own grace time: to end its workers, release messages and close connections."""


class FunctionsHostProcess:
    """Starts `python -m localcloud.functions_host` and waits until it runs; stops it when left.

    Attributes (once entered):
        url: where it listens, without a slash at the end.
        pid: of the host's process.
        host_id: the end of the internal queue's name.
        master_key, function_key, blobs_extension_key: for `x-functions-key` or `code=`.
        functions: the names of the app's functions.
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
        self._app = app.resolve()
        self._environment = dict(environment)
        self._port = port
        self._grace = grace
        self._log = log
        self._debug = debug
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Starts the host.

        Raises:
            HostError: it did not start; its problems are those that the host reported.
        """
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
            facts = await self._announcement()
        except BaseException:
            await self.stop()
            raise
        self.url = facts["url"]
        self.pid = facts["pid"]
        self.host_id = facts["host_id"]
        self.master_key = facts["master_key"]
        self.function_key = facts["function_key"]
        self.blobs_extension_key = facts["blobs_extension_key"]
        self.functions = tuple(facts["functions"])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def webhook_url(self, function: str) -> str:
        """The blob trigger's webhook, key included: the endpoint of an Event Grid subscription."""
        query = urlencode({"functionName": f"Host.Functions.{function}", "code": self.blobs_extension_key})
        return f"{self.url}/runtime/webhooks/blobs?{query}"

    async def stop(self) -> int | None:
        """Stops the host gracefully, by SIGTERM; kills it when that takes too long. Its exit code; None if it
        never started.
        """
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

    async def _announcement(self) -> Any:
        assert self._process is not None  # noqa: S101 - only called by __aenter__
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = await self._process.stdout.readline()
        if not line:
            code = await self._process.wait()
            raise HostError(f"the functions host ended with code {code}; see its log")
        facts = json.loads(line)
        if facts["state"] != "Running":
            with contextlib.suppress(TimeoutError):  # it ends by itself, and says with which code
                await asyncio.wait_for(self._process.wait(), _FURTHER_GRACE_SECONDS)
            raise HostError(*facts["errors"])
        return facts
