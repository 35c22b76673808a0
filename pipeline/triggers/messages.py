"""What the triggers hand over: each upload, request or deferred piece of work is delivered if it is ours.

Two queues keep what others say apart from what the app says to itself. What others ask for begins as new work, whatever
their message says; only work that the app deferred has tries and times behind it.
"""

import logging
from typing import Protocol

from pipeline.job.last_resort import LastResort
from pipeline.job.places import Places
from pipeline.job.public import Allowed, parse_public
from pipeline.job.requests import InvalidRequest, Redrive, Request, parse_deferred
from pipeline.one_line import short
from pipeline.triggers.deliveries import Deliveries

logger = logging.getLogger(__name__)

MOST_OF_A_CONTAINER = 63
"""Characters that a container's name can have; a message may say anything."""


class Queue(Protocol):
    """See `pipeline.storage.queue.MessageQueue`."""

    async def send(self, message: Request | Redrive, delay: float) -> None: ...


class Redriver(Protocol):
    """See `pipeline.upkeep.redrive.Redriver`."""

    async def run(self, asked: Redrive) -> None: ...


class Messages:
    """All that begins work, one call each.

    Args:
        deferred: the queue of the app's own work.
        places: where work may be.
    """

    def __init__(  # noqa: PLR0913 - who does the work, and by keyword what is ours
        self,
        deliveries: Deliveries,
        last_resort: LastResort,
        redriver: Redriver,
        deferred: Queue,
        *,
        places: Places,
        allowed: Allowed,
    ) -> None:
        self._deliveries = deliveries
        self._last_resort = last_resort
        self._redriver = redriver
        self._deferred = deferred
        self._places = places
        self._allowed = allowed

    async def handle_upload(self, container: str, name: str) -> None:
        """Handle one BlobCreated event.

        Raises:
            RetryableFailure: storage can't be reached; the host delivers again.
        """
        await self._begin(Request(container=container, name=name))

    async def handle_request(self, message: str) -> None:
        """Handle one message of the request queue. One that can't be understood, or is not allowed, is refused at once.

        One that asks for several images is split: each becomes deferred work of its own, for other instances too, since
        one delivery has time for a few. A split that breaks off is done again; work that was sent twice is done once.

        Raises:
            RetryableFailure: storage can't be reached; the host delivers again.
        """
        try:
            asked = parse_public(message, self._allowed)
        except InvalidRequest as refusal:
            await self._last_resort.record_refused(message, str(refusal))
            return
        found = [work for work in asked if is_ours(work, self._places)]
        if len(found) == 1:
            await self._begin(found[0])
            return
        for work in found:
            await self._deferred.send(work, 0)

    async def handle_deferred(self, message: str) -> None:
        """Handle one message of the deferred queue.

        Raises:
            InvalidRequest: the app did not write it.
            RetryableFailure: storage can't be reached; the host delivers again.
        """
        await self._begin(parse_deferred(message))

    async def _begin(self, work: Request | Redrive) -> None:
        if not is_ours(work, self._places):
            return
        if isinstance(work, Redrive):
            await self._redriver.run(work)
        else:
            await self._deliveries.handle(work)


def is_ours(work: Request | Redrive, places: Places) -> bool:
    """Whether the work is on one of the app's containers; a line in the log says so where it is not."""
    if isinstance(work, Redrive) or places.take(work):
        return True
    images = places.images.uploads.container  # the operator's own name for it
    # A subscription without a subject filter sends every container's events, our own results' too.
    logger.warning(
        "Ignored an event of container %s: only uploads to %s are analyzed. Set the event subscription's"
        " subjectBeginsWith filter.",
        short(work.container, MOST_OF_A_CONTAINER),
        images,
    )
    return False
