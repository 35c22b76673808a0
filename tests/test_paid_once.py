"""A paid answer is never thrown away, and never paid for again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from azure.storage.blob import StandardBlobTier
from azure.storage.blob.aio import BlobServiceClient
from support.guarded_storage import guarded
from support.person import Person
from support.pictures import picture
from support.workshop import THROTTLED, Workshop, workshop

from pipeline.errors import AnswerKept, ErrorCode, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.instructions.options import parse_options
from pipeline.job.analysis import Analyzer
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.model.question import Reply
from pipeline.storage.claims import Claims
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


def result_blob(shop: Workshop, name: str = "a.png") -> Any:
    return shop.person.blobs.get_blob_client("shop-results", f"{name}.json")


async def touch(shop: Workshop, name: str = "a.png", **metadata: str) -> None:
    """Change the ETag and not the bytes, as `rclone sync` does after a local `touch`."""
    client = shop.person.blobs.get_blob_client("shop-images", name)
    await client.set_blob_metadata({"instructions": "?", "mtime": "1"} | metadata)


async def overwrite(shop: Workshop, data: bytes, name: str = "a.png") -> None:
    client = shop.person.blobs.get_blob_client("shop-images", name)
    await client.upload_blob(data, overwrite=True, metadata={"instructions": "?"})


# ---- Results that can't be written -----------------------------------------------------------------------------------


async def test_an_answer_that_a_lease_keeps_out_is_written_later_without_another_call(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await overwrite(shop, picture(colour="red"))
    lease = await result_blob(shop).acquire_lease(lease_duration=-1)
    for _ in range(3):
        with pytest.raises(AnswerKept, match="break the lease"):
            await shop.analyzer.analyze(request)
    assert (len(shop.model.asked), await shop.state()) == (2, ["claims"])
    await lease.break_lease()
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    result = await shop.result("a.png")
    current = await shop.person.blobs.get_blob_client("shop-images", "a.png").get_blob_properties()
    assert (result["source"]["etag"], result["answer"]["reused_from"]) == (current.etag.strip('"'), None)
    assert (len(shop.model.asked), await shop.state()) == (2, [])


async def test_a_kept_answer_is_delivered_rather_than_given_up(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await overwrite(shop, picture(colour="red"))
    lease = await result_blob(shop).acquire_lease(lease_duration=-1)
    await shop.deliveries().handle(request)
    ((later, _),) = shop.queue.sent
    await lease.break_lease()
    shop.time += shop.retry_for * 2
    shop.connection.is_refused = lambda method, path: method == "PUT" and "shop-results" in path
    await shop.deliveries().handle(later)
    shop.connection.is_refused = lambda _method, _path: False
    ((_, _), (latest, _)) = shop.queue.sent
    await shop.deliveries().handle(latest)
    result = await shop.result("a.png")
    assert (result["status"], result["attempts"], len(shop.model.asked)) == ("succeeded", 3, 2)


async def test_nothing_is_paid_while_there_is_no_container_for_results(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.person.blobs.delete_container("shop-results")
    with pytest.raises(OperatorFailure, match="'shop-results' does not exist"):
        await shop.analyzer.analyze(request)
    assert (shop.model.asked, await shop.state()) == ([], [])
    await shop.person.blobs.create_container("shop-results")
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED


async def test_nothing_is_paid_while_results_may_not_be_written(shop: Workshop) -> None:
    """Found out once in the life of a process, and again after each refused write."""
    request = await shop.drop("a.png")
    refused = True
    writes: list[str] = []

    def refuses(method: str, path: str) -> bool:
        if method == "PUT" and "shop-results" in path:
            writes.append(path.partition("?")[0].rpartition("/")[2])
            return refused
        return False

    async with guarded(shop.person, refuses) as door, BlobServiceClient.from_connection_string(door) as service:
        place = Place(Uploads(service, "shop-images"), Results(service, "shop-results"))
        places = Places(place, trials=place)
        analyzer = Analyzer(shop.settings, places, Claims(service, "shop-state", 60), shop.model)
        for _ in range(2):
            with pytest.raises(OperatorFailure, match="may not do this"):
                await analyzer.analyze(request)
        assert shop.model.asked == []
        refused = False
        assert await analyzer.analyze(request) is Outcome.SUCCEEDED
        assert await analyzer.analyze(await shop.drop("b.png")) is Outcome.SUCCEEDED
        assert writes == [".blobsight-write-check"] * 3 + ["a.png.json", "b.png.json"]
        await overwrite(shop, picture(colour="red"))

        async def lose_the_role() -> None:
            nonlocal refused
            refused = True

        shop.model.behaviours.append(lose_the_role)
        writes.clear()
        for _ in range(2):
            with pytest.raises(AnswerKept):
                await analyzer.analyze(request)
        refused = False
        assert await analyzer.analyze(request) is Outcome.SUCCEEDED
    assert (len(shop.model.asked), writes) == (3, ["a.png.json"] * 3)


async def test_while_the_whole_account_is_away_the_answer_stays_in_memory(shop: Workshop) -> None:
    request = await shop.drop("a.png")

    async def go_down() -> None:
        shop.connection.is_down = True

    shop.model.behaviours.append(go_down)
    working = asyncio.create_task(shop.analyzer.analyze(request))
    while not shop.connection.is_down:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    assert not working.done()
    shop.connection.is_down = False
    assert await working is Outcome.SUCCEEDED
    assert (len(shop.model.asked), await shop.state()) == (1, [])


async def test_an_answer_that_can_be_kept_nowhere_until_the_deadline_is_counted_as_lost(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    request = await shop.drop("a.png")

    async def go_down() -> None:
        shop.connection.is_down = True

    shop.model.behaviours.append(go_down)
    with suppress(RetryableFailure):
        await shop.deliveries(deadline=1.5).handle(request)
    shop.connection.is_down = False
    lost = [record for record in caplog.records if "is lost" in record.getMessage()]
    assert [record.levelname for record in lost] == ["ERROR"]


async def test_an_answer_survives_a_connection_that_breaks_while_its_image_is_looked_at(shop: Workshop) -> None:
    """The storage SDK tries again, and no longer calls the hook that notes the service's time."""
    request = await shop.drop("a.png")
    shop.connection.is_lost = lambda method, path: method == "HEAD" and "/shop-images/" in path
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert (len(shop.model.asked), await shop.state()) == (1, [])


