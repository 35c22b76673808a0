"""Keeping a paid answer whose result is about to be replaced: the same question may come again."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.result import MOST_REUSED_BYTES, result_in
from pipeline.storage.facts import StoredResult


class Results(Protocol):
    """See `pipeline.storage.results.Results`."""

    async def read(self, name: str) -> bytes | None: ...


async def keep_replaced(
    results: Results, keep_for: Callable[[str, bytes], Awaitable[None]], name: str, stored: StoredResult
) -> None:
    """Keep what was paid for the result `name`, `stored` there for now, under its own content key.

    Two storage requests; none where it was not paid, or where its metadata have lost the key.

    Raises:
        RetryableFailure: it can't be read or kept now.
    """
    key = stored.facts.content_key
    if key is None or not stored.facts.paid or stored.size > MOST_REUSED_BYTES:
        return
    body = await results.read(name)
    if body is None:
        return
    found = result_in(body)
    if found is not None and found.work_key == stored.facts.work_key:  # or another run has just replaced it
        await keep_for(key, body)
