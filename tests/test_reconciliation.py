"""Every upload without a current result is found by listing, under any name, in any order, across interruptions."""

import asyncio
import itertools
import logging
import tracemalloc
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from azure.storage.blob.aio import ContainerClient
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples, some_of
from support.person import Person

from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.names import MAX_BLOB_NAME, result_name, wants_result
from pipeline.storage.facts import ListedBlob, Page, TokenRefused
from pipeline.storage.listing import ContainerListing
from pipeline.upkeep.reconciliation import MAX_HELD, Listing, Progress, Reconciliation, Summary

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)


# Orders in which a service may list. Each page is sorted anew, since blobs come and go.
@cache
def utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


@cache
def utf8(name: str) -> bytes:
    return name.encode("utf-8")


@cache
def folders_first(name: str) -> bytes:
    """As accounts with a hierarchical namespace do. https://github.com/Azure/azure-sdk-for-go/issues/24210"""
    return name.replace("/", "\0").encode("utf-8")


type Order = Callable[[str], bytes]


@dataclass
class Container:
    """A container that lists as Azure does: from a token on, also when blobs have changed meanwhile."""

    name: str
    order: Order = utf16
    page_size: int = 5000
    blobs: dict[str, ListedBlob] = field(default_factory=dict)
    pages: int = 0
    refuses: set[str] = field(default_factory=set)

    def put(self, name: str, etag: str, *, modified: datetime = OLD, metadata: Mapping[str, str] | None = None) -> None:
        self.blobs[name] = ListedBlob(name, etag, modified, metadata or {})

    async def page(self, token: str | None) -> Page:
        self.pages += 1
        if token is not None and token in self.refuses:
            raise TokenRefused(token)
        names = sorted(self.blobs, key=self.order)
        start = 0 if token is None else bisect_right([self.order(name) for name in names], self.order(token))
        listed = names[start : start + self.page_size]
        more = start + self.page_size < len(names)
        return Page([self.blobs[name] for name in listed], listed[-1] if more else None)


ANY_NUMBER = 10**9


@dataclass
class World:
    """Two containers and a queue. Time stands still for uploads and ticks with every look for a run's deadline."""

    images: Container = field(default_factory=lambda: Container("images"))
    results: Container = field(default_factory=lambda: Container("results"))
    waiting: set[str] = field(default_factory=set)
    queued: list[str] = field(default_factory=list)
    lookups: int = 0
    asked: int = 0
    ticks: Iterator[int] = field(default_factory=itertools.count)

    def upload(self, name: str, *, etag: str = "v1", result_of: str | None, modified: datetime = OLD) -> None:
        self.images.put(name, etag, modified=modified)
        if result_of:
            self.results.put(result_name(name), "r", metadata={"sourceetag": result_of})

    @property
    def lacking(self) -> list[str]:
        """The images that a pass has to find, by comparing everything with everything."""
        return [
            image.name
            for image in self.images.blobs.values()
            if wants_result(image.name) and self.result_of(result_name(image.name)) != image.etag
        ]

    def result_of(self, result: str) -> str | None:
        blob = self.results.blobs.get(result)
        return blob.metadata["sourceetag"] if blob else None

    async def source_etag(self, result: str) -> str | None:
        self.lookups += 1
        return self.result_of(result)

    async def is_waiting(self, name: str, _etag: str) -> bool:
        self.asked += 1
        return name in self.waiting

    async def queue(self, name: str, _etag: str) -> None:
        self.queued.append(name)

    def job(self, images: Listing | None = None, results: Listing | None = None) -> Reconciliation:
        return Reconciliation(
            images=images or self.images,
            results=results or self.results,
            source_etag=self.source_etag,
            is_waiting=self.is_waiting,
            queue=self.queue,
            grace=timedelta(minutes=15),
            now=lambda: NOW,
            clock=lambda: next(self.ticks),
        )

    async def run(
        self, progress: Progress | None = None, *, seconds: float = 1e9, allowance: int = ANY_NUMBER
    ) -> Progress:
        """One run, as a timer makes it: what it stores is all that the next one knows."""
        done = await self.job().run(progress, seconds=seconds, allowance=allowance)
        return Progress.from_json(done.to_json()) or pytest.fail("unread")

    async def whole_pass(self, seconds: Iterator[int], allowance: int = ANY_NUMBER) -> list[Progress]:
        """Runs of so many seconds each, which queue so many, until the pass is finished."""
        runs = [await self.run(seconds=next(seconds), allowance=allowance)]
        while not runs[-1].finished:
            assert len(runs) < 10_000, "the pass doesn't end"
            queued = len(self.queued)
            runs.append(await self.run(runs[-1], seconds=next(seconds), allowance=allowance))
            assert len(self.queued) <= queued + allowance
        return runs


