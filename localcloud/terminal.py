"""Messages on stderr, results on stdout. rich omits colours and animation in pipes and obeys NO_COLOR."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from rich.console import Console

from localcloud.cloud import LocalCloud

talk = Console(stderr=True, highlight=False)
out = Console(highlight=False)


@asynccontextmanager
async def announced(cloud: LocalCloud) -> AsyncIterator[None]:
    """Run `cloud` while the context is open, and announce its start and stop."""
    async with AsyncExitStack() as stack:
        with talk.status("Starting the local cloud: storage emulator, identity, model, functions host ..."):
            await stack.enter_async_context(cloud)
        try:
            yield
        finally:
            with talk.status("Stopping everything ..."):
                await stack.aclose()
