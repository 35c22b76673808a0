"""Who may talk to the gallery, and what hostile names, answers and files can do there: nothing."""

import asyncio
import json
import signal
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect
from support.browser import gallery, place_in, visiting
from support.person import Person
from support.pictures import picture
from support.terminal import blobsight, started
from yarl import URL

from blobsight.gallery.doing import MOST_STAGES
from blobsight.gallery.guard import SECURITY_HEADERS
from blobsight.gallery.server import serving
from blobsight.gallery.staging import Stage
from localcloud.model import Answer

ESCAPES = "\x1b[31mred\x1b]0;title\x07\u202eesrever\u2066"
MARKUP = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><a href='javascript:1'>x</a>"
)
ANSWER = f"{MARKUP} {ESCAPES} {{{{7*7}}}} ${{7*7}}"
NAME = "g-evil/<img src=x onerror=document.title='owned'> & \u202egnp.\u2066 \"'`{{x}}.png"


@asynccontextmanager
async def entered(person: Person) -> AsyncIterator[tuple[aiohttp.ClientSession, str, str]]:
    """A client that has the cookie: with it, the site's address and the one with the secret."""
    async with (
        gallery(place_in(person), "g-guard/") as (_, address),
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        async with http.get(address) as answer:
            assert answer.status == 200
        yield http, address.partition("/open/")[0], address


async def test_the_address_lets_in_and_becomes_a_strict_cookie(person: Person) -> None:
    async with gallery(place_in(person)) as (_, address), aiohttp.ClientSession() as http, http.get(address) as answer:
        (cookie,) = answer.headers.getall("Set-Cookie")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        secret = address.rpartition("/")[2]
        assert len(secret) >= 43  # 32 random bytes
        assert secret not in await answer.text()
        assert urlsplit(address).hostname == "127.0.0.1"


async def test_an_address_for_a_browsers_command_line_lets_in_once(person: Person) -> None:
    async with (
        place_in(person).opened(sign_in=False) as account,
        serving(account, "", ports=[0], read_only=True) as guard,
        aiohttp.ClientSession() as http,
    ):
        once = guard.address_once()
        assert once != guard.address
        statuses = []
        for _ in range(2):
            async with http.get(once) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 401]


async def test_a_link_on_another_site_still_opens_it(person: Person, browser: Browser) -> None:
    """As in a web mail or a terminal in the browser: the person clicked."""
    async with gallery(place_in(person), "g-link/") as (_, address):
        context = await browser.new_context()
        try:
            page = await context.new_page()
            await page.goto("data:text/html,<a id=x>go</a>")
            await page.evaluate("address => { document.getElementById('x').href = address }", address)
            await page.locator("#x").click()
            await expect(page.get_by_role("heading", name="There are no images yet")).to_be_visible()
            assert page.url == f"{address.partition('/open/')[0]}/"
        finally:
            await context.close()


@pytest.mark.parametrize("path", ["/", "/api/session", "/api/images", "/static/js/main.js", "/thumbnail?name=a.png"])
async def test_without_it_nothing_is_shown(person: Person, path: str) -> None:
    async with gallery(place_in(person)) as (_, address), aiohttp.ClientSession() as http:
        site = address.partition("/open/")[0]
        for cookies in ({}, {f"blobsight-{urlsplit(address).port}": "guess"}):
            async with http.get(site + path, cookies=cookies) as answer:
                assert answer.status == 401
                assert "blobsight gallery" in await answer.text()
        async with http.get(f"{site}/open/guess") as answer:
            assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example"])
async def test_a_foreign_name_for_this_machine_is_refused(person: Person, host: str) -> None:
    """As after a DNS answer that was changed to 127.0.0.1: the cookie may even go along."""
    async with entered(person) as (http, site, address):
        for url in (f"{site}/api/session", address):
            async with http.get(url, headers={"Host": host}) as answer:
                assert answer.status == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_another_sites_request_is_refused_even_with_the_cookie(person: Person, headers: dict[str, str]) -> None:
    async with entered(person) as (http, site, _):
        async with http.get(f"{site}/api/session") as answer:
            assert answer.status == 200
        for method, path in (("GET", "/api/session"), ("GET", "/picture?name=a.png"), ("POST", "/api/ask")):
            async with http.request(method, site + path, headers=headers, json={}) as answer:
                assert answer.status == 403, (method, path)


