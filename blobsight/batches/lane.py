"""The batch lane of an account: the questions that wait to be sent, and the batches, as the app notes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from azure.core.exceptions import AzureError

from blobsight.account import Account
from blobsight.reading import side_by_side
from blobsight.terminal import Problem, Unknown
from pipeline.batches.shard import Shard, State
from pipeline.errors import RetryableFailure
from pipeline.storage.facts import ListedBlob
from pipeline.storage.lines import Lines
from pipeline.storage.shards import PREFIX, Shards

WINDOW = timedelta(hours=24)
"""Within which the service means to answer a batch."""
MOST_OF_A_SHARD = 64 * 1024
"""Bytes of a shard's note; the app's have a few hundred."""


@dataclass(slots=True)
class Unsent:
    """The questions that are in no batch yet: one for an image, or one for each of its pages."""

    questions: int = 0
    size_bytes: int = 0
    oldest: datetime | None = None

    def add(self, line: ListedBlob) -> None:
        self.questions += 1
        self.size_bytes += line.size
        self.oldest = min(self.oldest or line.last_modified, line.last_modified)

    def to_json(self) -> dict[str, Any]:
        return {"questions": self.questions, "size_bytes": self.size_bytes, "oldest": _iso(self.oldest)}


@dataclass(frozen=True, slots=True)
class Lane:
    """What waits, and the batches, the oldest first; also those that were done within a day."""

    at: datetime
    unsent: Unsent
    batches: Sequence[Shard]
    problems: Sequence[Problem] = field(default=())
    """Notes that are not the app's."""

    @property
    def under_way(self) -> list[Shard]:
        """The batches that are not done."""
        return [batch for batch in self.batches if batch.state is not State.DONE]

    def named(self, given: str) -> list[Shard]:
        """The batches that are meant by an id, its last part, or the service's own."""
        return [batch for batch in self.batches if given in (batch.id, short_id(batch), batch.batch_id)]

    def to_json(self, batches: Sequence[Shard]) -> dict[str, Any]:
        return {
            "unsent": self.unsent.to_json(),
            "batches": [batch_json(batch, self.at) for batch in batches],
        }


async def lane_of(account: Account, now: datetime) -> Lane:
    """Read the lane: a listing of the questions, one of the batches, and a read for each batch.

    Raises:
        AzureError, RetryableFailure: it can't be read.
    """
    unsent = Unsent()
    async for line in Lines(account.blobs, account.place.state).all():
        if "shard" not in line.metadata:
            unsent.add(line)
    shards = Shards(account.blobs, account.place.state)
    found: list[Shard] = []
    problems: list[Problem] = []

    async def read(blob: ListedBlob) -> Shard | None:
        if blob.size > MOST_OF_A_SHARD:
            return None
        body, _ = await shards.read(blob.name) or (b"", "")
        return Shard.from_json(body)

    def take(blob: ListedBlob, shard: Shard | Unknown | None) -> None:
        if isinstance(shard, Shard) and shard.id == blob.name:
            found.append(shard)
        else:
            why = shard if isinstance(shard, Unknown) else Unknown("it is not a batch that the app has noted")
            problems.append(Problem(f"{PREFIX}{blob.name}", why))

    await side_by_side(await shards.listed(), read, take, in_order=True)
    return Lane(now, unsent, found, problems)


async def lane_if_any(account: Account, now: datetime) -> Lane | None:
    """As `lane_of`; None where the person may not, or can't: only the app has to."""
    try:
        return await lane_of(account, now)
    except (AzureError, RetryableFailure):
        return None


def short_id(batch: Shard) -> str:
    """The last part of a batch's id, which tells it from others."""
    return batch.id.rpartition("-")[2]


def answered(batch: Shard) -> int:
    """The questions to which the service has an answer or an error, as it counts."""
    return min(batch.completed + batch.failed, batch.lines)


def expected(batch: Shard, now: datetime) -> datetime | None:
    """When a batch will be answered if it goes on as since it was submitted; None where there is nothing to go by."""
    done = answered(batch)
    if batch.state is not State.SUBMITTED or batch.submitted_at is None or not done:
        return None
    return now + (now - batch.submitted_at) * ((batch.lines - done) / done)


def due(batch: Shard) -> datetime | None:
    """When the service means to have answered; None before it has the batch, and once it has ended it."""
    if batch.state is not State.SUBMITTED or batch.submitted_at is None:
        return None
    return batch.submitted_at + WINDOW


def batch_json(batch: Shard, now: datetime) -> dict[str, Any]:
    return {
        "id": batch.id,
        "batch_id": batch.batch_id,
        "deployment": batch.deployment,
        "state": batch.state.value,
        "status": batch.status,
        "questions": batch.lines,
        "size_bytes": batch.size_bytes,
        "completed": batch.completed,
        "failed": batch.failed,
        "created": _iso(batch.created_at),
        "submitted": _iso(batch.submitted_at),
        "ended": _iso(batch.ended_at),
        "expected": _iso(expected(batch, now)),
        "due": _iso(due(batch)),
        "next_try": _iso(batch.retry_at),
        "cancel_asked": batch.cancel_asked,
        "problem": batch.problem,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
