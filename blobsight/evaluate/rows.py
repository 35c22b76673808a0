"""One image as a table: what was expected beside what each variant gave. Pure.

A row is a value, or an item of a list with all that is in it. Variants share a row where the same is expected of them,
and where they invented the same.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blobsight.evaluate.comparing import Outcome, Value
from blobsight.evaluate.scores import Evaluation
from blobsight.evaluate.shapes import Field, Kind


@dataclass(frozen=True, slots=True)
class Cell:
    """What a variant gave. `parts` are the values in an item that are not right."""

    value: Value
    parts: Sequence[Value] = ()

    @property
    def is_right(self) -> bool:
        return self.value.outcome is Outcome.RIGHT

    @property
    def wrong(self) -> set[str]:
        """The names of the fields that are wrong in it."""
        return set() if self.is_right else {self.value.field, *(part.field for part in self.parts)}


@dataclass(frozen=True, slots=True)
class Row:
    """`cells` by the variant's label; a variant without one has no such item, or no result yet."""

    field: Field
    expected: Any
    cells: dict[str, Cell]

    @property
    def is_right(self) -> bool:
        return all(cell.is_right for cell in self.cells.values())


def rows_of(evaluation: Evaluation, name: str) -> list[Row]:
    """The rows of the image `name`, by field."""
    order = {each.name: number for number, each in enumerate(evaluation.fields)}
    fields = {each.name: each for each in evaluation.fields}
    rows: dict[tuple[Any, ...], Row] = {}
    for label, variant in evaluation.variants.items():
        image = variant.images.get(name)
        for number, cell in _numbered(_cells(image.values if image else (), fields)):
            value = cell.value
            row = rows.setdefault((value.field, *number), Row(fields[value.field], value.expected, {}))
            row.cells[label] = cell
    return sorted(rows.values(), key=lambda row: order[row.field.name])


def _cells(values: Sequence[Value], fields: Mapping[str, Field]) -> Iterator[tuple[Cell, bool]]:
    """Values with what is wrong in them, and whether they are of a list. What is in an item follows it."""
    left = deque(values)
    while left:
        value, parts = left.popleft(), []
        of = fields[value.field]
        while of.kind is Kind.ITEM and left and left[0].field.startswith(f"{of.name}."):
            parts.append(left.popleft())
        yield Cell(value, tuple(part for part in parts if part.outcome is not Outcome.RIGHT)), of.in_list


def _numbered(cells: Iterator[tuple[Cell, bool]]) -> Iterator[tuple[tuple[Any, ...], Cell]]:
    """Cells with what sets their row apart from others of the field: nothing outside lists."""
    seen: dict[tuple[str, bool, str], int] = {}
    for cell, in_list in cells:
        if not in_list:
            yield (), cell
            continue
        invented = cell.value.outcome is Outcome.INVENTED
        told = json.dumps(cell.value.given if invented else cell.value.expected, sort_keys=True)
        key = cell.value.field, invented, told
        seen[key] = seen.get(key, 0) + 1
        yield (invented, told, seen[key]), cell
