"""Polling a storage queue and running something for each message, with the semantics of the Storage
extension's QueueListener.

Shared by the blob trigger's internal queue and by queue triggers:

- a message is taken with a visibility of 10 minutes, renewed at half of it while its function runs;
- success deletes it; failure makes it visible again after `retry_delay` (0: at once) until it was dequeued
  `max_dequeue_count` times, then it is copied to the poison queue and deleted;
- with no message found, the next poll waits 100 ms, then longer and longer, until somebody in this process adds one.
"""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from localcloud.functions_host.errors import FunctionError, InvocationError

_LOG = logging.getLogger(__name__)

VISIBILITY = timedelta(minutes=10)
MINIMUM_POLL_SECONDS = 0.1
MAXIMUM_POLL_SECONDS = 2.0
"""The platform's is a minute, since there the scale controller watches the queues too. Nobody else does here,
and people wait."""


class PoisonMessage(Exception):
    """Raised by `process` for a message that no further attempt can help: to the poison queue at once."""


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    batch_size: int
    """Messages fetched at once, 1 to 32."""
    new_batch_threshold: int
    """Fetch again when no more than this many are being processed; so at most the sum of the two run at once."""
    max_dequeue_count: int
    retry_delay: timedelta = timedelta(0)
    maximum_poll_seconds: float = MAXIMUM_POLL_SECONDS
    visibility: timedelta = VISIBILITY


class QueueWatcher:
    """Wakes the listeners of a queue when this process adds a message to it."""

    def __init__(self) -> None:
        self._wakers: dict[str, list[asyncio.Event]] = defaultdict(list)

    def register(self, queue: QueueClient) -> asyncio.Event:
        event = asyncio.Event()
        self._wakers[queue.url].append(event)
        return event

    def notify(self, queue: QueueClient) -> None:
        for event in self._wakers.get(queue.url, ()):
            event.set()


async def send(queue: QueueClient, text: str, watcher: QueueWatcher) -> None:
    """Adds a message that never expires, creates the queue if it is missing, wakes its listeners."""
    try:
        await queue.send_message(text, time_to_live=-1)
    except ResourceNotFoundError:
        with contextlib.suppress(ResourceExistsError):
            await queue.create_queue()
        await queue.send_message(text, time_to_live=-1)
    watcher.notify(queue)


