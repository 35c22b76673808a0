"""What the page asks in order to show something. Nothing here changes anything."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiohttp import web

from blobsight.account import Account
from blobsight.estimate.prices import CURRENCY, price_of
from blobsight.gallery.answers import Answers
from blobsight.gallery.index import Index, Overview, Sort, View
from blobsight.gallery.watching import Watching
from blobsight.pictures.pictures import NoPictureError, Picture, Pictures
from blobsight.reading import properties_of, read_blob
from blobsight.show import find_image, to_json
from blobsight.terminal import one_line
from pipeline import __version__
from pipeline.names import is_blob_name

MOST_ROWS = 200
"""Images that are sent at a time."""
MOST_PAGES = 10_000
MOST_NAMED = 20
"""Entries of the listings that can't be understood and are named."""
MOST_TEXT = 200
"""Characters of a search."""
HEARTBEAT_SECONDS = 15.0
"""A connection without news says something so often: so a page that is gone is noticed."""
DOWNLOAD_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What the handlers share."""

    account: Account
    prefix: str
    read_only: bool
    watching: Watching
    answers: Answers
    pictures: Pictures
    sorting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of one view at a time: the next request often wants the same, and finds it."""

    async def image(self, request: web.Request) -> "Image":
        """The image that a request names: as it is listed, or, before that, as the service knows it.

        Raises:
            web.HTTPBadRequest, web.HTTPNotFound: it names none.
        """
        name, index = name_in(request), self.watching.index
        if (row := index.columns.find(name)) is not None:
            shown = index.columns.shown(row)
            return Image(name, shown.etag, shown.size)
        return await self.stored(name)

    async def stored(self, name: str) -> "Image":
        """The image `name` as the service knows it now.

        Raises:
            web.HTTPNotFound: there is none.
        """
        found = await properties_of(self.account.images, name)
        if found is None:
            raise web.HTTPNotFound(text="There is no such image: it may have been deleted meanwhile.")
        return Image(name, found.etag.strip('"'), found.size)

    async def rows(self, view: View) -> tuple[Index, Sequence[int]]:
        """The rows of a view, and the index that they are of: by the time they are sorted there may be another."""
        # In a thread: sorting 100,000 names takes up to a second.
        async with self.sorting:
            index = self.watching.index
            return index, await asyncio.to_thread(index.rows, view, self.answers.searched)

    async def overview(self, view: View) -> Overview:
        """The counts of a folder."""
        async with self.sorting:
            return await asyncio.to_thread(self.watching.index.overview, view.folder, view.text, self.answers.searched)


@dataclass(frozen=True, slots=True)
class Image:
    """A blob in the input container. `size` is its bytes."""

    name: str
    etag: str
    size: int


GALLERY = web.AppKey("gallery", Gallery)
routes = web.RouteTableDef()


def refused(status: int, message: str, code: str | None = None) -> web.Response:
    """An error, in the form that all commands have."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        web.HTTPBadRequest: there is none.
    """
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The request holds no JSON object.")
    return body


def name_in(request: web.Request) -> str:
    """The blob's name in the query.

    Raises:
        web.HTTPBadRequest: there is none.
    """
    name = request.query.get("name", "")
    if not is_blob_name(name):
        raise web.HTTPBadRequest(text="no blob can have this name")
    return name


def view_in(query: Mapping[str, Any], prefix: str) -> View:
    """The view that a query names. What it does not understand it leaves out: old bookmarks open."""
    folder, sort = str(query.get("folder") or ""), str(query.get("sort") or "")
    return View(
        folder=folder if folder.startswith(prefix) else prefix,
        states=frozenset(filter(None, str(query.get("state") or "").split(","))),
        codes=frozenset(filter(None, str(query.get("code") or "").split(","))),
        text=str(query.get("q") or "")[:MOST_TEXT],
        sort=Sort(sort) if sort in set(Sort) else Sort.NEWEST,
    )


@routes.get("/api/session")
async def session(request: web.Request) -> web.Response:
    gallery = request.app[GALLERY]
    place = gallery.account.place
    where = place.account or ("this machine" if place.is_here else "by connection string")
    return web.json_response(
        {
            "account": where,
            "images": place.images,
            "results": place.results,
            "prefix": gallery.prefix,
            "read_only": gallery.read_only,
            "version": __version__,
        }
    )


@routes.get("/api/images")
async def images(request: web.Request) -> web.Response:
    gallery = request.app[GALLERY]
    watching = gallery.watching
    view = view_in(request.query, gallery.prefix)
    version = watching.version
    index, rows = await gallery.rows(view)
    start = _number(request.query.get("start"), 0, len(rows))
    count = _number(request.query.get("count"), MOST_ROWS, MOST_ROWS)
    shown = [watching.marked(index.columns.shown(row)).to_json() for row in rows[start : start + count]]
    return web.json_response({"version": version, "total": len(rows), "start": start, "images": shown})


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isascii() and text.isdecimal() and len(text) < 12 else default


@routes.get("/api/overview")
async def overview(request: web.Request) -> web.Response:
    gallery = request.app[GALLERY]
    view = view_in(request.query, gallery.prefix)
    counted = await asyncio.to_thread(gallery.watching.index.overview, view.folder, view.text, gallery.answers.searched)
    return web.json_response(
        {
            "states": counted.states,
            "codes": dict(counted.codes.most_common()),
            "folders": dict(sorted(counted.folders.items())),
            "answers_read": len(gallery.answers),
        }
    )


