"""Whoever may only send to the request queue can ask for work, and can say nothing about how it went.

Each attack through the real worker and the emulator's queues, beside the finished image that it is aimed at.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from support.fire import Fire, fire_in
from support.person import Person, blob_created
from support.pictures import picture
from support.workshop import Workshop, workshop

from localcloud.cloud import LocalCloud
from localcloud.model import Behaviour, Slow
from localcloud.model.errors import server_error
from localcloud.model.script import Failure
from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.job.answering import Failing
from pipeline.job.public import MOST_BYTES
from pipeline.job.requests import Redrive, Request
from pipeline.names import result_name

REQUESTS, DEFERRED = "analysis-requests", "deferred-work"
LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
async def fire(tmp_path_factory: pytest.TempPathFactory, local_cloud: type[LocalCloud]) -> AsyncIterator[Fire]:
    # One worker, since an image that times out is singled out by what its own process hears of others.
    settings = {"MODEL_TIMEOUT_SECONDS": "1", "FUNCTIONS_WORKER_PROCESS_COUNT": "1"}
    async with fire_in(tmp_path_factory.mktemp("senders"), local_cloud, settings) as fire:
        yield fire


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def finished(fire: Fire, name: str) -> dict[str, Any]:
    """An image with a good result."""
    etag = await fire.person.drop(name, picture(), {"instructions": f"First: {name}"})
    result = await fire.person.result(name, etag=etag)
    assert result["status"] == "succeeded"
    return result


async def refusals(fire: Fire) -> list[str]:
    """Messages of the results that say which messages were refused."""
    names = await fire.person.result_names("unreadable-requests/")
    return [(await fire.person.result(name.removesuffix(".json")))["error"]["message"] for name in names]


async def refused(fire: Fire, problem: str) -> None:
    deadline = monotonic() + fire.person.patience
    while not any(problem in refusal for refusal in await refusals(fire)):
        assert monotonic() < deadline, fire.person.tail()
        await asyncio.sleep(0.1)


async def answering(fire: Fire, name: str, question: str) -> dict[str, Any]:
    """The result of `name`, once it answers `question`."""
    async with asyncio.timeout(fire.person.patience):
        while (result := await fire.person.result(name))["instructions"]["text"] != question:
            await asyncio.sleep(0.1)
    return result


FAILING: list[Behaviour] = [Failure(server_error())] * 3
TOO_SLOW: list[Behaviour] = [Slow(3)] * 3
"""For one delivery, which asks again in place."""


@pytest.mark.parametrize("queue", [REQUESTS, f"{REQUESTS}-poison"])
@pytest.mark.parametrize(
    ("state", "behaviours"),
    [
        ({"attempt": 999_999, "since": LONG_AGO}, FAILING),
        ({"attempt": 2, "since": LONG_AGO}, FAILING),
        ({"timed_out": 4}, TOO_SLOW),
        (
            {"attempt": 999_999, "since": LONG_AGO, "timed_out": 999_999, "rerun_failed": True, "rerun_of": "0x0"},
            FAILING,
        ),
    ],
    ids=["attempts", "a day", "time-outs", "everything"],
)
async def test_made_up_tries_and_times_end_nothing(
    fire: Fire, state: dict[str, Any], behaviours: list[Behaviour], queue: str
) -> None:
    """Believed, each would replace the good result: "Given up after 999999 attempts", "crashed"."""
    name = f"tries/{len(fire.person.cloud.model.history)}.png"
    before = await finished(fire, name)
    question = f"Aimed at {name}"
    fire.person.scripts[question].extend(behaviours)
    message = {"version": 1, "container": "images", "name": name, "instructions": question} | state
    await fire.send(queue, json.dumps(message))
    if queue == REQUESTS:
        await fire.asked(question)
    await fire.person.drop(f"{name}.beside.png", picture(), {"instructions": "Beside"})
    await fire.person.result(f"{name}.beside.png")
    await fire.person.logged(f"images/{name}: deferred", f"images/{name}: given up by the host, and queued again")
    assert await fire.person.result(name) == before
    await fire.queues.get_queue_client(DEFERRED).clear_messages()  # later the question would be answered, as is allowed
    fire.person.scripts.clear()


async def test_the_hosts_form_is_refused_on_the_request_queue(fire: Fire) -> None:
    before = await finished(fire, "hosts-form.png")
    form = {"Type": "BlobTrigger", "FunctionId": "Host.Functions.analyze_image", "BlobType": "BlockBlob"}
    form |= {"ContainerName": "images", "BlobName": "hosts-form.png", "ETag": '"0x0"'}
    await fire.send(REQUESTS, json.dumps(form))
    await refused(fire, "the message is not a request: container")
    assert await fire.person.result("hosts-form.png") == before


@pytest.mark.parametrize("others_are_answered", [True, False], ids=["alone", "an outage"])
async def test_an_image_whose_calls_time_out_is_given_up_unless_nobody_is_answered(
    fire: Fire,
    others_are_answered: bool,  # noqa: FBT001
) -> None:
    """The last of its deliveries, which are minutes apart: as the app itself deferred it."""
    name = f"slow/{others_are_answered}.png"
    question = f"How slow is {name}?"
    await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": question})
    fire.person.scripts[question].extend(TOO_SLOW)
    work = Request(container="images", name=name, attempt=5, since=datetime.now(UTC), timed_out=4)
    await fire.send(DEFERRED, work.to_message())
    await fire.asked(question)
    if others_are_answered:
        await fire.person.drop(f"{name}.beside.png", picture(), {"instructions": "Beside a slow one"})
        await fire.person.result(f"{name}.beside.png")
        error = (await fire.person.result(name))["error"]
        assert (error["code"], error["details"]["attempts"]) == ("retries_exhausted", 5)
    else:
        await fire.person.logged(f"images/{name}: deferred")
        assert await fire.person.result_names(name) == []
        await fire.queues.get_queue_client(DEFERRED).clear_messages()
    fire.person.scripts.clear()


@pytest.mark.parametrize("queue", [f"{REQUESTS}-poison", "webjobs-blobtrigger-poison"])
async def test_an_image_that_was_never_analyzed_is_not_called_crashed(fire: Fire, queue: str) -> None:
    """A false result would stay: the image's true event takes a result of the same question for its own."""
    name = f"never/{queue}.png"
    await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": "Never?"})
    fields = {"container": "images", "name": name, "ContainerName": "images", "BlobName": name}
    wanted = ("ContainerName", "BlobName") if queue.startswith("webjobs") else ("container", "name")
    await fire.send(queue, json.dumps({field: fields[field] for field in wanted}))
    await fire.person.logged(f"images/{name}: given up by the host, and queued again")
    assert await fire.person.result_names(name) == []
    await fire.deliver(name, copies=1)
    assert (await fire.person.result(name))["status"] == "succeeded"


