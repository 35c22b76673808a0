"""The simulated days: several sizes, and days with failures."""

from collections.abc import Mapping
from dataclasses import replace

from bench.simulation.burst import Scenario, Span

HOUR = 3600.0


def days(images: int, seed: int) -> Mapping[str, Scenario]:
    """The days by name. The quota lets a million images a day through; failures are in the middle of the burst.

    Args:
        images: of each, except the one day with a quota for very few.
        seed: of each.
    """
    usual = Scenario(images=images, seed=seed, instances=4)
    middle = images / 1_000_000 * 11 * HOUR
    return {
        "1 instance": replace(usual, instances=1),
        "4 instances": usual,
        "20 instances": replace(usual, instances=20),
        "100 instances": replace(usual, instances=100),
        "quota halved for an hour": replace(usual, halved=Span(middle, middle + HOUR)),
        "model down for half an hour": replace(usual, outage=Span(middle, middle + HOUR / 2)),
        "10 cold instances at once, small quota": replace(
            usual, images=images // 20, instances=10, at_once=10, quota=200_000.0
        ),
        "no rate-limit headers": replace(usual, talkative=False),
    }
