"""Talk on stderr, results on stdout; rich leaves colours and animation out of pipes and obeys NO_COLOR."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from rich.console import Console

from localcloud.cloud import LocalCloud

talk = Console(stderr=True, highlight=False)
out = Console(highlight=False)


@asynccontextmanager
async def announced(cloud: LocalCloud) -> AsyncIterator[None]:
    """`cloud`, up inside; whoever waits for its start and stop sees what for."""
    async with AsyncExitStack() as stack:
        with talk.status("Starting the local cloud: storage emulator, identity, model, functions host ..."):
            await stack.enter_async_context(cloud)
        try:
            yield
        finally:
            with talk.status("Stopping everything ..."):
                await stack.aclose()
