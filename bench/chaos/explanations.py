"""Explain work that was paid for twice, and claims and marks that were left, by the process that was cut off.

A fault at the same time alone explains nothing. A kill explains the calls of the process that was
killed, and only those whose answer that process had neither stored nor given up. An outage of the emulator explains a
second call only if it kept the claim on that very work from being renewed, and the process that made the call took the
claim over.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from bench.chaos.faults import Call, Work
from bench.chaos.ledger import DEFERRED, IMAGES, MESSAGES, RESULTS, STATE, Ledger, Operation
from bench.chaos.steps import Kill
from localcloud.functions_host.process import HostEnd
from pipeline.names import result_name

LATE_RENEWAL = 3
"""Lifetimes of a claim for which a busy machine may keep a process from renewing it."""


class Cause(StrEnum):
    KILL = "a kill"
    OUTAGE = "an outage of storage"
    LATE = "an answer that came after its caller's time"
    NOT_WANTED = "its image was deleted or overwritten"
    ASIDE = "it was kept by a run that lost the race for its result then"


@dataclass(frozen=True, slots=True)
class Repeated:
    """Paid calls after which the same work was paid for once more, though the wire did not lose their answers."""

    causes: Counter[Cause]
    unexplained: list[str]


@dataclass(frozen=True, slots=True)
class Witness:
    """All that is known of a campaign.

    Attributes:
        kills: by worker.
        unheard: seconds that answers took whose caller was gone, by request id.
        patience: seconds for which the app waits for an answer.
        claim_seconds: the lifetime of a claim, which is renewed at a third of it.
    """

    ledger: Ledger
    kills: Mapping[str, Kill]
    unheard: Mapping[str, float]
    patience: float
    claim_seconds: float

    def repeated(self, calls: Sequence[Call]) -> Repeated:
        """Explain each paid call but the last of each work."""
        by_work: defaultdict[Work, list[Call]] = defaultdict(list)
        for call in sorted(calls, key=lambda call: call.at):
            if call.fate != "turned away":
                by_work[call.work].append(call)
        causes: Counter[Cause] = Counter()
        unexplained: list[str] = []
        for work, paid in by_work.items():
            excused: set[Operation] = set()
            for call, later in pairwise(paid):
                if call.fate == "lost on the wire":
                    continue
                cause = self.why_again(call, later, excused)
                if cause is None:
                    unexplained.append(
                        f"{work[0]} answered for worker {call.worker}, and paid for again {later.at - call.at:.1f} s"
                        f" later by worker {later.worker}"
                    )
                else:
                    causes[cause] += 1
        return Repeated(causes, unexplained)

    def why_again(self, call: Call, later: Call, excused: set[Operation]) -> Cause | None:
        """Explain why `later` paid for the work of `call` again.

        `excused`: takings over that explain an earlier payment for this work, and no other.
        """
        workers = {call.worker, later.worker}
        for claim in call.claims:
            for loser, taking in _taken_over(self.ledger.on(STATE, claim)):
                if taking not in excused and taking.at < later.at and {loser, taking.worker} == workers:
                    excused.add(taking)
                    return Cause.OUTAGE
        stored = self.ledger.stored_at(call.request_id)
        if stored is not None and stored < later.at:
            return None
        if self._was_killed_at_it(call, later):
            return Cause.KILL
        if self.unheard.get(call.request_id, 0.0) > self.patience / 2:
            return Cause.LATE
        return None

    def _was_killed_at_it(self, call: Call, later: Call) -> bool:
        """Whether its process was killed before it released the work."""
        kill = self.kills.get(call.worker or "")
        if kill is None or kill.at > later.at:
            return False
        return not any(
            done.releases and done.worker == call.worker and call.at < done.at
            for claim in call.claims
            for done in self.ledger.on(STATE, claim)
        )

    def why_claim_is_left(self, blob: str, used: Collection[str]) -> Cause | None:
        """A claim is renewed while held, and deleted in the end; one that keeps an answer is left to the next run.

        `used`: the ids of the answers that are in results.
        """
        holder, letting_go = self._last_written(blob)
        if holder is None:
            return None
        if holder.releases:
            kept = {answer for done in self.ledger.on(STATE, blob) if done.done for answer in done.holds}
            if not kept.intersection(used):
                return Cause.NOT_WANTED
            # Kept by a run that never held the claim, before it replaced the result: another run was quicker then.
            return Cause.ASIDE if holder.holds else None
        if holder.status is None or (letting_go is not None and letting_go.status is None):
            return Cause.OUTAGE
        kill = self.kills.get(holder.worker or "")
        if kill is not None and letting_go is None and kill.at - holder.at <= LATE_RENEWAL * self.claim_seconds:
            return Cause.KILL
        return None

    def why_mark_is_left(self, blob: str) -> Cause | None:
        """Explain a mark that was left. It is written right before its message is sent, and deleted by the handler."""
        writer, letting_go = self._last_written(blob)
        if letting_go is not None and letting_go.status is None:
            return Cause.OUTAGE
        if writer is None or letting_go is not None or (writer.worker or "") not in self.kills:
            return None
        sent = any(
            blob == f"waiting/{hashlib.sha256(upload.encode()).hexdigest()}"
            for done in self.ledger.on(DEFERRED, MESSAGES)
            if done.method == "POST" and done.done and done.worker == writer.worker and done.at > writer.at
            for upload in done.holds
        )
        return None if sent else Cause.KILL

    def _last_written(self, blob: str) -> tuple[Operation | None, Operation | None]:
        """Of a blob of the app's state: the last writing that may have been done, and who deleted it since."""
        writing: Operation | None = None
        deleting: Operation | None = None
        for done in self.ledger.on(STATE, blob):
            if done.method == "PUT" and (done.done or done.status is None):
                writing, deleting = done, None
            elif done.method == "DELETE":
                deleting = done
        return writing, deleting

    def looked_before_writing(self, image: str) -> bool:
        """Whether no result of `image` was written by a process that had just found the image gone."""
        there: dict[str | None, bool] = {}
        seen = [*self.ledger.on(IMAGES, image), *self.ledger.on(RESULTS, result_name(image))]
        for done in sorted(seen, key=lambda done: done.at):
            if done.container == IMAGES and done.method == "HEAD":
                there[done.worker] = done.status != 404
            elif done.method == "PUT" and done.done and not there.get(done.worker, True):
                return False
        return True


def deaths(kills: Iterable[Kill], hosts: Iterable[HostEnd], ledger: Ledger) -> dict[str, Kill]:
    """By worker: how it was killed, alone or with its whole host, whose end no worker that was seen before survives."""
    first_seen: dict[str, float] = {}
    for done in ledger.operations:
        if done.worker is not None:
            first_seen.setdefault(done.worker, done.at)
    killed = {kill.worker: kill for kill in kills}
    for host in sorted(hosts, key=lambda host: host.at):
        for worker, seen in first_seen.items():
            if seen < host.at:
                killed.setdefault(worker, Kill(host.at, worker, running=0))
    return killed


def _taken_over(on_claim: Iterable[Operation]) -> Iterator[tuple[str | None, Operation]]:
    """Each taking over of a claim that an outage kept its holder from renewing, and the process that lost it."""
    holder: Operation | None = None
    cut_off = False
    for done in on_claim:
        if done.releases:
            holder = None if done.done else holder
        elif done.method == "PUT" and done.status is None:
            if holder is None or done.owner == holder.owner:
                holder, cut_off = done, True
        elif done.method == "PUT" and done.done:
            if holder is not None and cut_off and done.owner != holder.owner:
                yield holder.worker, done
            holder, cut_off = done, False
