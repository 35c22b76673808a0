"""`blobsight status`: count images by state, from listings alone."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from blobsight.account import Account, Place, account_options
from blobsight.batches.lane import Lane, lane_if_any
from blobsight.batches.words import SHORT_HEAD, SHORT_RIGHT, short_rows, waits
from blobsight.following import why_failed
from blobsight.image_states import ImageState, State, checked_prefix, image_states
from blobsight.rates import Rates, rates
from blobsight.reading import side_by_side
from blobsight.running import run
from blobsight.stored_results import read_result
from blobsight.terminal import (
    MOST_OF_A_MESSAGE,
    Exit,
    Problem,
    Unknown,
    aligned,
    name_problems,
    one_line,
    out,
    plain,
    printable,
    progress,
    say,
    shortened,
    span,
    table,
    write_json,
)
from blobsight.waiting import Waiting, waiting_images
from pipeline.names import result_name

RECENT = timedelta(minutes=5)
"""Span over which the rate is counted: long enough for slow models, short enough to notice a standstill."""
WATCH_EVERY_SECONDS = 5.0


@dataclass(slots=True)
class Status:
    """The number of images in each state."""

    at: datetime
    counts: Counter[State] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    in_batch: int | None = None
    """Of the pending images, those that wait for a batch or are in one; None if that can't be read."""
    lane: Lane | None = None
    """The batches of the whole account; None if no image is in one, or they can't be read."""
    oldest_pending: datetime | None = None
    """When the longest-waiting pending image was uploaded."""
    oldest_at_work: datetime | None = None
    """Likewise, of those that are in no batch."""
    recent: int = 0
    """Results written within RECENT."""
    recent_span: timedelta = RECENT
    """Span of those results; shorter than RECENT if the work began within it."""
    rates: Rates | None = None
    """What waits for a rate of the operator's; None if that can't be read."""
    problems: list[Problem] = field(default_factory=list)
    """Entries of the listings that can't be counted."""

    @property
    def images(self) -> int:
        return self.counts.total()

    @property
    def rate(self) -> float:
        """Results a second, over `recent_span`."""
        return self.recent / max(self.recent_span.total_seconds(), 1.0)

    @property
    def _no_lane(self) -> dict[str, Any]:
        return {"unsent": None, "batches": None if self.in_batch else []}

    @property
    def at_work(self) -> int:
        """The pending images that are in no batch."""
        return self.counts[State.PENDING] - (self.in_batch or 0)

    @property
    def left(self) -> timedelta | None:
        """Time that those will take at this rate; None without a rate."""
        return timedelta(seconds=self.at_work / self.rate) if self.at_work and self.recent else None

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "images": self.images,
            **{state.value: self.counts[state] for state in State},
            "in_batch": self.in_batch,
            "failed_by_code": dict(self.by_code),
            "oldest_pending": self.oldest_pending.isoformat() if self.oldest_pending else None,
            "results_a_second": round(self.rate, 3),
            "seconds_left": round(self.left.total_seconds()) if self.left else None,
            **(self.rates or Rates()).to_json(),
            **(self.lane.to_json(self.lane.under_way) if self.lane else self._no_lane),
            "problems": [problem.to_json() for problem in self.problems],
        }


class Counting:
    """Builds a `Status` from image states, one by one."""

    def __init__(self, now: datetime, waiting: Waiting | None = None) -> None:
        self.status = Status(now, in_batch=None if waiting is None else 0)
        self._waiting = waiting
        self._earliest = now

    def add(self, image: ImageState) -> None:
        status = self.status
        status.counts[image.state] += 1
        if image.error_code:
            status.by_code[image.error_code] += 1
        if image.finished is None:
            uploaded = image.image.last_modified
            status.oldest_pending = min(status.oldest_pending or uploaded, uploaded)
            if self._waiting and self._waiting.is_in_batch(image.image.name):
                status.in_batch = (status.in_batch or 0) + 1
            else:
                status.oldest_at_work = min(status.oldest_at_work or uploaded, uploaded)
        elif status.at - image.finished < RECENT:
            status.recent += 1
            self._earliest = min(self._earliest, image.image.last_modified, image.finished)
            status.recent_span = min(RECENT, status.at - self._earliest)


@click.command()
@click.argument("prefix", default="", callback=checked_prefix)
@click.option("--failed", is_flag=True, help="List the failed images and their errors.")
@click.option("--watch", is_flag=True, help="Keep counting until nothing is pending.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object; with --failed, one JSON object a line for each image."
)
@account_options
def status(place: Place, *, prefix: str, failed: bool, watch: bool, as_json: bool) -> Exit:
    """Count images: pending, succeeded, failed; and those that wait for a batch.

    Only images whose names start with PREFIX, or all. Only listings are read, four requests for 10,000 images, one for
    5,000 that wait, and one of the app's notes on rates; where images are in batches, also what `blobsight batches`
    reads. An image is pending while its present version has no result.

    \b
    blobsight status
    blobsight status receipts/2026/ --watch
    blobsight status --failed --json | jq -r .name
    """  # noqa: D301 - click's mark of lines to leave alone
    if watch and failed:
        raise click.UsageError("--watch and --failed can't be combined: --watch shows counts, --failed lists images.")
    return run(_run(place, prefix, failed=failed, watch=watch, as_json=as_json))


