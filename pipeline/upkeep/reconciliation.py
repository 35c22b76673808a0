"""Uploads without a current result, found by listing both containers side by side.

A pass lists images and results side by side and compares ETags, without reading or asking for a single blob. It
may take several runs: each is bounded in time and leaves its `Progress` for the next.

What a pass costs: one million images with one million results are 400 operations, 200 pages of 5,000 from each
container. Each candidate adds a look-up of its result, the question whether it waits already and, if need be,
the request. Each further run lists up to two pages again.

What it holds: a page of each listing, some 20 MB apiece while they are read, and the images whose results come
later in the order. Names and result names don't sort alike (`a` < `a-b`, but `a-b.json` < `a.json`), so images
wait in a heap, ordered by result name, until the listing has passed that name: then no image still to come has an
earlier result. Only names that start one another wait together.

Which order a service lists in is nothing to rely on: Azure documents "alphabetical", puts folders first in
accounts with a hierarchical namespace, and the characters beyond U+FFFF sort differently in UTF-8 and UTF-16. So
the order only decides what this costs. An image counts as done only when its very result was seen with its
ETag; one that the comparison misses is a candidate, and looked up before anything is requested.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Protocol, Self, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import RetryableFailure
from pipeline.names import result_name, wants_result
from pipeline.one_line import blob_label
from pipeline.storage.facts import ListedBlob, Page, TokenRefused

logger = logging.getLogger(__name__)

CHECKED_AT_A_TIME = 32
"""Candidates looked up together, so that a container full of missing results is a matter of minutes."""

MAX_HELD = 2048
"""Most images that wait for their results' turn. At most 1,024 names start one another, a name having no more
characters; the rest is for short result names of very long names, and for listings in another order."""


class Listing(Protocol):
    """The blobs of one container, a page at a time; see `pipeline.storage.listing.ContainerListing`."""

    @property
    def name(self) -> str: ...

    async def page(self, token: str | None) -> Page:
        """The page that `token` leads to, None being the first.

        Raises:
            TokenRefused: start from the beginning.
            RetryableFailure: the same call may succeed later.
        """


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a listing a pass is: in the page that `token` leads to, behind the blob called `after`, if any."""

    token: str | None = None
    after: str | None = None
    ended: bool = False


