"""Compare one given answer with the expected one, value by value. Pure.

A value is right, wrong, missing (expected, not given) or invented (given, not expected). What is null, an empty text,
list or object is absent, as if it were not there. Where both sides are absent the value is right: to leave out what is
not on the image is the correct answer.

Lists are compared in any order. Their items are paired so that all pairs together are as alike as possible. Two items
that are less than half alike are not paired: one is missing, the other invented.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from math import isqrt
from typing import Any
from unicodedata import normalize

from blobsight.evaluate.readings import (
    Amount,
    Moment,
    amount_of,
    boolean_of,
    digits_in,
    json_number,
    moments_of,
    plain_text,
    similarity,
)
from blobsight.evaluate.shapes import Items, Kind, Members, Shape, Single, inside, is_absent, joined


class Outcome(StrEnum):
    """What became of one value."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "missing"
    INVENTED = "invented"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a value may be from the expected one and still be right.

    A number is right within the larger of `absolute` and `relative` times the expected number. By default it has to be
    equal: whether a total may be off by a cent is for people to say. A text is right from `similarity` on, if its
    digits are the same: by default where about one letter of ten differs, which lets a slip of the pen pass, and no
    other word.
    """

    absolute: Decimal = Decimal(0)
    relative: Decimal = Decimal(0)
    similarity: float = 0.9


DEFAULT = Tolerance()


@dataclass(frozen=True, slots=True)
class Value:
    """One comparison. `why` is for people, and empty where the value is right without further ado."""

    field: str
    outcome: Outcome
    expected: Any
    given: Any
    why: str = ""
    similarity: float | None = None
    """Of two texts that differ, from 0 to 1."""
    detail: bool = False
    """Another value says the same: an item of a list that has wrong members, or a member of a missing item."""

    @property
    def absent(self) -> bool:
        """Whether both sides have nothing, rightly."""
        return self.outcome is Outcome.RIGHT and is_absent(self.expected)


HALF_ALIKE = 0.5
MOST_PAIRS = 250_000
"""Pairs of items that are compared for one list, with those of lists in its items; longer ones are paired by position.
"""


def compare(shape: Shape, expected: Any, given: Any, tolerance: Tolerance = DEFAULT) -> list[Value]:
    """Compare all values of `shape`. Members that it does not have are not looked at."""
    return list(_Comparison(tolerance).values(shape, expected, given, ""))


class _Comparison:
    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._most = MOST_PAIRS

    def values(self, shape: Shape, expected: Any, given: Any, name: str) -> Iterator[Value]:
        match shape:
            case Single(kind):
                yield self._single(kind, expected, given, name)
            case Members(shapes):
                mine, others = _members(expected), _members(given)
                for key, below in shapes.items():
                    yield from self.values(below, mine.get(key), others.get(key), joined(name, key))
            case Items(of):
                yield from self._items(of, _items(expected), _items(given), name)

    def _single(self, kind: Kind, expected: Any, given: Any, name: str) -> Value:
        if is_absent(expected) or is_absent(given):
            outcome = _presence(expected, given)
            return Value(name, outcome, expected, given)
        right, why, alike = _COMPARE[kind](expected, given, self._tolerance)
        return Value(name, Outcome.RIGHT if right else Outcome.WRONG, expected, given, why, alike)

    def _items(self, of: Shape, expected: list[Any], given: list[Any], name: str) -> Iterator[Value]:
        pairs = self._paired(of, expected, given)
        with self._each_of(len(pairs)):
            compared = [list(self._item(of, expected[mine], given[others], name)) for mine, others in pairs]
        for values in compared:
            yield from values
        paired = {mine for mine, _ in pairs}
        taken = {others for _, others in pairs}
        for number, item in enumerate(expected):
            if number not in paired:
                yield from _alone(of, item, name, Outcome.MISSING)
        for number, item in enumerate(given):
            if number not in taken:
                yield from _alone(of, item, name, Outcome.INVENTED)

    def _item(self, of: Shape, expected: Any, given: Any, name: str) -> Iterator[Value]:
        below = list(self.values(of, expected, given, inside(of, name)))
        if not isinstance(of, Single):
            right = all(value.outcome is Outcome.RIGHT for value in below)
            outcome = Outcome.RIGHT if right else Outcome.WRONG
            yield Value(name, outcome, expected, given, detail=not right)
        yield from below

    def _paired(self, of: Shape, expected: list[Any], given: list[Any]) -> list[tuple[int, int]]:
        """Pairs of indexes: equal items first, then the most alike."""
        pairs, mine, others = _equal_ones(expected, given)
        if len(mine) * len(others) > self._most:
            return pairs + list(zip(mine, others, strict=False))
        if not mine or not others:
            return pairs
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - 200 ms that other commands don't need

        with self._each_of(len(mine) * len(others)):
            alike = [[self._alike(of, expected[row], given[column]) for column in others] for row in mine]
        worth = [[value if value >= HALF_ALIKE else 0 for value in row] for row in alike]
        rows, columns = linear_sum_assignment(worth, maximize=True)
        best = zip(rows.tolist(), columns.tolist(), strict=True)
        return pairs + [(mine[row], others[column]) for row, column in best if worth[row][column]]

    @contextmanager
    def _each_of(self, count: int) -> Iterator[None]:
        """Divide what may be compared between `count` items or pairs of them."""
        before, self._most = self._most, self._most // max(count, 1)
        yield
        self._most = before

    def _alike(self, shape: Shape, expected: Any, given: Any) -> float:
        """How alike two values are, from 0 to 1: of an object the mean of its members that either side has."""
        match shape:
            case Single(Kind.TEXT) if isinstance(expected, str) and isinstance(given, str):
                most = 8 * isqrt(100 * self._most)  # characters: of 100 pairs 4,000, of the most pairs 80
                return similarity(plain_text(expected)[:most], plain_text(given)[:most])
            case Single(kind):
                return float(self._single(kind, expected, given, "").outcome is Outcome.RIGHT)
            case Members(shapes):
                mine, others = _members(expected), _members(given)
                parts = [
                    self._alike(below, mine.get(key), others.get(key))
                    for key, below in shapes.items()
                    if not (is_absent(mine.get(key)) and is_absent(others.get(key)))
                ]
                return sum(parts) / len(parts) if parts else 1
            case Items(of):
                first, second = _items(expected), _items(given)
                pairs = self._paired(of, first, second)
                total = sum(self._alike(of, first[row], second[column]) for row, column in pairs)
                return 2 * total / (len(first) + len(second)) if first or second else 1


def _presence(expected: Any, given: Any) -> Outcome:
    """The outcome where one side at least is absent."""
    if is_absent(expected):
        return Outcome.RIGHT if is_absent(given) else Outcome.INVENTED
    return Outcome.MISSING


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    """A list without absent items. One value instead of a list is a list of one."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if not is_absent(item)]


