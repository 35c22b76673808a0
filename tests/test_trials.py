"""Trials: the app's own job with its results elsewhere, and nothing of it seen where people's own results are."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.person import Person
from support.pictures import picture
from support.workshop import THROTTLED, Workshop, failing, workshop

from blobsight.trials.record import TrialImage, answer_name
from blobsight.trials.variants import Variant
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions.options import Options
from pipeline.job.public import Allowed, PublicRequest, parse_public


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop, person.blobs.get_container_client("shop-trials") as trials:
        await trials.create_container()
        yield shop
        await trials.delete_container()


def request(name: str, *, container: str = "shop-images", trial: str = "low", ask: str | None = None) -> str:
    return PublicRequest(container=container, name=name, trial=trial, instructions=ask).to_message()


async def answers(shop: Workshop) -> dict[str, Any]:
    trials = shop.person.blobs.get_container_client("shop-trials")
    names = [name async for name in trials.list_blob_names(name_starts_with="answers/")]
    return {name: json.loads(await (await trials.download_blob(name)).readall()) for name in names}


async def test_a_trial_of_an_upload_leaves_the_uploads_own_result_alone(shop: Workshop) -> None:
    await shop.drop("2026/a.png")
    await shop.messages().handle_request(request("2026/a.png", ask="Which colour?"))
    assert shop.model.asked == ["Which colour?"]
    assert await shop.results() == []
    [(name, result)] = (await answers(shop)).items()
    assert name == "answers/low/shop-images/2026/a.png.json"
    assert (result["source"]["container"], result["instructions"]["origin"]) == ("shop-images", "request")


async def test_the_same_question_is_paid_once_and_another_trial_has_its_own_result(shop: Workshop) -> None:
    await shop.drop("a.png")
    for trial in ("one", "one", "two"):
        await shop.messages().handle_request(request("a.png", trial=trial, ask="Which colour?"))
    assert len(shop.model.asked) == 2
    assert sorted(await answers(shop)) == [f"answers/{trial}/shop-images/a.png.json" for trial in ("one", "two")]


async def test_what_the_image_has_been_asked_already_is_not_paid_again(shop: Workshop) -> None:
    await shop.analyzer.analyze(await shop.drop("a.png"))
    usual = await shop.result("a.png")
    await shop.messages().handle_request(request("a.png"))
    assert len(shop.model.asked) == 1
    [tried] = (await answers(shop)).values()
    assert tried["answer"] == usual["answer"]
    await shop.messages().handle_request(request("a.png", ask="Which colour?", trial="another"))
    assert shop.model.asked == ["?", "Which colour?"]


async def test_an_image_of_a_trial_is_asked_by_the_request_alone(shop: Workshop) -> None:
    trials = shop.person.blobs.get_container_client("shop-trials")
    await trials.upload_blob("images/a.png", picture(), metadata={"instructions": "By its metadata?"})
    for container in ("shop-images", "shop-trials"):
        blobs = shop.person.blobs.get_container_client(container)
        await blobs.upload_blob("images/_instructions.md", b"By its folder?")
        await blobs.upload_blob("images/a.png.instructions.md", b"By its sidecar?")
    await shop.messages().handle_request(request("images/a.png", container="shop-trials", ask="By the request?"))
    await shop.messages().handle_request(request("images/a.png", container="shop-trials", trial="bare"))
    assert shop.model.asked == ["By the request?", "Describe this image."]
    assert sorted(await answers(shop)) == [
        f"answers/{trial}/shop-trials/images/a.png.json" for trial in ("bare", "low")
    ]


@pytest.mark.parametrize("trial", ["", "A", "a/b", "../x", "a" * 64, "-a", "a\n"])
async def test_an_id_is_no_path(shop: Workshop, trial: str) -> None:
    await shop.drop("a.png")
    await shop.messages().handle_request(
        json.dumps({"version": 1, "container": "shop-images", "name": "a.png", "trial": trial})
    )
    assert (await answers(shop), shop.model.asked) == ({}, [])
    assert "trial" in (await shop.result((await shop.results())[0].removesuffix(".json")))["error"]["message"]


async def test_without_an_id_the_container_of_trials_is_a_strangers(shop: Workshop) -> None:
    await shop.person.blobs.get_blob_client("shop-trials", "images/a.png").upload_blob(picture())
    plain = PublicRequest(container="shop-trials", name="images/a.png")
    await shop.messages().handle_request(plain.to_message())
    assert (await answers(shop), await shop.results(), shop.model.asked) == ({}, [], [])


async def test_where_requests_may_not_ask_there_are_no_trials(shop: Workshop) -> None:
    await shop.drop("a.png")
    await shop.messages(Allowed(questions=False)).handle_request(request("a.png"))
    assert (await answers(shop), shop.model.asked) == ({}, [])
    [refused] = await shop.results()
    assert "REQUESTS_MAY_ASK" in (await shop.result(refused.removesuffix(".json")))["error"]["message"]


async def test_a_trial_waits_like_all_else_and_without_a_mark(shop: Workshop) -> None:
    await shop.drop("a.png")
    shop.model.behaviours.append(THROTTLED)
    await shop.messages().handle_request(request("a.png", ask="Which colour?"))
    [(deferred, _)] = shop.queue.sent
    assert not await shop.marks.is_marked("a.png")
    await shop.marks.mark("a.png", 600)  # the upload itself waits, too
    await shop.messages().handle_deferred(deferred.to_message())
    assert await shop.marks.is_marked("a.png")
    assert [result["status"] for result in (await answers(shop)).values()] == ["succeeded"]
    assert await shop.results() == []


async def test_a_trial_that_is_given_up_fails_in_its_own_place(shop: Workshop) -> None:
    await shop.drop("a.png")
    [work] = parse_public(request("a.png", ask="Which colour?"), Allowed())
    await shop.poison.record_crash(work.to_message())
    [(name, result)] = (await answers(shop)).items()
    assert (name, result["error"]["code"]) == ("answers/low/shop-images/a.png.json", "crashed")
    assert await shop.results() == []


async def test_a_trial_goes_by_batch(shop: Workshop) -> None:
    upload = await shop.drop("a.png")
    asked = upload.model_copy(update={"trial": "half", "options": Options(service_tier="batch")})
    await shop.deliveries().handle(asked)
    assert not await shop.marks.is_marked("a.png")
    assert len([name async for name in shop.person.blobs.get_container_client("shop-state").list_blob_names()]) == 2


async def test_an_upload_and_its_trial_wait_for_answers_of_their_own(shop: Workshop) -> None:
    """One log for both would deliver the answer to the one that was asked last, and the other would wait for ever."""
    asked = (await shop.drop("a.png")).model_copy(update={"options": Options(service_tier="batch")})
    for trial in (None, "half", "other"):
        await shop.deliveries().handle(asked.model_copy(update={"trial": trial}))
    assert Counter(await shop.state()) == {"batches": 3, "claims": 3, "waiting": 1}


async def test_a_trial_of_an_image_whose_own_analysis_failed_is_asked(shop: Workshop) -> None:
    upload = await shop.drop("a.png")
    shop.model.behaviours.append(failing(PermanentFailure(ErrorCode.MODEL_REFUSED, "No.")))
    await shop.analyzer.analyze(upload)
    await shop.messages().handle_request(request("a.png"))
    assert len(shop.model.asked) == 2
    assert [result["status"] for result in (await answers(shop)).values()] == ["succeeded"]


@pytest.mark.parametrize("length", [900, 980, 1000, 1019, 1024])
async def test_an_answer_is_where_the_command_line_looks_for_it(shop: Workshop, length: int) -> None:
    name = f"{'a' * 200}/" * 4 + "b" * (length - 804)
    variant = Variant(label="", instructions="Which colour?")
    await shop.drop(name)
    await shop.messages().handle_request(request(name, trial=variant.id, ask=variant.instructions))
    assert list(await answers(shop)) == [
        answer_name(variant, TrialImage(name=name, container="shop-images", blob=name))
    ]
