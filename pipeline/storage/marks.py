"""Marks of the uploads that wait on the deferred queue, so that they are not queued again."""

import hashlib
import time

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated

PREFIX = "waiting/"
"""Of the marks, in the state container."""

LOST_AFTER_SECONDS = 3600
"""How long after its time a message may come late (a busy queue); later it counts as lost."""

_LONGEST = 11
"""Digits of the seconds up to the year 5138."""


class QueuedMarks:
    """The marks of all instances. Each method is one storage request."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def mark(self, name: str, seconds: float, why: str = "") -> None:
        """The upload `name` is on the queue, to be seen in `seconds`; `why` is a kind of failure."""
        with translated(f"marking {name} as waiting"):
            until = str(round(time.time() + seconds))
            said = {"until": until, "why": why} if why else {"until": until}
            await self._container.upload_blob(_mark(name), b"", overwrite=True, metadata=said)

    async def clear(self, name: str) -> None:
        """The upload `name` waits no more."""
        with translated(f"unmarking {name}"):
            try:
                await self._container.delete_blob(_mark(name))
            except ResourceNotFoundError:
                return

    async def is_marked(self, name: str) -> bool:
        """Whether a message for the upload `name` can be expected."""
        until = await self.until(name)
        return until is not None and time.time() < until + LOST_AFTER_SECONDS

    async def until(self, name: str) -> int | None:
        """When the message for the upload `name` is to be seen, in seconds since 1970.

        None if there is no mark, or one that another program wrote.
        """
        with translated(f"looking whether {name} waits"):
            try:
                properties = await self._container.get_blob_client(_mark(name)).get_blob_properties()
            except ResourceNotFoundError:
                return None
        until = (properties.metadata or {}).get("until", "")
        return int(until) if until.isdecimal() and len(until) <= _LONGEST else None


def _mark(name: str) -> str:
    return f"{PREFIX}{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
