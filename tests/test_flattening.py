"""A result as a row of a table: nothing is lost, nothing collides."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.some_results import MOMENT, failed, result_of

from blobsight.results.flattening import FIXED, REST, Columns, Kind, Value, as_kind, flattened, json_text, kind_of

KEYS = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["a", "a.b", "a\\", "\\.", ".", ""])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def split(name: str) -> list[str]:
    """The path that a column is called by."""
    path, escaped = [""], False
    for character in name:
        if escaped or character not in "\\.":
            path[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            path.append("")
    return path


def unflattened(row: dict[str, Value]) -> Any:
    """The object that `row` was, with arrays and empty objects as the JSON texts that they are in tables."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        *above, last = split(name)
        place = found
        for key in above:
            place = place.setdefault(key, {})
        assert last not in place
        place[last] = value
    return found


def as_in_tables(value: Any) -> Any:
    if isinstance(value, dict) and value:
        return {key: as_in_tables(inner) for key, inner in value.items()}
    return json_text(value) if isinstance(value, dict | list) else value


@given(st.dictionaries(KEYS, JSON, min_size=1, max_size=5))
def test_a_row_holds_the_whole_answer_each_value_in_a_column_of_its_own(data: dict[str, Any]) -> None:
    row = dict(flattened({"answer": {"data": data}}))
    assert unflattened(row) == {"answer": {"data": as_in_tables(data)}}


@given(JSON)
def test_json_text_is_one_printable_line_with_the_same_value(value: Any) -> None:
    text = json_text(value)
    assert text.isprintable()
    assert json.loads(text) == value
    assert json.loads(json_text(value, indent=2)) == value


@given(st.lists(LEAVES, min_size=1, max_size=6))
def test_a_column_takes_every_value_that_it_was_seen_with(values: list[Value]) -> None:
    kinds = Kind(0)
    for value in values:
        kinds |= kind_of("answer.data.x", value)
    kind = kinds.common
    for value in values:
        written = as_kind(value, kind)
        match kind:
            case _ if value is None:
                assert written is None
            case Kind.TEXT:
                assert written == value if isinstance(value, str) else json.loads(str(written)) == value
            case _:
                assert written == value  # also where a whole number has become a fraction


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], Kind.WHOLE),
        ([2**53 + 1, -(2**63)], Kind.WHOLE),
        ([1, 2.5], Kind.FRACTION),
        ([2**53 + 1, 2.5], Kind.TEXT),
        ([2**63], Kind.TEXT),
        ([True, False], Kind.BOOLEAN),
        ([True, 1], Kind.TEXT),
        (["1", 1], Kind.TEXT),
        (["2026-03-14T09:30:15Z"], Kind.TEXT),
        ([None], Kind.TEXT),
    ],
)
def test_a_column_has_a_type_for_all_its_values(values: list[Value], kind: Kind) -> None:
    columns = Columns()
    for value in values:
        columns.row({"answer": {"data": {"x": value}}})
    assert columns.kinds["answer.data.x"] is kind


def test_every_field_of_a_result_has_its_column_whatever_became_of_the_image() -> None:
    for result in (result_of("a.png"), failed("b.png"), failed(None)):
        columns = Columns()
        row = columns.row(json.loads(result.to_json()))
        assert columns.kinds.keys() == FIXED.keys()
        assert row.keys() <= FIXED.keys()
    assert list(columns.kinds)[:5] == ["source.name", "status", "answer.text", "error.code", "error.message"]
    assert columns.kinds == FIXED
    assert as_kind(row["created_at"], Kind.TIME) == MOMENT
    assert row["error.details"] == '{"format":"png"}'


def test_columns_of_the_answer_follow_the_most_wanted_ones() -> None:
    columns = Columns()
    columns.row(json.loads(result_of("a.png", answer={"data": {"total": 3, "items": [1]}}).to_json()))
    assert list(columns.kinds)[4:8] == ["error.message", "answer.data.total", "answer.data.items", "schema_version"]


def test_a_field_of_another_type_than_results_have_makes_its_column_text() -> None:
    columns = Columns()
    columns.row({"usage": {"input_tokens": 3, "output_tokens": "many"}, "created_at": "yesterday"})
    assert [columns.kinds[name] for name in ("usage.input_tokens", "usage.output_tokens", "created_at")] == [
        Kind.WHOLE,
        Kind.TEXT,
        Kind.TEXT,
    ]


def test_values_without_a_column_are_kept_in_the_last_one() -> None:
    columns = Columns(most=2)
    columns.row({"answer": {"data": {"a": 1}}})
    row = columns.row({"answer": {"data": {"b": 2, "c": 3, "d": {"e": [4]}, "a": 5}}})
    assert (row["answer.data.a"], row["answer.data.b"]) == (5, 2)
    assert json.loads(str(row[REST])) == {"answer.data.c": 3, "answer.data.d.e": "[4]"}
    assert columns.without == 2
    assert columns.kinds[REST] is Kind.TEXT


def test_no_field_takes_the_place_of_the_column_for_leftovers() -> None:
    columns = Columns(most=1)
    row = columns.row({"answer": {"data_rest": "mine", "data": {"a": 1, "b": 2}}})
    assert json.loads(str(row[REST])) == {REST: "mine", "answer.data.b": 2}


def test_deep_objects_end_in_json() -> None:
    deep: dict[str, Any] = {"end": 1}
    for _ in range(100):
        deep = {"n": deep}
    ((name, value),) = flattened({"answer": {"data": deep}})
    assert len(split(name)) < 30
    assert isinstance(value, str)
    assert value.startswith('{"n":')


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text({"x": math.inf})
