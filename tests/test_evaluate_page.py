"""The page of an evaluation: one file, which loads nothing, and says what the scores say."""

import copy
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from support.browser import faults
from support.pictures import picture

from blobsight.evaluate import page as page_module
from blobsight.evaluate.cards import Cards
from blobsight.evaluate.overview import Asked
from blobsight.evaluate.page import About, write_page
from blobsight.evaluate.rows import rows_of
from blobsight.evaluate.scores import Evaluation, Given, disagreement, evaluate
from blobsight.evaluate.words import EXPECTED
from blobsight.pictures.pictures import NoPictureError, Picture

HOSTILE = "</script></td><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {cards}"
WHEN = datetime(2026, 11, 27, 12, tzinfo=UTC)
CHEAP, DEAR, ODD = "mini, low", "large, high", "<b onclick=alert(1)> \"'& \u202egnp"
TRUTH: Mapping[str, Any] = {
    "vendor": "Lumen Coffee",
    "total": 245,
    "lines": [{"text": "Flat white", "amount": 104}, {"text": "Orange juice", "amount": 37}],
}
NAMES = ("receipts/a.jpg", "receipts/b.jpg", "receipts/c.jpg", f"receipts/{ODD}.jpg")


def changed(**changes: Any) -> Given:
    return Given({**copy.deepcopy(TRUTH), **changes})


def evaluated() -> Evaluation:
    """Of `c` all is right; `b` failed once; in `a` an amount is wrong, a line is missing, another invented."""
    lines = [{"text": "Flat white", "amount": 140}, {"text": "Thank you for your visit", "amount": 0}]
    right = dict.fromkeys(NAMES, changed())
    cheap = {
        NAMES[0]: changed(lines=lines, total=None),
        NAMES[1]: Given(None, f"content_filtered: {HOSTILE}"),
        NAMES[3]: changed(vendor=HOSTILE),
    }
    return evaluate(
        dict.fromkeys(NAMES, TRUTH), {CHEAP: right | cheap, DEAR: right | {NAMES[0]: changed(total=24.5)}, ODD: right}
    )


def about(**others: Any) -> About:
    asked = [
        Asked(CHEAP, HOSTILE, {"detail": "low", "schema": {"title": HOSTILE}}, (1180, 160), 0.6123, 2.44),
        Asked(DEAR, HOSTILE, {"detail": "high", "schema": {"title": HOSTILE}}),
        Asked(ODD, None, {}),
    ]
    return About(**{"title": f"receipts {HOSTILE}", "made_at": WHEN, "asked": asked, **others})


async def thumbnail(name: str) -> Picture:
    if name == NAMES[2]:
        raise NoPictureError("It can't be shown.")
    return Picture(picture(), "image/png")


