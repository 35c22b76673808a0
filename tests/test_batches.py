"""Questions that go by batch: one result each, as if they had gone the usual way, and nothing paid twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from support.batch_shop import QUICK, BatchShop, batch_shop
from support.documents import pdf
from support.person import Person
from support.pictures import picture

from localcloud.certificates import Certificates
from localcloud.model import UNAVAILABLE, Dropped, Garbled, PromptFiltered, Verbatim
from localcloud.model.batches import BATCH_ROLE_MISSING, ODD, TOKEN_LIMIT, TOKEN_LIMIT_AT_ONCE, Course, Cut
from localcloud.model.batches.script import Fault
from pipeline.batches.shard import LONGEST_BATCH, LONGEST_UNSENT, SHOWN_FOR, Shard
from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.telemetry import DeliveryRecord

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def shop(person: Person, certificates: Certificates) -> AsyncIterator[BatchShop]:
    async with batch_shop(person, certificates) as shop:
        yield shop


async def test_an_image_that_goes_by_batch_gets_its_result_from_the_running_app(person: Person) -> None:
    await person.drop("batch/one.png", picture(), {"instructions": "By batch?", "service_tier": "batch"})
    result = await person.result("batch/one.png")
    assert result["status"] == "succeeded"
    assert result["answer"]["text"] == "You asked: By batch?"
    assert (result["model"]["service_tier"], result["model"]["endpoint"]) == ("batch", "127.0.0.1")
    assert not person.asked("By batch?"), "the default lane was not asked"


async def test_the_result_is_the_same_as_by_the_default_lane(shop: BatchShop) -> None:
    request = await shop.drop("a.png")
    assert await shop.deliver(request) == [Outcome.IN_BATCH]
    assert await shop.state() == {"claims": 1, "batches": 1}
    (back,) = await shop.round()
    assert await shop.deliver(back) == [Outcome.SUCCEEDED]
    result = await shop.result("a.png")
    assert result["answer"]["text"] == "You asked: ?"
    assert result["model"]["service_tier"] == "batch"
    assert result["model"]["deployment"] == "vision"
    assert result["usage"]["input_tokens"] > 0
    assert result["attempts"] == 1
    assert result["image_sent"]["format"] == "png"
    assert shop.billed == {result["work_key"]: 1}
    left = await shop.state()
    assert left == {"batches": 1, "waiting": 1}, "the shard can be seen for a while, and deliveries clear the mark"
    assert not shop.model.batches.file_ids, "no image is left at the service"


async def test_nothing_is_left_of_a_batch_after_a_day(shop: BatchShop) -> None:
    await shop.through(await shop.drop("a.png"))
    await shop.run(minutes=1)
    assert len(await shop.shards()) == 1
    shop.shop.time += SHOWN_FOR + timedelta(hours=1)
    await shop.run()
    assert not (await shop.state())["batches"]


async def test_lines_wait_for_others_until_the_oldest_has_waited_long_enough(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"), await shop.drop("b.png"))
    await shop.run(wait=3600)
    assert not shop.model.batches.all
    await shop.run(minutes=61, wait=3600)
    await shop.ended()
    assert [batch.total for batch in shop.model.batches.all.values()] == [2]


async def test_a_person_has_lines_sent_early(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.shop.person.blobs.get_blob_client("shop-state", "batches/send-now").upload_blob(b"")
    await shop.run(wait=3600)
    assert len(shop.model.batches.all) == 1
    await shop.deliver(await shop.drop("b.png", colour="red"))
    await shop.run(wait=3600)
    assert len(shop.model.batches.all) == 1, "it counts once"


async def test_a_shard_takes_as_many_lines_as_fit(shop: BatchShop, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [await shop.drop(f"{n}.png") for n in range(5)]
    await shop.deliver(*requests)
    sizes = [line.size async for line in shop.shop.lines.all()]
    monkeypatch.setattr("pipeline.batches.batches.MOST_BYTES", max(sizes) * 2 + 10)
    await shop.run()
    await shop.ended()
    assert sorted(batch.total for batch in shop.model.batches.all.values()) == [1, 2, 2]


# ---- Once, whatever happens ------------------------------------------------------------------------------------------


async def test_a_second_event_while_it_waits_adds_nothing(shop: BatchShop) -> None:
    request = await shop.drop("a.png")
    assert await shop.deliver(request, request) == [Outcome.IN_BATCH, Outcome.IN_BATCH]
    await shop.run()
    assert await shop.deliver(request) == [Outcome.IN_BATCH]
    await shop.ended()
    assert await shop.deliver(request) == [Outcome.IN_BATCH], "it is answered, and not collected yet"
    await shop.run(minutes=1)
    assert await shop.deliver(*shop.returned(), request) == [Outcome.SUCCEEDED, Outcome.ALREADY_DONE]
    assert list(shop.billed.values()) == [1]


@pytest.mark.parametrize("tier", ["default", "flex"])
async def test_another_lane_never_pays_again(shop: BatchShop, tier: str) -> None:
    await shop.deliver(await shop.drop("a.png"))
    request = await shop.drop("a.png", service_tier=tier)
    assert await shop.deliver(request) == [Outcome.IN_BATCH], "the same question about the same bytes is on its way"
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert await shop.deliver(request) == [Outcome.ALREADY_DONE]
    assert not shop.shop.model.asked
    assert list(shop.billed.values()) == [1]
    assert (await shop.result("a.png"))["source"]["etag"] == await etag(shop, "a.png")


async def etag(shop: BatchShop, name: str) -> str:
    blob = shop.shop.person.blobs.get_blob_client("shop-images", name)
    return str((await blob.get_blob_properties()).etag).strip('"')


async def test_what_the_default_lane_has_answered_does_not_go_by_batch(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png", service_tier="default"))
    assert await shop.deliver(await shop.drop("a.png")) == [Outcome.SUCCEEDED]
    assert (await shop.result("a.png"))["answer"]["reused_from"]
    assert not await shop.round()


async def test_a_newer_version_wins_and_the_older_answer_is_kept(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png", picture(colour="red")))
    await shop.run()
    newer = await shop.drop("a.png", picture(colour="blue"))
    await shop.deliver(newer)
    await shop.ended()
    back = await shop.round()
    assert Outcome.SUCCEEDED in await shop.deliver(*back)
    assert await shop.deliver(newer) == [Outcome.ALREADY_DONE]
    assert (await shop.result("a.png"))["source"]["etag"] == await etag(shop, "a.png")
    assert await shop.deliver(await shop.drop("a.png", picture(colour="red"))) == [Outcome.SUCCEEDED]
    assert list(shop.billed.values()) == [1, 1], "the first version's answer was kept"


async def test_an_image_that_was_deleted_gets_no_result_and_pays_once(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.shop.person.blobs.get_blob_client("shop-images", "a.png").delete_blob()
    assert await shop.deliver(*await shop.round()) == [Outcome.GONE]
    assert await shop.deliver(await shop.drop("a.png")) == [Outcome.SUCCEEDED]
    assert list(shop.billed.values()) == [1]


@pytest.mark.parametrize("first", ["a.png.instructions.txt", "a.png"])
async def test_what_a_sidecar_asks_leaves_no_mark_when_it_is_answered(shop: BatchShop, first: str) -> None:
    images = shop.shop.person.blobs.get_container_client("shop-images")
    await images.upload_blob("a.png", picture(), metadata={"service_tier": "batch"})
    await images.upload_blob("a.png.instructions.txt", b"By batch?")
    deliveries, sidecar = shop.shop.deliveries(), Request(container="shop-images", name="a.png.instructions.txt")
    await deliveries.handle(Request(container="shop-images", name=first))
    await deliveries.defer(sidecar, 1)
    await deliveries.handle(shop.returned()[0])
    assert (await shop.state())["waiting"] == 1, "the image is not queued again meanwhile"
    for back in await shop.round():
        await deliveries.handle(back)
    assert (await shop.result("a.png"))["answer"]["text"] == "You asked: By batch?"
    assert not (await shop.state())["waiting"]


async def test_each_page_is_a_line(shop: BatchShop) -> None:
    (outcome,) = await shop.through(await shop.drop("a.pdf", pdf(["One", "Two", "Three"]), per_page="true"))
    assert outcome is Outcome.SUCCEEDED
    result = await shop.result("a.pdf")
    assert [page["number"] for page in result["answer"]["pages"]] == [1, 2, 3]
    assert len({page["request_id"] for page in result["answer"]["pages"]}) == 3
    assert shop.billed == {f"{result['work_key']}-{n}": 1 for n in (1, 2, 3)}
    assert result["model"]["service_tier"] == "batch"


async def test_an_answer_that_misses_its_schema_is_asked_for_once_more(shop: BatchShop) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    blob = shop.shop.person.blobs.get_blob_client("shop-images", "n.schema.json")
    await blob.upload_blob(json.dumps(schema))
    answers = iter(['{"n": "none"}', '{"n": 3}'])
    shop.model.batches.script.lines.policy = lambda _: Verbatim(200, completion(next(answers)))
    request = await shop.drop("a.png", schema="n.schema.json")
    await shop.deliver(request)
    assert await shop.deliver(*await shop.round()) == [Outcome.IN_BATCH]
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    result = await shop.result("a.png")
    assert result["answer"]["data"] == {"n": 3}
    assert result["usage"]["input_tokens"] == 20, "both were paid"
    assert shop.billed == {result["work_key"]: 1, f"{result['work_key']}.2": 1}


def completion(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


async def test_a_line_that_is_refused_for_good_is_a_failed_result(shop: BatchShop) -> None:
    shop.model.batches.script.lines.add(PromptFiltered())
    assert await shop.through(await shop.drop("a.png")) == [Outcome.FAILED]
    result = await shop.result("a.png")
    assert result["error"]["code"] == "content_filtered"
    assert result["model"]["service_tier"] == "batch"


# ---- The service's oddities ------------------------------------------------------------------------------------------


async def test_statuses_in_any_spelling_are_understood(shop: BatchShop) -> None:
    shop.model.batches.script.looks = ODD
    assert await shop.through(await shop.drop("a.png")) == [Outcome.SUCCEEDED]


@pytest.mark.parametrize(
    "course",
    [
        Course(validating=0.01, finalizing=0.01, missing=lambda _: True),
        Course(validating=0.01, finalizing=0.01, garbled=lambda _: True),
        Course(validating=0.01, finalizing=0.01, expires_after=0),
        Course(validating=0.01, finalizing=0.01, expires_after=0, reports_unfinished=True),
        Course(validating=0.01, finalizing=0.01, cancelled_after=0),
    ],
    ids=["missing", "garbled", "expired", "expired and reported", "cancelled in the portal"],
)
async def test_lines_without_an_answer_go_into_another_batch(shop: BatchShop, course: Course) -> None:
    shop.model.batches.script.plan(course)
    await shop.deliver(await shop.drop("a.png"))
    assert await shop.round() == []
    await shop.run(minutes=6)  # a line that can't be read is looked at for five
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 2


@pytest.mark.parametrize("fault", [Garbled(), Dropped(), Cut(), UNAVAILABLE])
async def test_a_file_of_answers_that_can_not_be_read_is_read_again(shop: BatchShop, fault: Fault) -> None:
    await shop.deliver(*[await shop.drop(f"{n}.png") for n in range(5)])
    shop.model.batches.script.add("read_file", fault)
    back = await shop.round()
    await shop.run(minutes=1)
    assert len(back + shop.returned()) == 5
    assert len(shop.model.batches.all) == 1
    assert set(shop.billed.values()) == {1}


async def test_some_lines_of_an_expired_batch_are_answered(shop: BatchShop) -> None:
    shop.model.batches.script.plan(Course(validating=0.01, finalizing=0.01, expires_after=2))
    requests = [await shop.drop(f"{n}.png") for n in range(5)]
    await shop.deliver(*requests)
    first = await shop.round()
    second = await shop.round()
    assert (len(first), len(second)) == (2, 3)
    assert set(await shop.deliver(*first, *second)) == {Outcome.SUCCEEDED}
    assert set(shop.billed.values()) == {1}


async def test_after_two_batches_the_default_lane_is_asked_if_that_was_asked_for(shop: BatchShop) -> None:
    shop.model.batches.script.course = lambda _: Course(validating=0.01, finalizing=0.01, missing=lambda _: True)
    await shop.deliver(await shop.drop("a.png", tier_fallback="default"))
    assert await shop.round() == []
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert shop.shop.model.tiers == ["default"]
    assert len(shop.model.batches.all) == 2


async def test_otherwise_it_waits_as_after_any_failure_and_goes_by_batch_again(shop: BatchShop) -> None:
    shop.model.batches.script.course = lambda _: Course(validating=0.01, finalizing=0.01, missing=lambda _: True)
    await shop.deliver(await shop.drop("a.png"))
    assert await shop.round() == []
    (back,) = await shop.round()
    with pytest.raises(RetryableFailure, match="no answer to this image"):
        await shop.deliver(back)
    shop.model.batches.script.course = lambda _: QUICK
    assert await shop.through(back) == [Outcome.SUCCEEDED]
    assert not shop.shop.model.asked


@pytest.mark.parametrize("fault", [TOKEN_LIMIT_AT_ONCE, UNAVAILABLE, BATCH_ROLE_MISSING])
async def test_a_batch_that_is_not_taken_waits_and_is_tried_again(shop: BatchShop, fault: object) -> None:
    shop.model.batches.script.add("create_batch", fault)  # type: ignore[arg-type]
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    (shard,) = await shop.shards()
    assert shard.problem
    await shop.run(minutes=0.1)
    assert shop.operations["create_batch"] == 1, "not before it has waited"
    await shop.run(minutes=3)
    await shop.run(minutes=3)
    await shop.ended()
    await shop.run(minutes=3)
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert shop.operations["upload_file"] == 1, "the file was there"


@pytest.mark.parametrize(("poll", "pauses"), [(60, [60, 300, 900, 1800, 1800]), (3600, [60, 300]), (2, [2, 10, 30])])
def test_a_batch_that_is_not_taken_is_tried_again_sooner_where_the_service_is_polled_more_often(
    poll: float, pauses: list[float]
) -> None:
    now = datetime.now(UTC)
    shard = Shard(id="a", deployment="vision-batch", created_at=now)
    for pause in pauses:
        shard = shard.refused("The quota is used up.", now, timedelta(seconds=poll))
        assert shard.retry_at == now + timedelta(seconds=pause)


async def test_a_quota_that_is_exceeded_minutes_later_is_waited_for(shop: BatchShop) -> None:
    shop.model.batches.script.plan(Course(validating=0.01, fails=TOKEN_LIMIT))
    await shop.deliver(await shop.drop("a.png"))
    assert await shop.round() == []
    (shard,) = await shop.shards()
    assert "token_limit_exceeded" in str(shard.problem)
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]


async def test_a_line_that_another_run_has_taken_is_not_sent(shop: BatchShop) -> None:
    """It would be in two batches."""
    lines = shop.shop.lines
    await shop.deliver(await shop.drop("a.png"))
    (seen,) = [line async for line in lines.all()]
    taken = await lines.note(seen, {**seen.metadata, "shard": "another"})
    assert taken
    assert not [chunk async for chunk in lines.read(seen)]
    assert len(b"".join([chunk async for chunk in lines.read(taken)])) == taken.size
    assert await lines.note(seen, {}) is None


async def test_a_shard_that_is_above_the_quota_by_itself_is_halved(shop: BatchShop) -> None:
    """It would wait for three days, and be made as large again."""
    requests = [await shop.drop(f"{n}.png", picture(colour=colour)) for n, colour in enumerate(("red", "blue"))]
    await shop.deliver(*requests)
    for _ in range(3):
        shop.model.batches.script.add("create_batch", TOKEN_LIMIT_AT_ONCE)
        await shop.run(minutes=30)
    assert not shop.model.batches.file_ids, "the file that was too large is gone"
    for _ in range(3):
        await shop.run(minutes=30)
        await shop.ended()
    assert [batch.total for batch in shop.model.batches.all.values()] == [1, 1]
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert list(shop.billed.values()) == [1, 1]


async def test_an_answer_that_is_lost_when_the_batch_is_created_is_no_second_batch(shop: BatchShop) -> None:
    shop.model.batches.script.add("create_batch", Dropped())
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.run(minutes=1)
    assert shop.operations["create_batch"] == 1
    await shop.run(minutes=1)
    await shop.ended()
    await shop.run(minutes=1)
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 1


async def test_a_file_whose_answer_is_lost_is_uploaded_again(shop: BatchShop) -> None:
    shop.model.batches.script.add("upload_file", Dropped())
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 1


async def test_a_batch_that_takes_too_long_is_cancelled(shop: BatchShop) -> None:
    shop.model.batches.script.plan(Course(validating=0.01, working=3600, cancelling=0.01))
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    shop.shop.time += LONGEST_BATCH + timedelta(minutes=1)
    await shop.run()
    await shop.ended()
    await shop.run(minutes=1)
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert shop.operations["cancel_batch"] == 1


async def test_what_is_never_taken_goes_back_to_the_job(shop: BatchShop) -> None:
    shop.model.batches.script.fault = lambda request: (
        TOKEN_LIMIT_AT_ONCE if request.operation == "create_batch" else None
    )
    await shop.deliver(await shop.drop("a.png", tier_fallback="default"))
    await shop.run()
    shop.shop.time += LONGEST_UNSENT + timedelta(minutes=1)
    await shop.run()
    assert await shop.deliver(*shop.returned()) == [Outcome.SUCCEEDED]
    assert shop.shop.model.tiers == ["default"]


async def test_a_batch_that_is_gone_is_like_missing_lines(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    await shop.run()
    await shop.ended()
    shop.model.batches.jobs.batches.clear()
    await shop.run(minutes=1)
    await shop.run(minutes=61)
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]


async def test_runs_at_the_same_time_send_each_line_once(shop: BatchShop) -> None:
    await shop.deliver(*[await shop.drop(f"{n}.png") for n in range(8)])
    await asyncio.gather(*(shop.run() for _ in range(4)))
    for _ in range(3):
        await shop.ended()
        await asyncio.gather(*(shop.run(minutes=2) for _ in range(3)))
    back = {request.name: request for request in shop.returned()}
    assert len(back) == 8
    assert set(await shop.deliver(*back.values())) == {Outcome.SUCCEEDED}
    assert set(shop.billed.values()) == {1}


# ---- Where no batch is set up ----------------------------------------------------------------------------------------


async def test_the_tier_batch_is_refused_where_it_is_not_set_up(shop: BatchShop) -> None:
    shop.shop.settings = shop.shop.settings.model_copy(update={"batch_deployment": None})
    assert await shop.deliver(await shop.drop("a.png")) == [Outcome.FAILED]
    error = (await shop.result("a.png"))["error"]
    assert error["code"] == "invalid_instructions"
    assert "BATCH_DEPLOYMENT" in error["message"]


async def test_another_deployment_has_no_batches(shop: BatchShop) -> None:
    assert await shop.deliver(await shop.drop("a.png", deployment="another")) == [Outcome.FAILED]
    assert "answers for the deployment 'vision' alone" in (await shop.result("a.png"))["error"]["message"]


async def test_answers_are_brought_back_after_the_lane_was_turned_off(shop: BatchShop) -> None:
    await shop.deliver(await shop.drop("a.png"))
    (back,) = await shop.round()
    shop.shop.settings = shop.shop.settings.model_copy(update={"batch_deployment": None})
    await shop.drop("a.png", service_tier="default")
    assert await shop.deliver(back) == [Outcome.SUCCEEDED]
    assert not shop.shop.model.asked


async def test_work_that_is_given_up_while_it_waits_goes_on_waiting(shop: BatchShop) -> None:
    request = await shop.drop("a.png")
    await shop.deliver(request)
    record = DeliveryRecord("shop-images", "a.png", 5)
    failure = PermanentFailure(ErrorCode.RETRIES_EXHAUSTED, "Given up.")
    assert await shop.shop.deliveries().end_as_failed(request, failure, record) is Outcome.IN_BATCH
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]


async def test_pages_that_are_answered_are_kept_when_the_others_are_given_up(shop: BatchShop) -> None:
    shop.model.batches.script.course = lambda _: Course(
        validating=0.01, finalizing=0.01, missing=lambda line: line.endswith("-2")
    )
    request = await shop.drop("a.pdf", pdf(["One", "Two", "Three"]), per_page="true")
    await shop.deliver(request)
    assert await shop.round() == []
    (back,) = await shop.round()
    with pytest.raises(RetryableFailure):
        await shop.deliver(back)
    failure = PermanentFailure(ErrorCode.RETRIES_EXHAUSTED, "Given up.")
    record = DeliveryRecord("shop-images", "a.pdf", 5)
    assert await shop.shop.deliveries().end_as_failed(back, failure, record) is Outcome.FAILED
    pages = (await shop.result("a.pdf"))["answer"]["pages"]
    assert [page["error"] and page["error"]["code"] for page in pages] == [None, "retries_exhausted", None]
    shop.model.batches.script.course = lambda _: QUICK
    rerun = request.model_copy(update={"rerun_failed": True})
    assert await shop.deliver(rerun) == [Outcome.IN_BATCH]
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert set(shop.billed.values()) == {1}, "only the page that had none was asked about again"
