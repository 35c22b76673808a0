"""Intervals cover the truth as often as they say, false alarms are as rare, and the stated number of images suffices.

Everything is drawn from a seed: these are proofs, not coin tosses.
"""

import re

import numpy as np
import pytest
from support.examples import some_of
from support.person import ROOT

from blobsight.evaluate.chance import Counts, difference, holm, interval

pytestmark = pytest.mark.no_cover


def single(right: int, of: int) -> list[Counts]:
    """A field outside lists: one value an image."""
    return [(1, 1)] * right + [(0, 1)] * (of - right)


def test_an_interval_of_ten_right_ones_of_ten_is_not_a_point() -> None:
    low, high = interval(single(10, 10))
    assert low == pytest.approx(0.692, abs=0.001)
    assert high == 1
    assert interval([]) == interval([(0, 0)]) == (0, 1)
    assert interval(single(0, 10)) == pytest.approx((0, 1 - low))


def test_the_documented_intervals_are_these() -> None:
    page = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d.]+) – ([\d.]+) \|$", page, re.MULTILINE)  # noqa: RUF001
    assert len(rows) == 5
    for right, images, *bounds in rows:
        shares = interval(single(int(right), int(images.replace(",", ""))))
        assert bounds == [f"{share * 100:.1f}" for share in shares]


@pytest.mark.parametrize("images", [1, 5, 20, 100])
@pytest.mark.parametrize("truth", [0.02, 0.5, 0.9, 0.99])
def test_an_interval_covers_the_truth_as_often_as_it_says(images: int, truth: float) -> None:
    """Exactly: over all that can happen, with how likely it is."""
    from scipy.stats import binom  # noqa: PLC0415 - nothing to load while tests are collected

    covering = [
        right
        for right in range(images + 1)
        if interval(single(right, images))[0] <= truth <= interval(single(right, images))[1]
    ]
    assert binom.pmf(covering, images, truth).sum() >= 0.95


def clustered(seeded: np.random.Generator, images: int, truth: float, alike: float) -> list[Counts]:
    """A field of a list: one to about ten items an image, whose chances are alike (the intraclass correlation)."""
    sizes = 1 + seeded.poisson(4, images)
    chances = seeded.beta(truth * (1 - alike) / alike, (1 - truth) * (1 - alike) / alike, images)
    return list(zip(seeded.binomial(sizes, chances).tolist(), sizes.tolist(), strict=True))


CASES = [(20, 0.9, 0.5), (10, 0.5, 0.3), (50, 0.97, 0.5), (100, 0.8, 0.05), (100, 0.9, 0.7)]


@pytest.mark.parametrize(("images", "truth", "alike"), some_of(CASES))
def test_an_interval_of_a_list_s_items_knows_that_they_hang_together(images: int, truth: float, alike: float) -> None:
    seeded = np.random.default_rng(1)
    rounds = 400
    honest = naive = 0
    for _ in range(rounds):
        counts = clustered(seeded, images, truth, alike)
        low, high = interval(counts)
        honest += low <= truth <= high
        low, high = interval(single(sum(right for right, _ in counts), sum(items for _, items in counts)))
        naive += low <= truth <= high
    assert honest / rounds >= 0.95 - 2 * (0.95 * 0.05 / rounds) ** 0.5
    if alike >= 0.3:  # as if the items were independent: what the design effect is for
        assert naive / rounds < 0.9


def test_one_image_with_many_items_is_one_image() -> None:
    low, high = interval([(40, 40)])
    assert (low, high) == interval(single(1, 1))
    assert high - low > 0.9


def two_variants(
    seeded: np.random.Generator, images: int, first: float, second: float
) -> tuple[list[Counts], list[Counts]]:
    """Two variants that find the same images hard; `first` and `second` are their accuracies."""
    sizes = 1 + seeded.poisson(4, images)
    hard = np.clip(seeded.normal(0, 0.15, images), -0.15, 0.15)
    both = (seeded.binomial(sizes, np.clip(accuracy + hard, 0, 1)).tolist() for accuracy in (first, second))
    one, other = (list(zip(right, sizes.tolist(), strict=True)) for right in both)
    return one, other


