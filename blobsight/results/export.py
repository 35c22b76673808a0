"""Write results into one file: JSON Lines as they come, CSV and Parquet once all columns are known.

A file is written under another name and renamed when it is complete. So the file under its own name is always whole,
the new one or the previous. Until then the rows of a table wait in a temporary file in the same folder.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from blobsight.results.flattening import Columns, Kind, Row, Value, as_kind, json_text
from blobsight.results.formulas import guarded
from blobsight.results.page import PAGES, AnswersPage
from blobsight.whole_files import replacing, spool

if TYPE_CHECKING:
    import pyarrow as pa

type Advance = Callable[[], None]

_GROUP_ROWS = 10_000
_GROUP_BYTES = 16_000_000
"""Limits on a Parquet file's row group, and so on the memory for it."""


class Export(Protocol):
    """A file that takes results one by one."""

    def add(self, result: Mapping[str, Any]) -> None:
        """Take one result.

        Raises:
            ValueError, RecursionError: it can't be written, and no part of it was.
        """

    def complete(self, advance: Advance) -> None:
        """Write what is not written yet; `advance` is called for each result."""


class JsonLines:
    """JSON Lines: a whole result a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def add(self, result: Mapping[str, Any]) -> None:
        self._stream.write(json_text(result) + "\n")

    def complete(self, advance: Advance) -> None:
        pass


class Table:
    """A table: a result a row."""

    def __init__(self, path: Path, spool: IO[str], write: "TableWriter") -> None:
        self._path = path
        self._spool = spool
        self._write = write
        self._columns = Columns()

    @property
    def without_column(self) -> int:
        """Values without a column of their own."""
        return self._columns.without

    def add(self, result: Mapping[str, Any]) -> None:
        self._spool.write(json_text(self._columns.row(result)) + "\n")

    def complete(self, advance: Advance) -> None:
        self._spool.seek(0)
        self._write(self._path, self._columns.kinds, self._rows(advance))

    def _rows(self, advance: Advance) -> Iterator[tuple[Row, int]]:
        for line in self._spool:
            yield json.loads(line), len(line)
            advance()


type TableWriter = Callable[[Path, Mapping[str, Kind], Iterator[tuple[Row, int]]], None]
"""Writes a file from its columns, and its rows with their approximate bytes."""


def write_csv(path: Path, columns: Mapping[str, Kind], rows: Iterator[tuple[Row, int]]) -> None:
    """Write a CSV file for spreadsheets: UTF-8 with the mark that Excel needs, and no text that acts as a formula.

    A program that reads it gets the texts back by `formulas.unguarded`.
    """
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow([guarded(name) for name in columns])
        for row, _ in rows:
            writer.writerow([_cell(row.get(name), kind) for name, kind in columns.items()])


def _cell(value: Value, kind: Kind) -> str:
    if isinstance(value, str):
        return guarded(value)  # times too, as they were written
    if value is None:
        return ""
    fitting = as_kind(value, kind)
    return fitting if isinstance(fitting, str) else json_text(fitting)


def write_parquet(path: Path, columns: Mapping[str, Kind], rows: Iterator[tuple[Row, int]]) -> None:
    """Write a Parquet file with types: text, whole number (64 bits), fraction (64 bits), boolean, time (ms, UTC)."""
    import pyarrow as pa  # noqa: PLC0415 - 110 ms that other commands don't need
    from pyarrow import parquet  # noqa: PLC0415

    types = {
        Kind.TEXT: pa.string(),
        Kind.WHOLE: pa.int64(),
        Kind.FRACTION: pa.float64(),
        Kind.BOOLEAN: pa.bool_(),
        Kind.TIME: pa.timestamp("ms", "UTC"),
    }
    schema = pa.schema([(_encodable(name), types[kind]) for name, kind in columns.items()])
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for group in _groups(rows):
            file.write_batch(_batch(schema, columns, group))


def _batch(schema: "pa.Schema", columns: Mapping[str, Kind], rows: list[Row]) -> "pa.RecordBatch":
    import pyarrow as pa  # noqa: PLC0415

    values = ([_encodable(as_kind(row.get(name), kind)) for row in rows] for name, kind in columns.items())
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _groups(rows: Iterator[tuple[Row, int]]) -> Iterator[list[Row]]:
    group: list[Row] = []
    held = 0
    for row, size in rows:
        group.append(row)
        held += size
        if len(group) >= _GROUP_ROWS or held >= _GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _encodable(value: Any) -> Any:
    """Escape half characters (lone surrogates), which can't be encoded."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


TABLES: Mapping[str, TableWriter] = {".csv": write_csv, ".parquet": write_parquet}
JSON_LINES = (".jsonl", ".ndjson")


@contextmanager
def new_file(path: Path) -> Iterator[Export]:
    """Open an export that replaces `path` if the context ends without an error. The file's ending decides the format.

    Raises:
        OSError: the folder can't be written to.
    """
    with replacing(path) as partial:
        if path.suffix.lower() in JSON_LINES:
            with partial.open("w", encoding="utf-8", newline="\n") as stream:
                yield JsonLines(stream)
        elif path.suffix.lower() in PAGES:
            with spool(partial) as rows, spool(partial) as cards:
                yield AnswersPage(partial, rows, cards, path.stem)
        else:
            with spool(partial) as rows:
                yield Table(partial, rows, TABLES[path.suffix.lower()])
