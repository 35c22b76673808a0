"""Queue triggers: one listener per function, on its own connection."""

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from azure.storage.queue import QueueMessage

from localcloud.functions_host.bindings import Function, QueueTrigger
from localcloud.functions_host.errors import InvocationError
from localcloud.functions_host.host_json import Queues
from localcloud.functions_host.queue_listener import (
    MAXIMUM_POLL_SECONDS,
    ListenerOptions,
    PoisonMessage,
    QueueListener,
)
from localcloud.functions_host.trigger_context import TriggerContext, system_data
from localcloud.functions_host.worker_pool import Input


def listener(function: Function, trigger: QueueTrigger, options: Queues, context: TriggerContext) -> QueueListener:
    queues = context.storage.queues(trigger.connection)
    poison = queues.get_queue_client(f"{trigger.queue}-poison")

    async def process(message: QueueMessage) -> None:
        text = message.content or ""
        if options.message_encoding == "base64":
            try:
                body = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                # The extension moves such a message at once, with no attempt.
                raise PoisonMessage("message decoding has failed, it is not base64; check messageEncoding") from error
        else:
            body = text.encode()
        await context.invoke(function, queue_input(function, trigger, body, message))

    return QueueListener(
        queues.get_queue_client(trigger.queue),
        lambda _: poison,
        process,
        ListenerOptions(
            batch_size=options.batch_size,
            new_batch_threshold=options.threshold,
            max_dequeue_count=options.max_dequeue_count,
            hidden=context.hidden,
            retry_delay=options.visibility_timeout,
            maximum_poll_seconds=min(MAXIMUM_POLL_SECONDS, options.max_polling_interval.total_seconds()),
        ),
        watcher=context.watcher,
        stop_host=context.stop_host,
    )


def queue_input(function: Function, trigger: QueueTrigger, body: bytes, message: QueueMessage | None) -> Input:
    """The message as the worker's QueueMessage converter reads it, with metadata as text or, but for text, as JSON.

    Args:
        function: which.
        trigger: its trigger.
        body: the message, decoded.
        message: None for one that was handed in by hand and was never in a queue.

    Raises:
        InvocationError: the function takes text, which is what a trigger without `dataType` says, and this is not
            UTF-8: the real host fails the invocation before any worker hears of it.
    """
    metadata = {"sys": {"json": system_data(function)}}
    if message is not None:
        metadata |= {
            "Id": {"string": message.id or ""},
            "PopReceipt": {"string": message.pop_receipt or ""},
            "DequeueCount": {"json": json.dumps(message.dequeue_count)},
            "InsertionTime": {"json": json.dumps(_iso(message.inserted_on))},
            "ExpirationTime": {"json": json.dumps(_iso(message.expires_on))},
            "NextVisibleTime": {"json": json.dumps(_iso(message.next_visible_on))},
        }
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        if not trigger.binary:
            raise InvocationError("the message is not UTF-8 text; the trigger's data_type may be BINARY") from error
    else:
        metadata["QueueTrigger"] = {"string": text}
    if trigger.binary:
        return Input(function.parameter, "bytes", body=body, metadata=metadata)
    spelt = {name.lower(): name for name in metadata}
    metadata |= {spelt.get(name.lower(), name): value for name, value in _own_fields(text).items()}
    return Input(function.parameter, "string", text, metadata=metadata)


def _own_fields(text: str) -> dict[str, dict[str, str]]:
    """The fields of a message that is a JSON object, but for arrays: the host adds them to the trigger's metadata."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    fields: dict[str, Any] = content if isinstance(content, dict) else {}
    return {
        name: {"json": json.dumps(value)} if isinstance(value, dict) else {"string": str(value)}
        for name, value in fields.items()
        if value is not None and not isinstance(value, list)
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
