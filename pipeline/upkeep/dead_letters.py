"""Events that Event Grid gave up on: their images, and sidecars of images, are queued minutes later.

An app that wakes from zero instances may refuse the webhook's first event with 401, and Event Grid does not repeat what
was refused like that: it writes the event into the dead-letter container within about five minutes.
https://learn.microsoft.com/azure/event-grid/manage-event-delivery
https://github.com/Azure/azure-functions-host/issues/11834
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from pipeline.errors import PermanentFailure
from pipeline.job.public import uploads_in_events
from pipeline.job.requests import InvalidRequest, Request
from pipeline.one_line import blob_label
from pipeline.storage.facts import ContainerMissing, ListedBlob
from pipeline.storage.listing import ContainerListing
from pipeline.storage.notes import Notes
from pipeline.storage.uploads import Uploads

logger = logging.getLogger(__name__)

MOST_BYTES = 4 * 1024 * 1024
"""Of one dead letter that are read. Event Grid puts events together up to 1 MB."""
OVERLAP = timedelta(minutes=1)
"""Before the newest letter that was read. A letter of that time may be listed late, so those that were read are
remembered by name."""
_NOTE_NAME = "dead-letters.json"


@dataclass(frozen=True, slots=True)
class _Seen:
    """When the newest letter that was read was written, and the names of those read that are at most OVERLAP older."""

    until: datetime = datetime.min.replace(tzinfo=UTC) + OVERLAP
    names: frozenset[str] = frozenset()

    def includes(self, letter: ListedBlob) -> bool:
        return letter.name in self.names or letter.last_modified <= self.until - OVERLAP


_NOTE = TypeAdapter(_Seen)


class DeadLetters:
    """The dead-letter container; a note in the state container says how far it was read."""

    def __init__(self, listing: ContainerListing, letters: Uploads, notes: Notes) -> None:
        self._listing = listing
        self._letters = letters
        self._notes = notes

    async def queue_new(self, queue: Callable[[Request], Awaitable[bool]], *, most: int) -> int:
        """Hand the uploads in dead letters that are new to `queue`.

        Args:
            queue: says whether it queued the upload.
            most: stop before the next letter once so many were queued.

        Returns:
            How many it queued. One storage operation for each page of 5,000 letters, one for each new letter, two for
            the note.

        Raises:
            RetryableFailure: storage can't be asked; what was not read is read by the next run.
        """
        seen = await self._seen()
        letters = sorted(await self._new(seen), key=lambda letter: letter.last_modified)
        read: list[ListedBlob] = []
        queued = 0
        for letter in letters:
            if queued >= most:
                break
            for request in await self._uploads_in(letter):
                queued += await queue(request)
            read.append(letter)
        if read:
            until = max(seen.until, read[-1].last_modified)
            recent = {letter.name for letter in read if letter.last_modified > until - OVERLAP}
            kept = seen.names if until - seen.until < OVERLAP else frozenset()
            await self._notes.write(_NOTE_NAME, _NOTE.dump_json(_Seen(until, kept | recent)))
        return queued

    async def _seen(self) -> _Seen:
        note = await self._notes.read(_NOTE_NAME)
        return _Seen() if note is None else _NOTE.validate_json(note)

    async def _new(self, seen: _Seen) -> list[ListedBlob]:
        try:
            return [blob async for page in self._listing.pages() for blob in page.blobs if not seen.includes(blob)]
        except ContainerMissing:  # there is none where events come by a queue
            return []

    async def _uploads_in(self, letter: ListedBlob) -> list[Request]:
        try:
            text = (await self._letters.read_start(letter.name, MOST_BYTES) or b"").decode(errors="replace")
            return uploads_in_events(text)
        except (InvalidRequest, PermanentFailure) as problem:
            logger.warning("The dead letter %s can't be read: %s", blob_label(self._listing.name, letter.name), problem)
            return []
