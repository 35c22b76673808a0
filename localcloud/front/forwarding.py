"""A reverse proxy that changes nothing: storage requests are signed, so they must arrive as they were sent."""

import logging
import ssl
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

# RFC 9110, 7.6.1: meant for the next hop only. Host is not among them: Azurite compares it with the host of a
# copy's source, so keeping it allows copies between blobs of this front, with any signature.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Headers that aiohttp would add; some of them are signed.
NEVER_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

HEADER_BYTES = 65536  # a name of 1,024 characters takes up to 12 KB percent-encoded, metadata 8 KB
CONNECT_SECONDS = 5
READ_SECONDS = 300  # silence, not duration: Azurite is slow to commit thousands of blocks
IDLE_SECONDS = 30  # less than Azurite keeps connections

type AnswerHook = Callable[[aiohttp.ClientResponse], Awaitable[None]]

log = logging.getLogger(__name__)


class Forwarder:
    """Hands requests to `origin` (scheme, host and port) and streams the answers back.

    Of a body of any size, 64 KB at a time are in memory in each direction.
    """

    def __init__(self, origin: str, tls: ssl.SSLContext) -> None:
        self._origin = origin
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0, keepalive_timeout=IDLE_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=NEVER_ADDED,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def forward(
        self, request: web.BaseRequest, on_answer: AnswerHook, *, body: bytes | None = None
    ) -> web.StreamResponse:
        """Forward a request and return the answer. `on_answer` sees its head before the client gets anything.

        `body` is the request's, if it has been read already.
        """
        if self._session is None:
            raise RuntimeError("Forwarder is used outside its `async with`.")
        if not request.raw_path.startswith("/"):
            return storage_error(400, "InvalidUri", "The requested URI does not represent any resource.")
        try:
            b" ".join(value for _, value in request.raw_headers).decode()
        except UnicodeDecodeError:
            # aiohttp would drop such bytes silently, and metadata would arrive damaged.
            return storage_error(400, "InvalidHeaderValue", "A request header is neither ASCII nor UTF-8.")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                URL(self._origin + request.raw_path, encoded=True),
                headers=end_to_end(request.headers, leave_out="expect"),
                data=(request.content if body is None else body) if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                await on_answer(answer)
                response = web.StreamResponse(
                    status=answer.status, reason=answer.reason, headers=end_to_end(answer.headers)
                )
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if response is None:
                if request.transport is None:
                    log.debug("The client went away within its upload.")
                    return web.Response(status=499, reason="Client Closed Request")  # the client is gone
                log.warning("The storage emulator does not answer: %s", error or type(error).__name__)
                return storage_error(503, "ServerBusy", "The storage emulator behind this port does not answer.")
            # Half an answer is sent: only a broken connection shows the client that the rest is missing.
            if request.transport is not None:
                request.transport.abort()
            return response


def end_to_end(headers: CIMultiDict[str] | CIMultiDictProxy[str], *, leave_out: str = "") -> CIMultiDict[str]:
    """The end-to-end headers, in their order and spelling."""
    dropped = {name.strip().lower() for name in headers.get("Connection", "").split(",")} | HOP_BY_HOP
    dropped.add(leave_out)
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def storage_error(status: int, code: str, message: str) -> web.Response:
    """Build an error response in the storage services' form; their SDKs retry a 503."""
    request_id = str(uuid.uuid4())
    return web.Response(
        status=status,
        text=(
            '<?xml version="1.0" encoding="utf-8"?>'
            f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}\nRequestId:{request_id}</Message></Error>"
        ),
        content_type="application/xml",
        headers={"x-ms-error-code": code, "x-ms-request-id": request_id},
    )
