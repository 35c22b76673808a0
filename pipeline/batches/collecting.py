"""Bringing back what a batch has answered: each reply to the claim that waits for it, and its work to the queue."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pipeline.batches.service import BatchService, FileGone
from pipeline.batches.shard import GONE_AFTER, MOST_BATCHES, Shard
from pipeline.batches.status import no_answer, passes, read_line
from pipeline.job.batched import BatchLog, LineReply
from pipeline.job.requests import Request
from pipeline.storage.claims import Claims
from pipeline.storage.facts import ClaimedElsewhere, ListedBlob
from pipeline.storage.lines import Lines

logger = logging.getLogger(__name__)

AT_A_TIME = 16
"""Lines that are noted, or whose replies are brought back, at the same time."""


class Queue(Protocol):
    """See `pipeline.storage.queue.MessageQueue`."""

    async def send(self, message: Request, delay: float) -> None: ...


class Marks(Protocol):
    """See `pipeline.storage.marks.QueuedMarks`."""

    async def mark(self, name: str, seconds: float, why: str = "") -> None: ...


class Collector:
    """Collects the replies of batches. One per process.

    Args:
        reread_for: seconds after the end of a batch in which a file with lines that can't be read is read again, before
            those lines count as having no answer. They may be paid for.
    """

    def __init__(  # noqa: PLR0913 - where replies come from and where they go
        self,
        service: BatchService,
        lines: Lines,
        claims: Claims,
        queue: Queue,
        marks: Marks,
        *,
        reread_for: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._lines = lines
        self._claims = claims
        self._queue = queue
        self._marks = marks
        self._reread_for = timedelta(seconds=reread_for)
        self._now = now

    async def collect(self, shard: Shard, lines: dict[str, ListedBlob]) -> bool:
        """Bring every reply of an ended batch to the claim that waits for it, and delete the batch's files.

        It may be done again from the beginning, by whichever run comes next.

        Args:
            shard: whose batch has ended.
            lines: those of the shard that have no reply yet.

        Returns:
            Whether that is all; False where a run was at a claim just then, or a file is to be read again.

        Raises:
            RetryableFailure: storage or the service can't be reached.
        """
        left = dict(lines)
        busy: set[str] = set()
        unreadable = 0
        for file_id in filter(None, (shard.output_file_id, shard.error_file_id)):
            unreadable += await self._read(shard, file_id, left, busy)
        if left and unreadable and self._now() - (shard.ended_at or self._now()) < self._reread_for:
            logger.warning(
                "The shard %s: %d lines of its files can't be read. They are read again.", shard.id, unreadable
            )
            return False
        missing = no_answer(f"The batch ended as '{shard.status}' and has no answer to this image.")
        rest = [(line, missing) for line in left.values() if line.name not in busy]
        await self._settle_all(rest, left, busy, again=shard.submitted_at is not None)
        if busy:
            return False
        for file_id in filter(None, (shard.file_id, shard.output_file_id, shard.error_file_id)):
            await self._service.delete_file(file_id)
        return True

    async def _read(self, shard: Shard, file_id: str, left: dict[str, ListedBlob], busy: set[str]) -> int:
        """Bring back the replies in a file; how many of its lines can't be read."""
        unreadable = 0
        ready: list[tuple[ListedBlob, LineReply]] = []
        try:
            async for text in self._service.lines(file_id):
                name, reply = read_line(text) or ("", None)
                unreadable += reply is None
                line = left.get(name)
                if line and reply and name not in busy:
                    ready.append((line, reply))
                if len(ready) == AT_A_TIME:
                    await self._settle_all(ready, left, busy)
                    ready.clear()
        except FileGone:
            if left and self._now() - (shard.ended_at or shard.created_at) < GONE_AFTER:
                raise
            logger.info("A file of a batch is gone: %s", file_id)
        await self._settle_all(ready, left, busy)
        return unreadable

    async def _settle_all(
        self,
        replies: Iterable[tuple[ListedBlob, LineReply]],
        left: dict[str, ListedBlob],
        busy: set[str],
        *,
        again: bool = True,
    ) -> None:
        """Bring replies back: side by side, but for those that go to the same claim."""
        by_claim: dict[str, list[tuple[ListedBlob, LineReply]]] = defaultdict(list)
        for line, reply in replies:
            by_claim[line.metadata.get("claim", "")].append((line, reply))

        async def settle(claim: str) -> None:
            for line, reply in by_claim[claim]:
                await self._settle(line, reply, left, busy, again=again)

        await each(settle, by_claim)

    async def _settle(
        self,
        line: ListedBlob,
        reply: LineReply,
        left: dict[str, ListedBlob],
        busy: set[str],
        *,
        again: bool,
    ) -> None:
        """Bring one reply back; or leave the line to another batch, if that may have a better one and `again`."""
        tries = line.metadata.get("tries", "")
        if again and passes(reply) and len(tries) + 1 < MOST_BATCHES:
            facts = {name: value for name, value in line.metadata.items() if name != "shard"}
            if await self._lines.note(line, {**facts, "tries": f"{tries}x"}):
                left.pop(line.name, None)
            else:
                busy.add(line.name)
            return

        def add(kept: bytes) -> bytes | None:
            log = BatchLog.kept_in(kept)
            changed = log.answered(line.name, reply) if log else None
            return changed.to_json() if changed else None

        try:
            log = BatchLog.kept_in(await self._claims.amend(line.metadata.get("claim", ""), add))
        except ClaimedElsewhere:
            busy.add(line.name)
            return
        if log and not log.waiting:
            if log.request.is_of_an_upload:
                await self._marks.mark(log.request.name, 0)
            await self._queue.send(log.to_deliver(self._now()), 0)
        await self._lines.delete(line.name)
        left.pop(line.name, None)


async def each[T](work: Callable[[T], Awaitable[None]], items: Iterable[T], *, at_a_time: int = AT_A_TIME) -> None:
    """Do the `work` on all `items`, a few at a time; where some fail, raise one of the failures in the end.

    Each failure is one less at a time: an outage is not met by all of a hundred thousand items.
    """
    left = iter(items)

    async def some() -> None:
        for item in left:
            await work(item)

    ended = await asyncio.gather(*(some() for _ in range(at_a_time)), return_exceptions=True)
    if failures := [failure for failure in ended if failure]:
        raise failures[0]
