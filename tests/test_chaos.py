"""The campaign in short, and whether its reckoning would notice."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from bench.chaos.batch_accounts import BatchWitness, LineCause, Payment, was_noted
from bench.chaos.explanations import Cause, Witness
from bench.chaos.faults import Call
from bench.chaos.ledger import STATE, Ledger, Operation
from bench.chaos.plan import BATCH_WEIGHTS, WEIGHTS, Kind, items
from bench.chaos.run import SHORT, run
from bench.chaos.steps import Kill, step_of
from localcloud.app_storage import StorageRequest
from localcloud.model import Dropped
from localcloud.model.batches import Batch, BatchRequest, BilledLine, Course


@pytest.mark.usefixtures("local_cloud")  # it starts one
@pytest.mark.timeout(420)
async def test_nothing_is_lost_and_nothing_paid_twice_whatever_fails(tmp_path: Path) -> None:
    """Two real workers that are killed in mid-call and at steps of the batch lane; model, batches and events
    with faults; storage that goes away or refuses.
    """
    report = await run(SHORT, 7, lambda *_: None, log=tmp_path / "functions.log")
    rows = dict(report.rows)
    assert report.problems == [], rows
    assert rows["images uploaded"] == "200"
    disturbances = rows["workers killed / whole hosts stopped / emulator restarts"].split(" / ")
    assert all(int(count) >= 1 for count in disturbances)
    assert int(rows["… writes of results refused then"]) >= 1
    assert int(rows["… with an answer that was given for the same bytes before"]) >= 1
    assert rows["paid again with no explanation"] == "0"
    assert int(rows["workers killed at a step of the batch lane"]) >= 3
    assert int(rows["submissions whose answer was lost"]) >= 1
    assert int(rows["questions answered by batch"]) >= 40
    assert int(rows["lines asked again as the answer did not meet the schema"]) >= 1
    assert rows["lines paid again as a submission was lost"] == "0", "each was found again"
    assert rows["lines paid again with no explanation"] == "0"


def test_a_seed_decides_what_is_uploaded() -> None:
    plan = list(items(300, 3))
    assert plan == list(items(300, 3))
    assert plan != list(items(300, 4))
    assert {item.kind for item in plan} == set(WEIGHTS)
    assert len({item.name for item in plan}) == 300
    contents = {item.content(version) for item in plan if item.content(1) for version in (1, 2)}
    assert len(contents) == 2 * sum(bool(item.content(1)) for item in plan)


def test_a_seed_decides_what_goes_by_batch() -> None:
    plan = list(items(300, 3, 0.5))
    assert plan == list(items(300, 3, 0.5))
    assert {item.kind for item in plan if item.by_batch} == set(BATCH_WEIGHTS)
    assert 100 < sum(item.by_batch for item in plan) < 200
    assert all((item.metadata(1).get("service_tier") == "batch") is item.by_batch for item in plan)


# --- whether work that was paid for again is noticed

CLAIM, OTHERS = "claims/this work's", "claims/another's"
FIRST = Call(
    work=("Describe item 1, version 1.", "digest"),
    question=[],
    claims=(CLAIM, "claims/of a version that never was"),
    at=100.0,
    fate="answered",
    request_id="first",
    worker="1",
)
AGAIN = replace(FIRST, at=110.0, request_id="again", worker="2")
OTHER = replace(FIRST, work=("Describe item 2, version 1.", "digest"), claims=(OTHERS,), request_id="other")


def writes(
    at: float, worker: str, owner: str | None, *, status: int | None = 201, blob: str = CLAIM, answers: str = ""
) -> Operation:
    """A claim that is taken, renewed or, for no owner, let go of with its answer kept; or another blob, written."""
    return Operation(at, worker, "PUT", STATE, blob, status, owner=owner, holds=frozenset(answers.split()))


def deletes(at: float, worker: str, *, status: int | None = 202, blob: str = CLAIM) -> Operation:
    return Operation(at, worker, "DELETE", STATE, blob, status)


def kill(at: float, worker: str = "1") -> Kill:
    return Kill(at, worker, running=1)


def witness(*facts: Operation | Kill, unheard: float = 0.0) -> Witness:
    """Knows these facts; an answer that was not received took `unheard` seconds."""
    ledger = Ledger()
    for fact in facts:
        if isinstance(fact, Operation):
            ledger.add(fact)
    kills = {fact.worker: fact for fact in facts if isinstance(fact, Kill)}
    heard = {"first": unheard} if unheard else {}
    return Witness(ledger, kills, heard, patience=4, claim_seconds=4)


CUT_OFF = (writes(99, "1", "A"), writes(101, "1", "A", status=None))
"""The first run's claim, and a renewal that got no answer."""


