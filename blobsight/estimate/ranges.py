"""Numbers known only as a range."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

_STANDARD_ERRORS = 2
"""The mean of a sample is within two standard errors of the true mean about 95 times in 100."""


class Range(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Self:
        return cls(value, value)

    @classmethod
    def of_mean(cls, sample: Sequence[float], population: int | None = None) -> Self:
        """The range of the mean of all values, of which a `sample` is known; never below zero.

        Args:
            sample: at least one value.
            population: number of all values; None for unlimited. A sample of all of them leaves no doubt.
        """
        count = len(sample)
        mean = math.fsum(sample) / count
        if count < 2:
            return cls.exactly(mean)
        variance = math.fsum((value - mean) ** 2 for value in sample) / (count - 1)
        unseen = 1.0 if population is None else max(0, population - count) / max(1, population - 1)
        doubt = _STANDARD_ERRORS * math.sqrt(variance / count * unseen)
        return cls(max(0.0, mean - doubt), mean + doubt)

    def scaled(self, by: float) -> "Range":
        return Range(self.low * by, self.high * by)

    def product(self, other: "Range") -> "Range":
        """The product of two ranges that are not negative."""
        return Range(self.low * other.low, self.high * other.high)
