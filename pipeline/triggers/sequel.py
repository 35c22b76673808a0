"""What follows when a failure has stopped a delivery: the next try and its delay, or the end. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from pipeline.errors import ErrorCode, NotTried, PermanentFailure, RetryableFailure
from pipeline.job.requests import FlexWait, Request
from pipeline.one_line import short
from pipeline.pacing.rates import LONGEST_WAIT_SECONDS, OverRate
from pipeline.pacing.waits import DEFERRALS, deferral_delay
from pipeline.triggers.lanes import flex_delay

MOST_TIME_OUTS = 5
"""Deliveries of one image whose call times out while calls for other images are answered, before it is given up."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A delivery that a failure has stopped."""

    request: Request
    failure: RetryableFailure
    flex: FlexWait | None = None
    """Its wait for capacity at the tier flex, where that is what has stopped it."""
    backlogged: bool = False
    """It was throttled while others were answered."""
    singled_out: bool = False
    """Its call timed out while others were answered."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """What follows."""

    later: Request
    delay: float
    """Seconds."""
    given_up: PermanentFailure | None
    """Why it comes to an end instead, provided that its result can be written."""


def follow_up(stopped: Stopped, retry_for: timedelta, now: datetime, rng: Random) -> Sequel:
    """Decide what follows. `retry_for` is how long work may fail; `rng` is for the jitter."""
    request, failure, flex = stopped.request, stopped.failure, stopped.flex
    is_patient = flex is not None and now < flex.until
    # Work that was not tried has not failed: a backlog that takes longer than RETRY_FOR_SECONDS is not a failure
    # either. The time runs from the first attempt that failed.
    tried = not (isinstance(failure, NotTried) or is_patient or stopped.backlogged)
    since = request.since if request.attempt > 1 and request.since else now
    later = request.again(
        since=since,
        attempt=request.attempt + tried,
        timed_out=request.timed_out + stopped.singled_out,
        flex=flex or request.flex,
    )
    given_up = None
    if later.timed_out >= MOST_TIME_OUTS:
        given_up = _timed_out(later.timed_out, failure)
    elif tried and now - since >= retry_for:
        given_up = _exhausted(request, failure, retry_for)
    if flex and is_patient:
        delay = flex_delay(flex, now, failure.retry_after, rng)
    elif tried:
        delay = deferral_delay(request.attempt, failure.retry_after, rng)
    else:
        longest = LONGEST_WAIT_SECONDS if isinstance(failure, OverRate) else DEFERRALS[-1]
        delay = min(max(failure.retry_after or 1.0, 1.0), longest)
    if isinstance(failure, OverRate) or is_patient:  # it counts towards nothing, wherever it falls between two failures
        later = later.model_copy(update={"since": since + timedelta(seconds=delay)})
    return Sequel(later, delay, given_up)


def _exhausted(request: Request, failure: RetryableFailure, retry_for: timedelta) -> PermanentFailure:
    hours = retry_for.total_seconds() / 3600
    exhausted = PermanentFailure(
        ErrorCode.RETRIES_EXHAUSTED,
        f"Given up after {request.attempt} attempts in {hours:.1f} hours. The last one failed like this:"
        f" {short(failure.message, 600)} Once that is fixed, have the failed images run again.",
        {"attempts": request.attempt, "last_cause": failure.message, "status": failure.status},
    )
    exhausted.reply = failure.reply
    return exhausted


def _timed_out(deliveries: int, failure: RetryableFailure) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.RETRIES_EXHAUSTED,
        f"Given up after {deliveries} calls that were not answered in time, while those for other images were answered."
        f" {failure.message} Ask for less, use a smaller image, or raise MODEL_TIMEOUT_SECONDS; then have it run"
        " again.",
        {"attempts": deliveries, "last_cause": failure.message, "status": failure.status},
    )
