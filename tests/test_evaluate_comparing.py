"""Each value is right or wrong by its type, as the schema says it or the expected answers show it."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from blobsight.evaluate import comparing
from blobsight.evaluate.comparing import Outcome, Tolerance, Value, compare, wrong_ones
from blobsight.evaluate.doubts import doubts
from blobsight.evaluate.shapes import Kind, fields_of, shape_of

RIGHT, WRONG, MISSING, INVENTED = Outcome


def compared(
    expected: dict[str, Any], given: dict[str, Any] | None, schema: Any = None, tolerance: Tolerance | None = None
) -> list[Value]:
    return compare(shape_of([expected], schema), expected, given, tolerance or Tolerance())


def only(expected: Any, given: Any, schema: Any = None, tolerance: Tolerance | None = None) -> Value:
    """The comparison of two values of one field."""
    document = {"properties": {"x": schema}} if schema else None
    (value,) = compared({"x": expected}, {"x": given}, document, tolerance)
    return value


def outcomes(values: list[Value]) -> dict[str, Counter[Outcome]]:
    found: dict[str, Counter[Outcome]] = {}
    for value in values:
        found.setdefault(value.field, Counter())[value.outcome] += 1
    return found


NUMBER = {"type": ["number", "null"]}
DATE = {"type": "string", "format": "date"}


@pytest.mark.parametrize(
    ("schema", "expected", "same", "other"),
    [
        (NUMBER, 12.5, "12,50 €", 12.51),
        (NUMBER, "12,50", 12.5, 12.05),
        (NUMBER, "1.234", 1.234, 1234),  # an export writes numbers as JSON
        (NUMBER, 0.1, 0.1, 0.10000000001),
        ({"type": "integer"}, "3", 3, 4),
        ({"enum": [1, 2, None]}, "1", 1, 2),
        ({"type": "boolean"}, "WAHR", True, False),
        ({"const": True}, "true", True, False),
        (DATE, "3 May 2026", "2026-05-03", "2026-05-04"),
        (DATE, "2026-05-03", "2026-05-03T10:00:00Z", "03/05/2026"),
        ({"type": "string", "format": "date-time"}, "2026-05-03T10:30+02:00", "2026-05-03T08:30Z", "2026-05-03T10:30Z"),
        ({"type": "string", "format": "time"}, "10:30", "10:30:00", "10:31"),
        ({"enum": ["food", "drink"]}, "food", " food", "Food"),
        ({"type": "string", "pattern": "^[A-Z]+$"}, "ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNP"),
        ({"type": "string", "format": "uuid"}, "abcdefghijklmnopqrst", "abcdefghijklmnopqrst", "abcdefghijklmnopqrsu"),
        ({"type": "string"}, "10115", "10115", "10115.0"),
        ({"type": "string"}, "0012", "0012", "12"),
        ({"type": "string"}, "1.234,50 €", "EUR 1234.5", "USD 1234.5"),
        ({"type": "string"}, "Straße 5, Köln", "STRASSE 5 — KÖLN", "Straße 6, Köln"),
        ({"anyOf": [{"type": "null"}, NUMBER]}, "5", 5, 6),
        ({"allOf": [NUMBER, {"minimum": 0}]}, "5", 5.0, 6),
        (None, "2026-05-03", "3. Mai 2026", "3. Juni 2026"),
        (None, "12.50", 12.5, 12),
        (None, "RE-2026-0041", "RE-2026-0041", "RE-2026-0042"),
        (None, "The quick brown fox", "the  quick, brown foxx", "the quick brown dog"),
        (None, True, "yes", "no"),
    ],
)
def test_a_value_is_compared_by_its_type(schema: Any, expected: Any, same: Any, other: Any) -> None:
    assert only(expected, same, schema).outcome is RIGHT
    assert only(expected, other, schema).outcome is WRONG


def test_types_are_found_behind_references() -> None:
    schema = {
        "$defs": {"money": {"type": "number"}, "node": {"properties": {"a": {"$ref": "#/$defs/money"}}}},
        "properties": {
            "n": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "loop": {"$ref": "#/properties/loop"},
        },
    }
    values = compared({"n": {"a": "1,50"}, "loop": "x"}, {"n": {"a": 1.5}, "loop": "x"}, schema)
    assert [(value.field, value.outcome) for value in values] == [("n.a", RIGHT), ("loop", RIGHT)]


@pytest.mark.parametrize(
    ("expected", "given", "why"),
    [
        ("2026-05-03", "03/05/2026", "ambiguous"),
        ("2026-05-03", "soon", "given value is not a date"),
        ("03/05/2026", "2026-05-03", "ambiguous"),
    ],
)
def test_why_a_date_is_wrong_is_said(expected: str, given: str, why: str) -> None:
    assert why in only(expected, given, DATE).why


def test_an_ambiguous_date_is_right_if_it_is_written_the_same() -> None:
    assert only("03/05/2026", "03/05/2026", DATE).outcome is RIGHT


def test_tolerances_are_people_s_to_give() -> None:
    assert only(100, 101, NUMBER).why == "off by 1"
    assert only(100, 101, NUMBER, Tolerance(absolute=Decimal(1))).outcome is RIGHT
    assert only(100, 102, NUMBER, Tolerance(relative=Decimal("0.01"))).outcome is WRONG
    assert only(-100, -101, NUMBER, Tolerance(relative=Decimal("0.01"))).outcome is RIGHT
    assert only("abcdef", "abcdeg").outcome is WRONG
    assert only("abcdef", "abcdeg", tolerance=Tolerance(similarity=0.8)).outcome is RIGHT


def test_similarity_is_shown_and_never_excuses_other_digits() -> None:
    close = only("Bakery Müller and Sons", "Bakery Müler and Sons")
    assert close.outcome is RIGHT
    assert close.similarity == pytest.approx(0.977, abs=0.001)
    assert close.why == "0.98 alike"
    assert only("Platform 9 at King's Cross", "Platform 8 at King's Cross").why == "other digits"


ABSENT: list[Any] = [None, "", " ", [], {}]


@pytest.mark.parametrize("nothing", ABSENT)
def test_null_and_empty_are_absent(nothing: Any) -> None:
    shape = shape_of([{"x": "word"}])
    assert [value.outcome for value in compare(shape, {"x": "word"}, {"x": nothing})] == [MISSING]
    assert [value.outcome for value in compare(shape, {"x": nothing}, {"x": "word"})] == [INVENTED]
    (both,) = compare(shape, {"x": nothing}, {})
    assert both.outcome is RIGHT
    assert both.absent


def test_a_field_that_no_expected_answer_has_is_not_scored() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    values = compared({"a": "x", "b": None}, {"a": "x", "b": "y", "c": "z"}, schema)
    assert [value.field for value in values] == ["a"]


LINES = [{"text": "Milk", "amount": 1.2}, {"text": "Bread", "amount": 3.0}, {"text": "Butter", "amount": 2.5}]


def test_lists_are_matched_in_any_order() -> None:
    values = compared({"lines": LINES}, {"lines": LINES[::-1]})
    assert outcomes(values) == {field: {RIGHT: 3} for field in ("lines", "lines.text", "lines.amount")}


def test_items_and_their_members_are_counted() -> None:
    given = [{"text": "Bread", "amount": 4.0}, {"text": "Mlik", "amount": 1.2}, {"text": "Candle", "amount": 9}]
    values = compared({"lines": LINES}, {"lines": given})
    assert outcomes(values) == {
        "lines": {WRONG: 2, MISSING: 1, INVENTED: 1},
        "lines.text": {RIGHT: 1, WRONG: 1, MISSING: 1, INVENTED: 1},
        "lines.amount": {RIGHT: 1, WRONG: 1, MISSING: 1, INVENTED: 1},
    }
    assert {(value.field, value.outcome) for value in wrong_ones(values)} == {
        ("lines.amount", WRONG), ("lines.text", WRONG), ("lines", MISSING), ("lines", INVENTED),
    }  # fmt: skip


def test_pairs_are_the_best_in_all_not_one_by_one() -> None:
    """The most alike two would leave the others without a pair."""
    one, other = dict(zip("abcd", (1, 1, 1, 1), strict=True)), dict(zip("abcd", (5, 5, 1, 2), strict=True))
    near, far = one | {"d": 2}, one | {"c": 3, "d": 3}
    found = outcomes(compared({"x": [one, other]}, {"x": [near, far]}))
    assert found["x"] == {WRONG: 2}


@given(st.lists(st.sampled_from("abcde"), max_size=8), st.lists(st.sampled_from("abcde"), max_size=8))
@examples(100)
def test_a_list_of_words_is_counted_as_a_bag(expected: list[str], given: list[str]) -> None:
    shape = shape_of([{"x": ["a"]}])
    both = Counter(expected) & Counter(given)
    found = Counter(value.outcome for value in compare(shape, {"x": expected}, {"x": given}))
    assert found[RIGHT] == both.total()
    assert found[MISSING] == len(expected) - both.total()
    assert found[INVENTED] == len(given) - both.total()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc."), below, max_size=3),
    max_leaves=12,
)
answers = st.dictionaries(st.sampled_from(["a", "b", "c.d"]), values, max_size=3)


@given(answers, answers)
@examples(100)
def test_any_two_answers_can_be_compared(expected: dict[str, Any], given: dict[str, Any]) -> None:
    shape = shape_of([expected])
    assert {value.field for value in compare(shape, expected, given)} <= {field.name for field in fields_of(shape)}
    assert {value.outcome for value in compare(shape, expected, expected)} <= {RIGHT}
    assert not any(value.outcome in (INVENTED, WRONG) for value in compare(shape, expected, None))


@given(st.permutations(LINES), st.permutations(["x", "y", "z"]))
@examples(20)
def test_the_order_of_a_list_changes_nothing(lines: list[Any], tags: list[str]) -> None:
    expected = {"lines": LINES, "tags": ["x", "y", "w"]}
    assert outcomes(compared(expected, {"lines": lines, "tags": tags})) == outcomes(
        compared(expected, {"lines": LINES, "tags": ["x", "y", "z"]})
    )


def test_deep_and_long_answers_end() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": [deep]}
    assert compared({"deep": deep}, {"deep": deep})[0].outcome is RIGHT
    long = [{"n": number} for number in range(2000)]
    found = compared({"long": long}, {"long": [{"n": -item["n"] - 1} for item in long]})
    assert outcomes(found)["long"] == {WRONG: 2000}


def test_expected_values_that_no_answer_can_meet_are_named() -> None:
    schema = {
        "properties": {
            "day": DATE,
            "sum": NUMBER,
            "lines": {
                "items": {"properties": {"at": {"type": "string", "format": "time"}, "paid": {"type": "boolean"}}}
            },
        }
    }
    fine = {"day": "3 May 2026", "sum": "1.234,50", "lines": [{"at": "10:30", "paid": "WAHR"}, {"at": None}]}
    bad = {"day": "03.05.2026", "sum": "1,234", "lines": [{"at": "soon", "paid": "perhaps"}]}
    assert [(problem.name, problem.why.reason) for problem in doubts({"fine": fine, "bad": bad}, schema)] == [
        ("bad", "'day' is '03.05.2026', which can be read in 2 ways: write a date, such as 2026-05-03"),
        ("bad", "'sum' is '1,234', which can be read in 2 ways: write a number, such as 1234.5"),
        ("bad", "'lines.at' is 'soon', which can't be read: write a time, such as 10:30"),
        ("bad", "'lines.paid' is 'perhaps', which can't be read: write true or false"),
    ]


def test_kinds_are_named() -> None:
    shape = shape_of([{"a": "12,50 €", "b": "12", "c": [{"d": "3 May 2026"}], "e": ["x"]}])
    assert {field.name: (field.kind, field.in_list) for field in fields_of(shape)} == {
        "a": (Kind.AMOUNT, False),
        "b": (Kind.NUMBER, False),
        "c": (Kind.ITEM, True),
        "c.d": (Kind.DATE, True),
        "e": (Kind.TEXT, True),
    }


def test_lists_in_long_lists_are_not_all_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared_texts: list[int] = []

    def similarity(first: str, second: str) -> float:
        compared_texts.append(len(first) + len(second))
        return 0.6

    monkeypatch.setattr(comparing, "MOST_PAIRS", 1_000)
    monkeypatch.setattr(comparing, "similarity", similarity)
    table = [[f"{'x' * row} {'a' * column}" for column in range(20)] for row in range(20)]
    other = [[f"{'x' * row} {'b' * column}" for column in range(1, 21)] for row in range(20)]
    compare(shape_of([{"x": table}]), {"x": table}, {"x": other})
    assert len(compared_texts) < 20_000  # of 160,000
    compared_texts.clear()
    long = [f"{'x' * number} {'a' * 10_000}" for number in range(30)]
    compare(shape_of([{"x": long}]), {"x": long}, {"x": [f"{text} b" for text in long]})
    assert sum(compared_texts[:900]) < 900 * 400, "of each pair the beginnings tell them apart"


def test_what_is_off_by_much_is_said_in_few_words() -> None:
    (found,) = compared({"x": 1}, {"x": 10**400})
    assert found.why == "off by 1E+400"


def test_members_that_a_missing_item_never_had_are_not_missing() -> None:
    lines = [{"text": "Milk", "amount": 1}, {"text": "Bread", "amount": None}]
    assert outcomes(compared({"lines": lines}, {"lines": lines[:1]}))["lines.amount"] == {RIGHT: 1}
