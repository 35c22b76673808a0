"""The fields of the answers, and how each is compared. Pure.

The JSON Schema decides where it says something. A text without a format, and everything where there is no schema, is
decided by the expected answers, all of a field together:

boolean, number   as JSON has it; without a schema also texts that JSON would read as a number, as CSV has them
date, time        format date, date-time, time; or every expected value is a written date
exact             enum, const, pattern, other formats; or every expected value is one word with a digit in it (an id)
amount            every expected value is a number with a currency, or with a decimal separator
text              everything else
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from blobsight.evaluate.readings import amount_of, is_currency, is_written_date, json_number
from blobsight.results.flattening import escaped

type Schema = Mapping[str, Any]

MAX_DEPTH = 20
"""Levels of objects and lists that are compared one by one; what is deeper is compared as JSON."""


class Kind(StrEnum):
    """How two values are compared."""

    EXACT = "exact"
    BOOLEAN = "boolean"
    NUMBER = "number"
    AMOUNT = "amount"
    DATE = "date"
    MOMENT = "date-time"
    TIME = "time"
    TEXT = "text"
    ITEM = "item"
    """An item of a list, as a whole: right where everything in it is."""


@dataclass(frozen=True, slots=True)
class Single:
    """A value of its own."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Members:
    """An object. Only members that some expected answer has are scored."""

    shapes: Mapping[str, "Shape"]


@dataclass(frozen=True, slots=True)
class Items:
    """A list, in any order."""

    of: "Shape"


type Shape = Single | Members | Items


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the answers, named as a column of an export is, without `answer.data.`."""

    name: str
    kind: Kind
    in_list: bool


def shape_of(expected: Sequence[Mapping[str, Any]], schema: Schema | None = None) -> Members:
    """The shape of answers, from expected ones and the schema that they were asked for with."""
    shape = _Reader(schema or {}).members([schema] if schema else [], list(expected), 0)
    return shape or Members({})


def fields_of(shape: Shape, name: str = "", *, in_list: bool = False) -> Iterator[Field]:
    """Yield all fields below `shape`."""
    match shape:
        case Single(kind):
            yield Field(name, kind, in_list)
        case Members(shapes):
            for key, below in shapes.items():
                yield from fields_of(below, joined(name, key), in_list=in_list)
        case Items(Single(kind)):
            yield Field(name, kind, in_list=True)
        case Items(of):
            yield Field(name, Kind.ITEM, in_list=True)
            yield from fields_of(of, inside(of, name), in_list=True)


def joined(name: str, key: str) -> str:
    """The name of the member `key` of the field `name`."""
    return f"{name}.{escaped(key)}" if name else escaped(key)


def inside(item: Shape, name: str) -> str:
    """The name of what is in an item of the list `name`: a list in a list has one of its own."""
    return joined(name, "*") if isinstance(item, Items) else name


def is_absent(value: Any) -> bool:
    """Whether it says nothing: null, an empty text, list or object."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def nodes_of(schema: Schema, path: Iterable[str]) -> list[Schema]:
    """What the schema says about the member at `path`; nothing if it says nothing."""
    reader = _Reader(schema)
    nodes = reader.alternatives([schema])
    for key in path:
        nodes = reader.alternatives([node["properties"][key] for node in nodes if _has(node, key)])
    return nodes


def _has(node: Schema, key: str) -> bool:
    return isinstance(node.get("properties"), Mapping) and key in node["properties"]


