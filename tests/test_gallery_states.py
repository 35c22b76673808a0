"""The gallery with very many images, with none, without access, in any language, and for everybody."""

import asyncio
import base64
import json
from collections import deque
from io import BytesIO
from typing import Any

import pytest
from azure.storage.blob.aio import BlobServiceClient
from playwright.async_api import Browser, expect
from support.batch_shop import batch_shop
from support.browser import Visit, faults, gallery, place_in, place_of, visiting
from support.guarded_storage import answering, guarded
from support.listings import Listings
from support.person import Person
from support.pictures import picture

from blobsight.gallery.watching import Watching
from localcloud.certificates import Certificates
from localcloud.model import Answer
from localcloud.model.script import Refusal

MANY = 10_000


async def test_ten_thousand_images_are_scrolled_to_the_end(person: Person, browser: Browser) -> None:
    listings = Listings(MANY)
    async with (
        answering(person, listings) as connection,
        visiting(browser, place_of(connection)) as visit,
    ):
        page = visit.page
        await page.goto(f"{visit.site}/?sort=name")
        await expect(page.locator("#count")).to_have_text("10,000 images", timeout=30_000)
        await expect(page.locator(".tile-name").first).to_have_text("IMG_000000.jpg")
        most = 0
        height = await page.evaluate("document.documentElement.scrollHeight")
        for part in range(1, 41):
            await page.evaluate("top => scrollTo(0, top)", height * part / 40)
            await page.wait_for_function(
                "() => document.querySelectorAll('.tile:not(.blank):not([hidden])').length > 0"
            )
            most = max(most, await page.locator(".tile").count())
        await expect(page.locator(".tile:visible .tile-name").last).to_have_text("IMG_009999.jpg")
        last = page.get_by_role("listitem").filter(has_text="IMG_009999.jpg")
        await expect(last).to_have_attribute("aria-posinset", "10000")
        assert most <= 150, "rows out of sight stay in the page"
        # Nothing was read but what was in sight for a moment.
        assert await page.evaluate("performance.getEntriesByType('resource').length") < 3000


async def test_the_first_page_of_the_listing_is_shown_before_the_rest_is_listed(
    person: Person, browser: Browser
) -> None:
    listings = Listings(MANY, gate=asyncio.Event())
    async with answering(person, listings) as connection, visiting(browser, place_of(connection)) as visit:
        await expect(visit.page.locator(".tile:not(.blank)").first).to_be_visible()
        await expect(visit.page.locator("#count")).to_have_text("5,000 images, listing …")
        assert listings.gate
        listings.gate.set()
        await expect(visit.page.locator("#count")).to_have_text("10,000 images")


async def test_a_pass_costs_two_listings_for_each_five_thousand_and_none_while_nobody_looks(person: Person) -> None:
    listings = Listings(MANY)
    async with answering(person, listings) as connection, place_of(connection).opened(sign_in=False) as account:
        watching = Watching(account, "", pause=0.01)
        running = asyncio.create_task(watching.run())
        try:
            async with asyncio.timeout(60):
                async with watching.looking():
                    await watching.change_after(watching.version)  # it has begun
                    while watching.is_listing:
                        await asyncio.sleep(0.01)
                    assert listings.asked == 4
                while not watching.is_resting:
                    await asyncio.sleep(0.01)
                before = listings.asked
                assert before % 4 == 0
                async with watching.looking():
                    while listings.asked == before:
                        await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_empty_container_says_what_to_do(person: Person, browser: Browser) -> None:
    async with visiting(browser, place_in(person), "g-empty/") as visit:
        await expect(visit.page.get_by_role("heading", name="There are no images yet")).to_be_visible()
        await expect(visit.page.get_by_text("Drop images here, or press “Add images”.")).to_be_visible()
        assert await faults(visit.page) == []


async def test_without_access_a_sentence_names_the_role(person: Person, browser: Browser) -> None:
    is_refused = True
    async with (
        guarded(person, lambda _, path: is_refused and "comp=list" in path) as connection,
        visiting(browser, place_of(connection), "g-refused/") as visit,
    ):
        alert = visit.page.get_by_role("alert").filter(has_text="Storage Blob Data Contributor")
        await expect(alert).to_be_visible()
        await expect(alert.get_by_role("button", name="Try again")).to_be_visible()
        is_refused = False
        await expect(alert).to_be_hidden(timeout=60_000)