# Names that start one another, characters that sort around those of ".json", and the ends of both encodings.
characters = st.sampled_from([*"aab--./ ~", ".json", "\uff01", "😀", "é"])
short_names = st.lists(characters, min_size=1, max_size=6).map("".join)
stems = st.sampled_from(["x" * (MAX_BLOB_NAME - 80), "😀" * ((MAX_BLOB_NAME - 80) // 2)])
long_names = st.builds(
    lambda stem, name, length: f"{stem}{name * 80}"[:length],
    stems,
    short_names,
    st.integers(MAX_BLOB_NAME - 90, MAX_BLOB_NAME),
).filter(lambda name: len(utf16(name)) <= 2 * MAX_BLOB_NAME)
names = st.one_of(short_names, short_names, long_names, st.just("cat.jpg.instructions.md"), st.just("Thumbs.db"))
uploads = st.dictionaries(names, st.sampled_from(["current", "stale", "missing"]), max_size=30)
orders = st.sampled_from([utf16, utf8, folders_first])
# Seconds of each run; the clock ticks once with every look at it, so 0 stops at the first opportunity.
interruptions = st.lists(st.integers(0, 4), min_size=1, max_size=8).map(itertools.cycle)


def a_world(contents: Mapping[str, str], orphans: set[str] | None = None) -> World:
    world = World()
    for name, state in contents.items():
        world.upload(name, result_of={"current": "v1", "stale": "v0", "missing": None}[state])
    for orphan in orphans or set():
        world.results.put(result_name(orphan), "r", metadata={"sourceetag": "v1"})
    return world


@examples(200)
@given(uploads, st.sets(short_names, max_size=10), orders, orders, st.integers(1, 7), st.integers(1, 7), interruptions)
@example({"a": "current", "a-b": "missing", "a.json": "stale"}, set(), utf16, utf16, 1, 1, itertools.cycle([0]))
@example({"😀": "current", "\uff01": "current"}, set(), utf8, utf16, 1, 1, itertools.cycle([0]))
@example({"a": "current", "a-b": "current", "a/b": "missing"}, set(), folders_first, utf16, 2, 1, itertools.cycle([0]))
async def test_exactly_the_missing_and_stale_are_queued_once_per_pass(
    contents: dict[str, str],
    orphans: set[str],
    order_of_images: Order,
    order_of_results: Order,
    images_per_page: int,
    results_per_page: int,
    seconds: Iterator[int],
) -> None:
    """Whatever the names, the order of either listing, the page sizes and the points of interruption."""
    world = a_world(contents, orphans - set(contents))
    world.images.order, world.images.page_size = order_of_images, images_per_page
    world.results.order, world.results.page_size = order_of_results, results_per_page
    runs = await world.whole_pass(seconds)
    assert sorted(world.queued) == sorted(world.lacking)

    summary = runs[-1].summary
    assert summary.operations == world.images.pages + world.results.pages + world.lookups + world.asked + len(
        world.queued
    )
    assert replace(summary, pages=0, results=0, candidates=0) == replace(
        summary.__class__(),
        runs=len(runs),
        images=len(contents),
        missing=sum(world.result_of(result_name(name)) is None for name in world.lacking),
        stale=sum(world.result_of(result_name(name)) is not None for name in world.lacking),
        queued=len(world.queued),
    )
    assert summary.candidates == world.lookups >= len(world.queued)


@examples(200)
@given(uploads, orders, st.integers(1, 7), interruptions, st.integers(1, 5))
async def test_a_run_stops_where_its_allowance_is_reached_and_the_next_goes_on(
    contents: dict[str, str], order: Order, page_size: int, seconds: Iterator[int], allowance: int
) -> None:
    world = a_world(contents)
    world.images.order = world.results.order = order
    world.images.page_size = world.results.page_size = page_size
    await world.whole_pass(seconds, allowance)
    assert sorted(world.queued) == sorted(world.lacking)


async def test_images_above_the_allowance_cost_nothing() -> None:
    """Of 3,000 images without results, a run that may queue 10 looks at little more than those."""
    world = a_world({f"{n:04}.jpg": "missing" for n in range(3000)})
    progress = await world.run(allowance=10)
    assert (len(world.queued), world.lookups, world.asked) == (10, 10, 10)
    await world.run(progress, allowance=20)
    assert (len(set(world.queued)), world.lookups) == (30, 30)


@examples(100)
@given(uploads, st.integers(1, 7), interruptions)
async def test_in_the_emulators_order_only_images_without_a_result_are_looked_up(
    contents: dict[str, str], page_size: int, seconds: Iterator[int]
) -> None:
    world = a_world(contents)
    world.images.page_size = world.results.page_size = page_size
    await world.whole_pass(seconds)
    assert world.lookups == len(world.lacking)


@examples(100)
@given(st.data())
async def test_changes_between_runs_hide_nothing_that_is_missing_all_along(data: st.DataObject) -> None:
    """Blobs come and go while a pass is interrupted, those where it stopped among them."""
    world = a_world(data.draw(uploads))
    world.images.page_size = world.results.page_size = data.draw(st.integers(1, 5))
    lacking_all_along = set(world.lacking)
    progress = await world.run(seconds=0)
    while not progress.finished:
        for name in data.draw(st.lists(st.sampled_from(sorted(world.images.blobs)), max_size=2, unique=True)):
            if data.draw(st.booleans()):
                del world.images.blobs[name]
            world.results.blobs.pop(result_name(name), None)
        world.upload(data.draw(short_names), result_of="v1")
        lacking_all_along &= set(world.lacking)
        progress = await world.run(progress, seconds=data.draw(st.integers(0, 20)))
    assert lacking_all_along <= set(world.queued)


@pytest.mark.no_cover
@pytest.mark.parametrize(("order", "most"), some_of([(utf16, 1024), (utf8, MAX_HELD), (folders_first, MAX_HELD)]))
async def test_few_images_are_held_until_the_listing_reaches_their_result(order: Order, most: int) -> None:
    """Not even with the longest chain of names that start one another, and thousands of short result names."""
    world = World()
    for name in ["-" * length for length in range(1, 1019)] + [f"/a{i}" for i in range(3000)]:
        world.upload(name, result_of="v1")
    if order is not utf16:  # a thousand and more with the same first 954 characters: no order helps there
        for i in range(3000):
            world.upload(f"{'x' * 1016}{i:05}", result_of="v1")
    world.images.order = world.results.order = order
    world.images.page_size, world.results.page_size = 250, 5000
    runs = await world.whole_pass(itertools.repeat(0))
    assert 100 < max(len(run.held) for run in runs) <= most
    assert max(len(run.to_json()) for run in runs) < 5_000_000
    assert world.queued == []


async def test_a_run_stops_when_its_time_is_up_and_never_before_it_got_anywhere() -> None:
    world = World()
    for i in range(100):
        world.upload(f"{i:03}", result_of="v1" if i % 2 else None)
    world.images.page_size = world.results.page_size = 10
    first, *others = await world.whole_pass(itertools.repeat(0))
    assert (first.finished, first.summary.pages, first.summary.images) == (False, 1, 1)
    assert len(others) < 40  # of 20 pages
    assert sorted(world.queued) == sorted(world.lacking)


async def test_a_pass_that_is_finished_starts_anew() -> None:
    world = a_world({"lost": "missing", "there": "current"})
    finished = await world.run()
    assert (finished.finished, world.queued) == (True, ["lost"])
    again = await world.run(finished)
    assert (again.finished, again.summary.runs, world.queued) == (True, 1, ["lost", "lost"])


async def test_young_uploads_and_queued_ones_are_left_alone() -> None:
    world = World()
    world.upload("young", result_of=None, modified=NOW - timedelta(minutes=14))
    world.upload("young and stale", result_of="v0", modified=NOW)
    world.upload("old enough", result_of=None, modified=NOW - timedelta(minutes=15))
    world.upload("waiting", result_of=None)
    world.waiting.add("waiting")
    progress = await world.run()
    assert world.queued == ["old enough"]
    assert (progress.summary.candidates, progress.summary.waiting) == (2, 1)


async def test_a_result_written_while_the_pass_runs_is_respected() -> None:
    """The listing is of a while ago; the look-up is of now."""
    world = a_world({"a": "missing", "b": "stale"})
    listed = Container("results", blobs=dict(world.results.blobs))
    for name in ("a", "b"):
        world.upload(name, result_of="v1")
    await world.job(results=listed).run(None, seconds=60, allowance=ANY_NUMBER)
    assert (world.lookups, world.queued) == (2, [])


async def test_a_token_that_is_refused_starts_the_pass_anew(caplog: pytest.LogCaptureFixture) -> None:
    world = a_world({f"{i:02}": "missing" for i in range(20)})
    world.images.page_size = 5
    stopped = await world.run(seconds=0)
    while stopped.images.token is None:
        stopped = await world.run(stopped, seconds=0)
    world.images.refuses.add(stopped.images.token)
    with caplog.at_level(logging.WARNING):
        anew = await world.run(stopped)
    assert "can't be continued" in caplog.text
    assert (anew.finished, anew.images.token, anew.summary.runs) == (False, None, 0)
    world.images.refuses.clear()
    world.queued.clear()
    assert (await world.run(anew)).finished
    assert len(world.queued) == 20


async def test_other_containers_start_the_pass_anew(caplog: pytest.LogCaptureFixture) -> None:
    world = a_world({f"{i:02}": "missing" for i in range(20)})
    world.images.page_size = 5
    stopped = await world.run(seconds=0)
    world.images.name = "pictures"
    assert (await world.run(stopped)).finished
    assert "containers have changed" in caplog.text
    assert sorted(world.queued) == sorted(world.lacking)


@pytest.mark.parametrize("stored", [b"", b"{}", b"null", b"[1]", b'{"began": "yesterday"}', b"\xff\x00"])
def test_unreadable_stored_progress_counts_as_none(stored: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert Progress.from_json(stored) is None
    assert "starts anew" in caplog.text


async def test_one_upload_that_cannot_be_checked_does_not_keep_the_pass_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = a_world({"a": "missing", "b": "missing", "c": "missing"})
    queue = world.queue

    async def moody(name: str, etag: str) -> None:
        if name == "b":
            raise RetryableFailure("The queue is full.")
        await queue(name, etag)

    progress = await replace(world.job(), queue=moody).run(None, seconds=60, allowance=ANY_NUMBER)
    assert (progress.finished, progress.summary.unchecked, progress.summary.queued) == (True, 1, 2)
    assert sorted(world.queued) == ["a", "c"]
    assert "images/b is left to the next pass: The queue is full." in caplog.text


async def test_candidates_are_checked_side_by_side_but_not_all_at_once() -> None:
    world = a_world({f"{i:03}": "missing" for i in range(100)})
    now, most = 0, 0

    async def slow(_name: str, _etag: str) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return False

    await replace(world.job(), is_waiting=slow).run(None, seconds=60, allowance=ANY_NUMBER)
    assert (most, len(world.queued)) == (32, 100)


@dataclass
class Numbered:
    """The listing of any number of blobs, made up page by page so that it takes no room of its own."""

    name: str
    count: int
    suffix: str = ""
    lacks: int = 0
    """Every so many-th is not there."""

    async def page(self, token: str | None) -> Page:
        start = int(token or 0)
        end = min(start + 5000, self.count)
        blobs = [
            ListedBlob(f"2026/03/14/camera-{i:09}.jpg{self.suffix}", f"0x{i:015X}", OLD, {"sourceetag": f"0x{i:015X}"})
            for i in range(start, end)
            if not (self.lacks and i % self.lacks == 0)
        ]
        return Page(blobs, str(end) if end < self.count else None)


async def a_pass_over(count: int) -> tuple[World, Summary]:
    world = World()
    images, results = Numbered("images", count), Numbered("results", count, ".json", lacks=10_000)
    progress = await world.job(images, results).run(None, seconds=1e9, allowance=ANY_NUMBER)
    return world, progress.summary


@pytest.mark.no_cover
async def test_a_hundred_thousand_uploads_cost_forty_operations_and_three_for_each_that_is_lost() -> None:
    world, summary = await a_pass_over(100_000)
    assert (summary.images, summary.results) == (100_000, 99_990)
    assert (summary.pages, summary.candidates, summary.missing, summary.queued) == (40, 10, 10, 10)
    assert (summary.operations, world.lookups, world.asked) == (70, 10, 10)


@pytest.mark.no_cover
async def test_memory_does_not_grow_with_the_containers() -> None:
    peaks = []
    for count in (10_000, 20_000):
        tracemalloc.start()
        try:
            await a_pass_over(count)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 20e6


# The real thing: the storage SDK and the emulator.


async def a_container(person: Person, names: list[str], metadata: Mapping[str, str] | None = None) -> ContainerClient:
    client = person.blobs.get_container_client(f"reconciling-{uuid4().hex[:12]}")
    await client.create_container()
    for name in names:
        await client.upload_blob(name, b"", metadata=dict(metadata or {}))
    return client


NAMES = ["a", "a-b", "a.jpg", "a b/ä.png", "a/1", "a-b/1", "é", "漢字.jpg", "\uff01", "😀", "😀/\uff01", "x" * 1024]


async def test_the_emulator_lists_by_utf16_code_unit(person: Person) -> None:
    client = await a_container(person, NAMES)
    listing = ContainerListing(client, metadata=False)
    assert [blob.name for blob in (await listing.page(None)).blobs] == sorted(NAMES, key=utf16) != sorted(NAMES)


async def test_a_pass_over_the_emulator_finds_what_is_lost(person: Person) -> None:
    """Interrupted in front of every page, each of two blobs."""
    images = await a_container(person, NAMES)
    results = await a_container(person, [])
    etags = {blob.name: blob.etag async for blob in images.list_blobs()}
    for name in NAMES:
        if name not in ("a-b", "😀"):
            etag = "another" if name in ("é", "x" * 1024) else etags[name]
            await results.upload_blob(result_name(name), b"{}", metadata={"sourceetag": etag, "status": "succeeded"})
    world = World()

    async def source_etag(result: str) -> str | None:
        world.lookups += 1
        blob = results.get_blob_client(result)
        return (await blob.get_blob_properties()).metadata["sourceetag"] if await blob.exists() else None

    job = replace(
        world.job(
            ContainerListing(images, metadata=False, page_size=2), ContainerListing(results, metadata=True, page_size=2)
        ),
        source_etag=source_etag,
        now=lambda: datetime.now(UTC) + timedelta(hours=1),
    )
    progress = await job.run(None, seconds=0, allowance=ANY_NUMBER)
    while not progress.finished:
        progress = await job.run(progress, seconds=0, allowance=ANY_NUMBER)
    assert Counter(world.queued) == Counter(["a-b", "😀", "é", "x" * 1024])
    assert (progress.summary.missing, progress.summary.stale, world.lookups) == (2, 2, 4)


async def test_a_missing_container_is_logged_for_the_operator(person: Person) -> None:
    listing = ContainerListing(person.blobs.get_container_client("reconciling-nothing"), metadata=False)
    with pytest.raises(OperatorFailure, match="'reconciling-nothing' does not exist: create it"):
        await listing.page(None)


PAGE = """<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="results"><Blobs>
<Blob><Name>a &amp; b.jpg.json</Name><Properties><Last-Modified>Sat, 14 Mar 2026 09:26:53 GMT</Last-Modified>
<Etag>0x8DC</Etag></Properties><Metadata><SourceETag>0x8DB</SourceETag><errorcode /></Metadata></Blob>
<Blob><Name Encoded="true">%EF%BF%BE%25.jpg.json</Name><Properties><Last-Modified>Sat, 14 Mar 2026 09:26:53 GMT
</Last-Modified><Etag>"0x8DD"</Etag></Properties></Blob>
<Blob><Name>a folder</Name><Properties><Last-Modified>Sat, 14 Mar 2026 09:26:53 GMT</Last-Modified><Etag>0x8DE</Etag>
<ResourceType>directory</ResourceType></Properties></Blob>
</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"""


async def test_a_page_of_azures_listing_is_read() -> None:
    """Beyond the emulator: names that XML has no characters for, and tokens that are refused."""

    async def answer(request: web.Request) -> web.Response:
        assert (request.query["comp"], request.query["maxresults"]) == ("list", "5000")
        if request.query.get("marker") == "worn":
            return web.Response(status=400, headers={"x-ms-error-code": "OutOfRangeInput"})
        assert request.query["include"] == "metadata"
        following = "" if "marker" in request.query else "2!more"
        return web.Response(text=PAGE.replace("{next}", following), content_type="application/xml")

    app = web.Application()
    app.router.add_get("/account/results", answer)
    async with TestServer(app) as server, ContainerClient(str(server.make_url("/account")), "results") as client:
        listing = ContainerListing(client, metadata=True)
        first = await listing.page(None)
        last = await listing.page(first.next_token)
        with pytest.raises(TokenRefused):
            await listing.page("worn")
    modified = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
    assert first == Page(
        [
            ListedBlob("a & b.jpg.json", "0x8DC", modified, {"sourceetag": "0x8DB", "errorcode": ""}),
            ListedBlob("\ufffe%.jpg.json", "0x8DD", modified, {}),
        ],
        "2!more",
    )
    assert (listing.name, last.next_token) == ("results", None)
