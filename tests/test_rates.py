"""Rates that the operator sets: what is above them waits, and nothing is lost or paid beyond what is stated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import pdf
from support.person import People, Person
from support.pictures import picture
from support.terminal import blobsight
from support.workshop import THROTTLED, Workshop, failing, workshop

from localcloud.model.script import Answer, PromptFiltered
from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.pacing.rates import HOUR, SHARED_EVERY_SECONDS, DailyTokens, OverDailyTokens, OverReanalyses, Reanalyses


@dataclass
class Clock:
    time: datetime = datetime(2026, 3, 14, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Notes:
    """The spending that instances share."""

    spent: dict[tuple[str, str], int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    is_away: bool = False

    async def write(self, day: str, instance: str, tokens: int, limit: int) -> None:
        self._count("write")
        assert limit == 1000
        self.spent[day, instance] = tokens

    async def total(self, day: str) -> tuple[int, int | None]:
        self._count("list")
        return sum(tokens for (of, _), tokens in self.spent.items() if of == day), 1000

    def _count(self, request: str) -> None:
        self.requests[request] += 1
        if self.is_away:
            raise RetryableFailure("Storage can't be reached.")


async def spend(instance: DailyTokens, tokens: int) -> bool:
    """Whether a call that takes `tokens` was made."""
    try:
        await instance.require_left()
    except OverDailyTokens:
        return False
    instance.count(tokens)
    return True


async def test_tokens_of_a_day_are_shared_and_overshot_by_one_interval_at_most() -> None:
    clock, notes = Clock(), Notes()
    instances = [DailyTokens(1000, notes, clock) for _ in range(5)]
    spent = 0
    for _ in range(1000):
        for instance in instances:
            spent += 2 * await spend(instance, 2)
        clock.sleep(1)
    in_an_interval = 5 * 2 * (SHARED_EVERY_SECONDS + 1)
    assert 1000 <= spent <= 1000 + in_an_interval
    assert notes.requests["write"] <= 5 * (spent / 10 / SHARED_EVERY_SECONDS + 2)
    assert notes.requests["list"] <= 5 * (1000 / SHARED_EVERY_SECONDS + 1)


async def test_it_goes_on_at_midnight_and_not_before() -> None:
    clock, notes = Clock(), Notes()
    instance = DailyTokens(1000, notes, clock)
    assert await spend(instance, 1000)
    with pytest.raises(OverDailyTokens, match="TOKENS_PER_DAY") as over:
        await instance.require_left()
    assert over.value.retry_after == 12 * 3600
    clock.sleep(over.value.retry_after - 0.5)
    assert not await spend(instance, 1)
    clock.sleep(0.5)
    assert await spend(instance, 1)


async def test_an_instance_that_starts_knows_what_was_spent_before_it() -> None:
    clock, notes = Clock(), Notes({("2026-03-14", "another"): 1000, ("2026-03-13", "another"): 1})
    instance = DailyTokens(1000, notes, clock)
    assert await asyncio.gather(*(spend(instance, 1) for _ in range(50))) == [False] * 50
    assert notes.requests == {"list": 1}


async def test_work_goes_on_with_what_is_known_while_the_notes_can_not_be_reached() -> None:
    clock, notes = Clock(), Notes(is_away=True)
    instance = DailyTokens(1000, notes, clock)
    assert await spend(instance, 999)
    clock.sleep(60)
    assert await spend(instance, 1)
    assert not await spend(instance, 1)
    notes.is_away = False
    clock.sleep(60)
    await spend(instance, 1)
    assert notes.spent == {("2026-03-14", next(iter(notes.spent))[1]): 1000}


async def test_what_an_instance_spends_last_is_told_before_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a burst on instances that then have nothing to do, again and again, would never reach the limit."""
    monkeypatch.setattr("pipeline.pacing.rates.SHARED_EVERY_SECONDS", 0.1)
    notes = Notes()
    for instance in [DailyTokens(1000, notes) for _ in range(3)]:
        assert await spend(instance, 100)
    deadline = asyncio.get_running_loop().time() + 10
    while sum(notes.spent.values()) < 300:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    assert notes.requests["write"] == 3


