"""Parts of a contender's run, and the cost of each."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import aiohttp
import psutil


class Stage:
    """The cost of `process` from here on."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._cpu = _cpu(process)
        self._began = time.perf_counter()

    def over(self, images: int) -> dict[str, float]:
        """Return the cost for `images` images: seconds, and bytes held now."""
        return {
            "images": images,
            "wall": time.perf_counter() - self._began,
            "cpu": _cpu(self._process) - self._cpu,
            "rss": self._process.memory_info().rss,
        }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def requests_so_far() -> Counter[str]:
    """Return the number of requests to the stand-in that serves as the model, by `METHOD container`."""
    url = f"{os.environ['AZURE_OPENAI_ENDPOINT']}/counts"
    async with aiohttp.ClientSession() as session, session.get(url, raise_for_status=True) as response:
        return Counter(await response.json())


async def in_flight(at_once: int, work: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """`work` on every number, `at_once` at a time. The first failure ends it.

    Raises:
        ExceptionGroup: of what `work` raised.
    """
    left = iter(numbers)

    async def some() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(some())
