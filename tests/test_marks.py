"""Deferred work on the queue: how long it waits, how often it is tried, and how it ends."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from support.person import ROOT, Person
from support.workshop import BUSY, RETRY_FOR, THROTTLED, Workshop, failing, workshop

from pipeline.errors import ErrorCode, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.instructions import InstructionSources
from pipeline.instructions.options import Options
from pipeline.job.answering import Failing
from pipeline.job.requests import Redrive, Request
from pipeline.model.question import Reply
from pipeline.pacing.gate import Busy
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane
from pipeline.pacing.waits import DEFERRALS
from pipeline.triggers.deliveries import DEADLINE_SECONDS, HOLD_SECONDS
from pipeline.triggers.invocation import InvocationCancelled, uncancelled
from pipeline.triggers.poison import DELAY_SECONDS


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def test_failed_work_waits_longer_each_time_and_then_succeeds(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    """A message for each failed try, with the try's number and a growing delay; the mark goes when the work is done."""
    caplog.set_level(logging.INFO, "pipeline")
    first = await shop.drop("a.png")
    tries = len(DEFERRALS) + 1
    shop.model.behaviours.extend([THROTTLED] * tries)
    request = first
    for attempt in range(1, tries + 1):
        await shop.deliveries().handle(request)
        request, delay = shop.queue.sent.pop()
        assert shop.queue.sent == []
        assert request == first.again(
            since=shop.time - timedelta(seconds=attempt - 1), attempt=attempt + 1, timed_out=0
        )
        assert 0.8 <= delay / DEFERRALS[min(attempt, len(DEFERRALS)) - 1] <= 1.2
        assert await shop.state() == ["waiting"]
        shop.time += timedelta(seconds=1)
    deferred = [record.getMessage() for record in caplog.records if "deferred" in record.getMessage()]
    assert len(deferred) == tries
    assert all("shop-images/a.png" in line and "HTTP 429" in line for line in deferred)
    await shop.deliveries().handle(request)
    assert ((await shop.result("a.png"))["status"], (await shop.result("a.png"))["attempts"]) == (
        "succeeded",
        tries + 1,
    )
    assert (await shop.state(), shop.queue.sent) == ([], [])


async def test_the_service_may_ask_for_a_longer_wait(shop: Workshop) -> None:
    shop.model.behaviours.append(failing(RetryableFailure("Not now.", status=503, retry_after=100)))
    await shop.deliveries().handle(await shop.drop("a.png"))
    assert 100 <= shop.queue.sent[0][1] <= 120


