"""The gallery with very many images: when the first of them can be seen, and the memory of its server and its page.

Storage is a stand-in with its listings ready and without a single image: Azure's own time for a page of a listing comes
on top. The page is open before the first page of the listing is; the time is from there on.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import psutil
from playwright.async_api import Browser, Page

from bench.chromium import browser_path, chromium
from bench.listings import listings
from bench.measure import ContenderError, Row, Say, row

NAME = "gallery"
SIZES, QUICK_SIZES = (10_000, 100_000), (1_000, 5_000)
FEW = 10
PROMISED_SECONDS = 1.0
PROMISED_SERVER_BYTES = 1000
"""For each listed image, at the peak: while a pass builds its index beside the one that is shown."""
PROMISED_PAGE_BYTES = 200
PROMISED_FRAME_MS = 1000 / 30
"""Of nineteen frames in twenty while it is scrolled."""
PATIENCE_SECONDS = 120
FRAMES = """async () => {
    const took = [];
    for (let last = performance.now(), frame = 0; frame < 300; frame++) {
        scrollBy(0, 120);
        await new Promise(requestAnimationFrame);
        took.push(performance.now() - last);
        last = performance.now();
    }
    return took.sort((one, other) => one - other)[Math.floor(took.length * 0.95)];
}"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One gallery: seconds to the first screen, milliseconds of a frame while it is scrolled, bytes at the end."""

    first_screen: float
    frame: float
    server: int
    page: int


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Measure with the browser of the tests.

    Raises:
        ContenderError: there is none, or the gallery does not start.
    """
    path = browser_path()
    if path is None:
        raise ContenderError("The gallery is measured in a browser, and there is none: install Chromium.")
    sizes = QUICK_SIZES if quick else SIZES

    async def measure() -> dict[int, list[Measured]]:
        found: dict[int, list[Measured]] = {size: [] for size in (FEW, *sizes)}
        async with chromium(path) as browser:
            for _ in range(repeats):
                for size, measured in found.items():
                    say(f"{size:,} images")
                    measured.append(await _measure(browser, size))
        return found

    found = asyncio.run(measure())
    small, large = sizes
    rows = [
        row(
            NAME, f"{size:,} images, first screen", "s", [one.first_screen for one in found[size]],
            [PROMISED_SECONDS] * repeats, baseline_name="the promise", at_most=1,
        )
        for size in sizes
    ]  # fmt: skip
    server = [_each(more.server - less.server, large - small) for more, less in _pairs(found[large], found[small])]
    page = [_each(more.page - less.page, large - small) for more, less in _pairs(found[large], found[small])]
    return [
        *rows,
        row(
            NAME, f"{large:,} images, a frame while scrolling", "ms", [one.frame for one in found[large]],
            [PROMISED_FRAME_MS] * repeats, baseline_name="the promise", at_most=1,
        ),
        row(
            NAME, f"each image from {small:,} to {large:,}, server", "bytes", server,
            [PROMISED_SERVER_BYTES] * repeats, baseline_name="the promise", at_most=1,
        ),
        row(
            NAME, f"each image from {small:,} to {large:,}, page", "bytes", page,
            [PROMISED_PAGE_BYTES] * repeats, baseline_name="the promise", at_most=1,
        ),
        row(
            NAME, f"{large:,} images, server", "MB", [one.server / 1e6 for one in found[large]],
            [one.server / 1e6 for one in found[FEW]], baseline_name=f"{FEW} images",
        ),
    ]  # fmt: skip


def _each(grown: int, images: int) -> float:
    """Bytes for each image; chance may make the smaller of two take more."""
    return max(0.0, grown / images)


def _pairs(many: list[Measured], few: list[Measured]) -> Iterator[tuple[Measured, Measured]]:
    return zip(many, few, strict=True)


async def _measure(browser: Browser, size: int) -> Measured:
    gate = asyncio.Event()
    async with listings(size, gate) as connection_string, _gallery(connection_string) as (process, address):
        context = await browser.new_context(viewport={"width": 1440, "height": 900})
        try:
            page = await context.new_page()
            await page.goto(address)
            await page.get_by_text("listing …").wait_for()
            began = perf_counter()
            gate.set()
            await page.locator(".tile:not(.blank)").first.wait_for()
            first_screen = perf_counter() - began
            await page.get_by_text(f"{size:,} images", exact=True).wait_for(timeout=PATIENCE_SECONDS * 1000)
            frame = float(await page.evaluate(FRAMES))
            await _scroll_to_the_end(page)
            session = await context.new_cdp_session(page)
            await session.send("HeapProfiler.collectGarbage")
            heap = int((await session.send("Runtime.getHeapUsage"))["usedSize"])
        finally:
            await context.close()
        return Measured(first_screen, frame, _peak(process), heap)


async def _scroll_to_the_end(page: Page) -> None:
    height = await page.evaluate("document.documentElement.scrollHeight")
    for part in range(1, 11):
        await page.evaluate("top => scrollTo(0, top)", height * part / 10)
        await page.wait_for_function("() => document.querySelector('.tile:not(.blank):not([hidden])')")


@asynccontextmanager
async def _gallery(connection_string: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "BLOBSIGHT_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blobsight", "gallery", "--no-browser", "--connection-string", connection_string),
        stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment,
    )  # fmt: skip
    try:
        address = (await process.stdout.readline()).decode().strip() if process.stdout else ""
        if not address:
            raise ContenderError("The gallery did not start.")
        yield psutil.Process(process.pid), address
    finally:
        process.terminate()
        await process.wait()


def _peak(process: psutil.Process) -> int:
    """The most memory that the process had, where the system says so; otherwise what it has now."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:  # noqa: PTH123 - not a file of ours
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return int(process.memory_info().rss)
