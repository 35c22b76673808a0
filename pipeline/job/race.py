"""From claimed work to its result, against other runs on the same image.

The claim keeps the same question about the same bytes from being asked twice. Different work on one image, as after an
overwrite, may go on at the same time, and the newest has to win:

    slow run              storage                quick run
    open image v1
    find result: none
                          image v2 uploaded
                                                 open v2, find result: none, answer
                          result of v2    <---   write, if there is none yet
    answer v1
    write, if there is none yet: refused
    find result of v2: newer, superseded

A result is written only if it is still the one that was found, so a lost race starts over from there, without letting
go of the claim. A result that was found is replaced only if it can't be a newer version's: because the image is still
the one that was opened, or else because the result says so. A result of the same version may answer a newer question,
since a sidecar has changed: so what is asked is looked up once more.

What was paid for is never thrown away:

- before the model is asked, it is known that the result can be written;
- an answer that can't be written then is kept in the claim, for the next run to write; so is one whose image was
  deleted or overwritten meanwhile, since some programs delete a file and write the same one again;
- an answer to the same question about the same bytes, given for an earlier version, is carried over;
- when nothing at all can be written, the answer stays in memory, and writing is tried until the delivery's deadline.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import ErrorCode, InBatch, PermanentFailure, RetryableFailure
from pipeline.instructions import Origin
from pipeline.instructions.options import Options
from pipeline.job.answering import Answerer, Failing
from pipeline.job.asked_again import AskedAgain
from pipeline.job.batched import BatchLog
from pipeline.job.keeping import Keeper, keep_replaced
from pipeline.job.memory import Content
from pipeline.job.page_by_page import Interrupted
from pipeline.job.paid_before import PaidBefore, Replaced, is_rerun
from pipeline.job.places import Place
from pipeline.job.requests import Request
from pipeline.job.work import (
    GIVEN_UP,
    Answered,
    NotAsked,
    Stopwatch,
    Work,
    assemble,
    carried_over,
)
from pipeline.pacing.rates import Reanalyses
from pipeline.result import Result, ResultMetadata
from pipeline.storage.facts import Claim, StoredResult, Upload
from pipeline.telemetry import count_reused_answer

MOST_RUNS = 5
"""Runs that may end without a word (a killed worker) before the work counts as what kills them. As many deliveries as
the host gives."""


class Outcome(StrEnum):
    """How one delivery of one upload ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ALREADY_DONE = "already done"
    """The image, as it is now asked about, has its result."""
    SUPERSEDED = "superseded"
    """A newer version of the image has its result."""
    CHANGED = "changed"
    """Something else is asked about the image by now: the delivery goes on with that."""
    IN_BATCH = "in a batch"
    """Its question waits for a batch, which has the work delivered again."""
    GONE = "gone"
    """The upload was deleted."""
    NOT_AN_IMAGE = "not an image"
    """Instruction file or junk file."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the work ended. `error_code` is the failed result's, if it is this run that wrote it."""

    outcome: Outcome
    error_code: str | None = None


