"""A real browser, and somebody who looks at the gallery with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page

from blobsight.account import Account, Place
from blobsight.gallery.server import serving
from support.person import ROOT, Person

AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
HARMLESS = ("Failed to load resource",)
"""What the browser says of a picture that can't be shown."""


@dataclass
class Visit:
    """A page, and everything that went wrong in it."""

    page: Page
    address: str
    """The one with the secret."""
    context: BrowserContext
    wrong: list[str] = field(default_factory=list)

    @property
    def site(self) -> str:
        return self.address.partition("/open/")[0]

    def hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(HARMLESS):
            self.wrong.append(message.text)

    async def tile(self, name: str) -> Any:
        """The tile of an image, by the end of its name, once it is there."""
        tile = self.page.get_by_role("listitem").filter(has=self.page.get_by_text(name, exact=True))
        await tile.wait_for()
        return tile

    async def open(self, name: str) -> None:
        """Open an image."""
        await (await self.tile(name)).get_by_role("link").click()
        await self.page.get_by_role("dialog").get_by_role("heading", name=name, exact=True).wait_for()


def place_of(
    connection_string: str, images: str = "images", results: str = "results", state: str = "pipeline-state"
) -> Place:
    return Place(
        account=None,
        connection_string=connection_string,
        queue_endpoint=None,
        images=images,
        results=results,
        state=state,
        requests="analysis-requests",
    )


def place_in(person: Person) -> Place:
    return place_of(person.cloud.front.connection_string)


@asynccontextmanager
async def gallery(place: Place, prefix: str = "", *, read_only: bool = False) -> AsyncIterator[tuple[Account, str]]:
    """A gallery in this process, on any free port: its account, and its address."""
    async with (
        place.opened(sign_in=False) as account,
        serving(account, prefix, ports=[0], read_only=read_only) as guard,
    ):
        yield account, guard.address


@asynccontextmanager
async def visiting(
    browser: Browser, place: Place, prefix: str = "", *, read_only: bool = False, **options: Any
) -> AsyncIterator[Visit]:
    """Somebody at a gallery of their own. At the end nothing may have gone wrong in the page."""
    options = {"viewport": {"width": 1440, "height": 900}} | options
    async with gallery(place, prefix, read_only=read_only) as (_, address):
        context = await browser.new_context(**options)
        context.set_default_timeout(20_000)
        page = await context.new_page()
        visit = Visit(page, address, context)
        page.on("console", visit.hear)
        page.on("pageerror", lambda error: visit.wrong.append(str(error)))
        page.on("dialog", lambda dialog: visit.wrong.append(f"a dialog: {dialog.message}"))
        try:
            await page.goto(address)
            await page.wait_for_url(f"{visit.site}/")
            yield visit
            assert visit.wrong == []
        finally:
            await context.close()


async def faults(page: Page) -> list[str]:
    """The accessibility faults of a page that are serious or critical, by axe-core."""
    # Into a world of its own: the page's policy lets no such script in.
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Page.getFrameTree")
    world = await session.send(
        "Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "axe"}
    )
    axe = AXE.read_text(encoding="utf-8")
    where = {"contextId": world["executionContextId"], "awaitPromise": True, "returnByValue": True}
    await session.send("Runtime.evaluate", {"expression": f"{axe}; 0", **where})
    ran = await session.send("Runtime.evaluate", {"expression": "axe.run({resultTypes: ['violations']})", **where})
    assert "exceptionDetails" not in ran, ran["exceptionDetails"]
    return [
        f"{found['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for found in ran["result"]["value"]["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