@pytest.mark.parametrize("queue", [REQUESTS, f"{REQUESTS}-poison", DEFERRED, f"{DEFERRED}-poison"])
async def test_other_containers_are_left_alone_at_every_queue(fire: Fire, queue: str) -> None:
    before = await finished(fire, "elsewhere.png")
    container = f"elsewhere-{queue}"
    await fire.send(queue, json.dumps({"container": container, "name": "elsewhere.png", "instructions": "Elsewhere?"}))
    await fire.person.logged(f"Ignored an event of container {container}")
    assert (await fire.person.result("elsewhere.png"), fire.person.asked("Elsewhere?")) == (before, [])


async def test_other_containers_are_left_alone_at_the_hosts_poison_queue(fire: Fire) -> None:
    before = await finished(fire, "elsewhere.png")
    await fire.send("webjobs-blobtrigger-poison", json.dumps({"ContainerName": "secret", "BlobName": "elsewhere.png"}))
    await fire.person.logged("Ignored an event of container secret")
    assert await fire.person.result("elsewhere.png") == before


async def test_a_redrive_is_refused_unless_it_is_allowed(fire: Fire) -> None:
    await fire.person.drop("redriven.png", b"no image")
    before = await fire.person.result("redriven.png")
    await fire.send(REQUESTS, json.dumps({"version": 1, "redrive": ["unsupported_image"], "token": "x"}))
    await refused(fire, "REQUESTS_MAY_REDRIVE")
    assert await fire.person.result("redriven.png") == before


@pytest.mark.parametrize(
    ("question", "problem"),
    [("x" * (MOST_BYTES - 100), "a request may take"), ("half \ud800", "half a character")],
    ids=["too large", "half a character"],
)
async def test_a_request_that_could_not_be_deferred_is_refused_before_it_is_begun(
    fire: Fire, question: str, problem: str
) -> None:
    """Else its deliveries would fail wherever it had to wait, and the image would end as crashed."""
    before = await finished(fire, "undeferrable.png")
    await fire.send(REQUESTS, json.dumps({"container": "images", "name": "undeferrable.png", "instructions": question}))
    await refused(fire, problem)
    assert await fire.person.result("undeferrable.png") == before