@pytest.mark.parametrize(
    ("calls", "facts", "expected"),
    [
        ([FIRST, OTHER], [], []),
        ([replace(FIRST, fate="lost on the wire"), AGAIN], [], []),
        ([replace(FIRST, fate="turned away"), AGAIN], [], []),
        ([FIRST, replace(AGAIN, fate="turned away")], [], []),
        ([AGAIN, FIRST], [], [None]),
        ([FIRST, replace(AGAIN, fate="lost on the wire")], [], [None]),
        ([FIRST, AGAIN], [kill(100.5)], [Cause.KILL]),
        ([FIRST, AGAIN], [kill(99.999)], [Cause.KILL]),
        ([FIRST, AGAIN], [kill(109.9)], [Cause.KILL]),
        ([FIRST, AGAIN], [kill(100.5, worker="2")], [None]),
        ([FIRST, AGAIN], [kill(110.001)], [None]),
        ([FIRST, AGAIN, OTHER, replace(OTHER, at=110, worker="2")], [kill(100.5)], [Cause.KILL, Cause.KILL]),
        ([FIRST, AGAIN, replace(OTHER, worker="3"), replace(OTHER, at=110)], [kill(100.5)], [Cause.KILL, None]),
        ([FIRST, AGAIN], [writes(100.4, "1", None, blob="a result", answers="first"), kill(100.5)], [None]),
        ([FIRST, AGAIN], [writes(100.4, "1", "A", answers="first"), kill(100.5)], [None]),
        ([FIRST, AGAIN], [writes(100.4, "1", "A", answers="first", status=403), kill(100.5)], [Cause.KILL]),
        ([FIRST, AGAIN], [writes(100.4, "1", "A", answers="other"), kill(100.5)], [Cause.KILL]),
        ([FIRST, AGAIN], [writes(99, "1", "A"), deletes(100.4, "1"), kill(100.5)], [None]),
        ([FIRST, AGAIN], [writes(99, "1", "A"), writes(100.4, "1", None), kill(100.5)], [None]),
        ([FIRST, AGAIN], [deletes(99, "1"), writes(99.5, "1", "A"), kill(100.5)], [Cause.KILL]),
        ([FIRST, AGAIN], [deletes(100.4, "1", blob=OTHERS), kill(100.5)], [Cause.KILL]),
        ([FIRST, AGAIN], [*CUT_OFF, writes(109, "2", "B")], [Cause.OUTAGE]),
        ([AGAIN, replace(FIRST, at=111)], [*CUT_OFF, writes(109, "2", "B")], [Cause.OUTAGE]),
        ([FIRST, AGAIN], [*CUT_OFF], [None]),
        ([FIRST, AGAIN], [*CUT_OFF, writes(102, "1", "A"), writes(109, "2", "B")], [None]),
        ([FIRST, AGAIN], [*CUT_OFF, deletes(102, "1"), writes(109, "2", "B")], [None]),
        ([FIRST, AGAIN], [*CUT_OFF, writes(109, "2", "B", status=412)], [None]),
        ([FIRST, AGAIN], [*CUT_OFF, writes(109, "3", "B")], [None]),
        ([FIRST, AGAIN], [writes(99, "1", "A"), writes(109, "2", "B")], [None]),
        ([FIRST, AGAIN, replace(AGAIN, at=120)], [*CUT_OFF, writes(109, "2", "B")], [Cause.OUTAGE, None]),
        ([FIRST, AGAIN, replace(FIRST, at=120)], [*CUT_OFF, writes(109, "2", "B")], [Cause.OUTAGE, None]),
    ],
    ids=[
        "two works", "lost on the wire", "turned away", "turned away the second time", "paid twice",
        "paid twice, the second lost on the wire", "killed in mid-call",
        "killed, and the call arrived afterwards", "killed much later, holding its claim", "another was killed",
        "killed after the second call", "one kill, two works of that process", "one kill, one work of another process",
        "killed with its result stored", "killed with its answer kept", "killed with its answer refused",
        "killed with another answer stored", "killed after it had given up", "killed after it had let go",
        "killed in a second run", "killed after it had let go of other work", "claim cut off and taken over",
        "asked by who had lost the claim", "claim cut off and not taken over", "claim cut off and renewed",
        "claim cut off and released", "taking over refused", "taken over by a third", "taken over with no outage",
        "taken over once and paid three times", "taken over once and paid three times, in turns",
    ],
)  # fmt: skip
def test_work_paid_for_again_is_noticed_unless_its_own_process_lost_the_answer(
    calls: list[Call], facts: list[Operation | Kill], expected: list[Cause | None]
) -> None:
    """Expected: for each further payment its cause; None for none."""
    found = witness(*facts).repeated(calls)
    assert sorted(found.causes.elements()) == sorted(cause for cause in expected if cause)
    assert len(found.unexplained) == expected.count(None)


