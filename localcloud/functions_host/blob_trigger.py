"""The blob trigger with Event Grid as its source, as the Storage Blobs extension 5.3 has it.

    Event Grid -> webhook -> azure-webjobs-blobtrigger-<host id> (queue, host account) -> listener -> function

Delivery is at least once, with no receipts, no ETag comparison and no look at the trigger's path: an event of another
container runs the function too, unless the event subscription filters it.

Before each invocation the listener itself requests the blob's properties. "Not found" ends the message. Any other
failure of that, and a message that can't be read, is an uncaught exception: the whole host stops (see queue_listener).
"""

import base64
import ipaddress
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobProperties
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from localcloud.functions_host import blob_properties
from localcloud.functions_host.bindings import BlobTrigger, Function
from localcloud.functions_host.connections import Connection
from localcloud.functions_host.host_json import Blobs
from localcloud.functions_host.queue_listener import ListenerOptions, QueueListener, send
from localcloud.functions_host.system_text_json import encoded
from localcloud.functions_host.trigger_context import TriggerContext, system_data
from localcloud.functions_host.worker_pool import Input

_LOG = logging.getLogger(__name__)

FUNCTION_ID_PREFIX = "Host.Functions."
POISON_QUEUE = "webjobs-blobtrigger-poison"
_MAXIMUM_BATCH = 32
"""The queue service's limit for one fetch."""


BLOB_TYPES = ("Block", "Page", "Append")

_NEWTONSOFT = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Characters that the extension's JSON library escapes although JSON does not require it: line ends."""

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")
"""A parameter of a path, such as {name}, in the path as re.escape() leaves it."""


class InvalidEventError(ValueError):
    """The webhook got something that is not a blob event; the extension lets its parser's exception out."""


@dataclass(frozen=True, slots=True)
class BlobPath:
    container: str
    name: str

    @classmethod
    def of_url(cls, url: str) -> "BlobPath":
        """Container and decoded name from a blob's URL; each is empty where the URL holds none.

        The account is the host's first label, or, where the host is an address or localhost (the emulator),
        the path's first segment.

        Raises:
            InvalidEventError: it is not an absolute URL.
        """
        parts = urlsplit(url)
        if not parts.scheme or not parts.hostname:
            raise InvalidEventError(f"the event's data.url is not an absolute URL: {url!r}")
        path = parts.path.removeprefix("/")
        if _is_path_style(parts.hostname):
            path = path.partition("/")[2]
        container, _, name = path.partition("/")
        return cls(unquote(container), unquote(name))

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"