@routes.get("/api/position")
async def position(request: web.Request) -> web.Response:
    """Where an image is in a view, and its neighbours."""
    gallery = request.app[GALLERY]
    index, rows = await gallery.rows(view_in(request.query, gallery.prefix))
    row = index.columns.find(name_in(request))
    at = await asyncio.to_thread(rows.index, row) if row in rows else None
    if at is None:
        return web.json_response({"position": None, "total": len(rows), "previous": None, "next": None})
    return web.json_response(
        {
            "position": at,
            "total": len(rows),
            "previous": index.columns.name(rows[at - 1]) if at else None,
            "next": index.columns.name(rows[at + 1]) if at + 1 < len(rows) else None,
        }
    )


@routes.post("/api/answers")
async def answers(request: web.Request) -> web.Response:
    """The beginnings of the answers to the images named."""
    gallery = request.app[GALLERY]
    names = (await body_of(request)).get("names", [])
    if not isinstance(names, list) or len(names) > MOST_ROWS:
        return refused(400, f"Name at most {MOST_ROWS} images.")
    index = gallery.watching.index
    rows = [row for name in names if isinstance(name, str) and (row := index.columns.find(name)) is not None]
    return web.json_response(await gallery.answers.beginnings(map(index.columns.shown, rows)))


@routes.post("/api/answers/read")
async def read_answers(request: web.Request) -> web.StreamResponse:
    """Read the answers to all images of a view, so that they can be searched. A line of JSON for each step."""
    gallery = request.app[GALLERY]
    index, rows = await gallery.rows(view_in(await body_of(request), gallery.prefix))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    done = 0
    for start in range(0, len(rows), MOST_ROWS):
        part = rows[start : start + MOST_ROWS]
        await gallery.answers.beginnings(map(index.columns.shown, part))
        done += len(part)
        await response.write(json.dumps({"done": done, "of": len(rows)}).encode() + b"\n")
    return response


@routes.get("/api/image")
async def image(request: web.Request) -> web.Response:
    """Everything about one image."""
    gallery = request.app[GALLERY]
    found = to_json(await find_image(gallery.account, name_in(request)))
    index = gallery.watching.index
    row = index.columns.find(found["name"])
    is_expected = row is not None and gallery.watching.marked(index.columns.shown(row)).is_expected
    cost = await asyncio.to_thread(price_of_result, found.get("result"))
    return web.json_response(found | {"cost": cost, "expected": is_expected})


def price_of_result(result: Any) -> dict[str, Any] | None:
    """The list price of an answer at its tier; None where nothing was paid, or where it is not known."""
    match result:
        case {"model": {"model": str(model)}, "usage": {"input_tokens": int(given), "output_tokens": int(made)}}:
            tier = result["model"].get("service_tier") or "default"
            price = price_of(model, tier) if isinstance(tier, str) else None
            return {"amount": float(price(given, made)), "currency": CURRENCY, "tier": tier} if price else None
        case _:
            return None


@routes.get("/thumbnail")
async def thumbnail(request: web.Request) -> web.Response:
    gallery = request.app[GALLERY]
    found = await gallery.image(request)
    try:
        return _picture(await gallery.pictures.thumbnail(found.name, found.etag, found.size))
    except NoPictureError as why:
        return refused(415, str(why))


@routes.get("/picture")
async def picture(request: web.Request) -> web.Response:
    gallery = request.app[GALLERY]
    found = await gallery.image(request)
    try:
        page = _number(request.query.get("page"), 1, MOST_PAGES)
        return _picture(await gallery.pictures.whole(found.name, found.size, page=max(page, 1)))
    except NoPictureError as why:
        return refused(415, str(why))


def _picture(made: Picture) -> web.Response:
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "Content-Disposition": "inline"}
    return web.Response(body=made.data, content_type=made.media_type, headers=headers)


@routes.get("/file")
async def file(request: web.Request) -> web.StreamResponse:
    """The image as it is stored: always a download, whatever it says it is."""
    gallery = request.app[GALLERY]
    found = await gallery.stored(name_in(request))  # the listing may be older than the file, and its size another
    leaf = one_line(found.name.rpartition("/")[2])
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(leaf, safe='')}",
        "Content-Length": str(found.size),
    }
    response = web.StreamResponse(headers=headers)
    for start in range(0, max(found.size, 1), DOWNLOAD_CHUNK):
        length = min(DOWNLOAD_CHUNK, found.size - start)
        part = (await read_blob(gallery.account.images, found.name, start=start, length=length)).data if length else b""
        if not response.prepared:
            await response.prepare(request)
        await response.write(part)
    return response


@routes.get("/api/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: what changes, as long as somebody looks."""
    watching = request.app[GALLERY].watching
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async with watching.looking():
        version = -1
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    version = await watching.change_after(version)
                text = f"data: {json.dumps(_news(watching))}\n\n"
            except TimeoutError:
                text = ": still here\n\n"
            await response.write(text.encode())


def _news(watching: Watching) -> dict[str, Any]:
    trouble = watching.trouble
    return {
        "version": watching.version,
        "images": len(watching.index),
        "listing": watching.is_listing,
        "trouble": {"message": trouble.message, "code": trouble.code} if trouble else None,
        "problems": [problem.to_json() for problem in watching.problems[:MOST_NAMED]],
        "problem_count": len(watching.problems),
    }
