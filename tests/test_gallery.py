"""The gallery in a real browser, against the real local cloud: looking, and what is done there."""

import asyncio
import base64
import json
from collections import deque
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browser import Visit, place_in, visiting
from support.documents import pdf
from support.person import ROOT, Person
from support.pictures import picture

from localcloud.model import Answer
from localcloud.model.script import Refusal

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "items": {"type": "array", "items": {"type": "string"}}},
    "required": ["total", "items"],
}


async def fill(person: Person, prefix: str) -> None:
    """Two answers, a failure and a file that is not an image, in two folders."""
    await asyncio.gather(
        person.drop(f"{prefix}animals/cat.png", picture(colour="orange"), {"instructions": "Which animal?"}),
        person.drop(f"{prefix}animals/dog.png", picture(colour="brown"), {"instructions": "Which dog?"}),
        person.drop(f"{prefix}papers/notes.ps", b"%!PS-Adobe-3.0 words", {"instructions": "What is it?"}),
    )
    names = ("animals/cat.png", "animals/dog.png", "papers/notes.ps")
    await asyncio.gather(*(person.result(f"{prefix}{name}") for name in names))


async def test_the_overview_shows_filters_and_keeps_its_address(person: Person, browser: Browser) -> None:
    await fill(person, "g-look/")
    async with visiting(browser, place_in(person), "g-look/") as visit:
        page = visit.page
        cat = await visit.tile("cat.png")
        await expect(cat).to_contain_text("You asked: Which animal?")
        await expect(cat.locator("img.ready")).to_be_visible()
        await expect(await visit.tile("notes.ps")).to_contain_text("unsupported_image")
        await expect(page.get_by_role("status").first).to_have_text("3 images")
        await page.get_by_role("link", name="Failed 1 image").click()
        await expect(page.get_by_role("listitem").filter(has_text="notes.ps")).to_be_visible()
        await expect(page.get_by_text("cat.png")).to_have_count(0)
        assert page.url == f"{visit.site}/?state=failed"
        await page.reload()
        await expect(page.get_by_role("link", name="Failed 1 image")).to_have_attribute("aria-current", "true")
        await expect(page.get_by_text("cat.png")).to_have_count(0)
        await page.go_back()
        await visit.tile("cat.png")
        await page.get_by_role("link", name="unsupported_image 1 image").click()
        await expect(page.locator("#count")).to_have_text("1 image")
        await page.get_by_role("link", name="All 3 images").click()
        await page.locator("#folders").get_by_text("animals").click()
        await expect(page.locator("#count")).to_have_text("2 images")
        await expect(page.get_by_label("Folder", exact=True).get_by_text("animals")).to_be_visible()


async def test_search_in_names_and_answers_and_the_order(person: Person, browser: Browser) -> None:
    await fill(person, "g-search/")
    async with visiting(browser, place_in(person), "g-search/") as visit:
        page = visit.page
        search = page.get_by_role("searchbox")
        await visit.tile("cat.png")
        await search.fill("DOG.p")
        await expect(page.locator("#count")).to_have_text("1 image")
        await visit.tile("dog.png")
        await search.fill("which ANIMAL")  # of an answer that was shown
        await expect(page.locator("#count")).to_have_text("1 image")
        await visit.tile("cat.png")
        await search.fill("")
        await page.get_by_label("Sort").select_option("name")
        await expect(page.locator(".tile:visible .tile-name").first).to_have_text("cat.png")
        await page.get_by_label("Sort").select_option("name-down")
        await expect(page.locator(".tile:visible .tile-name").first).to_have_text("notes.ps")
        await page.get_by_label("Sort").select_option("most-tokens")
        await expect(page.locator(".tile:visible .tile-name").last).to_have_text("notes.ps")  # it has none


