"""Expected answers come from a folder, JSON Lines or CSV: what `blobsight results` exports, corrected by people."""

import csv
import json
import os
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.pictures import picture
from support.some_results import failed, result_of

from blobsight.evaluate.choosing import choose_local, choose_uploaded
from blobsight.evaluate.expected import Expectations, read_expected
from blobsight.evaluate.scores import Given, evaluate, given_of
from blobsight.results.export import new_file
from blobsight.results.flattening import Columns, escaped, path_of
from blobsight.terminal import Trouble

SCHEMA = {
    "properties": {
        "total": {"type": "number"},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "shop": {"type": "object", "properties": {"name": {"type": "string"}}},
    }
}
DATA = {
    "total": 12.5,
    "note": "=1+1; 'so'",
    "tags": ["a", "b"],
    "shop": {"name": "Café", "a.b": None},
    "=1+1": "a\r\nb",
}


def exported(path: Path, *results: Any) -> Path:
    with new_file(path) as export:
        for result in results:
            export.add(result.model_dump(mode="json"))
        export.complete(lambda: None)
    return path


def answered(name: str, data: Any) -> Any:
    return result_of(name, answer={"text": json.dumps(data), "data": data})


def why(found: Expectations) -> list[tuple[str, str]]:
    return [(problem.name, problem.why.reason) for problem in found.problems]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "csv"])
@pytest.mark.parametrize("schema", [SCHEMA, None])
def test_an_export_is_right_about_itself(tmp_path: Path, ending: str, schema: Any) -> None:
    results = [answered("a.jpg", DATA), answered("folder/b.jpg", {**DATA, "total": None, "tags": []})]
    found = read_expected(exported(tmp_path / f"x.{ending}", *results), schema)
    assert found.problems == []
    given = {
        name: given_of(result.model_dump(mode="json")) for name, result in zip(found.answers, results, strict=True)
    }
    scores = evaluate(found.answers, {"same": given}, schema).variants["same"].fields
    assert set(scores) == {"total", "note", "tags", "shop.name", "=1+1"}
    assert {score.accuracy for score in scores.values()} == {1}
    assert found.answers["a.jpg"]["=1+1"] == "a\r\nb"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
datas = st.dictionaries(
    texts,
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.lists(texts, max_size=2)
    | st.dictionaries(texts, texts, max_size=2),
)


