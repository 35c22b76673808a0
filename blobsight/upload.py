"""`blobsight upload`: send files to the input container, each once.

A blob is compared by its content (see `unchanged.py`) and by the question in its metadata. So a second run, on any
machine, sends only what is missing or has changed, however the first one ended. Each blob is written on
condition that no other program has written it meanwhile: two runs at once send nothing twice.
"""

import asyncio
import base64
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from os.path import commonprefix
from pathlib import PurePath
from typing import IO, Any, Protocol

import click
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob import ContentSettings
from rich.filesize import decimal

from blobsight.account import Account, Place, account_options, code
from blobsight.asking import ASKING_KEYS, Asked, asking_options
from blobsight.following import Finished, follow, show_finished, tally
from blobsight.image_states import State
from blobsight.instruction_names import Named, is_same_text, malformed, rightly_named
from blobsight.local_files import HIDDEN, JUNK, LeftOut, LocalFile, find_files, links_option, why_unreadable
from blobsight.reading import metadata_of, properties_of, side_by_side
from blobsight.running import run
from blobsight.terminal import (
    Exit,
    Problem,
    Trouble,
    Unknown,
    counted,
    name_problems,
    one_line,
    progress,
    say,
    table,
    write_json,
)
from blobsight.unchanged import DigestsOfApp, holds
from pipeline.documents.recognise import is_pdf
from pipeline.errors import PermanentFailure
from pipeline.images.recognise import find_picture
from pipeline.instructions import Origin
from pipeline.job.memory import Budget
from pipeline.junk import has_image_ending
from pipeline.names import EXPECTED_SUFFIX, wants_result
from pipeline.storage.listing import listed

