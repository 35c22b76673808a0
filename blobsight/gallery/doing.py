"""What the page does: it asks again, reruns, adds images and exports. Left out with --read-only."""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
from aiohttp import web

from blobsight.account import explained
from blobsight.asking import ASKING_OPTIONS, Asked, asked_as
from blobsight.gallery.looking import GALLERY, Gallery, body_of, refused, view_in
from blobsight.gallery.staging import BadPathError, Stage, told
from blobsight.image_states import ImageState, State
from blobsight.results.command import Tally, export_named
from blobsight.results.export import new_file
from blobsight.retry import Choice, Chosen, cost_of, queue_again, request_for, too_large_for_queue
from blobsight.terminal import Problem, Trouble, Unknown
from pipeline.names import is_blob_name, result_name

FORMATS = {"csv": "text/csv", "jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
MOST_STAGES = 4
"""Uploads that are being put together at a time."""
MOST_EXPORTS = 4
"""Exports that are kept to be fetched."""
CHUNK = 1024 * 1024

routes = web.RouteTableDef()


@dataclass(slots=True)
class Kept:
    """What lives until it is fetched or sent, or the gallery stops."""

    folder: Path
    stages: dict[str, Stage] = field(default_factory=dict)
    exports: dict[str, Path] = field(default_factory=dict)


KEPT = web.AppKey("kept", Kept)


async def kept(app: web.Application) -> AsyncIterator[None]:
    app[KEPT] = Kept(Path(mkdtemp(prefix="blobsight-exports-")))
    yield
    for stage in app[KEPT].stages.values():
        stage.discard()
    shutil.rmtree(app[KEPT].folder, ignore_errors=True)


def _asked(body: Mapping[str, Any]) -> Asked:
    """The question in a request.

    Raises:
        click.UsageError: an option is wrong.
    """
    given = {name: body.get(name) or None for name in ASKING_OPTIONS} | {"instructions_file": None}
    if not isinstance(given["instructions"], str | None):
        raise click.UsageError("A question is text: write one.")
    try:
        return asked_as(given)
    except ValueError as error:  # pydantic's
        raise click.UsageError("An option is not one that the app takes: correct it.") from error


async def _selected(gallery: Gallery, body: Mapping[str, Any]) -> list[ImageState]:
    """The images that a request names: one by one, or as a view.

    Raises:
        web.HTTPBadRequest: it names none in a way that is understood.
    """
    match body:
        case {"view": dict(view)}:
            index, rows = await gallery.rows(view_in(view, gallery.prefix))
            left_out = set(map(str, body.get("except") or ()))
            return [index.columns.state(row) for row in rows if not left_out or index.columns.name(row) not in left_out]
        case {"names": list(names)}:
            index = gallery.watching.index
            rows = [row for name in names if isinstance(name, str) and (row := index.columns.find(name)) is not None]
            return [index.columns.state(row) for row in rows]
        case _:
            raise web.HTTPBadRequest(text="the request names no images")


def _choice(body: Mapping[str, Any]) -> Choice:
    is_rerun = bool(body.get("rerun"))
    return Choice(
        prefix="",
        chosen=Chosen.FAILED if is_rerun else Chosen.ALL,
        codes=frozenset(),
        older_than=timedelta(0),
        asked=asked_as(dict.fromkeys(ASKING_OPTIONS)) if is_rerun else _asked(body),
        model=None,
    )


async def _chosen(request: web.Request) -> tuple[list[ImageState], Choice]:
    """The images to run again, and how.

    Raises:
        click.ClickException: that can't be done.
    """
    gallery, body = request.app[GALLERY], await body_of(request)
    choice = _choice(body)
    found = await _selected(gallery, body)
    if choice.chosen is Chosen.FAILED:
        found = [state for state in found if state.state is State.FAILED]
    elif choice.asked.text is None:
        raise click.UsageError("There is no question: write one.")
    container = gallery.account.place.images
    if too_large := too_large_for_queue(request_for(container, "x" * 1024, choice, "0x")):
        raise click.UsageError(too_large)
    return found, choice


@routes.post("/api/cost")
async def cost(request: web.Request) -> web.Response:
    """The cost of running images again, before anything is queued."""
    found, choice = await _chosen(request)
    if not found:
        return web.json_response({"images": 0, "summary": "There is nothing to run again.", "how_sure": []})
    estimate = await cost_of(request.app[GALLERY].account, found, choice)
    if not estimate.images:
        summary, how_sure = "Nothing: none of them can be sent to the model.", []
    else:
        summary, how_sure = estimate.in_short, list(estimate.how_sure)
    return web.json_response({"images": len(found), "summary": summary, "how_sure": how_sure})


@routes.post("/api/ask")
async def ask(request: web.Request) -> web.Response:
    """Queue images to be run again."""
    gallery = request.app[GALLERY]
    found, choice = await _chosen(request)
    problems: list[Problem] = []
    queued: list[ImageState] = []

    def take(state: ImageState, why: Unknown | None) -> None:
        if why is None:
            queued.append(state)
        else:
            problems.append(Problem(state.image.name, why))

    try:
        await queue_again(gallery.account, found, choice, take)
    finally:
        gallery.watching.expect(queued)
    listed = [problem.to_json() for problem in problems]
    return web.json_response({"queued": len(queued), "of": len(found), "problems": listed})


@routes.post("/api/uploads")
async def begin_upload(request: web.Request) -> web.Response:
    body, stages = await body_of(request), request.app[KEPT].stages
    asked, paths = _asked(body), body.get("paths", [])
    if not isinstance(paths, list):
        raise web.HTTPBadRequest(text="The request names no files.")
    prefix = str(body.get("prefix") or "").strip().lstrip("/")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if prefix and not is_blob_name(f"{prefix}x"):
        raise click.UsageError("No folder can have this name: correct it.")
    if len(stages) >= MOST_STAGES:
        next_out = next(iter(stages))
        stages.pop(next_out).discard()
    stage = Stage(asked, asked.metadata(), prefix)
    number = secrets.token_urlsafe(12)
    stages[number] = stage
    wanted = stage.expect(list(map(str, paths)))
    return web.json_response({"id": number, "wanted": wanted})


def _stage(request: web.Request) -> Stage:
    stage = request.app[KEPT].stages.get(request.match_info["number"])
    if stage is None:
        raise web.HTTPNotFound(text="This upload is not under way any more: choose the files again.")
    return stage


@routes.put("/api/uploads/{number}")
async def add_file(request: web.Request) -> web.Response:
    stage, path = _stage(request), request.query.get("path", "")
    try:
        await stage.take(path, request.content.iter_chunked(CHUNK))
    except BadPathError as error:
        return refused(400, f"{path}: {error}.")
    return web.Response(status=204)


@routes.post("/api/uploads/{number}/send")
async def send(request: web.Request) -> web.StreamResponse:
    """Send what is there. A line of JSON for each step, and one for the end."""
    gallery, stage = request.app[GALLERY], _stage(request)
    del request.app[KEPT].stages[request.match_info["number"]]  # other uploads may not push it out meanwhile
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    steps: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    sending = asyncio.create_task(_send(gallery, stage, steps))
    try:
        await response.prepare(request)
        while (step := await steps.get()) is not None:
            await response.write(json.dumps(step).encode() + b"\n")
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        stage.discard()
        gallery.watching.look_again()
    return response


async def _send(gallery: Gallery, stage: Stage, steps: "asyncio.Queue[dict[str, Any] | None]") -> None:
    def notify(step: str, done: int, of: int | None) -> None:
        steps.put_nowait({"step": step, "done": done, "of": of})

    trouble: Trouble | None = None
    try:
        with explained(gallery.account.place):
            await stage.send(gallery.account, notify)
    except Trouble as error:
        trouble = error
    finally:
        steps.put_nowait(told(stage, trouble))
        steps.put_nowait(None)


@routes.post("/api/exports")
async def export(request: web.Request) -> web.Response:
    """Write the results of the selected images into a file, to be fetched once."""
    gallery, body, here = request.app[GALLERY], await body_of(request), request.app[KEPT]
    kind = str(body.get("format"))
    if kind not in FORMATS:
        raise click.UsageError("There is no such format.")
    names = [result_name(state.image.name) for state in await _selected(gallery, body) if state.result_etag]
    if not names:
        raise click.UsageError("None of them has a result yet.")
    number = secrets.token_urlsafe(12)
    path = here.folder / f"{number}.{kind}"
    tally = Tally()
    with new_file(path) as target:
        await export_named(gallery.account.results, names, target, tally)
        await asyncio.to_thread(target.complete, lambda *_: None)
    here.exports[number] = path
    while len(here.exports) > MOST_EXPORTS:
        here.exports.pop(next(iter(here.exports))).unlink(missing_ok=True)
    listed = [problem.to_json() for problem in tally.problems]
    return web.json_response({"id": number, "exported": sum(tally.exported.values()), "problems": listed})


@routes.get("/api/exports/{number}")
async def fetch_export(request: web.Request) -> web.StreamResponse:
    path = request.app[KEPT].exports.get(request.match_info["number"])
    if path is None:
        raise web.HTTPNotFound(text="This export is not there any more: export again.")
    kind = path.suffix.removeprefix(".")
    headers = {"Content-Type": FORMATS[kind], "Content-Disposition": f'attachment; filename="answers.{kind}"'}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            await response.write(chunk)
    return response
