"""`blobsight evaluate`, end to end: receipts whose truth is known, and a model that errs at known places."""

import asyncio
import csv
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.person import ROOT, Person
from support.receipt_brain import Rates, ReceiptBrain
from support.terminal import Ran, blobsight

from localcloud.model import Answer, Asked, Behaviour
from pipeline.instructions.files import parse_file

NUMBER = 120
SCHEMA = ROOT / "samples" / "receipt.schema.json"
QUESTION = "What does the receipt say?"
FAULTS = {
    "vision": {
        "total": Rates(wrong=0.04),
        "vendor": Rates(wrong=0.03, restated=0.3),
        "lines": Rates(missing=0.01),
        "lines.description": Rates(restated=0.2),
    },
    "vision-small": {
        "total": Rates(wrong=0.3),
        "vendor": Rates(wrong=0.04, restated=0.3),
        "date": Rates(missing=0.1, invented=0.3),
        "lines": Rates(missing=0.05, invented=0.1),
        "lines.quantity": Rates(missing=0.1, invented=0.1),
        "lines.amount": Rates(wrong=0.05),
    },
}


@pytest.fixture(scope="module")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(ROOT / "samples"))
    try:
        import make_receipts  # noqa: PLC0415 - a script in a folder of pictures
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("receipts")
    make_receipts.make(folder, NUMBER, seed=7)
    return folder


@pytest.fixture
async def brain(person: Person, receipts: Path) -> AsyncIterator[ReceiptBrain]:
    """The model, which knows the receipts; once the app has noted what it allows."""
    brain = ReceiptBrain.of(receipts, FAULTS)
    images = {digest: json.dumps(truth) for digest, truth in brain.truths.items()}

    def behave(asked: Asked) -> Behaviour:
        (picture,) = asked.pictures
        if picture.sha256 not in images or asked.response_format is None:
            return person.behave(asked)
        schema = asked.response_format["json_schema"]["schema"]
        return Answer(json.dumps(brain.given(asked.deployment, picture.sha256, schema)))

    person.cloud.model.script.policy = behave
    note = person.blobs.get_blob_client("pipeline-state", "readiness.json")
    async with asyncio.timeout(60):
        while not await note.exists():
            await asyncio.sleep(0.1)
    yield brain
    person.cloud.model.script.policy = person.behave


async def evaluated(person: Person, *arguments: str) -> Ran:
    return await blobsight(person, "evaluate", *arguments, "--schema", str(SCHEMA), "--yes")


def accuracies(report: Any) -> dict[str, dict[str, float]]:
    return {
        label: {name: field["accuracy"] for name, field in variant["fields"].items()}
        for label, variant in report["variants"].items()
    }


async def test_scores_are_the_known_truth_and_two_variants_are_told_apart(
    person: Person, brain: ReceiptBrain, receipts: Path, tmp_path: Path
) -> None:
    asking = (str(receipts), "-i", QUESTION, "--deployment", "vision,vision-small")
    before = len(person.cloud.model.history)
    ran = await evaluated(person, *asking, "--json")
    assert ran.status == 0
    assert f"{2 * NUMBER} questions, at most" in ran.talk
    report = ran.json()
    for label in ("vision", "vision-small"):
        assert accuracies(report)[label] == pytest.approx(brain.accuracy(label))
        for name, counts in brain.outcomes(label).items():
            field = report["variants"][label]["fields"][name]
            counted = {one: field[one] for one in ("right", "wrong", "missing", "invented")}
            assert counted == {one: counts[one] for one in counted}, (label, name)  # type: ignore[index]
            assert field["interval"][0] <= field["accuracy"] <= field["interval"][1]
    apart = {one["field"]: one for one in report["differences"]}
    assert (apart["total"]["told_apart"], apart["vendor"]["told_apart"]) == (True, False)
    assert apart["total"]["images_needed"] < NUMBER
    assert len(person.cloud.model.history) == before + 2 * NUMBER

    again = await evaluated(person, *asking, "--min-accuracy", "90%", "--json")
    assert len(person.cloud.model.history) == before + 2 * NUMBER  # nothing is paid twice
    too_low = {("vision-small", name) for name, share in brain.accuracy("vision-small").items() if share < 0.9}
    assert too_low
    assert {(one["variant"], one["field"]) for one in again.json()["below"]} == too_low
    assert again.status == 1
    page = tmp_path / "evaluation.html"
    only = ("-i", QUESTION, "--deployment", "vision", "--min-accuracy", "0.9", "-o", str(page))
    good = await evaluated(person, str(receipts), *only)
    assert (good.status, len(person.cloud.model.history)) == (0, before + 2 * NUMBER)
    assert ["total", "vision", "number"] in [line[:3] for line in good.lines]
    assert page.read_text(encoding="utf-8").count("<img ") == NUMBER  # read from where the trial has them