class QueueListener:
    def __init__(
        self,
        queue: QueueClient,
        poison_queue: Callable[[QueueMessage], QueueClient],
        process: Callable[[QueueMessage], Awaitable[None]],
        options: ListenerOptions,
        watcher: QueueWatcher,
    ) -> None:
        """A listener; run() runs it.

        Args:
            queue: without decoding, so that a message is passed on as it came.
            poison_queue: where a message goes in the end.
            process: returns for success, raises InvocationError or AzureError for failure, PoisonMessage for
                a hopeless one.
            options: numbers and times.
            watcher: who wakes it.
        """
        self._queue = queue
        self._poison_queue = poison_queue
        self._process = process
        self._options = options
        self._watcher = watcher
        self._wake = watcher.register(queue)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exists: bool | None = None

    @property
    def running(self) -> int:
        """Messages being processed."""
        return len(self._running)

    async def run(self) -> None:
        """Polls until cancelled. What is being processed then goes on: see drain()."""
        delay = MINIMUM_POLL_SECONDS
        while True:
            self._wake.clear()
            messages = await self._receive()
            for message in messages:
                task = asyncio.create_task(self._handle(message))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            if messages:
                delay = MINIMUM_POLL_SECONDS
                while len(self._running) > self._options.new_batch_threshold:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads polls, no secret
                    await self._wake.wait()
            delay = min(delay * 2, self._options.maximum_poll_seconds)

    def stop(self) -> None:
        """From now on a failure releases its message without counting towards the poison queue: it is the
        host that ends.
        """
        self._stopping = True

    async def drain(self) -> None:
        """Until nothing is being processed."""
        while self._running:
            await asyncio.wait(self._running)

    async def _receive(self) -> list[QueueMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._options.batch_size,
            visibility_timeout=int(self._options.visibility.total_seconds()),
        ).by_page()
        try:
            page = await anext(pages, None)
            messages = [message async for message in page] if page is not None else []
        except ResourceNotFoundError:
            if self._exists is not False:
                _LOG.info("the queue %s does not exist yet", self._queue.queue_name)
            self._exists = False
            return []
        except AzureError as error:
            _LOG.warning("cannot read the queue %s, trying again: %s", self._queue.queue_name, _first_line(error))
            return []
        self._exists = True
        return messages

    async def _handle(self, message: QueueMessage) -> None:
        try:
            if (message.dequeue_count or 0) > self._options.max_dequeue_count:
                # Its last attempt ended without an answer (the host died): it gets no further one.
                await self._to_poison(message)
                return
            renewing = asyncio.create_task(self._renew(message))
            try:
                await self._process(message)
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
        except PoisonMessage as error:
            _LOG.warning("%s, message %s: %s", self._queue.queue_name, message.id, error)
            await self._finish(self._to_poison(message))
        except (InvocationError, AzureError) as error:
            # The real host leaves a message invisible for its 10 minutes when storage fails under it, instead
            # of failing it.
            self._report(message, error)
            if self._stopping or (message.dequeue_count or 0) < self._options.max_dequeue_count:
                await self._finish(self._release(message))
            else:
                await self._finish(self._to_poison(message))
        else:
            await self._finish(self._delete(message))

    def _report(self, message: QueueMessage, error: Exception) -> None:
        _LOG.warning(
            "%s, message %s, attempt %s of %d failed: %s",
            self._queue.queue_name,
            message.id,
            message.dequeue_count,
            self._options.max_dequeue_count,
            _first_line(error),
        )
        if isinstance(error, FunctionError):
            _LOG.debug("%s", error.stack_trace)

    async def _finish(self, work: Awaitable[None]) -> None:
        try:
            await work
        except AzureError as error:
            _LOG.warning(
                "%s: cannot finish a message; it is delivered again within %s: %s",
                self._queue.queue_name,
                self._options.visibility,
                _first_line(error),
            )

    async def _renew(self, message: QueueMessage) -> None:
        visibility = int(self._options.visibility.total_seconds())
        while True:
            await asyncio.sleep(visibility / 2)
            try:
                renewed = await self._queue.update_message(
                    message.id, message.pop_receipt, visibility_timeout=visibility
                )
            except AzureError as error:
                _LOG.warning("%s: cannot renew message %s: %s", self._queue.queue_name, message.id, _first_line(error))
                return
            message.pop_receipt = renewed.pop_receipt

    async def _delete(self, message: QueueMessage) -> None:
        with _taken_over_is_fine():
            await self._queue.delete_message(message.id, message.pop_receipt)

    async def _release(self, message: QueueMessage) -> None:
        delay = int(self._options.retry_delay.total_seconds())
        with _taken_over_is_fine():
            await self._queue.update_message(message.id, message.pop_receipt, visibility_timeout=delay)
            if not delay:
                self._watcher.notify(self._queue)

    async def _to_poison(self, message: QueueMessage) -> None:
        poison = self._poison_queue(message)
        _LOG.warning("%s: message %s goes to %s", self._queue.queue_name, message.id, poison.queue_name)
        await send(poison, message.content or "", self._watcher)
        await self._delete(message)


@contextlib.contextmanager
def _taken_over_is_fine() -> Iterator[None]:
    """The message was taken by somebody else meanwhile, or is gone: no more to do."""
    try:
        yield
    except ResourceNotFoundError:
        pass
    except HttpResponseError as error:
        if getattr(error, "error_code", None) != "PopReceiptMismatch":
            raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
