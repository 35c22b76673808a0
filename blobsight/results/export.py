"""Results in one file: JSON Lines as they come, CSV and Parquet once all columns are known.

A file is written under another name and renamed when it is complete, so what is there under its own name is always
whole: the new one, or the one before. Until then the rows of a table wait in a temporary file beside it.
"""

import csv
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Protocol

from blobsight.results.flattening import Columns, Kind, Row, Value, as_kind, json_text

if TYPE_CHECKING:
    import pyarrow as pa

type Advance = Callable[[], None]

# What spreadsheets take for the start of a formula, also in its full-width form; and the apostrophe, so that one can
# tell ours from the text's own. https://owasp.org/www-community/attacks/CSV_Injection
_GUARDED = re.compile(r"[=+\-@\t\r\n'＝＋－＠]")  # noqa: RUF001 - these are the full-width ones

_GROUP_ROWS = 10_000
_GROUP_BYTES = 16_000_000
"""A Parquet file's row groups are no larger, and so is what is held of it."""


class Export(Protocol):
    """Where results go, one after the other."""

    def add(self, result: Mapping[str, Any]) -> None:
        """Take one.

        Raises:
            ValueError, RecursionError: it can't be written; nothing of it was.
        """

    def complete(self, advance: Advance) -> None:
        """Write what waits; `advance` is called for each result."""


class JsonLines:
    """A result a line, with all that is in it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def add(self, result: Mapping[str, Any]) -> None:
        self._stream.write(json_text(result) + "\n")

    def complete(self, advance: Advance) -> None:
        pass


class Table:
    """A result a row."""

    def __init__(self, path: Path, spool: IO[str], write: "TableWriter") -> None:
        self._path = path
        self._spool = spool
        self._write = write
        self._columns = Columns()

    @property
    def without_column(self) -> int:
        """Values that found no column of their own."""
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
"""Writes a file from its columns, and its rows with about their size in bytes."""


def write_csv(path: Path, columns: Mapping[str, Kind], rows: Iterator[tuple[Row, int]]) -> None:
    """For spreadsheets: UTF-8 with the mark that makes Excel read it as that, and no text that acts as a formula.

    Whoever reads it with a program takes one apostrophe off the front of each text that has one.
    """
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([_guarded(name) for name in columns])
        for row, _ in rows:
            writer.writerow([_cell(row.get(name), kind) for name, kind in columns.items()])


def _cell(value: Value, kind: Kind) -> str:
    if isinstance(value, str):
        return _guarded(value)  # moments too, as they were written
    if value is None:
        return ""
    fitting = as_kind(value, kind)
    return fitting if isinstance(fitting, str) else json_text(fitting)


def _guarded(text: str) -> str:
    return f"'{text}" if _GUARDED.match(text) else text


def write_parquet(path: Path, columns: Mapping[str, Kind], rows: Iterator[tuple[Row, int]]) -> None:
    """With types: text, whole number (64 bits), fraction (64 bits), boolean, moment (milliseconds, UTC)."""
    import pyarrow as pa  # noqa: PLC0415 - 110 ms that other commands need not wait for
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
    """Half characters, which no encoding has, escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


TABLES: Mapping[str, TableWriter] = {".csv": write_csv, ".parquet": write_parquet}
JSON_LINES = (".jsonl", ".ndjson")


@contextmanager
def new_file(path: Path) -> Iterator[Export]:
    """An export that becomes `path`, whatever was there, if the context ends well; of a kind that its ending tells.

    Raises:
        OSError: there or beside it nothing can be written.
    """
    path = path.resolve()  # a symbolic link stays one
    beside = path.with_name(f".blobsight-{secrets.token_hex(8)}.part")
    try:
        beside.touch(exist_ok=False)
        if path.suffix.lower() in JSON_LINES:
            with beside.open("w", encoding="utf-8", newline="\n") as stream:
                yield JsonLines(stream)
        else:
            with TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent) as spool:
                yield Table(beside, spool, TABLES[path.suffix.lower()])
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
