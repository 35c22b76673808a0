"""The lines of one batch, worked off in any order and side by side; each answered as a chat completion would be."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, BinaryIO

from localcloud.model import replies
from localcloud.model.answering import Answering, asked
from localcloud.model.batches.facts import Batch, BilledLine
from localcloud.model.batches.files import Output
from localcloud.model.batches.lines import Inspected, Line
from localcloud.model.batches.script import Course
from localcloud.model.errors import RefusedError
from localcloud.model.replies import Reply
from localcloud.model.script import Asked, Script

IN_FLIGHT = 64
"""Lines of a batch that wait at the same time for answers that are slow. Their bodies are not in memory."""


@dataclass(slots=True)
class Job:
    """A batch that is being worked on."""

    batch: Batch
    course: Course
    input: BinaryIO
    inspected: Inspected
    output: Output
    errors: Output
    caller: str | None
    ends_as: str | None = None
    """"cancelled" or "expired", from the moment that it is to end before it is done."""
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to wait no longer."""
    finished: set[str] = field(default_factory=set)

    def end_as(self, status: str) -> None:
        self.ends_as = status
        self.nudged.set()

    async def pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.nudged.wait()
        except TimeoutError:
            return


class LineWorker:
    """Answers lines of all batches, a few at a time."""

    def __init__(self, answering: Answering, script: Script, at_once: Callable[[], int]) -> None:
        self.billed: list[BilledLine] = []
        self._answering = answering
        self._script = script
        self._at_once = at_once

    def enter(self) -> None:
        self.billed.clear()
        self._room = asyncio.Semaphore(self._at_once())

    async def work_off(self, job: Job) -> None:
        """Answer the lines, until all are done or the job is to end early."""
        order = list(job.inspected.lines)
        Random(len(order)).shuffle(order)  # noqa: S311 - the service promises no order
        early = job.course.expires_after if job.course.expires_after is not None else job.course.cancelled_after
        waiting = iter(order if early is None else order[:early])

        async def worker() -> None:
            for line in waiting:
                if job.ends_as:
                    return
                if not job.course.missing(line.custom_id):
                    await self._finish(job, line)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(IN_FLIGHT, len(order))):
                workers.create_task(worker())
        if early is not None and not job.ends_as:
            job.end_as("expired" if job.course.expires_after is not None else "cancelled")

    async def _finish(self, job: Job, line: Line) -> None:
        identifier = replies.request_id()
        reply, question = await self._answer(job, line, identifier)
        if reply.hangs:
            await job.nudged.wait()
            return
        if reply.silence:
            await job.pause(reply.silence)
        written = _written(reply, line.custom_id, identifier)
        succeeded = reply.status == 200 and reply.sent == 1
        if job.course.garbled(line.custom_id):
            written = written[: len(written) // 2] + b"\n"
        (job.output if succeeded else job.errors).write(written)
        job.finished.add(line.custom_id)
        job.batch.completed += succeeded
        job.batch.failed += not succeeded
        if question is not None:
            self.billed.append(_billed(job.batch.id, line.custom_id, question, reply))

    async def _answer(self, job: Job, line: Line, identifier: str) -> tuple[Reply, Asked | None]:
        """The body lives no longer than this call."""
        async with self._room:
            body: dict[str, Any] = json.loads(os.pread(job.input.fileno(), line.length, line.start))["body"]
            try:
                question = await self._answering.check(body, [job.batch.deployment])
                remembered = asked(question, identifier, job.caller, {})
                return await self._answering.play(self._script.next(remembered), question, body), remembered
            except RefusedError as refused:
                return replies.error(refused.reply), None


def report_unfinished(job: Job) -> None:
    """Write the lines that the batch did not get to into its error file."""
    error = {
        "code": f"batch_{job.ends_as}",
        "message": "This request could not be executed before the completion window expired."
        if job.ends_as == "expired"
        else "This request was not executed before the batch was cancelled.",
    }
    for line in job.inspected.lines:
        if line.custom_id not in job.finished and not job.course.missing(line.custom_id):
            job.errors.write(_json({"custom_id": line.custom_id, "response": None, "error": error}))


def _written(reply: Reply, custom_id: str, identifier: str) -> bytes:
    """An answer as a line of the output. One whose connection would break has none."""
    if reply.sent < 1:
        error = {"code": "server_error", "message": "The request was not answered."}
        return _json({"custom_id": custom_id, "response": None, "error": error})
    response = {"body": _parsed(reply.body), "request_id": identifier, "status_code": reply.status}
    return _json({"custom_id": custom_id, "response": response, "error": None})


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _json(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _billed(batch_id: str, custom_id: str, question: Asked, reply: Reply) -> BilledLine:
    body = _parsed(reply.body)
    usage = body.get("usage") if isinstance(body, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    return BilledLine(
        at=time.time(),
        batch_id=batch_id,
        custom_id=custom_id,
        deployment=question.deployment,
        status=reply.status,
        instructions=question.instructions,
        pictures=tuple(picture.sha256 for picture in question.pictures),
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
    )
