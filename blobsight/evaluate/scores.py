"""Scores of all images: by variant and field, with the differences between variants.

How a field's numbers come about:

- A field is scored if at least one expected answer has it. What only given answers have is not looked at.
- Outside lists each image with an answer or a failed result counts once, so `n` is the number of images. The value is
  right if it is as expected, also where both sides have nothing; otherwise it is wrong, missing or invented.
- In lists each item counts once, and an invented one as well, so `n` is the number of expected items and of invented
  ones. An image without items on either side does not count.
- The members of an item count like fields of their own; those of a missing or invented item are missing or invented.
- A failed result has no answer: all values that were expected are missing, and a field outside lists counts even where
  nothing was expected. They are counted as `failed`, too.
- An image whose result is not there yet does not count.

`accuracy` is `right / n`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from blobsight.evaluate import chance
from blobsight.evaluate.chance import Counts, Difference
from blobsight.evaluate.comparing import DEFAULT, Outcome, Tolerance, Value, compare
from blobsight.evaluate.shapes import Field, Members, Schema, fields_of, shape_of

PLAIN = "answer"
"""The one field of an answer that is plain text."""
NO_ANSWER = "no answer"
"""Why all values of a failed result are missing."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a variant gave for an image: an answer, or None and the reason if its result is a failed one."""

    answer: Mapping[str, Any] | None
    why: str = ""


def given_of(result: Mapping[str, Any]) -> Given:
    """The answer of a result as `stored_results.parse_result` gives it."""
    answer = result.get("answer")
    if result["status"] != "succeeded" or not answer:
        error = result.get("error") or {}
        return Given(None, f"{error.get('code')}: {error.get('message')}")
    return Given(as_fields(answer.get("data"), answer.get("text")))


def as_fields(data: Any, text: Any) -> dict[str, Any]:
    """An answer as an object: its data, or its text as the field `answer`."""
    if isinstance(data, dict):
        return data
    return {PLAIN: text if data is None else data}


@dataclass(frozen=True, slots=True)
class ImageScore:
    """All values of one image."""

    name: str
    values: tuple[Value, ...]
    failure: str | None = None
    """Why there is no answer."""

    @property
    def counts(self) -> dict[str, Counts]:
        """Right values and all values, by field."""
        counts: dict[str, Counts] = {}
        for value in self.values:
            right, every = counts.get(value.field, (0, 0))
            counts[value.field] = (right + (value.outcome is Outcome.RIGHT), every + 1)
        return counts

    @property
    def wrong(self) -> float:
        """The share of its fields that are wrong, from 0 to 1; a field with several values by the share of those."""
        counts = self.counts.values()
        return sum(1 - right / every for right, every in counts) / len(counts) if counts else 0.0


@dataclass(frozen=True, slots=True)
class FieldScore:
    """The numbers of one field and variant; see the module."""

    field: Field
    by_image: Mapping[str, Counts]
    outcomes: Mapping[Outcome, int]
    absent: int
    """Right values that are absent, as they should be."""
    failed: int
    """Missing values of failed results."""

    @property
    def n(self) -> int:
        return sum(every for _, every in self.by_image.values())

    @property
    def right(self) -> int:
        return self.outcomes.get(Outcome.RIGHT, 0)

    @property
    def accuracy(self) -> float | None:
        """From 0 to 1; None if nothing counts."""
        return self.right / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the true accuracy in at least 95 % of evaluations, if the images are a random sample."""
        return chance.interval(list(self.by_image.values()))


@dataclass(frozen=True, slots=True)
class VariantScore:
    """The scores of one variant."""

    label: str
    images: Mapping[str, ImageScore]
    fields: Mapping[str, FieldScore]

    @property
    def failed(self) -> int:
        return sum(image.failure is not None for image in self.images.values())

    @property
    def all_right(self) -> int:
        """Images without anything wrong."""
        return sum(not image.wrong for image in self.images.values())


@dataclass(frozen=True, slots=True)
class Compared:
    """How two variants differ in a field."""

    field: str
    first: str
    second: str
    difference: Difference
    p: float
    """Corrected for the number of all comparisons of the evaluation (Holm)."""

    @property
    def better(self) -> str:
        """The label of the variant with more right values; of two alike, of the second."""
        return self.first if self.difference.by < 0 else self.second

    @property
    def worse(self) -> str:
        """The label of the other."""
        return self.second if self.difference.by < 0 else self.first

    @property
    def told_apart(self) -> bool:
        return self.p < 1 - chance.LEVEL


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Variants scored on the same expected answers."""

    fields: Sequence[Field]
    expected: int
    """Images with an expected answer."""
    variants: Mapping[str, VariantScore]
    differences: Sequence[Compared] = field(default=())

    def worst(self) -> list[str]:
        """Names of the images with anything wrong, the largest share of wrong fields first, over all variants."""
        shares: defaultdict[str, float] = defaultdict(float)
        for variant in self.variants.values():
            for image in variant.images.values():
                shares[image.name] += image.wrong
        return sorted((name for name, share in shares.items() if share), key=lambda name: (-shares[name], name))


