"""Requests read and replies sent, by all endpoints of the model in the same way."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from localcloud.identity import TokenRefused, caller_of
from localcloud.model import errors
from localcloud.model.errors import RefusedError
from localcloud.model.question import MAX_BODY_BYTES, parse
from localcloud.model.replies import Reply

type Verify = Callable[[str], Mapping[str, Any]]
"""Takes a bearer token, gives its claims; raises TokenRefused unless it is meant for
https://cognitiveservices.azure.com."""


def authorize(request: web.Request, verify: Verify) -> str | None:
    """The caller, where the token names one. Raises RefusedError."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise RefusedError(errors.key_rejected() if "api-key" in request.headers else errors.token_rejected())
    try:
        return caller_of(verify(token.strip()))
    except TokenRefused as refused:
        raise RefusedError(errors.token_rejected()) from refused


async def read_json(request: web.Request) -> dict[str, Any]:
    """The request's JSON object. Read by hand: `request.read()` would keep the bytes until the answer is sent."""
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            message = f"Request body too large: at most {MAX_BODY_BYTES:,} bytes."
            raise RefusedError(errors.invalid_request(message, code="request_too_large", status=413))
    return parse(raw)


async def wait(reply: Reply, closing: asyncio.Event) -> None:
    """The reply's silence, and for ever where it hangs; but not into the shutdown."""
    if reply.hangs:
        await closing.wait()
    elif reply.silence:
        await silence(reply.silence, closing)


async def silence(seconds: float, closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return


async def send(reply: Reply, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    transport = request.transport
    if (reply.hangs or reply.sent < 0) and transport is not None:
        transport.abort()
    everything = {"Content-Type": "application/json", **headers, **reply.headers}
    if 0 <= reply.sent < 1 and transport is not None:
        response = web.StreamResponse(status=reply.status, headers=everything)
        response.content_length = len(reply.body)
        await response.prepare(request)
        await response.write(reply.body[: int(len(reply.body) * reply.sent)])
        transport.close()  # sends what is buffered, which abort() would not
        return response
    return web.Response(status=reply.status, body=reply.body, headers=everything)