def test_an_answer_that_came_after_the_callers_time_is_lost_and_one_that_was_hung_up_on_is_not() -> None:
    assert witness(unheard=4.1).repeated([FIRST, AGAIN]).causes == {Cause.LATE: 1}
    assert len(witness(unheard=0.6).repeated([FIRST, AGAIN]).unexplained) == 1


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([], None),
        ([writes(100, "1", "A")], None),
        ([writes(100, "1", "A"), kill(101)], Cause.KILL),
        ([writes(100, "1", "A"), kill(101, worker="2")], None),
        ([writes(100, "1", "A"), kill(113)], None),
        ([writes(100, "1", "A"), deletes(100.5, "1", status=412), kill(101)], None),
        ([writes(100, "1", "A"), deletes(100.5, "1", status=None)], Cause.OUTAGE),
        ([writes(100, "1", "A", status=None)], Cause.OUTAGE),
        ([writes(100, "1", "A", status=409)], None),
        ([writes(100, "1", "A", answers="first"), writes(101, "1", None)], Cause.NOT_WANTED),
        ([writes(100, "1", "A", answers="used"), writes(101, "1", None)], None),
        ([writes(100, "1", None, answers="used")], Cause.ASIDE),
        ([writes(100, "1", "A", answers="used"), writes(101, "1", None), writes(102, "2", "B"), kill(103, "2")],
         Cause.KILL),
    ],
    ids=[
        "of no worker", "a living worker's", "killed", "another killed", "not renewed when it was killed", "let go of",
        "letting go cut off", "taking cut off", "never taken", "an answer that is not wanted", "an answer that is used",
        "an answer that was kept before a race was lost",
        "killed after it used the answer",
    ],
)  # fmt: skip
def test_a_claim_left_behind_is_explained_only_by_a_fault_of_its_own_process(
    facts: list[Operation | Kill], expected: Cause | None
) -> None:
    assert witness(*facts).why_claim_is_left(CLAIM, {"used"}) is expected


