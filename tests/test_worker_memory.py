"""A worker that converts for a long time stays within its bounds, and gives back what it freed."""

import asyncio
import ctypes
import gc
import gzip
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from PIL import Image
from support.damaged_images import encoded, webp_of
from support.odd_images import large_jpeg
from support.process_memory import CLEAR_REFS, held
from support.some_settings import ENOUGH

from pipeline.app import app, settings
from pipeline.documents.facts import Picture
from pipeline.instructions import Instructions, Origin
from pipeline.job.answering import ModelAnswerer
from pipeline.job.memory import Budget, Content
from pipeline.job.preparing import CONVERSIONS
from pipeline.job.work import Asked, Stopwatch
from pipeline.model.question import Question, Reply

ROUNDS = 2
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
    environment = os.environ | ENOUGH | {"IMAGE_MEMORY_BYTES": str(IMAGE_MEMORY_BYTES)}
    done = subprocess.run(
        [sys.executable, __file__, tmp_path], env=environment, check=True, capture_output=True, text=True
    )
    outcomes, peak, kept = json.loads(done.stdout)
    assert outcomes == {"image_too_large": ROUNDS, "answered": ROUNDS * (len(files) - 1)}
    assert peak < CONVERSIONS * IMAGE_MEMORY_BYTES + IMAGE_MEMORY_BYTES // 2, "conversions, and what is being unpacked"
    assert kept < AT_REST_BYTES


class Model:
    """Answers at once."""

    async def ask(self, question: Question, image: Picture) -> Reply:  # noqa: ARG002
        return Reply("A picture", "stop", None, None)


async def _measure(files: list[bytes]) -> tuple[dict[str, int], int, int]:
    """(outcomes, bytes held at the peak, bytes held at the end), as a worker of the app does it."""
    app()
    answerer = ModelAnswerer(settings(), Model(), Budget(settings().image_memory_bytes // 2))
    asked = Asked(Instructions("?", Origin.SETTING, None), Question("?", "vision", "", "auto", 100))

    async def outcome(data: bytes) -> str:
        answered = await answerer.answer(asked, Content(data, AsyncExitStack()), Stopwatch())
        return answered.failure.code.value if answered.failure else "answered"

    for kind in ("PNG", "GIF", "TIFF", "JPEG", "WEBP"):  # loads each decoder
        await outcome(encoded(Image.new("RGB", (2_100, 64), "teal"), kind))
    gc.collect()
    CLEAR_REFS.write_text("5", encoding="ascii")  # the peak starts over: proc_pid_clear_refs(5)
    before = held("VmRSS")
    outcomes = await asyncio.gather(*map(outcome, files * ROUNDS))
    gc.collect()
    counts = {code: outcomes.count(code) for code in sorted(set(outcomes), reverse=True)}
    return counts, held("VmHWM") - before, held("VmRSS") - before


if __name__ == "__main__":
    images = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
    sys.stdout.write(json.dumps(asyncio.run(_measure(images))))
