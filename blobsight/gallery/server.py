"""The server: on this machine's loopback address, for one browser."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web
from click import ClickException

from blobsight.account import Account, explained
from blobsight.gallery import doing, looking
from blobsight.gallery.answers import Answers
from blobsight.gallery.guard import Guard, Handler, secure
from blobsight.gallery.looking import GALLERY, Gallery, refused
from blobsight.gallery.watching import Watching
from blobsight.pictures.pictures import Pictures

PAGES = Path(__file__).with_name("static")
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_BODY = 16 * 1024 * 1024
"""Bytes of a request, but for files that are uploaded."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def serving(account: Account, prefix: str, *, ports: Sequence[int], read_only: bool) -> AsyncIterator[Guard]:
    """Serve the gallery of `account` while the context is open. Yields the guard, which has the address.

    Args:
        account: the account.
        prefix: of the images' names.
        ports: on 127.0.0.1, in the order in which they are tried; 0 is any free one.
        read_only: leave out what changes something.

    Raises:
        OSError: none of the ports can be had.
    """
    guard = Guard()
    watching = Watching(account, prefix)
    async with Pictures(account.images) as pictures:
        app = web.Application(middlewares=[guard.middleware, _errors], client_max_size=MOST_BODY)
        app[GALLERY] = Gallery(
            account=account,
            prefix=prefix,
            read_only=read_only,
            watching=watching,
            answers=Answers(account.results),
            pictures=pictures,
        )
        app.on_response_prepare.append(secure)
        app.add_routes(looking.routes)
        if not read_only:
            app.cleanup_ctx.append(doing.kept)
            app.add_routes(doing.routes)
        for address, page in _pages().items():
            app.router.add_get(address, page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        await runner.setup()
        listing = asyncio.create_task(watching.run())
        try:
            guard.serve_on(await _listen(runner, ports))
            yield guard
        finally:
            listing.cancel()
            await asyncio.gather(listing, return_exceptions=True)
            await runner.cleanup()


async def _listen(runner: web.AppRunner, ports: Sequence[int]) -> int:
    """Listen on the first of `ports` that is free; 0 is any that is."""
    for port in ports[:-1]:
        with suppress(OSError):
            await web.TCPSite(runner, "127.0.0.1", port).start()
            break
    else:
        await web.TCPSite(runner, "127.0.0.1", ports[-1]).start()
    return int(runner.addresses[0][1])


def _pages() -> dict[str, Handler]:
    """The files of the page, by their addresses. They are small and read once; no path is looked up."""

    def served(path: Path) -> Handler:
        body, media_type = path.read_bytes(), MEDIA_TYPES[path.suffix]

        async def serve(_request: web.Request) -> web.Response:
            return web.Response(body=body, content_type=media_type, charset="utf-8")

        return serve

    files = {path.relative_to(PAGES).as_posix(): path for path in PAGES.rglob("*") if path.suffix in MEDIA_TYPES}
    return {"/": served(files.pop("index.html"))} | {f"/static/{name}": served(path) for name, path in files.items()}


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what goes wrong into a sentence, as the commands do."""
    try:
        with explained(request.app[GALLERY].account.place):
            return await handler(request)
    except web.HTTPException as error:
        return refused(error.status, error.text or error.reason)
    except ClickException as error:  # a Trouble is one, and wrong options are
        return refused(502 if hasattr(error, "code") else 400, error.format_message(), getattr(error, "code", None))
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("a request failed")
        return refused(500, "The gallery failed at this. Its terminal says more.")
