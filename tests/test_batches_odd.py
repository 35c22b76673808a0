"""A service that answers oddly, an operator who changes his mind: the batch lane pays once, and gets on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from support.batch_shop import BatchShop, batch_shop
from support.documents import pdf
from support.person import Person
from support.workshop import THROTTLED

from localcloud.certificates import Certificates
from localcloud.model import Dropped, PromptFiltered, Verbatim
from localcloud.model.batches import TOKEN_LIMIT_AT_ONCE, Course
from pipeline.errors import RetryableFailure
from pipeline.job.batched import LONGEST
from pipeline.job.race import Outcome
from pipeline.pacing.rates import OverDailyTokens

pytestmark = pytest.mark.timeout(60)

NOT_NOW = Verbatim(409, b'{"error": {"code": "Conflict", "message": "Not in this state."}}')
NOT_FOUND = Verbatim(404, b'{"error": {"code": "404", "message": "Resource not found"}}')


@pytest.fixture
async def shop(person: Person, certificates: Certificates) -> AsyncIterator[BatchShop]:
    async with batch_shop(person, certificates) as shop:
        yield shop


@pytest.mark.parametrize("operation", ["get_batch", "read_file", "delete_file"])
async def test_a_refusal_after_the_batch_was_created_is_no_reason_to_send_it_again(
    shop: BatchShop, operation: Any
) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.ended()
    shop.model.batches.script.add(operation, NOT_NOW)
    back = []
    for _ in range(4):
        await shop.run(minutes=3)
        back += shop.returned()
        await shop.ended()
    assert await shop.deliver(back[0]) == [Outcome.SUCCEEDED]
    assert shop.operations["create_batch"] == 1
    assert set(shop.billed.values()) == {1}


async def test_a_refusal_to_list_batches_is_no_reason_to_send_one_again(shop: BatchShop) -> None:
    shop.model.batches.script.add("create_batch", Dropped())
    shop.model.batches.script.add("list_batches", NOT_NOW)
    await shop.deliver(await shop.drop("a.png"))
    for _ in range(5):
        await shop.run(minutes=3)
        await shop.ended()
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 1


@pytest.mark.parametrize("operation", ["create_batch", "upload_file", "list_batches"])
async def test_a_service_that_knows_no_batches_is_asked_now_and_then(shop: BatchShop, operation: str) -> None:
    shop.model.batches.script.fault = lambda request: NOT_FOUND if request.operation == operation else None
    if operation == "list_batches":
        shop.model.batches.script.add("create_batch", Dropped())
    await shop.deliver(await shop.drop("a.png"))
    async with asyncio.timeout(20):
        await shop.run()
        await shop.run(minutes=3)
    (shard,) = await shop.shards()
    assert shard.problem
    assert shop.operations["upload_file"] <= 2
    assert shop.operations["create_batch"] <= 2


HALF = json.dumps("\ud800 half a character").encode()
LINES = {
    "half a character": b'{"custom_id": "%s", "response": {"status_code": 200, "body": ' + HALF + b"}}",
    "half a character in the id": b'{"custom_id": "%s", "response": {"status_code": 200, "request_id": '
    + HALF
    + b', "body": {}}}',
    "deep": b'{"custom_id": "%s", "response": {"status_code": 200, "body": ' + b"[" * 3000 + b"]" * 3000 + b"}}",
    "deeper": b'{"custom_id": "%s", "response": {"status_code": 200, "body": ' + b"[" * 990 + b"]" * 990 + b"}}",
    "huge number": b'{"custom_id": "%s", "response": {"status_code": 1' + b"0" * 4000 + b', "body": {}}}',
    "status 99": b'{"custom_id": "%s", "response": {"status_code": 99, "body": {}}}',
    "status 302": b'{"custom_id": "%s", "response": {"status_code": 302, "body": ""}}',
    "NaN": b'{"custom_id": "%s", "response": {"status_code": 200, "body": {"usage": {"prompt_tokens": NaN}}}}',
    "null": b'{"custom_id": "%s", "response": null, "error": null}',
    "infinite": b'{"custom_id": "%s", "response": {"status_code": 400, "body": {"error": {"message": 1e999}}}}',
    "page": b"<html><body>Sign in</body></html>",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
async def test_an_odd_line_stops_nobody_elses(shop: BatchShop, line: bytes) -> None:
    await shop.deliver(await shop.drop("odd.png"))
    (its_name,) = [each.name async for each in shop.shop.lines.all()]
    await shop.deliver(await shop.drop("other.png"))
    (other_name,) = {each.name async for each in shop.shop.lines.all()} - {its_name}
    await shop.run()
    await shop.ended()
    other = {"custom_id": other_name, "response": {"status_code": 200, "body": json.loads(completion("Fine."))}}
    text = line.replace(b"%s", its_name.encode()) + b"\n" + json.dumps(other).encode()
    shop.model.batches.script.add("read_file", Verbatim(200, text, "application/octet-stream"))
    await shop.run(minutes=1)
    back = {request.name: request for request in shop.returned()}
    assert await shop.deliver(back.pop("other.png")) == [Outcome.SUCCEEDED]
    for _ in range(3):
        with suppress(RetryableFailure):
            await shop.deliver(*back.values())
        back |= {request.name: request for request in await shop.round()}
    assert (await shop.result("odd.png"))["status"] in ("succeeded", "failed")


def completion(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


async def test_a_line_whose_shard_is_lost_is_sent_again_when_it_is_too_late(shop: BatchShop) -> None:
    request = await shop.drop("a.png")
    await shop.deliver(request)
    await shop.run()
    (shard,) = await shop.shards()
    await shop.shop.shards.delete(shard.id)
    shop.shop.time += LONGEST + timedelta(hours=1)
    assert await shop.deliver(request) == [Outcome.IN_BATCH]
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]


async def test_an_event_between_a_reruns_answer_and_its_delivery_loses_nothing(shop: BatchShop) -> None:
    shop.model.batches.script.lines.add(PromptFiltered())
    request = await shop.drop("a.png")
    assert await shop.through(request) == [Outcome.FAILED]
    rerun = request.model_copy(update={"rerun_failed": True})
    assert await shop.deliver(rerun) == [Outcome.IN_BATCH]
    (back,) = await shop.round()
    assert await shop.deliver(request) == [Outcome.ALREADY_DONE], "a second event"
    assert await shop.deliver(back) == [Outcome.SUCCEEDED]
    assert set(shop.billed.values()) == {1}


async def test_a_line_that_is_too_long_stops_nobody_elses(shop: BatchShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.batches.service.MOST_LINE_BYTES", 100_000)
    await shop.deliver(await shop.drop("a.png"))
    (name,) = [each.name async for each in shop.shop.lines.all()]
    await shop.run()
    await shop.ended()
    good = {"custom_id": name, "response": {"status_code": 200, "body": json.loads(completion("Fine."))}}
    long = b'{"custom_id": "' + b"x" * 1_000_000
    text = long + b'"}\n' + json.dumps(good).encode() + b"\n" + long
    shop.model.batches.script.add("read_file", Verbatim(200, text, "application/octet-stream"))
    await shop.run(minutes=1)
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert set(shop.billed.values()) == {1}


@pytest.mark.parametrize("statuses", [(200, 200), (503, 200), (200, 503), (503, 503)])
async def test_a_line_that_is_answered_twice_is_one_answer(shop: BatchShop, statuses: tuple[int, int]) -> None:
    await shop.deliver(await shop.drop("a.png"))
    (name,) = [each.name async for each in shop.shop.lines.all()]
    await shop.run()
    await shop.ended()
    answers = [
        {"custom_id": custom_id, "response": {"status_code": status, "body": json.loads(completion("Fine."))}}
        for custom_id, status in (("unknown", 200), (name, statuses[0]), (name, statuses[1]))
    ]
    shop.model.batches.script.add("read_file", Verbatim(200, "\n".join(map(json.dumps, answers)).encode()))
    await shop.run(minutes=1)
    back = {request.name: request for request in shop.returned() or await shop.round()}
    assert await shop.deliver(*back.values()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == (1 if 200 in statuses else 2)
    await shop.run(minutes=1)
    assert not shop.model.batches.file_ids


class Counted:
    """A day's tokens without a limit."""

    def __init__(self) -> None:
        self.tokens = 0

    async def require_left(self) -> None:
        pass

    def count(self, tokens: int) -> None:
        self.tokens += tokens


