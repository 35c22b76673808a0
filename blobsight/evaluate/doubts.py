"""Expected values that no answer can meet: people have written them so that they can't be read. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from blobsight.evaluate.comparing import days_of, number_of
from blobsight.evaluate.readings import amount_of, boolean_of, moments_of
from blobsight.evaluate.shapes import Items, Kind, Members, Schema, Shape, Single, inside, is_absent, joined, shape_of
from blobsight.terminal import Problem, Unknown, shortened

_WRITE = {
    Kind.BOOLEAN: "true or false",
    Kind.NUMBER: "a number, such as 1234.5",
    Kind.AMOUNT: "an amount, such as 1234.50 or 1,234.50 EUR",
    Kind.DATE: "a date, such as 2026-05-03",
    Kind.MOMENT: "a date and time, such as 2026-05-03T10:30:00Z",
    Kind.TIME: "a time, such as 10:30",
}


def doubts(expected: Mapping[str, Mapping[str, Any]], schema: Schema | None = None) -> list[Problem]:
    """Expected values that can't be read as their field's type, or in two ways. Only the same text is right for them.

    Args:
        expected: the expected answer by the image's name.
        schema: the JSON Schema that was asked for.
    """
    shape = shape_of(list(expected.values()), schema)
    return [
        Problem(
            name, Unknown(f"'{shortened(field, 60)}' is '{shortened(str(value), 60)}', {why}: write {_WRITE[kind]}")
        )
        for name, answer in expected.items()
        for field, kind, value in _singles(shape, answer, "")
        if (why := _doubt(kind, value))
    ]


def _singles(shape: Shape, value: Any, name: str) -> Iterator[tuple[str, Kind, Any]]:
    match shape:
        case Single(kind) if not is_absent(value):
            yield name, kind, value
        case Members(shapes) if isinstance(value, dict):
            for key, below in shapes.items():
                yield from _singles(below, value.get(key), joined(name, key))
        case Items(of) if isinstance(value, list):
            for item in value:
                yield from _singles(of, item, inside(of, name))


def _doubt(kind: Kind, value: Any) -> str:
    """What is wrong with it, for people; empty if nothing is."""
    if kind not in _WRITE:
        return ""
    readings = _readings(kind, value)
    if readings == 1:
        return ""
    return f"which can be read in {readings} ways" if readings else "which can't be read"


def _readings(kind: Kind, value: Any) -> int:
    match kind:
        case Kind.BOOLEAN:
            return int(isinstance(value, bool) or boolean_of(str(value)) is not None)
        case Kind.NUMBER | Kind.AMOUNT:
            amount = amount_of(value) if kind is Kind.AMOUNT and isinstance(value, str) else number_of(value)
            return len(amount.values) if amount else 0
        case Kind.DATE:
            return len(days_of(value))
        case _:
            return len(moments_of(value)) if isinstance(value, str) else 0
