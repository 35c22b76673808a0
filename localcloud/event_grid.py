"""Event Grid as documented: subscriptions with filters, at-least-once delivery, retries, dead letters.

https://learn.microsoft.com/azure/event-grid/delivery-and-retry
https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
https://learn.microsoft.com/azure/event-grid/event-filtering
"""

import asyncio
import base64
import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from azure.core.exceptions import AzureError
from azure.storage.queue.aio import QueueClient

from localcloud.errors import LocalCloudError

_LOG = logging.getLogger(__name__)

type Event = Mapping[str, Any]
type Reason = Literal["MaxDeliveryAttemptsExceeded", "TimeToLiveExceeded", "NotRetried"]

RETRY_SCHEDULE = (10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 21600.0, 43200.0)
"""Seconds before the 1st, 2nd, … retry, as documented; the last one is repeated."""
MAXIMUM_ATTEMPTS = 30
TIME_TO_LIVE_SECONDS = 24 * 3600.0
RESPONSE_SECONDS = 30.0
"""Seconds that Event Grid waits for a webhook's answer."""
CONCURRENCY = 32
"""Concurrent deliveries. The service documents no number; this one keeps a laptop's host from being flooded."""

_DELIVERED = frozenset({200, 201, 202, 203, 204})
_NOT_RETRIED = frozenset({400, 401, 403, 413})


class SubscriptionError(LocalCloudError):
    """The webhook did not complete the validation handshake."""


@dataclass(frozen=True, slots=True)
class WebHook:
    """Delivers by POST: a JSON array with one event."""

    url: str


@dataclass(frozen=True, slots=True)
class StorageQueue:
    """Delivers a message: the Base64 of the event's JSON. `client` must not encode it again (the SDK's default)."""

    client: QueueClient


