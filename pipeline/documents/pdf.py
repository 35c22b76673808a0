"""The pages of a PDF, as images: a drawing has none until it is rendered.

PDFium renders as Chrome does. It is large, in C++, and reads what strangers wrote, so it runs in a process of its own
for each document: without network, files, token or environment (`sandbox.py`), and with bounds on memory, time and
output. Whatever becomes of that process, the worker goes on, and the upload ends in a result.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from subprocess import DEVNULL, PIPE, Popen
from threading import Timer
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.documents.choice import PageChoice
from pipeline.documents.facts import MOST_PAGES, MOST_SENT_BYTES, PROCESS_BYTES, Pages, SentPage
from pipeline.documents.refusals import no_such_pages, too_many_pages
from pipeline.errors import ErrorCode, Failure, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.images import ImageFacts, PreparedImage
from pipeline.images.facts import SERVICE_MAX_BYTES
from pipeline.images.resolution import ORIGINAL, STANDARD, Resolution

logger = logging.getLogger(__name__)

PROCESSOR_SECONDS = 60
WALL_SECONDS = 180.0
"""Of the whole document: half of the processors may be others'."""
_LONGEST_LINE = 4096

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from pipeline.documents.pdf_process import main;"
    " main(int(sys.argv[2]), int(sys.argv[3]))"
)
KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
"""What an interpreter may need to start. Nothing of the app's."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """The pages of a PDF, and its facts: those of its first page that was rendered."""

    facts: ImageFacts
    pages: Pages


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Beginning(_Line):
    count: int = Field(ge=1)
    numbers: list[int] = Field(min_length=1)
    sandboxed: bool


class _Page(_Line):
    number: int = Field(ge=1)
    format: Literal["png", "jpeg"]
    width: int = Field(ge=1, le=ORIGINAL.side)
    height: int = Field(ge=1, le=ORIGINAL.side)
    size: int = Field(ge=1, le=SERVICE_MAX_BYTES)


class _Measure(_Line):
    pages: int = Field(ge=1)
    width: int = Field(ge=0, le=ORIGINAL.side)
    height: int = Field(ge=0, le=ORIGINAL.side)


class _Problem(_Line):
    problem: str
    cause: str = ""
    number: int = 0
    count: int = 0
    chosen: int = 0


async def render_pdf(
    data: bytes, choice: PageChoice, most_pages: int, memory: int = PROCESS_BYTES, seen: Resolution = STANDARD
) -> Rendering:
    """Render the pages of a PDF that are chosen, each as large as the model sees it.

    Args:
        data: the file.
        choice: of its pages.
        most_pages: that may be chosen.
        memory: bytes for the process, beyond its libraries.
        seen: what the model sees of a page.

    Raises:
        PermanentFailure: unsupported_image (encrypted, only XFA), corrupt_image, invalid_instructions (pages that are
            not there), too_many_pages, image_too_large (a document that takes too much time or memory).
        RetryableFailure: the process was killed by others, or can't be started.
    """
    asked = {
        "pages": choice.ranges,
        "most_pages": most_pages,
        "resolution": [seen.side, seen.patches],
        "page_bytes": SERVICE_MAX_BYTES,
        "sent_bytes": MOST_SENT_BYTES,
    }
    try:
        process = _started(memory)
    except OSError as error:
        raise OperatorFailure(f"The process that renders PDFs can't be started: {error}.") from error
    read = partial(_read, process, most_pages, seen)
    working = asyncio.create_task(asyncio.to_thread(_spoken, process, json.dumps(asked).encode(), data, read))
    try:
        return await asyncio.shield(working)
    finally:
        process.kill()  # then the thread ends, too, whatever it waits for
        with suppress(Failure):
            await working


def measure_pdf(data: bytes) -> tuple[int, int, int]:
    """(how many pages a PDF has, width and height of the first as it is drawn for detail `original`).

    It blocks for a tenth of a second.

    Raises:
        PermanentFailure, RetryableFailure: as `render_pdf`; too_many_pages above `MOST_PAGES`.
    """
    asked = {
        "pages": PageChoice.parse("all").ranges,
        "most_pages": MOST_PAGES,
        "resolution": [ORIGINAL.side, ORIGINAL.patches],
        "measure": True,
    }
    try:
        process = _started(PROCESS_BYTES)
    except OSError as error:
        raise OperatorFailure(f"The process that renders PDFs can't be started: {error}.") from error
    measure = _spoken(
        process,
        json.dumps(asked).encode(),
        data,
        lambda source: _line(process, source, _Measure),
    )
    return measure.pages, measure.width, measure.height


def _started(memory: int) -> "Popen[bytes]":
    return Popen(  # noqa: S603 - this interpreter, with a program of our own
        (sys.executable, "-I", "-c", _START, json.dumps(sys.path), str(memory), str(PROCESSOR_SECONDS)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
    )


def _spoken[T](process: "Popen[bytes]", asked: bytes, data: bytes, read: Callable[[IO[bytes]], T]) -> T:
    """Ask the process, and read what it answers. Blocks: call it in a thread."""
    late = Timer(WALL_SECONDS, process.kill)
    late.start()
    try:
        with process as running:  # waits for its end, and closes the pipes
            if running.stdin is None or running.stdout is None:
                raise RetryableFailure("The process that renders PDFs can't be spoken to.")
            with suppress(BrokenPipeError):  # it need not read to the end
                running.stdin.write(asked + b"\n")
                running.stdin.write(data)
                running.stdin.close()
            try:
                return read(running.stdout)
            finally:
                running.kill()
    finally:
        late.cancel()


def _read(process: "Popen[bytes]", most_pages: int, seen: Resolution, source: IO[bytes]) -> Rendering:
    beginning = _line(process, source, _Beginning)
    if not beginning.sandboxed and sys.platform == "linux":
        logger.warning("The process that renders PDFs could not be kept from files and network (seccomp).")
    if len(beginning.numbers) > most_pages or max(beginning.numbers) > beginning.count:
        raise _damaged("the process that renders it broke")
    sent: list[SentPage] = []
    left = MOST_SENT_BYTES
    for number in beginning.numbers:
        page = _line(process, source, _Page)
        left -= page.size
        if page.number != number or left < 0 or not seen.holds(page.width, page.height):
            raise _damaged("the process that renders it broke")
        content = source.read(page.size)
        if len(content) < page.size:
            raise _ended(process)
        sent.append(SentPage(number, PreparedImage(content, page.format, page.width, page.height, transformed=True)))
    first = sent[0].image
    return Rendering(ImageFacts("pdf", first.width, first.height, beginning.count), Pages(beginning.count, tuple(sent)))


def _line[T: _Line](process: "Popen[bytes]", source: IO[bytes], kind: type[T]) -> T:
    said = source.readline(_LONGEST_LINE)
    if not said:
        raise _ended(process)
    try:
        return kind.model_validate_json(said)
    except ValidationError:
        pass
    try:
        problem = _Problem.model_validate_json(said)
    except ValidationError:
        raise _damaged("the process that renders it broke") from None
    raise _refusal(problem)


def _ended(process: "Popen[bytes]") -> PermanentFailure | RetryableFailure:
    """Why the process has ended before its work was done."""
    status = process.wait()
    if status == -15:  # SIGTERM: the worker is being stopped
        return RetryableFailure("The process that renders PDFs was stopped.")
    if status in {-9, -24}:  # SIGKILL by the clock, or for want of memory; SIGXCPU
        return _too_dear()
    return _damaged(f"the process that renders it ended with status {status}")


def _refusal(problem: _Problem) -> PermanentFailure:
    match problem.problem:
        case "encrypted":
            failure = _unsupported("is encrypted with a password. Save it without one, and upload that.")
        case "xfa":
            failure = _unsupported(
                "is an XFA form, which only Adobe's programs show. Print it to a PDF there, and upload that."
            )
        case "no such pages":
            failure = no_such_pages("PDF", problem.count, problem.cause)
        case "too many":
            failure = too_many_pages(problem.count, problem.chosen, "page")
        case "memory":
            failure = _too_dear()
        case "empty":
            failure = _damaged("it has no pages")
        case "page":
            failure = _damaged(f"page {problem.number:,} can't be drawn ({problem.cause})")
        case _:
            # PDFium's words for a document without a page that it can find.
            nothing = "Success" in problem.cause
            failure = _damaged("it has no pages" if nothing else f"it can't be read ({problem.cause.strip('. ')})")
    return failure


def _unsupported(why: str) -> PermanentFailure:
    return PermanentFailure(ErrorCode.UNSUPPORTED_IMAGE, f"The PDF {why}", {"format": "pdf"})


def _damaged(problem: str) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.CORRUPT_IMAGE,
        f"The PDF is damaged: {problem}. Open it in a PDF reader, save or print it to a new PDF, and upload that.",
        {"format": "pdf"},
    )


def _too_dear() -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.IMAGE_TOO_LARGE,
        "Drawing the PDF's pages takes more memory than the app has for it, or more than"
        f" {PROCESSOR_SECONDS} seconds of a processor. Name fewer"
        " pages with the option pages, or save it smaller, for example as images.",
        {"format": "pdf"},
    )
