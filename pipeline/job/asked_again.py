"""How often an image that has a result was asked about again: kept in its metadata, within the operator's rate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pipeline.pacing.rates import Reanalyses
from pipeline.result import Result
from pipeline.storage.facts import StoredResult


class Results(Protocol):
    """See `pipeline.storage.results.Results`."""

    async def note(self, name: str, metadata: Mapping[str, str], of: StoredResult) -> bool: ...


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """The count of one image's re-analyses.

    Args:
        target: the name of the image's result.
    """

    rate: Reanalyses
    results: Results
    target: str

    def require_left(self, stored: StoredResult | None) -> None:
        """Check whether the image may be asked about, whose result for now is `stored`.

        Raises:
            OverReanalyses: not yet.
        """
        if stored:
            self.rate.require_left(stored.facts.reanalyzed)

    def counted(self, result: Result, stored: StoredResult | None) -> tuple[datetime, ...]:
        """The moments for the metadata of `result`, which comes after `stored`."""
        if stored is None:
            return ()
        was_asked = result.timings_ms.model is not None
        return (self.rate.with_one_more if was_asked else self.rate.still)(stored.facts.reanalyzed)

    async def note(self, result: Result, stored: StoredResult | None) -> None:
        """Count in `stored` an answer that is not delivered: it was paid for.

        Raises:
            RetryableFailure: that can't be written now.
        """
        moments = self.counted(result, stored)
        if stored and moments != self.rate.still(stored.facts.reanalyzed):
            facts = replace(stored.facts, reanalyzed=moments, written=stored.written)
            await self.results.note(self.target, facts.to_blob(), stored)
