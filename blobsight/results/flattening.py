"""Turn a result into a row of a table.

A column is named by the path of its value in the result: `usage.input_tokens`, `answer.data.total`. A dot or backslash
inside a name is written with a backslash before it, so two paths never share a column. Other values than single ones:

object    its members, each by its own path; an empty one is the JSON text `{}`
array     its JSON text
objects nested deeper than `MAX_DEPTH`
          the JSON text of the innermost ones

A column has the type of its values; whole numbers and fractions together are fractions. A column with values of several
types is text: texts as they are, other values as JSON.

The fields of a result version 1 (docs/results.md) are columns whether they have values or not. `answer.data` adds
columns as they occur, up to `MAX_COLUMNS`; the rest is kept in the column `answer.data_rest`, as the JSON text of an
object.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Flag, auto
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeAliasType, Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.result import Result

MAX_COLUMNS = 1000
"""Most columns that are not fixed. Beyond that the names are data themselves, and a table is the wrong form."""

MAX_DEPTH = 20

REST = "answer.data_rest"

_FIRST = (
    "source.name",
    "status",
    "answer.text",
    "error.code",
    "error.message",
)
_DATA = "answer.data"
_AS_JSON = "error.details"

_LARGEST_INT64 = 2**63 - 1
_LARGEST_EXACT = 2**53
"""Above this, a double does not hold every whole number."""


class Kind(Flag):
    """The types of the values seen in a column."""

    BOOLEAN = auto()
    WHOLE = auto()
    LARGE = auto()
    """Whole numbers that a double may not hold exactly."""
    FRACTION = auto()
    TIME = auto()
    TEXT = auto()

    @property
    def common(self) -> "Kind":
        """The one type that fits all values: BOOLEAN, WHOLE, FRACTION, TIME or TEXT."""
        if self in (Kind.BOOLEAN, Kind.TIME):
            return self
        if self and not self & ~(Kind.WHOLE | Kind.LARGE):
            return Kind.WHOLE
        if self and not self & ~(Kind.WHOLE | Kind.FRACTION):
            return Kind.FRACTION
        return Kind.TEXT


type Value = str | int | float | bool | None
type Row = dict[str, Value]


class Columns:
    """The columns of the rows so far."""

    def __init__(self, most: int = MAX_COLUMNS) -> None:
        self._most = most
        self._kinds = dict.fromkeys(FIXED, Kind(0))
        self.without = 0
        """Values without a column of their own."""

    def row(self, result: Mapping[str, Any]) -> Row:
        """Turn a result into a row, and record its columns."""
        row: Row = {}
        rest: Row = {}
        for name, value in flattened(result):
            known = name in self._kinds or len(self._kinds) - len(FIXED) < self._most
            if known and name != REST:  # a field of the answer must not take this name
                self._kinds[name] = self._kinds.get(name, Kind(0)) | kind_of(name, value)
                row[name] = value
            else:
                rest[name] = value
        if rest:
            self.without += len(rest)
            row[REST] = json_text(rest)
        return row

    @property
    def kinds(self) -> dict[str, Kind]:
        """Each column's type, in the order of the table: the most important fields, the data, the rest."""
        fixed = {name: kind if not self._kinds[name] & ~kind else Kind.TEXT for name, kind in FIXED.items()}
        data = {name: kinds.common for name, kinds in self._kinds.items() if name not in FIXED}
        rest = {REST: Kind.TEXT} if self.without else {}
        first = {name: fixed.pop(name) for name in _FIRST}
        return first | data | rest | fixed


def flattened(result: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yield the columns of a result and their values, except sections that are null."""
    return (
        (name, value)
        for name, value in _members(result, "", 0)
        if not (value is None and (name in _SECTIONS or name == _DATA))
    )


def _members(members: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Value]]:
    for key, value in members.items():
        name = before + escaped(key)
        match value:
            case dict() if value and depth < MAX_DEPTH and name != _AS_JSON:
                yield from _members(value, f"{name}.", depth + 1)
            case dict() | list():
                yield name, json_text(value)
            case _:
                yield name, value


def escaped(key: str) -> str:
    """One part of a column's name."""
    return key.replace("\\", "\\\\").replace(".", "\\.")


def path_of(column: str) -> list[str]:
    """The parts of a column's name, as they are in the result."""
    return [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:^|\.)((?:\\.|[^.\\])*)", column)]


def kind_of(name: str, value: Value) -> Kind:
    """The type of one value; Kind(0) for null."""
    match value:
        case None:
            return Kind(0)
        case bool():
            return Kind.BOOLEAN
        case int():
            if not -_LARGEST_INT64 - 1 <= value <= _LARGEST_INT64:
                return Kind.TEXT
            return Kind.WHOLE if abs(value) <= _LARGEST_EXACT else Kind.LARGE
        case float():
            return Kind.FRACTION
        case _:
            return Kind.TIME if FIXED.get(name) is Kind.TIME and time_of(value) else Kind.TEXT


def as_kind(value: Value, kind: Kind) -> Value | datetime:
    """Convert `value` to the type of its column."""
    match kind:
        case Kind.TEXT if value is not None and not isinstance(value, str):
            return json_text(value)
        case Kind.FRACTION if value is not None:
            return float(value)
        case Kind.TIME if isinstance(value, str):
            return time_of(value)
        case _:
            return value


def time_of(text: str) -> datetime | None:
    """Parse a time as results write it; None if it is not one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def json_text(value: Any, indent: int | None = None) -> str:
    """Format `value` as JSON, on one line or indented: not as ASCII, but without characters that control a terminal.

    Raises:
        ValueError: a number is infinite or NaN, which JSON does not have.
        RecursionError: it is nested too deeply.
    """
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    if text.isprintable():
        return text
    # Line breaks come only from indenting: inside strings JSON escapes them.
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


def in_brief(value: Any) -> str:
    """A JSON value for people: a text as it is, an object as its values, anything else as JSON.

    Raises:
        ValueError, RecursionError: as `json_text`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value:
        return " · ".join(each if isinstance(each, str) else json_text(each) for each in value.values())
    return json_text(value)


def _declared(section: type[BaseModel], before: str = "") -> Iterator[tuple[str, Kind | None]]:
    """Yield the fields below a section of the result, and their types; None for a section."""
    for key, field in section.model_fields.items():
        name, kind = before + key, _kind_declared(field.annotation)
        if isinstance(kind, Kind):
            yield name, kind
        else:
            yield name, None
            yield from _declared(kind, f"{name}.")


def _kind_declared(annotation: Any) -> Kind | type[BaseModel]:
    while isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    match get_origin(annotation):
        case None if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        case origin if origin is Annotated:
            return _kind_declared(get_args(annotation)[0])
        case origin if origin in (Union, UnionType):
            (inner,) = (each for each in get_args(annotation) if each is not NoneType)
            return _kind_declared(inner)
        case origin if origin is Literal:
            return _KINDS.get(type(get_args(annotation)[0]), Kind.TEXT)
        case _:
            return _KINDS.get(annotation, Kind.TEXT)


_KINDS: Mapping[Any, Kind] = {bool: Kind.BOOLEAN, int: Kind.WHOLE, float: Kind.FRACTION, datetime: Kind.TIME}
_DECLARED = dict(_declared(Result))
_SECTIONS = frozenset(name for name, kind in _DECLARED.items() if kind is None)

FIXED: Final[Mapping[str, Kind]] = {name: kind for name, kind in _DECLARED.items() if kind and name != _DATA}
"""The columns of every table."""