@given(
    limit=st.integers(1, 5),
    waits=st.lists(st.integers(0, 4000), max_size=60),
)
def test_no_hour_sees_more_reanalyses_than_the_limit_and_each_comes_as_soon_as_it_may(
    limit: int, waits: list[int]
) -> None:
    clock = Clock()
    rate = Reanalyses(limit, clock)
    kept: tuple[datetime, ...] = ()
    made: list[datetime] = []
    for wait in waits:
        clock.sleep(wait)
        try:
            rate.require_left(kept)
        except OverReanalyses as over:
            clock.sleep((over.retry_after or 0) - 0.5)
            with pytest.raises(OverReanalyses):
                rate.require_left(kept)
            clock.sleep(0.5)
            rate.require_left(kept)
        made.append(clock())
        kept = rate.with_one_more(kept)
        assert len(kept) <= limit
    for moment in made:
        assert sum(moment - HOUR < other <= moment for other in made) <= limit


# Around the rate ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    """One where an image may be asked about again once an hour, and has its first result."""
    async with workshop(person) as shop:
        shop.settings = shop.settings.model_copy(update={"reanalyses_per_hour": 1})
        await shop.analyzer.analyze(await shop.drop("a.png"))
        yield shop


A = Request(container="shop-images", name="a.png")
FILTERED = failing(PermanentFailure(ErrorCode.CONTENT_FILTERED, "Filtered."))


async def _nothing() -> None:
    """The model answers."""


async def drop_document(shop: Workshop) -> Request:
    """One of two pages, each a question of its own."""
    blob = shop.person.blobs.get_blob_client("shop-images", "document.pdf")
    await blob.upload_blob(pdf(["1", "2"]), overwrite=True, metadata={"instructions": "?", "per_page": "true"})
    return A.model_copy(update={"name": "document.pdf"})


async def test_a_question_that_changes_while_it_is_answered_counts(shop: Workshop) -> None:
    """Its answer is never delivered, but it was paid for."""
    images, texts = shop.person.blobs.get_container_client("shop-images"), iter(range(10))

    async def flip() -> None:
        await images.upload_blob("b.png.instructions.txt", f"{next(texts)}?", overwrite=True)

    await images.upload_blob("b.png", picture())
    image = A.model_copy(update={"name": "b.png"})
    await shop.analyzer.analyze(image)
    before = await shop.result("b.png")
    await flip()
    shop.model.behaviours.extend([flip] * 8)
    with pytest.raises(OverReanalyses):
        await shop.analyzer.analyze(image)
    assert shop.model.asked[2:] == ["0?"]
    assert await shop.result("b.png") == before


async def test_what_a_sidecar_asks_is_asked_though_another_answer_was_counted_since(shop: Workshop) -> None:
    """Counting changes the result's metadata, and so when storage says that it was last modified."""
    shop.settings = shop.settings.model_copy(update={"reanalyses_per_hour": 3})
    images = shop.person.blobs.get_container_client("shop-images")
    await images.upload_blob("b.png", picture())
    await shop.analyzer.analyze(A.model_copy(update={"name": "b.png", "instructions": "A person's?"}))
    sidecar = A.model_copy(update={"name": "b.png.instructions.txt"})

    async def flip() -> None:
        uploaded = await images.upload_blob(sidecar.name, "Second?", overwrite=True)
        last_modified = (await uploaded.get_blob_properties()).last_modified
        while datetime.now(UTC) < last_modified + timedelta(seconds=1):  # storage tells no parts of a second
            await asyncio.sleep(0.05)

    await images.upload_blob(sidecar.name, "First?")
    shop.model.behaviours.append(flip)
    assert await shop.analyzer.analyze(sidecar) is Outcome.SUCCEEDED
    assert shop.model.asked[1:] == ["A person's?", "First?", "Second?"]
    assert (await shop.result("b.png"))["instructions"]["text"] == "Second?"


