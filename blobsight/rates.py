"""What waits since a rate of the operator's is used up: tokens a day, re-analyses of an image an hour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from azure.core.exceptions import AzureError

from blobsight.account import Account
from blobsight.terminal import counted
from blobsight.waiting import Waiting
from pipeline.errors import RetryableFailure
from pipeline.storage.spending import Spending

SETTINGS = {"OverDailyTokens": "TOKENS_PER_DAY", "OverReanalyses": "REANALYSES_PER_HOUR"}
"""By the failure that a mark names."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens of today, where the app limits them, and how many images wait for which setting."""

    spent: int = 0
    limit: int | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)

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
            said.append(f"{counted(number, 'image')} wait{'s' * (number == 1)} for the setting {setting}.")
        return said


async def rates(account: Account, now: datetime, waiting: Waiting | None) -> Rates | None:
    """Read the app's notes, by a listing; None where the person may not, which only the app has to.

    `waiting` is what waits; None where the person may not read that either.
    """
    if waiting is None:
        return None
    try:
        spent, limit = await Spending(account.blobs, account.place.state).total(f"{now:%Y-%m-%d}")
    except (RetryableFailure, AzureError):
        return None
    settings = {setting: waiting.whys[why] for why, setting in SETTINGS.items() if waiting.whys[why]}
    return Rates(spent, limit, settings)
