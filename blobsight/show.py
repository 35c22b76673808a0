"""`blobsight show`: everything that is known of one image, and what is not known and why."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from time import time
from typing import Any

import click
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import ContainerClient
from rich.text import Text

from blobsight.account import Account, Place, account_options, code
from blobsight.reading import NotAResultError, read_result
from blobsight.terminal import Exit, Trouble, one_line, out, plain, printable, say, write_json
from pipeline.errors import PermanentFailure, RetryableFailure
from pipeline.images import ImageLimits, inspect
from pipeline.instructions import Instructions, InstructionSources, Origin
from pipeline.listing import list_page
from pipeline.names import folders_of, result_name, wants_result
from pipeline.storage import Uploads
from pipeline.waiting import LOST_AFTER_SECONDS, Waiting

HEADER_BYTES = 256 * 1024
"""What is read of an image without a result, to tell its format and size. Some cameras put long previews in front."""
_ANY_SIZE = ImageLimits(max_bytes=HEADER_BYTES, max_pixels=2**62)
"""What the app accepts is its own business; here it is only looked at."""
UNKNOWN = "you may not read the state container (role Storage Blob Data Reader)"


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@account_options
def show(place: Place, name: str, *, as_json: bool) -> Exit:
    """Show all that is known of the image NAME.

    The image and what is asked about it, its result, tokens and times, earlier results, and whether it is in work or
    waits. NAME is the blob's, as in `blobsight status --failed`. The exit status is 0 whatever became of the image.

    \b
    blobsight show holiday/beach.jpg
    blobsight show holiday/beach.jpg --json | jq -r .result.answer.text
    """  # noqa: D301 - click's mark of lines to leave alone
    return asyncio.run(_run(place, name, as_json=as_json))


async def _run(place: Place, name: str, *, as_json: bool) -> Exit:
    async with place.opened() as account:
        found = await _find(account, name)
    if as_json:
        write_json(_json(found), indent=2)
    else:
        _print(found)
    return Exit.DONE


@dataclass(slots=True)
class Version:
    """A result that was replaced, as far as a listing tells."""

    written: datetime
    status: str | None
    error_code: str | None


@dataclass(slots=True)
class Found:
    """What is known of one image. A text in place of a value says why it is not known."""

    name: str
    image: BlobProperties | None
    """None: it was deleted, and its result is still there."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """format, width, height."""
    result: Mapping[str, Any] | None = None
    """Of the image as it is now or of an earlier version: see `is_current`."""
    asked: Instructions | PermanentFailure | None = None
    """What would be asked now; looked up only where the current result does not say."""
    earlier: list[Version] | str = field(default_factory=list)
    in_work: bool | str = False
    waits_until: datetime | str | None = None

    @property
    def is_current(self) -> bool:
        if self.result is None or self.image is None:
            return False
        return bool(self.result["source"]["etag"] == self.image.etag.strip('"'))

    @property
    def status(self) -> str:
        if self.image is not None and self.result is None and not wants_result(self.name):
            return "no image"
        if self.image is None:
            return "deleted"
        return str(self.result["status"]) if self.result and self.is_current else "pending"


async def _find(account: Account, name: str) -> Found:
    uploads = Uploads(account.blobs, account.place.images)
    image, result = await asyncio.gather(_properties(account, name), _result(account, name))
    if image is None and result is None:
        raise Trouble(await _not_there(account, name))
    found = Found(name, image, result=result)
    if image is not None and result is None and not wants_result(name):
        return found
    found.earlier, found.in_work, found.waits_until = await asyncio.gather(
        earlier_results(account.results, name), _in_work(account, found), _waits(account, name)
    )
    if found.is_current and found.result:
        found.facts = {key: found.result["source"][key] for key in ("format", "width", "height")}
    if image is not None and not (found.facts.get("format") and found.is_current):
        found.facts = _facts(await uploads.read_start(name, HEADER_BYTES) or b"")
    if image is not None and not found.is_current:
        try:
            found.asked = await InstructionSources(uploads, None).find(name, image.metadata or {})
        except PermanentFailure as failure:
            found.asked = failure
    return found


async def _result(account: Account, name: str) -> Mapping[str, Any] | None:
    try:
        return await read_result(account.results, result_name(name))
    except ResourceNotFoundError as error:
        if code(error) == "ContainerNotFound":
            raise
        return None
    except NotAResultError as problem:
        say(f"{one_line(result_name(name))} can't be read: {problem}", "red")
        return None


async def _properties(account: Account, name: str) -> BlobProperties | None:
    try:
        return await account.images.get_blob_client(name).get_blob_properties()
    except ResourceNotFoundError:
        return None


def _facts(start: bytes) -> dict[str, Any]:
    try:
        facts = inspect(start, _ANY_SIZE).facts
    except PermanentFailure as failure:
        return {"format": None, "problem": failure.message if len(start) < HEADER_BYTES else None}
    return {"format": facts.format, "width": facts.width, "height": facts.height}


async def _not_there(account: Account, name: str) -> str:
    """What to say of a name that is not there: also the names in its folder that look like it."""
    folder = folders_of(name)[0]
    listed = await list_page(account.images, None, metadata=False, prefix=folder)
    leaves = {blob.name.removeprefix(folder): blob.name for blob in listed.blobs}
    near = get_close_matches(name.removeprefix(folder), leaves, n=3, cutoff=0.5)
    there = f"There is no image '{name}' in the container '{account.place.images}'"
    if near:
        return f"{there}. Did you mean {' or '.join(repr(leaves[leaf]) for leaf in near)}?"
    if not leaves:
        return f"{there}, and nothing else in '{folder}': `blobsight status` counts what there is."
    return f"{there}, nor one with a name like it in '{folder or '/'}'."


async def earlier_results(results: ContainerClient, name: str) -> list[Version] | str:
    """The replaced results, newest first; an account that keeps no versions has none."""
    target = result_name(name)
    try:
        listed = results.list_blobs(name_starts_with=target, include=["versions", "metadata"])
        versions = [blob async for blob in listed if blob.name == target and not _is_current_version(blob)]
    except HttpResponseError as error:
        return f"can't be listed ({code(error)})"
    told = [_lower(blob.metadata) for blob in versions]
    return [
        Version(blob.last_modified, metadata.get("status"), metadata.get("errorcode"))
        for blob, metadata in sorted(
            zip(versions, told, strict=True), key=lambda pair: -pair[0].last_modified.timestamp()
        )
    ]


def _is_current_version(blob: BlobProperties) -> bool:
    return blob.version_id is None or bool(blob.is_current_version)


async def _in_work(account: Account, found: Found) -> bool | str:
    """Whether somebody has the claim on what the result answers.

    A claim is named for image, question and settings of the app together, which only the app and its results know: of
    an image without a current result it can't be found.
    """
    try:
        if found.is_current and found.result:
            return await account.state.get_blob_client(f"claims/{found.result['work_key']}").exists()
        claims = len((await list_page(account.state, None, metadata=True, prefix="claims/")).blobs)
    except AzureError as error:
        return _unknown(error)
    return f"images in work: {claims:,}; whether this is one of them can't be seen" if claims else False


async def _waits(account: Account, name: str) -> datetime | str | None:
    """When the message that the image waits for is to be seen, if there is one."""
    try:
        until = await Waiting(account.blobs, account.place.state).until(name)
    except RetryableFailure as failure:
        if not isinstance(failure.__cause__, AzureError):
            raise
        return _unknown(failure.__cause__)
    if until is None or until + LOST_AFTER_SECONDS < time():
        return None
    return datetime.fromtimestamp(until, UTC)


def _unknown(error: AzureError) -> str:
    """Why the state container does not tell. Only the app itself needs to read it."""
    if getattr(error, "status_code", None) == 403:
        return UNKNOWN
    if isinstance(error, ResourceNotFoundError):
        return "there is no state container of that name"
    raise error


def _lower(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {key.lower(): value for key, value in (metadata or {}).items()}


# What a program gets.


def _json(found: Found) -> dict[str, Any]:
    image = found.image
    return {
        "name": found.name,
        "status": found.status,
        "image": None
        if image is None
        else {
            "uploaded": image.last_modified.isoformat(),
            "size_bytes": image.size,
            "content_type": image.content_settings.content_type,
            "etag": image.etag.strip('"'),
            "format": found.facts.get("format"),
            "width": found.facts.get("width"),
            "height": found.facts.get("height"),
        },
        "would_be_asked": _asked_json(found.asked),
        "result_is_current": found.is_current,
        "result": found.result,
        "earlier_results": found.earlier
        if isinstance(found.earlier, str)
        else [
            {"written": version.written.isoformat(), "status": version.status, "error_code": version.error_code}
            for version in found.earlier
        ],
        "in_work": found.in_work,
        "waits_until": found.waits_until.isoformat() if isinstance(found.waits_until, datetime) else found.waits_until,
    }


def _asked_json(asked: Instructions | PermanentFailure | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    if isinstance(asked, PermanentFailure):
        return {"error": {"code": asked.code, "message": asked.message}}
    return {
        "text": None if asked.origin is Origin.BUILT_IN else asked.text,
        "origin": None if asked.origin is Origin.BUILT_IN else asked.origin,
        "origin_name": asked.origin_name,
        "options": asked.options.model_dump(by_alias=True, exclude_none=True),
    }


# What a person gets.


def _print(found: Found) -> None:
    colour = {"succeeded": "green", "failed": "red"}.get(found.status, "yellow")
    out.print(Text.assemble((printable(found.name), "bold"), "  ", (found.status, colour)), soft_wrap=True)
    for title, lines in _sections(found):
        out.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            plain(f"  {line}".rstrip())


def _sections(found: Found) -> Iterator[tuple[str, list[str]]]:
    if found.image is not None:
        yield "Image", _image_lines(found.image, found.facts)
    if found.status == "no image":
        yield "Result", ["An instruction file, a schema or a junk file: it gets none."]
        return
    if found.asked is not None:
        yield "Would be asked", _asked_lines(found.asked)
    if found.result is None:
        yield "Result", ["none yet"]
    else:
        if not found.is_current:
            yield "Last result", ["of an earlier version of the image" if found.image else "the image is deleted"]
        yield from _result_sections(found.result)
    yield "History", _history_lines(found)


def _image_lines(image: BlobProperties, facts: Mapping[str, Any]) -> list[str]:
    kind = facts.get("format")
    pixels = f"{facts['width']:,} x {facts['height']:,} pixels" if facts.get("width") else None
    problem = facts.get("problem") or "no format or size in the first part of the file"
    return [
        ", ".join(filter(None, [kind, pixels])) if kind else problem,
        f"{image.size:,} bytes, declared as {image.content_settings.content_type or 'nothing'}",
        f"uploaded {_moment(image.last_modified)}",
    ]


def _asked_lines(asked: Instructions | PermanentFailure) -> list[str]:
    if isinstance(asked, PermanentFailure):
        return [f"{asked.code}: {asked.message}"]
    if asked.origin is Origin.BUILT_IN:
        lines = ["What the app asks by default: the image brings no instructions, and the app's setting"]
        lines.append("DEFAULT_INSTRUCTIONS can't be seen from here.")
    else:
        lines = [*asked.text.splitlines(), f"({asked.origin}{f' {asked.origin_name}' if asked.origin_name else ''})"]
    options = asked.options.model_dump(by_alias=True, exclude_none=True)
    return lines + [f"{name}: {value}" for name, value in options.items()]


def _result_sections(result: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    asked, answer, error, model = (result[key] for key in ("instructions", "answer", "error", "model"))
    if asked["text"] is not None:
        origin = " ".join(filter(None, [asked["origin"], asked["origin_name"]]))
        yield "Asked", [*asked["text"].splitlines(), f"({origin})"]
    if answer is not None:
        ending = ["(cut off at the ceiling on output tokens)"] if answer["truncated"] else []
        yield "Answer", [*answer["text"].splitlines(), *ending]
    if error is not None:
        details = error["details"] or {}
        yield "Error", [f"{error['code']}: {error['message']}", *(f"{key}: {details[key]}" for key in details)]
    yield "Cost", _cost_lines(result["usage"], result["timings_ms"], model)


def _cost_lines(usage: Mapping[str, Any], times: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    tokens = [f"{name.removesuffix('_tokens')} {count:,}" for name, count in usage.items() if count is not None]
    steps = [f"{name} {ms:,}" for name, ms in times.items() if ms is not None]
    answered = f" ({model['model']})" if model["model"] else ""
    request = [f"request id {model['request_id']}"] if model["request_id"] else []
    return [
        f"tokens: {', '.join(tokens) or 'none'}",
        f"milliseconds: {', '.join(steps)}",
        f"deployment {model['deployment']}{answered}",
        *request,
    ]


def _history_lines(found: Found) -> list[str]:
    lines = []
    if found.result is not None:
        attempts = found.result["attempts"]
        written = _moment(datetime.fromisoformat(found.result["created_at"]))
        lines.append(f"{found.result['status']} {written}, after {attempts} attempt{'s' if attempts > 1 else ''}")
        lines.append(f"work {found.result['work_key'][:8]} in the app's log")
    if isinstance(found.earlier, str):
        lines.append(f"earlier results: {found.earlier}")
    else:
        lines += [
            f"earlier: {' '.join(filter(None, [version.status, version.error_code]))} {_moment(version.written)}"
            for version in found.earlier
        ]
    if isinstance(found.in_work, str) and found.in_work == found.waits_until:
        return [*lines, f"in work or waiting: {found.in_work}"]
    if isinstance(found.in_work, str):
        lines.append(f"in work: {found.in_work}")
    elif found.in_work:
        lines.append("in work at this moment")
    if isinstance(found.waits_until, str):
        lines.append(f"waiting: {found.waits_until}")
    elif found.waits_until is not None:
        lines.append(f"waits on the queue until {_moment(found.waits_until)}")
    return lines or ["not in work and not waiting, as far as can be seen"]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
