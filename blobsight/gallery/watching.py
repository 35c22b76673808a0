"""Keeping the index current: both containers are listed again and again, while somebody looks.

A pass costs two list operations for each 5,000 images, and while something is pending one for each 5,000 that wait.
Azure announces new results to subscribers only, and needs a public address or a queue of their own for that; a listing
needs neither, and finds deleted images as well.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from blobsight.account import Account, explained
from blobsight.gallery.columns import Shown
from blobsight.gallery.index import Index
from blobsight.image_states import ImageState, states_as_listed
from blobsight.terminal import Problem, Trouble
from blobsight.waiting import waiting_images

PAUSE_SECONDS = 4.0
"""Between two passes while something is pending or has just changed."""
CALM_PAUSE_SECONDS = 30.0
LIVELY_SECONDS = 120.0
"""After a change, so long is listed at the shorter interval."""
PAUSE_PER_PASS = 4.0
"""A pause is at least so many times as long as the pass before it: a long listing is not the account's main load."""
EXPECTED_SECONDS = 600.0
"""An image that was queued is shown as such for so long, at most: the same question brings no new result."""
NEWS_EVERY = 5000
"""Rows after which the page hears of the first pass: a page of the listing."""
YIELDS_EVERY = 1000
"""Rows after which others get their turn."""


class Watching:
    """Lists, and notifies those who listen."""

    def __init__(self, account: Account, prefix: str, *, pause: float = PAUSE_SECONDS) -> None:
        self._account = account
        self._pause_seconds = pause
        self._prefix = prefix
        self.index = Index()
        self.version = 0
        """Changes with whatever is shown."""
        self.trouble: Trouble | None = None
        """Why the last pass failed."""
        self.is_listing = True
        """Whether the first pass is still under way."""
        self.problems: list[Problem] = []
        """Entries of the listings that can't be understood, of the last whole pass."""
        self.is_resting = False
        """Whether nothing is listed until somebody looks."""
        self._changed = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._lookers = 0
        self._is_news = False
        self._last_change = monotonic()
        self._expected: dict[str, tuple[str | None, float]] = {}
        """Images that were queued: the ETags of their results then, and when they are not waited for any more."""

    async def run(self) -> None:
        """List until cancelled."""
        while True:
            began = monotonic()
            try:
                with explained(self._account.place):
                    await self._pass()
            except Trouble as trouble:
                await self._notify(trouble)
            await self._pause(monotonic() - began)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """While the context is open, somebody looks."""
        self._lookers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._lookers -= 1

    def look_again(self) -> None:
        """Something has been done: list now, and often for a while."""
        self._last_change = monotonic()
        self._is_news = True
        self._wanted.set()

    def expect(self, images: Iterable[ImageState]) -> None:
        """These images were queued to run again: until their results change, they are shown as pending."""
        until = monotonic() + EXPECTED_SECONDS
        self._expected |= {state.image.name: (state.result_etag, until) for state in images}
        self.look_again()

    def marked(self, image: Shown) -> Shown:
        """The image, marked if another result of it is on its way."""
        etag, until = self._expected.get(image.name, (None, 0.0))
        is_expected = until > monotonic() and etag == image.result_etag
        return replace(image, is_expected=is_expected) if is_expected else image

    async def change_after(self, version: int) -> int:
        """Wait until the version is another one, and return it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.version != version)
        return self.version

    async def _pass(self) -> None:
        index, problems = Index(), list[Problem]()
        is_first = not len(self.index)
        if is_first:
            self.index = index
        states = states_as_listed(self._account.images, self._account.results, self._prefix, problems)
        number = 0
        async for state, is_final in states:
            index.add(state, is_final=is_final)
            number += 1
            if number % YIELDS_EVERY == 0:
                await asyncio.sleep(0)
            if number % NEWS_EVERY == 0:
                gc.collect()  # the SDK's pages refer to themselves: left alone, a dozen of them stay for long
                if is_first:
                    await self._notify(None)
        index.complete()
        if index.pending and (waiting := await waiting_images(self._account)) and waiting.batched:
            await asyncio.to_thread(index.note_batches, waiting.is_in_batch)
        self.problems = problems
        self._forget()
        is_change = index.columns != self.index.columns
        is_news = self._is_news or is_first or self.is_listing or self.trouble is not None or is_change
        if is_news:
            self._last_change = monotonic()
        self._is_news = False
        self.index, self.is_listing = index, False
        if is_news:
            await self._notify(None)

    def _forget(self) -> None:
        now = monotonic()
        self._expected = {name: known for name, known in self._expected.items() if known[1] > now}

    async def _notify(self, trouble: Trouble | None) -> None:
        async with self._changed:
            self.trouble = trouble
            self.version += 1
            self._changed.notify_all()

    async def _pause(self, lasted: float) -> None:
        self._wanted.clear()
        is_lively = self.index.pending or monotonic() - self._last_change < LIVELY_SECONDS
        seconds = max(self._pause_seconds if is_lively else CALM_PAUSE_SECONDS, PAUSE_PER_PASS * lasted)
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            if not self._lookers:
                self.is_resting = True
                await self._wanted.wait()
                self.is_resting = False
