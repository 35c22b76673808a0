"""`blobsight batches`, and what other commands say of images in batches."""

import asyncio
import os
import pty
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from support.batch_shop import BatchShop, batch_shop
from support.guarded_storage import guarded
from support.person import ROOT, Person
from support.pictures import picture
from support.terminal import Ran, blobsight

from blobsight.batches.lane import Lane, Unsent
from blobsight.batches.words import MOST_OF_A_PROBLEM, ready, row, state_of
from localcloud.certificates import Certificates
from localcloud.model.batches import TOKEN_LIMIT_AT_ONCE, Course
from pipeline.batches.shard import Shard, State
from pipeline.job.race import Outcome
from pipeline.storage.shards import PREFIX

pytestmark = pytest.mark.timeout(120)

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
SLOW = Course(validating=3600, cancelling=0.01)
PLACE = ("--images", "shop-images", "--results", "shop-results", "--state", "shop-state")


@pytest.fixture
async def shop(person: Person, certificates: Certificates) -> AsyncIterator[BatchShop]:
    async with batch_shop(person, certificates) as shop:
        yield shop


async def run(shop: BatchShop, *command: str) -> Ran:
    return await blobsight(shop.shop.person, *command, *PLACE)


async def drop(shop: BatchShop, *names: str) -> None:
    """Images that go by batch, as far as the app takes them before the timer runs."""
    for name in names:
        await shop.shop.deliveries().handle(await shop.drop(name, picture(colour=f"rgb({len(name)},1,1)")))


async def test_what_waits_and_every_batch_are_listed_until_a_day_after_they_are_done(shop: BatchShop) -> None:
    empty = await run(shop, "batches")
    assert (empty.status, empty.out, empty.talk) == (0, "", "There are no batches.\n")
    await drop(shop, "a.png", "b/longer.png")
    waiting = await run(shop, "batches")
    assert waiting.out == ""
    assert "2 questions (0.0 MB) wait to be sent in a batch, the oldest for" in waiting.talk
    shop.model.batches.script.plan(SLOW)
    await shop.run()
    listed = await run(shop, "batches")
    ((name, state, questions, size, created, submitted, answered, when, problem),) = listed.lines
    (shard,) = await shop.shards()
    assert (name, state, questions, size) == (shard.id.rpartition("-")[2], "being checked", "2", "0.0 MB")
    assert (answered, problem) == ("0", "")
    assert created
    assert submitted
    assert when.endswith(" as a rule")
    assert listed.talk == ""
    (found,) = (await run(shop, "batches", "--json")).json()["batches"]
    assert (
        found
        | {
            "id": shard.id,
            "batch_id": shard.batch_id,
            "state": "submitted",
            "questions": 2,
            "completed": 0,
            "expected": None,
            "problem": None,
        }
        == found
    )
    assert datetime.fromisoformat(found["due"]) - datetime.fromisoformat(found["submitted"]) == timedelta(days=1)


async def test_options_may_come_before_the_command(shop: BatchShop) -> None:
    before = await blobsight(shop.shop.person, "batches", *PLACE, "send")
    assert (before.status, before.talk) == (0, (await run(shop, "batches", "send")).talk)


async def test_a_done_batch_is_listed_as_such(shop: BatchShop) -> None:
    await shop.through(await shop.drop("a.png"))
    ((_, state, _, _, _, _, answered, when, _),) = (await run(shop, "batches", "list")).lines
    assert (state, answered, when) == ("done", "1", "")


async def test_what_waits_is_sent_early(shop: BatchShop) -> None:
    nothing = await run(shop, "batches", "send", "--json")
    assert (nothing.status, nothing.json()["unsent"]["questions"]) == (0, 0)
    assert nothing.talk == "Nothing waits to be sent.\n"
    await shop.run(wait=3600)
    await drop(shop, "a.png")
    await shop.run(wait=3600)
    assert not shop.model.batches.all, "nobody asked for it"
    sent = await run(shop, "batches", "send")
    assert sent.status == 0
    assert sent.talk.startswith("1 question (0.0 MB) waits to be sent in a batch, for ")
    await shop.run(wait=3600)
    assert len(shop.model.batches.all) == 1


async def test_a_batch_is_cancelled_and_its_images_go_into_another(shop: BatchShop) -> None:
    await drop(shop, "a.png")
    shop.model.batches.script.plan(SLOW)
    await shop.run()
    (shard,) = await shop.shards()
    short = shard.id.rpartition("-")[2]
    unasked = await run(shop, "batches", "cancel", short)
    assert (unasked.status, "give --yes" in unasked.talk) == (2, True)
    unknown = await run(shop, "batches", "cancel", "x\x1b[31m" * 50, "--yes")
    assert (unknown.status, len(unknown.talk) < 200) == (3, True)
    ran = await run(shop, "batches", "cancel", short, "--yes", "--json")
    assert (ran.status, ran.json()["cancel_asked"]) == (0, True)
    ((_, state, *_),) = (await run(shop, "batches")).lines
    assert state == "to be cancelled"
    await shop.run(minutes=1)
    await shop.ended()
    await shop.run(minutes=1)
    again = await run(shop, "batches", "cancel", shard.id, "--yes")
    assert (again.status, "has ended already" in again.talk) == (3, True)
    assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
    assert len(shop.model.batches.all) == 2
    assert list(shop.billed.values()) == [1]


