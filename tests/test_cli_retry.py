"""`blobsight retry`: what is run again, what is left alone, and that nothing is paid twice."""

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from support.guarded_storage import guarded
from support.person import ROOT, Person
from support.pictures import picture
from support.terminal import Ran, blobsight, started
from support.workshop import Workshop, workshop

from localcloud.model.script import Refusal
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions.options import Options
from pipeline.job.answering import Failing
from pipeline.job.requests import Request


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


SHOP = ("--images", "shop-images", "--results", "shop-results", "--state", "shop-state", "--queue", "shop-requests")


async def retry(shop: Workshop, *arguments: str) -> Ran:
    return await blobsight(shop.person, "retry", *SHOP, *arguments)


@asynccontextmanager
async def at_a_terminal(shop: Workshop) -> AsyncIterator[tuple[Process, int]]:
    """`blobsight retry` when it has asked, and the terminal to answer at."""
    terminal, stdin = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "blobsight", "retry", *SHOP),
            *("--connection-string", shop.person.cloud.front.connection_string),
            stdin=stdin, stdout=PIPE, stderr=PIPE, cwd=ROOT,
        )  # fmt: skip
        assert process.stderr is not None
        await process.stderr.readuntil(b"Queue them? [y/N]")
        # Until it waits for the answer: Python overlooks a signal that comes in the moment before.
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            await asyncio.sleep(0.1)
        yield process, terminal
    finally:
        os.close(terminal)
        os.close(stdin)


async def put(shop: Workshop, name: str, data: bytes, **metadata: str) -> Request:
    client = shop.person.blobs.get_blob_client("shop-images", name)
    await client.upload_blob(data, overwrite=True, metadata=metadata)
    return Request(container="shop-images", name=name)


async def fail(shop: Workshop, name: str, code: ErrorCode) -> None:
    await shop.analyzer.analyze(await shop.drop(name), Failing(PermanentFailure(code, "It failed.")))


async def deliver(shop: Workshop) -> list[str]:
    """Have the app do what is queued; the names, in order."""
    found = await shop.queued()
    for request in found:
        assert isinstance(request, Request)
        await shop.deliveries().handle(request)
    return sorted(request.name for request in found if isinstance(request, Request))


async def test_failed_images_run_again_and_others_do_not(person: Person) -> None:
    """Through the whole cloud: the model refuses, a person retries, the model answers."""
    question = "retry: which way?"
    person.scripts[question].extend([Refusal(), Refusal()])
    for name in ("retry-all/a.png", "retry-all/b c#%.png"):
        await person.drop(name, picture(), {"instructions": question})
        assert (await person.result(name))["error"]["code"] == "model_refused"
    etag = await person.drop("retry-all/good.png", picture(), {"instructions": question})
    await person.result("retry-all/good.png", etag=etag)
    ran = await blobsight(person, "retry", "retry-all/", "--yes")
    assert (ran.status, ran.out) == (0, "")
    assert "To be run again: 2 (model_refused 2)" in ran.talk
    assert "Cost: 2 images with" in ran.talk
    assert "Queued: 2 of 2." in ran.talk
    for name in ("retry-all/a.png", "retry-all/b c#%.png"):
        while (await person.result(name))["status"] == "failed":
            await asyncio.sleep(0.05)
    assert len(person.asked(question)) == 5
    again = await blobsight(person, "retry", "retry-all/", "--yes", "--json")
    assert (json.loads(again.out)["queued"], "No image is to be run again" in again.talk) == (0, True)


async def test_retry_queues_only_the_codes_that_are_named(shop: Workshop) -> None:
    for name, code in {"a.png": "crashed", "b.png": "retries_exhausted", "c.png": "model_refused"}.items():
        await fail(shop, name, ErrorCode(code))
    ran = await retry(shop, "--code", "crashed", "--code", "retries_exhausted", "--yes", "--json")
    output = json.loads(ran.out)
    low, high = output.pop("estimated_usd")
    assert 0 < low < high < 1
    assert output == {
        "prefix": "",
        "chosen": "failed",
        "queued": 2,
        "dry_run": False,
        "images": [{"name": "a.png", "why": "crashed"}, {"name": "b.png", "why": "retries_exhausted"}],
        "problems": [],
    }
    assert await deliver(shop) == ["a.png", "b.png"]
    assert (await shop.result("c.png"))["status"] == "failed"
    wrong = await retry(shop, "--code", "crashd", "--yes")
    assert (wrong.status, "retries_exhausted" in wrong.talk) == (2, True)