async def test_where_questions_are_not_allowed_a_name_and_a_rerun_are(
    tmp_path_factory: pytest.TempPathFactory, local_cloud: type[LocalCloud]
) -> None:
    directory = tmp_path_factory.mktemp("quiet")
    async with fire_in(directory, local_cloud, {"REQUESTS_MAY_ASK": "false"}) as fire:
        before = await finished(fire, "quiet.png")
        plain = {"version": 1, "container": "images", "name": "quiet.png"}
        await fire.send(REQUESTS, json.dumps(plain | {"instructions": "May I?"}))
        await fire.send(REQUESTS, json.dumps(plain | {"options": {"deployment": "dear"}}))
        await refused(fire, "REQUESTS_MAY_ASK")
        await fire.drained()
        assert (len(await refusals(fire)), await fire.person.result("quiet.png")) == (2, before)
        await fire.silent.get_blob_client("images", "named.png").upload_blob(picture())
        await fire.send(REQUESTS, json.dumps(plain | {"name": "named.png"}))
        assert (await fire.person.result("named.png"))["status"] == "succeeded"

        await fire.person.drop("failed.png", picture(), {"max_output_tokens": "none"})
        failed = await fire.person.result("failed.png")
        stored = await fire.person.blobs.get_blob_client("results", "failed.png.json").get_blob_properties()
        for etag in ("0x0", stored.etag.strip('"'), stored.etag.strip('"')):
            await fire.send(REQUESTS, json.dumps(plain | {"name": "failed.png", "rerun_of": etag}))
            await fire.drained()
        rerun = await fire.person.result("failed.png")
        log = fire.person.log.read_text(encoding="utf-8")
        assert rerun["created_at"] > failed["created_at"]
        assert log.count("images/failed.png: failed") == 2


@pytest.mark.parametrize("as_event", [False, True], ids=["by name", "as an event"])
async def test_naming_a_sidecar_does_not_undo_a_persons_question(fire: Fire, as_event: bool) -> None:  # noqa: FBT001
    name = f"sidecar/{as_event}.png"
    sidecar = f"{name}.instructions.txt"
    images = fire.silent.get_container_client("images")
    await images.upload_blob(sidecar, b"Its own question?")
    await fire.person.drop(name, picture())
    assert (await fire.person.result(name))["instructions"]["origin"] == "sidecar"
    uploaded = (await images.get_blob_client(sidecar).get_blob_properties()).last_modified
    while datetime.now(UTC) < uploaded + timedelta(seconds=1):  # storage tells no parts of a second
        await asyncio.sleep(0.05)
    question = f"A person's question about {name}?"
    await fire.send(REQUESTS, json.dumps({"container": "images", "name": name, "instructions": question}))
    asked = await answering(fire, name, question)
    for named in (sidecar, f"{name}.instructions.md"):  # one that is there, and one that is not
        since = fire.person.log.stat().st_size
        message = blob_created(named) if as_event else {"container": "images", "name": named}
        await fire.send(REQUESTS, json.dumps(message))
        await fire.person.logged(f"images/{name}: already done", since=since)
    assert await fire.person.result(name) == asked
    await fire.person.drop(sidecar, b"A later question?")
    await answering(fire, name, "A later question?")


# ---- Several events in one message -----------------------------------------------------------------------------------


async def test_an_array_becomes_work_of_its_own_for_each_image(fire: Fire) -> None:
    """For all instances, and not one after the other within the time of one delivery; a kill loses none."""
    names = [f"many/{n}.png" for n in range(60)]
    for name in names:
        await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": name})
    events = [*map(blob_created, names), blob_created("many/0.png"), blob_created("many/x.png", container="elsewhere")]
    small = [{field: event[field] for field in ("eventType", "subject")} for event in events]
    await fire.send(REQUESTS, json.dumps(small))
    await fire.asked(names[0])
    await fire.kill_busy_workers()
    assert {(await fire.person.result(name))["status"] for name in names} == {"succeeded"}
    sent = [operation.holds for operation in fire.ledger.on(DEFERRED, "messages") if operation.method == "POST"]
    assert {frozenset({name}) for name in names} <= set(sent)
    await fire.drained()


