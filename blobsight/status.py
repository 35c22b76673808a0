"""`blobsight status`: how far things are, by listing alone."""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping
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
from blobsight.following import AT_ONCE, read_results, why_failed
from blobsight.image_states import ImageState, State, image_states
from blobsight.reading import NotAResultError
from blobsight.terminal import Exit, out, plain, printable, progress, say, table, write_json

RECENT = timedelta(minutes=5)
"""The rate is counted over it: long enough for slow models, short enough to notice a standstill."""
WATCH_EVERY_SECONDS = 5.0


@dataclass(slots=True)
class Status:
    """How many images are in which state."""

    at: datetime
    counts: Counter[State] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    oldest_pending: datetime | None = None
    """When the pending image that has waited for longest was uploaded."""
    recent: int = 0
    """Results written within RECENT."""
    recent_span: timedelta = RECENT
    """How far back those go; shorter than RECENT when the work began within it."""

    @property
    def images(self) -> int:
        return self.counts.total()

    @property
    def rate(self) -> float:
        """Results a second, lately."""
        return self.recent / max(self.recent_span.total_seconds(), 1.0)

    @property
    def left(self) -> timedelta | None:
        """How long the pending ones will take at this rate; None when there is nothing to tell it by."""
        pending = self.counts[State.PENDING]
        return timedelta(seconds=pending / self.rate) if pending and self.recent else None

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "images": self.images,
            **{state.value: self.counts[state] for state in State},
            "failed_by_code": dict(self.by_code),
            "oldest_pending": self.oldest_pending.isoformat() if self.oldest_pending else None,
            "results_a_second": round(self.rate, 3),
            "seconds_left": round(self.left.total_seconds()) if self.left else None,
        }


class Counting:
    """Makes a `Status` of image states, one by one."""

    def __init__(self, now: datetime) -> None:
        self.status = Status(now)
        self._earliest = now

    def add(self, image: ImageState) -> None:
        status = self.status
        status.counts[image.state] += 1
        if image.error_code:
            status.by_code[image.error_code] += 1
        if image.finished is None:
            if status.oldest_pending is None or image.image.last_modified < status.oldest_pending:
                status.oldest_pending = image.image.last_modified
        elif status.at - image.finished < RECENT:
            status.recent += 1
            self._earliest = min(self._earliest, image.image.last_modified, image.finished)
            status.recent_span = min(RECENT, status.at - self._earliest)


@click.command()
@click.argument("prefix", default="")
@click.option("--failed", is_flag=True, help="List the failed images, and why.")
@click.option("--watch", is_flag=True, help="Go on looking until nothing is pending any more.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object; with --failed a line an image.")
@account_options
def status(place: Place, *, prefix: str, failed: bool, watch: bool, as_json: bool) -> Exit:
    """Count images: pending, succeeded, failed.

    Of those whose names start with PREFIX, or all. Only listings are read, four requests for 10,000 images. Pending is
    what has no result of its present version.

    \b
    blobsight status
    blobsight status receipts/2026/ --watch
    blobsight status --failed --json | jq -r .name
    """  # noqa: D301 - click's mark of lines to leave alone
    if watch and failed:
        raise click.UsageError("--watch shows counts as they change, --failed lists images once: give one of them.")
    return asyncio.run(_run(place, prefix, failed=failed, watch=watch, as_json=as_json))


async def _run(place: Place, prefix: str, *, failed: bool, watch: bool, as_json: bool) -> Exit:
    async with place.opened() as account:
        if watch:
            await _watch(account, prefix, as_json=as_json)
            return Exit.DONE
        kept: list[str] = []
        counting = Counting(datetime.now(UTC))
        with progress("Listing") as bar:
            async for image in image_states(account.images, account.results, prefix):
                counting.add(image)
                bar.advance()
                if failed and image.state is State.FAILED:
                    kept.append(image.image.name)
        if failed:
            await _list_failed(account, sorted(kept), as_json=as_json)
    if as_json and not failed:
        write_json(counting.status.to_json())
    elif not failed:
        _show(counting.status)
    if not counting.status.images:
        say(f"'{place.images}' holds no images{f' whose names start with {prefix!r}' if prefix else ''}.")
    return Exit.DONE


async def _list_failed(account: Account, names: list[str], *, as_json: bool) -> None:
    """In portions: that many are read at a time."""
    failures: list[tuple[str, str | None, str]] = []
    with progress("Reading failed results", len(names)) as bar:
        for start in range(0, len(names), PORTION):
            portion = names[start : start + PORTION]
            results = await read_results(account, portion)
            failures += [(name, *why_failed(result)) for name, result in results.items() if _is_failed(result)]
            bar.advance(len(portion))
    if as_json:
        for name, code, message in failures:
            write_json({"name": name, "code": code, "message": message})
    else:
        table(("image", "why"), [(name, f"{code}: {message}" if code else message) for name, code, message in failures])


def _is_failed(result: Mapping[str, Any] | NotAResultError) -> bool:
    """It may have succeeded since it was listed."""
    return isinstance(result, NotAResultError) or result["status"] == "failed"


PORTION = 8 * AT_ONCE


def _rows(status: Status) -> list[tuple[str, str]]:
    rows = [(state.value, f"{status.counts[state]:,}") for state in State]
    rows += [(f"failed: {code}", f"{count:,}") for code, count in status.by_code.most_common()]
    return [*rows, ("all images", f"{status.images:,}")]


def _show(status: Status) -> None:
    table(("state", "images"), _rows(status), right=(1,))
    if line := _outlook(status):
        say(line)


def _outlook(status: Status) -> str:
    """What can be said of pending work."""
    if not status.counts[State.PENDING] or status.oldest_pending is None:
        return ""
    waited = status.at - status.oldest_pending
    if status.left is None:
        return f"No result in the last {_span(RECENT)}; the oldest pending image was uploaded {_span(waited)} ago."
    return (
        f"{status.rate:,.1f} results a second lately: about {_span(status.left)} to go. The oldest pending image was"
        f" uploaded {_span(waited)} ago."
    )


def _span(time: timedelta) -> str:
    seconds = max(0, round(time.total_seconds()))
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds} seconds"


async def _watch(account: Account, prefix: str, *, as_json: bool) -> None:
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
                return
            # Long listings are not made the account's main load.
            await asyncio.sleep(max(WATCH_EVERY_SECONDS, 3 * (monotonic() - began)))


async def _counted(account: Account, prefix: str) -> Status:
    counting = Counting(datetime.now(UTC))
    async for image in image_states(account.images, account.results, prefix):
        counting.add(image)
    return counting.status


def _picture(status: Status) -> Group:
    counts = Table(box=None, pad_edge=False, show_header=False)
    counts.add_column()
    counts.add_column(justify="right")
    for row in _rows(status):
        counts.add_row(*map(printable, row))
    return Group(counts, Text(_outlook(status)))
