"""The answers of all variants about one image, field by field. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blobsight.following import summary_of
from blobsight.results.flattening import flattened, json_text
from blobsight.terminal import Unknown
from blobsight.trials.measured import Given

TEXT = ""
"""The name of the row that holds what has no fields: a text, a failure, an answer that is not there."""
_DATA = "answer.data"


@dataclass(frozen=True, slots=True)
class Row:
    """One field in the answer of each variant; None where an answer lacks it."""

    field: str
    cells: tuple[str | None, ...]
    differs: bool
    """Whether those answers that have fields differ in this one."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The answers about one image."""

    image: str
    rows: tuple[Row, ...]

    @property
    def differing(self) -> list[str]:
        """The fields that differ; texts do nearly always."""
        return [row.field for row in self.rows if row.differs and row.field != TEXT]


def compared(image: str, given: Sequence[Given]) -> Compared:
    """Put the answers of all variants, in their order, side by side: the fields in the order of the fullest answer."""
    fields = [fields_of(result) for result in given]
    fullest = sorted((found for found in fields if found), key=len, reverse=True)
    names = dict.fromkeys(name for found in fullest for name in found)
    rows = []
    if None in fields or not names:
        texts = tuple(said_of(result) if found is None else None for result, found in zip(given, fields, strict=True))
        differs = len({text for text in texts if text is not None}) > 1
        rows.append(Row(TEXT, texts, differs))
    for name in names:
        cells = tuple(None if found is None else found.get(name) for found in fields)
        differs = len({found.get(name) for found in fields if found is not None}) > 1
        rows.append(Row(name, cells, differs))
    return Compared(image, tuple(rows))


def fields_of(result: Given) -> dict[str, str] | None:
    """The fields of a structured answer, by their paths as in exports, with their values as text; None if it has none.

    Texts stand as they are, other values as JSON.
    """
    if not isinstance(result, Mapping) or result["status"] == "failed":
        return None
    data = (result.get("answer") or {}).get("data")
    if data is None or data in ({}, []):
        return None
    found = flattened({"answer": {"data": data}})
    return {name.removeprefix(f"{_DATA}.").removeprefix(_DATA) or "data": _written(value) for name, value in found}


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def said_of(result: Given) -> str:
    """An answer's text, or what stands for it."""
    if result is None:
        return "(not answered yet)"
    if isinstance(result, Unknown):
        return f"(can't be read: {result.reason})"
    failed = result["status"] == "failed"
    return f"failed: {summary_of(result)}" if failed else summary_of(result)


def differing_fields(images: Sequence[Compared]) -> list[tuple[str, int]]:
    """In how many images each field differs, the most frequent first."""
    return Counter(field for image in images for field in image.differing).most_common()