async def test_images_in_batches_are_told_from_those_that_just_wait(
    person: Person, certificates: Certificates, browser: Browser
) -> None:
    async with batch_shop(person, certificates) as shop:
        await shop.shop.deliveries().handle(await shop.drop("batched.png"))
        await shop.drop("just-dropped.png")
        place = place_of(person.cloud.front.connection_string, "shop-images", "shop-results", "shop-state")
        async with visiting(browser, place) as visit:
            page = visit.page
            await expect(await visit.tile("just-dropped.png")).to_contain_text("Waiting for its answer")
            await page.get_by_role("link", name="In a batch 1 image").click()
            await expect(page.locator("#count")).to_have_text("1 image")
            await expect(await visit.tile("batched.png")).to_contain_text("Waiting for a batch")
            assert await faults(page) == []
            await visit.open("batched.png")
            dialog = page.get_by_role("dialog")
            await expect(dialog.locator("#detail-state")).to_have_text("In a batch")
            await expect(dialog).to_contain_text("It waits for a batch to be answered, since ")
            for request in await shop.round():
                await shop.shop.deliveries().handle(request)
            await page.goto(f"{visit.site}/")
            await visit.open("batched.png")
            await expect(dialog).to_contain_text("service tier batch")
            await expect(page.get_by_role("link", name="In a batch")).to_have_count(0)


