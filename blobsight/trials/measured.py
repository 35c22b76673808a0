"""What a variant's answers cost and how long they took. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median
from typing import Any

from blobsight.estimate.prices import Price, price_of
from blobsight.terminal import Unknown
from blobsight.trials.models import Models

type Given = Mapping[str, Any] | Unknown | None
"""A result, why it can't be read, or None where there is none yet."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One variant over all images. What is a number is None where no result says it."""

    images: int
    answered: int
    failed: Mapping[str, int]
    """How many failed, by error code."""
    input_tokens: float | None
    """Mean of what was paid."""
    output_tokens: float | None
    usd_per_1000: float | None
    """US dollars for 1,000 such images, failed ones included; None where a price is not known."""
    median_ms: float | None
    """Milliseconds that the model took, or the whole work where that is not said."""
    p90_ms: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "answered": self.answered,
            "failed": dict(self.failed),
            "input_tokens": _rounded(self.input_tokens, 1),
            "output_tokens": _rounded(self.output_tokens, 1),
            "usd_per_1000": _rounded(self.usd_per_1000, 6),
            "median_ms": _rounded(self.median_ms, 1),
            "p90_ms": _rounded(self.p90_ms, 1),
        }


def measured(results: Sequence[Given], tier: str, models: Models) -> Measured:
    """Sum up the results of one variant.

    Args:
        results: one for each image.
        tier: the service tier that was asked for, for results that don't say theirs.
        models: those that a person names; otherwise the one that each result names.
    """
    there = [result for result in results if isinstance(result, Mapping)]
    usages = [usage for result in there if (usage := _of(result, "usage")).get("input_tokens") is not None]
    times = sorted(time for result in there if (time := _milliseconds(result)) is not None)
    return Measured(
        images=len(results),
        answered=len(there),
        failed=Counter(str(_of(result, "error").get("code")) for result in there if result["status"] == "failed"),
        input_tokens=fmean(usage["input_tokens"] for usage in usages) if usages else None,
        output_tokens=fmean(usage.get("output_tokens") or 0 for usage in usages) if usages else None,
        usd_per_1000=_usd_per_1000(there, tier, models),
        median_ms=median(times) if times else None,
        p90_ms=times[math.ceil(0.9 * len(times)) - 1] if times else None,
    )


def _usd_per_1000(results: Sequence[Mapping[str, Any]], tier: str, models: Models) -> float | None:
    total = 0.0
    for result in results:
        usage, used = _of(result, "usage"), _of(result, "model")
        if usage.get("input_tokens") is None:
            continue
        model = models.answering(used.get("deployment")) or used.get("model") or ""
        price = _price(model, used.get("service_tier") or tier)
        if price is None:
            return None
        total += float(price(usage["input_tokens"], usage.get("output_tokens") or 0))
    return 1000 * total / len(results) if results else None


@cache
def _price(model: str, tier: str) -> Price | None:
    return price_of(model, tier) if model else None


def _milliseconds(result: Mapping[str, Any]) -> int | None:
    times = _of(result, "timings_ms")
    time = times.get("model")
    found: int | None = times.get("total") if time is None else time
    return found


def _of(result: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    return result.get(section) or {}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