@asynccontextmanager
async def opened(browser: Browser, path: Path) -> AsyncIterator[Page]:
    """The page in a browser without a network. At the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    context = await browser.new_context(offline=True, viewport={"width": 1280, "height": 800})
    try:
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        await page.goto(path.as_uri())
        yield page
        assert wrong == []
    finally:
        await context.close()


async def test_what_strangers_wrote_stays_text_and_images_are_found(browser: Browser, tmp_path: Path) -> None:
    target = tmp_path / "receipts.html"
    seen: list[None] = []
    await write_page(target, evaluated(), about(), thumbnail, lambda: seen.append(None))
    assert (os.listdir(tmp_path), len(seen)) == (["receipts.html"], 4)  # noqa: PTH208 - in an async test
    async with opened(browser, target) as page:
        await expect(page.locator("script")).to_have_count(1)
        await expect(page.locator("article img")).to_have_count(3)
        assert (await page.title()).startswith("receipts </script>")
        await expect(page.locator(".boxes h3").last).to_have_text("<b onclick=alert(1)> \"'& \\u202egnp")
        scores = page.locator(".scores tbody", has=page.get_by_role("rowheader", name="total number")).locator("tr")
        numbers = ["50.0 %", "6.8 – 93.2 %", "2", "0", "2", "0", "4"]  # noqa: RUF001 - a range
        await expect(scores.first.locator("td")).to_have_text(numbers)
        await expect(page.get_by_text("0 of 15 comparisons tell two variants apart")).to_be_visible()
        await expect(page.locator(".boxes .box").first).to_contain_text("for 1,000 images$0.61")
        names = await page.locator("article h3").all_text_contents()
        assert names == [NAMES[1], NAMES[0], NAMES[3].replace("\u202e", "\\u202e"), NAMES[2]], "the worst first"
        assert await faults(page) == []

        cards, status = page.locator("article:visible"), page.get_by_role("status")
        await expect(status).to_have_text("4 of 4")
        await page.get_by_label("Only wrong").check()
        await expect(status).to_have_text("3 of 4")
        await page.get_by_label("Field").select_option(label="total")
        await expect(cards.locator("h3")).to_have_text([NAMES[1], NAMES[0]])
        rows = cards.locator("tbody tr:visible")
        await expect(rows.locator("th")).to_have_text(["total", "total"])
        await page.get_by_label("Variant").select_option(label=DEAR)
        await expect(cards.locator("h3")).to_have_text([NAMES[0]])
        await expect(rows.locator("td:visible")).to_have_text(["245", "24.5 ✗ wrong: off by 220.5"])
        await page.get_by_label("Only wrong").uncheck()
        await expect(rows).to_have_count(4)
        await page.get_by_role("searchbox").fill("DOCUMENT.title='owned'")
        await expect(status).to_have_text("2 of 4")


async def test_the_page_is_never_wider_than_the_screen(browser: Browser, tmp_path: Path) -> None:
    long = {letter: letter * 300 for letter in "abnxyz"}
    answer = {long["x"]: long["y"], "list": [{long["x"]: long["y"]}]}
    given = {long["a"]: {long["n"]: Given(answer)}, long["b"]: {long["n"]: Given({long["x"]: long["z"]})}}
    asked = [Asked(label, long["y"], {label: label}) for label in given]
    await write_page(tmp_path / "page.html", evaluate({long["n"]: answer}, given), about(asked=asked), thumbnail)
    async with opened(browser, tmp_path / "page.html") as page:
        await page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
        for width in (360, 700, 960, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") == width
        await page.set_viewport_size({"width": 360, "height": 800})
        assert await faults(page) == []


async def test_a_second_opinion_knows_no_right_and_wrong(browser: Browser, tmp_path: Path) -> None:
    first = {name: changed() for name in NAMES}
    second = first | {NAMES[0]: changed(total=None, vendor="A shop"), NAMES[1]: changed(lines=[])}
    found = disagreement((CHEAP, first), (DEAR, second))
    said = about(asked=about().asked[:2], title="Second opinion", is_second_opinion=True)
    await write_page(tmp_path / "page.html", found, said, thumbnail)
    async with opened(browser, tmp_path / "page.html") as page:
        text = (await page.locator("body").inner_text()).lower()
        for word in ("agreement by field", "only mini, low", "∅ has none", "≠ differs", "values in agreement"):
            assert word in text, word
        for word in ("expected", "right", "wrong", "missing", "invented"):
            assert word not in text.replace(HOSTILE.lower(), ""), word
        await page.get_by_label("Only where they differ").check()
        await expect(page.get_by_role("status")).to_have_text("2 of 4")


async def test_images_that_find_no_room_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_BYTES", 70_000)
    asked_for: list[str] = []

    async def large(name: str) -> Picture:
        asked_for.append(name)
        return Picture(b"\0" * 15_000, "image/webp")

    target = tmp_path / "page.html"
    await write_page(target, evaluated(), about(asked=()), large)
    text = target.read_text(encoding="utf-8")
    assert text.count("<article") == 1
    assert f">{NAMES[1]}</h3>" in text
    assert "The page has room for 1 of 4 images. Of the 3 left out, something is wrong in 2." in text
    assert target.stat().st_size <= 70_000


async def test_a_page_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("before", encoding="utf-8")

    async def broken(_: str) -> Picture:
        raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        await write_page(target, evaluated(), about(), broken)
    assert os.listdir(tmp_path) == ["page.html"]  # noqa: PTH208 - in an async test
    assert target.read_text(encoding="utf-8") == "before"


def test_variants_share_a_row_where_the_same_is_expected_or_invented() -> None:
    invented = {"text": "Total", "amount": 1}
    gave = {CHEAP: [*TRUTH["lines"], invented], DEAR: [invented, TRUTH["lines"][1]]}
    found = evaluate({"a": TRUTH}, {label: {"a": changed(lines=lines)} for label, lines in gave.items()})
    rows = [(row.field.name, row.expected, {label: cell.value.given for label, cell in row.cells.items()})
            for row in rows_of(found, "a") if row.field.name == "lines"]  # fmt: skip
    white, juice = TRUTH["lines"]
    assert rows == [
        ("lines", white, {CHEAP: white, DEAR: None}),
        ("lines", juice, {CHEAP: juice, DEAR: juice}),
        ("lines", None, {CHEAP: invented, DEAR: invented}),
    ]


def test_one_answer_does_not_fill_the_page() -> None:
    endless = {f"key {number}": "x" * 100 for number in range(100_000)}
    expected = {"a.jpg": {"total": 1, "lines": [{"text": "Milk"}]}}
    given = {"a.jpg": Given({"total": list(range(1_000_000)), "lines": [endless]})}
    found = evaluate(expected, {"one": given})
    card = Cards(found, EXPECTED).card("a.jpg", None)
    assert "… and 99,800 more." in card
    assert len(card) < 100_000
