"""A real browser, for benchmarks, tests and pictures: the one that tools/setup.sh unpacks, or the system's."""

import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from bench.measure import ROOT

UNPACKED = ROOT / "tests" / "browser" / "node_modules" / ".browser"
INSTALLED = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
IS_PROVIDED = (platform.system(), platform.machine()) == ("Linux", "x86_64")
"""Whether tools/setup.sh installs a browser here: its package is for Linux on x86-64 only."""


def browser_path() -> Path | None:
    """The browser's program; None if there is none."""
    own = UNPACKED / "chromium"
    if own.exists():
        return own
    found = next(filter(None, map(shutil.which, INSTALLED)), None)
    return Path(found) if found else None


@asynccontextmanager
async def chromium(path: Path) -> AsyncIterator[Browser]:
    """Run the browser at `path`, with an empty profile, while the context is open."""
    libraries = {"LD_LIBRARY_PATH": str(UNPACKED / "lib")} if path.is_relative_to(UNPACKED) else {}
    environment: dict[str, str | float | bool] = {**os.environ, **libraries}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(QUIET), env=environment)
        try:
            yield browser
        finally:
            await browser.close()
