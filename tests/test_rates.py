"""Rates that the operator sets: what is above them waits, and nothing is lost or paid beyond what is stated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.person import People, Person
from support.pictures import picture
from support.terminal import blobsight

from pipeline.errors import RetryableFailure
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
            clock.sleep(over.retry_after or 0)
            rate.require_left(kept)
        made.append(clock())
        kept = rate.with_one_more(kept)
        assert len(kept) <= limit
    for moment in made:
        assert sum(moment - HOUR < other <= moment for other in made) <= limit


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
