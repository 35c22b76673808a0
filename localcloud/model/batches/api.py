"""Files and batches over HTTP."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from localcloud.model import replies, wire
from localcloud.model.batches import uploads
from localcloud.model.batches.requests import page
from localcloud.model.batches.script import BatchRequest, Fault, Operation
from localcloud.model.batches.service import BatchService
from localcloud.model.errors import RefusedError
from localcloud.model.replies import Reply
from localcloud.model.script import Dropped, Failure, Garbled, Hang, Slow, Throttled, Verbatim

CHUNK_BYTES = 256 * 1024

type Done = Mapping[str, Any] | Path
"""What is answered: a document, or the content of a file."""
type Act = Callable[[web.Request, str | None], Awaitable[Done]]
"""Does what a request asks for, on behalf of a caller. Raises RefusedError."""


class BatchApi:
    """The endpoints."""

    def __init__(self, service: BatchService, verify: wire.Verify, closing: asyncio.Event) -> None:
        self._service = service
        self._files = service.files
        self._jobs = service.jobs
        self._verify = verify
        self._closing = closing

    def routes(self, base: str) -> Sequence[web.RouteDef]:
        return [
            self._route("POST", f"{base}/files", "upload_file", self._upload_file),
            self._route("GET", f"{base}/files", "list_files", self._list_files),
            self._route("GET", f"{base}/files/{{id}}", "get_file", self._get_file),
            self._route("GET", f"{base}/files/{{id}}/content", "read_file", self._read_file),
            self._route("DELETE", f"{base}/files/{{id}}", "delete_file", self._delete_file),
            self._route("POST", f"{base}/batches", "create_batch", self._create_batch),
            self._route("GET", f"{base}/batches", "list_batches", self._list_batches),
            self._route("GET", f"{base}/batches/{{id}}", "get_batch", self._get_batch),
            self._route("POST", f"{base}/batches/{{id}}/cancel", "cancel_batch", self._cancel_batch),
        ]

    def _route(self, method: str, path: str, operation: Operation, act: Act) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            headers = replies.common_headers(replies.request_id(), "")
            try:
                caller = wire.authorize(request, self._verify)
                asked = BatchRequest(datetime.now(UTC), operation, request.match_info.get("id"), caller)
                self._service.history.append(asked)
                fault = await self._awaited(self._service.script.next_fault(asked))
                if isinstance(fault, Failure | Throttled | Verbatim):
                    return await wire.send(replies.failure(fault), request, headers)
                done = await act(request, caller)
            except RefusedError as refused:
                return await wire.send(replies.error(refused.reply), request, headers)
            except ConnectionResetError:  # the app was stopped while it asked
                return web.Response(status=499)
            return await self._answer(done, fault, request, headers)

        return web.route(method, path, handle)

    async def _awaited(self, fault: Fault | None) -> Fault | None:
        """The fault behind those that only wait."""
        while isinstance(fault, Slow):
            await wire.silence(fault.seconds, self._closing)
            then = fault.then
            faulty = isinstance(then, Failure | Throttled | Verbatim | Dropped | Garbled | Hang | Slow)
            fault = then if faulty else None  # type: ignore[assignment]  # as the line above says
        return fault

    async def _answer(
        self, done: Done, fault: Dropped | Garbled | Hang | Slow | None, request: web.Request, headers: dict[str, str]
    ) -> web.StreamResponse:
        if isinstance(done, Path) and not isinstance(fault, Garbled | Hang):
            share = 1.0 if fault is None else 0.5
            return await _send_file(done, request, headers, share)
        reply = Reply(200, b"" if isinstance(done, Path) else json.dumps(done).encode())
        if isinstance(fault, Dropped | Garbled | Hang):
            reply = replies.lost(fault, reply)
        await wire.wait(reply, self._closing)
        return await wire.send(reply, request, headers)

    async def _upload_file(self, request: web.Request, _: str | None) -> Done:
        file = await uploads.receive(request, self._files, pending=self._service.script.pending)
        return file.to_json(time.time())

    async def _list_files(self, request: web.Request, _: str | None) -> Done:
        purpose = request.query.get("purpose")
        files = [file for file in self._files.all() if purpose in (None, file.purpose)]
        listed, has_more = page(files, request.query, most=10_000, default=10_000)
        return _listing([file.to_json(time.time()) for file in listed], has_more=has_more)

    async def _get_file(self, request: web.Request, _: str | None) -> Done:
        return self._files.get(request.match_info["id"]).to_json(time.time())

    async def _read_file(self, request: web.Request, _: str | None) -> Done:
        return self._files.path(self._files.get(request.match_info["id"]).id)

    async def _delete_file(self, request: web.Request, _: str | None) -> Done:
        identifier = request.match_info["id"]
        self._files.delete(identifier)
        return {"id": identifier, "object": "file", "deleted": True}

    async def _create_batch(self, request: web.Request, caller: str | None) -> Done:
        batch = await self._jobs.create(await wire.read_json(request), caller)
        return batch.to_json(self._service.script.looks)

    async def _list_batches(self, request: web.Request, _: str | None) -> Done:
        newest_first = list(reversed(self._jobs.batches.values()))
        listed, has_more = page(newest_first, request.query, most=100, default=20)
        return _listing([batch.to_json(self._service.script.looks) for batch in listed], has_more=has_more)

    async def _get_batch(self, request: web.Request, _: str | None) -> Done:
        return self._jobs.get(request.match_info["id"]).to_json(self._service.script.looks)

    async def _cancel_batch(self, request: web.Request, _: str | None) -> Done:
        return self._jobs.cancel(request.match_info["id"]).to_json(self._service.script.looks)


def _listing(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> Done:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


async def _send_file(path: Path, request: web.Request, headers: dict[str, str], share: float) -> web.StreamResponse:
    """Send the beginning of a file, in chunks; the connection breaks where that is not all of it.

    No thread reads it: what a laptop has written lately is in the system's cache.
    """
    size = path.stat().st_size  # noqa: ASYNC240 - see above
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", **headers})
    response.content_length = size
    await response.prepare(request)
    left = int(size * share)
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            await response.write(chunk)
    if share < 1 and request.transport is not None:
        request.transport.close()
        return response
    await response.write_eof()
    return response
