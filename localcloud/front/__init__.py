"""The emulator's standard ports in plain HTTP, and an event for each upload.

Storage Explorer and `UseDevelopmentStorage=true` use plain HTTP. The emulator behind this front takes tokens over HTTPS
only, as Azure does, and raises no events. The front forwards requests and raises the events.
"""

import errno
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobServiceClient

from localcloud.certificates import Certificates
from localcloud.errors import LocalCloudError
from localcloud.front.blob_created import (
    BlobWrite,
    Content,
    blob_created,
    blob_write,
    created_blob,
    put_blob_content,
)
from localcloud.front.forwarding import HEADER_BYTES, Forwarder

__all__ = ["PortInUse", "Publish", "StorageFront"]

STOP_SECONDS = 5

type Publish = Callable[[dict[str, Any]], Awaitable[None] | None]

log = logging.getLogger(__name__)


class PortInUse(LocalCloudError):
    """A requested port is taken."""

    def __init__(self, port: int, service: str) -> None:
        self.port = port
        super().__init__(
            f"Port {port} (the {service} service) is in use. Is another storage emulator running? "
            f"Stop it and try again; `lsof -i :{port}` shows which process it is."
        )


class StorageFront:
    """Blob and queue service of one account, as plain HTTP on 127.0.0.1, alive inside `async with`.

    `publish` gets a BlobCreated event for every write that raises one in Azure, once the write is
    acknowledged and before the client gets its answer: a client with an answer can rely on the event. A
    failure of `publish` is logged and does not affect the upload.
    """

    def __init__(  # noqa: PLR0913 - two targets, two ports: one each for blob and queue
        self,
        blob_target: str,
        queue_target: str,
        certificates: Certificates,
        account_keys: Mapping[str, str],
        publish: Publish,
        *,
        blob_port: int = 0,
        queue_port: int = 0,
    ) -> None:
        """The targets are the account's endpoints (`https://127.0.0.1:PORT/ACCOUNT`); port 0 is any free one."""
        self._blob_target = blob_target
        self._blob_origin, _, self.account = blob_target.rpartition("/")
        self._queue_origin = queue_target.rpartition("/")[0]
        self._certificates = certificates
        self._key = account_keys[self.account]
        self._publish = publish
        self._ports = {"blob": blob_port, "queue": queue_port}
        self._running: AsyncExitStack | None = None

    @property
    def blob_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['blob']}/{self.account}"

    @property
    def queue_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['queue']}/{self.account}"

    @property
    def connection_string(self) -> str:
        """The connection string of UseDevelopmentStorage=true, on these ports."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self._key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )

    async def __aenter__(self) -> Self:
        """Raise PortInUse if a requested port is taken."""
        async with AsyncExitStack() as stack:
            tls = self._certificates.client_context()
            blobs = await stack.enter_async_context(Forwarder(self._blob_origin, tls))
            queues = await stack.enter_async_context(Forwarder(self._queue_origin, tls))
            properties = await stack.enter_async_context(
                BlobServiceClient(
                    self._blob_target,
                    credential=self._key,
                    connection_verify=str(self._certificates.bundle),
                    retry_total=0,  # the client waits for its answer meanwhile
                )
            )

            async def to_blobs(request: web.BaseRequest) -> web.StreamResponse:
                write = blob_write(request.method, request.raw_path, request.headers, self.account)

                async def on_answer(answer: aiohttp.ClientResponse) -> None:
                    if write is not None and created_blob(write, answer.status, answer.headers):
                        content = await _content(write, request, answer, properties)
                        await self._raise_event(blob_created(write, content, self._blob_target, answer.headers))

                return await blobs.forward(request, on_answer)

            async def to_queues(request: web.BaseRequest) -> web.StreamResponse:
                return await queues.forward(request, _nothing)

            await self._serve(stack, "blob", to_blobs)
            await self._serve(stack, "queue", to_queues)
            self._running = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running is not None:
            await self._running.aclose()
            self._running = None

    async def _serve(
        self,
        stack: AsyncExitStack,
        service: str,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> None:
        # The low-level server: without routes, no path is parsed, decoded or refused on its way.
        server = web.Server(handler, access_log=None, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES)
        runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", self._ports[service])
        try:
            await site.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(self._ports[service], service) from None
            raise
        self._ports[service] = runner.addresses[0][1]

    async def _raise_event(self, event: dict[str, Any]) -> None:
        try:
            published = self._publish(event)
            if inspect.isawaitable(published):
                await published
        except Exception:
            log.exception("No BlobCreated event for %s: publishing it failed.", event["subject"])


async def _content(
    write: BlobWrite, request: web.BaseRequest, answer: aiohttp.ClientResponse, service: BlobServiceClient
) -> Content:
    """Return size and types of the blob. The requests of a block list and a copy lack them, so the service is asked."""
    if write.api == "PutBlob":
        return put_blob_content(request.headers)
    try:
        properties = await service.get_blob_client(write.container, write.blob).get_blob_properties(
            etag=answer.headers["ETag"], match_condition=MatchConditions.IfNotModified
        )
    except AzureError as error:
        # Overwritten or deleted within milliseconds. The event is raised all the same.
        log.warning("No size for the event of %s/%s: %s", write.container, write.blob, error)
        return Content(0, "application/octet-stream", "BlockBlob")
    return Content(
        properties.size,
        properties.content_settings.content_type or "application/octet-stream",
        properties.blob_type.value,
    )


async def _nothing(_answer: aiohttp.ClientResponse) -> None:
    """Do nothing: queues raise no events."""
