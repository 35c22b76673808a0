"""A worker that converts for a long time stays within its bounds, and gives back what it freed."""

import asyncio
import ctypes
import gc
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image
from support.damaged_images import encoded, webp_of
from support.documents import scanned_pdf, tiff
from support.odd_images import large_jpeg
from support.process_memory import CLEAR_REFS, held
from support.some_settings import ENOUGH

from pipeline.app import app, settings
from pipeline.documents.facts import MOST_SENT_BYTES, PROCESS_BYTES, Picture
from pipeline.instructions import Instructions, Origin
from pipeline.job.answering import ModelAnswerer
from pipeline.job.memory import Budget, Content
from pipeline.job.preparing import CONVERSIONS, Preparer
from pipeline.job.work import Asked, Stopwatch
from pipeline.model.original import DeployedModels
from pipeline.model.question import Question, Reply

DOCUMENTS_AT_ONCE = 2
"""Of each kind."""
IMAGE_MEMORY_BYTES = 268_435_456
"""Half of the default, which half the pixels exhaust in half the time."""
AT_REST_BYTES = 100_000_000
"""Bytes that docs/architecture.md allows a worker to keep after all its conversions."""


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux says what a process held at its peak")
@pytest.mark.skipif(
    sys.platform == "linux" and not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="the app tunes the allocator of glibc, and this is another C library",
)
@pytest.mark.timeout(90)
def test_mixed_conversions_stay_within_the_bounds_and_leave_nothing_behind(tmp_path: Path) -> None:
    """One process, large images of many formats and compressed bombs, all at once: two are converted at a time."""
    blank = Image.new("RGB", (6_400, 6_400), "teal")
    teal = Image.new("P", blank.size)
    teal.putpalette((0, 128, 128))
    files = {
        "png": encoded(blank, "PNG", compress_level=1),
        "gif": encoded(teal, "GIF"),
        "tiff": encoded(blank, "TIFF", compression="tiff_lzw"),
        "jpeg": large_jpeg(8_500, 6_400),
        "webp": webp_of(4_200, 4_200),
        "bomb": gzip.compress(bytes(100_000_000), 1),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    from support.examples import some_of  # noqa: PLC0415 - the process that is measured does without

    rounds = len(some_of((1, 2)))
    environment = os.environ | ENOUGH | {"IMAGE_MEMORY_BYTES": str(IMAGE_MEMORY_BYTES)}
    done = subprocess.run(
        [sys.executable, __file__, tmp_path, str(rounds)], env=environment, check=True, capture_output=True, text=True
    )
    outcomes, peak, kept = json.loads(done.stdout)
    assert outcomes == {"image_too_large": rounds, "answered": rounds * (len(files) - 1)}
    assert peak < CONVERSIONS * IMAGE_MEMORY_BYTES + IMAGE_MEMORY_BYTES // 2, "conversions, and what is being unpacked"
    assert kept < AT_REST_BYTES


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux says what a process held at its peak")
@pytest.mark.timeout(120)
def test_documents_in_progress_stay_below_the_setting_with_all_that_draws_them(tmp_path: Path) -> None:
    """The worker and the processes that draw for it, together: scans in colour of which some are large, and faxes."""
    files = {
        "scan": scanned_pdf(10, dpi=150),
        "large scan": scanned_pdf(2, dpi=400),
        "unpacked scan": scanned_pdf(1, dpi=200, filter_="FlateDecode"),
        "fax": tiff(["One", "Two", "Three"] * 3),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, __file__, tmp_path, "documents"],
        env=os.environ | ENOUGH, check=True, capture_output=True, text=True,
    )  # fmt: skip
    outcomes, peak, memory = json.loads(done.stdout)
    assert outcomes == {"answered": DOCUMENTS_AT_ONCE * len(files)}
    assert memory >= 2 * (PROCESS_BYTES + MOST_SENT_BYTES), "one document at a time would leave a processor idle"
    assert memory / 8 < peak < memory


class Model:
    """Answers after so many seconds."""

    def __init__(self, seconds: float = 0) -> None:
        self._seconds = seconds

    async def ask(self, question: Question, image: Picture) -> Reply:  # noqa: ARG002
        await asyncio.sleep(self._seconds)
        return Reply("A picture", "stop", None, None)


def answering(model: Model) -> ModelAnswerer:
    preparer = Preparer(settings(), Budget(settings().image_memory_bytes // 2))
    return ModelAnswerer(model, preparer, DeployedModels("vision"))


async def _measure(files: list[bytes]) -> tuple[dict[str, int], int, int]:
    """(outcomes, bytes held at the peak, bytes held at the end), as a worker of the app does it."""
    app()
    answerer = answering(Model())
    asked = Asked(Instructions("?", Origin.SETTING, None), Question("?", "vision", "", "auto", 100))

    async def outcome(data: bytes) -> str:
        answered = await answerer.answer(asked, Content(data, AsyncExitStack()), Stopwatch())
        return answered.failure.code.value if answered.failure else "answered"

    for kind in ("PNG", "GIF", "TIFF", "JPEG", "WEBP"):  # loads each decoder
        await outcome(encoded(Image.new("RGB", (2_100, 64), "teal"), kind))
    gc.collect()
    CLEAR_REFS.write_text("5", encoding="ascii")  # the peak starts over: proc_pid_clear_refs(5)
    before = held("VmRSS")
    outcomes = await asyncio.gather(*map(outcome, files * int(sys.argv[2])))
    gc.collect()
    counts = {code: outcomes.count(code) for code in sorted(set(outcomes), reverse=True)}
    return counts, held("VmHWM") - before, held("VmRSS") - before


async def _measure_documents(files: list[bytes]) -> tuple[dict[str, int], int, int]:
    """(outcomes, bytes at the peak of worker and drawing processes, IMAGE_MEMORY_BYTES)."""
    app()
    memory = settings().image_memory_bytes
    answerer = answering(Model(0.5))
    asked = Asked(Instructions("?", Origin.SETTING, None), Question("?", "vision", "", "auto", 100))

    async def outcome(data: bytes) -> str:
        answered = await answerer.answer(asked, Content(data, AsyncExitStack()), Stopwatch())
        return answered.failure.message if answered.failure else "answered"

    await asyncio.gather(*map(outcome, [tiff(["One", "Two"]), scanned_pdf(1, dpi=50)]))  # loads what each takes
    gc.collect()
    with _watched() as peak:
        outcomes = await asyncio.gather(*map(outcome, files * DOCUMENTS_AT_ONCE))
    return {said: outcomes.count(said) for said in set(outcomes)}, peak[0], memory


@contextmanager
def _watched() -> Iterator[list[int]]:
    """The most bytes of this process above those before, with its children's own."""
    this, over, before = psutil.Process(), threading.Event(), held("VmRSS")
    peak = [0]

    def look() -> None:
        while not over.wait(0.005):
            together = held("VmRSS") - before
            for child in this.children():
                with suppress(psutil.NoSuchProcess):
                    together += child.memory_full_info().uss
            peak[0] = max(peak[0], together)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()


if __name__ == "__main__":
    uploads = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
    measure = _measure_documents if "documents" in sys.argv else _measure
    sys.stdout.write(json.dumps(asyncio.run(measure(uploads))))