async def test_answers_that_were_not_shown_are_searched_once_they_are_read(person: Person, browser: Browser) -> None:
    await fill(person, "g-read/")
    async with visiting(browser, place_in(person), "g-read/") as visit:
        page = visit.page
        await page.goto(f"{visit.site}/?q=Which+dog")
        await expect(page.get_by_text("No image is like that")).to_be_visible()
        await page.get_by_role("button", name="Read all answers").click()
        await visit.tile("dog.png")
        await expect(page.locator("#count")).to_have_text("1 image")


async def test_new_images_and_their_answers_appear_by_themselves(person: Person, browser: Browser) -> None:
    await person.drop("g-live/first.png", picture(), {"instructions": "First?"})
    await person.result("g-live/first.png")
    async with visiting(browser, place_in(person), "g-live/") as visit:
        await visit.tile("first.png")
        await person.drop("g-live/second.png", picture(), {"instructions": "Second?"})
        await expect(await visit.tile("second.png")).to_contain_text("You asked: Second?")
        await expect(visit.page.locator("#count")).to_have_text("2 images")


SETTLED = """async (look) => {
    for (let seen = look(), frames = 0; ; frames += 1) {
        await new Promise(requestAnimationFrame);
        const now = look();
        if (now !== seen) [seen, frames] = [now, 0];
        if (seen && frames === 20) return seen;
    }
}"""
"""What a function sees once it has been the same for a third of a second: tiles are drawn as they come into sight."""


async def test_who_has_scrolled_down_goes_on_seeing_the_same(person: Person, browser: Browser) -> None:
    names = [f"g-hold/{number:02}.png" for number in range(36)]
    await asyncio.gather(*(person.drop(name, picture(), {"instructions": "Hold?"}) for name in names))
    await asyncio.gather(*map(person.result, names))
    async with visiting(browser, place_in(person), "g-hold/") as visit:
        page = visit.page
        await expect(page.locator("#count")).to_have_text("36 images")
        await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        names_in_sight = """() => {
            const tiles = [...document.querySelectorAll(".tile:not(.blank):not([hidden])")];
            const seen = tiles.filter((tile) => tile.getBoundingClientRect().top > 100);
            return seen.map((tile) => tile.querySelector(".tile-name").textContent).slice(0, 4).join();
        }"""
        before = await page.evaluate(f"({SETTLED})({names_in_sight})")
        new = [f"g-hold/new-{number}.png" for number in range(4)]  # a whole row
        await asyncio.gather(*(person.drop(name, picture(), {"instructions": "Hold?"}) for name in new))
        await asyncio.gather(*map(person.result, new))
        await expect(page.locator("#count")).to_have_text("40 images", timeout=20_000)
        await expect(page.get_by_role("link", name="Answered 40 images")).to_be_visible(timeout=20_000)
        await page.wait_for_function(f"before => ({names_in_sight})() === before", arg=before)


