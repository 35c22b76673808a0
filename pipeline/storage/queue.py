"""The queues of messages on the data account: others' requests, and the app's own deferred work."""

from typing import Protocol

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueServiceClient

from pipeline.errors import OperatorFailure
from pipeline.storage.errors import translated

MAX_DELAY_SECONDS = 7 * 24 * 3600
"""Longest visibility delay of a message.
https://learn.microsoft.com/rest/api/storageservices/put-message"""


_ROLE = "Storage Queue Data Contributor"


class Message(Protocol):
    """See `pipeline.job.requests` and `pipeline.job.public`."""

    def to_message(self) -> str: ...


class MessageQueue:
    """One queue, as its senders use it."""

    def __init__(self, service: QueueServiceClient, queue: str) -> None:
        self._name = queue
        self._client = service.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())

    async def length(self) -> int:
        """About how many messages there are, hidden ones included. One storage request.

        Raises:
            RetryableFailure: the queue can't be reached.
        """
        with translated(f"counting the messages of the queue {self._name}", _ROLE):
            return (await self._client.get_queue_properties()).approximate_message_count or 0

    async def send(self, message: Message, delay: float) -> None:
        """Put `message` on the queue, to be seen after `delay` seconds. One storage request.

        Raises:
            RetryableFailure: the queue can't be reached.
        """
        with translated(f"putting a message on the queue {self._name}", _ROLE):
            try:
                await self._client.send_message(
                    message.to_message(),
                    visibility_timeout=min(round(delay), MAX_DELAY_SECONDS),
                    time_to_live=-1,  # work is not forgotten because it waited for long
                )
            except ResourceNotFoundError as error:
                raise OperatorFailure(f"The queue '{self._name}' does not exist: create it.") from error
