"""The lane that a delivery goes by, as far as that is known, and the wait for capacity at the tier flex. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Self

from pipeline.errors import RetryableFailure
from pipeline.job.requests import FlexWait, Request
from pipeline.model.question import SENT
from pipeline.model.refusals import NoFlexCapacity
from pipeline.pacing.gate import Busy
from pipeline.pacing.lane import Lane
from pipeline.pacing.waits import DEFERRALS
from pipeline.settings import Settings
from pipeline.telemetry import DeliveryRecord


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes that there are.

    Which one an image takes, its question says, and that is looked for once there is a place for the image. Until then
    the delivery goes by what is at hand: its message and the settings. Where the image's metadata or a file beside it
    say otherwise, it moves over when its question takes its turn.
    """

    deployments: tuple[str, ...]
    """Those that may be asked; the first is the one that most images are for."""
    tiers: tuple[str, ...] = ("default",)
    """Those that may be asked at."""
    tier: str = "default"
    """The one that most images are for."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.deployments, settings.tiers, settings.service_tier)

    def at_hand(self, request: Request, now: datetime) -> Lane:
        """The lane by the message and the settings. A message says in vain what it may not."""
        deployment, asked = request.options.deployment, request.options.service_tier
        tier: str = asked if asked is not None and asked in self.tiers else self.tier
        if request.flex:  # its question was known, and asked at flex
            tier = "flex" if now < request.flex.until else "default"
        return Lane(
            deployment if deployment in self.deployments else self.deployments[0], tier if tier in SENT else "default"
        )

    def goes_by_batch(self, request: Request) -> bool:
        """Whether most that is at hand speaks for a batch: then no call is made soon, and no turn is needed."""
        return "batch" in self.tiers and (request.options.service_tier or self.tier) == "batch"

    def known(self, request: Request, record: DeliveryRecord, now: datetime) -> Lane:
        """The lane of the question, or where that is not known, the one at hand."""
        if record.deployment is not None and record.service_tier is not None:
            return Lane(record.deployment, record.service_tier)
        return self.at_hand(request, now)


def flex_wait(request: Request, failure: RetryableFailure, lane: Lane, now: datetime) -> FlexWait | None:
    """The work's wait for capacity at flex, if that is what has stopped it; also when its patience is over."""
    if isinstance(failure, NoFlexCapacity):
        return request.flex or FlexWait(since=now, until=now + timedelta(seconds=failure.patience))
    return request.flex if isinstance(failure, Busy) and lane.lacks_capacity else None


def flex_delay(wait: FlexWait, now: datetime, retry_after: float | None, rng: Random) -> float:
    """Seconds until the work looks again: about as long as it has waited, and not beyond the end of its patience."""
    waited = min(max((now - wait.since).total_seconds(), DEFERRALS[0]), DEFERRALS[-1])
    delay = max(waited * rng.uniform(0.8, 1.2), (retry_after or 0.0) * rng.uniform(1.0, 1.2))
    return min(delay, max((wait.until - now).total_seconds(), 1.0))