async def test_one_image_with_everything_about_it(person: Person, browser: Browser) -> None:
    person.scripts["g-one: read it"] = deque([Answer(json.dumps({"total": 18.4, "items": ["tea", "scone"]}))])
    await person.drop("g-one/bill.schema.json", json.dumps(SCHEMA).encode())
    label = (ROOT / "samples" / "label.jpg").read_bytes()  # lies on its side, and says so
    await person.drop("g-one/label.jpg", label, {"instructions": "g-one: read it", "schema": "g-one/bill"})
    await person.drop("g-one/note.ps", b"%!PS-Adobe-3.0 words")
    result = await person.result("g-one/label.jpg")
    await person.result("g-one/note.ps")
    assert result["status"] == "succeeded", result
    async with visiting(browser, place_in(person), "g-one/") as visit:
        page = visit.page
        await page.get_by_label("Sort").select_option("name")
        await visit.open("label.jpg")
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_text("g-one: read it", exact=True)).to_be_visible()
        await expect(dialog.get_by_text("from the blob's metadata (instructions)")).to_be_visible()
        await expect(dialog.get_by_role("row", name="total 18.4")).to_be_visible()
        await expect(dialog.get_by_role("cell", name="scone", exact=True)).to_be_visible()
        await expect(dialog.locator("#stage-image.ready")).to_be_visible()
        shape = await dialog.locator("#stage-image").evaluate("image => image.naturalWidth > image.naturalHeight")
        assert shape, "it is not upright"
        usage = result["usage"]
        await expect(
            dialog.get_by_text(f"{usage['input_tokens']:,} in, {usage['output_tokens']:,} out")
        ).to_be_visible()
        await dialog.get_by_text("Result as JSON").click()
        assert json.loads(await dialog.locator("#json").inner_text()) == result
        before = await dialog.locator("#stage-image").bounding_box()
        await dialog.get_by_role("button", name="Zoom in").click()
        await expect(dialog.locator("#stage-image")).not_to_have_attribute("style", "transform: scale(1)")
        await page.wait_for_function(
            "width => document.getElementById('stage-image').getBoundingClientRect().width > width * 1.3",
            arg=before["width"] if before else 0,
        )
        await page.keyboard.press("ArrowRight")
        await expect(dialog.get_by_role("heading", name="note.ps")).to_be_visible()
        await expect(dialog.get_by_role("heading", name="unsupported_image")).to_be_visible()
        await expect(dialog.locator("#error-message")).to_contain_text("it seems to be a PostScript file")
        await expect(dialog.locator("#no-picture")).to_contain_text("it seems to be a PostScript file")
        assert "image=g-one%2Fnote.ps" in page.url
        await page.reload()
        await expect(dialog.get_by_role("heading", name="note.ps")).to_be_visible()
        await page.keyboard.press("ArrowLeft")
        await expect(dialog.get_by_role("heading", name="label.jpg")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(page).to_have_url(f"{visit.site}/?sort=name")


async def test_the_pages_of_a_pdf_are_seen_one_by_one(person: Person, browser: Browser) -> None:
    await person.drop("g-pages/letter.pdf", pdf(["First", "Second"]), {"instructions": "Who writes?"})
    assert (await person.result("g-pages/letter.pdf"))["source"]["pages"] == 2
    async with visiting(browser, place_in(person), "g-pages/") as visit:
        page = visit.page
        await expect((await visit.tile("letter.pdf")).locator("img.ready")).to_be_visible()
        await visit.open("letter.pdf")
        await expect(page.locator("#page-place")).to_have_text("Page 1 of 2")
        await expect(page.locator("#stage-image.ready")).to_be_visible()
        await expect(page.get_by_role("button", name="Previous page")).to_be_disabled()
        first = await page.locator("#stage-image").get_attribute("src")
        await page.get_by_role("button", name="Next page").click()
        await expect(page.locator("#page-place")).to_have_text("Page 2 of 2")
        await expect(page.locator("#stage-image")).not_to_have_attribute("src", first or "")
        await expect(page.locator("#stage-image")).to_have_js_property("complete", value=True)
        assert await page.locator("#stage-image").evaluate("image => image.naturalHeight > image.naturalWidth")


async def test_all_of_it_by_keyboard(person: Person, browser: Browser) -> None:
    await fill(person, "g-keys/")
    async with visiting(browser, place_in(person), "g-keys/") as visit:
        page = visit.page
        await page.goto(f"{visit.site}/?sort=name")
        first = (await visit.tile("cat.png")).get_by_role("link")
        await first.focus()
        await page.keyboard.press("ArrowRight")
        await expect((await visit.tile("dog.png")).get_by_role("link")).to_be_focused()
        await page.keyboard.press("Space")
        await expect(page.get_by_text("1 selected")).to_be_visible()
        await page.keyboard.press("End")
        await expect((await visit.tile("notes.ps")).get_by_role("link")).to_be_focused()
        await page.keyboard.press("Control+a")
        await expect(page.get_by_text("3 selected")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#selection")).to_be_hidden()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog").get_by_role("heading", name="notes.ps")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect((await visit.tile("notes.ps")).get_by_role("link")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()


async def test_asking_something_else_shows_the_cost_first(person: Person, browser: Browser) -> None:
    await fill(person, "g-ask/")
    async with visiting(browser, place_in(person), "g-ask/animals/") as visit:
        page = visit.page
        for name in ("cat.png", "dog.png"):
            await (await visit.tile(name)).hover()
            await page.get_by_label(f"Select {name}").check()
        await page.get_by_role("button", name="Ask again").click()
        dialog = page.get_by_role("dialog")
        go = dialog.get_by_role("button", name="Ask about 2 images")
        await expect(go).to_be_disabled()
        await dialog.get_by_label("Question", exact=True).fill("g-ask: how old?")
        await expect(dialog.get_by_text("Cost: 2 images with")).to_be_visible()
        assert person.asked("g-ask: how old?") == []
        await go.click()
        await expect(page.get_by_text("2 images queued")).to_be_visible()
        await expect(await visit.tile("cat.png")).to_contain_text("You asked: g-ask: how old?")
        await expect(await visit.tile("dog.png")).to_contain_text("You asked: g-ask: how old?")
        await visit.open("dog.png")
        await expect(dialog.locator("#question-origin")).to_contain_text("Ask something else")
    assert len(person.asked("g-ask: how old?")) == 2


async def test_an_option_that_is_wrong_is_named_before_anything_is_queued(person: Person, browser: Browser) -> None:
    await fill(person, "g-wrong/")
    async with visiting(browser, place_in(person), "g-wrong/") as visit:
        await visit.open("cat.png")
        await visit.page.get_by_role("button", name="Ask something else").click()
        form = visit.page.locator("#ask")
        question = form.get_by_label("Question", exact=True)
        await expect(question).to_have_value("Which animal?")
        await question.fill("x" * 60_000)
        await expect(form.get_by_role("alert")).to_contain_text("The request for one image takes")
        await expect(form.get_by_role("button", name="Ask about 1 image")).to_be_disabled()


async def test_what_failed_is_run_again(person: Person, browser: Browser) -> None:
    question = "g-rerun: what is it?"
    person.scripts[question].extend([Refusal()])
    await person.drop("g-rerun/a.png", picture(), {"instructions": question})
    await person.drop("g-rerun/b.png", picture(), {"instructions": "g-rerun: fine"})
    assert (await person.result("g-rerun/a.png"))["status"] == "failed"
    await person.result("g-rerun/b.png")
    async with visiting(browser, place_in(person), "g-rerun/") as visit:
        page = visit.page
        await expect(await visit.tile("a.png")).to_contain_text("model_refused")
        await page.keyboard.press("Control+a")
        await page.get_by_role("button", name="Rerun failed").click()
        await expect(page.get_by_text("Cost: 1 image with")).to_be_visible()
        await page.get_by_role("button", name="Rerun", exact=True).click()
        await expect(await visit.tile("a.png")).to_contain_text(f"You asked: {question}")
    assert len(person.asked("g-rerun: fine")) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
async def test_the_selection_is_exported(person: Person, browser: Browser, kind: str, tmp_path: Path) -> None:
    await fill(person, "g-export/")
    async with visiting(browser, place_in(person), "g-export/") as visit:
        page = visit.page
        await visit.tile("cat.png")
        await page.get_by_role("link", name="Answered 2 images").click()
        await expect(page.locator("#count")).to_have_text("2 images")
        await page.keyboard.press("Control+a")
        if kind == "jsonl":  # all but one
            await page.get_by_label("Select dog.png").uncheck()
            await expect(page.get_by_text("1 selected")).to_be_visible()
        async with page.expect_download() as downloading:
            await page.get_by_label("Export as").select_option(kind)
        download = await downloading.value
        path = tmp_path / download.suggested_filename
        await download.save_as(path)
        await expect(page.get_by_text("exported.")).to_be_visible()
    assert path.name == f"answers.{kind}"
    data = path.read_bytes()
    assert (b"Which animal?" in data, b"Which dog?" in data) == (True, kind != "jsonl")
    assert b"notes.ps" not in data


async def drop(visit: Visit, files: dict[str, bytes]) -> None:
    """Drop files onto the page, as a browser hands them over."""
    await visit.page.evaluate(
        """async (files) => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of Object.entries(files)) {
                transfer.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
            }
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent(kind, options));
            }
        }""",
        {name: base64.b64encode(data).decode() for name, data in files.items()},
    )


async def test_files_that_are_dropped_are_added_as_upload_does(person: Person, browser: Browser) -> None:
    files = {"one.png": picture(), "two 中.png": picture(colour="red"), "words.txt": b"no image", "Thumbs.db.x": b"x"}
    async with visiting(browser, place_in(person), "g-drop/") as visit:
        page = visit.page
        await expect(page.get_by_text("There are no images yet")).to_be_visible()
        await drop(visit, files)
        form = page.locator("#upload")
        await expect(form.get_by_text("4 files, ")).to_be_visible()
        await form.get_by_label("Into the folder").fill("g-drop/new")
        await form.get_by_label("Question", exact=True).fill("g-drop: what is it?")
        await form.get_by_role("button", name="Add 4 files").click()
        await expect(form.get_by_text("words.txt: left out, not an image")).to_be_visible()
        await expect(form.get_by_text("2 files added", exact=True)).to_be_visible()
        await drop(visit, {"one.png": files["one.png"]})
        await form.get_by_role("button", name="Add 1 file").click()
        await expect(form.get_by_text("0 files added, 1 there already")).to_be_visible()
        await form.get_by_role("button", name="Close").click()
        await expect(await visit.tile("two 中.png")).to_contain_text("You asked: g-drop: what is it?")
    assert (await person.result("g-drop/new/one.png"))["instructions"]["origin"] == "metadata"
    assert len(person.asked("g-drop: what is it?")) == 2


async def test_a_folder_keeps_its_paths_and_its_mistakes_are_named(
    person: Person, browser: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "trip"
    (folder / "day 1").mkdir(parents=True)
    (folder / "day 1" / "beach.png").write_bytes(picture())
    (folder / "day 1" / "Thumbs.db").write_bytes(b"junk")
    (folder / "Instructions.txt").write_text("g-folder: where?", encoding="utf-8")
    async with visiting(browser, place_in(person)) as visit:
        form = visit.page.locator("#upload")
        await visit.page.get_by_role("button", name="Add images").click()
        await form.locator("#folder").set_input_files(folder)
        await form.get_by_label("Into the folder").fill("g-folder")
        await form.get_by_role("button", name="Add 3 files").click()
        report = form.locator("#upload-report")
        await expect(report).to_contain_text("trip/Instructions.txt nearly has the name of an instruction file")
        await expect(form.get_by_role("alert")).to_contain_text("Nothing was sent: rename 1 instruction file first")
        (folder / "Instructions.txt").rename(folder / "_Instructions.txt")
        await form.locator("#folder").set_input_files(folder)
        await form.get_by_role("button", name="Add 3 files").click()
        await expect(report).to_contain_text("_Instructions.txt is sent as '_instructions.txt', the name that counts.")
        await expect(report).to_contain_text("1 junk file left out: Thumbs.db")
    result = await person.result("g-folder/trip/day 1/beach.png")
    assert result["instructions"]["text"] == "g-folder: where?"


async def test_read_only_leaves_only_looking(person: Person, browser: Browser) -> None:
    await fill(person, "g-only/")
    async with visiting(browser, place_in(person), "g-only/", read_only=True) as visit:
        page = visit.page
        await visit.open("cat.png")
        for name in ("Ask something else", "Rerun", "Add images"):
            await expect(page.get_by_role("button", name=name)).to_have_count(0)
        assert await page.locator(".pick").count() == 0
        for path in ("ask", "cost", "uploads", "exports"):
            answer = await page.evaluate(
                "path => fetch(`/api/${path}`, { method: 'POST', body: '{}' }).then((answer) => answer.status)", path
            )
            assert answer in (404, 405), path