def _equal_ones(expected: list[Any], given: list[Any]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs of equal items, and the indexes of the others."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number in reversed(range(len(given))):
        places[_json(given[number])].append(number)
    pairs, mine = [], []
    for number, item in enumerate(expected):
        same = places[_json(item)]
        if same:
            pairs.append((number, same.pop()))
        else:
            mine.append(number)
    return pairs, mine, sorted(number for left in places.values() for number in left)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _alone(of: Shape, item: Any, name: str, outcome: Outcome) -> Iterator[Value]:
    """The values of an item that has no pair."""
    expected, given = (item, None) if outcome is Outcome.MISSING else (None, item)
    yield Value(name, outcome, expected, given)
    if not isinstance(of, Single):
        for value in _Comparison(DEFAULT).values(of, expected, given, inside(of, name)):
            if not value.absent:
                yield Value(value.field, outcome, value.expected, value.given, detail=True)


type _Verdict = tuple[bool, str, float | None]


def _exact(expected: Any, given: Any, _: Tolerance) -> _Verdict:
    mine, others = (
        normalize("NFC", value.strip()) if isinstance(value, str) else _json(value) for value in (expected, given)
    )
    return mine == others, "", None


def _boolean(expected: Any, given: Any, _: Tolerance) -> _Verdict:
    mine, others = (value if isinstance(value, bool) else boolean_of(str(value)) for value in (expected, given))
    if mine is None or others is None:
        return _unread(expected, given, mine, others, "true or false")
    return mine is others, "", None


def _unread(expected: Any, given: Any, mine: Any, others: Any, should: str) -> _Verdict:
    """The verdict on values of which one at least can't be read as it should be."""
    sides = [side for side, value in (("expected", mine), ("given", others)) if value in (None, frozenset())]
    right, _, _ = _exact(expected, given, DEFAULT)
    return right, "" if right else f"the {' and the '.join(sides)} value is not {should}", None


def number_of(value: Any) -> Amount | None:
    """The number that a JSON value or a person's text is. Text that JSON would read is what an export has written."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Amount(frozenset([Decimal(repr(value))]))
    if not isinstance(value, str):
        return None
    plain = json_number(value.strip())
    return Amount(frozenset([plain])) if plain is not None else amount_of(value)


def _number(expected: Any, given: Any, tolerance: Tolerance) -> _Verdict:
    return _amounts(expected, given, number_of(expected), number_of(given), tolerance)


def _amount(expected: Any, given: Any, tolerance: Tolerance) -> _Verdict:
    mine, others = (amount_of(value) if isinstance(value, str) else number_of(value) for value in (expected, given))
    return _amounts(expected, given, mine, others, tolerance)


def _amounts(expected: Any, given: Any, mine: Amount | None, others: Amount | None, tolerance: Tolerance) -> _Verdict:
    if mine is None or others is None:
        return _unread(expected, given, mine, others, "a number")
    if len(mine.values) > 1 or len(others.values) > 1:
        return _ambiguous(expected, given, "a number with thousands or with a fraction")
    if mine.contradicts(others):
        return False, "another currency", None
    (wanted,), (found,) = mine.values, others.values
    distance = abs(wanted - found)
    right = distance <= max(tolerance.absolute, tolerance.relative * abs(wanted))
    return right, f"off by {_plain(distance.normalize())}" if distance else "", None


def _plain(number: Decimal) -> str:
    return f"{number:f}" if -20 < number.adjusted() < 20 else f"{number}"


def _ambiguous(expected: Any, given: Any, readings: str) -> _Verdict:
    """Two values of which one at least can be read in two ways are right only if they are written the same."""
    same = isinstance(expected, str) and isinstance(given, str) and plain_text(expected) == plain_text(given)
    return same, "" if same else f"ambiguous: it may be {readings}", None


def _moment(expected: Any, given: Any, _: Tolerance) -> _Verdict:
    mine, others = (moments_of(value) if isinstance(value, str) else frozenset() for value in (expected, given))
    if not mine or not others:
        return _unread(expected, given, mine, others, "a date or time")
    if len(mine) > 1 or len(others) > 1:
        return _ambiguous(expected, given, "day or month first")
    (wanted,), (found,) = mine, others
    return _same_moment(wanted, found), "", None


def _same_moment(wanted: Moment, found: Moment) -> bool:
    """Whether the parts that both have are the same. A time zone counts where both name one."""
    if wanted.day != found.day:
        return False
    if wanted.hour is None or found.hour is None:
        return wanted.day is not None
    if wanted.hour.tzinfo is None or found.hour.tzinfo is None:
        return wanted.hour.replace(tzinfo=None) == found.hour.replace(tzinfo=None)
    return wanted.hour == found.hour


def days_of(value: Any) -> frozenset[date]:
    """The days that a value may be."""
    moments = moments_of(value) if isinstance(value, str) else ()
    return frozenset(moment.day for moment in moments if moment.day)


def _date(expected: Any, given: Any, _: Tolerance) -> _Verdict:
    mine, others = days_of(expected), days_of(given)
    if not mine or not others:
        return _unread(expected, given, mine, others, "a date")
    if len(mine) > 1 or len(others) > 1:
        return _ambiguous(expected, given, "day or month first")
    return mine == others, "", None


def _text(expected: Any, given: Any, tolerance: Tolerance) -> _Verdict:
    if not (isinstance(expected, str) and isinstance(given, str)):
        return _exact(expected, given, tolerance)
    mine, others = plain_text(expected), plain_text(given)
    if mine == others:
        return True, "", None
    alike = similarity(mine, others)
    if digits_in(mine) != digits_in(others):
        return False, "other digits", alike
    return alike >= tolerance.similarity, f"{alike:.2f} alike", alike


_COMPARE: Mapping[Kind, Any] = {
    Kind.EXACT: _exact,
    Kind.BOOLEAN: _boolean,
    Kind.NUMBER: _number,
    Kind.AMOUNT: _amount,
    Kind.DATE: _date,
    Kind.MOMENT: _moment,
    Kind.TIME: _moment,
    Kind.TEXT: _text,
}


def wrong_ones(values: Sequence[Value]) -> list[Value]:
    """The values that people look at: all that are not right, each once."""
    return [value for value in values if value.outcome is not Outcome.RIGHT and not value.detail]
