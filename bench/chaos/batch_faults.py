"""Faults of the batch lane by seed: of files and batches, of what becomes of a batch, and of its lines."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from bench.chaos.faults import Call, Work, call_of, fate, rng_of
from bench.chaos.plan import COUNTED, FILTERED, REFUSED, Names
from bench.chaos.steps import StepKiller
from localcloud.cloud import DEPLOYMENT
from localcloud.model import (
    SERVER_ERROR,
    UNAVAILABLE,
    Answer,
    Asked,
    Behaviour,
    Dropped,
    Failure,
    Garbled,
    Hang,
    PromptFiltered,
    Refusal,
    Slow,
    Throttled,
)
from localcloud.model.batches import (
    BATCH_ROLE_MISSING,
    ODD,
    TOKEN_LIMIT,
    TOKEN_LIMIT_AT_ONCE,
    Batch,
    BatchRequest,
    BatchScript,
    Course,
    Cut,
    Looks,
)
from localcloud.model.batches.script import Fault, Operation

ANY_REQUEST: tuple[tuple[Fault, int], ...] = (
    (UNAVAILABLE, 10),
    (SERVER_ERROR, 5),
    (Throttled(retry_after=1), 10),
    (BATCH_ROLE_MISSING, 5),
    (Cut(), 10),
    (Dropped(), 10),
    (Garbled(), 5),
)
"""Faults in a thousand requests about files and batches."""
MAKING: dict[Operation, tuple[tuple[Fault, int], ...]] = {
    "create_batch": ((Dropped(), 100), (TOKEN_LIMIT_AT_ONCE, 60), (Hang(), 5)),
    "upload_file": ((Dropped(), 70), (Slow(0.5), 200)),
}
"""Further faults of these."""
LINES: tuple[tuple[Behaviour, int], ...] = (
    (SERVER_ERROR, 15),
    (UNAVAILABLE, 15),
    (Throttled(), 15),
)
"""Faults of a thousand lines: no answer, and nothing to pay."""
ODD_PART = 0.3
"""Of all answers about batches are spelled in the service's other way."""
FAULTY_LINES = 2
"""Askings of one question that may meet a fault of their own."""


@dataclass(slots=True)
class LineFaults:
    """The policy of lines.

    Attributes:
        calls: the lines as calls of the model.
    """

    seed: int
    names: Names
    calls: list[Call] = field(default_factory=list)
    active: bool = True
    _asked: Counter[Work] = field(default_factory=Counter)
    _answered: Counter[Work] = field(default_factory=Counter)

    def __call__(self, asked: Asked) -> Behaviour:
        work = (asked.instructions, asked.pictures[0].sha256)
        self._asked[work] += 1
        behaviour = self._behaviour(work)
        image = self.names.of(*work)
        by_the_other_lane = replace(asked, deployment=DEPLOYMENT)  # the question is the same
        self.calls.append(call_of(by_the_other_lane, image, self.names.digests(image), fate(behaviour)))
        return behaviour

    def _behaviour(self, work: Work) -> Behaviour:
        rng = rng_of(self.seed, "line", *work, self._asked[work])
        faults, weights = zip(*LINES, strict=True)
        if self.active and self._asked[work] <= FAULTY_LINES and rng.random() < sum(weights) / 1000:
            fault: Behaviour = rng.choices(faults, weights)[0]
            return fault
        self._answered[work] += 1
        if work[0].startswith(FILTERED):
            return PromptFiltered()
        if work[0].startswith(REFUSED):
            return Refusal()
        if work[0].startswith(COUNTED):
            return Answer('{"n": "some"}' if self._answered[work] == 1 else '{"n": 1}')
        return Answer()


@dataclass(slots=True)
class BatchFaults:
    """The policies of files and batches.

    Attributes:
        killer: kills the process that makes a request.
        courses: what became of each batch, by id.
        counts: the faults of requests, by operation.
    """

    seed: int
    killer: StepKiller
    lines: LineFaults
    courses: dict[str, Course] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    active: bool = True
    _requests: Counter[str] = field(default_factory=Counter)
    _script: BatchScript = field(default_factory=BatchScript)

    def decide(self, script: BatchScript) -> None:
        """Decide from now on what the script's operations, batches and lines meet."""
        self._script = script
        script.lines.policy, script.fault, script.course = self.lines, self._fault, self._course

    def stop(self) -> None:
        """No further faults."""
        self.active = self.lines.active = False

    def _fault(self, request: BatchRequest) -> Fault | None:
        number = self._requests.total()
        self._script.looks = ODD if rng_of(self.seed, "looks", number).random() < ODD_PART else Looks()
        self._requests[request.operation] += 1
        if not self.active:
            return None
        if request.operation == "create_batch" and self._requests["create_batch"] == 1:
            return Dropped()  # so that the shortest campaign has a lost submission
        match self.killer.struck(request.caller, f"{request.operation} of the service"):
            case "before":
                return Cut()
            case "after":
                return Dropped()
        rng = rng_of(self.seed, request.operation, self._requests[request.operation])
        faults, weights = zip(*ANY_REQUEST, *MAKING.get(request.operation, ()), strict=True)
        if rng.random() >= sum(weights) / 1000:
            return None
        fault: Fault = rng.choices(faults, weights)[0]
        self.counts[request.operation] += not isinstance(fault, Slow)
        return fault

    def _course(self, batch: Batch) -> Course:
        rng = rng_of(self.seed, "course", len(self.courses))
        course = Course(validating=rng.uniform(0.05, 0.5), working=rng.uniform(0, 3), finalizing=rng.uniform(0.05, 0.4))
        some = _some(rng.random(), rng.uniform(0.05, 0.4))
        if self.active:
            reports = rng.random() < 0.5
            kinds: dict[str, tuple[int, Callable[[], Course]]] = {
                "well": (40, lambda: course),
                "missing": (15, lambda: replace(course, missing=some)),
                "garbled": (10, lambda: replace(course, garbled=some)),
                "expires": (
                    15,
                    lambda: replace(course, expires_after=rng.randrange(40), reports_unfinished=reports),
                ),
                "cancelled": (
                    8,
                    lambda: replace(course, cancelled_after=rng.randrange(40), reports_unfinished=reports),
                ),
                "no quota": (12, lambda: replace(course, fails=TOKEN_LIMIT)),
            }
            once = list(kinds)[: len(self.courses) + 1]  # each in turn, so that the shortest campaign has them all
            weights = [weight for weight, _ in kinds.values()]
            chosen = once[-1] if len(once) < len(kinds) else rng.choices(list(kinds), weights)[0]
            course = kinds[chosen][1]()
        self.courses[batch.id] = course
        return course


def is_lost(fault: Fault | None) -> bool:
    """Whether the request was done, and its answer lost."""
    return isinstance(fault, Dropped | Garbled | Hang)


def is_refused(fault: Fault | None) -> bool:
    """Whether the request was not done."""
    return isinstance(fault, Failure | Throttled | Cut)


def _some(salt: float, part: float) -> Callable[[str], bool]:
    """Chooses this part of the lines by their names."""

    def chosen(name: str) -> bool:
        return sha256(f"{salt}/{name}".encode()).digest()[0] < part * 256

    return chosen