async def test_an_expired_sign_in_names_az_login(person: Person, browser: Browser) -> None:
    expired = (401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired.")
    async with (
        guarded(person, lambda _, path: "comp=list" in path, expired) as connection,
        visiting(browser, place_of(connection), "g-expired/") as visit,
    ):
        await expect(visit.page.get_by_role("alert").filter(has_text="az login")).to_be_visible()


async def test_a_missing_container_is_named(person: Person, browser: Browser) -> None:
    place = place_of(person.cloud.front.connection_string, images="no-such-images")
    async with visiting(browser, place) as visit:
        await expect(visit.page.get_by_role("alert").filter(has_text="no container 'no-such-images'")).to_be_visible()


async def test_entries_that_make_no_sense_are_named(person: Person, browser: Browser) -> None:
    listings = Listings(3, name=lambda _, number: f"f/{number}.png" if number else "../x")
    async with answering(person, listings) as connection, visiting(browser, place_of(connection)) as visit:
        await expect(visit.page.locator("#count")).to_have_text("2 images")
        await visit.page.get_by_text("2 entries of the listings are left out").click()
        await expect(visit.page.locator("#odd")).to_contain_text("../x: it is left out: no blob can have this name")


async def test_an_image_that_is_not_there_says_so_and_offers_nothing_to_do(person: Person, browser: Browser) -> None:
    """As from a bookmark of an image that was deleted."""
    await person.drop("g-gone/there.png", picture(), {"instructions": "x"})
    async with visiting(browser, place_in(person), "g-gone/") as visit:
        dialog = visit.page.get_by_role("dialog")
        await visit.page.goto(f"{visit.site}/?image=g-gone%2Fgone.png")
        await expect(dialog.locator("#detail-trouble")).to_contain_text("There is no image 'g-gone/gone.png'")
        for part in ("#ask-this", "#rerun-this", "#download", "#zoom-in", "#detail-state"):
            await expect(dialog.locator(part)).to_be_hidden()
        await dialog.get_by_role("button", name="Close").click()
        await visit.open("there.png")
        await expect(dialog.get_by_role("link", name="Download the image")).to_be_visible()


async def test_an_account_that_cannot_be_reached_is_named(browser: Browser) -> None:
    nobody = "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a"
    async with visiting(browser, place_of(nobody)) as visit:
        alert = visit.page.get_by_role("alert").filter(has_text="can't be reached")
        await expect(alert).to_contain_text("Is `make up` running?")


async def test_a_gallery_that_was_stopped_is_noticed(person: Person, browser: Browser) -> None:
    context = await browser.new_context()
    try:
        page = await context.new_page()
        async with gallery(place_in(person), "g-stopped/") as (_, address):
            await page.goto(address)
            await expect(page.get_by_text("There are no images yet")).to_be_visible()
        await expect(page.get_by_role("alert")).to_contain_text("Start `blobsight gallery` again")
    finally:
        await context.close()


TEXTS = {
    "g-texts/日本語の看板.png": "この看板の営業時間は午前九時から午後六時までです。",
    "g-texts/قائمة.png": "القائمة تحتوي على القهوة والشاي.",
    "g-texts/🦊 fox 🏔️.png": "A fox. 🦊 " + "A very long word: " + "x" * 300,
}


async def put_texts(person: Person) -> None:
    for name, text in TEXTS.items():
        person.scripts[f"say {name}"] = deque([Answer(text)])
        await person.drop(name, picture(), {"instructions_b64": b64(f"say {name}")})
        assert (await person.result(name))["answer"]["text"] == text


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("width", [1440, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_any_language_fits_and_everybody_can_use_it(
    person: Person, browser: Browser, width: int, scheme: str
) -> None:
    if not await person.result_names("g-texts/"):
        await put_texts(person)
    person.scripts["g-texts: no"].extend([Refusal()])
    etag = await person.drop("g-texts/refused.png", picture(), {"instructions": "g-texts: no"})
    await person.result("g-texts/refused.png", etag=etag)
    options: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    async with visiting(browser, place_in(person), "g-texts/", **options) as visit:
        page = visit.page
        await expect(await visit.tile("قائمة.png")).to_contain_text("القائمة تحتوي")
        await expect(page.locator(".tile img.ready")).to_have_count(4)
        assert await faults(page) == []
        await expect_no_overflow(visit)
        for name in ("قائمة.png", "🦊 fox 🏔️.png", "refused.png"):
            await visit.open(name)
            await expect(page.locator("#stage-image.ready")).to_be_visible()
            await expect(page.locator("#facts")).to_contain_text("ETag")
            assert await faults(page) == [], name
            await expect_no_overflow(visit)
            if name == "قائمة.png":
                direction = "element => getComputedStyle(element).direction"
                assert await page.locator("#answer-text").evaluate(direction) == "rtl"
            await page.keyboard.press("Escape")
        await visit.open("refused.png")
        await page.get_by_role("button", name="Ask something else").click()
        await expect(page.get_by_text("Cost: 1 image with")).to_be_visible()
        assert await faults(page) == []
        await page.get_by_role("button", name="Cancel").click()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Add images").click()
        assert await faults(page) == []


async def expect_no_overflow(visit: Visit) -> None:
    """Nothing is wider than the window, nor than the panel beside the image."""
    for element in ("document.documentElement", "document.getElementById('panel')"):
        assert not await visit.page.evaluate(f"{element}.scrollWidth > {element}.clientWidth"), element


async def test_a_wide_table_scrolls_in_its_own_place(person: Person, browser: Browser) -> None:
    columns = [f"a column of number {n}" for n in range(8)]
    properties = {column: {"type": "string"} for column in columns}
    schema = {"type": "object", "properties": properties, "required": columns}
    asked = {
        "instructions": "Wide?",
        "schema": {"type": "object", "properties": {"lines": {"type": "array", "items": schema}}},
    }
    person.scripts["Wide?"].append(Answer(json.dumps({"lines": [dict.fromkeys(columns, "x")]})))
    await person.drop("g-wide/a.png.instructions.json", json.dumps(asked).encode())
    await person.drop("g-wide/a.png", picture())
    assert (await person.result("g-wide/a.png"))["status"] == "succeeded"
    async with visiting(browser, place_in(person), "g-wide/", viewport={"width": 400, "height": 900}) as visit:
        await visit.open("a.png")
        await expect(visit.page.locator("#panel .data table").first).to_be_visible()
        await expect_no_overflow(visit)


async def test_nothing_moves_while_pictures_and_answers_arrive(person: Person, browser: Browser) -> None:
    names = [f"g-still/{number}.png" for number in range(8)]
    await asyncio.gather(*(person.drop(name, picture(), {"instructions": "Still?"}) for name in names))
    await asyncio.gather(*map(person.result, names))
    async with visiting(browser, place_in(person), "g-still/") as visit:
        page = visit.page
        await page.add_init_script(
            "window.shift = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
            " if (!one.hadRecentInput) window.shift += one.value; }).observe({ type: 'layout-shift', buffered: true });"
        )
        await page.reload()
        await expect(page.locator(".tile img.ready")).to_have_count(8)
        await expect(page.get_by_text("You asked: Still?")).to_have_count(8)
        assert await page.evaluate("window.shift") < 0.05


async def test_a_result_that_cannot_be_read_is_named_beside_its_image(person: Person, browser: Browser) -> None:
    await person.drop("g-bad/a.png", picture(), {"instructions": "x"})
    await person.result("g-bad/a.png")
    async with BlobServiceClient.from_connection_string(person.cloud.front.connection_string) as blobs:
        blob = blobs.get_blob_client("results", "g-bad/a.png.json")
        metadata = (await blob.get_blob_properties()).metadata
        await blob.upload_blob(BytesIO(b"not JSON"), overwrite=True, metadata=metadata)
    async with visiting(browser, place_in(person), "g-bad/") as visit:
        await expect(await visit.tile("a.png")).to_contain_text("The result can't be shown: it is not valid JSON")
        await visit.open("a.png")
        await expect(visit.page.get_by_role("dialog")).to_contain_text("it is not valid JSON")
    # Other tests' commands read results for their estimates, and would name this one.
    await person.blobs.get_blob_client("results", "g-bad/a.png.json").delete_blob()


async def test_old_results_without_tokens_sort_last(person: Person, browser: Browser) -> None:
    for name, tokens in (("old.png", None), ("few.png", 3), ("many.png", 300)):
        etag = await person.drop(f"g-old/{name}", picture(), {"instructions": "x"})
        result = await person.result(f"g-old/{name}", etag=etag)
        metadata = {"status": "succeeded", "sourceetag": etag}
        metadata |= {"inputtokens": str(tokens)} if tokens else {}
        client = person.blobs.get_blob_client("results", f"g-old/{name}.json")
        await client.upload_blob(BytesIO(json.dumps(result).encode()), overwrite=True, metadata=metadata)
    async with visiting(browser, place_in(person), "g-old/") as visit:
        for sort, order in (
            ("most-tokens", ["many.png", "few.png", "old.png"]),
            ("fewest-tokens", ["few.png", "many.png", "old.png"]),
        ):
            await visit.page.goto(f"{visit.site}/?sort={sort}")
            await expect(visit.page.locator(".tile:visible .tile-name")).to_have_text(order)