def _is_path_style(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def trigger_message(event: Mapping[str, Any], function_id: str | None) -> str:
    """The internal queue's message for an Event Grid event, as text. The event's type is not looked at, and neither is
    whether the URL holds a blob's name.

    Raises:
        InvalidEventError: it is not a storage event.
    """
    try:
        data = event["data"]
        path = BlobPath.of_url(data["url"])
        blob_type = data["blobType"].replace("Blob", "")
        if blob_type not in BLOB_TYPES:
            raise InvalidEventError(f"the event's data.blobType is {data['blobType']!r}")
        message = {
            "Type": "BlobTrigger",
            "FunctionId": function_id,
            "BlobType": f"{blob_type}Blob",
            "ContainerName": path.container,
            "BlobName": path.name,
            "ETag": f'"{data.get("eTag") or ""}"',
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidEventError(f"not a blob storage event: {error!r}") from error
    given = {key: value for key, value in message.items() if value is not None}
    return json.dumps(given, indent=2, ensure_ascii=False).translate(_NEWTONSOFT)


def blob_input(
    function: Function, trigger: BlobTrigger, path: BlobPath, properties: BlobProperties | None = None
) -> Input:
    """The function's parameter: where the blob is, for the SDK's client; never its bytes.

    Args:
        function: which.
        trigger: its trigger.
        path: the blob.
        properties: what the trigger's look at the blob found; None: what depends on it is left out.
    """
    content = {"Connection": trigger.connection.name, "ContainerName": path.container, "BlobName": path.name}
    value = {"version": "1.0", "source": "AzureStorageBlobs", "content_type": "application/json"}
    metadata = {"BlobTrigger": {"string": str(path)}, "sys": {"json": system_data(function)}}
    metadata |= {name: {"string": value} for name, value in path_parameters(trigger.path, path).items()}
    if properties is not None:
        blobs = f"{(trigger.connection.blob_uri or '').rstrip('/')}/"
        metadata |= {
            "Uri": {"json": json.dumps(f"{blobs}{quote(str(path), safe='/~')}")},
            "Properties": {"json": json.dumps(blob_properties.dotnet(properties))},
            "Metadata": {"json": json.dumps(properties.metadata)},
        }
    return Input(function.parameter, "model_binding_data", value, encoded(content), metadata=metadata)


def path_parameters(pattern: str, path: BlobPath) -> dict[str, str]:
    """Return the parameters that the trigger's path, such as `images/{name}`, matches in a blob's; empty if none."""
    found = re.fullmatch(_PARAMETER.sub(r"(?P<\1>.*)", re.escape(pattern)), str(path), re.DOTALL)
    return found.groupdict() if found else {}


class BlobTriggers:
    """All blob functions of the app: they share one queue and one limit of parallelism.

    A disabled function's events are taken and kept on the queue; with another one enabled, its listener drops them.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        host_connection: Connection,
        host_id: str,
        options: Blobs,
        context: TriggerContext,
    ) -> None:
        self._functions = {
            FUNCTION_ID_PREFIX + function.name: (function, function.trigger)
            for function in functions
            if isinstance(function.trigger, BlobTrigger) and not function.disabled
        }
        self._context = context
        host_queues = context.storage.queues(host_connection)
        self._queue = host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{host_id}")
        self._fallback_poison = host_queues.get_queue_client(POISON_QUEUE)
        # The extension's own split, which makes the sum of the two the limit.
        batch = min(_MAXIMUM_BATCH, options.max_degree_of_parallelism // 2 + 1)
        listener = QueueListener(
            self._queue,
            self._poison_queue,
            self._process,
            ListenerOptions(
                batch_size=batch,
                new_batch_threshold=options.max_degree_of_parallelism - batch,
                max_dequeue_count=options.poison_blob_threshold,
                hidden=context.hidden,
            ),
            watcher=context.watcher,
            stop_host=context.stop_host,
        )
        self.listeners = [listener] if self._functions else []

    async def enqueue(self, event: Mapping[str, Any], function_id: str | None) -> None:
        """Takes an event in.

        Raises:
            InvalidEventError: it is not a blob event.
            AzureError: the queue could not be reached.
        """
        text = trigger_message(event, function_id)
        await send(self._queue, base64.b64encode(text.encode()).decode(), self._context.watcher)

    async def input_by_hand(self, function: Function, trigger: BlobTrigger, text: str) -> Input:
        """The input for a blob's path that an operator typed.

        Raises:
            ValueError: it is not the path of a blob that is there.
            AzureError: the blob can't be looked at.
        """
        container, _, name = text.partition("/")
        path = BlobPath(container, name)
        if not container or not name:
            raise ValueError("a blob function's input is the blob's path, container/name")
        properties = await self._look(trigger, path)
        if properties is None:
            raise ValueError(f"the blob {path} does not exist")
        return blob_input(function, trigger, path, properties)

    async def _process(self, message: QueueMessage) -> None:
        facts = _decode(message)
        if (found := self._functions.get(facts["FunctionId"])) is None:
            _LOG.debug("dropped a message for the unknown function %s", facts["FunctionId"])
            return
        function, trigger = found
        path = BlobPath(facts["ContainerName"], facts["BlobName"])
        properties = await self._look(trigger, path)
        if properties is None:
            _LOG.debug("dropped a message: its blob is gone")
            return
        await self._context.invoke(function, blob_input(function, trigger, path, properties))

    async def _look(self, trigger: BlobTrigger, path: BlobPath) -> BlobProperties | None:
        """Request the blob's properties, as the trigger does; None if it is gone."""
        blobs = self._context.storage.blobs(trigger.connection)
        try:
            return await blobs.get_blob_client(path.container, path.name).get_blob_properties()
        except ResourceNotFoundError:
            return None

    def _poison_queue(self, message: QueueMessage) -> QueueClient:
        """On the account of the function's blobs; on the host's for a message that names no function."""
        try:
            _, trigger = self._functions[_decode(message)["FunctionId"]]
        except (ValueError, KeyError, TypeError):
            return self._fallback_poison
        return self._context.storage.queues(trigger.connection).get_queue_client(POISON_QUEUE)


def _decode(message: QueueMessage) -> Any:
    return json.loads(base64.b64decode(message.content, validate=True))
