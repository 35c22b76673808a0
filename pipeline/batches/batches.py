"""A run of the timer: every shard goes as far as it can, and lines that wait become new ones."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import uuid4

from pipeline.batches.collecting import Collector, each
from pipeline.batches.service import BatchService, FileGone, InputFile, Refused
from pipeline.batches.shard import MOST_BYTES, MOST_LINES, SHOWN_FOR, Shard, State
from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.storage.facts import ListedBlob
from pipeline.storage.lines import Lines
from pipeline.storage.shards import DONE, Shards

logger = logging.getLogger("pipeline.batches")  # a name that people's queries match (docs/operations.md)

type Problem = Literal["operator", "quota", "passing"]
"""Why a shard does not go on: the operator has to fix something; the queue of batches is full; or it may go on at the
next run. The alert stuck-batches goes by it (infra/bicep/modules/alerts.bicep)."""
_FULL = frozenset({"token_limit_exceeded", "too_many_tasks"})

RUN_SECONDS = 1200.0
"""One run's time, inside functionTimeout; the next one goes on where it stopped."""


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
        wait: seconds that the oldest line waits for others.
        lost_after: seconds after which a batch is looked for whose creation had no answer.
    """

    def __init__(  # noqa: PLR0913 - the parts of the app, by keyword
        self,
        *,
        service: BatchService,
        lines: Lines,
        shards: Shards,
        collector: Collector,
        wait: float,
        lost_after: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._lines = lines
        self._shards = shards
        self._collector = collector
        self._wait = timedelta(seconds=wait)
        self._lost_after = timedelta(seconds=lost_after)
        self._now = now

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
        for stored in shards:
            if asyncio.get_running_loop().time() > deadline:
                return
            await self._go_on(stored, waiting)
            if stored.shard.is_unsent:
                held_up.add(stored.shard.deployment)
        send_now = not held_up.issuperset(waiting.unsent) and await self._shards.take_send_now()
        for deployment, lines in waiting.unsent.items():
            while (chosen := self._next_shard(lines, send_now=send_now)) and deployment not in held_up:
                if asyncio.get_running_loop().time() > deadline:
                    return
                del lines[: len(chosen)]
                try:
                    stored = await self._fill(deployment, chosen, waiting)
                except _Overtaken:
                    logger.info("The answer to a new shard's first note was lost: its lines wait for the next run.")
                    break
                await self._go_on(stored, waiting)
                if stored.shard.is_unsent:
                    held_up.add(deployment)

    async def _unfinished(self) -> "list[_Stored]":
        unfinished = []
        for blob in await self._shards.listed():
            if DONE in blob.metadata:
                if blob.last_modified < self._now() - SHOWN_FOR:
                    await self._shards.delete(blob.name)
                continue
            body, etag = await self._shards.read(blob.name) or (b"", "")
            shard = Shard.from_json(body)
            if shard is None or shard.id != blob.name:
                logger.warning("The shard %s can't be read and is left alone.", ascii(blob.name[:100]))
            else:
                unfinished.append(_Stored(shard, etag))
        return unfinished

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

    async def _fill(self, deployment: str, chosen: Iterable[ListedBlob], waiting: _Waiting) -> "_Stored":
        """Make a shard of the `chosen` lines; those that another run has chosen, or that are gone, are left out."""
        now = self._now()
        shard_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
        stored = _Stored(Shard(id=shard_id, deployment=deployment, created_at=now), None)
        await self._note(stored, stored.shard)

        async def take(line: ListedBlob) -> None:
            if await self._lines.note(line, {**line.metadata, "shard": shard_id}):
                waiting.sent[shard_id][line.name] = line

        await each(take, chosen)
        return stored

    async def _go_on(self, stored: "_Stored", waiting: _Waiting) -> None:
        """Take one shard as far as it goes now."""
        lines = waiting.sent[stored.shard.id]
        try:
            while stored.shard.is_due(self._now()) and await self._step(stored, lines):
                pass
        except _Overtaken:
            logger.info("The shard %s is taken on by another run.", stored.shard.id)
        except Refused as refusal:
            _warn(stored.shard, _why(refusal.code), refusal.message)
            await self._note_quietly(stored, stored.shard.held_up(refusal.message, self._now()))
        except RetryableFailure as failure:
            _warn(stored.shard, "operator" if isinstance(failure, OperatorFailure) else "passing", failure.message)
            problem = stored.shard.model_copy(update={"problem": failure.message[:500]})
            if problem != stored.shard:
                await self._note_quietly(stored, problem)

    async def _step(self, stored: "_Stored", lines: dict[str, ListedBlob]) -> bool:
        """Take one step; False where there is nothing to do for now."""
        shard, now = stored.shard, self._now()
        match shard.state:
            case State.DONE:
                return False
            case _ if shard.is_hopeless(now):
                await self._note(stored, shard.at(State.ENDED, ended_at=now, status="not sent"))
            case State.FILLING:
                await self._note(stored, shard.filled([line.size for line in lines.values()], now))
            case State.FILLED:
                file_id = await self._service.upload(self._input_file(shard, list(lines.values())))
                await self._note(stored, shard.at(State.UPLOADED, file_id=file_id))
            case State.UPLOADED:
                await self._submit(stored)
            case State.SUBMITTING:
                return await self._look_for(stored)
            case State.SUBMITTED:
                return await self._poll(stored)
            case State.ENDED:
                return await self._collect(stored, lines)
        return True

    async def _submit(self, stored: "_Stored") -> None:
        shard, now = stored.shard, self._now()
        await self._note(stored, shard.at(State.SUBMITTING, checked_at=now))
        try:
            status = await self._service.create(str(shard.file_id))
        except Refused as refusal:
            _warn(shard, _why(refusal.code), refusal.message)
            has_file = {} if not isinstance(refusal, FileGone) else {"file_id": None}
            await self._note(stored, shard.model_copy(update=has_file).refused(refusal.message, now))
        else:
            stored.is_polled = True
            await self._note(stored, stored.shard.seen(status, now))

    async def _look_for(self, stored: "_Stored") -> bool:
        """Look for a batch whose creation had no answer."""
        shard, now = stored.shard, self._now()
        if now - (shard.checked_at or now) <= self._lost_after:
            return False  # another run may be about to note it
        found = await self._service.find(str(shard.file_id))
        await self._note(stored, shard.seen(found, now) if found else shard.at(State.UPLOADED))
        return True

    async def _collect(self, stored: "_Stored", lines: dict[str, ListedBlob]) -> bool:
        if not await self._collector.collect(stored.shard, lines):
            return False
        await self._note(stored, stored.shard.at(State.DONE, ended_at=self._now()))
        return True

    async def _poll(self, stored: "_Stored") -> bool:
        shard, now = stored.shard, self._now()
        if stored.is_polled:
            return False
        stored.is_polled = True
        status = await self._service.look(str(shard.batch_id))
        if status is None:
            await self._note(stored, shard.not_found(now))
            return stored.shard.state is State.ENDED
        seen = shard.seen(status, now)
        if seen != shard.model_copy(update={"checked_at": now}):
            await self._note(stored, seen)
        if status.may_be_taken_later:
            _warn(shard, _why(status.code), seen.problem or "The batch failed.")
        if not status.has_ended and status.status != "cancelling" and (shard.cancel_asked or shard.is_too_late(now)):
            await self._service.cancel(status.id)
        return status.has_ended

    def _input_file(self, shard: Shard, lines: Sequence[ListedBlob]) -> InputFile:
        async def content() -> AsyncIterator[bytes]:
            for line in lines:
                length = 0
                async for chunk in self._lines.read(line.name):
                    length += len(chunk)
                    yield chunk
                if length != line.size:
                    raise RetryableFailure(f"The line {line.name} has changed while it was sent.")

        return InputFile(f"{shard.id}.jsonl", sum(line.size for line in lines), content)

    async def _note(self, stored: "_Stored", shard: Shard) -> None:
        etag = await self._shards.write(shard.id, shard.to_json(), stored.etag, is_done=shard.state is State.DONE)
        if etag is None:
            raise _Overtaken
        stored.shard, stored.etag = shard, etag

    async def _note_quietly(self, stored: "_Stored", shard: Shard) -> None:
        try:
            await self._note(stored, shard)
        except _Overtaken:
            logger.info("The shard %s is taken on by another run.", shard.id)


@dataclass(slots=True)
class _Stored:
    """A shard, and the ETag of its blob."""

    shard: Shard
    etag: str | None
    is_polled: bool = False
    """In this run."""


class _Overtaken(Exception):
    """Another run, or a person, has changed the shard."""


def _why(code: str | None) -> Problem:
    """Why the service does not take a batch, by its own word."""
    return "quota" if code in _FULL else "operator"


def _warn(shard: Shard, problem: Problem, message: str) -> None:
    logger.warning(
        "The shard %s does not go on (%s): %s",
        shard.id,
        problem,
        message,
        extra={"problem": problem, "shard": shard.id},
    )
