"""The batch lane's side of the job: a question is put down as a line, and asked again where its answer has come.

Nothing waits in memory. The run that would call the model writes a line for the next batch, keeps a log in its claim,
and ends. When the batch has an answer to each line of the log, the same request is delivered once more. That run asks
the same questions in the same order, and finds the replies in the log:

    delivery                       state container                 batches (a timer)
    claim the work
    ask: no reply in the log  ->   the log: a line waits
                              ->   the line
    release the claim, end
                                   the line              ->        send, in a batch with others
                                   the log: its reply    <-        the answer has come
                                   the line is gone      <-
                                                         ->        the request, on the deferred queue
    claim the work, read the log
    ask: there is the reply
    check it, write the result     the claim is gone

The log comes before the line, so no line is sent that nobody waits for; a run that finds a log whose line is missing
writes the line. A question that has to be put twice, since the first answer did not meet the schema, is a line again.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from pipeline.documents.facts import Picture, SentPage
from pipeline.errors import Failure, InBatch, PermanentFailure, RetryableFailure
from pipeline.job.requests import Request
from pipeline.job.work import Work
from pipeline.model.question import Question, Reply
from pipeline.model.replies import UnreadableAnswer, read_response
from pipeline.model.request_body import batch_line
from pipeline.pacing.rates import DailyTokens
from pipeline.storage.facts import Claim

if TYPE_CHECKING:
    from pipeline.job.answering import VisionModel

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=11)
"""How long a line may wait for its reply. A shard waits at most three days for its turn, a batch is cancelled two days
after it was submitted, and a line that brought no answer goes through both once more; what takes longer is lost, and
its question is asked anew."""


class LineReply(BaseModel):
    """What a batch replied to one line."""

    model_config = ConfigDict(frozen=True)

    status: int
    """The HTTP status that the call would have had; 503 where the batch has no answer to the line."""
    body: str
    request_id: str | None = None


class BatchLog(BaseModel):
    """What one claim keeps of its questions in the batch lane."""

    batch_log: Literal[1] = 1
    request: Request
    """To be delivered again when nothing waits any more."""
    since: AwareDatetime
    """When the wait began: the first of the lines that wait was written."""
    work_key: str
    """Of the version of the image that was asked about first. Its lines are named by it."""
    waiting: list[str] = []
    """The lines without a reply."""
    replies: dict[str, LineReply | Reply] = {}
    """By line; a `Reply` is one that the default lane gave in the end."""
    counted: list[str] = []
    """The lines whose tokens were counted already: each run reads the replies again."""

    @classmethod
    def kept_in(cls, kept: bytes | None) -> Self | None:
        """The log in what a claim keeps; None for an answer, and for nothing."""
        if kept is None or not kept.startswith(b'{"batch_log"'):
            return None
        try:
            return cls.model_validate_json(kept)
        except ValidationError:
            return None

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    def to_deliver(self, now: datetime) -> Request:
        """The request, once nothing waits any more. Its wait does not count towards RETRY_FOR_SECONDS."""
        failed_before = self.request.since if self.request.attempt > 1 else None
        return self.request.model_copy(update={"since": failed_before + (now - self.since) if failed_before else now})

    def answered(self, line: str, reply: LineReply) -> Self | None:
        """The log with the reply to `line`; None where it did not wait for one."""
        if line not in self.waiting:
            return None
        waiting = [other for other in self.waiting if other != line]
        return self.model_copy(update={"waiting": waiting, "replies": {**self.replies, line: reply}})


class Lines(Protocol):
    """The lines of all instances; see `pipeline.storage.lines.Lines`."""

    async def write(self, name: str, body: AsyncGenerator[bytes], size: int, facts: Mapping[str, str]) -> None: ...
    async def exists(self, name: str) -> bool: ...
    async def delete(self, name: str) -> None: ...


class BatchLane:
    """The batch lane, as the job uses it. One per process.

    Args:
        deployment: `BATCH_DEPLOYMENT`; None: no question goes by this lane, but logs of earlier ones are read.
        tokens: counts what replies have cost.
        host: of the model's endpoint, which results name.
    """

    def __init__(  # noqa: PLR0913 - what a process has
        self,
        model: "VisionModel",
        lines: Lines,
        deployment: str | None,
        tokens: DailyTokens | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        host: str | None = None,
    ) -> None:
        self._model = model
        self._lines = lines
        self._deployment = deployment
        self._tokens = tokens
        self._now = now
        self._host = host

    async def is_waiting(self, kept: bytes | None) -> bool:
        """Whether the work whose claim keeps this waits for a batch, and will be delivered again.

        Lines that are too late are deleted, so that the batch they were in can't hold up the ones that are written
        anew. A storage request for each line that waits; none for work that is not in this lane.
        """
        log = BatchLog.kept_in(kept)
        if log is None or not log.waiting:
            return False
        if self._now() - log.since > LONGEST:
            for line in log.waiting:
                await self._lines.delete(line)
            return False
        return all([await self._lines.exists(line) for line in log.waiting])

    def model_for(
        self, work: Work, request: Request, claim: Claim, giving_up: PermanentFailure | None
    ) -> "VisionModel | None":
        """What is asked in place of the model for one run of `work`; None where the model itself is.

        Args:
            work: whose question is asked.
            request: to be delivered again once it is answered.
            claim: of the work. It keeps the log.
            giving_up: the failure of each question that has no answer in the log.
        """
        log = BatchLog.kept_in(claim.kept)
        if log is None:
            if giving_up or not (self._deployment and work.goes_by_batch):
                return None
            if claim.kept is not None:  # another lane has paid for a part, and ends it: the log would take its place
                return None
            log = BatchLog(request=request, since=self._now(), work_key=work.key)
        # Where lines wait, some are missing, or were too late: they are written anew.
        log = log.model_copy(update={"request": request, "since": self._now(), "waiting": []})
        return _LoggedModel(self, work, log, claim.keep, giving_up)

    # What one run needs of the process:

    async def ask(self, question: Question, picture: Picture) -> Reply:
        """Ask the model itself, by the default lane."""
        return await self._model.ask(question.at("default"), picture)

    def takes(self, question: Question) -> bool:
        return self._deployment is not None and question.service_tier == "batch"

    async def write(self, line: str, question: Question, picture: Picture, facts: Mapping[str, str]) -> None:
        """Write the line, unless it is there already."""
        if self._tokens:
            await self._tokens.require_left()
        deployment = str(self._deployment)
        body = batch_line(line, replace(question, deployment=deployment).at("default"), picture)
        if not await self._lines.exists(line):
            await self._lines.write(line, aiter(body), len(body), {**facts, "deployment": deployment})

    def read(self, reply: LineReply, question: Question, *, count: bool) -> Reply:
        """The answer in the reply to a line, whose tokens are to `count`.

        Raises:
            Failure: it is none, as the model's own replies are read.
        """
        headers = {"x-request-id": reply.request_id} if reply.request_id else {}
        try:
            answer = read_response(reply.status, headers, reply.body.encode(errors="replace"), question)
        except Failure as failure:
            if failure.reply:
                failure.reply = replace(failure.reply, service_tier="batch", endpoint=self._host)
                self._count(failure.reply, count=count)
            raise failure.for_good(1) if isinstance(failure, UnreadableAnswer) else failure from None
        self._count(answer, count=count)
        return replace(answer, service_tier="batch", endpoint=self._host)

    def _count(self, reply: Reply, *, count: bool) -> None:
        if self._tokens and count:
            self._tokens.count((reply.input_tokens or 0) + (reply.output_tokens or 0))


class _LoggedModel:
    """Answers from a log; a question that has no reply there becomes a line."""

    def __init__(
        self,
        lane: BatchLane,
        work: Work,
        log: BatchLog,
        keep: Callable[[bytes], Awaitable[None]],
        giving_up: PermanentFailure | None,
    ) -> None:
        self._lane = lane
        self._work = work
        self._log = log
        self._keep = keep
        self._giving_up = giving_up
        self._askings: dict[str, int] = {}
        """In this run, of each image or page."""

    async def ask(self, question: Question, picture: Picture) -> Reply:
        """The reply that the log has.

        Raises:
            InBatch: it has none yet.
            Failure: as the model raises it.
        """
        line = self._line_for(picture)
        reply = self._log.replies.get(line)
        if isinstance(reply, Reply):
            return reply
        if reply:
            is_new = line not in self._log.counted
            if is_new:  # noted with what is written next
                self._log = self._log.model_copy(update={"counted": [*self._log.counted, line]})
            try:
                return self._lane.read(reply, question, count=is_new)
            except RetryableFailure as failure:
                if question.buying.fallback != "default" and not self._giving_up:
                    await self._write_log(without=line)  # the same question is put once more
                    raise
                logger.info("No batch has an answer: %s", failure.message)
        if self._giving_up:
            raise self._giving_up
        if reply or not self._lane.takes(question):
            answer = await self._lane.ask(question, picture)
            await self._write_log(replies={line: answer})
            return answer
        await self._write_log(waiting=line)
        await self._lane.write(line, question, picture, {"claim": self._work.content_key})
        raise InBatch("It waits for a batch.")

    def _line_for(self, picture: Picture) -> str:
        """The name of the line: the work's key, the page's number where it is asked about alone, and which asking."""
        of = f"{self._log.work_key}-{picture.number}" if isinstance(picture, SentPage) else self._log.work_key
        self._askings[of] = asking = self._askings.get(of, 0) + 1
        return of if asking == 1 else f"{of}.{asking}"

    async def _write_log(
        self, *, without: str | None = None, waiting: str | None = None, replies: Mapping[str, Reply] | None = None
    ) -> None:
        kept = {line: reply for line, reply in self._log.replies.items() if line != without}
        counted = [line for line in self._log.counted if line != without]
        lines = [*self._log.waiting, waiting] if waiting else self._log.waiting
        self._log = self._log.model_copy(
            update={"waiting": lines, "replies": {**kept, **(replies or {})}, "counted": counted}
        )
        await self._keep(self._log.to_json())
