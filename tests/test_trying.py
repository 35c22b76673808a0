"""Trials, apart from any account: variants, samples, comparisons, measures, and the file that a variant becomes."""

import json
import os
import re
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from support.examples import examples
from support.pictures import picture
from support.some_results import failed, result_of

from blobsight.cli import blobsight
from blobsight.estimate.measuring import Size
from blobsight.local_files import LocalFile
from blobsight.terminal import Trouble, Unknown, table
from blobsight.trials.allowed import Allowance
from blobsight.trials.asking import Question
from blobsight.trials.choosing import Chosen, blob_named, sampled, take_files
from blobsight.trials.comparing import TEXT, compared, differing_fields
from blobsight.trials.cost import costs_of, say_cost
from blobsight.trials.measured import measured
from blobsight.trials.models import Models, models_given
from blobsight.trials.promoting import NAME, instruction_file, into_folder
from blobsight.trials.record import Trial, TrialImage, answer_name
from blobsight.trials.showing import DIFFERS, show
from blobsight.trials.variants import Variant, Wording, chosen_variant, variants_given, variants_of
from pipeline.instructions.files import parse_file
from pipeline.instructions.options import Options
from pipeline.instructions.plain_text import visible_text

NOTHING: dict[str, Any] = {
    "texts": (),
    "files": (),
    "schema": None,
    "deployment": None,
    "detail": None,
    "reasoning_effort": None,
    "max_output_tokens": None,
    "service_tier": None,
}


def as_json(result: Any) -> Any:
    return json.loads(result.to_json())


# Variants.


def test_variants_are_the_product_of_what_is_listed() -> None:
    given = NOTHING | {"texts": ("Read it.", "Describe it."), "deployment": ("vision", "mini"), "detail": ("low",)}
    variants = variants_given(given)
    assert [variant.label for variant in variants] == [
        "Read it., vision",
        "Read it., mini",
        "Describe it., vision",
        "Describe it., mini",
    ]
    assert variants[1].options == Options(deployment="mini", detail="low")
    assert len({variant.id for variant in variants}) == 4
    assert [variant.label for variant in variants_given(NOTHING)] == ["default"]


def test_options_on_the_command_line_count_before_those_of_a_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ask.md").write_text(f"---\ndetail: high\npages: 1-2\nschema: s\n---\nRead {folder}.")
        (tmp_path / folder / "s.schema.json").write_text(json.dumps({"type": "object", "title": folder}))
    files = (tmp_path / "a" / "ask.md", tmp_path / "b" / "ask.md")
    first, second = variants_given(NOTHING | {"files": files, "detail": ("low",)})
    expected = {"detail": "low", "pages": "1-2", "schema": {"type": "object", "title": "a"}}
    assert first.options == Options.model_validate(expected)
    assert (first.label, second.label) == (str(files[0]), str(files[1]))
    (only,) = variants_given(NOTHING | {"files": files[:1]})
    assert (only.instructions, only.options.detail) == ("Read a.", "high")


def test_too_many_variants_are_refused_and_the_same_twice() -> None:
    with pytest.raises(click.UsageError, match="more than 16 variants"):
        variants_given(NOTHING | {"max_output_tokens": tuple(range(1, 18))})
    with pytest.raises(click.UsageError, match=r"Two variants ask the same, 'a\.md' and 'b\.md'"):
        variants_of([Wording("a.md", "Read it."), Wording("b.md", "Read it.")], {})


def test_the_id_is_that_of_the_question_alone() -> None:
    asked = Variant(label="a", instructions="Read it.", options=Options(detail="low"))
    assert asked.id == Variant(label="b", instructions="Read it.", options=Options(detail="low")).id
    others = [
        Variant(label="a", instructions="Read it"),
        Variant(label="a", instructions="Read it.", options=Options(detail="high")),
        Variant(label="a", options=Options(detail="low")),
        # The model answers in the order of the properties.
        Variant(label="a", options=Options.model_validate({"schema": {"properties": {"a": {}, "b": {}}}})),
        Variant(label="a", options=Options.model_validate({"schema": {"properties": {"b": {}, "a": {}}}})),
    ]
    assert len({asked.id, *(other.id for other in others)}) == 6
    assert Variant.model_validate_json(asked.model_dump_json(by_alias=True)).id == asked.id


