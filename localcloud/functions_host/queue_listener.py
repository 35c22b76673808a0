"""Polling a storage queue and running something for each message, with the semantics of the Storage extension's
QueueListener.

Shared by the blob trigger's internal queue and by queue triggers:

- A fetched message is invisible for 10 minutes, renewed at half of that while its function runs.
- Success deletes it. Failure makes it visible again after `retry_delay` (0: at once) until it was fetched
  `max_dequeue_count` times; then it is copied to the poison queue and deleted.
- With no message found, the next poll waits 100 ms, then longer and longer, until this process adds one. So five
  attempts of a function that fails at once come a little more than 100 ms apart.
- Exceptions that the real listener does not catch stop the real host, with all workers and their invocations: a queue
  that refuses (403) or can't be reached, a message that can't be read, released, deleted or moved. A queue that answers
  5xx to a poll is polled again later. The message being processed stays invisible for its 10 minutes and has used up
  one of its deliveries. One that was fetched more than `max_dequeue_count` times goes to the poison queue without a
  run.
"""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from localcloud.functions_host.errors import FunctionError, InvocationError, first_line

_LOG = logging.getLogger(__name__)

MINIMUM_POLL_SECONDS = 0.1
MAXIMUM_POLL_SECONDS = 2.0
"""Most seconds between polls. The platform's is a minute, since its scale controller also watches the queues. Here only
this listener does, and people wait."""

type StopHost = Callable[[Exception], None]
"""Stops the whole host, as the platform's does on an exception that nothing catches."""


class PoisonMessage(Exception):
    """Raised by `process` for a message that further attempts can't help. It goes to the poison queue at once."""


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    batch_size: int
    """Messages fetched at once, 1 to 32."""
    new_batch_threshold: int
    """Fetch again when no more than this many are being processed; so at most the sum of the two run at once."""
    max_dequeue_count: int
    hidden: timedelta
    """Seconds for which a fetched message is invisible."""
    retry_delay: timedelta = timedelta(0)
    maximum_poll_seconds: float = MAXIMUM_POLL_SECONDS


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
    """Add a message, which lives for the service's default of 7 days; create a missing queue; wake its listeners."""
    try:
        await queue.send_message(text)
    except ResourceNotFoundError:
        with contextlib.suppress(ResourceExistsError):
            await queue.create_queue()
        await queue.send_message(text)
    watcher.notify(queue)


def poll_delays(maximum: float) -> Iterator[float]:
    """Seconds before each poll after one that found nothing: the extension's RandomizedExponentialBackoffStrategy."""
    delay, step = MINIMUM_POLL_SECONDS, MINIMUM_POLL_SECONDS
    while delay < maximum:
        yield delay
        delay = MINIMUM_POLL_SECONDS + step * random.uniform(0.8, 1.2)  # noqa: S311 - spreads polls, no secret
        step *= 2
    while True:
        yield maximum


