"""Read expected answers out of a CSV file: an export of results, corrected in a spreadsheet or by hand.

The columns are `source.name` and those of the answer, `answer.data.total`, `answer.data.seller.name`. In a file written
by hand the image is in the column `name`, and every other column is a field. A spreadsheet may have saved it with
semicolons. Apostrophes that keep texts from acting as formulas are taken out.

A cell is text. Single values are left as they are written, and compared by the type that the schema says; lists and
objects are read as JSON. An empty cell is an absent value.
"""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

from blobsight.evaluate.scores import PLAIN
from blobsight.evaluate.shapes import Schema, nodes_of, types_of
from blobsight.results.flattening import MAX_DEPTH, REST, path_of
from blobsight.results.formulas import unguarded
from blobsight.terminal import Trouble, shortened

_DATA = "answer.data"
_SEPARATORS = ",;\t|"

type Entry = tuple[str, dict[str, Any]] | str
"""An image's name and expected answer, or why there is none."""


class _Refused(ValueError):
    """A row that can't be used; the message says which column."""


def rows_of(text: str, file: str, schema: Schema | None) -> Iterator[tuple[str, Entry]]:
    """Yield each row's place, for people, and what it says.

    Raises:
        Trouble: the first line does not name the columns.
    """
    with _large_cells():
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
            header = [unguarded(name) for name in next(rows, [])]
        except csv.Error as error:
            raise Trouble(f"{file}, line 1: it is not valid CSV: {error}") from None
        columns = _Columns(header, file, schema)
        while True:
            start = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{file}, line {start}", f"it is not valid CSV: {error}"
                continue
            if any(row):
                yield f"{file}, line {start}", columns.entry([unguarded(cell) for cell in row])


@contextmanager
def _large_cells() -> Iterator[None]:
    """Let cells be as long as answers are."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(text: str) -> str:
    """The one that finds the column with the images' names."""
    first = text.split("\n", maxsplit=1)[0].rstrip("\r")
    for separator in _SEPARATORS:
        if {"source.name", "name"} & {name.strip() for name in next(csv.reader([first], delimiter=separator), [])}:
            return separator
    return ","


class _Columns:
    """What the columns of a file mean."""

    def __init__(self, header: list[str], file: str, schema: Schema | None) -> None:
        if "source.name" not in header:
            header = [column.strip() for column in header]
        name = next((known for known in ("source.name", "name") if known in header), None)
        if name is None:
            raise Trouble(f"{file}, line 1: there is no column 'source.name' (or 'name') with the images' names")
        counts = Counter(header)
        twice = next((column for column in header if column and counts[column] > 1), None)
        if twice:
            raise Trouble(f"{file}, line 1: the column '{shortened(twice)}' is there twice: keep one")
        self._header = header
        self._name = name
        self._schema = schema or {}
        exported = name == "source.name"
        self._paths = {
            column: path_of(column.removeprefix(f"{_DATA}.") if exported else column)
            for column in header
            if column and (column.startswith(f"{_DATA}.") if exported else column != name)
        }
        deep = next((column for column, path in self._paths.items() if len(path) > MAX_DEPTH), None)
        if deep:
            raise Trouble(f"{file}, line 1: the column '{shortened(deep)}' has more than {MAX_DEPTH} levels: use JSON")
        self._exported = exported
        if not self._paths and "answer.text" not in header:
            raise Trouble(
                f"{file}, line 1: there is no column with an answer, such as '{_DATA}.total' or 'answer.text'"
            )

    def entry(self, row: list[str]) -> Entry:
        """What a row says."""
        if len(row) > len(self._header):
            return f"it has {len(row)} cells for {len(self._header)} columns: quote cells with a separator in them"
        cells = dict(zip(self._header, row, strict=False))
        name = cells.get(self._name, "")
        if not name:
            return f"column '{self._name}' is empty: it should be the image's name"
        try:
            answer = self._answer(cells)
        except _Refused as error:
            return str(error)
        if not answer and cells.get("status") == "failed":
            return (
                f"the result of '{shortened(name)}' is a failed one, without an answer: fill it in, or remove the row"
            )
        return name, answer

    def _answer(self, cells: Mapping[str, str]) -> dict[str, Any]:
        if self._exported and not self._paths and not cells.get(_DATA):
            text = cells.get("answer.text", "")
            return {PLAIN: text} if text else {}
        answer: dict[str, Any] = {}
        for column, path in self._paths.items():
            if cells.get(column, "").strip():
                _put(answer, path, self._value(cells[column], path, column), column)
        for column, value in _rest(cells.get(REST, "")).items():
            path = path_of(column.removeprefix(f"{_DATA}."))
            _put(answer, path, self._value(value, path, REST) if isinstance(value, str) else value, REST)
        return answer

    def _value(self, cell: str, path: list[str], column: str) -> Any:
        """A list or an object out of JSON; everything else as it is written."""
        types = {name for node in nodes_of(self._schema, path) for name in types_of(node)}
        if types and not types & {"array", "object"}:
            return cell
        try:
            value = parsed(cell) if cell.lstrip().startswith(("[", "{")) else None
        except (ValueError, RecursionError) as error:
            if types:
                raise _Refused(f"column '{shortened(column)}' is not valid JSON: {shortened(str(error))}") from None
            return cell
        if value is None and types and types <= {"array", "object"}:
            raise _Refused(f"column '{shortened(column)}' should be JSON, such as {_EXAMPLES[min(types)]}")
        return cell if value is None else value


_EXAMPLES = {"array": '["a","b"]', "object": '{"a":1}'}


def _put(answer: dict[str, Any], path: list[str], value: Any, column: str) -> None:
    place: Any = answer
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict) or place.get(path[-1]):
        raise _Refused(f"column '{shortened(column)}' is about the same value as another one: leave one of them empty")
    place[path[-1]] = value


def _rest(cell: str) -> dict[str, Any]:
    """The values without a column of their own, by their column's name."""
    if not cell:
        return {}
    try:
        rest = parsed(cell)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"column '{REST}' is not valid JSON: {shortened(str(error))}") from None
    if not isinstance(rest, dict):
        raise _Refused(f"column '{REST}' should be a JSON object")
    return rest


def parsed(text: str) -> Any:
    """The value of JSON that a person or a stranger wrote.

    Raises:
        ValueError: it is not JSON, which has no infinite numbers either.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{shortened(text, 20)} is not a number in JSON")
    return value
