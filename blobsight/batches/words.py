"""The batch lane in words. Pure."""

from collections.abc import Sequence
from datetime import datetime

from blobsight.batches.lane import Lane, Unsent, answered, due, expected, short_id
from blobsight.terminal import counted, shortened, span
from pipeline.batches.shard import Shard, State

MOST_OF_A_PROBLEM = 160
"""Characters of a problem in a table; the service wrote it."""

_STATES = {
    State.FILLING: "being filled",
    State.FILLED: "to be sent",
    State.UPLOADED: "file sent",
    State.SUBMITTING: "being submitted",
    State.ENDED: "being collected",
    State.DONE: "done",
}
_STATUSES = {
    "validating": "being checked",
    "in_progress": "at work",
    "finalizing": "being finished",
    "cancelling": "being cancelled",
}
"""By the service's own word, while it has the batch."""

HEAD = ("batch", "state", "questions", "size", "created", "submitted", "answered", "ready", "problem")
RIGHT = (2, 3)
SHORT_HEAD = ("batch", "state", "questions", "answered", "age", "ready")
SHORT_RIGHT = (2,)


def row(batch: Shard, now: datetime) -> tuple[str, ...]:
    """A batch, in the columns of `HEAD`."""
    return (
        _id(batch),
        state_of(batch, now),
        f"{batch.lines:,}" if batch.lines else "",
        megabytes(batch.size_bytes) if batch.size_bytes else "",
        _moment(batch.created_at, now),
        _moment(batch.submitted_at, now) if batch.submitted_at else "",
        _answered(batch),
        ready(batch, now),
        shortened(batch.problem or "", MOST_OF_A_PROBLEM),
    )


def short_row(batch: Shard, now: datetime) -> tuple[str, ...]:
    """A batch, in the columns of `SHORT_HEAD`."""
    questions = f"{batch.lines:,}" if batch.lines else ""
    age = span(now - batch.created_at)
    return (_id(batch), state_of(batch, now), questions, _answered(batch), age, ready(batch, now))


def state_of(batch: Shard, now: datetime) -> str:
    """How far a batch is."""
    if batch.retry_at and batch.retry_at > now:
        return f"refused, tried again {_moment(batch.retry_at, now)}"
    if batch.state is not State.SUBMITTED:
        return _STATES[batch.state]
    if batch.cancel_asked and batch.status != "cancelling":
        return "to be cancelled"
    return _STATUSES.get(batch.status or "", shortened(batch.status or "submitted", 40))


def ready(batch: Shard, now: datetime) -> str:
    """When it will be answered, as far as that can be said."""
    if batch.state is State.DONE:
        return ""
    if batch.state is State.ENDED:
        return "now"
    moment, latest = expected(batch, now), due(batch)
    if moment is not None:
        return f"in about {span(moment - now)}"
    if latest is None:
        return "24 hours after it is sent"
    return f"by {_moment(latest, now)} as a rule" if latest > now else f"late: was due {_moment(latest, now)}"


def waits(unsent: Unsent, now: datetime) -> str:
    """A sentence on what is in no batch yet, or empty."""
    if unsent.oldest is None:
        return ""
    what = f"{counted(unsent.questions, 'question')} ({megabytes(unsent.size_bytes)})"
    for_how_long = span(now - unsent.oldest)
    if unsent.questions == 1:
        return f"{what} waits to be sent in a batch, for {for_how_long}."
    return f"{what} wait to be sent in a batch, the oldest for {for_how_long}."


def short_rows(lane: Lane) -> Sequence[tuple[str, ...]]:
    """The batches that are not done, in the columns of `SHORT_HEAD`."""
    return [short_row(batch, lane.at) for batch in lane.under_way]


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _id(batch: Shard) -> str:
    return shortened(short_id(batch), 40)


def _answered(batch: Shard) -> str:
    if batch.submitted_at is None:
        return ""
    failed = f", {batch.failed:,} failed" if batch.failed else ""
    return f"{answered(batch):,}{failed}"


def _moment(moment: datetime, now: datetime) -> str:
    """By the clock on the wall, with the day if that is another one."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%b %d %H:%M}"
