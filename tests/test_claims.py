"""Claims: at most one at a time works on the same thing, and none stays behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from support.person import Person
from support.workshop import THROTTLED, Workshop, workshop

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions.options import Options
from pipeline.job.race import Outcome
from pipeline.storage.facts import ClaimedElsewhere


async def refuse() -> None:
    await asyncio.sleep(0)
    raise PermanentFailure(ErrorCode.MODEL_REFUSED, "I can't help with that.")


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def test_two_deliveries_at_the_same_moment_make_one_call(shop: Workshop) -> None:
    """Of ten at once, as from ten processes; those refused find the result later."""
    request = await shop.drop("a.png")
    shop.model.behaviours.append(lambda: asyncio.sleep(0.3))
    outcomes = await asyncio.gather(*(shop.analyzer.analyze(request) for _ in range(10)), return_exceptions=True)
    assert outcomes.count(Outcome.SUCCEEDED) == 1
    assert {type(outcome) for outcome in outcomes} <= {Outcome, ClaimedElsewhere}
    assert await shop.analyzer.analyze(request) is Outcome.ALREADY_DONE
    assert (shop.model.asked, await shop.state()) == (["?"], [])


async def test_duplicates_of_finished_work_do_not_defer_each_other(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    await shop.analyzer.analyze(request)
    outcomes = await asyncio.gather(*(shop.analyzer.analyze(request) for _ in range(10)))
    assert outcomes == [Outcome.ALREADY_DONE] * 10


async def test_an_answer_is_kept_once_its_own_run_has_ended(shop: Workshop) -> None:
    async with shop.claims.held("k"):
        with pytest.raises(ClaimedElsewhere):
            await shop.claims.keep_for("k", b"answer")
    await shop.claims.keep_for("k", b"answer")
    await shop.claims.keep_for("k", b"another")
    async with shop.claims.held("k") as claim:
        assert (claim.kept, claim.runs) == (b"answer", 1)
        claim.discard()
    assert await shop.state() == []


async def test_an_answer_is_kept_in_the_claim_of_a_run_that_died(shop: Workshop) -> None:
    blob = shop.person.blobs.get_blob_client("shop-state", "claims/k")
    await blob.upload_blob(b"", metadata={"runs": "1", "owner": "dead"})
    shop.claim_seconds = -1  # any claim has expired
    await shop.claims.keep_for("k", b"answer")
    async with shop.claims.held("k") as claim:
        assert claim.kept == b"answer"


async def test_a_request_with_options_alone_is_not_a_repeated_event(shop: Workshop) -> None:
    """An event that is, leaves the answer to a request's own question as it is."""
    event = await shop.drop("a.png")
    await shop.analyzer.analyze(event.model_copy(update={"instructions": "Something else?"}))
    assert await shop.analyzer.analyze(event) is Outcome.ALREADY_DONE
    closely = event.model_copy(update={"options": Options(detail="high")})
    assert await shop.analyzer.analyze(closely) is Outcome.SUCCEEDED
    assert shop.model.asked == ["Something else?", "?"]


async def test_a_failed_result_is_run_again_once_however_often_that_is_queued(shop: Workshop) -> None:
    """Two people, or one whose first command was killed, mean the same failed result."""
    event = await shop.drop("a.png")
    shop.model.behaviours += [refuse, refuse]
    assert await shop.analyzer.analyze(event) is Outcome.FAILED
    failed = await shop.person.blobs.get_blob_client("shop-results", "a.png.json").get_blob_properties()
    again = event.model_copy(update={"rerun_failed": True, "rerun_of": failed.etag.strip('"')})
    assert [await shop.analyzer.analyze(again) for _ in range(3)] == [Outcome.FAILED, *[Outcome.ALREADY_DONE] * 2]
    assert len(shop.model.asked) == 2