def test_a_variant_is_named_by_number_label_or_id() -> None:
    variants = variants_of([], {"detail": ("low", "high")})
    for named in ("2", "detail high", variants[1].id[:6]):
        assert chosen_variant(variants, named) is variants[1]
    assert chosen_variant(variants[:1], None) is variants[0]
    for wrong in (None, "3", "detail", ""):
        with pytest.raises(Trouble, match="1 detail low; 2 detail high"):
            chosen_variant(variants, wrong)


OPEN_TO_ALL: dict[str, Any] = {
    "trials": "trials",
    "requests_may_ask": True,
    "deployment": "vision",
    "deployments": ["vision"],
    "tiers": ["default", "flex", "batch"],
    "batch_deployment": "vision-batch",
    "to_come": "with a newer app",
}


def test_an_answer_from_before_the_operator_chose_another_model_is_not_taken_for_its() -> None:
    before = Allowance.model_validate(OPEN_TO_ALL)
    after = Allowance.model_validate(OPEN_TO_ALL | {"deployment": "small"})
    plain, named = Variant(label="a"), Variant(label="b", options=Options(deployment="vision"))
    for known in (Allowance.alone, Allowance.beside):
        assert known(before, plain).id != known(after, plain).id
        assert known(before, named).options.deployment in (None, "vision")
    assert before.alone(plain).id == before.alone(named).id == after.alone(named).id
    assert before.beside(plain).id != before.beside(named).id, "an image may bring a deployment of its own"
    assert before.beside(named).id == after.beside(named).id


@pytest.mark.parametrize(
    ("setting", "matters"),
    [
        ({"detail": "low"}, True),
        ({"reasoning_effort": "low"}, True),
        ({"max_output_tokens": 100}, True),
        ({"system_prompt_sha256": "ab"}, True),
        ({"instructions_sha256": "ab"}, False),
        ({"details": ["low"]}, False),
    ],
)
def test_a_setting_that_changes_the_question_changes_its_id(setting: dict[str, Any], matters: bool) -> None:  # noqa: FBT001
    before, after = Allowance.model_validate(OPEN_TO_ALL), Allowance.model_validate(OPEN_TO_ALL | setting)
    asked, plain = Variant(label="a", instructions="What?"), Variant(label="b")
    assert (before.alone(asked).id != after.alone(asked).id) is matters
    assert (before.alone(plain).id != after.alone(plain).id) is (matters or "instructions_sha256" in setting)
    said = Variant.model_validate_json(after.alone(asked).model_dump_json(by_alias=True))
    assert said.id == after.alone(asked).id, "a record keeps it"


@pytest.mark.parametrize(
    ("options", "note", "said"),
    [
        ({"detail": "high"}, {"locked_options": ["detail"]}, "LOCKED_OPTIONS"),
        ({"detail": "high"}, {"details": ["low"]}, "'detail' is 'high': here it may be low .*ALLOWED_DETAILS"),
        ({"reasoning_effort": "high"}, {"efforts": []}, "ALLOWED_EFFORTS"),
        ({"deployment": "large"}, {}, "'deployment' is 'large': here it may be vision .*ALLOWED_DEPLOYMENTS"),
        ({"service_tier": "flex"}, {"tiers": ["default"]}, "ALLOWED_TIERS"),
        ({"max_output_tokens": 200}, {"max_output_tokens": 100}, "at most 100 .*MAX_OUTPUT_TOKENS"),
        ({"service_tier": "batch"}, {"batch_deployment": None}, "BATCH_DEPLOYMENT"),
    ],
)
def test_what_the_app_does_not_allow_is_told_with_its_setting(
    options: dict[str, Any], note: dict[str, Any], said: str
) -> None:
    open_to_all = OPEN_TO_ALL
    variants = [Variant(label="a"), Variant(label="b", options=Options.model_validate(options))]
    if note:
        assert Allowance.model_validate(open_to_all).refusals(variants) == []
    (sentence,) = Allowance.model_validate(open_to_all | note).refusals(variants)
    assert re.search(said, sentence)