class QueueListener:
    def __init__(  # noqa: PLR0913 - what the real one is made of
        self,
        queue: QueueClient,
        poison_queue: Callable[[QueueMessage], QueueClient],
        process: Callable[[QueueMessage], Awaitable[None]],
        options: ListenerOptions,
        *,
        watcher: QueueWatcher,
        stop_host: StopHost,
    ) -> None:
        """A listener; run() runs it.

        Args:
            queue: without decoding, so that a message is passed on as it came.
            poison_queue: where a message goes in the end.
            process: returns for success, raises InvocationError for failure, PoisonMessage for a hopeless one. Any
                other exception stops the host.
            options: numbers and times.
            watcher: wakes it.
            stop_host: called with the exception that stops the host.
        """
        self._queue = queue
        self._poison_queue = poison_queue
        self._process = process
        self._options = options
        self._watcher = watcher
        self._stop_host = stop_host
        self._wake = watcher.register(queue)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exists: bool | None = None

    @property
    def running(self) -> int:
        """Messages being processed."""
        return len(self._running)

    async def run(self) -> None:
        """Poll until cancelled. What is being processed then goes on: see drain().

        Raises:
            AzureError: the queue refused or could not be reached, which stops the host.
        """
        delays = poll_delays(self._options.maximum_poll_seconds)
        while True:
            self._wake.clear()
            messages = await self._receive()
            for message in messages:
                task = asyncio.create_task(self._handle(message))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            if messages:
                delays = poll_delays(self._options.maximum_poll_seconds)
                while len(self._running) > self._options.new_batch_threshold:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next(delays)):
                    await self._wake.wait()

    def stop(self) -> None:
        """Release the messages of failures from now on without counting the attempt, because the host ends.

        So after Ctrl-C, unfinished messages are there at the next start, not ten minutes later.
        """
        self._stopping = True

    async def drain(self) -> None:
        """Wait until nothing is being processed."""
        while self._running:
            await asyncio.wait(self._running)

    async def _receive(self) -> list[QueueMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._options.batch_size,
            visibility_timeout=int(self._options.hidden.total_seconds()),
        ).by_page()
        try:
            page = await anext(pages, None)
            messages = [message async for message in page] if page is not None else []
        except HttpResponseError as error:
            if error_code(error) == "QueueNotFound":
                if self._exists is not False:
                    _LOG.info("the queue %s does not exist yet", self._queue.queue_name)
                self._exists = False
            elif (error.status_code or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR or error_code(
                error
            ) == "QueueBeingDeleted":
                _LOG.warning("cannot read the queue %s, trying again: %s", self._queue.queue_name, first_line(error))
            else:
                raise
            return []
        self._exists = True
        return messages

    async def _handle(self, message: QueueMessage) -> None:
        try:
            await self._deliver(message)
        except Exception as error:  # noqa: BLE001 - an uncaught exception stops the host
            self._stop_host(error)

    async def _deliver(self, message: QueueMessage) -> None:
        deliveries = message.dequeue_count or 0
        if deliveries > self._options.max_dequeue_count:
            # Its last attempt ended without an answer, since the host died: it gets no further one.
            await self._to_poison(message)
            return
        try:
            async with self._kept_hidden(message):
                await self._process(message)
        except PoisonMessage as error:
            _LOG.warning("%s, message %s: %s", self._queue.queue_name, message.id, first_line(error))
            await self._to_poison(message)
        except InvocationError as error:
            self._report(message, error)
            if self._stopping or deliveries < self._options.max_dequeue_count:
                await self._release(message)
            else:
                await self._to_poison(message)
        else:
            await self._delete(message)

    def _report(self, message: QueueMessage, error: Exception) -> None:
        _LOG.warning(
            "%s, message %s, attempt %s of %d failed: %s",
            self._queue.queue_name,
            message.id,
            message.dequeue_count,
            self._options.max_dequeue_count,
            first_line(error),
        )
        if isinstance(error, FunctionError):
            _LOG.debug("%s", error.stack_trace)

    @contextlib.asynccontextmanager
    async def _kept_hidden(self, message: QueueMessage) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew(message))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _renew(self, message: QueueMessage) -> None:
        hidden = int(self._options.hidden.total_seconds())
        try:
            while True:
                await asyncio.sleep(hidden / 2)
                with _taken_over_is_fine():
                    renewed = await self._queue.update_message(
                        message.id, message.pop_receipt, visibility_timeout=hidden
                    )
                    message.pop_receipt = renewed.pop_receipt
        except Exception as error:  # noqa: BLE001 - an uncaught exception stops the host
            self._stop_host(error)

    async def _delete(self, message: QueueMessage) -> None:
        with _taken_over_is_fine():
            await self._queue.delete_message(message.id, message.pop_receipt)

    async def _release(self, message: QueueMessage) -> None:
        with _taken_over_is_fine():
            await self._queue.update_message(
                message.id, message.pop_receipt, visibility_timeout=int(self._options.retry_delay.total_seconds())
            )

    async def _to_poison(self, message: QueueMessage) -> None:
        poison = self._poison_queue(message)
        _LOG.warning("%s: message %s goes to %s", self._queue.queue_name, message.id, poison.queue_name)
        await send(poison, message.content or "", self._watcher)
        await self._delete(message)


def error_code(error: HttpResponseError) -> str | None:
    """The storage service's own code, such as QueueNotFound."""
    return getattr(error, "error_code", None)


@contextlib.contextmanager
def _taken_over_is_fine() -> Iterator[None]:
    """Another instance took the message meanwhile, or it is gone: there is nothing more to do."""
    try:
        yield
    except HttpResponseError as error:
        if error_code(error) not in {"MessageNotFound", "QueueNotFound", "QueueBeingDeleted", "PopReceiptMismatch"}:
            raise
