"""The governor's state as gauges, by lane."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from opentelemetry.metrics import CallbackOptions, Observation

from pipeline.pacing.governor import Governor, GovernorState
from pipeline.telemetry import meter

_GAUGES: tuple[tuple[str, str, str, Callable[[GovernorState], float | None]], ...] = (
    ("limit", "{call}", "Calls that may be in flight.", lambda state: state.limit),
    ("in_flight", "{call}", "Calls in flight.", lambda state: state.in_flight),
    ("waiting", "{call}", "Calls that wait for their turn.", lambda state: state.waiting),
    ("pace", "{token}/s", "Pace of calls; none until the service throttles.", lambda state: state.pace),
    ("paused", "s", "How long calls still wait because the service throttles.", lambda state: state.paused_for),
)


def watch(governor: Governor) -> None:
    """Report the state of `governor` from now on, by lane. To be called on its event loop."""
    loop = asyncio.get_running_loop()
    for name, unit, description, read in _GAUGES:
        meter.create_observable_gauge(
            f"blobsight.governor.{name}", [_observer(loop, governor, read)], unit=unit, description=description
        )


def _observer(
    loop: asyncio.AbstractEventLoop, governor: Governor, read: Callable[[GovernorState], float | None]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observations() -> list[Observation]:
        values = ((lane, read(governor.state(lane))) for lane in governor.lanes)
        return [
            Observation(value, {"gen_ai.request.model": lane.deployment, "openai.request.service_tier": lane.tier})
            for lane, value in values
            if value is not None
        ]

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        # The SDK asks from its own thread; the governor belongs to the loop's.
        answer: Future[list[Observation]] = Future()
        try:
            loop.call_soon_threadsafe(lambda: answer.set_result(observations()))
            return answer.result(timeout=1)
        except (RuntimeError, TimeoutError):  # the loop has ended, or is busy: the next reading shows it
            return []

    return observe