async def test_what_changes_something_has_to_name_its_origin(person: Person) -> None:
    async with entered(person) as (http, site, _):
        async with http.post(f"{site}/api/ask", json={"names": []}) as answer:
            assert answer.status == 403
        async with http.post(f"{site}/api/ask", json={"names": []}, headers={"Origin": site}) as answer:
            assert answer.status == 400  # there is no question


async def test_every_response_forbids_what_it_does_not_need(person: Person) -> None:
    await person.drop("g-guard/a.png", picture(), {"instructions": "x"})
    await person.result("g-guard/a.png")
    async with entered(person) as (http, site, _):
        name = "?name=g-guard%2Fa.png"
        for path in (
            "/",
            "/api/session",
            "/static/js/main.js",
            "/static/none",
            "/none",
            f"/picture{name}",
            f"/file{name}",
        ):
            async with http.get(site + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy, path
                assert "unsafe" not in policy, path
                for header in ("X-Content-Type-Options", "Cache-Control", "Cross-Origin-Resource-Policy"):
                    assert answer.headers[header] == SECURITY_HEADERS[header], path
        async with http.get(f"{site}/static/../guard.py") as answer:
            assert answer.status == 404


async def test_another_site_in_the_same_browser_can_do_nothing(person: Person, browser: Browser) -> None:
    """It knows the port, and tries what a page can try."""
    await person.drop("g-site/a.png", picture(), {"instructions": "g-site: x"})
    await person.result("g-site/a.png")
    async with visiting(browser, place_in(person), "g-site/") as visit:
        await visit.tile("a.png")

        async def evil(_request: web.BaseRequest) -> web.Response:
            return web.Response(text="<!doctype html><title>evil</title>", content_type="text/html")

        runner = web.ServerRunner(web.Server(evil))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            page = await visit.context.new_page()
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
            tried = await page.evaluate(
                """async (site) => {
                    const quiet = (promise) => promise.then(() => "through", () => "refused");
                    const loaded = (tag, address) => quiet(new Promise((yes, no) => {
                        const element = document.createElement(tag);
                        Object.assign(element, { onload: yes, onerror: no, src: address });
                        document.body.append(element);
                    }));
                    const body = JSON.stringify({ names: ["g-site/a.png"], instructions: "g-site: owned" });
                    const posted = { method: "POST", mode: "no-cors", credentials: "include", body };
                    return {
                        read: await quiet(fetch(`${site}/api/images`, { credentials: "include" })),
                        ask: await fetch(`${site}/api/ask`, posted)
                            .then((answer) => answer.type, () => "refused"),
                        image: await loaded("img", `${site}/picture?name=g-site%2Fa.png`),
                        script: await loaded("script", `${site}/static/js/page.js`),
                        events: await new Promise((done) => {
                            const source = new EventSource(`${site}/api/events`, { withCredentials: true });
                            source.onopen = () => done("through");
                            source.onerror = () => done("refused");
                        }),
                    };
                }""",
                visit.site,
            )
            del tried["ask"]  # its answer can't be read, and is a refusal
            assert set(tried.values()) == {"refused"}, tried
            await page.evaluate(
                "site => document.body.append(Object.assign(document.createElement('iframe'), {src: site}))", visit.site
            )
            await page.wait_for_timeout(0)
            frame = await page.wait_for_function(
                "() => { try { return !frames[0].document.title; } catch { return true; } }"
            )
            assert await frame.json_value()
        finally:
            await runner.cleanup()
    assert person.asked("g-site: owned") == []


async def test_hostile_names_and_answers_are_text(person: Person, browser: Browser) -> None:
    person.scripts["g-evil: say it"] = deque([Answer(ANSWER)])
    await person.drop(NAME, picture(), {"instructions": "g-evil: say it"})
    result = await person.result(NAME)
    assert result["answer"]["text"] == ANSWER
    async with visiting(browser, place_in(person), "g-evil/") as visit:
        page = visit.page
        tile = page.get_by_role("listitem").filter(has_text="owned")
        await expect(tile.locator(".tile-answer")).to_contain_text("<script>document.title=")
        await expect(tile.locator(".tile-name")).to_contain_text(
            "\\u202egnp"
        )  # written out, so that nothing turns round
        assert await page.title() == "Blobsight"
        await tile.get_by_role("link").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.locator("#answer-text")).to_contain_text("<script>document.title=")
        await expect(dialog.locator("#stage-image.ready")).to_be_visible()
        assert "owned" in await page.title()
        assert await page.title() != "owned"
        assert await page.locator("script").count() == 1
        assert await page.locator("a[href^=javascript]").count() == 0
        assert await page.locator("img[src=x]").count() == 0
        await page.get_by_role("button", name="Ask something else").click()
        await expect(page.locator("#ask").get_by_label("Question", exact=True)).to_have_value("g-evil: say it")


