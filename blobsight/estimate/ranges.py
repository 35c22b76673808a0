"""Numbers that are known only from … to."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

_STANDARD_ERRORS = 2
"""The mean of a sample is within two of them of the real one about 95 times in 100."""


class Range(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Self:
        return cls(value, value)

    @classmethod
    def of_mean(cls, sample: Sequence[float], population: int | None = None) -> Self:
        """Where the mean of all is, when `sample` of them is known; never below zero.

        Args:
            sample: at least one value.
            population: how many there are in all; None for no end of them. A sample of them all leaves no doubt.
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
        """Of two that are not negative."""
        return Range(self.low * other.low, self.high * other.high)