async def test_an_image_that_is_deleted_while_it_is_answered_counts(shop: Workshop) -> None:
    image = shop.person.blobs.get_blob_client("shop-images", "a.png")
    shop.model.behaviours.append(image.delete_blob)
    await image.upload_blob(picture(), metadata={"instructions": "First?"}, overwrite=True)
    assert await shop.analyzer.analyze(A) is Outcome.GONE
    await image.upload_blob(picture(), metadata={"instructions": "Second?"}, overwrite=True)
    with pytest.raises(OverReanalyses):
        await shop.analyzer.analyze(A)
    assert shop.model.asked[1:] == ["First?"]


async def test_different_questions_at_once_are_asked_one_after_the_other(shop: Workshop) -> None:
    shop.model.behaviours.extend([lambda: asyncio.sleep(0.5)] * 6)
    questions = [A.model_copy(update={"instructions": f"{n}?"}) for n in range(6)]
    ended = await asyncio.gather(*map(shop.analyzer.analyze, questions), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ended) == ["ClaimedElsewhere"] * 5 + ["Outcome"]
    assert len(shop.model.asked) == 2


async def test_a_rerun_of_the_pages_that_failed_counts(shop: Workshop) -> None:
    """It asks about some pages only, and was asked for all the same."""
    request = await drop_document(shop)
    shop.model.behaviours.extend([_nothing, FILTERED, FILTERED])
    await shop.analyzer.analyze(request)
    rerun = request.model_copy(update={"rerun_failed": True})
    await shop.analyzer.analyze(rerun)
    assert len(shop.model.asked) == 1 + 3
    with pytest.raises(OverReanalyses):
        await shop.analyzer.analyze(rerun)
    assert len(shop.model.asked) == 1 + 3


async def test_what_was_begun_within_the_rate_is_finished_above_it(shop: Workshop) -> None:
    """Its pages are paid for; to leave them unused would cost more than the rest."""
    request = await drop_document(shop)
    await shop.analyzer.analyze(request)
    asked = request.model_copy(update={"instructions": "Begun?"})
    shop.model.behaviours.extend([_nothing, THROTTLED])
    with pytest.raises(RetryableFailure, match="throttling"):
        await shop.analyzer.analyze(asked)
    await shop.analyzer.analyze(request.model_copy(update={"instructions": "Meanwhile?"}))
    assert await shop.analyzer.analyze(asked) is Outcome.SUCCEEDED
    assert (await shop.result("document.pdf"))["instructions"]["text"] == "Begun?"
    assert shop.model.asked.count("Begun?") == 2 + 1  # the second page twice
    with pytest.raises(OverReanalyses):
        await shop.analyzer.analyze(request.model_copy(update={"instructions": "Next?"}))


async def test_a_failed_result_by_the_last_resort_keeps_the_moments(shop: Workshop) -> None:
    again = A.model_copy(update={"instructions": "Again?"})
    await shop.analyzer.analyze(again)
    image = shop.person.blobs.get_blob_client("shop-images", "a.png")
    await image.upload_blob(picture(), metadata={"instructions": "Once more?"}, overwrite=True)
    await shop.last_resort.record(A, PermanentFailure(ErrorCode.CRASHED, "It crashed."))
    assert (await shop.result("a.png"))["error"]["code"] == "crashed"
    with pytest.raises(OverReanalyses):
        await shop.analyzer.analyze(A)


async def test_waiting_for_a_rate_between_two_failures_is_not_counted_as_failing(shop: Workshop) -> None:
    """Else one outage before the day's tokens are spent and one after would end the image."""

    class Tokens(DailyTokens):
        async def require_left(self) -> None:
            if is_over:
                raise OverDailyTokens("They are spent.", retry_after=12 * 3600)

    shop.retry_for = timedelta(hours=1)
    work, deliveries = await shop.drop("b.png"), shop.deliveries(tokens=Tokens(1, Notes()))

    async def deliver(work: Request) -> Request:
        await deliveries.handle(work)
        later, delay = shop.queue.sent.pop()
        shop.time += timedelta(seconds=delay)
        return later

    outage = failing(RetryableFailure("The model can't be reached."))
    is_over = False
    shop.model.behaviours.extend([outage] * 2)
    work = await deliver(work)
    is_over = True
    for _ in range(12):
        work = await deliver(work)
    assert (work.attempt, shop.time > datetime(2026, 3, 14, 12, tzinfo=UTC)) == (2, True)
    is_over = False
    work = await deliver(work)
    assert (work.attempt, await shop.results()) == (3, ["a.png.json"])
    shop.time += timedelta(hours=1)
    shop.model.behaviours.append(outage)
    await deliveries.handle(work)
    assert (await shop.result("b.png"))["error"]["code"] == "retries_exhausted"