async def test_other_files_cost_nothing(shop: Workshop) -> None:
    await shop.analyzer.analyze(await put(shop, "text.png", b"This is not an image."))
    ran = await retry(shop, "--dry-run")
    assert "Cost: nothing." in ran.talk
    await fail(shop, "a.png", ErrorCode.CRASHED)
    ran = await retry(shop, "--dry-run")
    assert "To be run again: 2 (" in ran.talk
    assert "Cost: 1 image with " in ran.talk
    assert "USD; the other costs nothing\n" in ran.talk
    await shop.analyzer.analyze(await put(shop, "text-2.png", b"This is not an image."))
    assert "USD; the other 2 cost nothing\n" in (await retry(shop, "--dry-run")).talk


async def test_a_dry_run_lists_and_queues_nothing(shop: Workshop) -> None:
    await fail(shop, "x/grüße 漢字.png", ErrorCode.CRASHED)
    await fail(shop, "y.png", ErrorCode.CRASHED)
    ran = await retry(shop, "x/", "--dry-run")
    assert (ran.status, ran.out) == (0, "x/grüße 漢字.png\tcrashed\n")
    assert await shop.queued() == []


async def test_missing_images_have_no_result_and_are_not_queued(shop: Workshop) -> None:
    for name in ("done.png", "lost.png", "waits.png", "overwritten.png"):
        await shop.drop(name)
    for name in ("done.png", "overwritten.png"):
        await shop.analyzer.analyze(Request(container="shop-images", name=name))
    await put(shop, "overwritten.png", picture(colour="red"), instructions="?")
    await put(shop, "_instructions.md", b"No image.")
    await shop.marks.mark("waits.png", 60)
    young = await retry(shop, "--missing", "--yes")
    assert "Left out: 3 that were uploaded within the last 15 minutes" in young.talk
    assert await shop.queued() == []
    ran = await retry(shop, "--missing", "--older-than", "0", "--yes")
    assert "Left out: 1 that are on the queue already." in ran.talk
    found = await shop.queued()
    assert sorted(request.name for request in found if isinstance(request, Request)) == ["lost.png", "overwritten.png"]


async def test_without_access_to_the_marks_retry_warns_and_goes_on(shop: Workshop) -> None:
    await shop.drop("lost.png")
    async with guarded(shop.person, lambda _method, path: "/shop-state/" in path) as account:
        ran = await blobsight(
            None, "retry", "--connection-string", account, *SHOP, "--missing", "--older-than", "0", "--yes"
        )
    assert (ran.status, "you may not read the state container" in ran.talk) == (0, True)
    assert await deliver(shop) == ["lost.png"]


async def test_retrying_everything_asks_only_where_the_question_has_changed(shop: Workshop) -> None:
    """Two under a folder file that changes, one with metadata of its own: two are paid, however often it is run."""
    await put(shop, "f/_instructions.md", b"Before?")
    for name in ("f/a.png", "f/b.png"):
        await shop.analyzer.analyze(await put(shop, name, picture()))
    await shop.analyzer.analyze(await put(shop, "f/own.png", picture(), instructions="Mine?"))
    for _ in range(2):
        assert (await retry(shop, "f/", "--all", "--yes")).status == 0
        assert await deliver(shop) == ["f/a.png", "f/b.png", "f/own.png"]
    assert shop.model.asked == ["Before?", "Before?", "Mine?"]
    await put(shop, "f/_instructions.md", b"After?")
    for _ in range(2):
        await retry(shop, "f/", "--all", "--yes")
        await deliver(shop)
    assert shop.model.asked[3:] == ["After?", "After?"]


async def test_new_instructions_are_asked_about_every_image_and_paid_once(shop: Workshop) -> None:
    await fail(shop, "failed.png", ErrorCode.CRASHED)
    await shop.analyzer.analyze(await shop.drop("good.png"))
    shop.model.asked.clear()
    new = ("--all", "--instructions", "Wie viele Bäume?", "--detail", "high", "--yes")
    for _ in range(2):  # as after a kill in the middle
        assert (await retry(shop, *new)).status == 0
    found = await shop.queued()
    assert {request.options for request in found if isinstance(request, Request)} == {Options(detail="high")}
    for request in found:
        assert isinstance(request, Request)
        await shop.deliveries().handle(request)
    assert (len(found), shop.model.asked) == (4, ["Wie viele Bäume?"] * 2)


async def test_images_queued_by_an_earlier_retry_are_left_alone_and_counted(shop: Workshop) -> None:
    """The app takes a request that asks nothing of its own for the upload's event, come again."""
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request.model_copy(update={"instructions": "Something else?"}))
    for nothing_new in ((), ("--service-tier", "flex")):
        ran = await retry(shop, "--all", "--yes", *nothing_new)
        assert "Left out: 1 that were asked with instructions of their own by an earlier retry" in ran.talk
    assert await shop.queued() == []


