"""The files and batches of a resource, as tests and benchmarks reach them."""

from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

from localcloud.model.answering import Answering
from localcloud.model.batches.facts import Batch, BatchLimits, BilledLine
from localcloud.model.batches.files import Files
from localcloud.model.batches.jobs import Jobs
from localcloud.model.batches.script import BatchRequest, BatchScript
from localcloud.model.batches.work import LineWorker
from localcloud.model.deployments import Deployment

HISTORY = 100_000
"""Requests remembered; older ones are forgotten."""


class BatchService:
    """Keeps files and batches while it is entered. Those of an earlier run are unknown, as if they had been deleted.

    Attributes:
        script: what batches meet.
        history: the authorized requests.
        files: the files, on disk.
    """

    def __init__(self, deployments: Mapping[str, Deployment], answering: Answering) -> None:
        self.script = BatchScript()
        self.history: deque[BatchRequest] = deque(maxlen=HISTORY)
        self.files = Files()
        self._worker = LineWorker(answering, self.script.lines, lambda: self.limits.lines_at_once)
        self.jobs = Jobs(self.files, deployments, self.script, self._worker)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self.files)
            await stack.enter_async_context(self.jobs)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def limits(self) -> BatchLimits:
        """The service's limits, which may be set to others at any time."""
        return self.files.limits

    @limits.setter
    def limits(self, limits: BatchLimits) -> None:
        self.files.limits = limits

    @property
    def billed(self) -> list[BilledLine]:
        """The lines that were answered, in that order."""
        return self._worker.billed

    @property
    def all(self) -> Mapping[str, Batch]:
        """All batches by id, in the order of their creation."""
        return self.jobs.batches

    def cancel(self, batch_id: str) -> None:
        """Cancel a batch as somebody in the portal would. Raises RefusedError if it has ended."""
        self.jobs.cancel(batch_id)

    def expire(self, batch_id: str) -> None:
        """Let a batch expire, unless it has ended."""
        if job := self.jobs.job(batch_id):
            job.end_as("expired")

    def hurry(self, batch_id: str) -> None:
        """Let a batch wait no longer, whatever its course says."""
        if job := self.jobs.job(batch_id):
            job.nudged.set()
