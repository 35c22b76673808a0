"""A budget that tasks share: so many bytes, whoever holds them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """At most `total` in use at a time. Who asks for more than that waits until nobody holds any, and then gets it.

    First come, first served: a large request is not overtaken by small ones for ever.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._first = asyncio.Lock()
        """Held by whoever is next."""
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def held(self, amount: int) -> AsyncIterator[None]:
        async with self._first:
            while self._used and self._used + amount > self._total:
                self._freed.clear()
                await self._freed.wait()
            self._used += amount
        try:
            yield
        finally:
            self._used -= amount
            self._freed.set()
