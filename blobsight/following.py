"""Waiting for results, and showing what came of them."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from time import monotonic
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from blobsight.account import Account, code
from blobsight.image_states import SHORTENED_AT, State
from blobsight.reading import NotAResultError, read_result
from blobsight.terminal import counted, one_line, progress, say, table
from pipeline.listing import list_page
from pipeline.names import result_name

LOOK_EVERY_SECONDS = 1.0
ASKED_ONE_BY_ONE = 100
"""Up to so many results are asked for each; more are listed."""
AT_ONCE = 32
CHANGE_SECONDS = 10
"""Without any new result, after which the images themselves are looked at."""
HINT_AFTER_SECONDS = 60
"""Without a single result."""
SHOWN_ANSWERS = 50
"""For more images the answers are for `blobsight results`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An image that has its result."""

    name: str
    state: State
    error_code: str | None
    origin: str | None
    """Where its instructions came from."""


async def follow(account: Account, etags: Mapping[str, str]) -> list[Finished]:
    """Wait until every image has the result of this version of it.

    Args:
        account: where the results appear.
        etags: of the images, by name.

    Raises:
        AzureError: as the SDK gives it.
    """
    waiting = {result_name(name): (name, etag) for name, etag in etags.items()}
    finished = await _take(account, waiting)
    began = quiet_since = monotonic()
    hinted = False
    try:
        with progress("Waiting for results", len(waiting)) as bar:  # what is there already tells nothing of the rate
            while waiting:
                looked = monotonic()
                came = await _take(account, waiting)
                finished += came
                bar.advance(len(came))
                if came:
                    quiet_since = monotonic()
                elif len(waiting) <= ASKED_ONE_BY_ONE and monotonic() - quiet_since > CHANGE_SECONDS:
                    bar.advance(await _let_go_of_changed(account, waiting))
                    quiet_since = monotonic()
                if not finished and not hinted and monotonic() - began > HINT_AFTER_SECONDS:
                    hinted = True
                    say("No result yet: is the app running? `blobsight doctor` tells. Ctrl-C stops waiting only.")
                # Long listings are not made the app's main load.
                await asyncio.sleep(max(LOOK_EVERY_SECONDS, 3 * (monotonic() - looked)) if waiting else 0)
    except asyncio.CancelledError:
        say(f"{counted(len(waiting), 'image')} had no result yet; the app goes on: `blobsight status` shows how far.")
        raise
    return finished


async def _let_go_of_changed(account: Account, waiting: dict[str, tuple[str, str]]) -> int:
    """Wait no more for images that somebody has replaced or deleted meanwhile; how many they are."""

    async def is_changed(name: str, etag: str) -> bool:
        try:
            properties = await account.images.get_blob_client(name).get_blob_properties()
        except ResourceNotFoundError:
            return True
        return str(properties.etag).strip('"') != etag

    results = list(waiting)
    changed = await asyncio.gather(*(is_changed(*waiting[result]) for result in results))
    for result in (result for result, is_so in zip(results, changed, strict=True) if is_so):
        name, _ = waiting.pop(result)
        say(f"{one_line(name)} was replaced or deleted meanwhile: its result is not waited for.", "yellow")
    return sum(changed)


async def _take(account: Account, waiting: dict[str, tuple[str, str]]) -> list[Finished]:
    """Those that have their results by now; they wait no more."""
    came = []
    for result, metadata in (await _look(account, waiting)).items():
        name, _ = waiting.pop(result)
        state = State.FAILED if metadata.get("status") == "failed" else State.SUCCEEDED
        came.append(Finished(name, state, metadata.get("errorcode"), metadata.get("origin")))
    return came


async def _look(account: Account, waiting: Mapping[str, tuple[str, str]]) -> dict[str, Mapping[str, str]]:
    """The metadata of those results that are there, by their names."""
    if len(waiting) > ASKED_ONE_BY_ONE:
        found = await _listed(account, waiting)
    else:
        found = await _asked(account, waiting)
    return {name: metadata for name, metadata in found.items() if metadata.get("sourceetag") == waiting[name][1]}


async def _listed(account: Account, names: Collection[str]) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    prefix = commonprefix(list(names))[:SHORTENED_AT]  # noqa: RUF071 - the service's prefix is one, too
    token = None
    while True:
        page = await list_page(account.results, token, metadata=True, prefix=prefix)
        found.update((blob.name, blob.metadata) for blob in page.blobs if blob.name in names)
        if (token := page.next_token) is None:
            return found


async def _asked(account: Account, names: Collection[str]) -> dict[str, Mapping[str, str]]:
    async def ask(name: str) -> tuple[str, Mapping[str, str]]:
        try:
            properties = await account.results.get_blob_client(name).get_blob_properties()
        except ResourceNotFoundError as error:
            if code(error) == "ContainerNotFound":
                raise
            return name, {}
        return name, {key.lower(): value for key, value in (properties.metadata or {}).items()}

    return dict(await asyncio.gather(*(ask(name) for name in names)))


def tally(finished: Sequence[Finished]) -> dict[str, Any]:
    """How many of each kind, for programs."""
    failed = Counter(one.error_code for one in finished if one.state is State.FAILED)
    return {"succeeded": len(finished) - failed.total(), "failed": dict(failed)}


async def show_finished(account: Account, finished: Sequence[Finished]) -> None:
    """What came of the images: the answers of a few on stdout, of many the failures; and how many of each kind."""
    shown = finished if len(finished) <= SHOWN_ANSWERS else [one for one in finished if one.state is State.FAILED]
    results = await read_results(account, [one.name for one in shown])
    table(("image", "result"), [(name, summary_of(result)) for name, result in sorted(results.items())])
    counts = tally(finished)
    by_code = ", ".join(f"{count:,} {code}" for code, count in sorted(counts["failed"].items()))
    failed = sum(counts["failed"].values())
    say(f"{counts['succeeded']:,} succeeded, {failed:,} failed{f' ({by_code})' if by_code else ''}.")


async def read_results(account: Account, images: Sequence[str]) -> dict[str, Mapping[str, Any] | NotAResultError]:
    """The results of these images, by the images' names; what is there instead, where that is none.

    Raises:
        AzureError: as the SDK gives it.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def read(name: str) -> tuple[str, Mapping[str, Any] | NotAResultError]:
        async with places:
            try:
                return name, await read_result(account.results, result_name(name))
            except ResourceNotFoundError:
                return name, NotAResultError("it was deleted meanwhile.")
            except NotAResultError as error:
                return name, error

    return dict(await asyncio.gather(*map(read, images)))


def why_failed(result: Mapping[str, Any] | NotAResultError) -> tuple[str | None, str]:
    """Error code and message of a failed result."""
    if isinstance(result, NotAResultError):
        return None, f"its result can't be read: {result}"
    return result["error"]["code"], result["error"]["message"]


def summary_of(result: Mapping[str, Any] | NotAResultError) -> str:
    """The answer, or what is wrong and what to do."""
    if isinstance(result, NotAResultError) or result["status"] == "failed":
        return ": ".join(filter(None, why_failed(result)))
    return str(result["answer"]["text"])
