"""The service's files and batches behind the calls of `pipeline.batches.service.BatchService`, with its limits.

Documented: a file has 200 MB and 100,000 lines at most; the input tokens of all batches that have not ended count
against a quota, and a batch above it is refused with `token_limit_exceeded`. How long a batch takes is not documented,
beyond a day as the aim: it is a parameter.
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from bench.simulation.clock import now
from bench.simulation.model import LEAST_PROMPT, LONGEST_PROMPT
from bench.simulation.storage import Sized
from pipeline.batches.service import FileGone, InputFile, Refused
from pipeline.batches.shard import MOST_BYTES, MOST_LINES
from pipeline.batches.status import BatchStatus
from pipeline.storage.lines import PREFIX

ROUND_TRIP = 0.1
"""Seconds for a request that carries no file. An assumption."""
SPREAD = 0.25
"""By which part a batch takes shorter or longer than most."""
FAILS_AFTER = 300.0
"""Seconds after which a batch above the quota fails, where it is not refused at once."""
ANSWER_BYTES_PER_SECOND = 50e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the service is like."""

    quota: float = 200e6
    """Input tokens of all batches that have not ended."""
    hours: float = 2.0
    """That a batch takes, more or less a quarter."""
    bytes_per_second: float = 50e6
    """In which it takes a file."""
    refuses_late: bool = False
    """Whether a batch above the quota is taken, and fails minutes later."""


@dataclass(slots=True)
class _File:
    lines: list[str]
    size: int
    tokens: int


@dataclass(slots=True)
class _Batch:
    input: _File
    file_id: str
    begun: float
    ends: float
    is_refused: bool = False


@dataclass(slots=True)
class Seen:
    """What the service has seen."""

    files: int = 0
    largest: int = 0
    """Bytes."""
    bytes: int = 0
    tokens: int = 0
    """Of input, in all that was answered."""
    most_enqueued: int = 0
    """Input tokens at the same time."""
    most_batches: int = 0
    """At the same time."""
    refused: int = 0
    looks: int = 0
    last_upload: float = 0.0
    uploading: float = 0.0
    """Seconds."""
    billed: list[str] = field(default_factory=list)
    """Each line that was answered."""


class SimulatedBatchService:
    """Stands in for `BatchService`."""

    def __init__(self, conditions: Conditions, rng: Random) -> None:
        self._conditions = conditions
        self._rng = rng
        self._numbers = count(1)
        self._files: dict[str, _File] = {}
        self._batches: dict[str, _Batch] = {}
        self.seen = Seen()

    async def upload(self, file: InputFile) -> str:
        """Take a file, reading it as the app makes it."""
        lines: list[str] = []
        size, began = 0, now()
        async for chunk in file.content():
            assert isinstance(chunk, Sized)  # noqa: S101 - the storage is simulated, too
            size += len(chunk)
            lines.append(chunk.name.removeprefix(PREFIX))
        if size > MOST_BYTES or len(lines) > MOST_LINES or not lines:
            raise Refused("The file is empty, or too large.", "invalid_request", 400)
        await asyncio.sleep(ROUND_TRIP + size / self._conditions.bytes_per_second)
        tokens = sum([self._rng.randint(LEAST_PROMPT, LONGEST_PROMPT) for _ in lines])
        file_id = f"file-{next(self._numbers)}"
        self._files[file_id] = _File(lines, size, tokens)
        seen = self.seen
        seen.files += 1
        seen.largest, seen.bytes = max(seen.largest, size), seen.bytes + size
        seen.last_upload, seen.uploading = now(), seen.uploading + now() - began
        return file_id

    async def create(self, file_id: str) -> BatchStatus:
        await asyncio.sleep(ROUND_TRIP)
        file = self._file(file_id)
        running = [batch for batch in self._batches.values() if not batch.is_refused and now() < batch.ends]
        enqueued = file.tokens + sum([batch.input.tokens for batch in running])
        is_above = enqueued > self._conditions.quota
        if is_above:
            self.seen.refused += 1
            if not self._conditions.refuses_late:
                raise Refused("The number of enqueued tokens has surpassed the limit.", "token_limit_exceeded", 400)
        else:
            self.seen.most_enqueued = max(self.seen.most_enqueued, enqueued)
            self.seen.most_batches = max(self.seen.most_batches, len(running) + 1)
        seconds = self._conditions.hours * 3600 * self._rng.uniform(1 - SPREAD, 1 + SPREAD)
        batch_id = f"batch-{next(self._numbers)}"
        ends = now() + (FAILS_AFTER if is_above else seconds)
        self._batches[batch_id] = _Batch(file, file_id, now(), ends, is_above)
        return self._status(batch_id)

    async def look(self, batch_id: str) -> BatchStatus | None:
        await asyncio.sleep(ROUND_TRIP)
        self.seen.looks += 1
        return self._status(batch_id) if batch_id in self._batches else None

    async def find(self, file_id: str) -> BatchStatus | None:
        await asyncio.sleep(ROUND_TRIP)
        found = [key for key, one in self._batches.items() if one.file_id == file_id and not one.is_refused]
        return self._status(found[-1]) if found else None

    async def cancel(self, batch_id: str) -> None:
        await asyncio.sleep(ROUND_TRIP)
        self._batches[batch_id].ends = now()

    async def lines(self, file_id: str) -> AsyncIterator[bytes]:
        """Give the lines of an output file, in any order."""
        lines = self._file(file_id).lines.copy()
        self._rng.shuffle(lines)
        for line in lines:
            answer = _answer(line)
            await asyncio.sleep(len(answer) / ANSWER_BYTES_PER_SECOND)
            yield answer

    async def delete_file(self, file_id: str) -> None:
        await asyncio.sleep(ROUND_TRIP)
        self._files.pop(file_id, None)

    def _file(self, file_id: str) -> _File:
        if file_id not in self._files:
            raise FileGone(file_id, None, 404)
        return self._files[file_id]

    def _status(self, batch_id: str) -> BatchStatus:
        batch = self._batches[batch_id]
        if now() < batch.ends:
            part = (now() - batch.begun) / (batch.ends - batch.begun)
            done = 0 if batch.is_refused else int(part * len(batch.input.lines))
            return BatchStatus(batch_id, "in_progress", batch.file_id, completed=done)
        if batch.is_refused:
            return BatchStatus(
                batch_id, "failed", batch.file_id, code="token_limit_exceeded", problem="Above the quota."
            )
        output = f"output-of-{batch_id}"
        if batch.file_id in self._files and output not in self._files:
            self._files[output] = batch.input
            self.seen.billed += batch.input.lines
            self.seen.tokens += batch.input.tokens
        return BatchStatus(batch_id, "completed", batch.file_id, output, completed=len(batch.input.lines))


def _answer(line: str) -> bytes:
    usage = {"prompt_tokens": 1000, "completion_tokens": 20}
    choice = {"message": {"content": "A photo."}, "finish_reason": "stop"}
    body = {"model": "simulated", "choices": [choice], "usage": usage}
    response = {"status_code": 200, "request_id": line[:8], "body": body}
    return json.dumps({"custom_id": line, "response": response, "error": None}).encode()
