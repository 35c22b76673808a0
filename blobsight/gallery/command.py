"""`blobsight gallery`: images and answers side by side, in a browser."""

import asyncio
import os
import signal
import sys
import webbrowser
from contextlib import suppress

import click

from blobsight.account import Place, account_options
from blobsight.image_states import checked_prefix
from blobsight.running import run
from blobsight.terminal import Exit, Trouble, plain, say

PORT = 7080
"""Tried first, so that an address of yesterday still leads here."""


@click.command()
@click.argument("prefix", default="", callback=checked_prefix)
@click.option("--read-only", is_flag=True, help="Only look: no uploads, no questions, no exports.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port on 127.0.0.1.  [default: {PORT}, or any if that is taken]"
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@account_options
def gallery(place: Place, prefix: str, *, read_only: bool, port: int | None, no_browser: bool) -> Exit:
    """Look at images and their answers in a browser, and ask again.

    Shows the images whose names start with PREFIX, or all. The page is served by this machine for this machine, until
    Ctrl-C; the address that is printed lets in whoever opens it.

    \b
    blobsight gallery
    blobsight gallery 2026/receipts/ --read-only
    """  # noqa: D301 - click's mark of lines to leave alone
    return run(_run(place, prefix, read_only=read_only, port=port, no_browser=no_browser))


async def _run(place: Place, prefix: str, *, read_only: bool, port: int | None, no_browser: bool) -> Exit:
    from blobsight.gallery.server import serving  # noqa: PLC0415 - 150 ms that other commands don't need

    stopped = asyncio.Event()
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with place.opened() as account:
        try:
            async with serving(account, prefix, ports=[port] if port else [PORT, 0], read_only=read_only) as guard:
                plain(guard.address)
                sys.stdout.flush()
                say("The gallery is open at this address. Ctrl-C stops it.")
                if not no_browser and _has_browser():
                    await asyncio.to_thread(webbrowser.open, guard.address_once())
                await stopped.wait()
        except OSError as error:
            if port is None or isinstance(error, BrokenPipeError):
                raise
            raise Trouble(
                f"Port {port} can't be used ({error.strerror or error}): give another with --port."
            ) from error
    return Exit.DONE


def _has_browser() -> bool:
    """Whether a browser can show itself: on a bare terminal, one for text would take it over."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