async def test_an_image_is_opened_over_a_connection_that_breaks(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    shop.connection.is_lost = lambda method, path: method == "GET" and "/shop-images/" in path
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED


async def test_a_claim_that_is_looked_at_over_a_broken_connection_counts_as_held(shop: Workshop) -> None:
    """Its age is known by the service's clock only."""
    async with shop.claims.held("key"):
        shop.connection.is_lost = lambda method, path: method == "HEAD" and "/claims/" in path
        with pytest.raises(ClaimedElsewhere):
            async with shop.claims.held("key"):
                pass


async def test_a_first_reply_that_does_not_do_is_kept_while_the_second_can_not_be_had(shop: Workshop) -> None:
    """It was paid: the next delivery asks once, and the tokens of both are in the result."""
    request = await shop.drop("a.png")
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    request = request.model_copy(update={"options": parse_options({"schema": schema})})
    shop.model.replies += [Reply("no JSON", "stop", "m", "r1", 10, 5, None, None)]
    shop.model.behaviours += [lambda: asyncio.sleep(0), THROTTLED]
    with pytest.raises(RetryableFailure, match="throttling"):
        await shop.analyzer.analyze(request)
    assert (len(shop.model.asked), await shop.state()) == (2, ["claims"])
    shop.model.replies += [Reply('{"total": 4}', "stop", "m", "r2", 10, 5, None, None)]
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    result = await shop.result("a.png")
    assert (result["answer"]["data"], result["usage"]["input_tokens"]) == ({"total": 4}, 20)
    assert (len(shop.model.asked), await shop.state()) == (3, [])


# ---- The same bytes, asked the same ----------------------------------------------------------------------------------


async def test_the_same_bytes_and_question_under_a_new_etag_reuse_the_answer(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    first = await shop.result("a.png")
    for change in (touch(shop), overwrite(shop, picture()), touch(shop, project="x")):
        await change
        assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    result = await shop.result("a.png")
    properties = await shop.person.blobs.get_blob_client("shop-images", "a.png").get_blob_properties()
    assert result["source"]["etag"] == properties.etag.strip('"') != first["source"]["etag"]
    assert result["answer"] == first["answer"] | {"reused_from": first["source"]["etag"]}
    for part in ("usage", "model", "image_sent", "instructions"):
        assert result[part] == first[part]
    assert result["source"]["sha256"] == first["source"]["sha256"]
    assert len(shop.model.asked) == 1


@pytest.mark.parametrize("change", ["other bytes", "another question", "another option"])
async def test_any_other_change_is_asked_about_again(shop: Workshop, change: str) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    if change == "other bytes":
        await overwrite(shop, picture(colour="red"))
    elif change == "another question":
        await touch(shop, instructions="And now?")
    else:
        await touch(shop, detail="high")
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert ((await shop.result("a.png"))["answer"]["reused_from"], len(shop.model.asked)) == (None, 2)


async def test_a_question_that_comes_back_is_not_paid_again(shop: Workshop) -> None:
    """With any of these in between: another question, instructions that can't be used, a file that is not a picture."""
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    first = await shop.result("a.png")
    for change in (touch(shop, instructions="And now?"), touch(shop, detail="ultra"), overwrite(shop, b"junk")):
        await change
        await shop.analyzer.analyze(request)
        assert (await shop.result("a.png"))["work_key"] != first["work_key"]
    await overwrite(shop, picture())
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    result = await shop.result("a.png")
    assert (shop.model.asked, result["answer"]["reused_from"]) == (["?", "And now?"], first["source"]["etag"])
    await touch(shop, instructions="And now?")
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert len(shop.model.asked) == 2


async def test_an_answer_about_other_bytes_is_not_kept(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await overwrite(shop, picture(colour="red"))
    await shop.analyzer.analyze(request)
    assert await shop.state() == []


async def test_an_answer_survives_a_failure_that_is_written_as_a_last_resort(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await touch(shop)
    failure = PermanentFailure(ErrorCode.CRASHED, "It crashed.")
    assert await shop.last_resort.record(request, failure) is Outcome.FAILED
    assert await shop.analyzer.analyze(request.model_copy(update={"rerun_failed": True})) is Outcome.SUCCEEDED
    assert (len(shop.model.asked), await shop.state()) == (1, [])


async def test_a_result_whose_metadata_were_replaced_is_still_known(shop: Workshop) -> None:
    """As by a tool that tags blobs."""
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await result_blob(shop).set_blob_metadata({"project": "x"})
    assert await shop.analyzer.analyze(request) is Outcome.ALREADY_DONE
    await touch(shop)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert len(shop.model.asked) == 1


async def test_an_archived_result_is_neither_replaced_nor_paid_for_again(shop: Workshop) -> None:
    """As by a lifecycle rule on the results."""
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await result_blob(shop).set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    assert await shop.analyzer.analyze(request) is Outcome.ALREADY_DONE
    for change in (touch(shop), touch(shop, instructions="And now?")):
        await change
        with pytest.raises(OperatorFailure, match=r"in the archive tier.*delete it or set its tier"):
            await shop.analyzer.analyze(request)
    await result_blob(shop).set_standard_blob_tier(StandardBlobTier.HOT)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert shop.model.asked == ["?", "And now?"]


async def test_a_touch_while_the_model_is_asked_makes_no_second_call(shop: Workshop) -> None:
    """As with tools that upload and set tier or metadata at once."""
    request = await shop.drop("a.png")
    release = asyncio.Event()
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.analyzer.analyze(request))
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    await touch(shop)
    with pytest.raises(RetryableFailure, match="Another run is at this image"):
        await shop.analyzer.analyze(request)
    release.set()
    await working
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    current = await shop.person.blobs.get_blob_client("shop-images", "a.png").get_blob_properties()
    assert ((await shop.result("a.png"))["source"]["etag"], len(shop.model.asked)) == (current.etag.strip('"'), 1)


async def test_the_same_bytes_uploaded_again_during_a_call_are_paid_once(shop: Workshop) -> None:
    """Some programs delete a file and write the same one again."""
    request = await shop.drop("a.png")

    async def delete() -> None:
        await shop.person.blobs.get_blob_client("shop-images", "a.png").delete_blob()

    shop.model.behaviours.append(delete)
    assert await shop.analyzer.analyze(request) is Outcome.GONE
    await overwrite(shop, picture())
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert (len(shop.model.asked), await shop.state()) == (1, [])


async def fail_with(shop: Workshop, code: ErrorCode) -> Request:
    async def fail() -> None:
        raise PermanentFailure(code, "It says no.")

    request = await shop.drop("a.png")
    shop.model.behaviours.append(fail)
    assert await shop.analyzer.analyze(request) is Outcome.FAILED
    return request


@pytest.mark.parametrize("code", ["content_filtered", "model_refused", "empty_answer", "invalid_answer"])
async def test_failures_that_were_paid_are_reused_unless_a_person_asks_for_a_rerun(shop: Workshop, code: str) -> None:
    request = await fail_with(shop, ErrorCode(code))
    first = (await shop.result("a.png"))["source"]["etag"]
    await touch(shop)
    assert await shop.analyzer.analyze(request) is Outcome.FAILED
    error = (await shop.result("a.png"))["error"]
    assert (error["code"], error["details"]["reused_from"], len(shop.model.asked)) == (code, first, 1)
    rerun = request.model_copy(update={"rerun_failed": True})
    assert await shop.analyzer.analyze(rerun) is Outcome.SUCCEEDED


@pytest.mark.parametrize("code", ["content_filtered", "model_refused", "empty_answer", "invalid_answer"])
async def test_failures_that_were_paid_are_kept_while_their_result_can_not_be_written(
    shop: Workshop, code: str
) -> None:
    """The content filter refuses a prompt with no word of tokens, and the service may still charge for it."""

    async def fail() -> None:
        raise PermanentFailure(ErrorCode(code), "It says no.")

    request = await shop.drop("a.png")
    shop.model.behaviours.append(fail)
    shop.connection.is_refused = lambda method, path: method == "PUT" and path.endswith("/a.png.json")
    with pytest.raises(AnswerKept):
        await shop.analyzer.analyze(request)
    shop.connection.is_refused = lambda _method, _path: False
    assert await shop.analyzer.analyze(request) is Outcome.FAILED
    error = (await shop.result("a.png"))["error"]
    assert (error["code"], len(shop.model.asked), await shop.state()) == (code, 1, [])


@pytest.mark.parametrize("code", ["retries_exhausted", "crashed", "request_rejected"])
async def test_failures_not_about_the_image_are_asked_again(shop: Workshop, code: str) -> None:
    request = await fail_with(shop, ErrorCode(code))
    await touch(shop)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED


async def test_another_programs_blob_is_not_taken_for_an_answer(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    metadata = (await result_blob(shop).get_blob_properties()).metadata
    await result_blob(shop).upload_blob(json.dumps({"answer": "mine"}), overwrite=True, metadata=metadata)
    await touch(shop)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert ((await shop.result("a.png"))["answer"]["text"], len(shop.model.asked)) == ("An answer.", 2)


# ---- While the model is asked ----------------------------------------------------------------------------------------


async def sidecar(shop: Workshop, text: str) -> Request:
    client = shop.person.blobs.get_blob_client("shop-images", "a.png.instructions.txt")
    await client.upload_blob(text.encode(), overwrite=True)
    return Request(container="shop-images", name="a.png.instructions.txt")


async def drop_plain(shop: Workshop) -> Request:
    await shop.person.blobs.get_blob_client("shop-images", "a.png").upload_blob(picture(), overwrite=True)
    return Request(container="shop-images", name="a.png")


async def test_a_question_that_changes_there_and_back_ends_with_its_own_answer(shop: Workshop) -> None:
    await drop_plain(shop)
    event = await sidecar(shop, "One?")
    await shop.analyzer.analyze(event)
    await sidecar(shop, "Two?")
    release = asyncio.Event()
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.analyzer.analyze(event))
    while len(shop.model.asked) < 2:
        await asyncio.sleep(0.01)
    await sidecar(shop, "One?")
    assert await shop.analyzer.analyze(event) is Outcome.ALREADY_DONE
    release.set()
    assert await working is Outcome.ALREADY_DONE
    assert (await shop.result("a.png"))["instructions"]["text"] == "One?"


@pytest.mark.parametrize("meanwhile", ["a sidecar", "a person"])
async def test_an_answer_is_kept_when_another_question_was_answered_meanwhile(shop: Workshop, meanwhile: str) -> None:
    image = await drop_plain(shop)
    event = await sidecar(shop, "One?")
    release = asyncio.Event()
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.analyzer.analyze(image))
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    if meanwhile == "a sidecar":
        await sidecar(shop, "Two?")
        await shop.analyzer.analyze(event)
    else:
        await shop.analyzer.analyze(image.model_copy(update={"instructions": "Two?"}))
    release.set()
    assert await working is Outcome.ALREADY_DONE
    assert (await shop.result("a.png"))["instructions"]["text"] == "Two?"
    await drop_plain(shop)
    await sidecar(shop, "One?")
    await shop.analyzer.analyze(image)
    assert ((await shop.result("a.png"))["instructions"]["text"], shop.model.asked) == ("One?", ["One?", "Two?"])


async def test_a_result_with_another_images_content_is_not_an_answer(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await shop.analyzer.analyze(await shop.drop("b.png"))
    theirs = await (await result_blob(shop, "b.png").download_blob()).readall()
    metadata = (await result_blob(shop).get_blob_properties()).metadata
    await result_blob(shop).upload_blob(theirs, overwrite=True, metadata=metadata)
    await touch(shop)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert (await shop.result("a.png"))["source"]["name"] == "a.png"


async def test_a_last_resort_does_not_touch_an_archived_result(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await result_blob(shop).set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    await touch(shop)
    with pytest.raises(OperatorFailure, match="archive tier"):
        await shop.last_resort.record(request, PermanentFailure(ErrorCode.CRASHED, "It crashed."))
    assert "can't be kept" not in caplog.text


# ---- Another tier ----------------------------------------------------------------------------------------------------


async def test_another_tier_never_pays_for_an_answer_again(shop: Workshop) -> None:
    """Whichever source changes it, and though metadata make a new version of the image."""
    request = await shop.drop("a.png")
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    first = await shop.result("a.png")
    for tier in ("flex", "batch"):
        options = parse_options({"service_tier": tier, "tier_fallback": "default", "flex_patience": "0"})
        assert await shop.analyzer.analyze(request.model_copy(update={"options": options})) is Outcome.ALREADY_DONE
    for setting in ("flex", "priority"):
        shop.settings = shop.settings.model_copy(update={"service_tier": setting})
        assert await shop.analyzer.analyze(request) is Outcome.ALREADY_DONE
    assert await shop.result("a.png") == first
    await touch(shop, service_tier="flex")
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    second = await shop.result("a.png")
    assert (second["answer"]["reused_from"], second["model"]) == (first["source"]["etag"], first["model"])
    assert shop.model.asked == ["?"]


async def test_an_answer_that_is_kept_is_delivered_whatever_the_tier_is_by_then(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    await overwrite(shop, picture(colour="red"))
    lease = await result_blob(shop).acquire_lease(lease_duration=-1)
    with pytest.raises(AnswerKept):
        await shop.analyzer.analyze(request)
    await lease.break_lease()
    shop.settings = shop.settings.model_copy(update={"service_tier": "flex"})
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert len(shop.model.asked) == 2