async def test_tokens_are_counted_once_however_often_a_reply_is_read(shop: BatchShop) -> None:
    shop.shop.tokens = counted = Counted()  # type: ignore[assignment]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    blob = shop.shop.person.blobs.get_blob_client("shop-images", "n.schema.json")
    await blob.upload_blob(json.dumps(schema))
    answers = iter(['{"n": "none"}', '{"n": 3}'])
    shop.model.batches.script.lines.policy = lambda _: Verbatim(200, completion(next(answers)))
    await shop.deliver(await shop.drop("a.png", schema="n.schema.json"))
    assert await shop.deliver(*await shop.round()) == [Outcome.IN_BATCH]
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert counted.tokens == 30


async def test_an_unreadable_answer_that_was_paid_is_counted(shop: BatchShop) -> None:
    shop.shop.tokens = counted = Counted()  # type: ignore[assignment]
    broken = json.loads(completion("")) | {"choices": []}
    shop.model.batches.script.lines.policy = lambda _: Verbatim(200, json.dumps(broken).encode())
    assert await shop.through(await shop.drop("a.png")) == [Outcome.FAILED]
    result = await shop.result("a.png")
    assert result["usage"]["input_tokens"] == 10
    assert result["model"]["service_tier"] == "batch"
    assert counted.tokens == 15


