"""One question about one image, from the prepared bytes to the reply, over TLS.

Each way asks from a fresh process, so processor time and memory are its own; the model (`bench.quick_model`) and the
identity endpoint are in other processes. All combinations of sizes, concurrency and latency would take half an hour and
say little more. So processor time per image is measured for three sizes one at a time, where it is the limit, and for
1 MB with more at once; images a second where waiting for the model is the limit; memory and the event loop's lateness
with the most concurrent images that we promise anything for. The tutorial's way is measured only with 1 MB and 100 KB,
as its rows differ little.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.measure import Row, Say, contender, in_turns, row
from bench.quick_model import quick_model
from localcloud.certificates import Certificates
from localcloud.identity import IdentityEndpoint

NAME = "model_leg"
KB, MB = 1000, 1_000_000
MEMORY = 512 * 1024 * 1024
"""The default of IMAGE_MEMORY_BYTES."""
LATE = 0.05
"""Seconds that the event loop may be late."""

type Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Bench:
    repeats: int
    say: Say
    models: Mapping[float, str]
    """Their addresses, by latency in seconds."""
    environment: Mapping[str, str]

    def measure(self, *ways: str, size: int, at_once: int, rounds: int, latency: float = 0) -> dict[str, list[Figures]]:
        """The measurements of each way, repeat by repeat."""
        self.say(f"{size // KB:,} KB, {at_once} at once, a model that takes {latency:g} s")
        task = {
            "url": self.models[latency],
            "size": size,
            "at_once": at_once,
            "rounds": rounds,
            # The governor begins with few calls, and allows one more with each success. Measuring begins when all
            # connections are open: a burst of TLS handshakes keeps the loop busy for longer than anything after it.
            "warm_up": 3 if at_once > 1 else 5,
            "memory": MEMORY,
        }
        contenders: dict[str, Callable[[], Figures]] = {
            way: partial(contender, "bench.asking", task | {"way": way}, self.environment) for way in ways
        }
        return in_turns(self.repeats, **contenders)


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - every benchmark's signature
    """See `bench.measure`."""
    return asyncio.run(_run(repeats, say, _some if quick else _all))


async def _run(repeats: int, say: Say, measure: Callable[[_Bench], list[Row]]) -> list[Row]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificates = Certificates.load_or_create(directory)
        models = {latency: stack.enter_context(quick_model(certificates, latency)) for latency in (0.0, 1.0)}
        async with IdentityEndpoint() as identity:
            environment = {
                **identity.environment(),
                "AZURE_CLIENT_ID": identity.client_id,
                "SSL_CERT_FILE": str(certificates.bundle),
                "REQUESTS_CA_BUNDLE": str(certificates.bundle),
            }
            return await asyncio.to_thread(measure, _Bench(repeats, say, models, environment))


def _all(bench: _Bench) -> list[Row]:
    return [
        *_one_at_a_time(bench, 100 * KB, "floor", "sliced", "shared", "tutorial", rounds=400),
        *_one_at_a_time(bench, MB, "floor", "sliced", "shared", "tutorial", rounds=300),
        *_one_at_a_time(bench, 8 * MB, "floor", "sliced", "shared", rounds=60),
        *_at_once(bench, 16, rounds=30),
        *_at_once(bench, 64, rounds=8),
        *_at_once(bench, 256, rounds=3),
        *_waiting(bench, "floor", at_once=64),
        *_waiting(bench, "floor", "shared", at_once=256, promised=True),
        *_bounded(bench, 256),
    ]


def _some(bench: _Bench) -> list[Row]:
    return [
        *_one_at_a_time(bench, MB, "floor", "tutorial", rounds=20),
        *_waiting(bench, "floor", at_once=16, promised=True),
        *_bounded(bench, 40),
    ]


def _one_at_a_time(bench: _Bench, size: int, *others: str, rounds: int) -> list[Row]:
    case = f"{size // KB:,} KB, one at a time"
    targets = {"floor": 1.4, "tutorial": 1 / 9} if size == MB else {}
    took = bench.measure("ours", *others, size=size, at_once=1, rounds=rounds)
    rows = [_row(case, "cpu", took, other, at_most=targets.get(other)) for other in others]
    if size == MB:
        rows += [_row(case, "wall", took, other) for other in ("floor", "tutorial")]
    return rows


def _at_once(bench: _Bench, at_once: int, rounds: int) -> list[Row]:
    took = bench.measure("ours", "floor", size=MB, at_once=at_once, rounds=rounds)
    return [_row(f"1,000 KB, {at_once} at once", "cpu", took, "floor")]


def _waiting(bench: _Bench, *others: str, at_once: int, promised: bool = False) -> list[Row]:
    """Measure with a model that takes a second. `promised` is the most concurrent images that have a target."""
    took = bench.measure("ours", *others, size=MB, at_once=at_once, rounds=4, latency=1)
    case = f"1,000 KB, {at_once} at once, 1 s"
    rates = {way: [1 / each["wall"] for each in took[way]] for way in took}
    rows = [
        row(
            NAME,
            case,
            "images/s",
            rates["ours"],
            rates[other],
            baseline_name=other,
            at_least=0.9 if promised and other == "floor" else None,
            higher_is_better=True,
        )
        for other in others
    ]
    if promised:
        peaks = [each["peak"] / MB for each in took["ours"]]
        held = [float(at_once)] * bench.repeats
        late, busy = ([each[what] * 1000 for each in took["ours"]] for what in ("late", "busy"))
        theirs = [each["late"] * 1000 for each in took["floor"]]
        allowed = [LATE * 1000] * bench.repeats
        rows += [
            row(NAME, case, "MB above idle", peaks, held, baseline_name="the images' bytes", at_most=1.5),
            *(_row(case, "peak", took, other) for other in others),
            row(NAME, case, "ms late, p99.9", late, allowed, baseline_name="what is allowed", at_most=1),
            row(NAME, case, "ms busy, p99.9", busy, allowed, baseline_name="what is allowed"),
            row(NAME, case, "ms late, p99.9", late, theirs, baseline_name="floor"),
        ]
    return rows


def _bounded(bench: _Bench, at_once: int) -> list[Row]:
    took = bench.measure("bounded", size=8 * MB, at_once=at_once, rounds=1)
    peaks = [each["peak"] / MB for each in took["bounded"]]
    setting = [MEMORY / MB] * bench.repeats
    case = f"8,000 KB, {at_once} at once"
    return [row(NAME, case, "MB above idle", peaks, setting, baseline_name="IMAGE_MEMORY_BYTES", at_most=1.5)]


def _row(case: str, what: str, took: Mapping[str, list[Figures]], other: str, at_most: float | None = None) -> Row:
    unit, factor = {"cpu": ("ms CPU", 1000), "wall": ("ms", 1000), "peak": ("MB above idle", 1 / MB)}[what]
    ours, baseline = ([each[what] * factor for each in took[way]] for way in ("ours", other))
    return row(NAME, case, unit, ours, baseline, baseline_name=other, at_most=at_most)
