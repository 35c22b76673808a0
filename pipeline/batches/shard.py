"""Shards: the lines that are sent as one batch, and how far each has come. Pure.

    filling    its lines are being chosen
    filled     they are chosen; nothing was sent
    uploaded   the service has the file
    submitting the batch is being created: whether it was is not known until the answer is noted
    submitted  the service works at it
    ended      the service has ended it, in whatever way; its replies are being brought back
    done       each line has its reply, or waits for another batch

Every step is noted by a write on the condition that nobody else has noted another one, and is safe to be taken twice
but for one: creating the batch. So that step is noted before it is taken, by one alone, and where its answer was lost,
the service's own list of batches is searched for the file before it is taken again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.batches.status import BatchStatus
from pipeline.one_line import short

MOST_BYTES = 200_000_000
"""Of an input file. https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits#batch-limits"""
MOST_LINES = 100_000
"""Of an input file; from the same page."""
MOST_BATCHES = 2
"""For one line: what has no answer in them goes back to the job, which decides."""
LONGEST_UNSENT = timedelta(days=3)
"""How long lines may wait for a place in the queue of batches; then they go back to the job."""
LONGEST_BATCH = timedelta(days=2)
"""After it was submitted, a batch that goes on is cancelled. The service promises a day."""
GONE_AFTER = timedelta(hours=1)
"""How long a batch, or its file of answers, must not be found before it counts as gone: a service or a gateway that
errs for a moment would have every line paid twice."""
SHOWN_FOR = timedelta(days=1)
"""How long a shard that is done can be seen."""
PAUSES = (1, 5, 15, 30)
"""Minutes after a refusal, before the next try; the last one again and again. Where the service is polled more often
than once a minute, as on a laptop, they are polls."""

NEWS = 0.05
"""Part of a batch's lines; so many more with a reply are worth a write of the shard."""


class State(StrEnum):
    FILLING = "filling"
    FILLED = "filled"
    UPLOADED = "uploaded"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    ENDED = "ended"
    DONE = "done"


class Shard(BaseModel):
    """One shard, as its blob says."""

    model_config = ConfigDict(frozen=True)

    id: str
    deployment: str
    state: State = State.FILLING
    created_at: AwareDatetime
    lines: int = 0
    size_bytes: int = 0
    file_id: str | None = None
    batch_id: str | None = None
    submitted_at: AwareDatetime | None = None
    checked_at: AwareDatetime | None = None
    """When the service was last asked about it."""
    ended_at: AwareDatetime | None = None
    status: str | None = None
    """The service's own word."""
    completed: int = 0
    """Lines, as the service counts."""
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    gone_since: AwareDatetime | None = None
    """When the service first did not find the batch."""
    refusals: int = 0
    """Of the service, to take it or a step of it."""
    retry_at: AwareDatetime | None = None
    problem: str | None = Field(None, max_length=500)
    """Why it does not go on."""
    cancel_asked: bool = False
    """By a person."""

    def to_json(self) -> bytes:
        return self.model_dump_json(exclude_defaults=True).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Self | None:
        """The shard; None for what the app did not write."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return None

    def at(self, state: State, **facts: object) -> Self:
        """The shard one step on."""
        return self.model_copy(update={"state": state, "problem": None, "retry_at": None, "gone_since": None, **facts})

    def filled(self, sizes: Sequence[int], now: datetime) -> Self:
        """The shard with all its lines, of these sizes in bytes; done where it has none."""
        if not sizes:
            return self.at(State.DONE, ended_at=now)
        return self.at(State.FILLED, lines=len(sizes), size_bytes=sum(sizes))

    def held_up(self, why: str, now: datetime, poll: timedelta) -> Self:
        """The shard whose next step is refused by the service, which is polled at intervals of `poll`: the same step is
        tried again later.
        """
        pause = PAUSES[min(self.refusals, len(PAUSES) - 1)] * min(poll, timedelta(minutes=1))
        return self.model_copy(
            update={"refusals": self.refusals + 1, "retry_at": now + pause, "problem": short(why, 500)}
        )

    def refused(self, why: str, now: datetime, poll: timedelta) -> Self:
        """The shard of which there is no batch, since the service did not take it: it is sent again later."""
        state = State.UPLOADED if self.file_id else State.FILLED
        unsent = self.model_copy(update={"state": state, "batch_id": None, "submitted_at": None})
        return unsent.held_up(why, now, poll)

    def not_found(self, now: datetime) -> Self:
        """The shard, whose batch the service does not find; ended, if that has been so for long enough."""
        since = self.gone_since or now
        if now - since >= GONE_AFTER:
            return self.at(State.ENDED, ended_at=now, status="gone")
        facts = {"gone_since": since, "checked_at": now, "problem": "The service does not find the batch."}
        return self.model_copy(update=facts)

    def seen(self, status: BatchStatus, now: datetime, poll: timedelta) -> Self:
        """The shard, as the service says that it is. `poll`: as for `refused`."""
        facts: dict[str, object] = {
            "batch_id": status.id,
            "status": status.status,
            "checked_at": now,
            "completed": status.completed,
            "failed": status.failed,
            "submitted_at": self.submitted_at or now,
        }
        if not status.has_ended:
            return self.at(State.SUBMITTED, **facts)
        if status.may_be_taken_later:
            return self.model_copy(update=facts).refused(status.problem or "The batch failed.", now, poll)
        files = {"output_file_id": status.output_file_id, "error_file_id": status.error_file_id}
        ended = self.at(State.ENDED, **facts, **files, ended_at=now)
        return ended.model_copy(update={"problem": short(status.problem, 500) if status.problem else None})

    def is_news(self, seen: Self) -> bool:
        """Whether `seen`, the same shard after another look, says more than this one; the first few lines do not."""
        progress = abs(seen.completed + seen.failed - self.completed - self.failed)
        counts = {"checked_at": seen.checked_at, "completed": seen.completed, "failed": seen.failed}
        return progress >= max(1.0, self.lines * NEWS) or seen != self.model_copy(update=counts)

    def is_too_late(self, now: datetime) -> bool:
        """Whether the service has had it for longer than any batch takes."""
        return self.submitted_at is not None and now - self.submitted_at > LONGEST_BATCH

    @property
    def is_unsent(self) -> bool:
        """Whether it is still to be sent, so that no further one need be made."""
        return self.state in (State.FILLING, State.FILLED, State.UPLOADED, State.SUBMITTING)

    def is_hopeless(self, now: datetime) -> bool:
        """Whether the service has not taken it for so long that its lines go back to the job."""
        chosen = self.state in (State.FILLED, State.UPLOADED)
        return chosen and now - self.created_at > LONGEST_UNSENT

    def is_due(self, now: datetime) -> bool:
        """Whether it may go on now, or waits after a refusal."""
        return self.retry_at is None or now >= self.retry_at