def sends(at: float, worker: str, upload: str, *, status: int | None = 201) -> Operation:
    return Operation(at, worker, "POST", "deferred-work", "messages", status, holds=frozenset({upload}))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([writes(100, "1", None)], None),
        ([writes(100, "1", None), kill(100.1)], Cause.KILL),
        ([writes(100, "1", None), kill(110)], Cause.KILL),
        ([writes(100, "1", None), sends(100.1, "1", "a.png"), kill(100.2)], None),
        ([writes(100, "1", None), sends(100.1, "1", "b.png"), kill(100.2)], Cause.KILL),
        ([writes(100, "1", None), sends(100.1, "1", "a.png", status=None), kill(100.2)], Cause.KILL),
        ([writes(100, "1", None), kill(100.1, worker="2")], None),
        ([writes(100, "1", None), deletes(101, "2", status=None)], Cause.OUTAGE),
    ],
    ids=[
        "a living worker's", "killed", "killed much later", "killed after it had sent the message",
        "killed after it had sent another message", "killed when sending was cut off", "another killed",
        "clearing cut off",
    ],
)  # fmt: skip
def test_a_mark_left_behind_is_explained_only_by_a_fault_of_its_own_process(
    facts: list[Operation | Kill], expected: Cause | None
) -> None:
    mark = f"waiting/{hashlib.sha256(b'a.png').hexdigest()}"
    on_mark = [
        replace(fact, blob=mark) if isinstance(fact, Operation) and fact.container == STATE else fact for fact in facts
    ]
    assert witness(*on_mark).why_mark_is_left(mark) is expected


def test_a_result_written_after_its_image_was_found_gone_is_noticed() -> None:
    def found(at: float, worker: str, status: int) -> Operation:
        return Operation(at, worker, "HEAD", "images", "a.png", status)

    written = Operation(102, "1", "PUT", "results", "a.png.json", 201)
    assert witness(found(100, "1", 200), found(101, "2", 404), written).looked_before_writing("a.png")
    assert not witness(found(100, "1", 200), found(101, "1", 404), written).looked_before_writing("a.png")


def test_an_upload_with_a_wrong_content_encoding_is_still_a_jpeg() -> None:
    assert {item.name.rpartition(".")[2] for item in items(300, 3) if item.kind is Kind.MISENCODED} == {"jpeg"}


# --- whether a line that was paid for again is noticed

BATCHES = {
    name: Batch(endpoint="/chat/completions", input_file_id=file, created_at=0, id=name)
    for name, file in {"one": "file", "two": "file", "other": "another file"}.items()
}
GARBLING = Course(garbled=lambda name: name == "line")


def paid(batch: str | None, at: float, line: str = "line", call: Call = FIRST) -> Payment:
    """An answer of a batch, or of the default lane."""
    call = replace(call, at=at, worker=None if batch else call.worker)
    billed = BilledLine(at, batch, line, call.request_id, "vision-batch", 200, "", (), 1, 1) if batch else None
    return Payment(call, billed)