async def test_a_person_is_asked_before_a_batch_is_cancelled(shop: BatchShop) -> None:
    await drop(shop, "a.png")
    shop.model.batches.script.plan(SLOW)
    await shop.run()
    for answer, said, is_asked in ((b"n\n", b"Nothing was cancelled.", False), (b"y\n", b"The app cancels it", True)):
        terminal, stdin = pty.openpty()
        os.write(terminal, answer)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "blobsight", "batches", "cancel", (await shop.shards())[0].id, *PLACE),
            *("--connection-string", shop.shop.person.cloud.front.connection_string),
            stdin=stdin, stdout=PIPE, stderr=PIPE, cwd=ROOT,
        )  # fmt: skip
        _, talk = await process.communicate()
        os.close(terminal)
        os.close(stdin)
        assert b"(1 question, 0 answered)? [y/N]" in talk
        assert (process.returncode, said in talk) == (0, True)
        assert [shard.cancel_asked for shard in await shop.shards()] == [is_asked]


async def test_status_counts_images_in_batches_apart_and_lists_the_batches(shop: BatchShop) -> None:
    await drop(shop, "in/a.png", "in/bb.png")
    shop.model.batches.script.plan(SLOW)
    await shop.run()
    await drop(shop, "out/ccc.png")
    await shop.drop("in/not-seen-yet.png")
    ran = await run(shop, "status")
    assert ran.lines[:2] == [["pending", "4"], ["pending: in batches", "3"]]
    name, state, questions, answered, _, when = ran.lines[-1]
    assert (state, questions, answered) == ("being checked", "2", "0")
    assert when.endswith(" as a rule")
    assert "The oldest pending image was uploaded" in ran.talk
    assert "1 question (0.0 MB) waits to be sent in a batch" in ran.talk
    found = (await run(shop, "status", "in/", "--json")).json()
    assert (found["pending"], found["in_batch"], found["unsent"]["questions"]) == (3, 2, 1)
    assert [batch["id"].endswith(name) for batch in found["batches"]] == [True]
    elsewhere = await run(shop, "status", "elsewhere/", "--json")
    assert (elsewhere.json()["in_batch"], elsewhere.json()["batches"]) == (0, [])
    only = await run(shop, "status", "out/")
    assert "oldest pending" not in only.talk, "it waits for its batch, and for nothing else"


async def test_show_says_that_an_image_is_in_a_batch_and_since_when(shop: BatchShop) -> None:
    await drop(shop, "a.png")
    assert "in a batch, or waiting for one, since " in (await run(shop, "show", "a.png")).out
    found = (await run(shop, "show", "a.png", "--json")).json()
    assert (found["status"], found["waits_until"]) == ("pending", None)
    assert datetime.now(UTC) - datetime.fromisoformat(found["in_batch_since"]) < timedelta(minutes=5)
    await shop.run()
    await shop.ended()
    await shop.run(minutes=1)
    for request in shop.returned():
        await shop.shop.deliveries().handle(request)
    done = await run(shop, "show", "a.png")
    assert "service tier batch" in done.out
    assert "in a batch" not in done.out
    assert (await run(shop, "show", "a.png", "--json")).json()["in_batch_since"] is None


async def test_a_service_that_takes_no_batch_is_quoted(shop: BatchShop) -> None:
    shop.model.batches.script.add("create_batch", TOKEN_LIMIT_AT_ONCE)
    await drop(shop, "a.png")
    await shop.run()
    ((_, state, *_, when, problem),) = (await run(shop, "batches")).lines
    assert state.startswith("refused, tried again ")
    assert when == "24 hours after it is sent"
    assert "token_limit_exceeded" in problem or "token" in problem


async def test_notes_of_others_are_named_and_the_rest_is_listed(shop: BatchShop) -> None:
    await drop(shop, "a.png")
    await shop.run()
    state = shop.shop.person.blobs.get_container_client("shop-state")
    await state.upload_blob(f"{PREFIX}odd", b"no JSON")
    await state.upload_blob(f"{PREFIX}vast", b"x" * 100_000)
    ran = await run(shop, "batches")
    assert (ran.status, len(ran.lines)) == (1, 1)
    assert ran.talk.count("it is not a batch that the app has noted") == 2
    assert [one["name"] for one in (await run(shop, "batches", "--json")).json()["problems"]] == [
        f"{PREFIX}odd",
        f"{PREFIX}vast",
    ]


