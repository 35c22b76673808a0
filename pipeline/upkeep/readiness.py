"""A note of what the app's own identity may do, and of what the app may be asked.

Roles count minutes after they were given, and an event that arrives before makes the blob trigger stop the whole host.
So a deployment waits for this note before it subscribes to events (infra/hooks). Who plans a trial finds here what the
operator's settings allow.
"""

import hashlib
import json
import logging
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from pipeline import __version__
from pipeline.errors import RetryableFailure
from pipeline.settings import Settings

logger = logging.getLogger(__name__)

NOTE = "readiness.json"
"""In the state container."""
_PROBE = ".blobsight-read-check"


class Notes(Protocol):
    """See `pipeline.storage.notes.Notes`."""

    async def write(self, name: str, body: bytes) -> None: ...


class Uploads(Protocol):
    """See `pipeline.storage.uploads.Uploads`."""

    async def read_start(self, name: str, length: int) -> bytes | None: ...


class Results(Protocol):
    """See `pipeline.storage.results.Results`."""

    async def try_writing(self) -> None: ...


class Queue(Protocol):
    """See `pipeline.storage.queue.MessageQueue`."""

    async def length(self) -> int: ...


class Readiness:
    """Tries what the app needs of storage, and writes down what it found."""

    def __init__(self, settings: Settings, notes: Notes, uploads: Uploads, results: Results, *queues: Queue) -> None:
        self._settings = settings
        self._notes = notes
        self._uploads = uploads
        self._results = results
        self._queues = queues
        self._noted = False

    async def note(self) -> None:
        """Write the note, once in the life of a process unless something does not work yet. Five storage operations.

        Raises:
            RetryableFailure: the state container can't be written.
        """
        if self._noted:
            return
        problems = {
            "read_input": await _problem(self._uploads.read_start(_PROBE, 1)),
            "write_results": await _problem(self._results.try_writing()),
            "queue": await _first_problem(queue.length() for queue in self._queues),
        }
        met = [problem for problem in problems.values() if problem]
        found = {
            "version": 1,
            "pipeline_version": __version__,
            "checked_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            **{name: problem is None for name, problem in problems.items()},
            "problems": met,
            "asking": asking(self._settings),
        }
        await self._notes.write(NOTE, json.dumps(found, indent=2).encode())
        for problem in met:
            logger.warning("Not ready: %s", problem)
        self._noted = not met


def asking(settings: Settings) -> dict[str, object]:
    """What may be asked, by whoever sends requests: JSON. None stands for anything."""
    return {
        "trials": settings.trials_container,
        "requests_may_ask": settings.questions_by_message,
        "deployment": settings.openai_deployment,
        "detail": settings.image_detail,
        "service_tier": settings.service_tier,
        "reasoning_effort": settings.reasoning_effort,
        "instructions_sha256": _digest(settings.default_instructions),
        "system_prompt_sha256": _digest(settings.system_prompt),
        "deployments": settings.deployments,
        "details": settings.allowed_details,
        "efforts": settings.allowed_efforts,
        "tiers": settings.tiers,
        "locked_options": settings.locked_options or (),
        "batch_deployment": settings.batch_deployment,
        "max_output_tokens": settings.max_output_tokens,
    }


def _digest(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


async def _first_problem(attempts: Iterable[Awaitable[object]]) -> str | None:
    for attempt in attempts:
        if problem := await _problem(attempt):
            return problem
    return None


async def _problem(attempt: Awaitable[object]) -> str | None:
    try:
        await attempt
    except RetryableFailure as failure:
        return failure.message
    return None
