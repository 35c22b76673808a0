"""What a number of images can tell: intervals, tests, and how many would be needed.

Images are independent of each other, the items of one image's list are not: an image out of focus has many wrong at
once. So everything here counts by image, and a field of a list is never surer than its images make it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
"""Of intervals; a difference counts from 1 minus this on."""
POWER = 0.8
"""With `needed` images, a difference as large as the one seen is found in this share of evaluations."""

type Counts = tuple[int, int]
"""Right values and all values of a field in one image."""


def interval(counts: Sequence[Counts], level: float = LEVEL) -> tuple[float, float]:
    """An interval that holds the true accuracy in at least `level` of evaluations; (0, 1) without any values.

    With one value an image it is the exact one of Clopper and Pearson, which never promises too much, with few images
    and at 0 and 1 either. For lists it is that of Korn and Graubard: the number of values is divided by the design
    effect (the variance between images over that of independent values) and corrected for few degrees of freedom.
    The design effect is that of the images and two more, one wholly right and one wholly wrong. Without them few wrong
    images look surer than they are: intervals of 95 % were seen to cover 90 %.
    """
    from scipy.stats import beta  # noqa: PLC0415 - 600 ms that other commands don't need

    counts = [(right, values) for right, values in counts if values]
    total = sum(values for _, values in counts)
    if not total:
        return 0.0, 1.0
    share = sum(right for right, _ in counts) / total
    effective = _effective(counts, level)
    right, beside = effective * share, (1 - level) / 2
    low = beta.ppf(beside, right, effective - right + 1) if right > 0 else 0
    high = beta.ppf(1 - beside, right + 1, effective - right) if right < effective else 1
    return float(low), float(high)


def _effective(counts: Sequence[Counts], level: float) -> float:
    """The number of independent values that tell as much as these do."""
    from scipy.stats import t  # noqa: PLC0415

    images, total = len(counts), sum(values for _, values in counts)
    if total == images:
        return total
    if images == 1:
        return 1
    usual = total / images
    seen = [*counts, (0, usual), (usual, usual)]
    share = _accuracy(seen)
    variance = sum((right - share * values) ** 2 for right, values in seen) / (len(seen) - 1) * len(seen)
    every = total + 2 * usual
    effect = max(1, variance / (every * share * (1 - share)))
    freedom = (t.ppf((1 + level) / 2, total - 1) / t.ppf((1 + level) / 2, images - 1)) ** 2
    return float(total / effect * freedom)


@dataclass(frozen=True, slots=True)
class Difference:
    """The accuracy of a second variant less that of a first, over images that both have answered."""

    images: int
    by: float
    """From -1 to 1, positive where the second is better."""
    better: int
    """Images in which the second has more right."""
    worse: int
    p: float
    """How likely a difference at least as large is where there is none in truth: by chance alone."""
    needed: int | None
    """Images with which a difference of this size is found; None where none was seen."""


def difference(first: Sequence[Counts], second: Sequence[Counts]) -> Difference:
    """Compare two variants on the same images, image by image.

    With one value an image it is McNemar's exact test: only images where one is right and the other is wrong tell
    anything. With lists the two answers of each image are swapped at random: in how many of the swaps are the variants
    at least as far apart? All swaps up to 12 images that differ, otherwise 9,999 of them, always the same.
    """
    pairs = [pair for pair in zip(first, second, strict=True) if pair[0][1] or pair[1][1]]
    scores = [(right_b * of_a, right_a * of_b) for (right_a, of_a), (right_b, of_b) in pairs]
    better, worse = sum(b > a for b, a in scores), sum(b < a for b, a in scores)
    if not pairs:
        return Difference(0, 0.0, 0, 0, 1.0, None)
    by = _accuracy([b for _, b in pairs]) - _accuracy([a for a, _ in pairs])
    single = all(a[1] == b[1] == 1 for a, b in pairs)
    p = _mcnemar(better, worse) if single else _swapped(pairs, by)
    return Difference(len(pairs), by, better, worse, p, _needed(pairs, by))


def _accuracy(counts: Sequence[tuple[float, float]]) -> float:
    values = sum(count for _, count in counts)
    return sum(right for right, _ in counts) / values if values else 0.0


def _mcnemar(better: int, worse: int) -> float:
    from scipy.stats import binomtest  # noqa: PLC0415

    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


_SWAPS = 9_999
_ALL_SWAPS = 12
"""Images up to which all swaps are tried: 4,096."""
_CELLS = 1_000_000
"""Images times swaps in memory at once, 8 bytes each."""


def _swapped(pairs: Sequence[tuple[Counts, Counts]], by: float) -> float:
    import numpy as np  # noqa: PLC0415

    differing = np.array([(*a, *b) for a, b in pairs if a != b], dtype=float)
    if not len(differing):
        return 1.0
    unswapped = np.array([(*a, *b) for a, b in pairs], dtype=float).sum(axis=0)
    moved = differing[:, [2, 3, 0, 1]] - differing
    extreme = tried = 0
    for swaps in _swaps(len(differing)):
        right_a, all_a, right_b, all_b = (unswapped + swaps @ moved).T
        apart = right_b / np.maximum(all_b, 1) - right_a / np.maximum(all_a, 1)
        extreme += int((np.abs(apart) >= abs(by) - 1e-12).sum())
        tried += len(swaps)
    return extreme / tried if len(differing) <= _ALL_SWAPS else (extreme + 1) / (tried + 1)


def _swaps(images: int) -> "Iterator[np.ndarray]":
    """Yield arrays with a row for each swap: 1 for the images whose answers change places."""
    import numpy as np  # noqa: PLC0415

    if images <= _ALL_SWAPS:
        yield ((np.arange(2**images)[:, None] >> np.arange(images)) & 1).astype(float)
        return
    seeded = np.random.default_rng(0)
    at_once = max(1, _CELLS // images)
    for start in range(0, _SWAPS, at_once):
        yield seeded.integers(0, 2, (min(at_once, _SWAPS - start), images), dtype=np.int8).astype(float)


def _needed(pairs: Sequence[tuple[Counts, Counts]], by: float) -> int | None:
    """Images for `POWER` at 1 - `LEVEL`, by the normal approximation for paired differences, and one more discordance.

    The variance is the one seen between images. (With one value an image this is Connor's formula for McNemar's test.)
    """
    from scipy.stats import norm  # noqa: PLC0415

    if abs(by) < 1e-12:
        return None
    images = len(pairs)
    all_a, all_b = (sum(pair[side][1] for pair in pairs) or 1 for side in (0, 1))
    share_a, share_b = (_accuracy([pair[side] for pair in pairs]) for side in (0, 1))
    apart = [
        images * ((b[0] - share_b * b[1]) / all_b - (a[0] - share_a * a[1]) / all_a) + by for a, b in pairs
    ]  # their mean is `by`
    square = sum(each**2 for each in apart) / images
    test, found = norm.ppf((1 + LEVEL) / 2), norm.ppf(POWER)
    count = ((test * sqrt(square) + found * sqrt(max(square - by**2, 0))) / by) ** 2
    return max(ceil(float(count + 2 / abs(by))), 6)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct for the number of comparisons, by Holm: the chance that any of those called a difference is none."""
    corrected = [0.0] * len(ps)
    most = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        most = max(most, min(1.0, ps[index] * (len(ps) - rank)))
        corrected[index] = most
    return corrected
