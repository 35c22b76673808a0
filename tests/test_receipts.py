"""Receipts whose truth is known, and the model that errs about them as often as it is told to."""

import io
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest
from PIL import Image
from support.asking_model import body, image_part
from support.person import ROOT
from support.receipt_brain import Rates, ReceiptBrain

from localcloud.model import CannotAnswerError, Deployed, Question
from localcloud.model.question import check
from pipeline.schemas.document import Document
from pipeline.schemas.strict import StrictForm

SCHEMA = json.loads((ROOT / "samples" / "receipt.schema.json").read_text(encoding="utf-8"))
NUMBER = 24


@pytest.fixture(scope="module")
def make_receipts() -> ModuleType:
    sys.path.insert(0, str(ROOT / "samples"))
    try:
        import make_receipts  # noqa: PLC0415 - a script in a folder of pictures
    finally:
        sys.path.pop(0)
    return make_receipts


@pytest.fixture(scope="module")
def folder(make_receipts: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("receipts")
    make_receipts.make(folder, NUMBER, seed=1)
    return folder


def truth_of(image: Path) -> dict[str, Any]:
    return dict(json.loads(image.with_name(f"{image.name}.expected.json").read_text(encoding="utf-8")))


def test_each_receipt_is_small_and_has_its_truth_beside_it(folder: Path) -> None:
    images = sorted(folder.glob("*.jpg"))
    assert [image.name for image in images] == [f"receipt-{number:03}.jpg" for number in range(1, NUMBER + 1)]
    validator = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)
    for image in images:
        truth = truth_of(image)
        validator.validate(truth)
        assert round(sum(line["amount"] for line in truth["lines"]), 2) == truth["total"]
        assert image.stat().st_size < 100_000
    assert len(list(folder.iterdir())) == 2 * NUMBER


def test_receipts_differ_and_not_all_of_them_have_everything(make_receipts: ModuleType) -> None:
    receipts = [make_receipts.invent(make_receipts.random.Random(seed)) for seed in range(200)]
    truths = [receipt.truth() for receipt in receipts]
    assert len({json.dumps(truth) for truth in truths}) == 200
    assert 0 < sum("date" not in truth for truth in truths) < 40
    assert 0 < sum(line["amount"] < 0 for truth in truths for line in truth["lines"]) < 100
    assert {len(receipt.lines) for receipt in receipts} == set(range(1, 9))
    assert {truth["currency"] for truth in truths} == {"EUR", "GBP", "USD", "NOK", "CHF", "SEK"}
    assert len({receipt.day_format for receipt in receipts}) > 8


def test_a_seed_draws_the_same_receipts_every_time(make_receipts: ModuleType, folder: Path, tmp_path: Path) -> None:
    """However many are asked for, so that a larger set holds the smaller one."""
    make_receipts.main([str(tmp_path / "again"), "--number", "2"])
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    make_receipts.make(tmp_path / "others", 1, seed=2)
    assert (tmp_path / "others" / "receipt-001.jpg").read_bytes() != (folder / "receipt-001.jpg").read_bytes()


def test_every_letter_that_is_printed_is_in_the_font(make_receipts: ModuleType) -> None:
    """A missing one is drawn as a box."""
    chance = make_receipts.random.Random(0)
    texts = {*make_receipts.SHOPS, *make_receipts.GOODS, "SALES RECEIPT", "Discount", "TOTAL", "Thank you"}
    for country in make_receipts.COUNTRIES:
        texts |= {country.price(-123_456), country.mark}
    font = make_receipts.font(20)
    missing = font.getmask("\N{SNOWMAN}")
    box = (missing.size, bytes(missing))
    letters = {letter for text in texts for letter in text} - {" "}
    assert not [letter for letter in letters if ((mask := font.getmask(letter)).size, bytes(mask)) == box]
    assert make_receipts.invent(chance).truth()


# --- the model ---


def question(image: Path, deployment: str = "vision", schema: dict[str, Any] | None = None) -> Question:
    asked: dict[str, Any] = {"model": deployment}
    if schema:
        asked["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": True},
        }
    return check(body(image_part(image.read_bytes(), "image/jpeg"), **asked), ["vision", "vision-small"], Deployed())


STRICT = StrictForm(Document(SCHEMA)).schema


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