@dataclass(slots=True)
class Summary:
    """The counts of a pass so far, over all its runs."""

    runs: int = 0
    pages: int = 0
    images: int = 0
    """Blobs listed in the input container, instruction files included."""
    results: int = 0
    """Blobs listed in the result container, as far as there were images to compare."""
    candidates: int = 0
    """Uploads whose result the listings did not show, or showed for another ETag. Each was looked up."""
    missing: int = 0
    """Candidates that really have no result."""
    stale: int = 0
    """Candidates with the result of another version."""
    waiting: int = 0
    """Those of the two that are in progress or wait on the queue already."""
    queued: int = 0
    unchecked: int = 0
    """Candidates that could not be looked up or queued: left to the next pass."""

    @property
    def operations(self) -> int:
        """Storage operations: pages, look-ups, questions whether it waits, requests; each counted as one."""
        return self.pages + self.candidates + self.missing + self.stale + self.queued


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a pass stands between two runs. As JSON a few hundred bytes, as `held` is nearly always a name or two.

    Attributes:
        held: name and ETag of the images listed already whose results are yet to come, at most `MAX_HELD`.
    """

    began: datetime
    images_container: str
    results_container: str
    images: Position = Position()
    results: Position = Position()
    held: tuple[tuple[str, str], ...] = ()
    summary: Summary = field(default_factory=Summary)
    finished: bool = False

    def to_json(self) -> bytes:
        return _PROGRESS.dump_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """Read what `to_json` wrote; None, and a warning, for anything else: then a pass starts anew."""
        try:
            return cast("Self", _PROGRESS.validate_json(data))
        except ValidationError as error:
            logger.warning("The stored progress of the reconciliation can't be read, it starts anew: %s", error)
            return None


_PROGRESS = TypeAdapter(Progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Finds uploads without a current result and has them queued.

    Attributes:
        images: the input container; its metadata is not needed.
        results: the result container, with metadata.
        source_etag: of which version of the image the result of this name is; None if there is no such result,
            an empty text if it doesn't say. One operation.
        is_waiting: whether the image (name, ETag) is being worked on or waits in the queue.
        queue: requests the analysis of the image (name, ETag).
        grace: how old an upload has to be before a missing result is worth a look.
    """

    images: Listing
    results: Listing
    source_etag: Callable[[str], Awaitable[str | None]]
    is_waiting: Callable[[str, str], Awaitable[bool]]
    queue: Callable[[str, str], Awaitable[None]]
    grace: timedelta
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = monotonic

    async def run(self, progress: Progress | None, *, seconds: float, allowance: int) -> Progress:
        """Go on with the pass in `progress`, or start one: None, a finished one, other containers.

        Returns after about `seconds`: it stops in front of the next page or after a few look-ups, but never
        before it has got anywhere. It stops, too, once it has queued as many images as its `allowance`. Store
        what it returns for the next run. Where a run fails or is killed, the next one starts from the progress
        stored before and leaves alone what `is_waiting` says was queued.

        Raises:
            RetryableFailure: a container can't be listed.
        """
        if progress is None or progress.finished:
            progress = self._start()
        elif not self._concerns(progress):
            logger.warning("The containers have changed, the reconciliation starts anew.")
            progress = self._start()
        try:
            return await _Run(self, progress, _Deadline(self.clock, seconds), allowance).run()
        except TokenRefused as refusal:
            logger.warning(
                "The listings of the pass begun at %s can't be continued, the next run starts anew: %s",
                progress.began,
                refusal,
            )
            return self._start()

    def _start(self) -> Progress:
        return Progress(self.now(), self.images.name, self.results.name)

    def _concerns(self, progress: Progress) -> bool:
        return (progress.images_container, progress.results_container) == (self.images.name, self.results.name)


class _Stopped(Exception):
    """A run has used up its time or its allowance. Raised only where nothing is half done."""


class _Deadline:
    """A run's deadline. It doesn't count before the run has dealt with a blob, or runs could go round in circles."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._deadline = clock() + seconds
        self.moved = False

    def pause_if_due(self) -> None:
        if self.moved and self._clock() >= self._deadline:
            raise _Stopped


class _Cursor:
    """A place in a listing that moves forward, blob by blob."""

    def __init__(self, listing: Listing, position: Position, deadline: _Deadline) -> None:
        self._listing = listing
        self._deadline = deadline
        self._start = position
        self._page = Page((), None)
        self._taken = 0
        self.pages = 0

    async def peek(self) -> ListedBlob | None:
        """The blob that is next; None at the end."""
        while self._taken == len(self._page.blobs):
            position = self.position
            if position.ended:
                return None
            await self._turn(position)
        return self._page.blobs[self._taken]

    def take(self) -> None:
        self._taken += 1
        self._deadline.moved = True

    @property
    def position(self) -> Position:
        if self.pages == 0:
            return self._start
        if self._taken == len(self._page.blobs):
            return Position(self._page.next_token, ended=self._page.next_token is None)
        return replace(self._start, after=self._page.blobs[self._taken - 1].name if self._taken else None)

    async def _turn(self, position: Position) -> None:
        self._deadline.pause_if_due()
        self._page = await self._listing.page(position.token)
        self._start = Position(position.token)
        self.pages += 1
        # If that blob is gone, the whole page counts again: better a candidate twice than never.
        names = [blob.name for blob in self._page.blobs] if position.after is not None else []
        self._taken = names.index(position.after) + 1 if position.after in names else 0


@dataclass(frozen=True, slots=True, order=True)
class _Held:
    """An image whose result is yet to come, ordered by the result's name."""

    order: bytes
    result: str = field(compare=False)
    name: str = field(compare=False)
    etag: str = field(compare=False)

    @classmethod
    def of(cls, name: str, etag: str) -> Self:
        result = result_name(name)
        return cls(_order(result), result, name, etag)


