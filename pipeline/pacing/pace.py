"""The pace of one deployment's calls, learnt from what is accepted and refused. Pure: it is given the time.

The numbers were chosen by the simulation in tests/test_governor.py, on bench/simulation's clock. What they trade: while
the pace hovers around the quota, an instance has about QUICKER / (1 - SLOWER) = 3 % of its calls refused, however many
instances there are and however large the quota is. Half of that would take twice as long to notice that the quota grew.
"""

QUICKER = 0.001
"""Part of itself by which a success quickens the pace right after throttling."""
CALM = 15
"""Successes since throttling after which QUICKER has doubled; after twice as many it is five times as much."""
QUICKEST = 0.01
"""The most by which the pace quickens in a second, as a part of itself. An answer describes the quota as it was when
its call began, seconds ago."""
SLOWER = 0.97
"""Part of the pace that throttling leaves, where about as much was accepted as the pace allows."""
NEAR = 0.8
"""Part of the pace; if less than this was accepted, the pace was far too high and falls to what was accepted."""
SLOWEST = 0.5
"""Part of the pace that throttling always leaves."""
MEASURED_OVER = 15.0
"""Seconds over which what is accepted is measured. Azure counts in windows of up to ten."""
LONGEST_STEP = 60.0
"""Seconds between two starts at the slowest pace."""
RESERVE = 0.25
"""Part of the quota; when less is left, the pace slows before the service refuses."""
PLENTY = 0.75
"""Part of the quota; while more is left, others have stopped calling or the quota has grown, and each success quickens
the pace as much as QUICKEST allows. An instance with a call in ten seconds would otherwise take a quarter of an hour to
notice."""
SMOOTHING = 0.1
"""Weight of the newest value in a moving average. A quota that is counted in windows is always low at their ends."""


class Average:
    """A moving average; its first value counts whole."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else self.value + (value - self.value) * SMOOTHING


class Pace:
    """Cost a second at which calls start, learnt from what is accepted and refused."""

    def __init__(self, now: float) -> None:
        self.next_start = now
        self._rate: float | None = None
        self._since = now
        self._accepted = 0.0
        """Cost that was started, and not refused, since then."""
        self._calm = 0
        """Paced successes since the last throttling."""
        self._left = Average()
        """Part of the quota."""
        self._left_at = now

    @property
    def current(self) -> float | None:
        """Cost a second; None while unknown."""
        if self._rate is None or self._left.value is None:
            return self._rate
        return self._rate * min(1.0, max(0.1, self._left.value / RESERVE))

    def started(self, cost: float, now: float) -> None:
        self._accepted += cost
        if (pace := self.current) is not None:
            self.next_start = max(now, self.next_start) + min(cost / pace, LONGEST_STEP)

    def refused(self, cost: float) -> None:
        self._accepted -= cost

    def quicken(self, cost: float) -> None:
        if self._rate is None:
            return
        left = self._left.value
        most = QUICKEST * cost / self._rate
        if left is not None and left < RESERVE:
            self._calm = 0
            self._rate *= 1 - most * (1 - left / RESERVE)
        else:
            self._calm += 1
            plenty = left is not None and left > PLENTY
            self._rate *= 1 + (most if plenty else min(QUICKER * (1 + (self._calm / CALM) ** 2), most))

    def slow(self, now: float) -> None:
        self._calm = 0
        elapsed, accepted = now - self._since, self._accepted_rate(now)
        if self._rate is None:
            self._begin(now)
        elif elapsed > MEASURED_OVER and 0 < accepted < NEAR * self._rate:
            self._rate = max(accepted, SLOWEST * self._rate)
        elif accepted > 0:  # when nothing is accepted, the pace is not at fault: the pauses grow instead
            self._rate *= SLOWER
        if elapsed > MEASURED_OVER:
            self.measure_from(now)

    def note_left(self, left: float | None, started: float, now: float) -> None:
        """Note what was left of the quota when a call that `started` then arrived.

        Answers overtake each other: one whose call started before that of the newest is ignored.
        """
        if left is None or started < self._left_at:
            return
        self._left_at = started
        self._left.add(left)
        if self._rate is None and self._left.value is not None and self._left.value < RESERVE:
            self._begin(now)

    def measure_from(self, now: float) -> None:
        self._since, self._accepted = now, 0.0

    def _begin(self, now: float) -> None:
        """Take what was accepted as the first rate; it stays unknown where nothing was accepted yet."""
        self._rate = self._accepted_rate(now) or None

    def _accepted_rate(self, now: float) -> float:
        return max(self._accepted, 0.0) / max(now - self._since, 1.0)