class _Reader:
    """Reads one schema document together with values."""

    def __init__(self, document: Schema) -> None:
        self._document = document

    def members(self, schemas: Sequence[Any], values: list[Mapping[str, Any]], depth: int) -> Members | None:
        nodes = self.alternatives(schemas)
        declared = [key for node in nodes for key in _mapping(node, "properties")]
        shapes: dict[str, Shape] = {}
        for key in dict.fromkeys([*declared, *(key for value in values for key in value)]):
            below = [node["properties"][key] for node in nodes if _has(node, key)]
            shape = self._shape(below, [value[key] for value in values if key in value], depth + 1)
            if shape:
                shapes[key] = shape
        return Members(shapes) if shapes else None

    def _shape(self, schemas: Sequence[Any], values: Sequence[Any], depth: int) -> Shape | None:
        """The shape of values at one place; None if they are all absent: it is not scored."""
        present = [value for value in values if not is_absent(value)]
        if not present:
            return None
        nodes = self.alternatives(schemas)
        if depth <= MAX_DEPTH and all(isinstance(value, dict) for value in present):
            return self.members(nodes, present, depth)
        if depth <= MAX_DEPTH and all(isinstance(value, list) for value in present):
            items = [item for value in present for item in value]
            of = self._shape([node["items"] for node in nodes if "items" in node], items, depth + 1)
            return Items(of) if of else None
        return Single(_declared(nodes) or _seen(present, texts=any(types_of(node) == {"string"} for node in nodes)))

    def alternatives(self, schemas: Sequence[Any]) -> list[Schema]:
        """The schemas without references and combinations, and without those for null."""
        found: list[Schema] = []
        self._collect(schemas, found, frozenset())
        return found

    def _collect(self, schemas: Sequence[Any], found: list[Schema], seen: frozenset[str]) -> None:
        for node in schemas:
            if not isinstance(node, Mapping) or node.get("type") == "null":
                continue
            reference = node.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                self._collect([self._target(reference)], found, seen | {reference})
            for keyword in ("anyOf", "oneOf", "allOf"):
                if isinstance(node.get(keyword), list):
                    self._collect(node[keyword], found, seen)
            if node.keys() - {"$ref", "anyOf", "oneOf", "allOf", "title", "description", "$defs", "definitions"}:
                found.append(node)

    def _target(self, reference: str) -> Any:
        place: Any = self._document
        for part in unquote(reference).removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            place = place.get(key) if isinstance(place, Mapping) else None
        return place if reference.startswith("#") else None


def _mapping(node: Schema, key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}


_FORMATS = {"date": Kind.DATE, "date-time": Kind.MOMENT, "time": Kind.TIME}
_TYPES = {"boolean": Kind.BOOLEAN, "integer": Kind.NUMBER, "number": Kind.NUMBER}


def types_of(node: Schema) -> set[str]:
    """The types that a schema allows, but for null."""
    types = node.get("type")
    return {name for name in (types if isinstance(types, list) else [types]) if name and name != "null"}


def _declared(nodes: Sequence[Schema]) -> Kind | None:
    """The kind that the schemas agree on; None if they don't, or say nothing."""
    kinds = {kind for node in nodes if (kind := _kind(node))}
    undecided = any(not _kind(node) and types_of(node) for node in nodes)
    return kinds.pop() if len(kinds) == 1 and not undecided else None


def _kind(node: Schema) -> Kind | None:
    listed = node["enum"] if isinstance(node.get("enum"), list) else [node["const"]] if "const" in node else []
    values = [value for value in listed if value is not None]
    if values:
        return _seen(values) if not any(isinstance(value, str) for value in values) else Kind.EXACT
    types = types_of(node)
    if len(types - {"integer"}) <= 1 and types & _TYPES.keys():
        return _TYPES[min(types)]
    if "format" in node and types <= {"string"}:
        return _FORMATS.get(node["format"], Kind.EXACT) if isinstance(node["format"], str) else None
    return Kind.EXACT if "pattern" in node else None


def _seen(values: Sequence[Any], *, texts: bool = False) -> Kind:
    """The kind that expected values show. `texts`: the schema says that they are, so digits alone are an id."""
    if all(isinstance(value, bool) for value in values):
        return Kind.BOOLEAN
    if any(isinstance(value, (bool, dict, list)) for value in values):
        return Kind.EXACT
    written = [str(value).strip() for value in values]
    if not texts and all(not isinstance(value, str) or json_number(value.strip()) is not None for value in values):
        return Kind.NUMBER
    return next((kind for kind, fits in _WRITTEN.items() if fits(written)), Kind.TEXT)


_WRITTEN: Mapping[Kind, Callable[[Sequence[str]], bool]] = {
    Kind.DATE: lambda texts: all(map(is_written_date, texts)),
    Kind.AMOUNT: lambda texts: (
        all(_is_money(text) or json_number(text) is not None for text in texts) and any(map(_is_money, texts))
    ),
    Kind.EXACT: lambda texts: all(len(text.split()) == 1 and any(map(str.isdigit, text)) for text in texts),
}
"""What all texts of a field look like; the first that fits."""


def _is_money(text: str) -> bool:
    """Whether it is a number with a currency, or with a separator and no other unit."""
    amount = amount_of(text)
    return amount is not None and (is_currency(amount.unit) or (not amount.unit and not text.lstrip("+-").isalnum()))
