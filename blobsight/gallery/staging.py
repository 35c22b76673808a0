"""Files on their way from the browser: kept in a folder until all are there, then sent as `blobsight upload` does.

So names, junk files, near misses of instruction files and unchanged files are treated as there. The folder is removed
as soon as they are sent.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any

from blobsight.account import Account
from blobsight.asking import Asked
from blobsight.local_files import LeftOut, LocalFile, find_files
from blobsight.terminal import Trouble, one_line, printable
from blobsight.upload import Report, Sending, say_what_became, to_send
from pipeline.junk import is_junk

SPARE_BYTES = 500_000_000
"""Left free on the disk."""

type Chunks = AsyncIterator[bytes]
type Notify = Callable[[str, int, int | None], None]
"""Takes a step, how much of it is done, and of how much."""


class BadPathError(Exception):
    """A path that is not taken. The message says why."""


@dataclass(slots=True)
class Stage:
    """One upload: its question, and the folder with its files. A file that is still coming lies beside the folder."""

    asked: Asked
    metadata: Mapping[str, str]
    prefix: str
    base: Path = field(default_factory=lambda: Path(mkdtemp(prefix="blobsight-")))
    folder: Path = field(init=False)
    lines: list[tuple[str, str | None]] = field(default_factory=list)
    """What was said, with its style."""
    report: Report = field(default_factory=Report)
    refused: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.base / "files"
        self.folder.mkdir()

    def expect(self, paths: Sequence[str]) -> list[int]:
        """Return which of `paths` are wanted, by their number. Junk is not: its name is enough to count it."""
        wanted: list[int] = []
        for number, path in enumerate(paths):
            try:
                target = self._target(path)
                if is_junk(path):
                    target.touch()
                else:
                    wanted.append(number)
            except BadPathError as error:
                self.refused.append(LeftOut(path, str(error)))
            except OSError as error:
                self.refused.append(LeftOut(path, _not_kept(error)))
        return wanted

    async def take(self, path: str, chunks: Chunks) -> None:
        """Write one file.

        Raises:
            BadPathError: it can't be kept here.
        """
        target = self._target(path)
        partial = self.base / f"{secrets.token_hex(8)}.part"
        try:
            with partial.open("xb") as file:
                async for chunk in chunks:
                    self._require_space(len(chunk))
                    file.write(chunk)
            _settle(partial, target)
        except OSError as error:
            raise BadPathError(_not_kept(error)) from error

    def _require_space(self, size: int) -> None:
        if shutil.disk_usage(self.base).free < SPARE_BYTES + size:
            raise BadPathError("the disk with the folder for temporary files is full: free some of it")

    async def send(self, account: Account, notify: Notify) -> None:
        """Send all files, and say in `lines` what became of them.

        Raises:
            Trouble: they can't be sent; `lines` may name the files.
        """
        chosen = await asyncio.to_thread(self._found)

        @contextmanager
        def progress(what: str, total: int | None) -> Iterator[_Advancing]:
            yield _Advancing(what, total, notify)

        try:
            await Sending(account, self.metadata, self.report, progress=progress).run(chosen)
        finally:
            say_what_became(self.report, self._say)

    def _found(self) -> Sequence[LocalFile]:
        """Find the files to send, as `blobsight upload` finds those of a folder.

        Raises:
            Trouble: they can't be sent.
        """
        files: list[LocalFile] = []
        for problem in self.refused:
            self.report.add(problem)
        for found in find_files([str(self.folder)], StringIO(), self.prefix):
            if isinstance(found, LeftOut):
                self.report.add(found)
            else:
                files.append(found)
        return to_send(self.asked, files, self.report, self._say)

    def discard(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def _say(self, text: str, style: str | None) -> None:
        # The person knows the files by their paths in the browser.
        self.lines.append((printable(text.replace(f"{self.folder}/", "").replace(f"{self.folder}\\", "")), style))

    def _target(self, path: str) -> Path:
        """The file in the folder for `path`, as the browser names it; its folder is made.

        Raises:
            BadPathError: it would lead elsewhere.
        """
        parts = PurePosixPath(path).parts
        target = self.folder.joinpath(*parts)
        is_text = path == path.encode(errors="replace").decode()  # no half of a character, which disks don't take
        if (
            not is_text
            or not parts
            or ".." in parts
            or "\0" in path
            or "\\" in path
            or not target.is_relative_to(self.folder)
        ):
            raise BadPathError(f"'{one_line(path)}' can't be a path here: rename it")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadPathError(f"its folder can't be made here ({error.strerror or error})") from error
        return target


def _not_kept(error: OSError) -> str:
    return f"it can't be kept here ({error.strerror or error})"


def _settle(partial: Path, target: Path) -> None:
    if target.exists():
        raise BadPathError("there is another file of this name, as this machine compares names")
    partial.rename(target)


@dataclass(slots=True)
class _Advancing:
    """Progress that is passed on."""

    what: str
    total: int | None
    notify: Notify
    done: int = 0

    def advance(self, by: int = 1) -> None:
        self.done += by
        self.notify(self.what, self.done, self.total)


def told(stage: Stage, trouble: Trouble | None) -> dict[str, Any]:
    """How an upload ended, for the page."""
    return {
        "report": stage.report.to_json(),
        "lines": [{"text": text, "style": style} for text, style in stage.lines],
        "error": {"code": trouble.code, "message": trouble.message} if trouble else None,
    }