async def test_another_tier_alone_costs_nothing_where_the_question_is_the_same(shop: Workshop) -> None:
    await shop.analyzer.analyze(await shop.drop("a.png"))
    ran = await retry(shop, "--all", "--service-tier", "flex", "--yes")
    assert "Cost, if every question has changed: 1 image" in ran.talk


async def test_a_failed_retry_with_instructions_says_that_they_are_not_asked_again(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    failing = Failing(PermanentFailure(ErrorCode.RETRIES_EXHAUSTED, "It failed."))
    await shop.analyzer.analyze(request.model_copy(update={"instructions": "Something else?"}), failing)
    ran = await retry(shop, "--yes")
    assert "1 of them failed with instructions of an earlier retry." in ran.talk


async def test_it_asks_a_person_and_never_a_program(shop: Workshop) -> None:
    await fail(shop, "a.png", ErrorCode.CRASHED)
    unattended = await retry(shop)
    assert (unattended.status, "--yes" in unattended.talk) == (2, True)
    async with at_a_terminal(shop) as (process, terminal):
        os.write(terminal, b"n\n")
        _, talk = await process.communicate()
    assert (process.returncode, b"Nothing was queued." in talk, await shop.queued()) == (0, True, [])
    async with at_a_terminal(shop) as (process, _):
        process.send_signal(signal.SIGINT)
        _, talk = await process.communicate()
    assert (process.returncode, b"Stopped." in talk, await shop.queued()) == (130, True, [])
    async with at_a_terminal(shop) as (process, terminal):
        os.write(terminal, b"y\n")
        _, talk = await process.communicate()
    assert (process.returncode, b"Queued: 1 of 1." in talk, await deliver(shop)) == (0, True, ["a.png"])


async def test_a_run_that_is_killed_half_way_is_run_again(shop: Workshop) -> None:
    """Killed at the 50th of 120 messages: the second run misses none, and what was queued twice is run once."""
    images, results = (shop.person.blobs.get_container_client(f"shop-{kind}") for kind in ("images", "results"))
    names = [f"{number:03}.png" for number in range(120)]

    async def failed(name: str) -> None:
        etag = (await (await images.upload_blob(name, b"x")).get_blob_properties()).etag.strip('"')
        metadata = {"status": "failed", "errorcode": "crashed", "sourceetag": etag}
        await results.upload_blob(f"{name}.json", b"{}", metadata=metadata)

    await asyncio.gather(*map(failed, names))
    sent = 0
    running: list[Process] = []

    def kill(method: str, path: str) -> bool:
        nonlocal sent
        sent += method == "POST" and "/messages" in path
        if sent == 50:
            running[0].kill()
        return False

    async with guarded(shop.person, kill) as account:
        running.append(await started(None, "retry", "--yes", *SHOP, "--connection-string", account))
        await running[0].communicate()
    assert (running[0].returncode, 0 < await shop.hidden() < 120) == (-signal.SIGKILL, True)
    again = await retry(shop, "--yes")
    assert (again.status, "Queued: 120 of 120." in again.talk) == (0, True)
    assert {request.name for request in await shop.queued() if isinstance(request, Request)} == set(names)


async def test_instructions_that_no_message_holds_are_refused_before_anything_is_queued(shop: Workshop) -> None:
    await fail(shop, "a.png", ErrorCode.CRASHED)
    too_long = await retry(shop, "--all", "--instructions", "ä" * 25_000, "--yes")
    assert (too_long.status, "_instructions.md" in too_long.talk, await shop.queued()) == (2, True, [])
    longest = await retry(shop, "--all", "--instructions", "ä" * 24_000, "--yes")
    assert (longest.status, await deliver(shop)) == (0, ["a.png"])


async def test_without_the_right_to_queue_it_says_which_role_is_missing(shop: Workshop) -> None:
    await fail(shop, "a.png", ErrorCode.CRASHED)
    async with guarded(shop.person, lambda method, path: method == "POST" and "/messages" in path) as account:
        ran = await blobsight(None, "retry", "--connection-string", account, *SHOP, "--yes")
    assert "Storage Queue Data Message Sender" in ran.talk
    assert "Queued: 0 of 1." in ran.talk
    assert ran.status == 3
    missing = await retry(shop, "--yes", "--queue", "no-such-queue")
    assert (missing.status, "no queue 'no-such-queue'" in missing.talk) == (3, True)


async def test_only_one_choice_at_a_time(shop: Workshop) -> None:
    ran = await retry(shop, "--all", "--missing", "--yes")
    assert (ran.status, "give one" in ran.talk) == (2, True)
