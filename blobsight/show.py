"""`blobsight show`: everything that is known about one image; and what is not known, and why."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import click
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import ContainerClient
from rich.text import Text

from blobsight.account import (
    Account,
    Place,
    about_blob,
    account_options,
    affects_all,
    code,
    of_the_sdk,
    service_code,
)
from blobsight.reading import Tries, metadata_of, properties_of, read_blob
from blobsight.running import run
from blobsight.stored_results import read_result
from blobsight.terminal import MOST_OF_A_MESSAGE, Exit, Trouble, Unknown, one_line, out, plain, shortened, write_json
from pipeline.errors import PermanentFailure, RetryableFailure
from pipeline.images import ImageLimits, inspect
from pipeline.instructions import Instructions, InstructionSources, Origin
from pipeline.names import folders_of, is_blob_name, result_name, wants_result
from pipeline.storage.facts import IN_BATCH
from pipeline.storage.listing import list_page, understood
from pipeline.storage.marks import Mark, QueuedMarks
from pipeline.storage.uploads import Uploads
from pipeline.unpacking import unpacked_start

HEADER_BYTES = 256 * 1024
"""Bytes read of an image without a result, to find its format and size. Some cameras put long previews in front."""
_ANY_SIZE = ImageLimits(max_bytes=HEADER_BYTES, max_pixels=2**62)
"""No limits: the app decides what it accepts, this command only shows."""
MOST_OF_A_DETAIL = 2000
"""Characters of an entry of an error's details."""
MAY_NOT_READ_STATE = "you may not read the state container (role Storage Blob Data Reader)"


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@account_options
def show(place: Place, name: str, *, as_json: bool) -> Exit:
    """Show all that is known about the image NAME.

    The image and its question, its result, tokens and times, earlier results, and whether it is in progress or queued.
    NAME is the blob's, as in `blobsight status --failed`. The exit status is 0 even if the image failed, and 1 if
    something about it can't be read.

    \b
    blobsight show holiday/beach.jpg
    blobsight show holiday/beach.jpg --json | jq -r .result.answer.text
    """  # noqa: D301 - click's mark of lines to leave alone
    if not is_blob_name(name):
        raise click.BadParameter("a blob can't have this name: correct it.", param_hint="NAME")
    return run(_run(place, name, as_json=as_json))


async def _run(place: Place, name: str, *, as_json: bool) -> Exit:
    async with place.opened() as account:
        found = await find_image(account, name)
    if as_json:
        write_json(to_json(found), indent=2)
    else:
        _print(found)
    parts = (found.image, found.facts, found.result, found.asked)
    return Exit.SOME_FAILED if any(isinstance(part, Unknown) for part in parts) else Exit.DONE


@dataclass(slots=True)
class Version:
    """A replaced result, as far as a listing shows it."""

    written: datetime
    status: str | None
    error_code: str | None


@dataclass(slots=True)
class Found:
    """Everything known about one image."""

    name: str
    image: BlobProperties | Unknown | None
    """None if it was deleted and its result is still there."""
    facts: Mapping[str, Any] | Unknown = field(default_factory=dict)
    """format, width, height; problem, if they can't be found."""
    result: Mapping[str, Any] | Unknown | None = None
    """The result of the present version or of an earlier one: see `is_current`."""
    asked: Instructions | PermanentFailure | Unknown | None = None
    """The question that would be asked now; looked up only where the current result does not say."""
    earlier: list[Version] | Unknown = field(default_factory=list)
    in_work: bool | Unknown = False
    """False if no image is in progress, else Unknown."""
    mark: Mark | Unknown | None = None
    """The app's mark of it while it waits."""

    @property
    def waits_until(self) -> datetime | Unknown | None:
        """When its message on the queue becomes visible, if there is one."""
        if isinstance(self.mark, Mark):
            return None if self.mark.why == IN_BATCH else datetime.fromtimestamp(self.mark.until, UTC)
        return self.mark

    @property
    def in_batch_since(self) -> datetime | None:
        """Since when it waits for a batch to be sent, or to be answered."""
        return self.mark.since if isinstance(self.mark, Mark) and self.mark.why == IN_BATCH else None

    @property
    def is_current(self) -> bool:
        if self.result is None or isinstance(self.result, Unknown):
            return False
        if self.image is None or isinstance(self.image, Unknown):
            return False
        return _of(self.result, "source").get("etag") == self.image.etag.strip('"')

    @property
    def status(self) -> str:
        if self.image is not None and self.result is None and not wants_result(self.name):
            return "no image"
        if self.image is None:
            return "deleted"
        if isinstance(self.image, Unknown) or isinstance(self.result, Unknown):
            return "unknown"
        return str(self.result["status"]) if self.result and self.is_current else "pending"


