"""Pauses in calling a deployment: as long as it asks while it throttles, growing while calls fail.

One success ends a pause that came of failures, but not one that the service asked for.
"""

from random import Random

from pipeline.pacing.waits import LONGEST_ASKED_WAIT

FIRST_PAUSE = 0.75
"""Seconds to pause when throttled without a named time; doubled each time in a row."""
PATIENT_REFUSALS = 3
"""Refusals in a row after which the service's own time is no longer believed when ours is longer."""
SPREAD = 0.1
"""Part of a pause that is added at random, so that instances don't come back together."""
FAILURES_IN_A_ROW = 5
"""Failures other than throttling that look like an outage rather than bad luck."""
LONGEST_FAILURE_PAUSE = 30.0
"""Seconds. It may be a few images that fail wherever they come, and the next one would be answered."""


class Pauses:
    """Of one deployment. Times are the event loop's."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._throttled_until = 0.0
        self._failing_until = 0.0
        self._episode_at = -1.0
        """When it last paused. What befell calls that had started before belongs to the same episode."""
        self._refused_in_a_row = 0
        self._failed_in_a_row = 0
        self.cause = ""
        """The last call's failure, in a sentence; empty after a success."""

    @property
    def end_at(self) -> float:
        return max(self._throttled_until, self._failing_until)

    @property
    def failing(self) -> bool:
        """Whether calls fail one after the other."""
        return self._failed_in_a_row >= FAILURES_IN_A_ROW

    @property
    def refusing(self) -> bool:
        """Whether it has throttled, and answered nothing since."""
        return self._refused_in_a_row > 0

    def is_over(self, started: float) -> bool:
        """Whether a call that `started` then is none of the last episode's."""
        return started > self._episode_at

    def started(self, now: float) -> None:
        if self.refusing:
            # Until something is accepted again: not all those who waited for the end of a pause at once.
            self._throttled_until = max(self._throttled_until, now + self._rng.uniform(0.0, FIRST_PAUSE))

    def succeeded(self) -> None:
        self._refused_in_a_row = self._failed_in_a_row = 0
        self._failing_until = 0.0
        self.cause = ""

    def throttled(self, started: float, now: float, asked: float | None, cause: str) -> bool:
        """Pause for the time `asked`, or for our own; whether that begins an episode."""
        self.cause = cause
        wait, begins = asked or 0.0, self.is_over(started)
        if begins:
            self._episode_at = now
            if asked is None or self._refused_in_a_row >= PATIENT_REFUSALS:
                wait = max(wait, _growing(self._refused_in_a_row, LONGEST_ASKED_WAIT))
            self._refused_in_a_row += 1
        self._throttled_until = max(self._throttled_until, now + self._spread(wait))
        return begins

    def failed(self, started: float, now: float, cause: str) -> bool:
        """Pause if it looks like an outage; whether that begins an episode."""
        self.cause = cause
        if not self.is_over(started):
            return False
        self._failed_in_a_row += 1
        if self.failing:
            self._episode_at = now
            pause = _growing(self._failed_in_a_row - FAILURES_IN_A_ROW, LONGEST_FAILURE_PAUSE)
            self._failing_until = max(self._failing_until, now + self._spread(pause))
        return self.failing

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0, 1.0 + SPREAD)


def _growing(times_before: int, longest: float) -> float:
    return min(FIRST_PAUSE * 2.0 ** min(times_before, 30), longest)
