"""What batches meet, as a test chooses: each operation, each batch and each line.

    script = model.batches.script
    script.add("create_batch", Dropped())            # the batch is made, but the answer is lost
    script.add("get_batch", UNAVAILABLE, Throttled())
    script.plan(Course(fails=TOKEN_LIMIT))           # the next batch fails while it is validated
    script.plan(Course(expires_after=3), Course(missing=lambda custom_id: custom_id == "b"))
    script.lines.add(PromptFiltered())               # what the next line meets, of whichever batch
    script.looks = ODD                               # how batches are shown

Queues are served first, then policies decide. Without either all goes well, within a second.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from localcloud.model.batches.facts import Batch, BatchError, BatchLimits, Looks
from localcloud.model.batches.refusals import token_limit_exceeded, token_limit_message
from localcloud.model.errors import role_missing
from localcloud.model.script import Dropped, Failure, Garbled, Hang, Script, Slow, Throttled, Verbatim

type Operation = Literal[
    "upload_file", "list_files", "get_file", "read_file", "delete_file",
    "create_batch", "list_batches", "get_batch", "cancel_batch",
]  # fmt: skip

type Fault = Failure | Throttled | Verbatim | Dropped | Garbled | Hang | Slow
"""What an operation meets. Failure, Throttled and Verbatim come instead of it: nothing is done. Dropped, Garbled and
Hang come after it: it is done, and its answer lost. Slow waits first, unless it is Slow(seconds), which only waits."""

_LIMIT = BatchLimits().enqueued_tokens
TOKEN_LIMIT = BatchError("token_limit_exceeded", token_limit_message(_LIMIT))
"""Why a batch fails late, in the regions that do not refuse it at once."""
TOKEN_LIMIT_AT_ONCE = Failure(token_limit_exceeded(_LIMIT))
BATCH_ROLE_MISSING = Failure(role_missing("batch-jobs/write", "POST /openai/v1/batches"))


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One authorized request for files or batches, as `history` keeps it. target: the id of its file or batch."""

    at: datetime
    operation: Operation
    target: str | None
    caller: str | None


def _none(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a batch.

    Attributes:
        validating: seconds in this status; likewise `finalizing` and `cancelling`.
        working: seconds that it is in progress at least.
        fails: why it fails when it has been validated.
        expires_after: lines after which it expires.
        cancelled_after: lines after which it is cancelled, as by somebody in the portal.
        missing: by custom_id, lines that are never answered, and are in neither file.
        garbled: by custom_id, lines that are answered and paid for, and written as half a JSON document.
        reports_unfinished: whether lines that a batch did not get to are in the error file.
        empty_error_file: whether a batch without failed lines has an error file, of no bytes.
    """

    validating: float = 0.2
    working: float = 0.0
    finalizing: float = 0.1
    cancelling: float = 0.2
    fails: BatchError | None = None
    expires_after: int | None = None
    cancelled_after: int | None = None
    missing: Callable[[str], bool] = _none
    garbled: Callable[[str], bool] = _none
    reports_unfinished: bool = False
    empty_error_file: bool = True


@dataclass(slots=True)
class BatchScript:
    """The queues and the policies after them. All may be changed while the model runs.

    Attributes:
        lines: what lines meet, apart from chat completions. A line that hangs ends with its batch.
        courses: what batches meet, in the order of their creation; then `course` decides.
        faults: what operations meet; then `fault` decides.
        looks: how batches are shown.
        pending: seconds that an uploaded file is pending.
    """

    lines: Script = field(default_factory=Script)
    courses: deque[Course] = field(default_factory=deque)
    course: Callable[[Batch], Course] = lambda _: Course()
    faults: dict[Operation, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    fault: Callable[[BatchRequest], Fault | None] = lambda _: None
    looks: Looks = field(default_factory=Looks)
    pending: float = 0.0

    def add(self, operation: Operation, *faults: Fault) -> None:
        self.faults[operation].extend(faults)

    def plan(self, *courses: Course) -> None:
        self.courses.extend(courses)

    def next_fault(self, request: BatchRequest) -> Fault | None:
        queue = self.faults[request.operation]
        return queue.popleft() if queue else self.fault(request)

    def next_course(self, batch: Batch) -> Course:
        return self.courses.popleft() if self.courses else self.course(batch)

    def reset(self) -> None:
        fresh = BatchScript()
        self.lines.reset()
        self.courses.clear()
        self.faults.clear()
        self.course, self.fault, self.looks, self.pending = fresh.course, fresh.fault, fresh.looks, fresh.pending