async def test_after_a_day_of_failures_the_result_says_what_failed_and_how_often(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    not_found = OperatorFailure("The deployment was not found.", status=404)
    not_found.reply = Reply("", None, None, "request-2")
    shop.model.behaviours.extend([THROTTLED, failing(not_found)])
    await shop.deliveries().handle(request)
    request, _ = shop.queue.sent.pop()
    shop.time += RETRY_FOR
    await shop.deliveries().handle(request)
    result = await shop.result("a.png")
    assert (result["status"], result["error"]["code"], result["error"]["details"]) == (
        "failed",
        "retries_exhausted",
        {"attempts": 2, "last_cause": "The deployment was not found.", "status": 404},
    )
    assert "2 attempts" in result["error"]["message"]
    assert "The deployment was not found." in result["error"]["message"]
    assert (result["model"]["request_id"], result["answer"]) == ("request-2", None)
    assert (await shop.state(), shop.queue.sent) == ([], [])


async def test_work_without_a_turn_has_not_failed_however_long_it_waits(shop: Workshop) -> None:
    """Neither one try more nor given up: a backlog may take longer than RETRY_FOR_SECONDS."""
    first = await shop.drop("a.png")
    request = first
    for _ in range(3):
        shop.model.behaviours.append(BUSY)
        await shop.deliveries().handle(request)
        request, delay = shop.queue.sent.pop()
        assert (request.attempt, delay) == (1, 33)
        shop.time += RETRY_FOR
    shop.model.behaviours.append(THROTTLED)  # and its time starts with the first try that really fails
    await shop.deliveries().handle(request)
    request, _ = shop.queue.sent.pop()
    assert (request.attempt, request.since) == (2, shop.time)
    shop.time += RETRY_FOR
    shop.model.behaviours.append(BUSY)
    await shop.deliveries().handle(request)
    assert shop.queue.sent[0][0].attempt == 2
    assert await shop.results() == []


async def test_work_that_is_refused_while_others_get_through_has_not_failed(shop: Workshop) -> None:
    """In a backlog of days an image may be refused today and tomorrow, and nothing be wrong with it."""
    governor = Governor(most_in_flight=8, patience=30)
    async with governor.turn(Lane(shop.settings.openai_deployment)) as turn:
        turn.succeeded({})
    request = await shop.drop("a.png")
    for _ in range(3):
        shop.model.behaviours.append(THROTTLED)
        await shop.deliveries(governor).handle(request)
        request, delay = shop.queue.sent.pop()
        assert (request.attempt, delay) == (1, 7)
        shop.time += RETRY_FOR
    await shop.deliveries(governor).handle(request)
    assert (await shop.result("a.png"))["status"] == "succeeded"


class ClosedDoor:
    """A governor that is full for as long as work waits."""

    def __init__(self) -> None:
        self.asked: list[tuple[Lane, float, bool]] = []

    @asynccontextmanager
    async def door(self, lane: Lane, hold: float, *, failed_before: bool) -> AsyncIterator[None]:
        self.asked.append((lane, hold, failed_before))
        raise Busy("There is no slot.", retry_after=33)
        yield

    def answers(self, lane: Lane) -> bool:  # noqa: ARG002
        return True

    def answered_since(self, lane: Lane, moment: float) -> bool:  # noqa: ARG002
        return True

    def refusing(self, lane: Lane) -> bool:  # noqa: ARG002
        return False


async def test_work_that_finds_the_door_closed_is_deferred_unopened(shop: Workshop) -> None:
    """Neither image nor claim is touched: all that waiting costs is its message and its mark."""
    door = ClosedDoor()
    deliveries, request = shop.deliveries(door), await shop.drop("a.png")
    shop.connection.is_refused = lambda _method, path: "/waiting/" not in path
    await deliveries.handle(request)
    for deployment in ("another", "one-that-is-not-allowed"):
        await deliveries.handle(request.model_copy(update={"options": Options(deployment=deployment)}))
    assert [(sent.attempt, delay) for sent, delay in shop.queue.sent] == [(1, 33)] * 3
    await deliveries.handle(request.model_copy(update={"attempt": 2}))
    usual = shop.settings.openai_deployment
    asked = [(usual, False), ("another", False), (usual, False), (usual, True)]
    assert door.asked == [(Lane(deployment), HOLD_SECONDS, failed) for deployment, failed in asked]


@pytest.mark.parametrize("name", ["_instructions.md", "a/b.schema.json", ".DS_Store"])
async def test_work_that_calls_no_model_does_not_wait_for_a_turn(shop: Workshop, name: str) -> None:
    door = ClosedDoor()
    await shop.deliveries(door).handle(Request(container="shop-images", name=name))
    assert (door.asked, shop.queue.sent) == ([], [])


async def test_an_instruction_file_of_one_image_waits_as_that_image_does(shop: Workshop) -> None:
    door = ClosedDoor()
    await shop.deliveries(door).handle(Request(container="shop-images", name="a.png.instructions.md"))
    assert len(door.asked) == len(shop.queue.sent) == 1


def test_a_delivery_ends_before_the_host_would_kill_its_worker_however_long_it_was_held() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    assert hours * 3600 + minutes * 60 + seconds - 30 >= HOLD_SECONDS + DEADLINE_SECONDS


async def test_work_claimed_by_another_run_is_looked_at_again_when_that_claim_would_end(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    release = asyncio.Event()
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.deliveries().handle(request))
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    await shop.deliveries().handle(request)
    later, delay = shop.queue.sent.pop()
    assert (later.attempt, shop.claim_seconds - 5 <= delay <= shop.claim_seconds + 1) == (1, True)
    release.set()
    await working
    await shop.deliveries().handle(later)
    assert (shop.model.asked, await shop.state(), shop.queue.sent) == (["?"], [], [])


async def test_no_storage_trouble_reaches_the_host_while_the_queue_can_be_reached(shop: Workshop) -> None:
    """Five deliveries in a fraction of a second would make it poison, so it is deferred with a mark or without."""
    request = await shop.drop("a.png")
    shop.connection.is_down = True
    await shop.deliveries().handle(request)
    shop.connection.is_down = False
    later, _ = shop.queue.sent.pop()
    assert later.attempt == 2
    await shop.deliveries().handle(later)
    assert (await shop.result("a.png"))["attempts"] == 2


async def test_a_result_counts_though_the_mark_can_not_be_removed(shop: Workshop) -> None:
    request = (await shop.drop("a.png")).again(since=shop.time, attempt=2, timed_out=0)
    shop.connection.is_refused = lambda method, path: method == "DELETE" and "/waiting/" in path
    await shop.deliveries().handle(request)
    assert (await shop.result("a.png"))["status"] == "succeeded"
    assert shop.queue.sent == []


async def test_without_the_queue_the_host_keeps_the_message(shop: Workshop) -> None:
    shop.queue.refuses = True
    shop.model.behaviours.append(THROTTLED)
    with pytest.raises(RetryableFailure, match="queue"):
        await shop.deliveries().handle(await shop.drop("a.png"))


async def test_a_delivery_ends_before_the_host_would_kill_its_worker(shop: Workshop) -> None:
    """Wherever it hangs, it is deferred, and its claim does not stay behind."""
    shop.model.behaviours.append(asyncio.Event().wait)
    await shop.deliveries(deadline=0.5).handle(await shop.drop("a.png"))
    assert [(request.attempt, await shop.state()) for request, _ in shop.queue.sent] == [(2, ["waiting"])]


async def test_a_cancelled_invocation_ends_as_an_ordinary_exception_and_leaves_no_claim(shop: Workshop) -> None:
    """The worker catches only `Exception`: without one the host would wait for a response until its time-out."""
    shop.model.behaviours.append(asyncio.Event().wait)
    request = await shop.drop("a.png")

    async def invocation() -> None:
        with uncancelled("images/a.png"):
            await shop.deliveries().handle(request)

    running = asyncio.create_task(invocation())
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(InvocationCancelled):
        await running
    assert (await shop.state(), shop.queue.sent) == ([], [])


async def test_a_crashed_request_becomes_a_failed_result_once_it_can_be_written(shop: Workshop) -> None:
    """While storage fails the poison message is kept: the host sees an exception, and never deletes it."""
    poison = (await shop.drop("folder/a.png")).to_message()
    shop.connection.is_down = True
    with pytest.raises(RetryableFailure):
        await shop.poison.record_crash(poison)
    shop.connection.is_down = False
    await shop.poison.record_crash(poison)
    result = await shop.result("folder/a.png")
    assert (result["status"], result["error"]["code"], shop.model.asked) == ("failed", "crashed", [])


async def test_an_upload_that_the_host_gave_up_on_is_looked_at_again(shop: Workshop) -> None:
    """The host's message does not say whether the function ever ran: a role may have been missing for the trigger."""
    await shop.drop("folder/a.png")
    poison = (
        '{"Type":"BlobTrigger","FunctionId":"Host.Functions.analyze_image","BlobType":"Block",'
        '"ContainerName":"shop-images","BlobName":"folder/a.png","ETag":"\\"0x1\\""}'
    )
    await shop.poison.requeue_upload(poison)
    ((request, delay),) = shop.queue.sent
    expected = Request(container="shop-images", name="folder/a.png", since=shop.time)
    assert (request, delay, await shop.state()) == (expected, DELAY_SECONDS, ["waiting"])
    await shop.deliveries().handle(request)
    assert ((await shop.result("folder/a.png"))["status"], await shop.state()) == ("succeeded", [])


async def test_an_upload_whose_crash_record_crashes_too_still_gets_a_failed_result(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding the instructions raises an unexpected exception each time: the record is made without looking for any."""

    async def unforeseen(*_: object) -> None:
        raise IndexError("unforeseen")

    request = await shop.drop("a.png")
    monkeypatch.setattr(InstructionSources, "find", unforeseen)
    with pytest.raises(IndexError):
        await shop.deliveries().handle(request)
    await shop.poison.record_crash(request.to_message())
    result = await shop.result("a.png")
    assert (result["status"], result["error"]["code"], result["instructions"]["text"]) == ("failed", "crashed", None)


async def test_a_crashed_run_that_left_a_claim_is_left_to_the_next_delivery(shop: Workshop) -> None:
    """The host would move the poison message itself to a queue without a reader, if the claim outlived its tries."""
    request = await shop.drop("a.png")
    release = asyncio.Event()
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.deliveries().handle(request))
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    await shop.poison.record_crash(request.to_message())
    assert [(sent.name, sent.attempt) for sent, _ in shop.queue.sent] == [("a.png", 1)]
    release.set()
    await working
    assert (await shop.result("a.png"))["status"] == "succeeded"


@pytest.mark.parametrize(
    "message", ["not json", "{}", "[1]", '{"eventType": "Microsoft.Storage.BlobCreated"}', "\\xff"]
)
async def test_a_message_that_cannot_be_read_becomes_a_failed_result(shop: Workshop, message: str) -> None:
    await shop.poison.record_crash(message)
    await shop.poison.record_crash(message)  # delivered twice
    (name,) = await shop.results()
    result = await shop.result(name.removesuffix(".json"))
    assert name.startswith("unreadable-requests/")
    assert (result["error"]["code"], result["error"]["details"]) == ("crashed", {"message": message})


async def test_messages_are_hidden_for_their_delay_and_come_back_as_they_were(shop: Workshop) -> None:
    request = Request(container="shop-images", name="grüße 漢字/😀.png", attempt=3, since=shop.time, instructions="Wo?")
    await shop.deferred.send(request, 1)
    assert await shop.queued() == []
    await asyncio.sleep(1.5)
    assert await shop.queued() == [request]


async def test_reconcile_queues_what_has_no_current_result_once(shop: Workshop) -> None:
    for name in ("done.png", "lost.png", "waits.png", "overwritten.png"):
        await shop.drop(name)
    for name in ("done.png", "overwritten.png"):
        await shop.analyzer.analyze(Request(container="shop-images", name=name))
    await shop.person.blobs.get_blob_client("shop-images", "overwritten.png").upload_blob(b"another", overwrite=True)
    await shop.marks.mark("waits.png", 60)
    await shop.reconciler().run()
    found = await shop.queued()
    assert {getattr(request, "name", None) for request in found} == {"lost.png", "overwritten.png"}
    assert len(found) == 2
    await shop.reconciler().run()
    assert await shop.queued() == []
    for request in found:
        assert isinstance(request, Request)
        await shop.deliveries().handle(request)
    assert len(await shop.results()) == 3
    # A failure replaced the paid answer about the version before, which is kept as a claim.
    assert sorted(await shop.state()) == ["claims", "reconciliation.json", "waiting"]


async def test_reconcile_leaves_a_long_queue_alone(shop: Workshop) -> None:
    """While a backlog lasts for hours, what waits on the host's queue looks like what was lost."""
    for name in ("a.png", "b.png", "c.png"):
        await shop.drop(name)
    await shop.reconciler(most_queued=2).run()
    await shop.reconciler(most_queued=2).run()
    assert await shop.hidden() == 2
    assert len(await shop.queued()) == 2
    await shop.reconciler(most_queued=2).run()
    assert len(await shop.queued()) == 1


async def test_a_redrive_queues_what_failed_so_and_nothing_else(shop: Workshop) -> None:
    exhausted, crashed = (
        Failing(PermanentFailure(code, "It failed.")) for code in (ErrorCode.RETRIES_EXHAUSTED, ErrorCode.CRASHED)
    )
    for name, answerer in {"a.png": exhausted, "b.png": crashed, "c.png": None, "d.png": exhausted}.items():
        await shop.analyzer.analyze(await shop.drop(name), answerer)
    before = {name: await shop.result(name) for name in ("b.png", "c.png")}
    shop.model.asked.clear()
    redrive = Redrive(redrive=[ErrorCode.RETRIES_EXHAUSTED])
    await shop.redriver.run(redrive)
    await shop.redriver.run(redrive)  # sent twice: queued twice and run once
    found = await shop.queued()
    assert sorted(request.name for request in found if isinstance(request, Request)) == [
        "a.png",
        "a.png",
        "d.png",
        "d.png",
    ]
    for request in found:
        assert isinstance(request, Request)
        await shop.deliveries().handle(request)
    assert [(await shop.result(name))["status"] for name in ("a.png", "d.png")] == ["succeeded", "succeeded"]
    assert len(shop.model.asked) == 2
    assert {name: await shop.result(name) for name in before} == before
    assert await shop.state() == []


async def test_a_redrive_waits_until_storage_can_be_listed(shop: Workshop) -> None:
    """A role that was given a moment ago counts everywhere only minutes later."""
    await shop.analyzer.analyze(await shop.drop("a.png"), Failing(PermanentFailure(ErrorCode.CRASHED, "It failed.")))
    shop.connection.is_down = True
    redrive = Redrive(redrive=[ErrorCode.CRASHED])
    await shop.redriver.run(redrive)
    assert await shop.hidden() == 1
    assert await shop.queued() == []