async def test_the_browser_refuses_markup_even_if_the_script_made_some(person: Person, browser: Browser) -> None:
    async with visiting(browser, place_in(person), "g-none/") as visit:
        refused = await visit.page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } }"
        )
        visit.wrong.clear()  # the browser says that it refused
        assert refused


HTML = b"<!doctype html><script>document.title='owned'</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title="owned"</script></svg>'


@pytest.mark.parametrize("data", [HTML, SVG, b"GIF89a" + HTML, b"%PDF-1.7"], ids=["html", "svg", "half a gif", "pdf"])
async def test_only_recognised_pictures_are_shown_and_all_else_is_a_download(person: Person, data: bytes) -> None:
    """Whatever their names and Content-Types say."""
    name = "g-guard/innocent.png"
    etag = await person.drop(name, data, {"instructions": "x"})
    await person.result(name, etag=etag)
    async with entered(person) as (http, site, _):
        query = "?name=g-guard%2Finnocent.png"
        async with http.get(f"{site}/picture{query}") as answer:
            kind = answer.content_type
            assert (answer.status, kind) == (415, "application/json") or kind == "image/gif"
            assert "sandbox" in answer.headers["Content-Security-Policy"] or kind == "application/json"
        async with http.get(f"{site}/thumbnail{query}") as answer:
            assert answer.status == 415
        async with http.get(f"{site}/file{query}") as answer:
            assert answer.content_type == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment;")
            assert await answer.read() == data


async def test_the_command_prints_its_address_and_ends_on_ctrl_c(person: Person) -> None:
    process = await started(person, "gallery", "--no-browser")
    assert process.stdout
    address = (await process.stdout.readline()).decode().strip()
    port = urlsplit(address).port
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        assert answer.status == 200
    taken = await blobsight(person, "gallery", "--no-browser", "--port", str(port))
    assert (taken.status, taken.out) == (3, "")
    assert f"Port {port} can't be used" in taken.talk
    assert "give another with --port" in taken.talk
    process.send_signal(signal.SIGINT)
    out, talk = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert talk.decode() == "The gallery is open at this address. Ctrl-C stops it.\n\nStopped.\n"


