"""The same images by each service tier: what they cost, and how long they are likely to take. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from blobsight.batches.lane import WINDOW
from blobsight.estimate.estimating import Estimate, said
from blobsight.estimate.prices import SHARES
from blobsight.estimate.ranges import Range
from blobsight.terminal import counted, span
from pipeline.batches.shard import MOST_BYTES, MOST_LINES
from pipeline.settings import Settings

TOKENS_PER_MINUTE = 50_000
"""Quota of the deployment that infra/ makes."""
ENQUEUED_TOKENS = 200_000_000
"""The default quota of gpt-5.4-mini for batches.
https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits#batch-limits"""
TOKENS_FOR_A_REQUEST = 1000
"""A deployment has a request a minute for so many tokens a minute, with newer models."""
BASE64 = 4 / 3
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """What the service takes."""

    tokens_per_minute: int = TOKENS_PER_MINUTE
    enqueued_tokens: int = ENQUEUED_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The estimate for one service tier."""

    money: Range | None
    """US dollars; None if the price is not known."""
    low: timedelta
    """The least time that it takes."""
    high: timedelta | None
    """The most; None where nobody can say."""
    time: str
    """The time in words."""
    condition: str
    """A sentence on what the time depends on."""
    more: Mapping[str, int]
    """Further figures, for programs."""

    @property
    def cost(self) -> str:
        return said(self.money) if self.money else "not known"

    def to_json(self) -> dict[str, Any]:
        money = self.money
        return {
            "cost": None if money is None else {"low": round(money.low, 6), "high": round(money.high, 6)},
            "hours": {"low": _hours(self.low), "high": None if self.high is None else _hours(self.high)},
            "if": self.condition,
            **self.more,
        }


def lanes_of(estimate: Estimate, quotas: Quotas, max_output_tokens: int) -> dict[str, Lane]:
    """The lanes by their service tier, from an estimate for the default one."""
    low, high = (_at_once(estimate, tokens, quotas, max_output_tokens) for tokens in estimate.image_tokens)
    return {
        "default": Lane(
            money=estimate.money,
            low=low,
            high=high,
            time=_said(low, high),
            condition=f"the deployment's quota is {quotas.tokens_per_minute:,} tokens a minute and nothing else uses"
            " it: give yours with --tokens-per-minute.",
            more={"tokens_per_minute": quotas.tokens_per_minute},
        ),
        "flex": Lane(
            money=_part(estimate.money, "flex"),
            low=low,
            high=None,
            time="as default while there is capacity; no promise",
            condition="the model takes this tier, from the same quota. While there is no capacity images wait, or are"
            " asked at the default tier and price (tier_fallback).",
            more={},
        ),
        "batch": _batch(estimate, quotas),
    }


def _at_once(estimate: Estimate, image_tokens: float, quotas: Quotas, max_output_tokens: int) -> timedelta:
    """The time at the quota. The service counts each request as if its answer were as long as it may be."""
    tokens = image_tokens + estimate.prompt_tokens + estimate.images * max_output_tokens
    charged = max(tokens, estimate.images * TOKENS_FOR_A_REQUEST)
    return timedelta(minutes=charged / quotas.tokens_per_minute)


def _batch(estimate: Estimate, quotas: Quotas) -> Lane:
    files = max(math.ceil(estimate.size_bytes * BASE64 / MOST_BYTES), math.ceil(estimate.images / MOST_LINES))
    waves = math.ceil((estimate.image_tokens.high + estimate.prompt_tokens) / quotas.enqueued_tokens)
    wait = timedelta(seconds=Settings.model_fields["batch_wait_seconds"].default)
    high = wait + waves * WINDOW
    return Lane(
        money=_part(estimate.money, "batch"),
        low=wait,
        high=high,
        time=f"within {high / _HOUR:,.4g} hours as a rule: {counted(files, 'file')}, {counted(waves, 'wave')}",
        condition="the app has a deployment for batches, and the service keeps to the"
        f" {WINDOW / _HOUR:g} hours that it means to take for each; often it takes fewer, and it may take"
        f" more. A quota of {quotas.enqueued_tokens:,} enqueued tokens takes them in {counted(waves, 'wave')}: give"
        " yours with --enqueued-tokens.",
        more={"files": files, "waves": waves, "enqueued_tokens": quotas.enqueued_tokens},
    )


def _part(money: Range | None, tier: str) -> Range | None:
    return money.scaled(float(SHARES[tier])) if money else None


def _said(low: timedelta, high: timedelta) -> str:
    least, most = _minutes(low), _minutes(high)
    return f"about {most}" if least == most else f"{least} to {most}"


def _minutes(time: timedelta) -> str:
    """As `span`, but rounded up to whole minutes where that says seconds."""
    if time <= timedelta(minutes=1):
        return "a minute"
    return "2 minutes" if time < timedelta(minutes=2) else span(time)


def _hours(time: timedelta) -> float:
    return round(time / _HOUR, 3)
