"""The tier flex: half the price, where there is capacity. Refusals are in nobody's way, and patience is stated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import jsonschema
import pytest
from support.person import SCHEMA, Echo, People, Person
from support.pictures import picture
from support.workshop import Workshop, workshop

from bench.simulation.clock import now, seeded, virtually
from localcloud.certificates import Certificates
from localcloud.model import FLEX_UNSUPPORTED, NO_FLEX_CAPACITY, ByTier, LocalModel, Slow
from pipeline.documents.facts import Picture
from pipeline.errors import ErrorCode, PermanentFailure, TimedOut
from pipeline.images import PreparedImage
from pipeline.instructions.options import Options, parse_options
from pipeline.job.race import Outcome
from pipeline.job.requests import MESSAGE_BYTES, Request, parse_deferred
from pipeline.model.azure_openai import FLEX_TIMEOUT_SECONDS, AzureOpenAIModel
from pipeline.model.question import Buying, Question, Reply
from pipeline.model.refusals import NoFlexCapacity
from pipeline.pacing.gate import Busy
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane
from pipeline.pacing.waits import DEFERRALS
from pipeline.triggers.deliveries import DEADLINE_SECONDS

DEFAULT, FLEX = Lane("vision"), Lane("vision", "flex")


# ---- The governor ----------------------------------------------------------------------------------------------------


def governor() -> Governor:
    return Governor(most_in_flight=4, patience=30, rng=seeded(1))


async def refused(governor: Governor, lane: Lane = FLEX, **headers: str) -> None:
    async with governor.turn(lane) as turn:
        turn.throttled({name.replace("_", "-"): value for name, value in headers.items()})


async def answered(governor: Governor, lane: Lane, seconds: float = 1.0) -> float:
    """When the call began."""
    async with governor.turn(lane) as turn:
        began = now()
        await asyncio.sleep(seconds)
        turn.succeeded({})
        return began


def test_refusals_at_flex_change_nothing_for_the_default_tier() -> None:
    """The same calls begin at the same moments, to the hundredth, as where there is no flex."""

    async def ten_minutes(*, with_flex: bool) -> list[float]:
        both = governor()

        async def knock() -> None:
            while True:
                with suppress(Busy):
                    await refused(both)
                await asyncio.sleep(0.5)

        knocking = asyncio.create_task(knock()) if with_flex else None
        starts = []
        while now() < 600:
            starts += await asyncio.gather(*(answered(both, DEFAULT) for _ in range(4)))
        state = both.state(DEFAULT)
        assert (state.pace, state.paused_for, state.limit) == (None, 0, 4)
        if knocking:
            knocking.cancel()
            assert both.state(FLEX).paused_for > 60
            assert both.refusing(FLEX)
        assert not both.refusing(DEFAULT)
        return starts

    alone = virtually(ten_minutes(with_flex=False))
    assert virtually(ten_minutes(with_flex=True)) == alone
    assert len(alone) > 2000


def test_nothing_waits_at_flex_while_it_refuses() -> None:
    """Neither at the door, with a place at the host, nor at the gate, with an image in its hand."""

    async def sent_away() -> None:
        both = governor()
        entered = asyncio.Event()

        async def refuse_later() -> None:
            async with both.turn(FLEX) as turn:
                entered.set()
                await asyncio.sleep(3)
                turn.throttled({"retry-after": "20"})

        async def in_flight() -> None:
            async with both.turn(FLEX):
                await asyncio.sleep(1000)

        async def at_the_gate() -> float:
            with pytest.raises(Busy):
                await answered(both, FLEX)
            return now()

        async def at_the_door() -> float:
            with pytest.raises(Busy):
                async with both.door(FLEX, 700):
                    pass
            return now()

        async def inside() -> None:
            async with both.door(FLEX, 700):
                await asyncio.sleep(1000)

        busy = [asyncio.create_task(each) for each in (refuse_later(), in_flight(), *(inside() for _ in range(4)))]
        await entered.wait()
        waiting = [asyncio.create_task(each) for each in (at_the_gate(), at_the_door(), at_the_door())]
        await asyncio.sleep(1)
        assert both.state(FLEX).waiting == 3
        assert await asyncio.gather(*waiting) == [3, 3, 3]
        assert [await at_the_gate(), await at_the_door()] == [3, 3]  # and while it lasts, nobody begins to wait
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await asyncio.sleep(25)  # until the time that it named is over: one call tries whether there is capacity again
        async with both.door(FLEX, 0):
            assert await answered(both, FLEX) == 28
        assert not both.refusing(FLEX)

    virtually(sent_away())


def test_images_that_turn_out_to_be_for_flex_take_no_place_at_the_default_door() -> None:
    """Their metadata say so, which is known when they are inside."""

    async def main() -> list[float]:
        both = governor()

        async def flex_behind_the_default_door() -> None:
            async with both.door(DEFAULT, 0):
                await answered(both, FLEX, 900)

        slow = [asyncio.create_task(flex_behind_the_default_door()) for _ in range(4)]
        await asyncio.sleep(0)

        async def usual() -> float:
            async with both.door(DEFAULT, 700):
                return await answered(both, DEFAULT)

        starts = list(await asyncio.gather(*(usual() for _ in range(12))))
        for task in slow:
            task.cancel()
        return starts

    assert max(virtually(main())) < 10  # and not when the others have their answers


# ---- The call --------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_of_flex_alone_and_is_asked_for_no_second_time(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "a-token"

    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    photo = PreparedImage(data=picture(), format="png", width=64, height=48, transformed=False)
    usual = Question("?", "vision", "", "auto", 100)
    thrifty = replace(usual, buying=Buying("flex", flex_patience=77))
    pacing = Governor(most_in_flight=8, patience=60)
    async with LocalModel(certificates, verify=lambda _: {}, brain=Echo()) as service:
        service.script.policy = ByTier(flex=lambda _: NO_FLEX_CAPACITY)
        model = AzureOpenAIModel(service.endpoint, token, 60, pacing)
        try:
            for _ in range(3):  # the first is refused, the others would be
                with pytest.raises(NoFlexCapacity) as refusal:
                    await model.ask(thrifty, photo)
                assert (refusal.value.patience, refusal.value.status) == (77, 429)
            assert (await model.ask(usual, photo)).service_tier == "default"
        finally:
            await model.close()
        assert [asked.service_tier for asked in service.history] == ["flex", "default"]
    state = pacing.state(DEFAULT)
    assert (pacing.refusing(FLEX), pacing.refusing(DEFAULT)) == (True, False)
    assert (state.pace, state.paused_for) == (None, 0)


async def test_a_call_at_flex_may_take_longer_than_others(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "a-token"

    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    photo = PreparedImage(data=picture(), format="png", width=64, height=48, transformed=False)
    usual = Question("?", "vision", "", "auto", 100)
    async with LocalModel(certificates, verify=lambda _: {}, brain=Echo()) as service:
        service.script.policy = lambda _: Slow(1.0)
        model = AzureOpenAIModel(service.endpoint, token, 0.5, Governor(most_in_flight=8, patience=60))
        try:
            with pytest.raises(TimedOut, match=r"within 0\.5 seconds"):
                await model.ask(usual, photo)
            assert (await model.ask(usual.at("flex"), photo)).service_tier == "flex"
        finally:
            await model.close()


# ---- Deliveries ------------------------------------------------------------------------------------------------------


class FlexModel:
    """Has no capacity at flex, as long as nobody gives it some."""

    def __init__(self) -> None:
        self.tiers: list[str] = []
        self.has_capacity = False

    async def ask(self, question: Question, image: Picture) -> Reply:  # noqa: ARG002
        self.tiers.append(question.service_tier)
        await asyncio.sleep(0)
        if question.service_tier == "flex" and not self.has_capacity:
            raise NoFlexCapacity("No capacity.", patience=question.buying.flex_patience, retry_after=None)
        return Reply("An answer.", "stop", "fake", None, 1, 1, service_tier=question.service_tier)


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        shop.settings = shop.settings.model_copy(update={"service_tier": "flex"})
        shop.model = FlexModel()  # type: ignore[assignment]
        yield shop


async def deliver(shop: Workshop, request: Request, *, longest: timedelta = timedelta(days=9)) -> list[Request]:
    """Deliver the work again and again, as the queue does, until it has a result or `longest` has passed."""
    deferred, end = [], shop.time + longest
    while shop.time < end:
        await shop.deliveries().handle(request)
        if not shop.queue.sent:
            break
        ((request, delay),) = shop.queue.sent
        shop.queue.sent.clear()
        deferred.append(parse_deferred(request.to_message()))
        shop.time += timedelta(seconds=delay)
    return [one for one in deferred if isinstance(one, Request)]


async def test_an_image_waits_for_capacity_and_is_answered_at_flex(shop: Workshop) -> None:
    request, began = await shop.drop("a.png"), shop.time
    deferred = await deliver(shop, request, longest=timedelta(minutes=30))
    assert shop.time - began >= timedelta(minutes=30)
    # It looks again after about as long as it has waited, and none of that is an attempt or its fault.
    assert 6 <= len(deferred) <= 12
    assert {(later.attempt, later.flex and later.flex.since) for later in deferred} == {(1, began)}
    shop.model.has_capacity = True  # type: ignore[attr-defined]
    assert await deliver(shop, deferred[-1]) == []
    result = await shop.result("a.png")
    assert (result["model"]["service_tier"], result["attempts"]) == ("flex", 1)
    assert set(shop.model.tiers) == {"flex"}


@pytest.mark.parametrize("by_option", [True, False])
async def test_an_image_falls_back_where_that_is_asked_for_when_its_patience_is_over(
    shop: Workshop,
    by_option: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    request, began = await shop.drop("a.png"), shop.time
    if by_option:
        request = request.model_copy(update={"options": Options(tier_fallback="default", flex_patience=600)})
    else:
        changed = {"tier_fallback": "default", "flex_patience_seconds": 600}
        shop.settings = shop.settings.model_copy(update=changed)
    await deliver(shop, request)
    assert shop.time - began == timedelta(seconds=600)
    result = await shop.result("a.png")
    assert (result["status"], result["model"]["service_tier"], result["attempts"]) == ("succeeded", "default", 1)
    assert shop.model.tiers[-2:] == ["flex", "default"]


async def test_patience_is_no_part_of_retry_for_seconds_which_begins_where_it_ends(shop: Workshop) -> None:
    request, began = await shop.drop("a.png"), shop.time
    patience, retry_for = timedelta(hours=30), shop.retry_for
    options = Options(flex_patience=round(patience.total_seconds()))
    deferred = await deliver(shop, request.model_copy(update={"options": options}))
    assert patience + retry_for <= shop.time - began <= patience + retry_for + timedelta(seconds=1.2 * DEFERRALS[-1])
    assert all(later.attempt == 1 for later in deferred if later.since and later.since < began + patience)
    result = await shop.result("a.png")
    assert (result["error"]["code"], result["model"]["service_tier"]) == ("retries_exhausted", None)
    assert "No capacity." in result["error"]["message"]


async def test_patience_between_two_failures_does_not_count_either(shop: Workshop) -> None:
    request = (await shop.drop("a.png")).again(since=shop.time, attempt=3, timed_out=0)
    options = Options(flex_patience=36_000)
    deferred = await deliver(shop, request.model_copy(update={"options": options}), longest=timedelta(hours=9))
    assert {later.attempt for later in deferred} == {3}
    assert deferred[-1].since == shop.time


async def test_work_that_waits_for_flex_costs_no_more_than_its_message_while_flex_refuses(shop: Workshop) -> None:
    """Refused once, it is not opened again before there may be capacity; nor held, where others may begin."""
    pacing = Governor(most_in_flight=8, patience=30)
    lane = Lane(shop.settings.openai_deployment, "flex")
    async with pacing.turn(lane) as turn:
        turn.throttled({"retry-after": "100"})
    deliveries = shop.deliveries(pacing)
    await deliveries.handle(await shop.drop("a.png"))  # opened once, for how long its patience is
    ((later, _),) = shop.queue.sent
    assert later.flex is not None
    shop.queue.sent.clear()
    shop.connection.is_refused = lambda _method, path: "/waiting/" not in path
    async with asyncio.timeout(5):
        await deliveries.handle(later)
    ((again, delay),) = shop.queue.sent
    assert (again, shop.model.tiers) == (later.model_copy(update={"since": again.since}), ["flex"])
    assert delay >= DEFERRALS[0] * 0.8


class UnsoldModel(FlexModel):
    """Is not sold at flex."""

    async def ask(self, question: Question, image: Picture) -> Reply:
        self.has_capacity = True
        reply = await super().ask(question, image)
        if question.service_tier == "flex":
            details = {"option": "service_tier", "service_tier": "flex"}
            raise PermanentFailure(ErrorCode.INVALID_INSTRUCTIONS, "Not sold.", details)
        return reply


async def test_an_image_that_asked_for_a_tier_in_vain_is_asked_about_again_at_another_only(shop: Workshop) -> None:
    shop.model = UnsoldModel()  # type: ignore[assignment]
    request = await shop.drop("a.png")
    at = {
        tier: request.model_copy(update={"options": parse_options({"service_tier": tier})})
        for tier in ("flex", "default")
    }
    ended = [await shop.analyzer.analyze(at[tier]) for tier in ("flex", "flex", "default", "flex")]
    assert ended == [Outcome.FAILED, Outcome.ALREADY_DONE, Outcome.SUCCEEDED, Outcome.ALREADY_DONE]
    assert shop.model.tiers == ["flex", "default"]


async def test_a_message_of_the_largest_question_holds_its_wait_for_flex_too(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.deliveries().handle(request)
    ((later, _),) = shop.queue.sent
    many = later.model_copy(update={"attempt": 10**6, "timed_out": 10**6})
    assert len(many.to_message()) - len(request.to_message()) <= 256 < MESSAGE_BYTES


def test_a_call_at_flex_ends_within_its_delivery() -> None:
    """With two minutes for what comes before and after. tests/test_marks.py: a delivery ends within functionTimeout."""
    assert FLEX_TIMEOUT_SECONDS + 120 <= DEADLINE_SECONDS


# ---- Through the real worker -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def thrifty(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    """A person whose operator has set SERVICE_TIER to flex."""
    async with people(tmp_path_factory.mktemp("thrifty"), {"SERVICE_TIER": "flex"}) as person:
        person.patience = 60
        yield person


async def test_a_result_says_that_it_came_by_flex(thrifty: Person) -> None:
    await thrifty.drop("by-setting.png", picture(), {"instructions": "Cheap?"})
    result = await thrifty.result("by-setting.png")
    jsonschema.validate(result, SCHEMA)
    assert (result["status"], result["model"]["service_tier"]) == ("succeeded", "flex")
    await thrifty.drop("by-option.png", picture(), {"instructions": "Now?", "service_tier": "default"})
    assert (await thrifty.result("by-option.png"))["model"]["service_tier"] == "default"
    assert [thrifty.asked(text)[0].options.get("service_tier") for text in ("Cheap?", "Now?")] == ["flex", None]


async def test_another_tier_pays_for_nothing_again(thrifty: Person) -> None:
    first = await thrifty.drop("again.png", picture(), {"instructions": "Once?"})
    assert (await thrifty.result("again.png", etag=first))["answer"]["reused_from"] is None
    second = await thrifty.drop("again.png", picture(), {"instructions": "Once?", "service_tier": "default"})
    result = await thrifty.result("again.png", etag=second)
    assert (result["answer"]["reused_from"], result["model"]["service_tier"]) == (first, "flex")
    assert len(thrifty.asked("Once?")) == 1


async def test_a_model_that_is_not_sold_at_the_tier_fails_the_image_that_asked_for_it(thrifty: Person) -> None:
    thrifty.scripts["Sold?"].append(FLEX_UNSUPPORTED)
    await thrifty.drop("unsold.png", picture(), {"instructions": "Sold?", "service_tier": "flex"})
    error = (await thrifty.result("unsold.png"))["error"]
    assert (error["code"], error["details"]["option"]) == ("invalid_instructions", "service_tier")
    assert "'service_tier' is 'flex'" in error["message"]
    assert "leave the option out" in error["message"]


async def test_a_corrected_tier_in_a_sidecar_runs_the_image_again(thrifty: Person) -> None:
    """Though the question, and so the key of the work, is the same."""
    thrifty.scripts["Beside?"].append(FLEX_UNSUPPORTED)
    await thrifty.drop("beside.png.instructions.md", b"---\nservice_tier: flex\n---\nBeside?")
    etag = await thrifty.drop("beside.png", picture())
    failed = await thrifty.result("beside.png")
    assert failed["error"]["code"] == "invalid_instructions"
    await thrifty.drop("beside.png.instructions.md", b"---\nservice_tier: default\n---\nBeside?")
    while (result := await thrifty.result("beside.png"))["status"] == "failed":
        await asyncio.sleep(0.1)
    assert (result["source"]["etag"], result["model"]["service_tier"]) == (etag, "default")
    assert result["work_key"] == failed["work_key"]


async def test_where_the_setting_asks_for_a_tier_that_is_not_sold_images_wait_for_the_operator(
    thrifty: Person,
) -> None:
    thrifty.scripts["Fixed?"].append(FLEX_UNSUPPORTED)
    await thrifty.drop("fixed.png", picture(), {"instructions": "Fixed?"})
    await thrifty.logged("images/fixed.png: deferred")
    assert "SERVICE_TIER is 'flex', and the model of the deployment" in thrifty.log.read_text(encoding="utf-8")
    result = await thrifty.result("fixed.png")
    assert (result["status"], result["model"]["service_tier"], result["attempts"]) == ("succeeded", "flex", 2)


async def test_an_image_that_flex_refuses_falls_back_or_waits_and_others_go_on(thrifty: Person) -> None:
    for text in ("Falls back?", "Waits?"):
        thrifty.scripts[text].append(NO_FLEX_CAPACITY)
    wants = {"service_tier": "flex", "tier_fallback": "default", "flex_patience": "1"}
    await thrifty.drop("falls-back.png", picture(), {"instructions": "Falls back?"} | wants)
    await thrifty.drop("waits.png", picture(), {"instructions": "Waits?"})
    await thrifty.logged("images/falls-back.png: deferred")
    await thrifty.drop("at-once.png", picture(), {"instructions": "At once?", "service_tier": "default"})
    assert (await thrifty.result("at-once.png"))["attempts"] == 1
    fell_back, waited = [await thrifty.result(f"{name}.png") for name in ("falls-back", "waits")]
    assert (fell_back["model"]["service_tier"], fell_back["attempts"]) == ("default", 1)
    assert (waited["model"]["service_tier"], waited["attempts"]) == ("flex", 1)
