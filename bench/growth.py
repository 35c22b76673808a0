"""Many events through one instance: time for each, and memory, must not grow with how many there were before.

The real worker against the stand-in. The first events are the baseline of the last ones.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.measure import Row, Say, contender, row
from bench.pictures import jpeg_of
from bench.stand_in import stand_in

NAME = "growth"
IMAGE_BYTES = 20_000
"""Small: it is the events that count here."""
STAGES = (1_000, 9_000)
LONG_STAGES = (1_000, 9_000, 40_000)
"""About ten minutes."""
QUICK_STAGES = (50, 100)
AT_MOST = 1.1
"""Of what the first events took."""


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: ARG001, FBT001 - the interface of all benchmarks
    """Measure once, without `repeats`: its many events are repetitions enough.

    Raises:
        ContenderError: the worker did not do its work.
    """
    return asyncio.run(_run(QUICK_STAGES if quick else STAGES, say))


def run_long(say: Say) -> list[Row]:
    """With 50,000 events. Raises as `run`."""
    return asyncio.run(_run(LONG_STAGES, say))


async def _run(stages: Sequence[int], say: Say) -> list[Row]:
    say(f"{sum(stages):,} events through one worker")
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        async with stand_in(Path(directory), jpeg_of(IMAGE_BYTES)) as services:
            task = {"prefix": "growth", "stages": stages}
            measured = await asyncio.to_thread(contender, "bench.worker_loop", task, services.settings)
    first, *later = measured["stages"]
    so_far = list(accumulate(stages))
    rows = []
    for stage, events in zip(later, so_far[1:], strict=True):
        rows += _rows(f"up to {events:,} events", stage, first, f"the first {stages[0]:,}")
    return rows


def _rows(case: str, stage: Mapping[str, Any], first: Mapping[str, Any], baseline_name: str) -> list[Row]:
    def each(key: str, factor: float) -> tuple[list[float], list[float]]:
        return tuple([factor * one[key] / one["images"]] for one in (stage, first))  # type: ignore[return-value]

    return [
        # No target: here the two can't take turns, so other load on the machine may affect only one of them.
        row(NAME, case, "ms/event", *each("wall", 1e3), baseline_name=baseline_name),
        row(NAME, case, "ms CPU/event", *each("cpu", 1e3), baseline_name=baseline_name, at_most=AT_MOST),
        row(
            NAME, case, "MB held", [stage["rss"] / 1e6], [first["rss"] / 1e6],
            baseline_name=f"after {baseline_name}", at_most=AT_MOST,
        ),
    ]  # fmt: skip