def test_the_test_of_lists_raises_no_more_false_alarms_than_its_level() -> None:
    seeded = np.random.default_rng(2)
    alarms = sum(difference(*two_variants(seeded, 25, 0.8, 0.8)).p < 0.05 for _ in range(200))
    assert alarms / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_two_variants_with_a_known_difference_are_told_apart_at_the_stated_number_of_images() -> None:
    seeded = np.random.default_rng(3)
    needed = difference(*two_variants(seeded, 2000, 0.75, 0.82)).needed
    assert needed is not None
    assert 50 < needed < 300
    found = sum(difference(*two_variants(seeded, needed, 0.75, 0.82)).p < 0.05 for _ in range(100))
    assert found / 100 >= 0.72  # 0.8, less two standard errors


def mcnemar_power(images: int, better: float, worse: float) -> float:
    """The exact share of evaluations in which McNemar's test at 5 % finds the difference."""
    from scipy.stats import binom, binomtest  # noqa: PLC0415

    power = 0.0
    for count in range(1, images + 1):
        wins = np.arange(count + 1)
        lost = int(binom.ppf(0.025, count, 0.5))
        most = lost - 1 if binomtest(lost, count).pvalue >= 0.05 else lost
        found = binom.pmf(wins[(wins <= most) | (wins >= count - most)], count, better / (better + worse)).sum()
        power += binom.pmf(count, images, better + worse) * found
    return power


@pytest.mark.parametrize(("better", "worse"), [(100, 0), (100, 20), (200, 100), (50, 10), (400, 50)])
def test_the_stated_number_of_images_has_the_stated_power(better: int, worse: int) -> None:
    """Per 1,000 images: the second variant alone is right, the first alone is."""
    same = 1000 - better - worse
    first = [(0, 1)] * better + [(1, 1)] * (worse + same)
    second = [(1, 1)] * better + [(0, 1)] * worse + [(1, 1)] * same
    needed = difference(first, second).needed
    assert needed is not None
    assert 0.8 <= mcnemar_power(needed, better / 1000, worse / 1000) <= 0.95


def test_one_value_an_image_is_mcnemars_exact_test() -> None:
    first, second = [(0, 1)] * 7 + [(1, 1)] * 93, [(1, 1)] * 6 + [(0, 1)] * 2 + [(1, 1)] * 92
    found = difference(first, second)
    assert (found.better, found.worse, found.images) == (6, 1, 100)
    assert found.by == pytest.approx(0.05)
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)


def test_swapping_is_mcnemars_test_where_both_apply() -> None:
    """Each image twice the same item: the swaps are the same ones."""
    first, second = [(0, 1)] * 7 + [(1, 1)] * 3, [(1, 1)] * 6 + [(0, 1)] + [(1, 1)] * 2 + [(0, 1)]
    twice = [[(2 * right, 2) for right, _ in each] for each in (first, second)]
    assert difference(*twice).p == pytest.approx(difference(first, second).p)


def test_what_is_the_same_is_no_difference() -> None:
    same = clustered(np.random.default_rng(4), 50, 0.8, 0.3)
    found = difference(same, same)
    assert (found.by, found.better, found.worse, found.p, found.needed) == (0, 0, 0, 1, None)
    assert difference([], []).p == 1
    assert difference([(0, 0)], [(0, 0)]).images == 0


def test_the_order_of_variants_changes_only_the_sign() -> None:
    first, second = two_variants(np.random.default_rng(5), 40, 0.7, 0.85)
    there, back = difference(first, second), difference(second, first)
    assert (there.by, there.better, there.worse, there.p) == (-back.by, back.worse, back.better, back.p)
    assert there.needed == back.needed


def test_holm_by_his_own_rule() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1, 1]
    assert holm([]) == []


def test_chance_is_never_nothing_where_not_all_swaps_are_tried() -> None:
    found = difference([(0, 2)] * 60, [(2, 2)] * 60)
    assert found.p == pytest.approx(1 / 10_000)
