"""Read expected answers: a folder of images with `photo.jpg.expected.json` beside them, JSON Lines, or CSV.

JSON Lines and CSV are what `blobsight results -o` writes, corrected by hand; a line may also be
`{"name": "photo.jpg", "expected": {...}}`. An expected answer in plain text is one field named `answer`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blobsight.evaluate.expected_table import parsed, rows_of
from blobsight.evaluate.scores import PLAIN, as_fields
from blobsight.evaluate.shapes import Schema
from blobsight.results.export import JSON_LINES
from blobsight.terminal import Problem, Trouble, Unknown, shortened
from pipeline.names import EXPECTED_SUFFIX

MOST_BYTES = 16 * 1024 * 1024
"""Of one expected answer: as much as is read of a result."""


@dataclass(slots=True)
class Expectations:
    """Expected answers by the image's name, and what could not be read. Both in the order of the source."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    """The image files, where the answers are beside them."""
    problems: list[Problem] = field(default_factory=list)

    def add(self, name: str, answer: dict[str, Any], where: str) -> bool:
        """Take an expected answer, unless the image has one already."""
        if name in self.answers:
            self.refuse(where, f"'{shortened(name)}' has an expected answer already: keep one")
            return False
        self.answers[name] = answer
        return True

    def refuse(self, where: str, why: str) -> None:
        self.problems.append(Problem(where, Unknown(why)))


def read_expected(path: Path, schema: Schema | None = None) -> Expectations:
    """Read expected answers. The schema says what the texts in a CSV file are; bad entries are problems, not the end.

    Raises:
        Trouble: nothing of it can be read.
    """
    if path.is_dir():
        return _beside_images(path)
    ending = path.suffix.lower()
    if ending not in (*JSON_LINES, ".csv"):
        endings = ", ".join((*JSON_LINES, ".csv"))
        raise Trouble(f"'{path}' is not a source of expected answers: give a folder of images, or a file ({endings})")
    try:
        text = path.read_text(encoding="utf-8-sig", newline="")
    except UnicodeDecodeError:
        raise Trouble(f"'{path}' is not UTF-8: save it as such (in Excel: CSV UTF-8)") from None
    except OSError as error:
        raise Trouble(f"'{path}' can't be read: {error.strerror}") from error
    found = Expectations()
    if ending == ".csv":
        for where, row in rows_of(text, path.name, schema):
            _take(found, where, row)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                _take(found, f"{path.name}, line {number}", _line(line))
    return found


def _take(found: Expectations, where: str, entry: "tuple[str, dict[str, Any]] | str") -> None:
    if isinstance(entry, str):
        found.refuse(where, entry)
    else:
        found.add(*entry, where)


def _beside_images(folder: Path) -> Expectations:
    found = Expectations()
    for file in sorted(folder.rglob(f"*{EXPECTED_SUFFIX}")):
        where = file.relative_to(folder).as_posix()
        image = file.with_name(file.name.removesuffix(EXPECTED_SUFFIX))
        if not image.is_file():
            found.refuse(
                where, f"there is no image '{image.name}' beside it: it is named for the image, ending and all"
            )
            continue
        answer = _sidecar(file)
        if isinstance(answer, str):
            found.refuse(where, answer)
        elif found.add(where.removesuffix(EXPECTED_SUFFIX), answer, where):
            found.images[where.removesuffix(EXPECTED_SUFFIX)] = image
    return found


def _sidecar(file: Path) -> dict[str, Any] | str:
    """The expected answer, or why there is none."""
    try:
        if not file.is_file():
            return "it is not a regular file"
        if file.stat().st_size > MOST_BYTES:
            return f"it is larger than the {MOST_BYTES:,} bytes that are read"
        value = parsed(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return _not_json(error)
    if isinstance(value, str):
        return {PLAIN: value}
    return value if isinstance(value, dict) else "it should be an object with the expected fields, or a text"


def _not_json(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8: save it as such"
    return f"it is not valid JSON: {shortened(str(error))}"


def _line(line: str) -> tuple[str, dict[str, Any]] | str:
    """The name and the expected answer of a line, or why there is none."""
    try:
        value = parsed(line)
    except (ValueError, RecursionError) as error:
        return _not_json(error)
    match value:
        case {"name": str(name), "expected": dict(answer)} if name:
            return name, answer
        case {"name": str(name), "expected": str(text)} if name:
            return name, {PLAIN: text}
        case {"source": {"name": str(name)}, "answer": {"data": dict() | list()} | {"text": str()} as answer} if name:
            return name, as_fields(answer.get("data"), answer.get("text"))
        case {"source": {"name": str(name)}, "status": "failed"}:
            return (
                f"the result of '{shortened(name)}' is a failed one, without an answer: remove the line, or write "
                '{"name": …, "expected": {…}}'
            )
        case _:
            return 'it should be a result with source.name and answer.data, or {"name": "photo.jpg", "expected": {…}}'