@pytest.mark.parametrize(
    ("payments", "lost", "course", "facts", "expected"),
    [
        ([paid("one", 100)], [], Course(), [], []),
        ([paid("one", 100), paid("one", 100, call=OTHER)], [], Course(), [], []),
        ([paid("one", 100), paid("other", 110)], [], Course(), [], [None]),
        ([paid("one", 100), paid("other", 110)], [], Course(), [kill(100.5)], [None]),
        ([paid("one", 100), paid("one", 110)], ["one"], Course(), [], [None]),
        ([paid("one", 100), paid("two", 110)], [], Course(), [], [None]),
        ([paid("one", 100), paid("two", 110)], ["one"], Course(), [], [LineCause.SUBMISSION]),
        ([paid("one", 100), paid("other", 110)], ["one"], Course(), [], [None]),
        ([paid("one", 100), paid("other", 110)], [], GARBLING, [], [LineCause.GARBLED]),
        ([paid("one", 100, "another"), paid("other", 110, "another")], [], GARBLING, [], [None]),
        ([paid("one", 100), paid("other", 110, "line.2")], [], Course(), [], [LineCause.SCHEMA]),
        ([paid("one", 100, "line.2"), paid("other", 110, "line.2")], [], Course(), [], [None]),
        ([paid("one", 100), paid(None, 110)], [], Course(), [], [None]),
        ([paid("one", 100), paid(None, 110)], [], GARBLING, [], [LineCause.GARBLED]),
        ([paid(None, 100), paid("one", 110)], [], Course(), [], [None]),
        ([paid(None, 100), paid("one", 110)], [], Course(), [kill(100.5)], [LineCause.OTHER_LANE]),
        ([paid(None, 100), paid(None, 110)], [], Course(), [], []),
    ],
    ids=[
        "once", "two works", "twice", "twice, and a kill", "twice in one batch", "in two batches of a file",
        "in two batches of a file, one of them not heard of", "not heard of, and another file", "garbled",
        "another line garbled", "asked again for its schema", "asked again for its schema, and once more",
        "by the other lane, too", "garbled, and asked by the other lane", "by the other lane before",
        "by the other lane before, killed", "by the other lane alone, which is counted elsewhere",
    ],
)  # fmt: skip
def test_a_line_paid_for_again_is_noticed_unless_the_service_or_a_submission_lost_it(
    payments: list[Payment],
    lost: list[str],
    course: Course,
    facts: list[Operation | Kill],
    expected: list[LineCause | None],
) -> None:
    found = BatchWitness(witness(*facts), BATCHES, lost, dict.fromkeys(BATCHES, course))
    causes, unexplained = found.repeated(payments)
    assert sorted(causes.elements()) == sorted(cause for cause in expected if cause)
    assert len(unexplained) == expected.count(None)


@pytest.mark.parametrize(
    ("fault", "facts", "expected"),
    [
        (None, [writes(100.1, "1", None, blob="batches/shards/a", answers="one")], True),
        (None, [writes(100.1, "1", None, blob="batches/shards/b", answers="two")], False),
        (None, [writes(100.1, "1", None, blob="batches/shards/a", answers="one", status=None)], False),
        (None, [writes(100.1, "2", None, blob="batches/shards/a", answers="one")], False),
        (None, [writes(99.9, "1", None, blob="batches/shards/a", answers="one")], False),
        (None, [], False),
        (Dropped(), [writes(100.1, "1", None, blob="batches/shards/a", answers="one")], False),
    ],
    ids=[
        "noted",
        "another shard noted",
        "noting cut off",
        "noted by another",
        "noted before",
        "never noted",
        "dropped, and refusal noted",
    ],
)
def test_a_batch_is_heard_of_only_if_the_process_that_created_it_noted_it(
    fault: Dropped | None, facts: list[Operation], *, expected: bool
) -> None:
    made = BatchRequest(datetime.fromtimestamp(100, UTC), "create_batch", None, "1", fault, made="one")
    assert was_noted(made, witness(*facts).ledger) is expected


def storage_request(method: str, blob: str, body: bytes = b"", container: str = STATE) -> StorageRequest:
    return StorageRequest("7", method, container, blob, CIMultiDictProxy(CIMultiDict()), body)


@pytest.mark.parametrize(
    ("request_", "step"),
    [
        (storage_request("PUT", "batches/lines/a", b"{}"), "writing a line"),
        (storage_request("PUT", "batches/lines/a"), "noting a line's shard"),
        (storage_request("DELETE", "batches/lines/a"), "deleting a line"),
        (storage_request("PUT", "batches/shards/a", b'{"state": "ended"}'), "noting a shard as ended"),
        (storage_request("PUT", "batches/shards/a", b"{}"), "noting a shard as filling"),
        (storage_request("PUT", "claims/a", b'{"batch_log": 1}'), "writing a log"),
        (storage_request("PUT", "claims/a", b"{}"), None),
        (storage_request("GET", "batches/shards/a"), None),
        (storage_request("POST", "messages", container="deferred-work"), "sending a message"),
        (storage_request("PUT", "a.png.json", container="results"), None),
    ],
)
def test_the_steps_at_which_workers_are_killed(request_: StorageRequest, step: str | None) -> None:
    assert step_of(request_) == step