async def find_image(account: Account, name: str) -> Found:
    """Find out everything about the image `name`.

    Raises:
        Trouble: there is neither such an image nor a result of one.
        AzureError, RetryableFailure: as `Tries` raises them.
    """
    tries = Tries()
    image, result = await asyncio.gather(
        tries.of(properties_of(account.images, name)), tries.of(_result(account, name))
    )
    tries.end()
    if image is None and result is None:
        raise Trouble(await _not_there(account, name))
    found = Found(name, image, result=result)
    if image is not None and result is None and not wants_result(name):
        return found
    found.earlier, found.in_work, found.mark = await asyncio.gather(
        earlier_results(account.results, name), _in_progress(account), _waits(account, name)
    )
    if found.is_current and isinstance(result, Mapping):
        source = _of(result, "source")
        found.facts = {key: source.get(key) for key in ("format", "width", "height")}
    if isinstance(image, BlobProperties):
        if isinstance(found.facts, Mapping) and not found.facts.get("format"):
            found.facts = await tries.of(_facts(account.images, image))
        if not found.is_current:
            uploads = Uploads(account.blobs, account.place.images)
            found.asked = await tries.of(_asked(InstructionSources(uploads, None), image))
    return found


async def _result(account: Account, name: str) -> Mapping[str, Any] | None:
    try:
        return await read_result(account.results, result_name(name))
    except ResourceNotFoundError as error:
        if affects_all(error):
            raise
        return None


async def _asked(sources: InstructionSources, image: BlobProperties) -> Instructions | PermanentFailure:
    try:
        return await sources.find(image.name, image.metadata or {})
    except PermanentFailure as failure:
        return failure


async def _facts(images: ContainerClient, image: BlobProperties) -> dict[str, Any]:
    start = (await read_blob(images, image.name, length=HEADER_BYTES)).data
    try:
        facts = inspect(unpacked_start(start, HEADER_BYTES), _ANY_SIZE).facts
    except PermanentFailure as failure:
        return {"format": None, "problem": failure.message if len(start) < HEADER_BYTES else None}
    return {"format": facts.format, "width": facts.width, "height": facts.height}


async def _not_there(account: Account, name: str) -> str:
    """Explain that there is no such name, and suggest similar ones from its folder."""
    folder = folders_of(name)[0]
    listed = await list_page(account.images, None, metadata=False, prefix=folder)
    leaves = {blob.name.removeprefix(folder): blob.name for blob in listed.blobs}
    near = get_close_matches(name.removeprefix(folder), leaves, n=3, cutoff=0.5)
    there = f"There is no image '{name}' in the container '{account.place.images}'"
    if near:
        return f"{there}. Did you mean {' or '.join(repr(leaves[leaf]) for leaf in near)}?"
    if not leaves:
        return f"{there}, nor any other in '{folder}'. `blobsight status` counts the images that there are."
    return f"{there}, nor one with a similar name in '{folder or '/'}'."


