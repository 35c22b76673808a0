"""Who may talk to the gallery: the browser of the person who started it, and its own page there.

The address that is printed holds a random secret. Who opens it gets a cookie that no other site's request carries
(SameSite=Strict) and no script can read (HttpOnly). Every request has to name this server as its host, so that a
foreign name that points to this machine is of no use (DNS rebinding); and what a page sends has to come from a page of
ours.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

OPEN = "/open/"
SECURITY_HEADERS = {
    # The last two: text from strangers can't become markup, whatever the script does.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOCKED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Blobsight</title>
<h1>This page is locked</h1>
<p>Open the whole address that <code>blobsight gallery</code> printed, with the part after <code>/open/</code>. It
changes each time the gallery is started.</p></html>
"""
ENTERED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={target}"><title>Blobsight</title>
<p><a href="{target}">Open the gallery</a></p></html>
"""
"""A page instead of a redirect: the next request comes from this site, so that the strict cookie goes along even where
the address was a link on another one. And the secret leaves the address bar."""

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Lets requests of one browser through."""

    def __init__(self) -> None:
        self._secret = secrets.token_urlsafe(32)
        self._ticket: str | None = None
        self._port = 0

    def serve_on(self, port: int) -> None:
        """Set the port that requests come to."""
        self._port = port

    @property
    def address(self) -> str:
        """The address to open, with the secret."""
        return f"http://127.0.0.1:{self._port}{OPEN}{self._secret}"

    def address_once(self) -> str:
        """An address that lets in once: for the command line of a browser, which every user of the machine can see."""
        self._ticket = secrets.token_urlsafe(32)
        return f"http://127.0.0.1:{self._port}{OPEN}{self._ticket}"

    @property
    def _cookie(self) -> str:
        # Cookies are shared by all ports of a host: each gallery has its own.
        return f"blobsight-{self._port}"

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Host") not in self._hosts:
            return _refused(421, "This server answers to 127.0.0.1 only.")
        if not self._is_from_here(request):
            return _refused(403, "A request of another site is not answered.")
        if request.path.startswith(OPEN):
            return self._enter(request)
        if not _is_same(request.cookies.get(self._cookie, ""), self._secret):
            if request.path == "/":
                return secured(web.Response(status=401, text=LOCKED, content_type="text/html"))
            return _refused(401, "Open the address that `blobsight gallery` printed.")
        return await handler(request)

    @property
    def _hosts(self) -> set[str]:
        return {f"127.0.0.1:{self._port}", f"localhost:{self._port}"}

    def _is_from_here(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        if origin is not None:
            return origin == f"http://{request.headers['Host']}"
        # A browser names the origin of whatever may change something. Opening the page may come from anywhere.
        is_read = request.method in ("GET", "HEAD")
        is_page = request.path == "/" or request.path.startswith(OPEN)
        site = request.headers.get("Sec-Fetch-Site", "none")
        return is_read and (
            site in ("same-origin", "none") or (is_page and request.headers.get("Sec-Fetch-Dest") == "document")
        )

    def _enter(self, request: web.Request) -> web.Response:
        if not self._lets_in(request.path.removeprefix(OPEN)):
            return secured(web.Response(status=401, text=LOCKED, content_type="text/html"))
        answer = secured(web.Response(text=ENTERED.format(target="/"), content_type="text/html"))
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="Strict", path="/")
        return answer

    def _lets_in(self, given: str) -> bool:
        if self._ticket is not None and _is_same(given, self._ticket):
            self._ticket = None
            return True
        return _is_same(given, self._secret)


def _is_same(given: str, secret: str) -> bool:
    # What is given may hold bytes that are no text: they came as halves of characters.
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode())


def secured(response: web.Response) -> web.Response:
    response.headers.update(SECURITY_HEADERS)
    return response


async def secure(_request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers onto every response that does not have its own. For `on_response_prepare`."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _refused(status: int, why: str) -> web.Response:
    return secured(web.json_response({"error": {"code": None, "message": why}}, status=status))