async def test_a_shard_whose_first_note_lost_its_answer_stops_nothing(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    shop.shop.connection.is_lost = lambda method, path: method == "PUT" and "batches/shards" in path
    await shop.run()
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert set(shop.billed.values()) == {1}


ENDINGS = {
    "no files": {"output_file_id": None, "error_file_id": None},
    "the same file twice": {"error_file_id": "="},
    "huge status": {"status": "Completed" + "!" * 100_000},
    "odd ids": {"id": "\ud800", "output_file_id": ["x"], "error_file_id": "\ud800"},
}


@pytest.mark.parametrize("changes", ENDINGS.values(), ids=ENDINGS)
async def test_an_odd_batch_is_not_the_end_of_others(shop: BatchShop, changes: dict[str, Any]) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.ended()
    (batch,) = shop.model.batches.all.values()
    document = {
        "id": batch.id,
        "status": "completed",
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
    }
    if changes.get("error_file_id") == "=":
        changes = changes | {"error_file_id": batch.output_file_id}
    shop.model.batches.script.add("get_batch", Verbatim(200, json.dumps(document | changes).encode()))
    await shop.run(minutes=1)
    back = shop.returned()
    if not back:
        await shop.run(minutes=1)
        await shop.ended()
        await shop.run(minutes=1)
        back = shop.returned()
    assert await shop.deliver(*back) == [Outcome.SUCCEEDED]


async def test_an_image_that_no_batch_ever_answers_is_given_up_in_the_end(shop: BatchShop) -> None:
    shop.model.batches.script.course = lambda _: Course(validating=0.01, finalizing=0.01, missing=lambda _: True)
    shop.shop.retry_for = timedelta(hours=1)
    await shop.shop.deliveries().handle(await shop.drop("a.png"))
    rounds = 0
    while not await shop.shop.results():
        rounds += 1
        assert rounds < 8
        assert await shop.round() == []
        await shop.run(minutes=600)  # it waits in the lane, which counts for nothing
        await shop.ended()
        await shop.run(minutes=1)
        (back,) = shop.returned()
        await shop.shop.deliveries().handle(back)
        for deferred in shop.returned():
            shop.shop.time += timedelta(minutes=25)
            await shop.shop.deliveries().handle(deferred)
    result = await shop.result("a.png")
    assert result["error"]["code"] == "retries_exhausted"
    assert result["attempts"] == rounds == 4, "after 0, 25, 50 and 75 minutes outside the lane"


# ---- From lane to lane -----------------------------------------------------------------------------------------------


async def test_the_default_lane_is_asked_until_it_answers_once_the_batches_have_had_their_turn(shop: BatchShop) -> None:
    shop.model.batches.script.course = lambda _: Course(validating=0.01, finalizing=0.01, missing=lambda _: True)
    await shop.deliver(await shop.drop("a.png", tier_fallback="default"))
    assert await shop.round() == []
    (back,) = await shop.round()
    shop.shop.model.behaviours.append(THROTTLED)
    with pytest.raises(RetryableFailure, match="throttling"):
        await shop.deliver(back)
    assert await shop.deliver(back) == [Outcome.SUCCEEDED]
    assert shop.shop.model.tiers == ["default", "default"]


async def test_pages_that_another_lane_has_paid_for_are_not_asked_about_in_a_batch(shop: BatchShop) -> None:
    async def answer() -> None:
        pass

    shop.shop.model.behaviours += [answer, THROTTLED]
    document = pdf(["One", "Two", "Three"])
    request = await shop.drop("a.pdf", document, per_page="true", service_tier="default")
    with pytest.raises(RetryableFailure):
        await shop.deliver(request)
    await shop.drop("a.pdf", document, per_page="true")
    outcomes = await shop.deliver(request)
    for _ in range(2):
        outcomes += await shop.deliver(*await shop.round())
    assert Outcome.SUCCEEDED in outcomes
    assert len(shop.shop.model.asked) - 1 + sum(shop.billed.values()) == 3, "each page once, and one refusal"


# ---- What is not found for a moment ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["get_batch", "read_file"])
@pytest.mark.parametrize(
    "fault", [NOT_FOUND, Verbatim(200, b"<html><body>Sign in</body></html>", "text/html")], ids=["404", "a page"]
)
async def test_what_can_not_be_had_for_a_moment_is_not_paid_twice(shop: BatchShop, operation: Any, fault: Any) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.ended()
    shop.model.batches.script.add(operation, fault, fault)
    back = []
    for _ in range(4):
        await shop.run(minutes=6)
        back += shop.returned()
    assert await shop.deliver(*back) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 1


async def test_answers_that_are_gone_for_good_are_asked_for_again(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.ended()
    shop.model.batches.script.fault = lambda request: NOT_FOUND if request.operation == "read_file" else None
    for _ in range(3):
        await shop.run(minutes=61)
    shop.model.batches.script.fault = lambda _: None
    await shop.ended()
    await shop.run(minutes=1)
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 2


async def test_a_persons_wish_to_send_now_outlasts_a_full_queue_of_batches(shop: BatchShop) -> None:
    shop.model.batches.script.add("create_batch", TOKEN_LIMIT_AT_ONCE)
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.deliver(await shop.drop("b.png"))
    await shop.shop.person.blobs.get_blob_client("shop-state", "batches/send-now").upload_blob(b"")
    await shop.run(wait=3600)
    await shop.run(minutes=6, wait=3600)
    assert len(shop.model.batches.all) == 2


class Spent(Counted):
    """A day whose tokens are spent."""

    is_over = False

    async def require_left(self) -> None:
        if not self.is_over:
            raise OverDailyTokens("Today's tokens are spent.", retry_after=3600)


async def test_nothing_more_is_submitted_once_the_days_tokens_are_spent(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    shop.shop.tokens = day = Spent()  # type: ignore[assignment]
    assert await shop.round() == []
    assert not shop.model.batches.all
    (shard,) = await shop.shards()
    assert shard.problem == "Today's tokens are spent."
    day.is_over = True
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