@given(datas)
@examples(50)
def test_whatever_is_exported_comes_back(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = exported(tmp_path_factory.mktemp("export") / "x.csv", answered("a.jpg", data))
    found = read_expected(path)
    assert found.problems == []
    scores = evaluate(found.answers, {"same": {"a.jpg": Given(data)}}).variants["same"].fields
    assert {name: score.outcomes for name, score in scores.items() if score.accuracy != 1} == {}


@given(st.lists(st.text(st.sampled_from("a.\\\n")), min_size=1))
def test_a_column_s_name_leads_back_to_its_place(parts: list[str]) -> None:
    assert path_of(".".join(map(escaped, parts))) == parts


def test_more_columns_than_a_table_has_are_read_out_of_the_rest(tmp_path: Path) -> None:
    columns = Columns(most=2)
    row = columns.row(answered("a.jpg", {"a": 1, "b": 2, "c": {"d": [3]}}).model_dump(mode="json"))
    with (tmp_path / "x.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns.kinds))
        writer.writeheader()
        writer.writerow(row)
    assert read_expected(tmp_path / "x.csv").answers == {"a.jpg": {"a": "1", "b": "2", "c": {"d": [3]}}}


def saved_by_excel(path: Path, separator: str, old: str, new: str) -> None:
    """As Excel saves what it has opened: its own separator, and no quotes but necessary ones; with cells corrected."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([new if cell == old else cell for cell in row] for row in rows)


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_corrected_cell_stays_what_the_person_wrote(tmp_path: Path, separator: str) -> None:
    path = exported(tmp_path / "x.csv", answered("a.jpg", DATA))
    saved_by_excel(path, separator, "12.5", "12,50")
    found = read_expected(path, SCHEMA)
    assert found.answers["a.jpg"]["total"] == "12,50"
    assert found.answers["a.jpg"]["note"] == DATA["note"]
    scores = evaluate(found.answers, {"one": {"a.jpg": Given(DATA)}}, SCHEMA).variants["one"].fields
    assert scores["total"].accuracy == 1


def test_a_table_by_hand(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name;total;shop.name\na.jpg;1.234,50;'=Shop\n\nb.jpg;;\n")
    found = read_expected(tmp_path / "x.csv")
    assert found.answers == {"a.jpg": {"total": "1.234,50", "shop": {"name": "=Shop"}}, "b.jpg": {}}


def test_plain_text_is_one_field(tmp_path: Path) -> None:
    path = exported(tmp_path / "x.csv", result_of("a.jpg"))
    lines = exported(tmp_path / "x.jsonl", result_of("a.jpg"))
    assert read_expected(path).answers == read_expected(lines).answers == {"a.jpg": {"answer": "An image."}}


def test_a_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.png", "c.jpg", "d.jpg", "e.jpg", "unanswered.jpg"):
        (tmp_path / name).write_bytes(b"image")
    (tmp_path / "a.jpg.expected.json").write_text('\ufeff{"total": 1}', encoding="utf-8")
    (tmp_path / "sub/b.png.expected.json").write_text('"a text"')
    (tmp_path / "c.jpg.expected.json").write_text("{total: 1}")
    (tmp_path / "d.jpg.expected.json").write_text("[1]")
    (tmp_path / "e.jpg.expected.json").write_bytes(b'{"a": "\xff"}')
    (tmp_path / "gone.jpg.expected.json").write_text("{}")
    found = read_expected(tmp_path)
    assert found.answers == {"a.jpg": {"total": 1}, "sub/b.png": {"answer": "a text"}}
    assert found.images == {"a.jpg": tmp_path / "a.jpg", "sub/b.png": tmp_path / "sub/b.png"}
    problems = dict(why(found))
    assert "not valid JSON: Expecting property name" in problems["c.jpg.expected.json"]
    assert "should be an object" in problems["d.jpg.expected.json"]
    assert "not UTF-8" in problems["e.jpg.expected.json"]
    assert "no image 'gone.jpg' beside it" in problems["gone.jpg.expected.json"]


def test_bad_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    lines = [
        '{"name": "a.jpg", "expected": {"total": 1}}',
        '{"name": "b.jpg", "expected": "a text"}',
        "",
        "not JSON",
        '{"name": "c.jpg", "expected": {"total": NaN}}',
        '{"expected": {}}',
        '{"name": "a.jpg", "expected": {"total": 2}}',
        json.dumps(failed("d.jpg").model_dump(mode="json")),
        '{"source": {"name": "e.jpg"}, "answer": {"text": "corrected, nothing else left"}}',
        '{"name": "\\u001b[2J", "expected": 3}',
        "[" * 100_000,
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    found = read_expected(tmp_path / "x.jsonl")
    assert list(found.answers) == ["a.jpg", "b.jpg", "e.jpg"]
    assert found.answers["a.jpg"] == {"total": 1}
    expected = {4: "not valid JSON", 5: "NaN", 6: '{"name":', 7: "already", 8: "failed one", 10: '{"name":', 11: "JSON"}
    assert [name for name, _ in why(found)] == [f"x.jsonl, line {number}" for number in expected]
    for (_, reason), part in zip(why(found), expected.values(), strict=True):
        assert part in reason


def test_bad_rows_are_named_with_their_column(tmp_path: Path) -> None:
    header = "source.name,status,answer.data.total,answer.data.tags,answer.data.shop,answer.data.shop.name"
    rows = [
        'a.jpg,succeeded,1,"[""x""]",,Shop',
        ",succeeded,1,,,",
        'i.jpg,succeeded,1,"[1e400]",,',
        'b.jpg,succeeded,1,"[""x",,',
        "c.jpg,succeeded,1,milk; bread,,",
        "d.jpg,failed,,,,",
        "e.jpg,failed,1,,,",
        'f.jpg,succeeded,1,,"{""name"":1}",Shop',
        "g.jpg,succeeded,1,2,3,4,5,6,7",
        'h.jpg,succeeded,"two\nlines",,,',
        "a.jpg,succeeded,2,,,",
    ]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]))
    found = read_expected(tmp_path / "x.csv", SCHEMA)
    assert list(found.answers) == ["a.jpg", "e.jpg", "h.jpg"]
    assert found.answers["a.jpg"] == {"total": "1", "tags": ["x"], "shop": {"name": "Shop"}}
    assert [(name.rpartition(" ")[2], reason) for name, reason in why(found)] == [
        ("3", "column 'source.name' is empty: it should be the image's name"),
        ("4", "column 'answer.data.tags' is not valid JSON: 1e400 is not a number in JSON"),
        ("5", "column 'answer.data.tags' is not valid JSON: Unterminated string starting at: line 1 column 2 (char 1)"),
        ("6", """column 'answer.data.tags' should be JSON, such as ["a","b"]"""),
        ("7", "the result of 'd.jpg' is a failed one, without an answer: fill it in, or remove the row"),
        ("9", "column 'answer.data.shop.name' is about the same value as another one: leave one of them empty"),
        ("10", "it has 9 cells for 6 columns: quote cells with a separator in them"),
        ("13", "'a.jpg' has an expected answer already: keep one"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "image,total\na.jpg,1", "line 1: there is no column 'source.name' (or 'name')"),
        ("x.csv", "", "line 1: there is no column"),
        ("x.csv", "source.name,status\na.jpg,x", "no column with an answer"),
        ("x.csv", "name,a,a\nb,1,2", "'a' is there twice"),
        ("x.txt", "", "give a folder of images, or a file (.jsonl, .ndjson, .csv)"),
        ("x.csv", b"name,a\nb,\xe9", "CSV UTF-8"),
        ("x.csv", "name,a\rb,1\r", "line 1: it is not valid CSV"),
        ("x.csv", f"name,{'a.' * 20_000}b\nc,1", "more than 20 levels"),
        ("gone.csv", None, "can't be read"),
    ],
)
def test_what_is_no_source_is_said(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Trouble) as raised:
        read_expected(tmp_path / name)
    assert message in raised.value.message


def test_a_table_as_wide_as_a_stranger_likes_is_read_in_one_go(tmp_path: Path) -> None:
    columns = [f"c{number}" for number in range(40_000)]
    (tmp_path / "x.csv").write_text(f"name,{','.join(columns)}\na.jpg,{','.join('1' for _ in columns)}\n")
    started = perf_counter()
    assert len(read_expected(tmp_path / "x.csv").answers["a.jpg"]) == 40_000
    assert perf_counter() - started < 5


def test_a_strangers_names_reach_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    folder, secret = tmp_path / "receipts", tmp_path / "secret.png"
    folder.mkdir()
    secret.write_bytes(picture())
    (folder / "a.png").write_bytes(picture())
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    names = [
        "a.png",
        "link.png",
        "up/secret.png",
        str(secret),
        "../secret.png",
        "a\0.png",
        "\ud800.png",
        "pipe.png",
        "b",
    ]
    expected = Expectations(answers={name: {"total": 1} for name in names})
    chosen = choose_local(expected, folder, "trials", None, 0)
    assert [image.name for image in chosen.images] == ["a.png"]
    reasons = {problem.name.removeprefix(f"{folder}/"): problem.why.reason for problem in chosen.problems}
    assert list(reasons) == names[1:]
    assert "--follow-links" in reasons["link.png"]
    assert "not a regular file" in reasons["pipe.png"]
    followed = choose_local(expected, folder, "trials", None, 0, follow_links=True)
    assert [image.name for image in followed.images] == ["a.png", "link.png", "up/secret.png"]


@pytest.mark.parametrize("name", ["../results/a.jpg.json", "\ud800", "_instructions.md", "a.jpg.instructions.txt"])
async def test_a_strangers_names_reach_no_other_blobs(name: str) -> None:
    """Nor do they name what gets no answer, which would be waited for for ever."""
    account: Any = SimpleNamespace(place=SimpleNamespace(images="images"))
    with pytest.raises(Trouble, match="None of the images"):
        await choose_uploaded(account, [name], None, 0)


def test_an_expected_answer_is_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    os.mkfifo(tmp_path / "a.png.expected.json")
    assert why(read_expected(tmp_path)) == [("a.png.expected.json", "it is not a regular file")]


def test_where_no_image_of_a_file_is_found_the_path_that_was_looked_for_is_named(tmp_path: Path) -> None:
    expectations = Expectations({"receipts/a.jpg": {"total": 1}, "receipts/b.jpg": {"total": 2}})
    with pytest.raises(Trouble, match=r"holds no images \(.*/receipts/[ab].jpg: it does not exist; and 1 more\)"):
        choose_local(expectations, tmp_path / "receipts", "trials", None, 0)