def test_without_faults_it_gives_the_truth(folder: Path) -> None:
    brain = ReceiptBrain.of(folder, {})
    for image in sorted(folder.glob("*.jpg"))[:5]:
        assert json.loads(brain.answer(question(image))) == truth_of(image)
        assert without_nulls(json.loads(brain.answer(question(image, schema=STRICT)))) == truth_of(image)
    assert set(brain.accuracy("vision").values()) == {1.0}


FAULTS = {
    "vision": {"total": Rates(wrong=0.1)},
    "vision-small": {
        "vendor": Rates(missing=0.2, restated=0.8),
        "date": Rates(wrong=0.3, invented=0.5),
        "currency": Rates(missing=0.3),
        "total": Rates(wrong=0.4),
        "lines": Rates(missing=0.1, invented=0.2),
        "lines.description": Rates(wrong=0.1, restated=0.5),
        "lines.quantity": Rates(missing=0.1, invented=0.1),
        "lines.amount": Rates(wrong=0.1),
    },
}


def outcome(expected: Any, given: Any) -> str:
    """By another way than the brain's: looking at the two values."""
    if given in (None, ""):
        return "right" if expected is None else "missing"
    if expected is None:
        return "invented"
    same = expected.casefold() == given.casefold() if isinstance(expected, str) else expected == given
    return "right" if same else "wrong"


@pytest.mark.parametrize("deployment", ["vision", "vision-small"])
def test_what_it_says_of_its_faults_is_what_its_answers_have(folder: Path, deployment: str) -> None:
    brain = ReceiptBrain.of(folder, FAULTS)
    found: dict[str, Counter[str]] = {name: Counter() for name in ("vendor", "date", "currency", "total")}
    missing = invented = 0
    for image in sorted(folder.glob("*.jpg"), reverse=True):  # in no order of its own
        truth = truth_of(image)
        answer = json.loads(brain.answer(question(image, deployment, STRICT)))
        jsonschema_rs.validator_for(SCHEMA, validate_formats=True).validate(without_nulls(answer))
        for name, counts in found.items():
            counts[outcome(truth.get(name), answer[name])] += 1
        surplus = sum(line["amount"] == 98765.43 for line in answer["lines"])
        invented += surplus
        missing += len(truth["lines"]) + surplus - len(answer["lines"])
    said = brain.outcomes(deployment)
    assert {name: said[name] for name in found} == found
    assert (said["lines"]["missing"], said["lines"]["invented"]) == (missing, invented)
    assert brain.accuracy(deployment)["total"] == found["total"]["right"] / NUMBER


def test_rates_are_met_and_deployments_err_apart_from_each_other() -> None:
    truths = {str(number): {"vendor": "Lumen", "currency": "EUR", "total": 1, "lines": []} for number in range(3000)}
    brain = ReceiptBrain(truths, {name: {"total": Rates(wrong=0.2), "date": Rates(invented=0.1)} for name in "ab"})
    for deployment in "ab":
        accuracy = brain.accuracy(deployment)
        assert accuracy["total"] == pytest.approx(0.8, abs=0.03)
        assert accuracy["date"] == pytest.approx(0.9, abs=0.03)
    both = [brain._reading(name, image, None).outcomes["total"]["wrong"] for image in truths for name in "ab"]  # noqa: SLF001
    assert sum(map(int.__mul__, both[::2], both[1::2])) / 3000 == pytest.approx(0.04, abs=0.02)


def test_values_are_restated_only_where_the_schema_allows_it(folder: Path) -> None:
    brain = ReceiptBrain.of(folder, {"vision": {name: Rates(restated=1) for name in ("date", "total")}})
    texts = {name: {"type": "string"} for name in ("vendor", "date", "currency", "total")}
    free = {"type": "object", "properties": texts, "required": list(texts), "additionalProperties": False}
    image = next(image for image in sorted(folder.glob("*.jpg")) if "date" in truth_of(image))
    truth = truth_of(image)
    assert without_nulls(json.loads(brain.answer(question(image, schema=STRICT)))) == truth
    given = json.loads(brain.answer(question(image, schema=free)))
    assert given["date"] not in ("", truth["date"])
    assert given["total"] == f"{truth['total']:.2f} {truth['currency']}".replace(".", ",")


def test_it_refuses_what_it_does_not_know() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    asked = check(body(image_part(picture.getvalue(), "image/jpeg")), ["vision"], Deployed())
    with pytest.raises(CannotAnswerError):
        ReceiptBrain({}, {}).answer(asked)
