"""A run of the timer: every shard goes as far as it can, and lines that wait become new ones."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from pipeline.batches.collecting import Collector, each
from pipeline.batches.service import BatchService
from pipeline.batches.shard import MOST_BYTES, MOST_LINES, SHOWN_FOR, Shard, State
from pipeline.batches.steps import Overtaken, Steps, StoredShard
from pipeline.errors import RetryableFailure
from pipeline.pacing.rates import DailyTokens
from pipeline.storage.facts import ListedBlob
from pipeline.storage.lines import Lines
from pipeline.storage.shards import DONE, Shards

logger = logging.getLogger(__name__)

REFUSALS_BEFORE_HALVING = 3
"""Of a shard that no other batch of the app is in the way of: those of others may be."""

RUN_SECONDS = 1200.0
"""One run's time, inside functionTimeout; the next one goes on where it stopped."""
SHARDS_AT_A_TIME = 4
"""Shards that are taken on side by side: most are only looked at, and hundreds may be at the service. Each that is
uploaded or collected meanwhile takes a few megabytes."""


@dataclass(slots=True)
class _Waiting:
    """The lines that there are."""

    unsent: dict[str, list[ListedBlob]] = field(default_factory=lambda: defaultdict(list))
    """By deployment, the oldest first."""
    sent: dict[str, dict[str, ListedBlob]] = field(default_factory=lambda: defaultdict(dict))
    """By shard, and by their names."""


class Batches:
    """Sends lines in batches, and brings their replies back. One per process.

    It holds the names of all lines, some 700 bytes each, and a few megabytes of what it sends.

    Args:
        tokens: the day's, where the operator limits them.
        wait: seconds that the oldest line waits for others.
        poll: seconds between two runs.
        lost_after: seconds after which a batch is looked for whose creation had no answer.
    """

    def __init__(  # noqa: PLR0913 - the parts of the app, by keyword
        self,
        *,
        service: BatchService,
        lines: Lines,
        shards: Shards,
        collector: Collector,
        tokens: DailyTokens | None = None,
        wait: float,
        poll: float,
        lost_after: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._lines = lines
        self._shards = shards
        self._wait = timedelta(seconds=wait)
        self._now = now
        self._steps = Steps(
            service=service,
            lines=lines,
            shards=shards,
            collector=collector,
            tokens=tokens,
            poll=poll,
            lost_after=lost_after,
            now=now,
        )

    async def run(self) -> None:
        """Take each shard as far as it goes; send the lines that have waited long enough.

        Raises:
            RetryableFailure: storage can't be reached; the next run goes on.
        """
        deadline = asyncio.get_running_loop().time() + RUN_SECONDS
        shards = await self._unfinished()
        waiting = await self._waiting()
        held_up: set[str] = set()
        """Deployments that take no further batch for now."""

        async def go_on(stored: StoredShard) -> None:
            if asyncio.get_running_loop().time() <= deadline:
                await self._steps.go_on(stored, waiting.sent[stored.shard.id])
            if stored.shard.is_unsent:
                held_up.add(stored.shard.deployment)

        await each(go_on, shards, at_a_time=SHARDS_AT_A_TIME)
        await self._halve_those_above_the_quota(shards, waiting)
        send_now = not held_up.issuperset(waiting.unsent) and await self._shards.take_send_now()
        for deployment, lines in waiting.unsent.items():
            while (chosen := self._next_shard(lines, send_now=send_now)) and deployment not in held_up:
                if asyncio.get_running_loop().time() > deadline:
                    return
                del lines[: len(chosen)]
                try:
                    stored = await self._fill(deployment, chosen, waiting)
                except Overtaken:
                    logger.info("The answer to a new shard's first note was lost: its lines wait for the next run.")
                    break
                await self._steps.go_on(stored, waiting.sent[stored.shard.id])
                if stored.shard.is_unsent:
                    held_up.add(deployment)

    async def _halve_those_above_the_quota(self, shards: Iterable[StoredShard], waiting: _Waiting) -> None:
        """Leave half of the lines of a shard to another one, where the quota has no place for it even while nothing
        else is in batches.
        """
        busy = {
            stored.shard.deployment for stored in shards if stored.shard.state in (State.SUBMITTING, State.SUBMITTED)
        }
        for stored in shards:
            shard, lines = stored.shard, waiting.sent[stored.shard.id]
            is_too_large = stored.is_above_quota and shard.refusals >= REFUSALS_BEFORE_HALVING
            if not is_too_large or shard.deployment in busy or len(lines) == 1:
                continue
            logger.info("The shard %s is above the quota of enqueued tokens by itself: it is halved.", shard.id)
            try:
                await self._service.delete_file(str(shard.file_id))
                await self._steps.note(stored, shard.at(State.FILLING, file_id=None))
            except (Overtaken, RetryableFailure):
                continue

            async def leave(line: ListedBlob) -> None:
                facts = {name: value for name, value in line.metadata.items() if name != "shard"}
                await self._lines.note(line, facts)

            await each(leave, list(lines.values())[len(lines) // 2 :])

    async def _unfinished(self) -> list[StoredShard]:
        unfinished = []

        async def read(blob: ListedBlob) -> None:
            if DONE in blob.metadata:
                if blob.last_modified < self._now() - SHOWN_FOR:
                    await self._shards.delete(blob.name)
                return
            body, etag = await self._shards.read(blob.name) or (b"", "")
            shard = Shard.from_json(body)
            if shard is None or shard.id != blob.name:
                logger.warning("The shard %s can't be read and is left alone.", ascii(blob.name[:100]))
            else:
                unfinished.append(StoredShard(shard, etag))

        await each(read, await self._shards.listed())
        return sorted(unfinished, key=lambda stored: stored.shard.id)

    async def _waiting(self) -> _Waiting:
        waiting = _Waiting()
        async for line in self._lines.all():
            if shard_id := line.metadata.get("shard"):
                waiting.sent[shard_id][line.name] = line
            else:
                waiting.unsent[line.metadata.get("deployment", "")].append(line)
        for lines in waiting.unsent.values():
            lines.sort(key=lambda line: line.last_modified)
        return waiting

    def _next_shard(self, lines: Sequence[ListedBlob], *, send_now: bool) -> Sequence[ListedBlob]:
        """The lines that make the next shard: as many as fit; none while more may come."""
        size = 0
        for number, line in enumerate(lines):
            size += line.size
            if size > MOST_BYTES or number == MOST_LINES:
                return lines[:number]
        is_due = bool(lines) and self._now() - lines[0].last_modified >= self._wait
        return list(lines) if is_due or send_now else []

    async def _fill(self, deployment: str, chosen: Iterable[ListedBlob], waiting: _Waiting) -> StoredShard:
        """Make a shard of the `chosen` lines; those that another run has chosen, or that are gone, are left out."""
        now = self._now()
        shard_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
        stored = StoredShard(Shard(id=shard_id, deployment=deployment, created_at=now), None)
        await self._steps.note(stored, stored.shard)

        async def take(line: ListedBlob) -> None:
            if taken := await self._lines.note(line, {**line.metadata, "shard": shard_id}):
                waiting.sent[shard_id][line.name] = taken

        await each(take, chosen)
        return stored