async def test_a_call_longer_than_a_claim_keeps_it(shop: Workshop) -> None:
    shop.claim_seconds = 1
    request = await shop.drop("a.png")
    shop.model.behaviours.append(lambda: asyncio.sleep(3.5))
    working = asyncio.create_task(shop.analyzer.analyze(request))
    while not shop.model.asked:
        await asyncio.sleep(0.01)
    while not working.done():
        with suppress(ClaimedElsewhere):
            assert await shop.analyzer.analyze(request) is Outcome.ALREADY_DONE
        await asyncio.sleep(0.2)
    assert (await working, shop.model.asked, await shop.state()) == (Outcome.SUCCEEDED, ["?"], [])


async def test_a_dead_ones_claim_is_taken_over_when_it_expires_and_counts_the_runs(shop: Workshop) -> None:
    shop.claim_seconds = 1
    dead = shop.person.blobs.get_blob_client("shop-state", "claims/work")
    await dead.upload_blob(b"", metadata={"runs": "2", "owner": "dead"})
    with pytest.raises(ClaimedElsewhere) as refusal:
        async with shop.claims.held("work"):
            pass
    assert 1 <= (refusal.value.retry_after or 0) <= 2
    runs: list[int] = []
    async with asyncio.timeout(10):
        while not runs:
            await asyncio.sleep(0.1)
            with suppress(ClaimedElsewhere):
                async with shop.claims.held("work") as claim:
                    runs.append(claim.runs)
                    with pytest.raises(ClaimedElsewhere):  # from now on it is as good as any other
                        async with shop.claims.held("work"):
                            pass
    assert (runs, await shop.state()) == ([3], [])


async def test_only_one_run_takes_over_an_expired_claim(shop: Workshop) -> None:
    dead = shop.person.blobs.get_blob_client("shop-state", "claims/work")
    await dead.upload_blob(b"", metadata={"runs": "1", "owner": "dead"})
    shop.claim_seconds = 0.1
    await asyncio.sleep(2.1)  # the age of a claim is in whole seconds
    at_work: list[int] = []

    async def take_over() -> None:
        claims = shop.claims
        async with claims.held("work") as claim:
            at_work.append(claim.runs)
            await asyncio.sleep(0.5)

    outcomes = await asyncio.gather(*(take_over() for _ in range(8)), return_exceptions=True)
    assert at_work == [2]
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [ClaimedElsewhere] * 7


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_answer_lost_on_the_wire_does_not_lock_other_runs_out(shop: Workshop, method: str) -> None:
    """The claim was written (or removed), but the SDK has to try again and finds it so: it is still ours."""
    request = await shop.drop("a.png")
    shop.connection.is_lost = lambda sent, path: sent == method and "/claims/" in path
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert await shop.state() == []


async def test_no_claim_is_left_by_a_call_that_is_cancelled_while_it_renews(shop: Workshop) -> None:
    shop.claim_seconds = 0.06

    async def work() -> None:
        async with shop.claims.held("work"):
            await asyncio.Event().wait()

    for n in range(20):
        working = asyncio.create_task(work())
        await asyncio.sleep(0.05 + n * 0.003)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert await shop.state() == []


async def test_a_failed_call_lets_go_of_its_claim(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    shop.model.behaviours.append(THROTTLED)
    await shop.deliveries().handle(request)
    assert await shop.state() == ["waiting"]


async def test_work_that_ended_its_worker_five_times_is_not_begun_again(shop: Workshop) -> None:
    """Its result says so; the next version of the image starts anew."""
    shop.claim_seconds = 0.1
    request = await shop.drop("a.png")
    for run in range(1, 6):
        await shop.die_in_mid_call(request)
        assert len(shop.model.asked) == run
        await asyncio.sleep(1.1)  # the age of a claim is in whole seconds
    assert await shop.analyzer.analyze(request) is Outcome.FAILED
    result = await shop.result("a.png")
    assert (result["error"]["code"], result["error"]["details"]) == ("crashed", {"runs": 5})
