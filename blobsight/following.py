"""Wait for results, and show them."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from time import monotonic
from typing import Any

from azure.storage.blob import BlobProperties

from blobsight.account import Account
from blobsight.image_states import SHORTENED_AT, State, odd_ones
from blobsight.reading import metadata_of, properties_of, side_by_side
from blobsight.stored_results import read_result
from blobsight.terminal import MOST_OF_A_MESSAGE, Problem, Unknown, counted, one_line, progress, say, shortened, table
from pipeline.names import result_name
from pipeline.storage.listing import listed

LOOK_EVERY_SECONDS = 1.0
ASKED_ONE_BY_ONE = 100
"""Up to so many results are requested one by one; more are listed."""
CHANGE_SECONDS = 10
"""Seconds without a new result after which the images are checked for changes."""
HINT_AFTER_SECONDS = 60
"""Seconds without any result before a hint to check the app."""
SHOWN_ANSWERS = 50
"""Most images whose answers are shown; of more, only the failures are."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An image that has its result."""

    name: str
    state: State
    error_code: str | None
    origin: str | None
    """The origin of its instructions."""


type _Waiting = dict[str, tuple[str, str]]
"""Image and its ETag, by the name of the result to wait for."""


async def follow(account: Account, etags: Mapping[str, str], problems: list[Problem]) -> list[Finished]:
    """Wait until every image has a result for this version of it.

    Args:
        account: where the results appear.
        etags: of the images, by name.
        problems: gets the images whose results can't be read; they are not waited for.

    Raises:
        AzureError: as the SDK gives it.
    """
    waiting = {result_name(name): (name, etag) for name, etag in etags.items()}
    finished = await _take(account, waiting, problems)
    began = quiet_since = monotonic()
    hinted = False
    try:
        with progress(
            "Waiting for results", len(waiting)
        ) as bar:  # results that were there already say nothing about the rate
            while waiting:
                looked = monotonic()
                before = len(waiting)
                finished += await _take(account, waiting, problems)
                if len(waiting) < before:
                    quiet_since = monotonic()
                elif len(waiting) <= ASKED_ONE_BY_ONE and monotonic() - quiet_since > CHANGE_SECONDS:
                    await _let_go_of_changed(account, waiting)
                    quiet_since = monotonic()
                bar.advance(before - len(waiting))
                if not finished and not hinted and monotonic() - began > HINT_AFTER_SECONDS:
                    hinted = True
                    say(
                        "No result yet. Run `blobsight doctor` to see whether the app works. Ctrl-C only stops waiting."
                    )
                # Long listings must not become the account's main load.
                await asyncio.sleep(max(LOOK_EVERY_SECONDS, 3 * (monotonic() - looked)) if waiting else 0)
    except asyncio.CancelledError:
        say(f"{counted(len(waiting), 'image')} had no result yet. The app goes on: see `blobsight status`.")
        raise
    return finished


async def _let_go_of_changed(account: Account, waiting: _Waiting) -> None:
    """Stop waiting for images that have been replaced or deleted meanwhile."""

    def take(result: str, image: BlobProperties | Unknown | None) -> None:
        name, etag = waiting[result]
        if image is None or (not isinstance(image, Unknown) and image.etag.strip('"') != etag):
            del waiting[result]
            say(f"{one_line(name)} has been replaced or deleted meanwhile: not waiting for its result.", "yellow")

    await side_by_side(list(waiting), lambda result: properties_of(account.images, waiting[result][0]), take)


async def _take(account: Account, waiting: _Waiting, problems: list[Problem]) -> list[Finished]:
    """Return the images that have their results, and stop waiting for them and for those whose result can't be read."""
    came = []
    look = _listed if len(waiting) > ASKED_ONE_BY_ONE else _asked
    for result, metadata in (await look(account, waiting)).items():
        name, etag = waiting[result]
        if isinstance(metadata, Unknown):
            problems.append(Problem(name, Unknown(f"its result can't be read: {metadata.reason}", metadata.code)))
        elif metadata.get("sourceetag") == etag:
            state = State.FAILED if metadata.get("status") == "failed" else State.SUCCEEDED
            came.append(Finished(name, state, metadata.get("errorcode"), metadata.get("origin")))
        else:
            continue
        del waiting[result]
    return came


type _Metadata = dict[str, Mapping[str, str] | Unknown]
"""Metadata by the results' names, or why it is not known."""


async def _listed(account: Account, names: Collection[str]) -> _Metadata:
    found: _Metadata = {}
    prefix = commonprefix(list(names))[:SHORTENED_AT]  # noqa: RUF071 - the service's prefix is one, too
    async for page in listed(account.results, metadata=True, prefix=prefix):
        found.update((odd.name, odd.why) for odd in odd_ones(page) if odd.name in names)
        found.update((blob.name, blob.metadata) for blob in page.blobs if blob.name in names)
    return found


async def _asked(account: Account, names: Collection[str]) -> _Metadata:
    found: _Metadata = {}

    def take(name: str, result: BlobProperties | Unknown | None) -> None:
        if result is not None:
            found[name] = result if isinstance(result, Unknown) else metadata_of(result)

    await side_by_side(names, lambda name: properties_of(account.results, name), take)
    return found


def tally(finished: Sequence[Finished]) -> dict[str, Any]:
    """Counts of each outcome, for programs."""
    failed = Counter(one.error_code or "unknown" for one in finished if one.state is State.FAILED)
    return {"succeeded": len(finished) - failed.total(), "failed": dict(failed)}


async def show_finished(account: Account, finished: Sequence[Finished]) -> bool:
    """Show the answers of a few images, or the failures of many, on stdout; and the counts on stderr.

    Returns whether all results could be read.
    """
    shown = finished if len(finished) <= SHOWN_ANSWERS else [one for one in finished if one.state is State.FAILED]
    results = await _read(account, [one.name for one in shown])
    table(("image", "result"), [(one_line(name), summary_of(result)) for name, result in sorted(results.items())])
    counts = tally(finished)
    by_code = ", ".join(f"{count:,} {shortened(code, 60)}" for code, count in sorted(counts["failed"].items()))
    failed = sum(counts["failed"].values())
    say(f"{counts['succeeded']:,} succeeded, {failed:,} failed{f' ({by_code})' if by_code else ''}.")
    return not any(isinstance(result, Unknown) for result in results.values())


async def _read(account: Account, images: Sequence[str]) -> dict[str, Mapping[str, Any] | Unknown]:
    """The results of these images, by the images' names, or why they can't be read.

    Raises:
        AzureError: as the SDK gives it.
    """
    results: dict[str, Mapping[str, Any] | Unknown] = {}
    await side_by_side(images, lambda name: read_result(account.results, result_name(name)), results.__setitem__)
    return results


def why_failed(result: Mapping[str, Any] | Unknown) -> tuple[str | None, str]:
    """Error code and message of a failed result."""
    if isinstance(result, Unknown):
        return None, f"its result can't be read: {result.reason}"
    return result["error"]["code"], result["error"]["message"]


def summary_of(result: Mapping[str, Any] | Unknown) -> str:
    """The answer, or what is wrong and what to do."""
    if isinstance(result, Unknown) or result["status"] == "failed":
        return shortened(": ".join(filter(None, why_failed(result))) or "(no message)", MOST_OF_A_MESSAGE)
    return str(result["answer"]["text"]) or "(no text)"
