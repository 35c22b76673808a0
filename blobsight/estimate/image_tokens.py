"""The tokens of an image, by the rules that OpenAI publishes.

Source: https://developers.openai.com/api/docs/guides/images-vision, "Model sizing behavior" and "Calculating costs".
Azure serves the same models. Two kinds of rule:

patches  the image is covered with squares of 32 px, after scaling it down if it would need more than a budget of
         them, which is 10,000 with detail `original`; each square costs one token, times a factor of the model.
tiles    the image is scaled down to 2,048 px on the longer and 768 px on the shorter side; each square of 512 px
        costs a number of tokens, and the image a few more.

Where callers have measured other numbers than those published, the model has both rules, and the estimate is the range
between them. The measurements:
https://community.openai.com/t/introducing-gpt-5-4-mini-and-nano-our-most-capable-small-models-yet/1377015
https://community.openai.com/t/gpt-5-mini-image-input-token-calculation-discrepancy-with-official-faq-formula/1344040
https://community.openai.com/t/api-ai-computer-vision-pricing-models-compared-visually/1372291
https://community.openai.com/t/vision-more-than-one-way-to-send-a-request-undocumented-and-different-pricing-realized/1262691
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from blobsight.estimate.ranges import Range
from pipeline.images.resolution import ORIGINAL, STANDARD, Resolution, patches, within
from pipeline.settings import Detail

_TILE = 512
_TILES_SHORTER_SIDE = 768
_LOW = Resolution(512)


@dataclass(frozen=True, slots=True)
class Patches:
    """`budget` patches at most, each `factor` tokens."""

    budget: int
    factor: float
    auto_budget: int | None = None
    """Budget with `detail: auto`, where it differs from high."""

    def tokens(self, width: int, height: int, detail: Detail) -> Range:
        """Tokens of an image of this size."""
        if detail == "original":
            return Range.exactly(patches(*ORIGINAL.fitted(width, height)) * self.factor)
        budget = (self.auto_budget if detail == "auto" else None) or self.budget
        full = _covered(*STANDARD.fitted(width, height), budget) * self.factor
        # Published: the model gets it at 512 px. Measured: no difference from high.
        low = _covered(*_LOW.fitted(width, height), budget) * self.factor if detail == "low" else full
        return Range(low, full)


@dataclass(frozen=True, slots=True)
class Tiles:
    """`base` tokens for the image, `tile` tokens for each tile unless the detail is low."""

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: Detail) -> Range:
        """Tokens of an image of this size. `auto` counts as high, the most it can cost; so does `original`, which no
        such model takes.
        """
        if detail == "low":
            return Range.exactly(self.base)
        width, height = STANDARD.fitted(width, height)
        # Small images are not enlarged: 128 x 64 px were billed as one tile (the last of the threads above).
        scale = min(1.0, _TILES_SHORTER_SIDE / min(width, height))
        tiles = math.ceil(round(width * scale) / _TILE) * math.ceil(round(height * scale) / _TILE)
        return Range.exactly(self.base + tiles * self.tile)


type Rule = Patches | Tiles

_GPT_4O = (Tiles(85, 170),)
_GPT_5 = (Tiles(70, 140),)
_O_SERIES = (Tiles(75, 150),)
# No factor is published for these; 1.2 was measured.
_SMALL_BUDGET = (Patches(1536, 1), Patches(1536, 1.2))
_LARGE_BUDGET = (Patches(2500, 1), Patches(2500, 1.2))
_NEWEST = (Patches(2500, 1.2), Patches(2500, 1.2, auto_budget=10_000))

RULES: Mapping[str, tuple[Rule, ...]] = {
    # The factor of the three is published (October 2026); their budget is that of the models before them.
    "gpt-5.6-sol": _NEWEST,
    "gpt-5.6-terra": _NEWEST,
    "gpt-5.6-luna": _NEWEST,
    "gpt-5.5": (Patches(2500, 1, auto_budget=10_000), Patches(2500, 1.2, auto_budget=10_000)),
    "gpt-5.4": _LARGE_BUDGET,
    "gpt-5.4-mini": (Patches(1536, 1.62), Patches(2500, 1.2)),
    "gpt-5.4-nano": (Patches(1536, 2.46), Patches(2500, 1.2)),
    "gpt-5.3-codex": _SMALL_BUDGET,
    "gpt-5.2": _SMALL_BUDGET,
    "gpt-5.2-chat": _SMALL_BUDGET,
    "gpt-5.2-codex": _SMALL_BUDGET,
    # The published table names gpt-5 and not gpt-5.1, nor is that among the models with patches.
    "gpt-5.1": _GPT_5,
    "gpt-5.1-chat": _GPT_5,
    "gpt-5.1-codex-mini": _SMALL_BUDGET,
    "gpt-5": _GPT_5,
    "gpt-5-chat": _GPT_5,
    "gpt-5-mini": (Patches(1536, 1.62), Patches(1536, 1.2)),
    "gpt-5-nano": (Patches(1536, 2.46), Patches(1536, 1.5)),
    "gpt-4.1": _GPT_4O,
    "gpt-4.1-mini": (Patches(1536, 1.62),),
    "gpt-4.1-nano": (Patches(1536, 2.46),),
    "gpt-4o": _GPT_4O,
    "gpt-4o-mini": (Tiles(2833, 5667),),
    "o1": _O_SERIES,
    "o3": _O_SERIES,
    "o4-mini": (Patches(1536, 1.72),),
}
"""By model: the published rule, then what was measured where that differs."""

UNKNOWN: tuple[Rule, ...] = (*_GPT_5, Patches(1536, 2.46))
"""For a model without a known rule: from about the cheapest to about the most expensive of the others."""

_VERSION = re.compile(r"-(\d{4}-\d{2}-\d{2}|latest)$")


def family(model: str) -> str:
    """`model` without its version: gpt-5.4-mini for gpt-5.4-mini-2026-03-17."""
    return _VERSION.sub("", model.strip().lower())


def rules_of(model: str) -> tuple[Rule, ...]:
    """The rules for `model`, with or without its version; empty if we know none."""
    return RULES.get(family(model), ())


def image_tokens(width: int, height: int, rules: tuple[Rule, ...], detail: Detail) -> Range:
    """Tokens of an image of `width` x `height` pixels, after the pipeline has scaled it to what the model sees."""
    ranges = [rule.tokens(width, height, detail) for rule in rules]
    return Range(min(each.low for each in ranges), max(each.high for each in ranges))


def _covered(width: int, height: int, budget: int) -> int:
    """Patches that cover the image, scaled down to `budget` of them."""
    return min(patches(*within(budget, width, height)), budget)