async def _run(place: Place, prefix: str, *, failed: bool, watch: bool, as_json: bool) -> Exit:
    async with place.opened() as account:
        if watch:
            return await _watch(account, prefix, as_json=as_json)
        kept: list[str] = []

        def see(image: ImageState) -> None:
            bar.advance()
            if failed and image.state is State.FAILED:
                kept.append(image.image.name)

        with progress("Listing") as bar:
            status = await _counted(account, prefix, see)
        problems = status.problems
        all_read = not failed or await _list_failed(account, sorted(kept), problems, as_json=as_json)
    if as_json and not failed:
        write_json(status.to_json())
    elif not failed:
        _show(status)
    if not status.images:
        say(f"'{place.images}' holds no images{f' whose names start with {prefix!r}' if prefix else ''}.")
    name_problems(problems)
    return Exit.DONE if all_read and not problems else Exit.SOME_FAILED


async def _list_failed(account: Account, names: list[str], problems: Sequence[Problem], *, as_json: bool) -> bool:
    """List the failed images, as JSON with the problems. Returns whether all results could be read."""
    failures: list[tuple[str, str | None, str]] = []
    unread: dict[str, Unknown] = {}
    with progress("Reading failed results", len(names)) as bar:

        def take(name: str, result: Mapping[str, Any] | Unknown) -> None:
            bar.advance()
            if isinstance(result, Unknown):
                unread[name] = result
            if isinstance(result, Unknown) or result["status"] == State.FAILED:  # by now it may have succeeded
                failures.append((name, *why_failed(result)))

        await side_by_side(names, lambda name: read_result(account.results, result_name(name)), take, in_order=True)
    if as_json:
        for name, code, message in failures:
            error = {"error": unread[name].to_json()} if name in unread else {}
            write_json({"name": name, "code": code, "message": message} | error)
        for problem in problems:
            write_json(problem.to_json())
    else:
        rows = [
            (one_line(name), shortened(f"{code}: {message}" if code else message, MOST_OF_A_MESSAGE))
            for name, code, message in failures
        ]
        table(("image", "why"), rows)
    return not unread


def _rows(status: Status) -> list[tuple[str, str]]:
    rows = [(state.value, f"{status.counts[state]:,}") for state in State]
    if status.in_batch:
        rows.insert(1, ("pending: in batches", f"{status.in_batch:,}"))
    rows += [(f"failed: {shortened(code, 60)}", f"{count:,}") for code, count in status.by_code.most_common()]
    return [*rows, ("all images", f"{status.images:,}")]


def _show(status: Status) -> None:
    table(("state", "images"), _rows(status), right=(1,))
    if status.lane and (batches := short_rows(status.lane)):
        if out.is_terminal:
            out.print()
        table(SHORT_HEAD, batches, right=SHORT_RIGHT)
    for line in _remarks(status):
        say(line)


def _remarks(status: Status) -> list[str]:
    """Sentences below the table."""
    in_lane = waits(status.lane.unsent, status.at) if status.lane else ""
    return [*filter(None, [_outlook(status), in_lane]), *(status.rates.sentences() if status.rates else [])]


def _outlook(status: Status) -> str:
    """A sentence on when pending work will be done, or empty; batches take their own time."""
    if not status.at_work or status.oldest_at_work is None:
        return ""
    waited = status.at - status.oldest_at_work
    if status.left is None:
        return f"No result in the last {span(RECENT)}. The oldest pending image was uploaded {span(waited)} ago."
    return (
        f"{status.rate:,.1f} results a second: about {span(status.left)} to go. The oldest pending image was"
        f" uploaded {span(waited)} ago."
    )


async def _watch(account: Account, prefix: str, *, as_json: bool) -> Exit:
    with Live(console=out, auto_refresh=False) if out.is_terminal and not as_json else nullcontext() as live:
        while True:
            began = monotonic()
            status = await _counted(account, prefix)
            if live:
                live.update(_picture(status), refresh=True)
            elif as_json:
                write_json(status.to_json())
            else:
                plain(", ".join(f"{title} {count}" for title, count in _rows(status)))
            sys.stdout.flush()
            if not status.counts[State.PENDING]:
                break
            # Long listings are not made the account's main load.
            await asyncio.sleep(max(WATCH_EVERY_SECONDS, 3 * (monotonic() - began)))
    name_problems(status.problems)
    return Exit.SOME_FAILED if status.problems else Exit.DONE


async def _counted(account: Account, prefix: str, see: Callable[[ImageState], None] = lambda _: None) -> Status:
    """Count the images; each is also handed to `see`."""
    waiting = await waiting_images(account)  # before: what has its result by then is not pending below
    counting = Counting(datetime.now(UTC), waiting)
    status = counting.status
    async for image in image_states(account.images, account.results, prefix, status.problems):
        counting.add(image)
        see(image)
    status.rates = await rates(account, status.at, waiting)
    if status.in_batch:
        status.lane = await lane_if_any(account, status.at)
    return status


def _picture(status: Status) -> Group:
    counts = Table(box=None, pad_edge=False, show_header=False)
    counts.add_column()
    counts.add_column(justify="right")
    for row in _rows(status):
        counts.add_row(*map(printable, row))
    parts: list[Table | Text] = [counts]
    if status.lane and (batches := short_rows(status.lane)):
        parts += [Text(), aligned(SHORT_HEAD, batches, right=SHORT_RIGHT)]
    return Group(*parts, Text("\n".join(_remarks(status))))