# Samples and records.


@examples(30)
@given(st.sets(st.text(max_size=4), min_size=2, max_size=12), st.integers(0, 5), st.data())
def test_a_sample_is_the_same_in_any_order_and_changes_little_with_more_images(
    names: set[str], seed: int, data: st.DataObject
) -> None:
    ordered = sampled(sorted(names), sorted(names), seed)
    shuffled = data.draw(st.permutations(sorted(names)))
    assert sampled(shuffled, shuffled, seed) == ordered
    fewer = [name for name in shuffled if name != ordered[0]]
    assert sampled(fewer, fewer, seed) == ordered[1:]


def test_another_seed_chooses_others() -> None:
    names = [f"{number}.png" for number in range(100)]
    assert set(sampled(names, names, 0)[:10]) != set(sampled(names, names, 1)[:10])


def test_more_images_than_a_trial_may_have_are_not_even_read() -> None:
    files = [LocalFile(Path("absent"), f"{number}.png", 1) for number in range(20_001)]
    for sample in (None, 30_000):
        with pytest.raises(Trouble, match="give --sample"):
            take_files(Chosen(), files, "trials", sample)


def test_images_have_their_digest_for_a_name_and_a_plain_ending() -> None:
    digest = "0" * 64
    for name, ending in {"a/B.PNG": ".png", "a": "", "a.b c": "", "a.ä": "", "a.tiff": ".tiff"}.items():
        assert blob_named(digest, name) == f"images/{digest}{ending}"


def trial(*names: str, stem: str = "Receipts 2026") -> Trial:
    images = [TrialImage(name=name, container="trials", blob=f"images/{name * 64}.png", etag="0x1") for name in names]
    return Trial.of(stem, [Variant(label="a"), Variant(label="b", instructions="?")], images)


def test_the_same_images_and_variants_have_the_same_name() -> None:
    one = trial("a", "b")
    assert one.name == trial("b", "a").name != trial("a").name
    assert one.name.startswith("receipts-2026-")
    assert trial("a", stem="äöü").name.startswith("trial-")
    assert Trial.model_validate_json(one.model_dump_json(by_alias=True)) == one
    with pytest.raises(Trouble, match=r"2 variants of 10,001 images are 20,002 questions, and a trial may have 20,000"):
        Trial.of("x", one.variants, [one.images[0]] * 10_001)


@pytest.mark.parametrize(
    "image",
    [
        {"name": "x", "container": "..", "blob": "a"},
        {"name": "x", "container": "trials", "blob": "images/../runs/other.json"},
    ],
)
def test_a_record_can_name_no_blob_outside_its_folders(image: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="image"):
        Trial.model_validate(json.loads(trial("a").model_dump_json(by_alias=True)) | {"images": [image]})


def test_a_record_has_no_more_questions_than_a_trial() -> None:
    record = json.loads(trial("a").model_dump_json(by_alias=True))
    with pytest.raises(ValueError, match="more than 20,000"):
        Trial.model_validate(record | {"images": record["images"] * 20_001})


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_record_is_of_a_time_that_can_be_shown_and_compared(time: str) -> None:
    with pytest.raises(ValueError, match="time"):
        Trial.model_validate(json.loads(trial("a").model_dump_json(by_alias=True)) | {"created_at": time})


