"""The cost of images in tokens: the examples that OpenAI publishes, and what holds for every size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobsight.estimate.image_tokens import RULES, UNKNOWN, Patches, Rule, Tiles, family, image_tokens, rules_of
from blobsight.estimate.prices import price_of
from blobsight.estimate.ranges import Range
from blobsight.estimate.text_tokens import text_tokens
from pipeline.settings import Detail

SIDES = st.integers(1, 20_000)
ANY_RULE = st.sampled_from([rule for rules in RULES.values() for rule in rules])


@pytest.mark.parametrize(
    ("rule", "width", "height", "detail", "tokens"),
    [
        # The guide's examples, "Cost calculation examples".
        (Patches(1536, 1), 1024, 1024, "high", 1024),
        (Patches(1536, 1), 1800, 2400, "high", 1452),
        # The examples of its earlier versions, for gpt-4o.
        (Tiles(85, 170), 1024, 1024, "high", 765),
        (Tiles(85, 170), 2048, 4096, "high", 1105),
        (Tiles(85, 170), 4096, 8192, "low", 85),
        # Azure's example for gpt-4o-mini.
        (Tiles(2833, 5667), 2048, 4096, "high", 36835),
        # Measured by callers: one tile for a small image, and two sides of a patch.
        (Tiles(85, 170), 128, 64, "high", 255),
        (Patches(2500, 1.2), 1600, 1600, "high", 3000),
        # The whole page with original, up to 10,000 patches; with high, 2,500 of them.
        (Patches(2500, 1), 2480, 3508, "original", 78 * 110),
        (Patches(2500, 1), 6400, 6400, "original", 10_000),
        (Patches(2500, 1), 6400, 6400, "high", 2500),
    ],
)
def test_published_examples_of_image_tokens_are_met(
    rule: Rule, width: int, height: int, detail: Detail, tokens: int
) -> None:
    assert rule.tokens(width, height, detail).high == pytest.approx(tokens)


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        ("gpt-5.6-luna", 1024 * 1.2, 1024 * 1.2),
        ("gpt-5.4-mini", 1024 * 1.2, 1024 * 1.62),
        ("gpt-5.4-mini-2026-03-17", 1024 * 1.2, 1024 * 1.62),
        ("gpt-5.1-2025-11-13", 70 + 4 * 140, 70 + 4 * 140),
        ("GPT-4o-2024-08-06", 765, 765),
    ],
)
def test_every_azure_model_has_its_tokens_for_1024_pixels_square(model: str, low: float, high: float) -> None:
    assert image_tokens(1024, 1024, rules_of(model), "auto") == (low, high)


@given(ANY_RULE, SIDES, SIDES)
def test_low_detail_never_costs_more_and_a_turned_image_costs_the_same(rule: Rule, width: int, height: int) -> None:
    low, high = rule.tokens(width, height, "low"), rule.tokens(width, height, "high")
    assert 0 < low.low <= low.high <= high.high
    assert rule.tokens(height, width, "high") == high


@given(st.integers(1024, 10_000), SIDES, SIDES)
def test_patches_stay_within_their_budget(budget: int, width: int, height: int) -> None:
    assert 1 <= Patches(budget, 1).tokens(width, height, "high").high <= budget


@given(ANY_RULE, st.integers(2049, 20_000), st.integers(2049, 20_000))
def test_a_scaled_image_costs_what_its_scaled_size_costs(rule: Rule, width: int, height: int) -> None:
    scale = 2048 / max(width, height)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    assert rule.tokens(width, height, "high") == rule.tokens(*scaled, "high")


def test_a_model_without_rules_costs_between_the_others() -> None:
    assert rules_of("blobsight-local-ocr") == ()
    spread = image_tokens(1024, 1024, UNKNOWN, "high")
    assert spread.low < spread.high
    assert family("gpt-5.4-mini-2026-03-17") == family("gpt-5.4-mini") == "gpt-5.4-mini"


def test_prices_of_the_models_that_infra_deploys_are_known_without_a_network() -> None:
    for model in ("gpt-5.6-luna", "gpt-5.6-luna-2026-07-09", "gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", "gpt-5.1"):
        price = price_of(model)
        assert price
        assert price(1000, 0) > 0
        assert price(0, 1000) > price(1000, 0)  # all of them ask more for output
    assert price_of("blobsight-local-ocr") is None


def test_tokens_of_text_are_estimated() -> None:
    assert [text_tokens(text) for text in ("", "word", "words", "漢字", "naïve")] == [0, 1, 2, 2, 2]


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=50))
def test_a_sample_of_all_leaves_no_doubt_and_a_smaller_one_more(values: list[float]) -> None:
    mean = sum(values) / len(values)
    assert Range.of_mean(values, len(values)) == pytest.approx((mean, mean))
    some, most = Range.of_mean(values, 2 * len(values)), Range.of_mean(values)
    assert most.low <= some.low + 1e-6 <= mean + 2e-6
    assert most.high >= some.high - 1e-6 >= mean - 2e-6
