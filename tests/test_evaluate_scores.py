"""The numbers of an evaluation are those that one can count, and what it shows of strangers' text is on one line."""

import json
import random
import subprocess
import sys
from copy import deepcopy
from time import perf_counter
from typing import Any

import pytest
from support.person import ROOT
from support.some_results import failed, result_of

from blobsight.evaluate import report
from blobsight.evaluate.comparing import Outcome, wrong_ones
from blobsight.evaluate.scores import Evaluation, Given, disagreement, evaluate, given_of

RIGHT, WRONG, MISSING, INVENTED = Outcome


def receipt(number: int) -> dict[str, Any]:
    return {
        "shop": f"Shop {'abcdefghijklmnopqrst'[number % 20]}",
        "date": f"2026-05-{number % 28 + 1:02}",
        "total": 10 + number,
        "discount": number if number % 4 == 0 else None,
        "lines": [{"text": f"Article {item}", "amount": item + 0.5} for item in range(number % 4 + 1)],
    }


EXPECTED = {f"{number:03}.jpg": receipt(number) for number in range(200)}


FIELDS = ("shop", "date", "total", "discount", "lines", "lines.text", "lines.amount")
type Truth = dict[str, dict[Outcome, int]]


def with_faults() -> tuple[dict[str, Given], Truth]:
    """Answers with faults at random, and what these come to by field."""
    seeded = random.Random(7)  # noqa: S311
    truth: Truth = {field: dict.fromkeys(Outcome, 0) for field in FIELDS}
    given = {}
    for name, expected in EXPECTED.items():
        answer = deepcopy(expected)
        spoil_values(answer, truth, seeded)
        spoil_lines(answer["lines"], truth, seeded.choice(["", "", "wrong", "lost", "extra"]))
        seeded.shuffle(answer["lines"])
        given[name] = Given(answer)
    return given, truth


def spoil_values(answer: dict[str, Any], truth: Truth, seeded: random.Random) -> None:
    counted = dict.fromkeys(("shop", "date", "total", "discount"), RIGHT)
    if seeded.random() < 0.1:
        answer["total"], counted["total"] = answer["total"] + 0.01, WRONG
    if seeded.random() < 0.2:
        del answer["date"]
        counted["date"] = MISSING
    if seeded.random() < 0.3 and not answer["discount"]:
        answer["discount"], counted["discount"] = 5, INVENTED
    for field, outcome in counted.items():
        truth[field][outcome] += 1


def spoil_lines(lines: list[dict[str, Any]], truth: Truth, fault: str) -> None:
    for field in ("lines", "lines.text", "lines.amount"):
        truth[field][RIGHT] += len(lines)
        if fault == "extra":
            truth[field][INVENTED] += 1
        elif fault == "lost" or (fault == "wrong" and field != "lines.text"):
            truth[field][RIGHT] -= 1
            truth[field][MISSING if fault == "lost" else WRONG] += 1
    match fault:
        case "wrong":
            lines[0]["amount"] = 99
        case "lost":
            lines.pop()
        case "extra":
            lines.append({"text": "Nothing of the kind", "amount": 77})


def test_scores_are_the_known_truth_by_field() -> None:
    given, truth = with_faults()
    evaluation = evaluate(
        EXPECTED, {"faulty": given, "perfect": {name: Given(each) for name, each in EXPECTED.items()}}
    )
    faulty, perfect = evaluation.variants.values()
    assert {name: dict(score.outcomes) for name, score in faulty.fields.items()} == truth
    for name, score in faulty.fields.items():
        assert score.accuracy == truth[name][RIGHT] / sum(truth[name].values())
        low, high = score.interval
        assert low < score.accuracy < high or score.accuracy == high == 1
    assert {score.accuracy for score in perfect.fields.values()} == {1}
    assert [faulty.fields[name].n for name in ("shop", "date", "total", "discount")] == [200] * 4
    assert perfect.fields["discount"].absent == 150

    apart = {each.field: each for each in evaluation.differences}
    assert apart["shop"].difference.by == 0
    assert not apart["shop"].told_apart
    assert {name for name, each in apart.items() if each.told_apart} == set(truth) - {"shop"}
    assert all(each.difference.by > 0 for each in apart.values() if each.told_apart)


def small(*, failing: bool = False) -> Evaluation:
    expected: dict[str, dict[str, Any]] = {
        "a": {"x": "one", "y": None, "z": [1, 2]},
        "b": {"x": None, "y": "two"},
        "c": {"x": "three"},
    }
    given = {
        "a": Given({"x": "one", "z": [1, 2, 3]}),
        "b": Given(None, "content_filtered: no") if failing else Given({"x": "zero", "y": "two"}),
        "not asked for": Given({"x": "one"}),
    }
    return evaluate(expected, {"only": given})