def test_only_its_own_images_and_answers_are_a_trials() -> None:
    one = trial("a")
    uploaded = TrialImage(name="images/a.png", container="images", blob="images/a.png", etag="0x1")
    whole = one.model_copy(update={"images": (*one.images, uploaded)})
    others = [
        TrialImage(name="x", container="trials", blob=blob, etag="0x1") for blob in ("runs/b.json", "images/b.png")
    ]
    assert not {other.blob for other in others} & one.model_copy(update={"images": tuple(others)}).uses("trials")
    used = whole.uses("trials")
    answers = {answer_name(variant, image) for variant in whole.variants for image in whole.images}
    assert used == {one.images[0].blob} | answers
    assert f"answers/{one.variants[0].id}/images/images/a.png.json" in answers


# Comparing and measuring.


def structured(**data: Any) -> Any:
    return as_json(result_of("a.png", answer={"data": data}))


def test_fields_are_compared_by_their_values() -> None:
    found = compared("a.png", [structured(shop="A", total=1, items=[1]), structured(shop="A", total=1.5, date=None)])
    assert [(row.field, row.cells, row.differs) for row in found.rows] == [
        ("shop", ("A", "A"), False),
        ("total", ("1", "1.5"), True),
        ("items", ("[1]", None), True),
        ("date", (None, "null"), True),
    ]
    assert differing_fields([found, found, compared("b.png", [structured(total=1), structured(total=2)])]) == [
        ("total", 3),
        ("items", 2),
        ("date", 2),
    ]


def test_fields_stand_in_the_order_of_the_answer_that_has_most() -> None:
    found = compared("a.png", [structured(shop="A", total=1), structured(shop="A", date="x", total=1)])
    assert [row.field for row in found.rows] == ["shop", "date", "total"]


def test_what_has_no_fields_stands_in_a_row_of_its_own() -> None:
    given = [as_json(result_of("a.png")), as_json(failed("a.png")), Unknown("it is archived"), None]
    (row,) = compared("a.png", given).rows
    assert row.field == TEXT
    assert row.cells == (
        "An image.",
        "failed: corrupt_image: It is damaged.",
        "(can't be read: it is archived)",
        "(not answered yet)",
    )
    mixed = compared("a.png", [structured(total=1), None])
    assert [(row.field, row.cells, row.differs) for row in mixed.rows] == [
        (TEXT, (None, "(not answered yet)"), False),
        ("total", ("1", None), False),
    ]


def test_tokens_money_and_time_are_of_what_is_there() -> None:
    results = [
        as_json(result_of("a.png", usage={"input_tokens": 1000, "output_tokens": 100}, timings_ms={"model": time}))
        for time in range(1, 11)
    ]
    sums = measured([*results, as_json(failed("b.png")), None], "default", Models({}))
    assert (sums.images, sums.answered, sums.failed) == (12, 11, {"corrupt_image": 1})
    assert (sums.input_tokens, sums.output_tokens) == (1000, 100)
    # gpt-5.1 costs 1.25 and 10 USD a million; the failed one cost nothing.
    assert sums.usd_per_1000 == pytest.approx(1000 * 10 * (1000 * 1.25e-6 + 100 * 10e-6) / 11)
    assert (sums.median_ms, sums.p90_ms) == (5, 9)  # the failed one took 3
    flex = measured([as_json(result_of("a.png"))], "flex", Models({"vision": "gpt-5.1"}))
    assert flex.usd_per_1000 == pytest.approx(1000 * (700 * 1.25e-6 + 50 * 10e-6) / 2)
    assert measured([as_json(result_of("a.png"))], "default", Models({"vision": "unheard-of"})).usd_per_1000 is None
    assert measured([None], "default", Models({})).to_json()["median_ms"] is None


