"""Waits before the next try: as the service asks, short in place, long in the queue. Pure.

Pure functions: the caller sleeps, or gives the message a visibility delay.
"""

import math
import re
from collections.abc import Mapping
from random import Random

LONGEST_ASKED_WAIT = 120.0
"""Seconds. More than a minute's quota takes to come back; a reset further off ("6m0s") is when a bucket is full."""

RETRIES_IN_PLACE = 2
LONGEST_WAIT_IN_PLACE = 5.0
"""Seconds, before jitter, that an image may be held in memory between two tries."""

DEFERRALS = (15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0)
"""Seconds in the queue after the first, second, … failed delivery; the last one for all that follow.

A day of failure (RETRY_FOR_SECONDS) is then about a hundred deliveries, and the end of an outage is noticed within a
quarter of an hour.
"""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds for which a refusal's `headers` ask callers to stay away, at most LONGEST_ASKED_WAIT; None if they don't.

    `headers` are case-insensitive or in lower case. Azure OpenAI sends `retry-after-ms` and `retry-after`, but
    has been seen to send neither and only the times at which its quotas are there again.
    """
    for header, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        if (said := seconds_of(headers.get(header))) is not None:
            return min(said / per_second, LONGEST_ASKED_WAIT)
    resets = [seconds_of(headers.get(f"x-ratelimit-reset-{of}")) for of in ("tokens", "requests")]
    longest = max((said for said in resets if said is not None), default=None)
    return None if longest is None else min(longest, LONGEST_ASKED_WAIT)


def wait_in_place(attempt: int, retry_after: float | None, rng: Random) -> float | None:
    """Seconds to wait before trying again in this process, or None: the work belongs back in the queue.

    `attempt` is the number of the try that has just failed, from 1. When the service asks for nothing it is one
    second, then two; up to half as much again is added, so that those who failed together don't come back together.
    """
    wait = float(2 ** (attempt - 1)) if retry_after is None else retry_after
    if attempt > RETRIES_IN_PLACE or wait > LONGEST_WAIT_IN_PLACE:
        return None
    return wait * rng.uniform(1.0, 1.5)


def deferral_delay(attempt: int, retry_after: float | None, rng: Random) -> float:
    """Seconds for which the queue hides the work after its `attempt`-th failed delivery, from 1.

    DEFERRALS, 20 % more or less, and never shorter than what the service asked for.
    """
    delay = DEFERRALS[min(attempt, len(DEFERRALS)) - 1] * rng.uniform(0.8, 1.2)
    # Those whom the service sends away together get the same time: they are spread behind it.
    return delay if retry_after is None else max(delay, retry_after * rng.uniform(1.0, 1.2))


def seconds_of(said: str | None) -> float | None:
    """Seconds: a number, or a duration as in "1s", "6m0s" and "120ms"; None for anything else."""
    try:
        seconds = float(said or "")
    except ValueError:
        found = _DURATION.fullmatch((said or "").strip())
        if not found or not found.group():
            return None
        hours, minutes, whole, thousandths = (float(part or 0) for part in found.groups())
        seconds = hours * 3600 + minutes * 60 + whole + thousandths / 1000
    return seconds if seconds >= 0 and math.isfinite(seconds) else None
