"""The memory that uploads and conversions share, in bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.errors import NotTried


class NoMemory(NotTried):
    """The images in progress leave no memory for this one."""


class Hold:
    """Memory in use."""

    def __init__(self, amount: int, give_back: Callable[[int], None]) -> None:
        self.amount = amount
        self._give_back = give_back

    def shrink(self, amount: int) -> None:
        """Go on with `amount` bytes, or with what is held if that is less."""
        self._give_back(max(0, self.amount - amount))
        self.amount = min(self.amount, amount)


class Budget:
    """At most `total` bytes in use at a time. A request for more waits until none are in use, and then gets them.

    First come, first served: a large request is not overtaken by small ones for ever.

    Args:
        patience: seconds to wait; None: for ever.
    """

    def __init__(self, total: int, *, patience: float | None = None) -> None:
        self._total = total
        self._patience = patience
        self._used = 0
        self._first = asyncio.Lock()
        """Held by the next in line."""
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def held(self, amount: int) -> AsyncIterator[Hold]:
        """Use `amount` bytes.

        Raises:
            NoMemory: they did not come free in time.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._take(amount)
        except TimeoutError:
            raise NoMemory(
                f"No memory came free for {amount:,} bytes within {self._patience:g} seconds.",
                retry_after=self._patience,
            ) from None
        hold = Hold(amount, self._give_back)
        try:
            yield hold
        finally:
            self._give_back(hold.amount)

    def _give_back(self, amount: int) -> None:
        self._used -= amount
        self._freed.set()

    async def _take(self, amount: int) -> None:
        async with self._first:
            while self._used and self._used + amount > self._total:
                self._freed.clear()
                await self._freed.wait()
            self._used += amount


class Content:
    """The bytes of an upload, and the memory reserved for them, for as long as they are needed."""

    def __init__(self, data: bytes, reserved: AsyncExitStack) -> None:
        self._data = [data]
        self._reserved = reserved

    @property
    def data(self) -> bytes:
        return self._data[0]

    def replace(self, data: bytes) -> None:
        """Go on with other bytes: the unpacked ones."""
        self._data = [data]

    async def drop(self) -> None:
        """Let go of the bytes and their memory."""
        self._data.clear()
        await self._reserved.aclose()
