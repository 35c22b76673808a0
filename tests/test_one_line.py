"""Whatever people call their files, log lines and messages are lines."""

import json
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

from pipeline.errors import MOST_DETAIL, MOST_DETAILS, MOST_OF_A_MESSAGE, ErrorCode, PermanentFailure, RetryableFailure
from pipeline.one_line import blob_label, one_line, short
from pipeline.storage.errors import translated
from pipeline.telemetry import DeliveryRecord

texts = st.text()  # half characters, too
FORGED = "folder\n2026-01-01 ERROR \x1b[31mforged\u2028\u202e"


@given(texts)
@example(FORGED)
@example("x\n" * 50_000)
def test_a_message_is_one_short_printable_line(text: str) -> None:
    for failure in (PermanentFailure(ErrorCode.CRASHED, text), RetryableFailure(text)):
        assert failure.message == str(failure)
        assert failure.message.isprintable()
        assert len(failure.message) <= MOST_OF_A_MESSAGE


@examples(25)
@given(st.dictionaries(texts, st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))))
@example({"k" * 5000: {"k" * 5000: ["v" * 5000] * 150}} | {str(number): "v" for number in range(150)})
def test_details_are_bounded_with_their_keys(details: dict[str, Any]) -> None:
    kept = PermanentFailure(ErrorCode.CRASHED, "x", details).details
    assert len(json.dumps(kept, ensure_ascii=False)) <= 2 * MOST_DETAIL * MOST_DETAILS * 3
    if len(json.dumps(details)) < MOST_DETAIL and len(details) <= MOST_DETAILS:
        assert kept == details


@given(texts)
@example(FORGED)
def test_a_log_line_names_a_blob_whole_and_in_one_line(name: str) -> None:
    record = DeliveryRecord("images", name, 1)
    assert str(record).isprintable()
    assert len(blob_label("images", name)) == len("images/") + len(name)
    assert record.fields()["blob"] == name, "exact, where it is a field of its own"


@given(texts)
@example(FORGED)
@example("n" * 1024)
def test_storage_s_messages_say_what_to_do_whatever_the_name(name: str) -> None:
    refused = HttpResponseError("no\nno")
    refused.status_code = 403
    with pytest.raises(RetryableFailure) as caught, translated(f"reading images/{name}"):
        raise refused
    assert caught.value.message.isprintable()
    assert "check the account's firewall" in caught.value.message


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=120))
def test_short_printable_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == short(text) == text
