"""What of a schema decides where a null in the answer stands for a property left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.structured.document import has_type, same


@dataclass(frozen=True, slots=True)
class ScalarShape:
    types: tuple[str, ...]
    values: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ArrayShape:
    items: "Shape"


@dataclass(frozen=True, slots=True)
class ObjectShape:
    properties: Mapping[str, "Shape"]
    required: frozenset[str]
    null_is_absent: frozenset[str]


@dataclass(frozen=True, slots=True)
class ChoiceShape:
    branches: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class ReferenceShape:
    name: str


type Shape = ScalarShape | ArrayShape | ObjectShape | ChoiceShape | ReferenceShape
type Shapes = Mapping[str, Shape]
"""By the name that references have for them."""


def branches(shape: Shape, shapes: Shapes) -> Iterator[ScalarShape | ArrayShape | ObjectShape]:
    """What `shape` is a choice of, or itself."""
    while isinstance(shape, ReferenceShape):
        shape = shapes[shape.name]
    if isinstance(shape, ChoiceShape):
        for branch in shape.branches:
            yield from branches(branch, shapes)
    else:
        yield shape


def without_stand_ins(value: Any, shape: Shape, shapes: Shapes) -> Any:
    """`value` without the nulls that stand for properties left out."""
    for branch in branches(shape, shapes):
        match branch:
            case ArrayShape(items) if isinstance(value, list):
                return [without_stand_ins(item, items, shapes) for item in value]
            case ObjectShape() if _was_meant(value, branch, shapes):
                return {
                    name: without_stand_ins(part, branch.properties[name], shapes)
                    for name, part in value.items()
                    if part is not None or name not in branch.null_is_absent
                }
            case _:
                pass
    return value


def _was_meant(value: Any, shape: ObjectShape, shapes: Shapes) -> bool:
    """Whether it is `shape` that `value` was written for. It looks one level deep, so that a choice costs no more."""
    return (
        isinstance(value, dict)
        and shape.required <= value.keys() <= shape.properties.keys()
        and all(
            (part is None and name in shape.null_is_absent)
            or any(_could_be(part, branch) for branch in branches(shape.properties[name], shapes))
            for name, part in value.items()
        )
    )


def _could_be(value: Any, shape: ScalarShape | ArrayShape | ObjectShape) -> bool:
    match shape:
        case ScalarShape(types, values):
            return any(has_type(value, kind) for kind in types) and (
                values is None or any(same(value, one) for one in values)
            )
        case ArrayShape():
            return isinstance(value, list)
        case ObjectShape():
            return isinstance(value, dict)
