"""A budget that tasks share: so many bytes, whoever holds them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """At most `total` in use at a time. Who asks for more than that waits until nobody holds any, and then gets it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def held(self, amount: int) -> AsyncIterator[None]:
        async with self._freed:
            await self._freed.wait_for(lambda: self._used == 0 or self._used + amount <= self._total)
            self._used += amount
        try:
            yield
        finally:
            self._used -= amount
            async with self._freed:
                self._freed.notify_all()
