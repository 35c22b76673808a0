"""Queue triggers: one listener per function, on its own connection."""

import base64
import binascii
import json
from datetime import datetime

from azure.storage.queue import QueueMessage

from localcloud.functions_host.bindings import Function, QueueTrigger
from localcloud.functions_host.host_json import Queues
from localcloud.functions_host.queue_listener import (
    MAXIMUM_POLL_SECONDS,
    ListenerOptions,
    PoisonMessage,
    QueueListener,
)
from localcloud.functions_host.trigger_context import TriggerContext
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
        await context.invoke(function, queue_input(function, body, message))

    return QueueListener(
        queues.get_queue_client(trigger.queue),
        lambda _: poison,
        process,
        ListenerOptions(
            batch_size=options.batch_size,
            new_batch_threshold=options.threshold,
            max_dequeue_count=options.max_dequeue_count,
            retry_delay=options.visibility_timeout,
            maximum_poll_seconds=min(MAXIMUM_POLL_SECONDS, options.max_polling_interval.total_seconds()),
        ),
        context.watcher,
    )


def queue_input(function: Function, body: bytes, message: QueueMessage | None) -> Input:
    """The message as the worker's QueueMessage converter reads it: text where it is text, metadata values as
    JSON.

    `message` is None for one that was handed in by hand and was never in a queue.
    """
    metadata: dict[str, dict[str, str]] = {}
    if message is not None:
        facts: dict[str, str | int | None] = {
            "Id": message.id,
            "PopReceipt": message.pop_receipt,
            "DequeueCount": message.dequeue_count,
            "InsertionTime": _iso(message.inserted_on),
            "ExpirationTime": _iso(message.expires_on),
            "NextVisibleTime": _iso(message.next_visible_on),
        }
        # Text goes as text, everything else as JSON: so a time is JSON's quoted text, as the real host sends
        # it.
        metadata = {
            name: {"string": str(value)} if name in {"Id", "PopReceipt"} else {"json": json.dumps(value)}
            for name, value in facts.items()
            if value is not None
        }
    try:
        return Input(function.parameter, "string", body.decode(), metadata=metadata)
    except UnicodeDecodeError:
        return Input(function.parameter, "bytes", body=body, metadata=metadata)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