def test_an_image_without_a_result_does_not_count() -> None:
    (variant,) = small().variants.values()
    assert {name: score.n for name, score in variant.fields.items()} == {"x": 2, "y": 2, "z": 3}
    assert variant.fields["x"].outcomes == {RIGHT: 1, WRONG: 0, MISSING: 0, INVENTED: 1}
    assert variant.fields["z"].outcomes == {RIGHT: 2, WRONG: 0, MISSING: 0, INVENTED: 1}


def test_a_failed_result_is_wrong_everywhere_and_told_apart() -> None:
    evaluation = small(failing=True)
    (variant,) = evaluation.variants.values()
    assert variant.failed == 1
    assert {name: (score.n, score.failed) for name, score in variant.fields.items()} == {
        "x": (2, 1), "y": (2, 1), "z": (3, 0),
    }  # fmt: skip
    assert variant.fields["x"].outcomes[MISSING] == 1
    assert evaluation.worst() == ["b", "a"]
    assert report.worst(evaluation)[0][-1] == "failed: content_filtered: no"


def test_a_failed_image_names_each_missing_item_once() -> None:
    (variant,) = evaluate({"a": {"lines": [{"x": 1, "y": 2}]}}, {"only": {"a": Given(None)}}).variants.values()
    (value,) = wrong_ones(variant.images["a"].values)
    assert (value.field, value.expected) == ("lines", {"x": 1, "y": 2})


def test_answers_of_results() -> None:
    data = result_of("a.jpg", answer={"data": {"x": 1}}).model_dump(mode="json")
    text = result_of("a.jpg").model_dump(mode="json")
    assert given_of(data) == Given({"x": 1})
    assert given_of(text) == Given({"answer": "An image."})
    assert given_of(failed("a.jpg").model_dump(mode="json")) == Given(None, "corrupt_image: It is damaged.")


def test_plain_text_answers_are_scored() -> None:
    expected = {"a": {"answer": "A red bicycle"}, "b": {"answer": "Two dogs"}}
    given = {"a": Given({"answer": "a red bicycle."}), "b": Given({"answer": "three cats"})}
    (variant,) = evaluate(expected, {"only": given}).variants.values()
    assert variant.fields["answer"].accuracy == 0.5


def test_the_worst_come_first_by_their_share_of_wrong_fields() -> None:
    expected = {name: {"x": 1, "y": 2, "z": [1, 2, 3, 4]} for name in "abcd"}
    given = {
        "a": Given({"x": 1, "y": 3, "z": [1, 2, 3, 4]}),  # one of three
        "b": Given({"x": 1, "y": 2, "z": [1, 2, 3, 4]}),
        "c": Given({"x": 2, "y": 3, "z": [1, 2, 3, 4]}),  # two of three
        "d": Given({"x": 1, "y": 2, "z": [1, 2]}),  # half of one of three
    }
    assert evaluate(expected, {"only": given}).worst() == ["c", "a", "d"]


def test_differences_are_corrected_for_their_number() -> None:
    """Twenty fields of noise beside each other: none is called a difference for being the luckiest."""
    seeded = random.Random(3)  # noqa: S311
    fields = [f"f{number}" for number in range(20)]
    expected = {str(image): dict.fromkeys(fields, 1) for image in range(60)}
    variants = {
        label: {name: Given({field: seeded.choice([1, 1, 1, 2]) for field in fields}) for name in expected}
        for label in "abc"
    }
    differences = evaluate(expected, variants).differences
    assert len(differences) == 3 * len(fields)
    assert min(each.difference.p for each in differences) < 0.05
    assert not any(each.told_apart for each in differences)
    assert all(each.p >= each.difference.p for each in differences)


@pytest.mark.parametrize(
    ("better", "worse", "words"),
    [
        (0, 0, "no difference seen"),
        (12, 1, "yes"),
        (1, 12, "yes"),
        (4, 1, "no: about 199 images needed"),
    ],
)
def test_a_difference_in_plain_words(better: int, worse: int, words: str) -> None:
    expected = {str(number): {"x": 1} for number in range(40)}
    first = {str(number): Given({"x": 2 if number < better else 1}) for number in range(40)}
    second = {str(number): Given({"x": 2 if number >= 40 - worse else 1}) for number in range(40)}
    evaluation = evaluate(expected, {"first": first, "second": second})
    (apart,) = evaluation.differences
    assert report.certainty(apart) == words
    assert apart.better == ("second" if better >= worse else "first")
    assert len(report.differences(evaluation)) == (better != worse)  # what is equal fills no table