async def earlier_results(results: ContainerClient, name: str) -> list[Version] | Unknown:
    """Return the replaced results, newest first; an account that keeps no versions has none."""
    target = result_name(name)
    try:
        with understood():
            listed = results.list_blobs(name_starts_with=target, include=["versions", "metadata"])
            versions = [blob async for blob in listed if blob.name == target and not _is_current_version(blob)]
    except AzureError as error:
        if affects_all(error):
            raise
        return Unknown(f"can't be listed ({code(error)})", service_code(error))
    found = [(blob.last_modified, metadata_of(blob)) for blob in versions if blob.last_modified]
    return [
        Version(written, metadata.get("status"), metadata.get("errorcode"))
        for written, metadata in sorted(found, key=lambda version: version[0], reverse=True)
    ]


def _is_current_version(blob: BlobProperties) -> bool:
    return blob.version_id is None or bool(blob.is_current_version)


async def _in_progress(account: Account) -> bool | Unknown:
    """Return False if no image is in progress, else Unknown.

    A claim is named by a hash of image, question and the app's settings: only the app knows which image it is for.
    """
    try:
        listed = await list_page(account.state, None, metadata=True, prefix="claims/")
    except AzureError as error:
        return _of_state(error)
    # A claim without an owner only keeps an answer until it can be delivered.
    claims = sum(bool(claim.metadata.get("owner")) for claim in listed.blobs)
    return Unknown(f"{claims:,} in the whole account; only the app knows which images") if claims else False


async def _waits(account: Account, name: str) -> Mark | Unknown | None:
    """The image's mark, while it waits."""
    try:
        mark = await QueuedMarks(account.blobs, account.place.state).find(name)
    except RetryableFailure as failure:
        return _of_state(failure)
    return None if mark is None or mark.is_lost else mark


def _of_state(error: AzureError | RetryableFailure) -> Unknown:
    """Explain why the state container can't be read. Only the app has to."""
    cause, unknown = of_the_sdk(error), about_blob(error)
    if getattr(cause, "status_code", None) == 403:
        return replace(unknown, reason=MAY_NOT_READ_STATE)
    if isinstance(cause, ResourceNotFoundError):
        return replace(unknown, reason="the account has no state container of that name")
    return unknown


