"""The blob trigger with Event Grid as its source, as the Storage Blobs extension 5.x has it.

    Event Grid -> webhook -> azure-webjobs-blobtrigger-<host id> (queue, host account) -> listener -> function

Delivery is at least once, with no receipts, no ETag comparison and no look at the trigger's path: an event of another
container runs the function too, unless the event subscription filters it.
"""

import base64
import binascii
import ipaddress
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from localcloud.functions_host.bindings import BlobTrigger, Function
from localcloud.functions_host.connections import Connection
from localcloud.functions_host.errors import InvocationError
from localcloud.functions_host.host_json import Blobs
from localcloud.functions_host.queue_listener import ListenerOptions, QueueListener, send
from localcloud.functions_host.trigger_context import TriggerContext
from localcloud.functions_host.worker_pool import Input

_LOG = logging.getLogger(__name__)

FUNCTION_ID_PREFIX = "Host.Functions."
POISON_QUEUE = "webjobs-blobtrigger-poison"
_MAXIMUM_BATCH = 32
"""The queue service's limit for one fetch."""


class InvalidEventError(ValueError):
    """The webhook got something that is no blob event."""


@dataclass(frozen=True, slots=True)
class BlobPath:
    container: str
    name: str

    @classmethod
    def of_url(cls, url: str) -> "BlobPath":
        """Container and decoded name from a blob's URL.

        The account is the host's first label, or, where the host is an address or localhost (the emulator),
        the path's first segment.

        Raises:
            InvalidEventError: it names no blob.
        """
        parts = urlsplit(url)
        path = parts.path.removeprefix("/")
        if _is_path_style(parts.hostname or ""):
            path = path.partition("/")[2]
        container, _, name = path.partition("/")
        if container and not name:
            container, name = "$root", container
        if not name:
            raise InvalidEventError(f"the event's data.url names no blob: {url!r}")
        return cls(unquote(container), unquote(name))


def _is_path_style(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def trigger_message(event: Mapping[str, Any], function_id: str) -> dict[str, str]:
    """The internal queue's message for an Event Grid event. The event's type is not looked at, as on the
    platform.

    Raises:
        InvalidEventError: it is no storage event.
    """
    try:
        data = event["data"]
        path = BlobPath.of_url(data["url"])
        return {
            "Type": "BlobTrigger",
            "FunctionId": function_id,
            "BlobType": data["blobType"].removesuffix("Blob"),
            "ContainerName": path.container,
            "BlobName": path.name,
            "ETag": f'"{data["eTag"]}"',
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidEventError(f"not a blob storage event: {error!r}") from error


def blob_input(function: Function, trigger: BlobTrigger, path: BlobPath) -> Input:
    """The function's parameter: where the blob is, for the SDK's client; never its bytes."""
    content = {"Connection": trigger.connection.name, "ContainerName": path.container, "BlobName": path.name}
    value = {
        "version": "1.0",
        "source": "AzureStorageBlobs",
        "content_type": "application/json",
        "content": json.dumps(content),
    }
    metadata = {"BlobTrigger": {"string": f"{path.container}/{path.name}"}}
    return Input(function.parameter, "model_binding_data", value, metadata=metadata)


class BlobTriggers:
    """All blob functions of the app: they share one queue and one limit of parallelism."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        host_connection: Connection,
        host_id: str,
        options: Blobs,
        context: TriggerContext,
    ) -> None:
        self._functions = functions
        self._context = context
        host_queues = context.storage.queues(host_connection)
        self._queue = host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{host_id}")
        self._fallback_poison = host_queues.get_queue_client(POISON_QUEUE)
        # The extension's own split, which makes the sum of the two the limit.
        batch = min(_MAXIMUM_BATCH, options.max_degree_of_parallelism // 2 + 1)
        self.listener = QueueListener(
            self._queue,
            self._poison_queue,
            self._process,
            ListenerOptions(
                batch_size=batch,
                new_batch_threshold=options.max_degree_of_parallelism - batch,
                max_dequeue_count=options.poison_blob_threshold,
            ),
            context.watcher,
        )

    async def enqueue(self, event: Mapping[str, Any], function_id: str) -> None:
        """Takes an event in.

        Raises:
            InvalidEventError: it is no blob event.
            AzureError: the queue could not be reached.
        """
        text = json.dumps(trigger_message(event, function_id))
        await send(self._queue, base64.b64encode(text.encode()).decode(), self._context.watcher)

    async def _process(self, message: QueueMessage) -> None:
        try:
            facts = _decode(message)
            function_id, path = facts["FunctionId"], BlobPath(facts["ContainerName"], facts["BlobName"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvocationError(f"invalid blob trigger message: {error!r}") from error
        function = self._functions.get(function_id)
        if function is None or not isinstance(function.trigger, BlobTrigger):
            _LOG.debug("dropped a message for the unknown function %s", function_id)
            return
        try:
            blobs = self._context.storage.blobs(function.trigger.connection)
            await blobs.get_blob_client(path.container, path.name).get_blob_properties()
        except ResourceNotFoundError:
            _LOG.debug("dropped a message: its blob is gone")
            return
        await self._context.invoke(function, blob_input(function, function.trigger, path))

    def _poison_queue(self, message: QueueMessage) -> QueueClient:
        try:
            function = self._functions.get(_decode(message)["FunctionId"])
        except (ValueError, KeyError, TypeError):
            function = None
        if function is None or not isinstance(function.trigger, BlobTrigger):
            return self._fallback_poison
        return self._context.storage.queues(function.trigger.connection).get_queue_client(POISON_QUEUE)


def _decode(message: QueueMessage) -> Any:
    try:
        return json.loads(base64.b64decode(message.content, validate=True))
    except binascii.Error as error:
        raise ValueError("not base64") from error