@pytest.mark.usefixtures("brain")
async def test_the_winning_variant_becomes_a_folders_question(person: Person, receipts: Path, tmp_path: Path) -> None:
    sample = ("-i", QUESTION, "--deployment", "vision", "--sample", "3")
    report = (await evaluated(person, str(receipts), *sample, "--json")).json()
    ran = await blobsight(person, "try", "promote", report["trial"], "--variant", "1", str(tmp_path))
    assert ran.status == 0
    written = parse_file("_instructions.md", (tmp_path / "_instructions.md").read_bytes())
    assert (written.text, written.options.schema_) == (QUESTION, json.loads(SCHEMA.read_text(encoding="utf-8")))

    # The folder is uploaded as it was evaluated, with the expected answers in it.
    image = images_in(receipts)[0]
    for file in (image, image.with_name(f"{image.name}.expected.json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ran = await blobsight(person, "upload", str(tmp_path), "--prefix", "promoted/", "--wait")
    assert ran.status == 0
    result = await person.result(f"promoted/{image.name}")
    assert (result["instructions"]["text"], result["instructions"]["origin"]) == (QUESTION, "folder")
    assert set(result["answer"]["data"]) >= {"vendor", "total", "lines"}


async def test_a_second_opinion_shows_where_two_models_disagree(
    person: Person, brain: ReceiptBrain, receipts: Path
) -> None:
    ran = await evaluated(person, str(receipts), "-i", QUESTION, "--against", "vision-small", "--json")
    assert ran.status == 0
    both = [(brain.given("vision", image), brain.given("vision-small", image)) for image in brain.truths]
    for name in ("total", "date", "currency"):
        alike = sum(one.get(name) == other.get(name) for one, other in both) / len(both)
        assert ran.json()["agreement"][name] == pytest.approx(alike), name
    worst = ran.json()["worst"]
    shares = [one["variants"]["vision-small"]["wrong"] for one in worst]
    assert shares == sorted(shares, reverse=True)
    assert shares


@pytest.mark.usefixtures("brain")
async def test_an_export_that_a_person_has_corrected_scores_what_is_there_and_pays_nothing(
    person: Person, receipts: Path, tmp_path: Path
) -> None:
    images = images_in(receipts)[:8]
    await person.drop("evaluated/_instructions.md", f"---\nschema: receipt\n---\n{QUESTION}".encode())
    await person.drop("receipt.schema.json", SCHEMA.read_bytes())
    for image in images:
        await person.drop(f"evaluated/{image.name}", image.read_bytes())
    for image in images:
        assert (await person.result(f"evaluated/{image.name}"))["status"] == "succeeded"
    table = tmp_path / "answers.csv"
    exported = await blobsight(person, "results", "evaluated/", "-o", str(table))
    assert exported.status == 0
    correct(table, "answer.data.vendor", "Another Shop")
    before = len(person.cloud.model.history)
    ran = await evaluated(person, str(table), "-i", QUESTION, "--json")
    scored = accuracies(ran.json())["default"]
    assert len(person.cloud.model.history) == before
    assert scored["vendor"] == pytest.approx(7 / 8)
    assert {share for name, share in scored.items() if name != "vendor"} == {1.0}

    itself = await evaluated(person, "--in-container", "evaluated/", "-i", QUESTION, "--against", "vision")
    assert "'vision' was compared with itself" in itself.talk
    other = await evaluated(person, "--in-container", "evaluated/", "-i", QUESTION, "--against", "vision-small")
    assert "compared with itself" not in other.talk


def images_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def correct(table: Path, column: str, value: str) -> None:
    """Write another value into the first row, as a person does."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        head, first, *others = csv.reader(file)
    first[head.index(column)] = value
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([head, first, *others])


@pytest.mark.usefixtures("brain")
async def test_what_can_not_be_is_said_before_anything_is_paid(person: Person, receipts: Path, tmp_path: Path) -> None:
    before = len(person.cloud.model.history)
    (tmp_path / "empty").mkdir()
    (tmp_path / "void.jsonl").write_text('{"name": "a.png", "expected": {"total": null}}')
    for arguments, status, message in (
        ((str(receipts), "--deployment", "vision,huge"), 3, "ALLOWED_DEPLOYMENTS"),
        ((str(tmp_path / "empty"),), 3, "no expected answer"),
        ((str(tmp_path / "void.jsonl"), "--min-accuracy", "0.9"), 3, "nothing to score"),
        ((str(receipts), "--against", "vision-small", "--min-accuracy", ".9"), 2, "needs expected answers"),
        ((str(receipts), "--against", "vision"), 2, "ask the same"),
        ((str(receipts), "--min-accuracy", "95"), 2, "from 0 to 1"),
        ((str(receipts), "--against", ""), 2, "it is empty"),
        ((), 2, "Give EXPECTED"),
    ):
        ran = await evaluated(person, *arguments)
        assert (ran.status, message in ran.talk) == (status, True), ran.talk
    assert len(person.cloud.model.history) == before