def test_models_are_named_for_all_or_for_one_deployment() -> None:
    models = models_given(["gpt-5.1", "mini=gpt-5.4-mini"])
    assert (models.answering("mini"), models.answering("vision")) == ("gpt-5.4-mini", "gpt-5.1")
    named = Variant(label="", options=Options(deployment="gpt-5.4-mini"))
    assert models_given([]).of(named, "vision") == "gpt-5.4-mini"  # deployments are often called like their models
    assert models_given([]).of(Variant(label=""), "vision") is None


# Usage.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--in-container", ""], "Give either paths"),
        ([], "give --yes"),
        (["--detail", "low,medium", "--yes"], "'medium' is not one of"),
        (["--detail", "low,low", "--yes"], "Two variants ask the same"),
        (["--deployment", "a,,b", "--yes"], "has an empty entry"),
        (["--deployment", "a,\udcff", "--yes"], r"'\udcff' is not UTF-8"),
        (["-i", " ", "--yes"], "it is empty"),
        (["--schema", "broken.json", "--yes"], "broken.json"),
        (["--instructions-file", "named.md", "--yes"], "names the schema 'absent', which is not beside it"),
        (["--model", "vision=", "--yes"], "should be NAME or DEPLOYMENT=NAME"),
        (["--instructions-file", "long.md", "--yes"], "bytes as a message, and may take"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(picture())
    Path("broken.json").write_text('{"type": "nonsense"}', encoding="utf-8")
    Path("named.md").write_text("---\nschema: absent\n---\nRead it.", encoding="utf-8")
    Path("long.md").write_text("Read it. " * 6000, encoding="utf-8")
    ended = CliRunner().invoke(blobsight, ["try", "a.png", *options, "--local"])
    assert ended.exit_code == (3 if "bytes" in said else 2)
    assert said in " ".join(ended.output.split())


# The cost.


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (Models({}), "to vision (taken to be gpt-5.6-luna)"),
        (Models({"vision": "gpt-5.4-mini"}), "to vision (gpt-5.4-mini)"),
    ],
)
async def test_a_model_that_is_only_guessed_is_not_said_to_be_known(
    models: Models, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def no_results(*_: object) -> tuple[None, tuple[()]]:
        return None, ()

    monkeypatch.setattr("blobsight.trials.cost._experience", no_results)
    variant = Variant(label="only", instructions="What is it?")
    image = TrialImage(name="a.png", container="trials", blob="images/x.png")
    trial = Trial.of("x", [variant], [image])
    allowance = Allowance.model_validate({
        "trials": "trials", "requests_may_ask": True, "deployment": "vision", "deployments": ["vision"],
        "tiers": ["default"],
    })  # fmt: skip
    account: Any = None  # whose results are not read here
    questions = [Question(variant, image)]
    costs, _ = await costs_of(account, trial, questions, Counter([Size(640, 480)]), allowance, models)
    say_cost(trial, costs, 0)
    talk = " ".join(capsys.readouterr().err.split())
    assert said in talk
    assert ("For the price, give the model behind 'vision': --model vision=NAME." in talk) == (models == Models({}))


# Showing.


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_shows_answers_side_by_side_within_its_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=width, no_color=True, highlight=False)
    for module in ("blobsight.terminal", "blobsight.trials.showing"):
        monkeypatch.setattr(f"{module}.out", console)
    variants = [Variant(label=f"[/b] {number}", instructions=str(number)) for number in range(5)]
    names = ("a.png", "b\x1b[2J\n.png")
    images = [TrialImage(name=name, container="trials", blob="images/x.png", etag="0x1") for name in names]
    one = Trial.of("x", variants, images)
    many = {f"field {number}": "\x1b[31mlong " * 100 for number in range(60)}
    answers: dict[tuple[str, str], Any] = {
        (variant.id, image.name): structured(total=number, **many) if image is images[0] else None
        for number, variant in enumerate(variants)
        for image in images
    }
    show(one, answers, Models({}))
    text = re.sub(r"\x1b\[\d*m", "", shown.getvalue())
    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "b\\x1b[2J\\n.png" in lines
    totals = [line.split() for line in lines if line.startswith(DIFFERS)]
    assert [value for line in totals for value in line[2:]] == ["0", "1", "2", "3", "4"]
    assert len(totals) == {40: 5, 80: 3, 200: 1}[width]
    assert "… and 21 more fields" in text
    table(("[/b] 1",), [["[/b]"]])
    assert shown.getvalue().endswith("[/b]  \n")
    assert "Fields that differ, of 2 images: total in 1." in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(("width", "whole"), [(20, False), (36, True), (60, True), (200, True)])
