"""Messages on the request queue: what we send is read back, and what others send is understood or refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import ErrorCode
from pipeline.instructions.options import Options
from pipeline.job.requests import BLOB_CREATED, InvalidRequest, Redrive, Request, parse_message
from pipeline.names import is_blob_name

# Whatever UTF-8 can carry.
texts = st.text(st.characters(codec="utf-8"))
names = texts.filter(is_blob_name)
options = st.builds(
    Options,
    detail=st.sampled_from([None, "auto", "low", "high"]),
    max_output_tokens=st.none() | st.integers(1, 10_000),
)
requests = st.builds(
    Request,
    container=texts.filter(bool),
    name=names,
    attempt=st.integers(1, 1000),
    since=st.none() | st.datetimes(timezones=st.just(UTC)),
    instructions=st.none() | texts.filter(str.strip),
    options=options,
    rerun_failed=st.booleans(),
    rerun_of=st.none() | texts,
)
redrives = st.builds(
    Redrive, redrive=st.lists(st.sampled_from(ErrorCode), min_size=1), token=st.none() | texts.filter(bool)
)


@given(requests | redrives)
def test_a_sent_request_is_read_back(sent: Request | Redrive) -> None:
    assert parse_message(sent.to_message()) == [sent]


def event(name: str, container: str = "images", kind: str = BLOB_CREATED) -> dict[str, Any]:
    return {"eventType": kind, "subject": f"/blobServices/default/containers/{container}/blobs/{name}", "data": {}}


@given(st.lists(names, max_size=4), st.booleans())
def test_an_event_asks_for_its_blob_in_either_schema_one_or_several(blobs: list[str], is_cloud_event: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    events = [event(name) for name in blobs]
    if is_cloud_event:
        events = [{"specversion": "1.0", "type": given.pop("eventType"), **given} for given in events]
    expected = [Request(container="images", name=name) for name in blobs]
    assert parse_message(json.dumps(events)) == expected
    assert [request for given in events for request in parse_message(json.dumps(given))] == expected


def test_other_kinds_of_events_queue_nothing() -> None:
    deleted = event("a.png", kind="Microsoft.Storage.BlobDeleted")
    assert parse_message(json.dumps(deleted)) == []
    assert parse_message(json.dumps([deleted, event("b.png")])) == [Request(container="images", name="b.png")]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
ours = [
    "version",
    "container",
    "name",
    "attempt",
    "since",
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
def test_any_other_message_is_refused_in_words_that_a_result_can_hold(message: str) -> None:
    """Never in another way, which would leave it in a queue without a reader."""
    try:
        parse_message(message)
    except InvalidRequest as refusal:
        str(refusal).encode()


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
    ],
)
def test_a_refusal_says_what_is_wrong(message: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        parse_message(message)


def test_the_next_try_is_the_same_work() -> None:
    now = datetime(2026, 3, 14, tzinfo=UTC)
    request = Request(container="images", name="a.png", instructions="What?", rerun_failed=True)
    assert request.again(since=now, attempt=2, timed_out=1) == request.model_copy(
        update={"since": now, "attempt": 2, "timed_out": 1}
    )
