"""Files and batches as facts, and the documents in which the service shows them. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from localcloud.model.tokens import image_tokens

type Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]

TERMINAL: tuple[Status, ...] = ("failed", "completed", "expired", "cancelled")
TIMED: tuple[Status, ...] = ("in_progress", "finalizing", "cancelling", *TERMINAL)
"""Statuses whose beginning a batch shows."""

CHAT = "/chat/completions"
SPELLINGS = {CHAT: CHAT, f"/v1{CHAT}": CHAT}
"""Names of the endpoint that a batch and its lines may use, and the one that the service answers with. Documentation
creates batches with the first, and writes the second into their lines."""

WINDOW = "24h"
WINDOW_SECONDS = 24 * 3600

IMAGE_TOKENS = image_tokens(1024, 1024, "auto")
"""What an image counts towards the enqueued tokens; nothing is decoded for that."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The service's limits for one resource. "200 MB" is taken for the smaller of the two that it may mean.

    Attributes:
        files: those without an expiry.
        enqueued_tokens: tokens in the input of all batches of a deployment that have not ended.
        fails_fast: whether a batch that exceeds them is refused at once, or fails while it is validated, as it
            depends on the region.
        lines_at_once: lines that are worked on at the same time, of all batches together.
    """

    file_bytes: int = 200_000_000
    lines: int = 100_000
    files: int = 500
    all_files: int = 10_000
    enqueued_tokens: int = 200_000_000
    fails_fast: bool = True
    lines_at_once: int = 4


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's description. Times are seconds since 1970."""

    id: str
    name: str
    purpose: str
    size: int
    created_at: int
    expires_at: int | None
    processed_at: float
    """Until then its status is pending, and no batch can be created with it."""

    def to_json(self, now: float) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed" if now >= self.processed_at else "pending",
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True, slots=True)
class BatchError:
    """Why a batch failed. line: the number of the line in the input, from 1."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """How the service shows a batch, which varies by region, version and moment.

    Attributes:
        capitals: statuses and error codes begin with a capital.
        iso_times: times are ISO 8601, not seconds since 1970.
        no_file: what stands for a file that is not there.
        counts: False shows null for the numbers of lines.
        endpoint: False shows null for the endpoint.
        metadata: False shows null, whatever the batch was created with.
    """

    capitals: bool = False
    iso_times: bool = False
    no_file: Literal[""] | None = ""
    counts: bool = True
    endpoint: bool = True
    metadata: bool = True


ODD = Looks(capitals=True, iso_times=True, no_file=None, counts=False, endpoint=False)


@dataclass(slots=True)
class Batch:
    """A batch's state. Times are seconds since 1970, by the status that they are about."""

    endpoint: str
    input_file_id: str
    created_at: int
    deployment: str = ""
    metadata: Mapping[str, str] | None = None
    tokens: int = 0
    """Tokens of its input, as they count towards the enqueued ones."""
    id: str = field(default_factory=lambda: f"batch_{secrets.token_hex(16)}")
    status: Status = "validating"
    times: dict[Status, int] = field(default_factory=dict)
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[BatchError, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL

    def to_json(self, looks: Looks) -> dict[str, Any]:
        def time(seconds: int | None) -> int | str | None:
            if seconds is None or not looks.iso_times:
                return seconds
            return datetime.fromtimestamp(seconds, UTC).isoformat()

        def word(text: str) -> str:
            return text.capitalize() if looks.capitals else text

        errors = [
            {"code": word(error.code), "message": error.message, "param": None, "line": error.line}
            for error in self.errors
        ]
        counts = {"total": self.total, "completed": self.completed, "failed": self.failed}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint if looks.endpoint else None,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": WINDOW,
            "status": word(self.status),
            "output_file_id": self.output_file_id or looks.no_file,
            "error_file_id": self.error_file_id or looks.no_file,
            "created_at": time(self.created_at),
            "expires_at": time(self.created_at + WINDOW_SECONDS),
            **{f"{status}_at": time(self.times.get(status)) for status in TIMED},
            "request_counts": counts if looks.counts else dict.fromkeys(counts),
            "metadata": dict(self.metadata) if self.metadata and looks.metadata else None,
        }


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A line of a batch that was answered.

    Attributes:
        status: the status code of its answer. What is 200 is paid for.
        pictures: the SHA-256 of each image.
    """

    at: float
    batch_id: str
    custom_id: str
    deployment: str
    status: int
    instructions: str
    pictures: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