async def test_without_the_rights_the_role_is_named_and_status_counts_what_it_can(shop: BatchShop) -> None:
    await drop(shop, "a.png")
    async with guarded(shop.shop.person, lambda _, path: "/shop-state" in path) as account:
        place = ("--connection-string", account, *PLACE)
        ran = await blobsight(None, "batches", *place, "--json")
        counted = await blobsight(None, "status", *place, "--json")
    assert (ran.status, ran.json()["error"]["code"]) == (3, "AuthorizationPermissionMismatch")
    assert "'Storage Blob Data Reader' on the container 'shop-state'" in ran.talk
    assert (counted.status, counted.json()["pending"], counted.json()["in_batch"]) == (0, 1, None)
    async with guarded(shop.shop.person, lambda method, path: method == "PUT" and "/shop-state" in path) as account:
        ran = await blobsight(None, "batches", "send", "--connection-string", account, *PLACE)
    assert (ran.status, "'Storage Blob Data Contributor'" in ran.talk) == (3, True)
    missing = await blobsight(shop.shop.person, "batches", "--state", "no-such-state")
    assert (missing.status, "no container 'no-such-state'" in missing.talk) == (3, True)


async def test_the_tier_is_given_at_the_upload_and_at_a_retry(person: Person) -> None:
    ran = await blobsight(
        person, "upload", "samples/receipt.jpg", "--prefix", "cli-batch/", "-i", "By tier?", "--service-tier", "batch"
    )
    assert ran.status == 0, ran.talk
    blob = person.blobs.get_blob_client("images", "cli-batch/receipt.jpg")
    assert (await blob.get_blob_properties()).metadata["service_tier"] == "batch"
    assert (await person.result("cli-batch/receipt.jpg"))["model"]["service_tier"] == "batch"
    dry_run = ("retry", "cli-batch/", "--all", "--model", "gpt-5.1", "--dry-run", "--json")
    dry = await blobsight(person, *dry_run, "--service-tier", "batch")
    full = await blobsight(person, *dry_run)
    half, whole = (ran.json()["estimated_usd"] for ran in (dry, full))
    assert half == pytest.approx([price / 2 for price in whole])
    assert ", tier batch: " in dry.talk


# ---- Words -----------------------------------------------------------------------------------------------------------


def batch(state: State = State.SUBMITTED, *, age: float = 1, **facts: object) -> Shard:
    """One of 100 questions; it was submitted `age` hours ago, if it was."""
    made = Shard(id="20260314T100000-0a1b2c3d", deployment="d", created_at=NOW - timedelta(hours=age), lines=100)
    submitted = NOW - timedelta(hours=age) if state in (State.SUBMITTED, State.ENDED, State.DONE) else None
    return made.model_copy(update={"state": state, "submitted_at": submitted, **facts})


@pytest.mark.parametrize(
    ("found", "state", "when"),
    [
        (batch(State.FILLING), "being filled", "24 hours after it is sent"),
        (batch(State.UPLOADED), "file sent", "24 hours after it is sent"),
        (batch(status="in_progress", completed=20), "at work", "in about 4 hours"),
        (batch(status="in_progress", completed=10, failed=10), "at work", "in about 4 hours"),
        (batch(status="in_progress", completed=100), "at work", "in about 0 seconds"),
        (batch(status="in_progress", completed=0, age=25), "at work", "late: was due "),
        (batch(status="a\x1b[31mb" * 50, completed=0), "a\\x1b[31mb", "by "),
        (batch(status="in_progress", cancel_asked=True, completed=50), "to be cancelled", "in about 60 minutes"),
        (batch(State.ENDED, status="expired"), "being collected", "now"),
    ],
)
def test_a_batch_in_words(found: Shard, state: str, when: str) -> None:
    """The time that is left is worked out where the service counts answers, and stated as its own otherwise."""
    assert state_of(found, NOW).startswith(state)
    assert len(state_of(found, NOW)) <= 40
    assert ready(found, NOW).startswith(when)


def test_what_the_service_says_is_one_bounded_line() -> None:
    told = row(batch(problem=f"two\nlines\x1b[31m{'x' * 400}"), NOW)
    assert "\n" not in told[-1]
    assert "\x1b" not in told[-1]
    assert len(told[-1]) <= MOST_OF_A_PROBLEM


def test_batches_are_named_by_any_of_their_ids() -> None:
    lane = Lane(NOW, Unsent(), [batch(batch_id="batch_1"), batch(batch_id="batch_2")])
    assert [len(lane.named(name)) for name in ("0a1b2c3d", "batch_2", "20260314T100000-0a1b2c3d", "0a")] == [2, 1, 2, 0]
