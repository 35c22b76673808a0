"""What earlier runs have paid for the same question about the same bytes: an answer, or some of its pages."""

from dataclasses import dataclass

from pipeline.job.answering import NOTHING_YET
from pipeline.job.places import Place
from pipeline.job.requests import Request
from pipeline.job.work import SoFar, Work, answered_pages, so_far
from pipeline.result import MOST_REUSED_BYTES, PAID_FAILURES, Result, result_in
from pipeline.storage.facts import Claim, StoredResult


class Replaced(Exception):
    """The result that was found is not there any more."""


@dataclass(frozen=True, slots=True)
class PaidBefore:
    """What was paid before this run, as its claim or the stored result shows it.

    Args:
        place: where the image's result is.
        name: the image's.
    """

    place: Place
    name: str
    work: Work
    request: Request
    claim: Claim

    async def answer(self, stored: StoredResult | None) -> Result | None:
        """The earlier run's result, if that has answered all that is asked. For a trial it may be the image's own.

        Raises:
            Replaced: another run has written a result since `stored` was found.
            RetryableFailure: it can't be read now.
        """
        kept = self._kept()
        if kept is not None:
            return None if so_far(kept) else kept
        if stored is not None and self._may_reuse(self.work, stored):
            return await self._read(self.place, stored)
        return await self._answer_apart_from_trials()

    async def _answer_apart_from_trials(self) -> Result | None:
        usual = self.place.usual
        if usual is None:
            return None
        stored = await usual.results.find(usual.result_name(self.name))
        if stored is None or stored.facts.failed or not self._may_reuse(self.work.usual, stored):
            return None
        return await self._read(usual, stored)

    async def _read(self, place: Place, stored: StoredResult) -> Result | None:
        body = await place.results.read(place.result_name(self.name))
        earlier = result_in(body) if body is not None else None
        if body is None or (earlier is not None and earlier.work_key != stored.facts.work_key):
            raise Replaced
        return earlier

    def unfinished(self) -> SoFar | None:
        """The part that a run kept which did not end. To go on with it is not asking again."""
        kept = self._kept()
        return so_far(kept) if kept else None

    async def pages(self, stored: StoredResult | None) -> SoFar:
        """The answered pages of a failed result, which are not asked about again with the others.

        Raises:
            RetryableFailure: it can't be read now.
        """
        if not (stored and stored.facts.failed and self.work.is_of(stored) and self.work.is_per_page):
            return NOTHING_YET
        target = self.place.result_name(self.name)
        body = await self.place.results.read(target) if stored.size <= MOST_REUSED_BYTES else None
        failed = result_in(body) if body is not None else None
        return answered_pages(failed) if failed else NOTHING_YET

    def _kept(self) -> Result | None:
        return result_in(self.claim.kept) if self.claim.kept is not None else None

    def _may_reuse(self, work: Work, stored: StoredResult) -> bool:
        failed, code = stored.facts.failed, stored.facts.error_code
        return (
            work.is_of(stored)
            and stored.size <= MOST_REUSED_BYTES
            and not (failed and (code not in PAID_FAILURES or is_rerun(self.request, stored)))
        )


def is_rerun(request: Request, stored: StoredResult) -> bool:
    """Whether `request` wants this failed result replaced."""
    return stored.facts.failed and request.rerun_failed and request.rerun_of in (None, stored.etag)
