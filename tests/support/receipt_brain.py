"""A model for the receipts of samples/make_receipts.py: it knows their truth, and errs as often as it is told to."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

from localcloud.model import CannotAnswerError, Question

type Outcome = Literal["right", "wrong", "missing", "invented"]
type Outcomes = dict[str, Counter[Outcome]]
"""How many values of each field came out how."""

FIELDS = ("vendor", "date", "currency", "total")
MEMBERS = ("description", "quantity", "amount")


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares, from 0 to 1, of a field's values. Those of `lines` are of its items.

    Attributes:
        wrong: another value, clearly; of the printed ones.
        missing: none; of the printed ones.
        invented: a value where none is printed; of `lines`: an item too many, of all receipts.
        restated: the same value in another form, where the schema allows one; of the printed ones.
    """

    wrong: float = 0
    missing: float = 0
    invented: float = 0
    restated: float = 0


@dataclass(slots=True)
class ReceiptBrain:
    """Answers with the truth, but for faults. Each is decided by the deployment, the image and the field alone.

    Attributes:
        truths: by the SHA-256 of the image.
        rates: by deployment and field: `vendor`, `date`, `currency`, `total`, `lines`, `lines.description`,
            `lines.quantity`, `lines.amount`. An item has one fault at most.
    """

    truths: Mapping[str, Mapping[str, Any]]
    rates: Mapping[str, Mapping[str, Rates]]
    seed: int = 1

    @classmethod
    def of(cls, folder: Path, rates: Mapping[str, Mapping[str, Rates]], seed: int = 1) -> Self:
        """For the images in `folder` that have an .expected.json beside them."""
        truths = {}
        for path in folder.glob("*.expected.json"):
            image = path.with_name(path.name.removesuffix(".expected.json"))
            truths[sha256(image.read_bytes()).hexdigest()] = json.loads(path.read_text(encoding="utf-8"))
        return cls(truths, rates, seed)

    def answer(self, question: Question) -> str:
        (picture,) = question.pictures
        if picture.sha256 not in self.truths:
            raise CannotAnswerError("This is none of the receipts.")
        return json.dumps(self.given(question.deployment, picture.sha256, question.schema), ensure_ascii=False)

    def given(self, deployment: str, image: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a deployment answers about the image with this SHA-256."""
        return self._reading(deployment, image, schema).answer

    def outcomes(self, deployment: str) -> Outcomes:
        """How the values of all images come out: as the brain's answers are, not as anything measured them.

        A value that is neither printed nor given is right. In `lines`, items count, and their members count like
        fields; those of a missing or invented item are missing or invented, if it has them.
        """
        total: Outcomes = defaultdict(Counter)
        for image in self.truths:
            for name, counts in self._reading(deployment, image, None).outcomes.items():
                total[name] += counts
        return dict(total)

    def accuracy(self, deployment: str) -> dict[str, float]:
        """By field, the share of values that are right."""
        return {name: counts["right"] / counts.total() for name, counts in self.outcomes(deployment).items()}

    def _reading(self, deployment: str, image: str, schema: Mapping[str, Any] | None) -> "_Reading":
        rates = self.rates.get(deployment, {})
        return _Reading(self.truths[image], rates, schema or {}, f"{self.seed}/{deployment}/{image}")


@dataclass(slots=True)
class _Reading:
    """One image as one deployment reads it."""

    truth: Mapping[str, Any]
    rates: Mapping[str, Rates]
    schema: Mapping[str, Any]
    key: str
    answer: dict[str, Any] = field(init=False)
    outcomes: Outcomes = field(init=False, default_factory=lambda: defaultdict(Counter))

    def __post_init__(self) -> None:
        properties = self.schema.get("properties", {})
        self.answer = {}
        for name in FIELDS:
            outcome, value = self._value(name, name, self.truth.get(name), properties.get(name, {}))
            self.outcomes[name][outcome] += 1
            self._put(self.answer, name, value, properties.get(name, {}))
        of_items = properties.get("lines", {}).get("items", {}).get("properties", {})
        self.answer["lines"] = list(self._lines(of_items))

    def _draw(self, what: str) -> float:
        """A number from 0 to 1 that depends on nothing but the seed, the deployment, the image and `what`."""
        return int.from_bytes(sha256(f"{self.key}/{what}".encode()).digest()[:8]) / 2**64

    def _value(self, name: str, at: str, truth: Any, schema: Mapping[str, Any]) -> tuple[Outcome, Any]:
        """What is given for the field `name`, at the place `at`, and how that came out."""
        rates, drawn = self.rates.get(name, Rates()), self._draw(at)
        if truth is None:
            return ("invented", self._another(name, None)) if drawn < rates.invented else ("right", None)
        if drawn < rates.missing:
            return "missing", None
        if drawn < rates.missing + rates.wrong:
            return "wrong", self._another(name, truth)
        restate = drawn < rates.missing + rates.wrong + rates.restated
        return "right", _restated(name, truth, self.truth, schema) if restate else truth

    def _lines(self, schemas: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        rates = self.rates.get("lines", Rates())
        for index, line in enumerate(self.truth["lines"]):
            if self._draw(f"lines/{index}") < rates.missing:
                self._count_item("missing", line)
                continue
            given: dict[str, Any] = {}
            whole: Outcome = "right"
            for member in MEMBERS:
                outcome: Outcome = "right"
                value = line.get(member)
                if whole == "right":
                    name = f"lines.{member}"
                    outcome, value = self._value(name, f"{name}/{index}", value, schemas.get(member, {}))
                    whole = "right" if outcome == "right" else "wrong"
                self.outcomes[f"lines.{member}"][outcome] += 1
                self._put(given, member, value, schemas.get(member, {}))
            self.outcomes["lines"][whole] += 1
            yield given
        if self._draw("lines/more") < rates.invented:
            invented: dict[str, Any] = {"description": "zzz 000", "amount": 98765.43}
            self._count_item("invented", invented)
            yield invented | ({"quantity": None} if "quantity" in schemas else {})

    def _count_item(self, outcome: Outcome, item: Mapping[str, Any]) -> None:
        self.outcomes["lines"][outcome] += 1
        for member in item:
            self.outcomes[f"lines.{member}"][outcome] += 1

    @staticmethod
    def _put(into: dict[str, Any], name: str, value: Any, schema: Mapping[str, Any]) -> None:
        """Set a value; None as the schema has what is not there: null, an empty text, or left out without a schema."""
        types = _types(schema)
        if value is not None or "null" in types:
            into[name] = value
        elif "string" in types:
            into[name] = ""
        elif types:
            raise ValueError(f"The schema requires a {name}: it can't be missing.")

    def _another(self, name: str, truth: Any) -> Any:
        """Another value for a field than `truth`, not alike."""
        match name:
            case "date":
                return (date.fromisoformat(truth or "2001-01-01") + timedelta(days=400)).isoformat()
            case "currency":
                return "XAU"
            case "vendor":
                return "Qwxyz 7"
            case "lines.description":
                return "Jkvbq 9"
            case _:
                return (truth or 0) + 1000


def _restated(name: str, value: Any, receipt: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The same value as a person might write it, if the schema allows that."""
    free = "string" in _types(schema) and "Constraints" not in schema.get("description", "") and "format" not in schema
    match name:
        case "vendor" | "lines.description":
            return value.upper()
        case "date" if free:
            return f"{(day := date.fromisoformat(value)).day} {day:%B %Y}"
        case "total" | "lines.amount" if free:
            return f"{value:.2f} {receipt['currency']}".replace(".", ",")
        case _:
            return value


def _types(schema: Mapping[str, Any]) -> set[str]:
    types = schema.get("type", [])
    return set(types) if isinstance(types, list) else {types}
