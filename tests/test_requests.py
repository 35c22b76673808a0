"""Messages: what the app defers is read back, and whatever others send is understood or refused, and never believed."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.person import ROOT

from pipeline.errors import ErrorCode
from pipeline.instructions.options import Options
from pipeline.job.public import (
    BLOB_CREATED,
    MOST_BYTES,
    Allowed,
    PublicRequest,
    parse_public,
    uploads_in_events,
)
from pipeline.job.requests import MESSAGE_BYTES, InvalidRequest, Redrive, Request, parse_deferred
from pipeline.names import is_blob_name

PLAIN = {"container": "images", "name": "a.png"}
EVERYTHING = Allowed(questions=True, redrives=True)
NOTHING = Allowed(questions=False, redrives=False)

# Whatever UTF-8 can carry.
texts = st.text(st.characters(codec="utf-8"))
names = texts.filter(is_blob_name)
options = st.builds(
    Options,
    detail=st.sampled_from([None, "auto", "low", "high"]),
    max_output_tokens=st.none() | st.integers(1, 10_000),
)
times = st.datetimes(timezones=st.just(UTC))
asked = {
    "instructions": st.none() | texts.filter(str.strip),
    "options": options,
    "trial": st.none() | st.from_regex(r"\A[0-9a-z][0-9a-z-]{0,62}\Z"),
    "rerun_of": st.none() | texts,
}
requests = st.builds(
    Request,
    container=texts.filter(bool),
    name=names,
    attempt=st.integers(1, 1000),
    since=st.none() | times,
    timed_out=st.integers(0, 5),
    rerun_failed=st.booleans(),
    **asked,
)
public_requests = st.builds(PublicRequest, container=texts.filter(bool), name=names, **asked)
redrives = st.builds(
    Redrive, redrive=st.lists(st.sampled_from(ErrorCode), min_size=1), token=st.none() | texts.filter(bool)
)


@given(requests | redrives)
def test_what_is_deferred_is_read_back(sent: Request | Redrive) -> None:
    assert parse_deferred(sent.to_message()) == sent


@given(public_requests)
def test_what_others_ask_for_is_new_work(sent: PublicRequest) -> None:
    (work,) = parse_public(sent.to_message(), EVERYTHING)
    assert isinstance(work, Request)
    assert (work.container, work.name, work.instructions, work.options, work.rerun_of) == (
        sent.container,
        sent.name,
        sent.instructions,
        sent.options,
        sent.rerun_of,
    )
    assert (work.attempt, work.since, work.timed_out, work.rerun_failed) == (1, None, 0, sent.rerun_of is not None)


@given(requests | redrives)
def test_the_state_of_work_is_never_believed(sent: Request | Redrive) -> None:
    """As a version with a single queue left it there, or as a stranger made it up: the work begins anew."""
    if isinstance(sent, Request):
        sent = sent.model_copy(update={"rerun_failed": sent.rerun_of is not None})
        anew: Request | Redrive = sent.model_copy(update={"attempt": 1, "since": None, "timed_out": 0})
    else:
        anew = sent.model_copy(update={"token": None})
    assert parse_public(sent.to_message(), EVERYTHING) == [anew]


@pytest.mark.parametrize("state", [{"attempt": 999_999}, {"attempt": -1}, {"since": "yesterday"}, {"token": ["x"]}])
def test_not_even_a_state_that_could_not_be(state: dict[str, Any]) -> None:
    plain = Request(container="images", name="a.png")
    assert parse_public(json.dumps({"container": "images", "name": "a.png"} | state), NOTHING) == [plain]


def event(name: str, container: str = "images", kind: str = BLOB_CREATED) -> dict[str, Any]:
    return {"eventType": kind, "subject": f"/blobServices/default/containers/{container}/blobs/{name}", "data": {}}


@given(st.lists(names, max_size=4, unique=True), st.booleans())
def test_an_event_asks_for_its_blob_in_either_schema_one_or_several(blobs: list[str], is_cloud_event: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    events = [event(name) for name in blobs]
    if is_cloud_event:
        events = [{"specversion": "1.0", "type": given.pop("eventType"), **given} for given in events]
    expected = [Request(container="images", name=name) for name in blobs]
    assert parse_public(json.dumps(events), NOTHING) == expected == uploads_in_events(json.dumps(events))
    assert [work for given in events for work in parse_public(json.dumps(given), NOTHING)] == expected


def test_events_of_one_blob_ask_for_it_once() -> None:
    events = [event("a.png"), event("a.png", container="others"), event("a.png")]
    assert parse_public(json.dumps(events), NOTHING) == [
        Request(container="images", name="a.png"),
        Request(container="others", name="a.png"),
    ]


def test_other_kinds_of_events_queue_nothing() -> None:
    deleted = event("a.png", kind="Microsoft.Storage.BlobDeleted")
    assert parse_public(json.dumps(deleted), NOTHING) == []
    assert parse_public(json.dumps([deleted, event("b.png")]), NOTHING) == [Request(container="images", name="b.png")]


def test_an_event_carries_nothing_but_its_blob() -> None:
    more = {"attempt": 999_999, "instructions": "?", "options": {"deployment": "dear"}, "rerun_of": "0x1"}
    assert parse_public(json.dumps(event("a.png") | more), EVERYTHING) == [Request(container="images", name="a.png")]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
ours = [
    "version",
    "container",
    "name",
    "attempt",
    "since",
    "timed_out",
    "instructions",
    "options",
    "rerun_failed",
    "rerun_of",
    "redrive",
    "token",
]
events = ["eventType", "specversion", "type", "subject"]
keys = st.sampled_from([*ours, *events, "detail", "schema"]) | st.text(st.characters())
values = st.recursive(
    scalars | st.sampled_from([1, "images", "a.png", BLOB_CREATED, "/containers/images/blobs/a.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
)


@given(values.map(json.dumps) | texts)
@example("[" * 100_000)
@example("1" * 10_000)
@example('{"version": 1, "container": "images", "name": "\\ud800"}')
@example('{"version": 1, "container": "images", "name": "a.png", "\\ud800": 1}')
@example(json.dumps(event("\ud800")))
@example(json.dumps(PLAIN | {"instructions": "\ud800"}))
@example(json.dumps(PLAIN | {"rerun_of": "\ud800"}))
@example(json.dumps(PLAIN | {"options": {"schema": {"type": "\ud800"}}}))
@example(json.dumps(PLAIN | {"options": {"schema": {"\ud800": 1}}}))
@example(json.dumps(PLAIN | {"options": {"schema": {"maximum": float("nan"), "minimum": float("inf")}}}))
@example(json.dumps(PLAIN)[:-1] + ', "options": {"schema": ' + '{"not": ' * 300 + "{}" + "}" * 302)
def test_any_other_message_is_refused_in_words_that_a_result_can_hold(message: str) -> None:
    """Never in another way, which would leave it in a queue that nobody reads. What is accepted can be deferred."""
    try:
        for work in parse_public(message, EVERYTHING):
            assert parse_deferred(work.to_message()) == work
    except InvalidRequest as refusal:
        str(refusal).encode()
    try:
        parse_deferred(message)
    except InvalidRequest as refusal:
        str(refusal).encode()


HOSTS_FORM = {
    "Type": "BlobTrigger",
    "FunctionId": "Host.Functions.analyze_image",
    "BlobType": "BlockBlob",
    "ContainerName": "images",
    "BlobName": "a.png",
    "ETag": '"0x1"',
}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("{", "not JSON"),
        ("{}", "container"),
        ('{"version": 2, "container": "images", "name": "a.png"}', "version"),
        ('{"container": "images", "name": "a.png", "atempt": 2}', "atempt"),
        ('{"redrive": ["retries-exhausted"]}', "redrive.0"),
        ('{"redrive": []}', "redrive"),
        (json.dumps({"eventType": BLOB_CREATED, "subject": "/x"}), "'/x'"),
        ("[1]", "array"),
        (json.dumps([PLAIN, PLAIN]), "array"),
        (json.dumps(HOSTS_FORM), "container"),
        (json.dumps(PLAIN | {"rerun_failed": True}), "rerun_of"),
        (json.dumps(PLAIN | {"instructions": "\ud800"}), "half a character"),
    ],
)
def test_a_refusal_says_what_is_wrong(message: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        parse_public(message, EVERYTHING)


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        (PLAIN | {"instructions": "What?"}, "REQUESTS_MAY_ASK"),
        (PLAIN | {"options": {"detail": "high"}}, "REQUESTS_MAY_ASK"),
        (PLAIN | {"trial": "1f6c0ab2"}, "REQUESTS_MAY_ASK"),
        ({"redrive": ["crashed"]}, "REQUESTS_MAY_REDRIVE"),
    ],
)
def test_what_is_not_allowed_is_refused_by_the_settings_name(message: dict[str, Any], setting: str) -> None:
    assert len(parse_public(json.dumps(message), EVERYTHING)) == 1
    with pytest.raises(InvalidRequest, match=setting):
        parse_public(json.dumps(message), NOTHING)


@pytest.mark.parametrize("message", [PLAIN, PLAIN | {"options": {}}, PLAIN | {"rerun_of": "0x1"}])
def test_without_a_question_no_setting_is_needed(message: dict[str, Any]) -> None:
    assert len(parse_public(json.dumps(message), NOTHING)) == 1


def test_what_is_accepted_can_be_deferred_however_often() -> None:
    """Or its deliveries would fail until it ended as a crash that it was not."""

    def fits(length: int) -> bool:
        request = PublicRequest(container="images", name="a.png", instructions="x" * length, rerun_of="0x1")
        try:
            (work,) = parse_public(request.to_message(), EVERYTHING)
        except InvalidRequest:
            assert request.work_bytes > MOST_BYTES
            return False
        assert isinstance(work, Request)
        late = work.again(since=datetime(2026, 3, 14, 1, 2, 3, 456789, tzinfo=UTC), attempt=10**9, timed_out=10**9)
        assert len(late.to_message().encode()) <= MESSAGE_BYTES
        return True

    shortest = min(length for length in range(MOST_BYTES - 500, MOST_BYTES) if not fits(length))
    assert fits(shortest - 1)


def test_the_messages_that_the_page_shows_are_requests() -> None:
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    shown = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    works = [parse_public(message, EVERYTHING) for message in shown]
    asked = [(work.instructions, work.rerun_of) for [work] in works if isinstance(work, Request)]
    total = "What is the total?"
    assert asked == [(None, None), (total, None), (None, "0x8DE0B5A3C1F2E40"), (None, None), (total, None)]
    assert [isinstance(work, Redrive) for [work] in works] == [False, False, False, True, False, False]
    assert f"{MESSAGE_BYTES // 1024} KiB less {MESSAGE_BYTES - MOST_BYTES} bytes" in page


def test_the_next_try_is_the_same_work() -> None:
    now = datetime(2026, 3, 14, tzinfo=UTC)
    request = Request(container="images", name="a.png", instructions="What?", rerun_failed=True)
    assert request.again(since=now, attempt=2, timed_out=1) == request.model_copy(
        update={"since": now, "attempt": 2, "timed_out": 1}
    )