def test_numbers_in_a_narrow_table_stay_whole_while_there_is_room(
    *, width: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=width, no_color=True, highlight=False)
    monkeypatch.setattr("blobsight.terminal.out", console)
    rows = [["a field with a long name", "88.4 – 100.0", "1,234"], ["total", "9.0 – 12.0", "5"]]  # noqa: RUF001
    table(("field", "an interval", "of all"), rows, right=(1, 2))
    lines = re.sub(r"\x1b\[\d*m", "", shown.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert any(re.search(r"88\.4 – 100\.0 +1,234$", line) for line in lines) == whole  # noqa: RUF001
    if whole:  # a text wraps, and none of it is lost
        assert all(word in shown.getvalue() for word in ("field", "long", "name", "total"))


# Promoting.

TEXTS = st.text().map(visible_text).filter(lambda text: "\0" not in text)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "detail": st.sampled_from(["auto", "low", "high", "original"]),
        "max_output_tokens": st.integers(1, 1000),
        "deployment": st.text(min_size=1, max_size=20),
        "pages": st.sampled_from(["1-3,7", "3", "all"]),
        "per_page": st.booleans(),
        "service_tier": st.sampled_from(["default", "flex", "batch"]),
        "schema": st.dictionaries(st.text(max_size=20), JSON, max_size=4),
    },
)


@examples(300)
@given(TEXTS, OPTIONS)
@example("---\ndetail: high", {})
@example("<html> is this a page?", {})
@example("Read it.\r\n\x0b\x85\u2028 And this.", {"deployment": "NO"})
@example("", {"schema": {"12:30": "2026-03-14", "x": "\x7f\u2028\ufeff\x85", "1e5": 1e-7, "y": "1e5"}})
def test_a_promoted_variant_asks_exactly_its_question(text: str, options: dict[str, Any]) -> None:
    variant = Variant(label="", instructions=text or None, options=Options.model_validate(options))
    parsed = parse_file(NAME, instruction_file(variant))
    assert (parsed.text or None, parsed.options) == (variant.instructions, variant.options)


def test_what_no_file_can_ask_is_said() -> None:
    deep: dict[str, Any] = {}
    for _ in range(80):
        deep = {"properties": deep}
    with pytest.raises(Trouble, match=r"can't be written as an instruction file: .*nested deeper"):
        instruction_file(Variant(label="", options=Options.model_validate({"schema": deep})))


@pytest.mark.parametrize("target", ["other.txt", "gone.txt", "pipe"])
def test_a_promoted_variant_changes_no_file_that_a_link_leads_to(target: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / target
    folder.mkdir()
    if target == "pipe":
        os.mkfifo(folder / NAME)
    else:
        (folder / NAME).symlink_to(other)
    if target == "other.txt":
        other.write_text("Mine.")
    with pytest.raises(Trouble, match="remove it first"):
        into_folder(folder, b"What?", "variant 1", yes=True)
    assert not other.exists() or other.read_text() == "Mine."


def test_a_promoted_variant_is_written_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_text("Before.")

    def full(path: Path, _data: bytes) -> int:
        path.write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Trouble, match="No space left"):
        into_folder(tmp_path, b"What?", "variant 1", yes=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(NAME, "Before.")]
