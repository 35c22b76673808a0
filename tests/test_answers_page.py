"""The page to send: one file, no server, nothing foreign in it."""

import asyncio
import json
import os
import re
from collections import deque
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browser import faults
from support.person import ROOT, Person
from support.pictures import picture
from support.terminal import blobsight

from blobsight.evaluate import page as evaluate_page
from blobsight.pages.one_file import policy, read_template
from blobsight.pictures.pictures import Picture
from blobsight.results import page as page_module
from blobsight.results.page import AnswersPage
from blobsight.terminal import Trouble
from localcloud.model import Answer

HOSTILE = "</script></article><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
NAME = "page/<b onclick=alert(1)> \"'& \u202egnp.\u2066.png"


async def fill(person: Person) -> None:
    person.scripts["page: hostile"] = deque([Answer(HOSTILE)])
    await asyncio.gather(
        person.drop("page/cat.png", picture(colour="orange"), {"instructions": "Which animal?"}),
        person.drop("page/notes.ps", b"%!PS-Adobe-3.0 words", {"instructions": "What is it?"}),
        person.drop(NAME, picture(), {"instructions": "page: hostile"}),
        person.drop("page/label.jpg", (ROOT / "samples" / "label.jpg").read_bytes(), {"instructions": "Upright?"}),
    )
    names = ("page/cat.png", "page/notes.ps", NAME, "page/label.jpg")
    await asyncio.gather(*(person.result(name) for name in names))


async def test_one_file_with_pictures_that_can_be_searched(person: Person, browser: Browser, tmp_path: Path) -> None:
    await fill(person)
    target = tmp_path / "answers.html"
    ran = await blobsight(person, "results", "page/", "-o", str(target))
    assert (ran.status, ran.talk) == (0, f"3 succeeded, 1 failed: {target}\n")
    assert os.listdir(tmp_path) == ["answers.html"]  # noqa: PTH208 - in an async test
    context = await browser.new_context(offline=True)
    try:
        page = await context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        await page.goto(target.as_uri())
        cards = page.locator("article:visible")
        await expect(cards).to_have_count(4)
        await expect(page.get_by_role("status")).to_have_text("4 of 4")
        await expect(page.locator("img")).to_have_count(3)
        loaded = "images => images.every((image) => image.complete && image.naturalWidth > 0)"
        assert await page.locator("img").evaluate_all(loaded)
        upright = page.locator("article", has_text="label.jpg").locator("img")
        assert await upright.evaluate("image => image.naturalWidth > image.naturalHeight")
        await expect(page.locator("article", has_text="hostile")).to_contain_text(HOSTILE)
        assert await page.title() == "answers"
        assert await page.locator("script").count() == 1
        await page.get_by_role("searchbox").fill("which ANIMAL")
        await expect(cards).to_have_count(1)
        await page.get_by_role("searchbox").fill("")
        await page.get_by_label("Status").select_option(label="unsupported_image (1)")
        await expect(cards).to_have_count(1)
        await expect(cards).to_contain_text("it seems to be a PostScript file")
        assert await faults(page) == []
        assert wrong == []
    finally:
        await context.close()


@pytest.mark.parametrize("path", [page_module.TEMPLATE, evaluate_page.TEMPLATE], ids=lambda path: path.stem)
def test_only_its_own_script_is_allowed(path: Path) -> None:
    template = read_template(path)
    assert len(re.findall("<script", template)) == 1
    assert not re.search(r"""\s(src|href|style|on\w+)\s*=""", template)
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; script-src 'sha256-[\w+/=]{44}'; img-src data:;"
        r" base-uri 'none'; form-action 'none'",
        policy(template),
    )


async def test_a_page_that_would_be_too_large_is_not_written(person: Person, tmp_path: Path) -> None:
    """In two steps: the bound is the class's, and the command leaves no file behind."""
    with (tmp_path / "spool").open("w+") as spool, (tmp_path / "cards").open("w+") as cards:
        export = AnswersPage(tmp_path / "x.html", spool, cards, "x")
        result = {"status": "succeeded", "source": {"name": "a.png"}, "answer": {"text": "x" * 1000}}
        big = Picture(b"\0" * 40_000_000, "image/webp")
        export._write(result, None)  # noqa: SLF001 - as `illustrate` does
        with pytest.raises(Trouble, match=r"more than 50 MB: 1 result fit.* Give a longer PREFIX"):
            export._write(result, big)  # noqa: SLF001 - likewise
    await person.drop("page-none/a.png", picture(), {"instructions": "x"})
    await person.result("page-none/a.png")
    ran = await blobsight(person, "results", "page-none/", "--failed", "-o", str(tmp_path / "none.html"))
    assert (ran.status, json.dumps(ran.talk)) == (0, json.dumps(f"0 failed: {tmp_path / 'none.html'}\n"))