class Race:
    """One run of claimed work.

    Args:
        is_still_asked: whether the work is what is asked about the image as both are now.
        rate: how often the image may be asked about again.
    """

    def __init__(  # noqa: PLR0913 - what one run is about, by keyword
        self,
        place: Place,
        *,
        upload: Upload,
        work: Work,
        request: Request,
        claim: Claim,
        watch: Stopwatch,
        is_still_asked: Callable[[], Awaitable[bool]],
        rate: Reanalyses,
    ) -> None:
        self._place = place
        self._results = place.results
        self._upload = upload
        self.work = work
        self.request = request
        self.claim = claim
        self._watch = watch
        self._is_still_asked = is_still_asked
        self._target = place.result_name(upload.name)
        self._asked_again = AskedAgain(rate, place.results, self._target)
        self._keeper = Keeper(claim, self._target)
        self._paid_before = PaidBefore(place, upload.name, work, request, claim)
        self.attempts = request.attempt + claim.runs - 1

    async def run(self, answerer: Answerer, content: Content) -> Ended:
        """Bring the work to its result.

        Raises:
            AnswerKept: there is an answer, and its result can't be written now.
            OverReanalyses: the image was asked about again too often.
            RetryableFailure: there is no answer yet.
        """
        begun = await self._begun()
        if isinstance(begun, Ended):
            return begun
        stored, earlier = begun
        try:
            result = earlier or await self._answered(answerer, content, stored)
        except InBatch:
            return Ended(Outcome.IN_BATCH)
        while True:
            try:
                if ended := await self._deliver(result, stored):
                    return ended
                stored = await self._results.find(self._target)
                if ended := await self._ended(stored, result):
                    if stored and stored.facts.work_key != self.work.key:
                        await self._keep_undelivered(result, stored)
                    return ended
            except RetryableFailure as failure:
                if not result.paid:
                    raise
                await self._keeper.keep_or_wait(result, failure)

    async def _begun(self) -> Ended | tuple[StoredResult | None, Result | None]:
        """The result that is there, and this work's own if an earlier run has paid for its answer."""
        seen: str | None = None
        while True:
            stored = await self._results.find(self._target)
            if ended := await self._ended(stored, None):
                return ended
            if stored:
                stored.require_replaceable(self._target)
            try:
                return stored, await self._earlier(stored)
            except Replaced:
                if stored is None or stored.etag == seen:  # its content and its metadata are of two results
                    return stored, None
                seen = stored.etag

    async def _ended(self, stored: StoredResult | None, result: Result | None) -> Ended | None:
        """How the work has ended already, going by the result that is there."""
        if stored is None:
            return None
        given_up = stored.facts.error_code in GIVEN_UP
        log = BatchLog.kept_in(self.claim.kept)
        answered = result is not None or log is not None
        if is_done(self.work, self.request, stored) and not (answered and given_up):
            if log is None or not is_rerun(log.request, stored):  # a rerun's answer is still to be delivered
                self.claim.discard()
            return Ended(Outcome.ALREADY_DONE)
        if stored.facts.source_etag == self._upload.etag:
            if await self._asks_nothing_new(stored):
                return Ended(Outcome.ALREADY_DONE)
            if not await self._is_still_asked():
                return Ended(Outcome.CHANGED)
        elif result is None and stored.is_newer_than(self._upload):
            overtaken = await self._overtaken(stored)
            return Ended(overtaken) if overtaken else None
        return None

    async def _asks_nothing_new(self, stored: StoredResult) -> bool:
        """Whether this is an event of the image, or of its sidecar, from before a person asked something else."""
        request = self.request
        of_its_own = request.instructions is not None or request.options != Options() or request.rerun_failed
        if of_its_own or stored.facts.origin != Origin.REQUEST:
            return False
        if request.name == self._upload.name:
            return True
        sidecar = await self._place.uploads.look(request.name)
        return sidecar is None or stored.is_later_than(sidecar)

    async def _deliver(self, result: Result, stored: StoredResult | None) -> Ended | None:
        """Write the result, if it is still wanted; None when another run wrote one meanwhile."""
        if overtaken := await self._overtaken(stored):
            await self._keep_undelivered(result, stored)
            return Ended(overtaken)
        if stored and stored.facts.source_etag == self._upload.etag and not await self._is_still_asked():
            await self._keep_undelivered(result, stored)
            return Ended(Outcome.CHANGED)
        if stored and stored.facts.content_key != self.work.content_key and not self._is_outdated(stored, result):
            await keep_replaced(self._results, self.claim.keep_for, self._target, stored)
        content_key = self.work.content_key if self.work.source.sha256 else None
        metadata = ResultMetadata.of(result, content_key, self._asked_again.counted(result, stored)).to_blob()
        if await self._results.write(self._target, result.to_json(), metadata, replacing=stored):
            self.claim.discard()
            return Ended(Outcome(result.status), result.error.code if result.error else None)
        return None

    async def _keep_undelivered(self, result: Result, stored: StoredResult | None) -> None:
        """Keep an answer that has no use now, and count it."""
        await self._keeper.keep(result)
        await self._asked_again.note(result, stored)

    def _is_outdated(self, stored: StoredResult, result: Result) -> bool:
        """Whether the answer in `stored` is about other bytes than the one that replaces it."""
        return result.paid and stored.facts.source_sha256 != self.work.source.sha256

    async def _overtaken(self, stored: StoredResult | None) -> Outcome | None:
        """Why no result of this version may be written over `stored` any more; None when it may."""
        current = await self._place.uploads.look(self._upload.name)
        if current is None:
            return Outcome.GONE
        if current.etag != self._upload.etag and stored and stored.is_newer_than(self._upload):
            return Outcome.SUPERSEDED
        return None

    async def _earlier(self, stored: StoredResult | None) -> Result | None:
        earlier = await self._paid_before.answer(stored)
        if earlier is None:
            return None
        count_reused_answer()
        return carried_over(earlier, self.work, attempts=self.attempts, watch=self._watch)

    async def _answered(self, answerer: Answerer, content: Content, stored: StoredResult | None) -> Result:
        if self.claim.runs > MOST_RUNS:
            answerer = Failing(_crashed(self.claim.runs - 1))
        await self._results.require_writable()
        unfinished = self._paid_before.unfinished()
        pays = not (isinstance(answerer, Failing) or isinstance(self.work.asked, NotAsked))
        if pays and unfinished is None and BatchLog.kept_in(self.claim.kept) is None:
            self._asked_again.require_left(stored)
        begun = unfinished or await self._paid_before.pages(stored)
        try:
            answered = await answerer.answer(self.work.asked, content, self._watch, begun, self._keep_unfinished)
        except Interrupted as interrupted:
            await self._keep_unfinished(interrupted.answered)
            raise interrupted.cause from None
        return self._assembled(answered)

    async def _keep_unfinished(self, answered: Answered) -> None:
        await self._keeper.keep(self._assembled(answered))

    def _assembled(self, answered: Answered) -> Result:
        return assemble(self.work, answered, attempts=self.attempts, watch=self._watch)


def is_done(work: Work, request: Request, stored: StoredResult | None) -> bool:
    """Whether `stored` is the result of `work`, and not one that `request` wants replaced."""
    if stored is None or stored.facts.work_key != work.key or is_rerun(request, stored):
        return False
    refused = stored.facts.refused_tier
    return refused is None or isinstance(work.asked, NotAsked) or work.asked.question.service_tier == refused


def _crashed(runs: int) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.CRASHED,
        f"The analysis of this image was begun {runs} times and ended without a word each time, as when a worker runs"
        " out of memory. Try a smaller image; the app's log says more.",
        {"runs": runs},
    )
