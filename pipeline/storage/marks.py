"""Marks of the uploads that wait on the deferred queue, so that they are not queued again."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated

PREFIX = "waiting/"
"""Of the marks, in the state container."""

LOST_AFTER_SECONDS = 3600
"""How long after its time a message may come late (a busy queue); later it counts as lost."""

_LONGEST = 11
"""Digits of the seconds up to the year 5138."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one upload."""

    until: int
    """When its message is to be seen, in seconds since 1970."""
    since: datetime
    why: str
    """A kind of failure, `facts.IN_BATCH`, or empty."""

    @property
    def is_lost(self) -> bool:
        """Whether no message can be expected any more."""
        return self.until + LOST_AFTER_SECONDS <= time.time()

    @classmethod
    def of(cls, metadata: Mapping[str, str], written: datetime) -> Self | None:
        """The mark with this metadata, written then; None for one that another program wrote."""
        until = metadata.get("until", "")
        if not (until.isdecimal() and len(until) <= _LONGEST):
            return None
        return cls(int(until), written, metadata.get("why", ""))


class QueuedMarks:
    """The marks of all instances. Each method is one storage request."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def mark(self, name: str, seconds: float, why: str = "") -> None:
        """The upload `name` is on the queue, to be seen in `seconds`; `why` is a kind of failure."""
        with translated(f"marking {name} as waiting"):
            until = str(round(time.time() + seconds))
            said = {"until": until, "why": why} if why else {"until": until}
            await self._container.upload_blob(mark_of(name), b"", overwrite=True, metadata=said)

    async def clear(self, name: str) -> None:
        """The upload `name` waits no more."""
        with translated(f"unmarking {name}"):
            try:
                await self._container.delete_blob(mark_of(name))
            except ResourceNotFoundError:
                return

    async def is_marked(self, name: str) -> bool:
        """Whether a message for the upload `name` can be expected."""
        mark = await self.find(name)
        return mark is not None and not mark.is_lost

    async def find(self, name: str) -> Mark | None:
        """The mark of the upload `name`; None if there is none, or one that another program wrote."""
        with translated(f"looking whether {name} waits"):
            try:
                found = await self._container.get_blob_client(mark_of(name)).get_blob_properties()
            except ResourceNotFoundError:
                return None
        return Mark.of(found.metadata or {}, found.last_modified)


def mark_of(name: str) -> str:
    """The name of the mark of the upload `name`."""
    return f"{PREFIX}{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
