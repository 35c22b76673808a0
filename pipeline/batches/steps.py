"""The steps of one shard, from its lines to their replies; each is safe to be taken again, see `shard.py`."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline.batches.collecting import Collector
from pipeline.batches.service import BatchService, FileGone, InputFile, Refused
from pipeline.batches.shard import Shard, State
from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.pacing.rates import DailyTokens
from pipeline.storage.facts import ListedBlob
from pipeline.storage.lines import Lines
from pipeline.storage.shards import Shards

logger = logging.getLogger("pipeline.batches")  # a name that people's queries match (docs/operations.md)

type Problem = Literal["operator", "quota", "passing"]
"""Why a shard does not go on: the operator has to fix something; the queue of batches is full; or it may go on at the
next run. The alert stuck-batches goes by it (infra/bicep/modules/alerts.bicep)."""
ABOVE_QUOTA = "token_limit_exceeded"
_FULL = frozenset({ABOVE_QUOTA, "too_many_tasks"})


@dataclass(slots=True)
class StoredShard:
    """A shard, and the ETag of its blob."""

    shard: Shard
    etag: str | None
    is_polled: bool = False
    """In this run."""
    is_above_quota: bool = False
    """In this run it was refused for the quota of enqueued tokens."""


class Overtaken(Exception):
    """Another run, or a person, has changed the shard."""


class Steps:
    """Takes shards from step to step. One per process.

    Args:
        tokens: the day's; once they are spent, nothing more is submitted.
        poll: how often the service is asked about a batch.
        lost_after: seconds after which a batch is looked for whose creation had no answer.
    """

    def __init__(  # noqa: PLR0913 - the parts of the app, by keyword
        self,
        *,
        service: BatchService,
        lines: Lines,
        shards: Shards,
        collector: Collector,
        tokens: DailyTokens | None,
        poll: float,
        lost_after: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._lines = lines
        self._shards = shards
        self._collector = collector
        self._tokens = tokens
        self._poll_every = timedelta(seconds=poll)
        self._lost_after = timedelta(seconds=lost_after)
        self._now = now

    async def go_on(self, stored: StoredShard, lines: dict[str, ListedBlob]) -> None:
        """Take a shard as far as it goes now. `lines` are its own, by their names.

        Raises:
            RetryableFailure: how far it came can't be noted.
        """
        try:
            while stored.shard.is_due(self._now()) and await self._step(stored, lines):
                pass
        except Overtaken:
            logger.info("The shard %s is taken on by another run.", stored.shard.id)
        except Refused as refusal:
            _warn(stored.shard, _why(refusal.code), refusal.message)
            await self._note_quietly(stored, stored.shard.held_up(refusal.message, self._now(), self._poll_every))
        except RetryableFailure as failure:
            _warn(stored.shard, "operator" if isinstance(failure, OperatorFailure) else "passing", failure.message)
            problem = stored.shard.model_copy(update={"problem": failure.message[:500]})
            if problem != stored.shard:
                await self._note_quietly(stored, problem)

    async def _step(self, stored: StoredShard, lines: dict[str, ListedBlob]) -> bool:
        """Take one step; False where there is nothing to do for now."""
        shard, now = stored.shard, self._now()
        match shard.state:
            case State.DONE:
                return False
            case _ if shard.is_hopeless(now):
                await self.note(stored, shard.at(State.ENDED, ended_at=now, status="not sent"))
            case State.FILLING:
                await self.note(stored, shard.filled([line.size for line in lines.values()], now))
            case State.FILLED:
                file_id = await self._service.upload(self._input_file(shard, list(lines.values())))
                await self.note(stored, shard.at(State.UPLOADED, file_id=file_id))
            case State.UPLOADED:
                await self._submit(stored)
            case State.SUBMITTING:
                return await self._look_for(stored)
            case State.SUBMITTED:
                return await self._poll(stored)
            case State.ENDED:
                return await self._collect(stored, lines)
        return True

    async def _submit(self, stored: StoredShard) -> None:
        shard, now = stored.shard, self._now()
        if self._tokens:
            await self._tokens.require_left()
        await self.note(stored, shard.at(State.SUBMITTING, checked_at=now))
        try:
            status = await self._service.create(str(shard.file_id))
        except Refused as refusal:
            stored.is_above_quota = refusal.code == ABOVE_QUOTA
            _warn(shard, _why(refusal.code), refusal.message)
            has_file = {} if not isinstance(refusal, FileGone) else {"file_id": None}
            unsent = shard.model_copy(update=has_file)
            await self.note(stored, unsent.refused(refusal.message, now, self._poll_every))
        else:
            stored.is_polled = True
            await self.note(stored, stored.shard.seen(status, now, self._poll_every))

    async def _look_for(self, stored: StoredShard) -> bool:
        """Look for a batch whose creation had no answer."""
        shard, now = stored.shard, self._now()
        if now - (shard.checked_at or now) <= self._lost_after:
            return False  # another run may be about to note it
        found = await self._service.find(str(shard.file_id))
        await self.note(stored, shard.seen(found, now, self._poll_every) if found else shard.at(State.UPLOADED))
        return True

    async def _collect(self, stored: StoredShard, lines: dict[str, ListedBlob]) -> bool:
        if not await self._collector.collect(stored.shard, lines):
            return False
        await self.note(stored, stored.shard.at(State.DONE, ended_at=self._now()))
        return True

    async def _poll(self, stored: StoredShard) -> bool:
        shard, now = stored.shard, self._now()
        if stored.is_polled:
            return False
        stored.is_polled = True
        status = await self._service.look(str(shard.batch_id))
        if status is None:
            await self.note(stored, shard.not_found(now))
            return stored.shard.state is State.ENDED
        seen = shard.seen(status, now, self._poll_every)
        if shard.is_news(seen):
            await self.note(stored, seen)
        if status.may_be_taken_later:
            stored.is_above_quota = status.code == ABOVE_QUOTA
            _warn(shard, _why(status.code), seen.problem or "The batch failed.")
        if not status.has_ended and status.status != "cancelling" and (shard.cancel_asked or shard.is_too_late(now)):
            await self._service.cancel(status.id)
        return status.has_ended

    def _input_file(self, shard: Shard, lines: Sequence[ListedBlob]) -> InputFile:
        async def content() -> AsyncIterator[bytes]:
            for line in lines:
                length = 0
                async for chunk in self._lines.read(line):
                    length += len(chunk)
                    yield chunk
                if length != line.size:
                    raise RetryableFailure(f"The line {line.name} has changed while it was sent.")

        return InputFile(f"{shard.id}.jsonl", sum(line.size for line in lines), content)

    async def note(self, stored: StoredShard, shard: Shard) -> None:
        """Note how far the shard has come.

        Raises:
            Overtaken: another has noted something else.
            RetryableFailure: it can't be noted now.
        """
        etag = await self._shards.write(shard.id, shard.to_json(), stored.etag, is_done=shard.state is State.DONE)
        if etag is None:
            raise Overtaken
        stored.shard, stored.etag = shard, etag

    async def _note_quietly(self, stored: StoredShard, shard: Shard) -> None:
        try:
            await self.note(stored, shard)
        except Overtaken:
            logger.info("The shard %s is taken on by another run.", shard.id)


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