async def test_half_of_a_file_is_not_sent(person: Person) -> None:
    """The browser is closed, or the machine sleeps, in the middle of one of two files."""
    whole = picture()
    async with entered(person) as (http, site, address):
        headers = {"Origin": site}
        begin = {"paths": ["half.png", "whole.png"], "prefix": "g-half"}
        async with http.post(f"{site}/api/uploads", json=begin, headers=headers) as answer:
            url = f"/api/uploads/{(await answer.json())['id']}"
        async with http.put(f"{site}{url}", params={"path": "whole.png"}, data=whole, headers=headers) as answer:
            assert answer.status == 204
        port = urlsplit(address).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        cookie = http.cookie_jar.filter_cookies(URL(site)).output(attrs=[], header="", sep=";")
        head = (
            f"PUT {url}?path=half.png HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {site}\r\n"
            f"Cookie: {cookie.strip()}\r\nContent-Length: {len(whole)}\r\n\r\n"
        )
        writer.write(head.encode() + whole[: len(whole) // 2])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert reader
        async with http.post(f"{site}{url}/send", json={}, headers=headers) as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert lines[-1]["report"]["sent"] == 1
    assert (await person.result("g-half/whole.png"))["status"] == "succeeded"
    assert await person.result_names("g-half/half") == []


async def test_paths_of_dropped_files_stay_in_their_folder(person: Person) -> None:
    async with entered(person) as (http, site, _):
        paths = ["../up.png", "/etc/x.png", "a/../../b.png", "a\\b.png", "ok/fine.png"]
        headers = {"Origin": site}
        async with http.post(f"{site}/api/uploads", json={"paths": paths}, headers=headers) as answer:
            begun = await answer.json()
        assert begun["wanted"] == [4]
        for path in paths[:4]:
            url = f"{site}/api/uploads/{begun['id']}"
            async with http.put(url, params={"path": path}, data=b"x", headers=headers) as answer:
                assert answer.status == 400
        async with http.post(f"{site}/api/uploads/{begun['id']}/send", json={}, headers=headers) as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert lines[-1]["report"]["failed"] == 4 or lines[-1]["error"], lines[-1]


async def test_a_cookie_that_is_no_text_is_a_wrong_one(person: Person) -> None:
    async with gallery(place_in(person)) as (_, address):
        port = urlsplit(address).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: blobsight-{port}="
        writer.write(head.encode() + b"\xff\xfe\r\n\r\n")
        assert b" 401 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"paths": 5, "view": {"sort": []}}',
        b'{"instructions": ["x"], "view": {}, "paths": 5}',
    ],
)
async def test_a_request_that_is_not_understood_is_refused(person: Person, body: bytes) -> None:
    async with entered(person) as (http, site, _):
        for path in ("/api/ask", "/api/cost", "/api/exports", "/api/uploads"):
            async with http.post(f"{site}{path}", data=body, headers={"Origin": site}) as answer:
                assert answer.status == 400, path


@pytest.mark.parametrize("path", [f"._{'a' * 300}", "half a character \ud83d.png"])
async def test_a_name_that_the_disk_does_not_take_is_named(person: Person, path: str) -> None:
    """One of them does not end the upload of the others."""
    async with entered(person) as (http, site, _):
        headers = {"Origin": site}
        body = json.dumps({"paths": [path, "fine.png"]})
        async with http.post(f"{site}/api/uploads", data=body, headers=headers) as answer:
            begun = await answer.json()
        assert begun["wanted"] == [1]
        async with http.post(f"{site}/api/uploads/{begun['id']}/send", json={}, headers=headers) as answer:
            assert "can't be" in (await answer.text())


async def test_a_download_is_whole_though_the_file_was_replaced_since_it_was_listed(person: Person) -> None:
    await person.drop("g-guard/new.png", picture(), {"instructions": "x"})
    async with entered(person) as (http, site, _):
        while True:
            async with http.get(f"{site}/api/images") as answer:
                if "g-guard/new.png" in [image["name"] for image in (await answer.json())["images"]]:
                    break
            await asyncio.sleep(0.05)
        replaced = picture() + b"and more"
        await person.drop("g-guard/new.png", replaced, {"instructions": "x"})
        async with http.get(f"{site}/file?name=g-guard%2Fnew.png") as answer:
            assert await answer.read() == replaced


async def test_new_uploads_leave_one_alone_that_is_being_sent(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    async with entered(person) as (http, site, _):
        headers = {"Origin": site}

        async def begun() -> str:
            async with http.post(f"{site}/api/uploads", json={"paths": ["a.png"]}, headers=headers) as answer:
                return str((await answer.json())["id"])

        async def send(stage: Stage, *_: object) -> None:
            for _another in range(MOST_STAGES + 1):
                await begun()
            there.append(stage.folder.exists())

        monkeypatch.setattr(Stage, "send", send)
        async with http.post(f"{site}/api/uploads/{await begun()}/send", json={}, headers=headers) as answer:
            assert json.loads(await answer.text())["error"] is None
    assert there == [True]


async def test_what_costs_nothing_needs_no_remarks_on_prices(person: Person) -> None:
    name = "g-guard/page.html"
    etag = await person.drop(name, HTML, {"instructions": "x"})
    await person.result(name, etag=etag)
    async with entered(person) as (http, site, _):
        body = {"names": [name], "rerun": True}
        while True:
            async with http.post(f"{site}/api/cost", json=body, headers={"Origin": site}) as answer:
                cost = await answer.json()
            if cost["images"]:
                break
            await asyncio.sleep(0.05)  # it is being listed
    assert cost == {"images": 1, "summary": "Nothing: none of them can be sent to the model.", "how_sure": []}
