"""Batches, from their creation to their end."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from localcloud.model.batches import refusals
from localcloud.model.batches.facts import SPELLINGS, WINDOW, Batch, BatchError, Status
from localcloud.model.batches.files import Files, Output
from localcloud.model.batches.lines import Inspected, inspect
from localcloud.model.batches.requests import check_metadata, output_expiry
from localcloud.model.batches.script import BatchScript, Course
from localcloud.model.batches.work import Job, LineWorker, report_unfinished
from localcloud.model.deployments import Deployment
from localcloud.model.errors import RefusedError


class Jobs:
    """The batches of the resource. Use as a context manager; those in progress end with it."""

    def __init__(
        self, files: Files, deployments: Mapping[str, Deployment], script: BatchScript, worker: LineWorker
    ) -> None:
        self.batches: dict[str, Batch] = {}
        self._files = files
        self._deployments = deployments
        self._script = script
        self._worker = worker
        self._running: dict[str, tuple[Job, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> None:
        self.batches.clear()
        self._worker.enter()

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, request: Mapping[str, Any], caller: str | None) -> Batch:
        """Raises RefusedError."""
        endpoint = SPELLINGS.get(str(request.get("endpoint")))
        if endpoint is None:
            raise RefusedError(refusals.wrong_endpoint(request.get("endpoint")))
        if request.get("completion_window") != WINDOW:
            raise RefusedError(refusals.wrong_window(request.get("completion_window")))
        metadata, expires_after = check_metadata(request.get("metadata")), output_expiry(request)
        identifier = self._require_input(request.get("input_file_id"))
        inspected = await asyncio.to_thread(self._inspect, identifier)
        most = self._files.limits.enqueued_tokens
        exceeds = self._exceeds_quota(inspected.deployment, inspected.tokens)
        if exceeds and self._files.limits.fails_fast:
            raise RefusedError(refusals.token_limit_exceeded(most))
        batch = Batch(
            endpoint=endpoint,
            input_file_id=identifier,
            created_at=int(time.time()),
            deployment=inspected.deployment,
            metadata=metadata,
            tokens=inspected.tokens,
        )
        course = self._script.next_course(batch)
        if exceeds:
            late = BatchError("token_limit_exceeded", refusals.token_limit_message(most))
            course = replace(course, fails=course.fails or late)
        job = Job(
            batch=batch,
            course=course,
            input=self._files.open(identifier),
            inspected=inspected,
            output=Output(self._files, batch.id, "output", expires_after),
            errors=Output(self._files, batch.id, "error", expires_after),
            caller=caller,
        )
        self.batches[batch.id] = batch
        self._running[batch.id] = job, asyncio.create_task(self._run(job))
        return batch

    def get(self, identifier: str) -> Batch:
        """Raises RefusedError."""
        batch = self.batches.get(identifier)
        if batch is None:
            raise RefusedError(refusals.batch_missing(identifier))
        return batch

    def cancel(self, identifier: str) -> Batch:
        """Raises RefusedError."""
        batch = self.get(identifier)
        if batch.has_ended:
            raise RefusedError(refusals.cannot_cancel(batch.status))
        if batch.status != "cancelling":
            _enter(batch, "cancelling")
            self._running[identifier][0].end_as("cancelled")
        return batch

    def job(self, identifier: str) -> Job | None:
        """The job of a batch that has not ended."""
        running = self._running.get(identifier)
        return running[0] if running else None

    def _require_input(self, identifier: object) -> str:
        file = self._files.get(str(identifier))
        if file.purpose != "batch":
            raise RefusedError(refusals.not_an_input(file.id))
        if time.time() < file.processed_at:
            raise RefusedError(refusals.file_not_ready(file.id))
        return file.id

    def _inspect(self, identifier: str) -> Inspected:
        with self._files.open(identifier) as file:
            return inspect(file, self._deployments, self._files.limits.lines)

    def _exceeds_quota(self, deployment: str, tokens: int) -> bool:
        """Whether a deployment's batches that have not ended leave no room for that many tokens."""
        enqueued = sum(
            batch.tokens for batch in self.batches.values() if batch.deployment == deployment and not batch.has_ended
        )
        return enqueued + tokens > self._files.limits.enqueued_tokens

    async def _run(self, job: Job) -> None:
        try:
            await self._live(job)
        finally:
            job.input.close()
            job.output.close()
            job.errors.close()
            del self._running[job.batch.id]

    async def _live(self, job: Job) -> None:
        batch, course = job.batch, job.course
        await job.pause(course.validating)
        errors = [course.fails] if course.fails else job.inspected.errors
        if errors and not job.ends_as:
            batch.errors = tuple(errors)
            _enter(batch, "failed")
            return
        batch.total = len(job.inspected.lines)
        if not job.ends_as:
            _enter(batch, "in_progress")
            began = time.monotonic()
            await self._worker.work_off(job)
            await job.pause(course.working - (time.monotonic() - began))
        if not job.ends_as:
            _enter(batch, "finalizing")
            await job.pause(course.finalizing)
        if job.ends_as == "cancelled":
            if batch.status != "cancelling":
                _enter(batch, "cancelling")
            await asyncio.sleep(course.cancelling)
        if job.ends_as and course.reports_unfinished:
            report_unfinished(job)
        _publish(job, course)
        ends: dict[str | None, Status] = {"cancelled": "cancelled", "expired": "expired"}
        _enter(batch, ends.get(job.ends_as, "completed"))


def _enter(batch: Batch, status: Status) -> None:
    batch.status = status
    batch.times[status] = int(time.time())


def _publish(job: Job, course: Course) -> None:
    """Give the batch its files: an output only where a line succeeded."""
    if job.output.size:
        job.batch.output_file_id = job.output.publish()
    if job.errors.size or course.empty_error_file:
        job.batch.error_file_id = job.errors.publish()
