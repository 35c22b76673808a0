"""Odd entries of a listing are named and left out, and nothing else suffers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from azure.core.exceptions import DecodeError
from azure.storage.blob.aio import ContainerClient
from hypothesis import given
from hypothesis import strategies as st
from support.examples import some_of
from support.terminal import Ran, blobsight

from pipeline.storage.facts import ListedBlob, OddEntry
from pipeline.storage.listing import ContainerListing, list_page, listed

WHEN = "<Last-Modified>Sat, 14 Mar 2026 09:26:53 GMT</Last-Modified>"
MOMENT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
GOOD = f"<Blob><Name>good.png</Name><Properties>{WHEN}<Etag>0x1</Etag></Properties></Blob>"

ENTRIES = {
    # Documented, if seldom seen; the last is how Azure lists metadata whose names XML can't hold.
    '<Name>a.png</Name><Properties>{when}<Etag>"0x2"</Etag><Content-Length /><Content-MD5 /></Properties>'
    "<Metadata /><OrMetadata /><Deleted>false</Deleted>": ListedBlob("a.png", "0x2", MOMENT, {}),
    '<Name>k.png</Name><Properties>{when}<Etag>0x2</Etag></Properties><Metadata Encrypted="true" />': ListedBlob(
        "k.png", "0x2", MOMENT, {}
    ),
    "<Name>m.png</Name><Properties>{when}<Etag>0x2</Etag></Properties>"
    "<Metadata><x-ms-invalid-name>1st</x-ms-invalid-name><x-ms-invalid-name>2 nd</x-ms-invalid-name></Metadata>": (
        ListedBlob("m.png", "0x2", MOMENT, {"x-ms-invalid-name": "2 nd"})
    ),
    "<Name>z.png</Name><Properties><Last-Modified>Sat, 14 Mar 2026 09:26:53 -0000</Last-Modified><Etag>0x2</Etag>"
    "</Properties>": ListedBlob("z.png", "0x2", MOMENT, {}),
    # Not documented.
    "": OddEntry("", "no blob can have this name"),
    "<Name /><Properties>{when}<Etag>0x2</Etag></Properties>": OddEntry("", "no blob can have this name"),
    "<Name>../up</Name><Properties>{when}<Etag>0x2</Etag></Properties>": OddEntry(
        "../up", "no blob can have this name"
    ),
    "<Name>long</Name><Properties>{when}<Etag>0x2</Etag></Properties>".replace("long", "x" * 1025): OddEntry(
        "x" * 1025, "no blob can have this name"
    ),
    "<Name>p</Name>": OddEntry("p", "the listing does not give its ETag"),
    "<Name>e</Name><Properties>{when}</Properties>": OddEntry("e", "the listing does not give its ETag"),
    "<Name>t</Name><Properties><Etag>0x2</Etag></Properties>": OddEntry(
        "t", "the listing does not give its size or its last change"
    ),
    "<Name>i</Name><Properties><Etag>0x2</Etag><Last-Modified>2026-03-14T09:26:53Z</Last-Modified></Properties>": (
        OddEntry("i", "the listing does not give its size or its last change")
    ),
    "<Name>s</Name><Properties>{when}<Etag>0x2</Etag><Content-Length>many</Content-Length></Properties>": OddEntry(
        "s", "the listing does not give its size or its last change"
    ),
}


def page(*entries: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a/" ContainerName="c">'
        f"<Blobs>{''.join(entries)}</Blobs><NextMarker /></EnumerationResults>"
    )


@asynccontextmanager
async def service(body: str | bytes, content_type: str = "application/xml") -> AsyncIterator[BaseTestServer]:
    """Lists this in every container, and has none of it."""

    async def answer(request: web.Request) -> web.Response:
        if request.query.get("comp") != "list":
            return web.Response(status=404, headers={"x-ms-error-code": "BlobNotFound"})
        return web.Response(body=body, content_type=content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield server


@pytest.mark.parametrize("entry", ENTRIES)
async def test_an_entry_is_a_blob_or_is_named(entry: str) -> None:
    blob = f"<Blob>{entry.format(when=WHEN)}</Blob>"
    async with (
        service(page(blob, GOOD)) as server,
        ContainerClient(str(server.make_url("/account")), "images") as client,
    ):
        found = await list_page(client, None, metadata=True)
    expected = ENTRIES[entry]
    good = ListedBlob("good.png", "0x1", MOMENT, {})
    assert list(found.blobs) == ([expected, good] if isinstance(expected, ListedBlob) else [good])
    assert list(found.odd) == ([expected] if isinstance(expected, OddEntry) else [])


async def test_the_app_goes_on_and_logs_how_many_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    odd = "<Blob><Name>two\nlines</Name></Blob>"
    async with (
        service(page(odd, GOOD, odd)) as server,
        ContainerClient(str(server.make_url("/account")), "images") as client,
    ):
        found = await ContainerListing(client, metadata=False).page(None)
    assert [blob.name for blob in found.blobs] == ["good.png"]
    (message,) = caplog.messages
    assert message.startswith(
        "listing images: 2 entries can't be understood and are left out, the first is 'two\\nlines'"
    )


ANSWERS = {
    "a page of a proxy": (b"<html><body>Please sign in</body></html>", "text/html"),
    "the same, called XML": (b"<html><body>Please sign in</body></html>", "application/xml"),
    "JSON": (b'{"blobs": []}', "application/json"),
    "nothing": (b"", "application/xml"),
    "half a page": (page(GOOD).encode()[:-30], "application/xml"),
    "numbers that are none": (
        page(GOOD).replace("<Blobs>", "<MaxResults>many</MaxResults><Blobs>").encode(),
        "text/xml",
    ),
    "not text": (bytes(range(128, 256)), "application/xml"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_response_that_is_not_a_listing_ends_as_the_services_error(name: str) -> None:
    async with (
        service(*ANSWERS[name]) as server,
        ContainerClient(str(server.make_url("/account")), "images", retry_total=0) as client,
    ):
        with pytest.raises(DecodeError):
            _ = [page async for page in listed(client, metadata=False)]


@pytest.mark.parametrize("name", some_of(["a page of a proxy", "half a page"]))
async def test_the_tool_says_that_it_was_no_listing(name: str) -> None:
    """The SDK finds out about one of them, and this project about the other, by the same error."""
    async with service(*ANSWERS[name]) as server:
        ran = await run(server, "status", "--json")
    assert (ran.status, list(ran.json())) == (3, ["error"])
    assert "answered with an error" in ran.talk


async def run(server: BaseTestServer, *arguments: str) -> Ran:
    account = f"AccountName=account;AccountKey=YQ==;BlobEndpoint={server.make_url('/account')}"
    return await blobsight(None, *arguments, "--connection-string", account)


async def test_every_command_names_odd_entries_and_goes_on() -> None:
    """The service lists the same two entries in every container: a blob that is in order, and one that is odd."""
    odd = "<Blob><Name>odd\n.png</Name></Blob>"
    async with service(page(odd, GOOD)) as server:
        ran = dict(
            zip(
                ("status", "retry", "results", "estimate"),
                await asyncio.gather(
                    run(server, "status", "--json"),
                    run(server, "retry", "--missing", "--dry-run", "--older-than", "0", "--json"),
                    run(server, "results", "--json"),
                    run(server, "estimate", "--in-container", "", "--json"),
                ),
                strict=True,
            )
        )
    for command, one in ran.items():
        assert one.status == 1, (command, one)
        assert "odd\\n.png: it is left out: the listing does not give its ETag\n" in one.talk, command
    assert ran["status"].json()["images"] == 1
    assert ran["retry"].json()["images"] == [{"name": "good.png", "why": "pending"}]
    assert ran["status"].json()["problems"][0] == {
        "name": "odd\n.png",
        "error": {"code": None, "message": "it is left out: the listing does not give its ETag"},
    }


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
async def test_an_odd_entry_is_at_worst_an_error_of_the_service(name: str, etag: str, modified: str, size: str) -> None:
    """Text that is not XML is the service's error."""
    entry = (
        f"<Blob><Name>{escape(name)}</Name><Properties><Etag>{escape(etag)}</Etag>"
        f"<Last-Modified>{escape(modified)}</Last-Modified><Content-Length>{escape(size)}</Content-Length>"
        "</Properties></Blob>"
    )
    async with (
        service(page(entry, GOOD).encode("utf-8", "replace")) as server,
        ContainerClient(str(server.make_url("/account")), "images") as client,
    ):
        try:
            found = await list_page(client, None, metadata=True)
        except DecodeError:
            return
    assert len(found.blobs) + len(found.odd) == 2