def test_the_gate_is_for_every_field_of_every_variant() -> None:
    given, truth = with_faults()
    perfect = {name: Given(each) for name, each in EXPECTED.items()}
    assert report.below(evaluate(EXPECTED, {"perfect": perfect}), 1.0) == []
    short = report.below(evaluate(EXPECTED, {"perfect": perfect, "faulty": given}), 0.85)
    assert {each.variant for each in short} == {"faulty"}
    assert {each.field: each.accuracy for each in short} == {
        name: share for name, each in truth.items() if (share := each[RIGHT] / sum(each.values())) < 0.85
    }
    assert {each.field for each in short} < set(FIELDS)
    nothing = report.below(evaluate(EXPECTED, {"unanswered": {}}), 0.0)
    assert {each.accuracy for each in nothing} == {None}
    assert len(nothing) == 7


def test_two_opinions_are_compared_without_expected_answers() -> None:
    first = {
        "same": Given({"x": 1, "y": ["a"]}), "other": Given({"x": 1, "y": ["a"]}), "less": Given({"x": 1}),
        "failed": Given(None), "alone": Given({"x": 1}),
    }  # fmt: skip
    second = {
        "same": Given({"x": 1, "y": ["a"]}),
        "other": Given({"x": 2, "y": ["b"], "z": "new"}),
        "less": Given({"x": 1}),
        "failed": Given({"x": 1}),
    }  # fmt: skip
    evaluation = disagreement(("one", first), ("two", second))
    assert evaluation.expected == 3
    assert [(name, score.n, score.right) for name, score in report.agreement(evaluation)] == [
        ("y", 3, 1), ("x", 3, 2), ("z", 3, 2),
    ]  # fmt: skip
    assert evaluation.worst() == ["other"]


def test_the_report_as_json() -> None:
    given, truth = with_faults()
    document = json.loads(json.dumps(report.to_json(evaluate(EXPECTED, {"a": given, "b": given}), most=3)))
    assert {name: field["accuracy"] for name, field in document["variants"]["a"]["fields"].items()} == {
        name: counts[RIGHT] / sum(counts.values()) for name, counts in truth.items()
    }
    total = document["variants"]["a"]["fields"]["total"]
    assert total | {"interval": None} == {
        "compared_as": "number", "accuracy": truth["total"][RIGHT] / 200, "interval": None, "n": 200,
        "right": truth["total"][RIGHT], "wrong": truth["total"][WRONG], "missing": 0, "invented": 0,
        "absent": 0, "failed": 0,
    }  # fmt: skip
    assert len(document["worst"]) == 3
    assert len(document["differences"]) == len(truth)
    assert not any(each["told_apart"] for each in document["differences"])


def test_strangers_text_forges_no_line_and_fills_no_screen() -> None:
    hostile = "x\x1b[2J\nok  1.0\u202e" + "y" * 5000
    expected = {hostile: {hostile: hostile, "z": [str(number) for number in range(100)]}}
    evaluation = evaluate(
        expected, {hostile: {hostile: Given({hostile: hostile[::-1]})}, "b": {hostile: Given(None, hostile)}}
    )
    tables = (report.summary(evaluation), report.differences(evaluation), report.worst(evaluation))
    cells = [cell for rows in tables for row in rows for cell in row]
    assert all(cell.isprintable() for cell in cells)
    assert max(map(len, cells)) <= 210
    assert len(report.worst(evaluation)) == report.MOST_VALUES + 2


def test_a_command_that_evaluates_nothing_loads_no_statistics() -> None:
    program = (
        "import sys, blobsight.evaluate.expected, blobsight.evaluate.report\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'scipy', 'numpy', 'rapidfuzz', 'dateutil'})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_answers_with_thousands_of_fields_are_scored_in_one_go() -> None:
    answers = {name: {f"field {number}": "x" for number in range(5_000)} for name in "abcdefghij"}
    started = perf_counter()
    found = evaluate(answers, {"v": {name: Given(answer) for name, answer in answers.items()}})
    assert perf_counter() - started < 3
    assert {score.accuracy for score in found.variants["v"].fields.values()} == {1.0}


def test_a_list_in_a_list_has_numbers_of_its_own() -> None:
    """A row of a table is right where all its cells are."""
    found = evaluate(
        {"a.jpg": {"rows": [["a", "b"], ["c", "d"]]}}, {"v": {"a.jpg": Given({"rows": [["a", "b"], ["c"]]})}}
    )
    assert [(row[0], row[2], row[5], row[6]) for row in report.summary(found)] == [
        ("rows", "item", "1", "2"),
        ("rows.*", "text", "3", "4"),
    ]