# The whole way ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def rationed(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    settings = {"REANALYSES_PER_HOUR": "2"}
    async with people(tmp_path_factory.mktemp("rationed"), settings) as person:
        yield person


async def flip(person: Person, name: str, text: str) -> None:
    await person.blobs.get_blob_client("images", f"{name}.instructions.txt").upload_blob(text, overwrite=True)


async def answered(person: Person, name: str, text: str) -> None:
    """Wait until the result of `name` answers `text`."""
    async with asyncio.timeout(person.patience):
        while (await person.result(name))["instructions"]["text"] != text:
            await asyncio.sleep(0.1)


async def test_a_sidecar_that_is_flipped_is_asked_about_so_often_and_then_waits(rationed: Person) -> None:
    await rationed.drop("a.png", picture(), {})
    await rationed.result("a.png")
    for text in ("First?", "Second?"):
        await flip(rationed, "a.png", text)
        await answered(rationed, "a.png", text)
    await flip(rationed, "a.png", "Third?")
    await rationed.logged("REANALYSES_PER_HOUR")
    status = await blobsight(rationed, "status", "a.png")
    assert "1 image waits for the setting REANALYSES_PER_HOUR.\n" in status.talk
    # What was answered is given again, and an image beside it is not held up.
    await flip(rationed, "a.png", "First?")
    await answered(rationed, "a.png", "First?")
    await rationed.drop("b.png", picture())
    await rationed.result("b.png")
    assert [len(rationed.asked(text)) for text in ("First?", "Second?", "Third?")] == [1, 1, 0]


async def test_reruns_of_the_pages_that_failed_come_so_often_and_then_wait(rationed: Person) -> None:
    rationed.scripts["Pages?"].extend([Answer(), *[PromptFiltered()] * 9])
    await rationed.drop("pages.pdf", pdf(["1", "2"]), {"instructions": "Pages?", "per_page": "true"})
    failed = await rationed.result("pages.pdf")
    await rationed.logged("images/pages.pdf: failed")  # its line comes after its result
    for asked in (3, 4, 4):
        since = rationed.log.stat().st_size
        ran = await blobsight(rationed, "retry", "pages.pdf", "--yes")
        assert ran.status == 0, ran.talk
        await rationed.logged("images/pages.pdf: failed", "REANALYSES_PER_HOUR", since=since)
        assert len(rationed.asked("Pages?")) == asked
    kept = (await rationed.result("pages.pdf"))["answer"]["pages"]
    assert [page["text"] for page in kept] == [page["text"] for page in failed["answer"]["pages"]]


@pytest.fixture(scope="module")
async def spent_up(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with people(tmp_path_factory.mktemp("spent"), {"TOKENS_PER_DAY": "1", "RETRY_FOR_SECONDS": "1"}) as person:
        yield person


async def test_when_the_days_tokens_are_spent_images_wait_without_an_attempt(spent_up: Person) -> None:
    await spent_up.drop("first.png", picture(), {"instructions": "The one that may be paid?"})
    first = await spent_up.result("first.png")
    assert first["status"] == "succeeded"
    await spent_up.drop("second.png", picture(), {"instructions": "Tomorrow?"})
    await spent_up.logged("TOKENS_PER_DAY")
    assert spent_up.asked("Tomorrow?") == []
    assert await spent_up.result_names("second.png") == []
    found = {line["check"]: line for line in (await blobsight(spent_up, "doctor", "--json")).json()}["rates"]
    assert found["verdict"] == "failed"
    assert "of 1 tokens are spent (TOKENS_PER_DAY)" in found["seen"]
    counted = (await blobsight(spent_up, "status", "--json")).json()
    assert counted["waiting_for_rates"] == {"TOKENS_PER_DAY": 1}
    assert "attempt 1" in spent_up.log.read_text(encoding="utf-8").partition("TOKENS_PER_DAY")[2].partition("\n")[0]
