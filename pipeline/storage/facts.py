"""Facts that storage hands over, without the SDK that finds them out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.errors import NotTried, OperatorFailure
from pipeline.one_line import short
from pipeline.result import ResultMetadata

IN_BATCH = "in a batch"
"""In the mark of an upload whose question waits for a batch, or for its reply."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of an uploaded blob, as storage describes it."""

    container: str
    name: str
    url: str
    etag: str
    last_modified: datetime
    size: int
    """Bytes."""
    content_type: str | None = None
    content_encoding: str | None = None
    """The uploader's remark on the bytes, true or not."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    age: float | None = None
    """Seconds since it was last changed, by the service's clock; None where that is not known."""
    grown_for: float | None = None
    """Seconds from its creation to its last change, for an append or page blob: those are written piece by piece, and
    readable all the while. None for any other."""


@dataclass(frozen=True, slots=True)
class OpenedUpload:
    """An upload, and its bytes. `read` brings them, once.

    `read` raises VersionGone when the blob is of another version by now, PermanentFailure (unreadable_blob) when
    storage refuses for good, RetryableFailure when it can't be read now.
    """

    facts: Upload
    read: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result blob, without its content. `etag` and `size` (in bytes) are the result blob's own."""

    etag: str
    size: int
    facts: ResultMetadata
    archived: bool = False
    """It is in the archive tier: it can neither be read nor replaced."""
    written: datetime | None = None
    """By the service's clock, in whole seconds."""

    def require_replaceable(self, name: str) -> None:
        """Raise OperatorFailure if the result `name` can't be written over: before anything is paid for."""
        if self.archived:
            raise OperatorFailure(
                f"The result {short(name)} is in the archive tier, where it can neither be read nor replaced: delete it"
                " or set its tier to hot or cool."
            )

    def is_newer_than(self, upload: Upload) -> bool:
        """Whether it is of a later version of the image than `upload`, or may be: the clock has whole seconds."""
        if self.facts.source_etag == upload.etag or self.facts.source_modified is None:
            return False
        return self.facts.source_modified >= upload.last_modified

    def is_later_than(self, upload: Upload) -> bool:
        """Whether it was written in a later second than `upload`."""
        return self.written is not None and self.written > upload.last_modified


class VersionGone(Exception):
    """The blob was overwritten or deleted while it was read."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that is ours for now."""

    runs: int
    """How often it was begun, this time included."""
    kept: bytes | None
    """The answer that an earlier run paid for and could not deliver."""
    keep: Callable[[bytes], Awaitable[None]]
    """Keep an answer for the next run. One storage request; raises RetryableFailure when that is not possible."""
    discard: Callable[[], None]
    """The answer, if one is kept, is of no use any more: the work has its result."""
    keep_for: Callable[[str, bytes], Awaitable[None]]
    """Keep an answer for the next run of other work, by its key. One storage request; raises as `keep` does."""


class ClaimedElsewhere(NotTried):
    """Another run is at this work, or died at it; `retry_after` is when its claim expires if it is not renewed."""


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob in a listing. `metadata` is empty when it was not asked for; its keys are lower-case."""

    name: str
    etag: str
    last_modified: datetime
    metadata: Mapping[str, str]
    size: int = 0
    """Bytes."""
    md5: str | None = None
    """Of the content, in Base64. The service works it out for what is uploaded in one piece; otherwise the uploader may
    have said it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, possibly empty; `next_token` is None at the end."""

    blobs: Sequence[ListedBlob]
    next_token: str | None
    odd: Sequence["OddEntry"] = ()
    """Entries that can't be understood."""


@dataclass(frozen=True, slots=True)
class OddEntry:
    """An entry of a listing that lacks what the service always writes, or is not a blob that can be asked for.

    `name` is what stands there, '' for nothing; `why` says what is wrong with it.
    """

    name: str
    why: str


class ContainerMissing(OperatorFailure):
    """There is no such container."""

    def __init__(self, container: str) -> None:
        super().__init__(
            f"The container '{container}' does not exist: create it, or name one that does in the app's settings."
        )


class TokenRefused(Exception):
    """The service does not continue a listing from this token any more."""


FIRST_READ_BYTES = 8 * 1024 * 1024
"""Bytes that the opening request of a download brings. Nearly every photo fits, so one request does; and of a 5 GB
blob that is going to be refused, no more than this is ever read."""


def first_read_bytes(memory: int, at_once: int) -> int:
    """Bytes that the opening request may bring, so that `at_once` of them take at most half of `memory`."""
    return min(FIRST_READ_BYTES, memory // 2 // at_once)


def bare_etag(etag: str | None) -> str:
    """An ETag as listings show it: without the quotation marks of the HTTP header."""
    return (etag or "").strip('"')