class _Run:
    """One run of a pass."""

    def __init__(self, job: Reconciliation, progress: Progress, deadline: _Deadline, allowance: int) -> None:
        self._job = job
        self._allowance = allowance
        self._progress = progress
        self._deadline = deadline
        self._images = _Cursor(job.images, progress.images, deadline)
        self._results = _Cursor(job.results, progress.results, deadline)
        self._held = [_Held.of(name, etag) for name, etag in progress.held]
        heapq.heapify(self._held)
        self._candidates: list[_Held] = []
        self._summary = replace(progress.summary, runs=progress.summary.runs + 1)

    async def run(self) -> Progress:
        try:
            await self._compare()
            finished = True
        except _Stopped:
            finished = False
        await self._check_candidates()
        self._summary.pages += self._images.pages + self._results.pages
        return replace(
            self._progress,
            images=self._images.position,
            results=self._results.position,
            held=tuple((held.name, held.etag) for held in self._held),
            summary=self._summary,
            finished=finished and not self._held,
        )

    async def _compare(self) -> None:
        youngest = self._job.now() - self._job.grace
        while (image := await self._images.peek()) is not None:
            await self._settle_before(_order(image.name))
            self._images.take()
            self._summary.images += 1
            if image.last_modified <= youngest and wants_result(image.name):
                heapq.heappush(self._held, _Held.of(image.name, image.etag))
                if len(self._held) > MAX_HELD:
                    await self._suspect(heapq.heappop(self._held))
        await self._settle_before(None)

    async def _settle_before(self, limit: bytes | None) -> None:
        """Compare the images whose results come before `limit` in the order, None being behind all."""
        while self._held and (limit is None or self._held[0].order < limit):
            etag = await self._listed_source_etag(self._held[0])
            held = heapq.heappop(self._held)
            self._deadline.moved = True
            if etag != held.etag:
                await self._suspect(held)

    async def _listed_source_etag(self, held: _Held) -> str | None:
        while (result := await self._results.peek()) is not None and _order(result.name) <= held.order:
            self._results.take()
            self._summary.results += 1
            if result.name == held.result:
                return result.metadata.get("sourceetag")
        return None

    async def _suspect(self, held: _Held) -> None:
        self._candidates.append(held)
        if len(self._candidates) == CHECKED_AT_A_TIME:
            await self._check_candidates()
            if self._allowance <= 0:
                raise _Stopped
            self._deadline.pause_if_due()

    async def _check_candidates(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for held in self._candidates:
                tasks.create_task(self._check(held))
        self._candidates.clear()

    async def _check(self, held: _Held) -> None:
        if self._allowance <= 0:  # the next run goes on with it
            heapq.heappush(self._held, held)
            return
        self._allowance -= 1
        self._allowance += not await self._queued(held)

    async def _queued(self, held: _Held) -> bool:
        job, summary = self._job, self._summary
        summary.candidates += 1
        try:
            etag = await job.source_etag(held.result)
            if etag == held.etag:
                return False
            if etag is None:
                summary.missing += 1
            else:
                summary.stale += 1
            if await job.is_waiting(held.name, held.etag):
                summary.waiting += 1
                return False
            await job.queue(held.name, held.etag)
        except RetryableFailure as failure:
            # One name that can't be checked must not keep the pass from all the others.
            summary.unchecked += 1
            logger.warning("%s is left to the next pass: %s", blob_label(job.images.name, held.name), failure.message)
            return False
        summary.queued += 1
        logger.info("%s has no current result: queued", blob_label(job.images.name, held.name))
        return True


def _order(name: str) -> bytes:
    """A key that sorts as the emulator lists, by UTF-16 code unit, and as .NET's ordinal comparison does."""
    return name.encode("utf-16-be", "surrogatepass")