@dataclass(frozen=True, slots=True)
class Subscription:
    """A destination and its filters. Text is compared without regard to case, as the service does by default."""

    name: str
    destination: WebHook | StorageQueue
    subject_begins_with: str = ""
    subject_ends_with: str = ""
    included_event_types: frozenset[str] | None = None
    """None: all."""
    apis: frozenset[str] | None = None
    """The advanced filter `data.api StringIn`; None: no such filter."""

    def wants(self, event: Event) -> bool:
        subject = str(event["subject"]).lower()
        api = str(event["data"].get("api", "")).lower()
        return (
            subject.startswith(self.subject_begins_with.lower())
            and subject.endswith(self.subject_ends_with.lower())
            and (self.included_event_types is None or event["eventType"] in self.included_event_types)
            and (self.apis is None or api in {wanted.lower() for wanted in self.apis})
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event whose delivery was given up."""

    event: Event
    subscription: str
    reason: Reason
    attempts: int
    last_outcome: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in the delivery of an event to each subscription. The default is none."""

    lose: bool = False
    copies: int = 1
    delay: float = 0.0
    """Seconds before the first attempt; different delays reorder events."""


class EventGrid:
    """A topic with its subscriptions. It delivers while its context is open, and drops the rest."""

    def __init__(
        self,
        *,
        schedule: Sequence[float] = RETRY_SCHEDULE,
        attempts: int = MAXIMUM_ATTEMPTS,
        faults: Callable[[Event], Fault] | None = None,
    ) -> None:
        """A topic with no subscriptions.

        Args:
            schedule: seconds before each retry; the last one is repeated.
            attempts: after so many the event is a dead letter.
            faults: called once for each published event.
        """
        self.dead_letters: list[DeadLetter] = []
        self._schedule = tuple(schedule)
        self._attempts = attempts
        self._faults = faults or (lambda _event: Fault())
        self._subscriptions: dict[str, Subscription] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RESPONSE_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def pending(self) -> int:
        """Number of deliveries that are neither done nor given up."""
        return len(self._deliveries)

    async def settled(self) -> None:
        """Wait until every event published so far is delivered or given up."""
        while self._deliveries:
            await asyncio.wait(self._deliveries)

    async def subscribe(  # noqa: PLR0913 - the parts of an event subscription, by name
        self,
        name: str,
        destination: WebHook | StorageQueue,
        *,
        subject_begins_with: str = "",
        subject_ends_with: str = "",
        included_event_types: Collection[str] | None = None,
        apis: Collection[str] | None = None,
    ) -> Subscription:
        """Add a subscription, or replace the one of that name. A webhook must first answer the validation handshake.

        Raises:
            SubscriptionError: the webhook did not.
        """
        subscription = Subscription(
            name,
            destination,
            subject_begins_with,
            subject_ends_with,
            None if included_event_types is None else frozenset(included_event_types),
            None if apis is None else frozenset(apis),
        )
        if isinstance(destination, WebHook):
            await self._validate(subscription, destination)
        self._subscriptions[name] = subscription
        return subscription

    def publish(self, event: Event) -> None:
        """Take an event and return at once. Each subscription that matches it gets it at least once."""
        fault = self._faults(event)
        if fault.lose:
            return
        for subscription in self._subscriptions.values():
            if subscription.wants(event):
                for _ in range(fault.copies):
                    delivery = asyncio.create_task(self._deliver(event, subscription, fault.delay))
                    self._deliveries.add(delivery)
                    delivery.add_done_callback(self._deliveries.discard)

    async def _deliver(self, event: Event, subscription: Subscription, delay: float) -> None:
        published = time.monotonic()
        attempt = 0
        while True:
            await asyncio.sleep(delay)
            async with self._places:
                attempt += 1
                failure = await self._send(event, subscription, attempt)
            if failure is None:
                return
            outcome, is_final = failure
            _LOG.info("%s: attempt %d for %r: %s", subscription.name, attempt, event["subject"], outcome)
            # "A small randomization" of all steps, as documented.
            delay = self._schedule[min(attempt, len(self._schedule)) - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            reason: Reason | None = None
            if is_final:
                reason = "NotRetried"
            elif attempt >= self._attempts:
                reason = "MaxDeliveryAttemptsExceeded"
            elif time.monotonic() - published + delay > TIME_TO_LIVE_SECONDS:
                reason = "TimeToLiveExceeded"
            if reason is not None:
                self.dead_letters.append(DeadLetter(event, subscription.name, reason, attempt, outcome))
                return

    async def _send(self, event: Event, subscription: Subscription, attempt: int) -> tuple[str, bool] | None:
        """Make one attempt. Returns None if delivered; else the outcome, and whether it is final."""
        if isinstance(subscription.destination, StorageQueue):
            message = base64.b64encode(json.dumps(event).encode()).decode()
            try:
                await subscription.destination.client.send_message(message)
            except AzureError as error:
                return str(error).partition("\n")[0], False
            return None
        headers = {
            "aeg-event-type": "Notification",
            "aeg-subscription-name": subscription.name.upper(),
            "aeg-delivery-count": str(attempt - 1),
            "aeg-data-version": str(event.get("dataVersion", "")),
            "aeg-metadata-version": str(event.get("metadataVersion", "1")),
        }
        try:
            status, _ = await self._post(subscription.destination, event, headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}", False
        return None if status in _DELIVERED else (f"HTTP {status}", status in _NOT_RETRIED)

    async def _validate(self, subscription: Subscription, hook: WebHook) -> None:
        code = str(uuid.uuid4())
        event = {
            "id": str(uuid.uuid4()),
            "topic": "/localcloud",
            "subject": "",
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": datetime.now(UTC).isoformat(),
            "dataVersion": "2",
            "metadataVersion": "1",
            "data": {"validationCode": code},
        }
        headers = {"aeg-event-type": "SubscriptionValidation", "aeg-subscription-name": subscription.name.upper()}
        try:
            status, body = await self._post(hook, event, headers)
            answer = json.loads(body)["validationResponse"] if status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SubscriptionError(
                f"subscription {subscription.name}: the webhook cannot be reached: {error}"
            ) from error
        except (ValueError, LookupError, TypeError):
            answer = None
        if answer != code:
            raise SubscriptionError(
                f"subscription {subscription.name}: the webhook answered HTTP {status} to the validation handshake, "
                "without the code; check its URL and key"
            )

    async def _post(self, hook: WebHook, event: Event, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("EventGrid is used outside of its context")
        async with self._session.post(hook.url, json=[event], headers=headers) as response:
            return response.status, await response.read()