async def test_a_split_that_broke_off_is_done_again_and_nothing_is_paid_twice(shop: Workshop) -> None:
    names = [f"{n}.png" for n in range(6)]
    for name in names:
        await shop.drop(name)
    events = json.dumps([blob_created(name, "shop-images") for name in names])
    send, allowed = shop.queue.send, iter(range(3))

    async def breaks_off(message: Any, delay: float) -> None:
        if next(allowed, None) is None:
            raise RetryableFailure("The queue can't be reached.")
        await send(message, delay)

    shop.queue.send = breaks_off  # type: ignore[method-assign]
    with pytest.raises(RetryableFailure):
        await shop.messages().handle_request(events)
    shop.queue.send = send  # type: ignore[method-assign]
    await shop.messages().handle_request(events)
    assert (len(shop.queue.sent), shop.model.asked) == (9, [])
    for work, _ in list(shop.queue.sent):
        await shop.messages().handle_deferred(work.to_message())
    assert (len(shop.model.asked), len(await shop.results())) == (6, 6)


async def test_a_single_event_is_done_at_once(shop: Workshop) -> None:
    """Neither an array of one nor one whose other events are of other containers costs a message."""
    await shop.drop("a.png")
    ours, others = blob_created("a.png", "shop-images"), blob_created("a.png", "others")
    for message in (ours, [ours], [ours, ours, others]):
        await shop.messages().handle_request(json.dumps(message))
    assert (shop.queue.sent, len(shop.model.asked), await shop.results()) == ([], 1, ["a.png.json"])


# ---- What a version with a single queue left behind ------------------------------------------------------------------


async def test_work_in_flight_from_the_single_queue_is_done(fire: Fire) -> None:
    """As it lies there when the new version is deployed: deferred, queued by reconcile, a rerun, a question."""
    state = {"version": 1, "container": "images", "attempt": 7, "since": LONG_AGO, "timed_out": 3, "options": {}}
    plain = {"rerun_failed": False}
    for name in ("old/deferred.png", "old/poison.png", "old/asked.png"):
        await fire.silent.get_blob_client("images", name).upload_blob(picture(), metadata={"instructions": name})
    await fire.person.drop("old/failed.png", picture(), {"max_output_tokens": "none"})
    failed = await fire.person.result("old/failed.png")
    stored = await fire.person.blobs.get_blob_client("results", "old/failed.png.json").get_blob_properties()
    rerun = {"rerun_failed": True, "rerun_of": stored.etag.strip('"')}
    question = plain | {"instructions": "An old question"}
    for name, rest in (("old/deferred.png", plain), ("old/failed.png", rerun), ("old/asked.png", question)):
        await fire.send(REQUESTS, json.dumps(state | rest | {"name": name}))
    await fire.send(f"{REQUESTS}-poison", json.dumps(state | plain | {"name": "old/poison.png"}))
    deferred, asked = await fire.person.result("old/deferred.png"), await fire.person.result("old/asked.png")
    assert (deferred["status"], deferred["attempts"]) == ("succeeded", 1)
    assert asked["answer"]["text"] == "You asked: An old question"
    await fire.person.logged("images/old/poison.png: given up by the host, and queued again")
    deadline = monotonic() + fire.person.patience
    while (await fire.person.result("old/failed.png"))["created_at"] == failed["created_at"]:
        assert monotonic() < deadline, fire.person.tail()
        await asyncio.sleep(0.1)


# ---- Redrives --------------------------------------------------------------------------------------------------------


async def test_a_redrive_believes_no_result_of_another_container(shop: Workshop) -> None:
    """A long name is in the result alone, and the results of other apps may be beside ours."""
    long_name = "漢" * 340 + "x" * 680 + ".png"
    await shop.analyzer.analyze(await shop.drop(long_name), Failing(PermanentFailure(ErrorCode.CRASHED, "It failed.")))
    blob = shop.person.blobs.get_blob_client("shop-results", result_name(long_name))
    body, metadata = await (await blob.download_blob()).readall(), (await blob.get_blob_properties()).metadata
    elsewhere = json.loads(body)
    elsewhere["source"]["container"] = "elsewhere"
    for name, content in {
        "~" + "0" * 64 + ".json": json.dumps(elsewhere).encode(),
        "short~" + "0" * 64 + ".json": body,
        "b~" + "0" * 64 + ".json": b"{}",
    }.items():
        target = ("y" * (1024 - len(name))) + name
        await shop.person.blobs.get_blob_client("shop-results", target).upload_blob(content, metadata=metadata)
    await shop.redriver.run(Redrive(redrive=[ErrorCode.CRASHED]))
    found = await shop.queued()
    assert [work.name for work in found if isinstance(work, Request)] == [long_name]
