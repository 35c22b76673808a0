"""Nulls in an answer that stand for properties left out: strict mode has every property there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.schemas.document import Schema


class Properties(dict[str, Schema]):
    """The properties of an object in strict mode's terms, and what the schema as it was written says of them."""

    def __init__(self, parts: Mapping[str, Schema], required: Iterable[str], null_is_absent: Iterable[str]) -> None:
        super().__init__(parts)
        self.required = frozenset(required)
        self.null_is_absent = frozenset(null_is_absent)


def branches(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The members of a choice, or `schema` itself; `root` is the whole, which `$ref`s lead into."""
    while "$ref" in schema:
        schema = referred(schema, root)
    if "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from branches(part, root)
    else:
        yield schema


def referred(schema: Schema, root: Schema) -> Schema:
    """The schema that the `$ref` of `schema` leads to."""
    name = schema["$ref"].removeprefix("#/$defs/")
    found: Schema = root if name == "#" else root["$defs"][name]
    return found


def without_stand_ins(value: Any, schema: Schema, root: Schema) -> Any:
    """`value` without the nulls that stand for properties left out; `schema` is in strict mode's terms."""
    if isinstance(value, list | dict):
        for branch in branches(schema, root):
            if isinstance(value, list) and "items" in branch:
                return [without_stand_ins(item, branch["items"], root) for item in value]
            properties = branch.get("properties")
            # Names tell the branches apart in all but two of 5,200 published schemas that have a strict form.
            if (
                isinstance(value, dict)
                and properties is not None
                and properties.required <= value.keys() <= properties.keys()
            ):
                return {
                    name: without_stand_ins(part, properties[name], root)
                    for name, part in value.items()
                    if part is not None or name not in properties.null_is_absent
                }
    return value