MEMORY_BYTES = 256 * 1024 * 1024
"""Bytes of all files in progress together."""
IN_ONE_PIECE_BYTES = 64 * 1024 * 1024
"""Largest file that is read once and sent by one request: the SDK's own threshold. Larger ones go in blocks."""
ASKED_ONE_BY_ONE = 100
"""Up to so many files are looked up one by one; for more, listing is cheaper, however large the container is."""
SHOWN = 20
"""Most files of one kind that are named."""
EXPECTED = "expected answer"
"""Why a file is left out that `blobsight evaluate` reads on this machine."""
TEXT_TYPES = {
    ".json": "application/json; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
RECOGNISED_BY_BYTES = 32 * 1024
"""Bytes read of a file that goes in blocks: the start of an image shows its format."""


type Say = Callable[[str, str | None], None]
"""Takes a sentence for the person, and its style."""


class Advancing(Protocol):
    """The progress of a long operation."""

    def advance(self, by: int = 1) -> None: ...


type Progress = Callable[[str, int | None], AbstractContextManager[Advancing]]
"""Shows the progress of something, by its name and its total."""


class Outcome(StrEnum):
    """How the upload of one file ended."""

    SENT = "sent"
    UNCHANGED = "unchanged"
    """The container has it already, with the same question."""
    LEFT_OUT = "left out"
    """The pipeline would not take it for an image."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class There:
    """A blob that is in the container already."""

    etag: str
    size: int
    md5: str | None
    metadata: Mapping[str, str]


@dataclass(slots=True)
class Report:
    """How the upload of all files ended."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    sent_bytes: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    """ETag of each image of this run that is in the container now."""

    would_be_sent: list[tuple[str, str]] = field(default_factory=list)
    """Paths and names, for a dry run."""

    def add(self, problem: LeftOut) -> None:
        self.counts[Outcome.FAILED if problem.problem else Outcome.LEFT_OUT] += problem.files
        (self.failed if problem.problem else self.left_out).append(problem)

    def to_json(self) -> dict[str, Any]:
        report: dict[str, Any] = {outcome.replace(" ", "_"): self.counts[outcome] for outcome in Outcome}
        report["sent_bytes"] = self.sent_bytes
        report["would_be_sent"] = [{"path": path, "name": name} for path, name in sorted(self.would_be_sent)]
        report["problems"] = [
            {"path": problem.path, "reason": problem.reason, "failed": problem.problem, "files": problem.files}
            | (problem.to_json() if problem.problem else {})
            for problem in (*self.failed, *self.left_out)
        ]
        return report


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--prefix", default="", help="Put before each name, for example a folder: 2026/.")
@click.option("--wait", is_flag=True, help="Wait until every image has its result, and show the results.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@links_option
@click.option("--json", "as_json", is_flag=True, help="Outcome of every file, as one JSON object on stdout.")
@asking_options
@account_options
def upload(  # noqa: PLR0913 - one for each option
    place: Place,
    asked: Asked,
    paths: Sequence[str],
    *,
    prefix: str,
    wait: bool,
    dry_run: bool,
    follow_links: bool,
    as_json: bool,
) -> Exit:
    """Put images into the input container.

    PATH is a file, a folder with everything below it, a glob, or - for a list of files on stdin. A second run sends
    only what is missing or has changed. Instruction files and schemas in a folder go first, so that its images find
    them. Files that are not images are left out and named.

    \b
    blobsight upload photo.jpg --instructions "What is in this picture?" --wait
    blobsight upload receipts/ --prefix 2026/receipts/ --instructions-file receipt.md
    find /scans -name '*.tif' -mtime -1 | blobsight upload -
    """  # noqa: D301 - click's mark of lines to leave alone
    metadata = asked.metadata()
    # Outside an event loop: within one, Ctrl-C would wait for the end of the search, or of stdin.
    report, found = _find(paths, prefix, follow_links=follow_links)
    files = to_send(asked, found, report)
    return run(_run(place, asked, metadata, files, report, wait=wait, dry_run=dry_run, as_json=as_json))


def to_send(asked: Asked, found: Sequence[LocalFile], report: Report, say: Say = say) -> Sequence[LocalFile]:
    """Return the files to send, each under the name that counts, and say what a person should know of them.

    Args:
        asked: the question of this run.
        found: the files that were found.
        report: gets the files that are left out.
        say: takes a sentence and its style.

    Raises:
        Trouble: there is nothing to send, or it is not clear what some files are meant for.
    """
    for file in found:
        if file.name.endswith(EXPECTED_SUFFIX):
            report.add(LeftOut(str(file.path), EXPECTED, problem=False))
    named = rightly_named([file for file in found if not file.name.endswith(EXPECTED_SUFFIX)])
    files = named.files
    if not files and not report.failed:
        _say_what_is_left_out(report.left_out, say)
        raise Trouble("There is nothing to upload: what you named holds no files to send.")
    _settle_names(asked, named, report, say)
    if asked.text is None:  # with --instructions, files do not count
        _refuse_malformed(files, say)
    _say_what_does_not_count(asked, files, say)
    return files


def _find(paths: Sequence[str], prefix: str, *, follow_links: bool) -> tuple[Report, list[LocalFile]]:
    report = Report()
    files: list[LocalFile] = []
    with progress("Looking for files") as bar:
        for found in find_files(paths, sys.stdin, prefix, follow_links=follow_links):
            if isinstance(found, LeftOut):
                report.add(found)
            else:
                files.append(found)
                bar.advance()
    return report, files


async def _run(  # noqa: PLR0913 - one for each option
    place: Place,
    asked: Asked,
    metadata: Mapping[str, str],
    files: Sequence[LocalFile],
    report: Report,
    *,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    finished: list[Finished] = []
    unseen: list[Problem] = []
    all_read = True
    async with place.opened() as account:
        try:
            await Sending(account, metadata, report, dry_run=dry_run).run(files)
        except asyncio.CancelledError:
            say("Files in progress may have arrived too. Run the same command again to send the rest.")
            raise
        finally:
            if report.counts or not files:
                say_what_became(report, dry_run=dry_run)
        if wait and not dry_run:
            finished = await follow(account, report.etags, unseen)
            _say_whose_question(asked, finished)
            all_read = as_json or await show_finished(account, finished)
            name_problems(unseen)
    if as_json:
        outcome = report.to_json() | {"dry_run": dry_run, "results": tally(finished) if wait else None}
        outcome["problems"] += [problem.to_json() for problem in unseen]
        write_json(outcome)
    elif dry_run:
        table(("would be sent", "as"), sorted(report.would_be_sent))
    any_failed = report.failed or unseen or not all_read or any(one.state is State.FAILED for one in finished)
    return Exit.SOME_FAILED if any_failed else Exit.DONE


def _settle_names(asked: Asked, named: Named, report: Report, say: Say) -> None:
    """Say which instruction files are sent under other names.

    Raises:
        Trouble: it is not clear what some are meant for. The images would be paid for with another question.
    """
    if named.in_doubt and asked.text is None:  # with --instructions, files do not count
        for doubt in named.in_doubt[:SHOWN]:
            say(one_line(doubt), "red")
        raise Trouble(
            f"Nothing was sent: rename {counted(len(named.in_doubt), 'instruction file')} first, as listed above."
        )
    for problem in named.left_out:
        report.add(problem)
    for file, right in named.renamed[:SHOWN]:
        alike = " (in the Unicode form of its image)" if is_same_text(file.name, right) else ""
        say(one_line(f"{file.path} is sent as '{right.rpartition('/')[2]}'{alike}, the name that counts."), "yellow")
    if len(named.renamed) > SHOWN:
        say(f"… and {len(named.renamed) - SHOWN:,} more instruction files under the names that count.", "yellow")
    for name in named.of_no_image[:SHOWN]:
        say(
            one_line(f"'{name}' belongs to none of these images: give it the full name of one, ending included."),
            "yellow",
        )


def _refuse_malformed(files: Sequence[LocalFile], say: Say) -> None:
    """Name the instruction files that can't be used.

    Raises:
        Trouble: there are some. Each image that they are for would fail.
    """
    problems = malformed(files)
    for problem in problems[:SHOWN]:
        say(one_line(problem), "red")
    if problems:
        raise Trouble(f"Nothing was sent: correct {counted(len(problems), 'instruction file')} first, as listed above.")


def _say_what_does_not_count(asked: Asked, files: Sequence[LocalFile], say: Say) -> None:
    instructing = sum(not wants_result(file.name) and not file.name.endswith(".schema.json") for file in files)
    if asked.text is not None and instructing:
        say(
            f"{counted(instructing, 'instruction file')} will not apply to the images of this run:"
            " --instructions takes precedence over files.",
            "yellow",
        )


def _say_whose_question(asked: Asked, finished: Sequence[Finished]) -> None:
    others = sum(one.origin == Origin.REQUEST for one in finished)
    if asked and others:
        say(
            f"{counted(others, 'result')} answer the question of an earlier `blobsight retry`. To ask this run's:"
            " `blobsight retry --all --instructions …`.",
            "yellow",
        )


def say_what_became(report: Report, say: Say = say, *, dry_run: bool = False) -> None:
    """Say how an upload ended: what failed, what is left out, and the counts."""
    for problem in report.failed:
        if problem.cloud is None:
            say(f"{one_line(problem.path)}: {one_line(problem.reason)}", "red")
    _say_what_is_elsewhere(report.failed, say)
    _say_what_is_left_out(report.left_out, say)
    would = "would be " if dry_run else ""
    counts = report.counts
    say(
        f"{counts[Outcome.SENT]:,} {would}sent ({decimal(report.sent_bytes)}),"
        f" {counts[Outcome.UNCHANGED]:,} unchanged, {counts[Outcome.LEFT_OUT]:,} left out,"
        f" {counts[Outcome.FAILED]:,} failed.",
        None,
    )


def _say_what_is_elsewhere(failed: Sequence[LeftOut], say: Say) -> None:
    """For example "3 photos are in iCloud only: download them first (trip/.IMG_1.HEIC.icloud, …)"."""
    for cloud in dict.fromkeys(problem.cloud for problem in failed if problem.cloud):
        paths = [problem.path for problem in failed if problem.cloud == cloud]
        noun = "photo" if all(has_image_ending(path.rpartition(".")[0]) for path in paths) else "file"
        are, them = ("is", "it") if len(paths) == 1 else ("are", "them")
        shown = ", ".join([*map(one_line, paths[:3]), *["…"] * (len(paths) > 3)])
        say(f"{counted(len(paths), noun)} {are} in {cloud} only: download {them} first ({shown})", "red")


def _say_what_is_left_out(left_out: Sequence[LeftOut], say: Say) -> None:
    named = [left for left in left_out if left.reason not in (HIDDEN, JUNK, EXPECTED)]
    for left in named[:SHOWN]:
        say(f"{one_line(left.path)}: left out, {one_line(left.reason)}", "dim")
    if len(named) > SHOWN:
        say(f"… and {len(named) - SHOWN:,} more left out (--json names them all)", "dim")
    junk = Counter[str]()
    for left in left_out:
        if left.reason == JUNK:
            junk[_kind_of_junk(left.path)] += left.files
    if junk:
        kinds = [f"{kind} ({count:,})" if count > 1 else kind for kind, count in junk.most_common(5)]
        shown = ", ".join([*kinds, *["…"] * (len(junk) > 5)])
        say(f"{counted(junk.total(), 'junk file')} left out: {shown}", "dim")
    if hidden := sum(left.reason == HIDDEN for left in left_out):
        say(f"{hidden:,} hidden left out", "dim")
    if expected := sum(left.reason == EXPECTED for left in left_out):
        say(f"{counted(expected, 'file')} with expected answers left out: `blobsight evaluate` reads them here", "dim")


def _kind_of_junk(path: str) -> str:
    """The name under which junk files of one kind are counted."""
    leaf = PurePath(path).name
    return "._*" if leaf.startswith("._") else one_line(leaf)


class Sending:
    """Sends the files of one run."""

    def __init__(
        self,
        account: Account,
        metadata: Mapping[str, str],
        report: Report,
        *,
        dry_run: bool = False,
        progress: Progress = progress,
    ) -> None:
        self._progress = progress
        self._account = account
        self._metadata = metadata
        self._report = report
        self._dry_run = dry_run
        self._memory = Budget(MEMORY_BYTES)
        self._listed: Mapping[str, There] | None = None
        self._digests = DigestsOfApp(account.results)

    async def run(self, files: Sequence[LocalFile]) -> None:
        """Send `files`, instruction files first; the report gets the outcome of each.

        Raises:
            AzureError, RetryableFailure: a failure that affects all.
        """
        if len(files) > ASKED_ONE_BY_ONE:
            self._listed = await self._list({file.name for file in files})
            await self._digests.list([name for name in self._listed if wants_result(name)])
        # Instruction files have to be there before the images that they apply to.
        instructing = [file for file in files if not wants_result(file.name)]
        with self._progress("Uploading", len(files)) as bar:

            def take(file: LocalFile, outcome: Outcome | LeftOut | Unknown) -> None:
                bar.advance()
                if isinstance(outcome, Unknown):
                    outcome = LeftOut(str(file.path), outcome.reason, code=outcome.code)
                if isinstance(outcome, LeftOut):
                    self._report.add(outcome)
                else:
                    self._report.counts[outcome] += 1

            for batch in (instructing, (file for file in files if wants_result(file.name))):
                await side_by_side(batch, self._file, take, doing="sent")

    async def _list(self, names: Collection[str]) -> Mapping[str, There]:
        found: dict[str, There] = {}
        prefix = commonprefix(list(names))  # noqa: RUF071 - the service's prefix is one
        with self._progress("Listing what is there already", None) as bar:
            async for page in listed(self._account.images, metadata=bool(self._metadata), prefix=prefix):
                found |= {
                    blob.name: There(blob.etag, blob.size, blob.md5, blob.metadata)
                    for blob in page.blobs
                    if blob.name in names
                }
                bar.advance(len(page.blobs))
        return found

    async def _file(self, file: LocalFile) -> Outcome | LeftOut:
        """Bring `file` into the container, or say what is wrong with it.

        Raises:
            AzureError: it can't be sent.
        """
        try:
            async with self._memory.held(min(file.size, IN_ONE_PIECE_BYTES)):
                return await self._bring(file)
        except _EmptyFileError:
            reason = "it is empty: save it again, or download it where a cloud service holds it"
        except OSError as error:
            reason = why_unreadable(file.path, error)
        except PermanentFailure as not_an_image:
            what = (not_an_image.details or {}).get("seems_to_be", not_an_image.message)
            return LeftOut(str(file.path), f"not an image: it seems to be {what}", problem=False)
        except (ResourceExistsError, ResourceModifiedError) as error:
            if code(error) not in ("ConditionNotMet", "BlobAlreadyExists"):
                raise
            reason = "another program changed the blob while this ran: run the same command again to send yours"
        return LeftOut(str(file.path), reason)

    async def _bring(self, file: LocalFile) -> Outcome:
        """Bring `file` into the container, unless it is there.

        Raises:
            OSError: it can't be read.
            PermanentFailure: it is not an image.
            AzureError: it can't be sent.
        """
        content = await asyncio.to_thread(_read, file)
        there = self._listed.get(file.name) if self._listed is not None else await self._ask(file.name)
        if there is None or not await self._is_same(file, content, there):
            if self._dry_run:
                self._report.sent_bytes += content.size
                self._report.would_be_sent.append((str(file.path), file.name))
                return Outcome.SENT
            try:
                self._note(file, await self._send(file, content, there))
            except (ResourceExistsError, ResourceModifiedError):
                there = await self._ask(file.name)
                if there is None or not await self._is_same(file, content, there):
                    raise
                # Another run has sent it, or a request of our own whose answer was lost.
            else:
                self._report.sent_bytes += content.size
                return Outcome.SENT
        self._note(file, there.etag)
        return Outcome.UNCHANGED

    async def _send(self, file: LocalFile, content: "_Content", there: There | None) -> str:
        """Send the file, on condition that the blob has not changed since it was looked up. Returns the new ETag."""
        condition: dict[str, Any] = (
            {"etag": f'"{there.etag}"', "match_condition": MatchConditions.IfNotModified}
            if there
            else {"match_condition": MatchConditions.IfMissing}
        )
        settings = ContentSettings(
            content_type=content.media_type,
            # The service does not compute it for a blob that comes in blocks.
            content_md5=bytearray(base64.b64decode(content.md5)) if content.data is None else None,
        )
        with _body(file, content) as body:
            answer = await self._account.images.get_blob_client(file.name).upload_blob(
                body,
                length=content.size,
                overwrite=True,  # the condition decides
                metadata=self._metadata_for(file),
                content_settings=settings,
                **condition,
            )
        return str(answer["etag"]).strip('"')

    def _note(self, file: LocalFile, etag: str) -> None:
        if wants_result(file.name):
            self._report.etags[file.name] = etag

    def _metadata_for(self, file: LocalFile) -> dict[str, str]:
        return dict(self._metadata) if wants_result(file.name) else {}

    async def _is_same(self, file: LocalFile, content: "_Content", there: There) -> bool:
        """Whether the blob that is there has this content and this question.

        Raises:
            OSError: the file can't be read again.
            AzureError: the blob can't be read.
        """
        if (there.size, there.md5) != (content.size, content.md5) or not self._asks_the_same(file, there):
            return False
        if not wants_result(file.name):
            data = await asyncio.to_thread(file.path.read_bytes) if content.data is None else content.data
            return await holds(self._account.images, file.name, data)
        seen = await self._digests.of(file.name, there.etag)
        return seen is None or seen == await asyncio.to_thread(_sha256, file, content)

    def _asks_the_same(self, file: LocalFile, there: There) -> bool:
        ours = self._metadata_for(file)
        return not ours or ours == {key: value for key, value in there.metadata.items() if key in ASKING_KEYS}

    async def _ask(self, name: str) -> There | None:
        found = await properties_of(self._account.images, name)
        if found is None:
            return None
        md5 = found.content_settings.content_md5
        return There(
            found.etag.strip('"'), found.size, base64.b64encode(md5).decode() if md5 else None, metadata_of(found)
        )


@dataclass(frozen=True, slots=True)
class _Content:
    """A file that was read; `data` is None for one that goes in blocks."""

    data: bytes | None
    size: int
    md5: str
    media_type: str


class _EmptyFileError(Exception):
    """The file is empty."""


def _read(file: LocalFile) -> _Content:
    """Read a file: whole if it goes in one piece, else only for its digest.

    Raises:
        OSError: it can't be read.
        _EmptyFileError: it is empty.
        PermanentFailure: it is not an image.
    """
    with file.path.open("rb") as opened:
        if file.size <= IN_ONE_PIECE_BYTES:
            data = opened.read()
            if not data:
                raise _EmptyFileError
            return _Content(data, len(data), _base64(hashlib.md5(data, usedforsecurity=False)), _media_type(file, data))
        media_type = _media_type(file, opened.read(RECOGNISED_BY_BYTES))
        opened.seek(0)
        digest = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False))
        return _Content(None, opened.tell(), _base64(digest), media_type)


def _sha256(file: LocalFile, content: _Content) -> str:
    if content.data is not None:
        return hashlib.sha256(content.data).hexdigest()
    with file.path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _base64(digest: "hashlib._Hash") -> str:
    return base64.b64encode(digest.digest()).decode()


def _media_type(file: LocalFile, start: bytes) -> str:
    if wants_result(file.name):
        if is_pdf(start):
            return "application/pdf"
        return f"image/{find_picture(start)[0]}"
    return TEXT_TYPES.get(file.path.suffix.lower(), "application/octet-stream")


@contextmanager
def _body(file: LocalFile, content: _Content) -> Iterator[bytes | IO[bytes]]:
    if content.data is not None:
        yield content.data
        return
    with file.path.open("rb") as opened:
        yield opened