def evaluate(
    expected: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Mapping[str, Given]],
    schema: Schema | None = None,
    tolerance: Tolerance = DEFAULT,
) -> Evaluation:
    """Score variants.

    Args:
        expected: the expected answer by the image's name.
        given: what each variant gave, by its label and the image's name; other images than expected ones are ignored.
        schema: the JSON Schema that was asked for, which says how fields are compared.
        tolerance: how far a value may be off.
    """
    shape = shape_of(list(expected.values()), schema)
    variants = {label: _variant(label, shape, expected, answers, tolerance) for label, answers in given.items()}
    fields = list(fields_of(shape))
    return Evaluation(fields, len(expected), variants, _differences(fields, list(variants.values())))


def disagreement(
    first: tuple[str, Mapping[str, Given]],
    second: tuple[str, Mapping[str, Given]],
    schema: Schema | None = None,
    tolerance: Tolerance = DEFAULT,
) -> Evaluation:
    """Compare what two variants gave, where nothing is expected: the first takes the place of the expected answers.

    The evaluation has one variant, the second: "right" means that both agree, "missing" that only the first has a
    value, "invented" that only the second has. A field is compared if either has it anywhere. An image that failed for
    either is left out: that is neither agreement nor disagreement.
    """
    (_, mine), (label, others) = first, second
    both = {
        name: (each.answer, others[name].answer)
        for name, each in mine.items()
        if name in others and each.answer is not None and others[name].answer is not None
    }
    answers = [answer or {} for pair in both.values() for answer in pair]
    shape = shape_of(answers, schema)
    expected = {name: pair[0] or {} for name, pair in both.items()}
    variant = _variant(label, shape, expected, {name: Given(pair[1]) for name, pair in both.items()}, tolerance)
    return Evaluation(list(fields_of(shape)), len(expected), {label: variant})


def _variant(
    label: str,
    shape: Members,
    expected: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Given],
    tolerance: Tolerance,
) -> VariantScore:
    images = {
        name: _image(name, shape, answer, given[name], tolerance) for name, answer in expected.items() if name in given
    }
    return VariantScore(label, images, _scores(list(fields_of(shape)), list(images.values())))


def _image(name: str, shape: Members, expected: Mapping[str, Any], given: Given, tolerance: Tolerance) -> ImageScore:
    if given.answer is not None:
        return ImageScore(name, tuple(compare(shape, expected, given.answer, tolerance)))
    values = (
        Value(value.field, Outcome.MISSING, value.expected, None, NO_ANSWER, detail=value.detail)
        for value in compare(shape, expected, None, tolerance)
    )
    return ImageScore(name, tuple(values), failure=given.why or NO_ANSWER)


def _scores(fields: Sequence[Field], images: Sequence[ImageScore]) -> dict[str, FieldScore]:
    """The numbers of all fields. Each value is looked at once: a stranger's answers may have thousands of fields."""
    values: dict[str, list[tuple[ImageScore, Value]]] = {each.name: [] for each in fields}
    for image in images:
        for value in image.values:
            values[value.field].append((image, value))
    return {each.name: _score(each, images, values[each.name]) for each in fields}


def _score(scored: Field, images: Sequence[ImageScore], values: Sequence[tuple[ImageScore, Value]]) -> FieldScore:
    outcomes = dict.fromkeys(Outcome, 0)
    by_image: dict[str, Counts] = {image.name: (0, 0) for image in images}
    for image, value in values:
        outcomes[value.outcome] += 1
        right, every = by_image[image.name]
        by_image[image.name] = (right + (value.outcome is Outcome.RIGHT), every + 1)
    absent = sum(value.absent for _, value in values)
    failed = sum(image.failure is not None for image, _ in values)
    return FieldScore(scored, by_image, outcomes, absent, failed)


def _differences(fields: Sequence[Field], variants: Sequence[VariantScore]) -> list[Compared]:
    found = list(_compared(fields, variants))
    corrected = chance.holm([each.p for *_, each in found])
    return [Compared(*each, p) for each, p in zip(found, corrected, strict=True)]


def _compared(fields: Sequence[Field], variants: Sequence[VariantScore]) -> Iterator[tuple[str, str, str, Difference]]:
    for first, second in combinations(variants, 2):
        shared = [name for name in first.images if name in second.images]
        for scored in fields:
            mine, others = (each.fields[scored.name].by_image for each in (first, second))
            pairs = [(mine[name], others[name]) for name in shared]
            apart = chance.difference([one for one, _ in pairs], [other for _, other in pairs])
            yield scored.name, first.label, second.label, apart