def _of(result: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """A section of the result, empty if the result lacks it: an older version may not have written it."""
    return result.get(section) or {}


# For programs.


def to_json(found: Found) -> dict[str, Any]:
    return {
        "name": found.name,
        "status": found.status,
        "image": _image_json(found),
        "would_be_asked": _asked_json(found.asked),
        "result_is_current": found.is_current,
        "result": _known(found.result),
        "earlier_results": _known(found.earlier)
        if isinstance(found.earlier, Unknown)
        else [
            {"written": version.written.isoformat(), "status": version.status, "error_code": version.error_code}
            for version in found.earlier
        ],
        "in_work": _known(found.in_work),
        "waits_until": found.waits_until.isoformat()
        if isinstance(found.waits_until, datetime)
        else _known(found.waits_until),
        "in_batch_since": found.in_batch_since.isoformat() if found.in_batch_since else None,
    }


def _known(value: Any) -> Any:
    """The value itself, or an object that says why it is not known."""
    return {"error": value.to_json()} if isinstance(value, Unknown) else value


def _image_json(found: Found) -> Any:
    image, facts = found.image, found.facts
    if image is None or isinstance(image, Unknown):
        return _known(image)
    known = dict.fromkeys(("format", "width", "height")) | (
        _known(facts) if isinstance(facts, Unknown) else {key: facts.get(key) for key in ("format", "width", "height")}
    )
    return {
        "uploaded": image.last_modified.isoformat(),
        "size_bytes": image.size,
        "content_type": image.content_settings.content_type,
        "etag": image.etag.strip('"'),
    } | known


def _asked_json(asked: Instructions | PermanentFailure | Unknown | None) -> Any:
    if asked is None or isinstance(asked, Unknown):
        return _known(asked)
    if isinstance(asked, PermanentFailure):
        return {"error": {"code": asked.code, "message": asked.message}}
    return {
        "text": None if asked.origin is Origin.BUILT_IN else asked.text,
        "origin": None if asked.origin is Origin.BUILT_IN else asked.origin,
        "origin_name": asked.origin_name,
        "options": asked.options.model_dump(by_alias=True, exclude_none=True),
    }


# For people.


def _print(found: Found) -> None:
    colour = {"succeeded": "green", "failed": "red"}.get(found.status, "yellow")
    out.print(Text.assemble((one_line(found.name), "bold"), "  ", (found.status, colour)), soft_wrap=True)
    for title, lines in _sections(found):
        out.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            _print_line(line)


class Quoted(str):
    """A line that other people or a model wrote. It is indented further than ours, so that it can't pass for one."""

    __slots__ = ()


def _quoted(text: str) -> list[str]:
    return [Quoted(line) for line in text.splitlines()]


def _details(error: Mapping[str, Any]) -> list[str]:
    details = error.get("details") or {}
    return [Quoted(shortened(f"{key}: {value}", MOST_OF_A_DETAIL)) for key, value in details.items()]


def _print_line(line: str) -> None:
    """Print a line indented, and further where it wraps: what it quotes must not look like a line of ours."""
    indent = 4 if isinstance(line, Quoted) else 2
    text = Text(one_line(line))
    for number, part in enumerate(text.wrap(out, max(out.width - 6, 1)) if out.is_terminal else [text]):
        plain(f"{' ' * (indent if number == 0 else 4)}{part.plain}".rstrip())


def _sections(found: Found) -> Iterator[tuple[str, list[str]]]:
    if found.image is not None:
        yield "Image", _image_lines(found)
    if found.status == "no image":
        yield "Result", ["None: this is an instruction file, a schema or a junk file."]
        return
    if found.asked is not None:
        yield "Would be asked", _asked_lines(found.asked)
    if found.result is None:
        yield "Result", ["none yet"]
    elif isinstance(found.result, Unknown):
        yield "Result", [f"can't be read: {found.result.reason}"]
    else:
        if isinstance(found.image, Unknown):
            yield "Result", ["not known whether it is of the image's present version"]
        elif not found.is_current:
            yield "Last result", ["of an earlier version of the image" if found.image else "the image is deleted"]
        yield from _result_sections(found.result)
    yield "History", _history_lines(found)


def _image_lines(found: Found) -> list[str]:
    image, facts = found.image, found.facts
    if image is None or isinstance(image, Unknown):
        return [f"can't be read: {image.reason}"] if image else []
    if isinstance(facts, Unknown):
        kind = f"can't be read: {facts.reason}"
    elif facts.get("format"):
        sides = [facts.get("width"), facts.get("height")]
        pixels = f"{' x '.join(f'{side:,}' for side in sides)} pixels" if all(sides) else None
        kind = ", ".join(filter(None, [facts["format"], pixels]))
    else:
        kind = facts.get("problem") or "no format or size in the first part of the file"
    return [
        kind,
        f"{image.size:,} bytes, declared as {image.content_settings.content_type or 'nothing'}",
        f"uploaded {_moment(image.last_modified)}",
    ]


def _asked_lines(asked: Instructions | PermanentFailure | Unknown) -> list[str]:
    if isinstance(asked, Unknown):
        return [f"not known: {asked.reason}"]
    if isinstance(asked, PermanentFailure):
        return [f"{asked.code}: {asked.message}"]
    if asked.origin is Origin.BUILT_IN:
        lines = ["The app's default: the image has no instructions, and the app's setting DEFAULT_INSTRUCTIONS"]
        lines.append("can't be seen from here.")
    else:
        lines = [*_quoted(asked.text), f"({asked.origin}{f' {asked.origin_name}' if asked.origin_name else ''})"]
    options = asked.options.model_dump(by_alias=True, exclude_none=True)
    return lines + [f"{name}: {value}" for name, value in options.items()]


def _result_sections(result: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    asked, answer, error = (_of(result, section) for section in ("instructions", "answer", "error"))
    if asked.get("text") is not None:
        origin = " ".join(filter(None, [asked.get("origin"), asked.get("origin_name")]))
        yield "Asked", [*_quoted(asked["text"]), f"({origin})"]
    if len(pages := _pages_sent(result)) > 1:
        yield "Pages sent", [f"{', '.join(pages)} of {_of(result, 'source').get('pages')}"]
    if answer.get("text") is not None:
        ending = ["(cut off at the limit on output tokens)"] if answer.get("truncated") else []
        yield "Answer", [*_quoted(answer["text"]), *ending]
    if error:
        what = ": ".join(filter(None, [error.get("code"), error.get("message")]))
        yield "Error", [shortened(what, MOST_OF_A_MESSAGE), *_details(error)]
    cost = _cost_lines(_of(result, "usage"), _of(result, "timings_ms"), _of(result, "model"))
    if answer.get("reused_from"):
        cost.insert(0, "paid for an earlier version: the same bytes, asked the same question")
    yield "Cost", cost


def _pages_sent(result: Mapping[str, Any]) -> list[str]:
    sent = result.get("pages_sent")
    return [str(page.get("number")) for page in sent if isinstance(page, Mapping)] if isinstance(sent, list) else []


def _cost_lines(usage: Mapping[str, Any], times: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    tokens = [f"{name.removesuffix('_tokens')} {count:,}" for name, count in usage.items() if isinstance(count, int)]
    steps = [f"{name} {ms:,}" for name, ms in times.items() if isinstance(ms, int)]
    answered = f" ({model['model']})" if model.get("model") else ""
    tier = f", service tier {model['service_tier']}" if model.get("service_tier") else ""
    request = [f"request id {model['request_id']}"] if model.get("request_id") else []
    return [
        f"tokens: {', '.join(tokens) or 'none'}",
        f"milliseconds: {', '.join(steps) or 'not recorded'}",
        f"deployment {model.get('deployment') or 'not recorded'}{answered}{tier}",
        *request,
    ]


def _history_lines(found: Found) -> list[str]:
    lines = []
    if isinstance(found.result, Mapping):
        lines += _ending_lines(found.result)
    if isinstance(found.earlier, Unknown):
        lines.append(f"earlier results: {found.earlier.reason}")
    else:
        lines += [
            f"earlier: {shortened(' '.join(filter(None, [version.status, version.error_code])), 60)}"
            f" {_moment(version.written)}"
            for version in found.earlier
        ]
    if isinstance(found.in_work, Unknown) and found.in_work == found.waits_until:
        return [*lines, f"in progress or waiting: {found.in_work.reason}"]
    if isinstance(found.in_work, Unknown):
        lines.append(f"in progress: {found.in_work.reason}")
    if isinstance(found.waits_until, Unknown):
        lines.append(f"waiting: {found.waits_until.reason}")
    elif found.waits_until is not None:
        lines.append(f"waits on the queue until {_moment(found.waits_until)}")
    elif found.in_batch_since:
        lines.append(f"in a batch, or waiting for one, since {_moment(found.in_batch_since)} (`blobsight batches`)")
    return lines or ["neither in progress nor on the queue, as far as can be seen"]


def _ending_lines(result: Mapping[str, Any]) -> list[str]:
    """How and when the work ended, as far as the result says."""
    written, attempts, key = (result.get(name) for name in ("created_at", "attempts", "work_key"))
    at = f" {_moment(datetime.fromisoformat(written))}" if written else ""
    after = f", after {attempts} attempt{'s' if attempts > 1 else ''}" if attempts else ""
    return [f"{result['status']}{at}{after}", *([f"work {key[:8]} in the app's log"] if key else [])]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
