"""What waits since a rate of the operator's is used up: tokens a day, re-analyses of an image an hour."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from azure.core.exceptions import AzureError

from blobsight.account import Account
from blobsight.terminal import counted
from pipeline.errors import RetryableFailure
from pipeline.storage.listing import list_page
from pipeline.storage.marks import PREFIX
from pipeline.storage.spending import Spending

SETTINGS = {"OverDailyTokens": "TOKENS_PER_DAY", "OverReanalyses": "REANALYSES_PER_HOUR"}
"""By the failure that a mark names."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens of today, where the app limits them, and how many images wait for which setting.

    Images are counted among the first 5,000 that wait; `more` says whether there are others.
    """

    spent: int = 0
    limit: int | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)
    more: bool = False

    def to_json(self) -> dict[str, Any]:
        tokens = None if self.limit is None else {"spent": self.spent, "limit": self.limit}
        return {"tokens_today": tokens, "waiting_for_rates": dict(self.waiting)}

    def sentences(self) -> list[str]:
        """What a person should know, or nothing."""
        said = []
        if self.limit is not None:
            share = f"Today {self.spent:,} of {self.limit:,} tokens are spent (TOKENS_PER_DAY)"
            said.append(f"{share}: the rest waits until 00:00 UTC." if self.spent >= self.limit else f"{share}.")
        for setting, number in sorted(self.waiting.items()):
            least = "At least " if self.more else ""
            said.append(f"{least}{counted(number, 'image')} wait{'s' * (number == 1)} for the setting {setting}.")
        return said


async def rates(account: Account, now: datetime) -> Rates | None:
    """Read the app's notes, by two listings; None where the person may not, which only the app has to."""
    try:
        spent, limit = await Spending(account.blobs, account.place.state).total(f"{now:%Y-%m-%d}")
        page = await list_page(account.state, None, metadata=True, prefix=PREFIX)
    except (RetryableFailure, AzureError):
        return None
    waiting: Counter[str] = Counter()
    for mark in page.blobs:
        if setting := SETTINGS.get(mark.metadata.get("why", "")):
            waiting[setting] += 1
    return Rates(spent, limit, waiting, page.next_token is not None)
