"""An evaluation as people and programs read it: tables, JSON, a gate. Strangers wrote the expected and given values."""

from dataclasses import dataclass
from typing import Any

from blobsight.evaluate.comparing import Outcome, Value, wrong_ones
from blobsight.evaluate.scores import Compared, Evaluation, FieldScore, VariantScore
from blobsight.results.flattening import in_brief
from blobsight.terminal import counted, shortened

WORST = 5
"""Images shown with what is wrong in them."""
MOST_DIFFERENCES = 30
MOST_VALUES = 20
"""Wrong values shown of one image and variant."""
MOST_CHARACTERS = 80
"""Of an expected or given value in a table."""


@dataclass(frozen=True, slots=True)
class Below:
    """A field that does not reach the accuracy asked for."""

    variant: str
    field: str
    accuracy: float | None


def below(evaluation: Evaluation, min_accuracy: float) -> list[Below]:
    """The fields of every variant that don't reach `min_accuracy`, from 0 to 1; also those of which nothing counts."""
    return [
        Below(variant.label, name, score.accuracy)
        for variant in evaluation.variants.values()
        for name, score in variant.fields.items()
        if score.accuracy is None or score.accuracy < min_accuracy
    ]


def shown(value: Any, most: int = MOST_CHARACTERS) -> str:
    """A value on one line, bounded; "-" if it is absent."""
    if value is None:
        return "-"
    return shortened(in_brief(value), most)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


SUMMARY = ("field", "variant", "compared as", "accuracy", "95\u00a0% interval", "right", "of", "missing", "invented")


def summary(evaluation: Evaluation) -> list[list[str]]:
    """The rows below `SUMMARY`: fields in the order of the answers, for each its variants."""
    rows = []
    for field in evaluation.fields:
        for variant in evaluation.variants.values():
            score = variant.fields[field.name]
            low, high = score.interval
            missing, invented = (f"{score.outcomes[each]:,}" for each in (Outcome.MISSING, Outcome.INVENTED))
            rows.append([
                shortened(field.name, 60),
                shortened(variant.label, 60),
                field.kind.value,
                percent(score.accuracy),
                f"{low * 100:.1f} – {high * 100:.1f}",  # noqa: RUF001 - a range
                f"{score.right:,}",
                f"{score.n:,}",
                missing,
                invented,
            ])  # fmt: skip
    return rows


DIFFERENCES = ("field", "better", "than", "by", "chance", "told apart")


def differences(evaluation: Evaluation, most: int = MOST_DIFFERENCES) -> list[list[str]]:
    """The rows below `DIFFERENCES`, the surest first; none for fields in which two variants are equally good."""
    seen = sorted((each for each in evaluation.differences if each.difference.by), key=lambda each: each.p)
    return [
        [
            shortened(each.field, 60),
            shortened(each.better, 60),
            shortened(each.worse, 60),
            f"{abs(each.difference.by) * 100:.1f} points",
            chance(each),
            certainty(each),
        ]
        for each in seen[:most]
    ]


def certainty(compared: Compared) -> str:
    """Whether two variants can be told apart, in plain words."""
    apart = compared.difference
    if compared.told_apart:
        return "yes"
    if apart.needed is None:
        return "no difference seen"
    if apart.needed <= apart.images:
        return "no, given so many comparisons"
    return f"no: about {counted(apart.needed, 'image')} needed"


def chance(compared: Compared) -> str:
    return f"{compared.p:.3f}" if compared.p >= 0.001 else "< 0.001"


WRONG = ("image", "variant", "field", "expected", "given", "why")


def worst(evaluation: Evaluation, most: int = WORST) -> list[list[str]]:
    """The rows below `WRONG`: of the worst images, each wrong value."""
    return [
        row
        for name in evaluation.worst()[:most]
        for variant in evaluation.variants.values()
        for row in _wrong_rows(name, variant)
    ]


def _wrong_rows(name: str, variant: VariantScore) -> list[list[str]]:
    image = variant.images.get(name)
    if image is None:
        return []
    start = [shortened(name, 60), shortened(variant.label, 60)]
    if image.failure is not None:
        return [[*start, "", "", "", f"failed: {shortened(image.failure)}"]]
    found = wrong_ones(image.values)
    rows = [[*start, shortened(v.field, 60), shown(v.expected), shown(v.given), why(v)] for v in found[:MOST_VALUES]]
    more = [[*start, "", "", "", f"… and {len(found) - MOST_VALUES:,} more"]] if len(found) > MOST_VALUES else []
    return rows + more


def why(value: Value) -> str:
    """Why it is not right: missing, invented, or what differs."""
    return value.why or ("" if value.outcome is Outcome.WRONG else value.outcome.value)


def to_json(evaluation: Evaluation, most: int | None = None) -> dict[str, Any]:
    """The evaluation as JSON. Shares are from 0 to 1.

    Args:
        evaluation: what is reported.
        most: images in `worst`; all that have anything wrong by default.
    """
    return {
        "images": evaluation.expected,
        "variants": {label: _variant_json(variant) for label, variant in evaluation.variants.items()},
        "differences": [_difference_json(each) for each in evaluation.differences],
        "worst": [_image_json(evaluation, name) for name in evaluation.worst()[:most]],
    }


def _variant_json(variant: VariantScore) -> dict[str, Any]:
    return {
        "images": len(variant.images),
        "failed": variant.failed,
        "fields": {name: _field_json(score) for name, score in variant.fields.items()},
    }


def _field_json(score: FieldScore) -> dict[str, Any]:
    return {
        "compared_as": score.field.kind.value,
        "accuracy": score.accuracy,
        "interval": list(score.interval),
        "n": score.n,
        "right": score.right,
        "wrong": score.outcomes[Outcome.WRONG],
        "missing": score.outcomes[Outcome.MISSING],
        "invented": score.outcomes[Outcome.INVENTED],
        "absent": score.absent,
        "failed": score.failed,
    }


def _difference_json(compared: Compared) -> dict[str, Any]:
    apart = compared.difference
    return {
        "field": compared.field,
        "first": compared.first,
        "second": compared.second,
        "images": apart.images,
        "difference": apart.by,
        "better_images": apart.better,
        "worse_images": apart.worse,
        "p": apart.p,
        "p_corrected": compared.p,
        "told_apart": compared.told_apart,
        "images_needed": apart.needed,
    }


def _image_json(evaluation: Evaluation, name: str) -> dict[str, Any]:
    variants: dict[str, Any] = {}
    for label, variant in evaluation.variants.items():
        if image := variant.images.get(name):
            values = [] if image.failure is not None else wrong_ones(image.values)
            variants[label] = {
                "wrong": image.wrong,
                "failure": image.failure,
                "values": [_value_json(value) for value in values],
            }
    return {"name": name, "variants": variants}


def _value_json(value: Value) -> dict[str, Any]:
    return {
        "field": value.field,
        "outcome": value.outcome.value,
        "expected": value.expected,
        "given": value.given,
        "why": value.why,
        "similarity": value.similarity,
    }


def agreement(evaluation: Evaluation) -> list[tuple[str, FieldScore]]:
    """The fields of `scores.disagreement`, the ones that two variants agree on least first."""
    (variant,) = evaluation.variants.values()
    return sorted(variant.fields.items(), key=lambda each: each[1].accuracy if each[1].accuracy is not None else 1)
