"""The batch lane's accounts: lines that were paid for again, and what was left of shards, lines and files.

A kill explains nothing here: whatever is killed, the service's files and the claims' logs keep what was paid for. Only
the service can lose it, or a batch that it made and whose creation the app never heard of.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from bench.chaos.batch_faults import is_lost
from bench.chaos.campaign import Campaign
from bench.chaos.explanations import Witness
from bench.chaos.faults import Call, Work
from bench.chaos.ledger import SHARDS, STATE, Ledger, Operation
from bench.chaos.report import Report
from bench.chaos.steps import CLAIMS, LINES
from localcloud.model.batches import Batch, BatchRequest, BilledLine, Course
from pipeline.batches.shard import Shard, State
from pipeline.job.batched import BatchLog

FURTHER = "."
"""In a line's name: behind it is which asking it is, where that is not the first one."""


class LineCause(StrEnum):
    """Why a line that was paid for is asked again."""

    GARBLED = "the service lost its answer"
    SUBMISSION = "the answer to its submission was lost"
    SCHEMA = "its answer did not meet the schema"
    OTHER_LANE = "the default lane lost its answer"


@dataclass(frozen=True, slots=True)
class Payment:
    """One answer that was paid for. `line` is None for one of the default lane."""

    call: Call
    line: BilledLine | None = None


@dataclass(frozen=True, slots=True)
class BatchWitness:
    """What is known of batches.

    Attributes:
        ends: explains what the default lane lost.
        batches: by id.
        lost: those whose creation's answer the app did not get to note.
        courses: by the batch's id.
    """

    ends: Witness
    batches: Mapping[str, Batch]
    lost: Collection[str]
    courses: Mapping[str, Course]

    def repeated(self, payments: Iterable[Payment]) -> tuple[Counter[LineCause], list[str]]:
        """Explain each payment by either lane after which the same question was paid for once more, where a line is
        one of the two; and those that nothing explains.
        """
        by_work: defaultdict[Work, list[Payment]] = defaultdict(list)
        for payment in sorted(payments, key=lambda payment: payment.call.at):
            by_work[payment.call.work].append(payment)
        causes: Counter[LineCause] = Counter()
        unexplained: list[str] = []
        for work, paid in by_work.items():
            excused: set[Operation] = set()
            for payment, later in pairwise(paid):
                if not (payment.line or later.line):
                    continue
                cause = self._why_again(payment, later, excused)
                if cause is None:
                    unexplained.append(
                        f"{work[0]} answered by {_where(payment)}, and paid for again by {_where(later)}"
                    )
                else:
                    causes[cause] += 1
        return causes, unexplained

    def _why_again(self, payment: Payment, later: Payment, excused: set[Operation]) -> LineCause | None:
        line, again = payment.line, later.line
        if line is None:
            is_explained = self.ends.why_again(payment.call, later.call, excused) or payment.call.fate != "answered"
            return LineCause.OTHER_LANE if is_explained else None
        if self.courses[line.batch_id].garbled(line.custom_id):
            return LineCause.GARBLED
        if again and FURTHER not in line.custom_id and again.custom_id == f"{line.custom_id}{FURTHER}2":
            return LineCause.SCHEMA
        if again and self._is_of_lost_submission(line, again):
            return LineCause.SUBMISSION
        return None

    def _is_of_lost_submission(self, line: BilledLine, again: BilledLine) -> bool:
        """Whether two batches answered the line, as the app did not hear of one that it made of the same file."""
        batches = self.batches[line.batch_id], self.batches[again.batch_id]
        same_file = batches[0] is not batches[1] and batches[0].input_file_id == batches[1].input_file_id
        return same_file and any(batch.id in self.lost for batch in batches)


def was_noted(made: BatchRequest, ledger: Ledger) -> bool:
    """Whether the process that had a file or a batch made got to note it: by a write of the shard that it is for."""
    if is_lost(made.fault):
        return False
    at = made.at.timestamp()
    return any(
        done.done and done.at > at and done.worker == made.caller and made.made in done.holds
        for done in ledger.operations
        if done.container == STATE and done.method == "PUT" and done.blob.startswith(SHARDS)
    )


async def reckon_batches(campaign: Campaign, witness: Witness, report: Report) -> None:
    """Add the batch lane's rows and problems, if anything went by it."""
    service = campaign.cloud.model.batches
    making = {done.made: done for done in service.history if done.made}
    unnoted = {name for name, done in making.items() if not was_noted(done, campaign.ledger)}
    shards = await _shards(campaign)
    _reckon_submissions(campaign, unnoted, report)
    _reckon_lines(campaign, BatchWitness(witness, service.all, unnoted, campaign.batches.courses), report)
    killer = campaign.batches.killer
    report.row("workers killed at a step of the batch lane", killer.at.total())
    report.row("… at different steps / steps seen", f"{sum(n > 0 for n in killer.at.values())} / {len(killer.at)}")
    report.row("faults of requests for files and batches", campaign.batches.counts.total())
    _reckon_files(service.file_ids, shards, unnoted, service.all, report)
    await _reckon_state(campaign, shards, report)


def _reckon_submissions(campaign: Campaign, unnoted: Collection[str], report: Report) -> None:
    batches = campaign.cloud.model.batches.all
    ends = Counter(batch.status for batch in batches.values())
    report.row("batches", len(batches))
    for status, count in sorted(ends.items()):
        report.row(f"… {status}", count)
    files = Counter(batch.input_file_id for batch in batches.values() if batch.status != "failed")
    lost = [batch for batch in batches.values() if batch.id in unnoted]
    report.row("submissions whose answer was lost", len(lost))
    report.row("… of a file that was submitted once more", sum(files[batch.input_file_id] > 1 for batch in lost))


def _reckon_lines(campaign: Campaign, witness: BatchWitness, report: Report) -> None:
    billed = campaign.cloud.model.batches.billed
    paid = [line for line in billed if line.status == 200]
    calls = {call.request_id: call for call in campaign.batches.lines.calls}
    payments = [Payment(calls[line.request_id], line) for line in paid]
    payments += [Payment(call) for call in campaign.model.calls if call.fate != "turned away"]
    causes, unexplained = witness.repeated(payments)
    report.row("lines answered or refused", len(billed))
    report.row("… answered and paid for", len(paid))
    report.row("questions answered by batch", len({calls[line.request_id].work for line in paid}))
    report.row("lines asked again as the answer did not meet the schema", causes[LineCause.SCHEMA])
    report.row("lines paid again as the service lost the answer", causes[LineCause.GARBLED])
    report.row("lines paid again as a submission was lost", causes[LineCause.SUBMISSION])
    report.row("lines paid again as the default lane lost the answer", causes[LineCause.OTHER_LANE])
    report.row("lines paid again with no explanation", len(unexplained))
    report.problems += [f"paid twice: {text}" for text in unexplained]


def _reckon_files(
    left: Sequence[str],
    shards: Sequence[Shard],
    unnoted: Collection[str],
    batches: Mapping[str, Batch],
    report: Report,
) -> None:
    """Files at the service: only those that the app never heard of may be there."""
    lost_batches = [batches[name] for name in unnoted if name in batches]
    unheard = {
        *unnoted,
        *(batch.output_file_id for batch in lost_batches),
        *(batch.error_file_id for batch in lost_batches),
    }
    known = {name for shard in shards for name in (shard.file_id, shard.output_file_id, shard.error_file_id)}
    problems = [file for file in left if file in known or file not in unheard]
    report.row("files left at the service, as the app did not hear that they were made", len(left) - len(problems))
    report.row("files left at the service with no explanation", len(problems))
    report.problems += [f"a file left at the service: {file}" for file in problems]


async def _reckon_state(campaign: Campaign, shards: Sequence[Shard], report: Report) -> None:
    ledger = campaign.ledger
    lines = await campaign.listed(STATE, LINES)
    undone = [shard for shard in shards if shard.state is not State.DONE]
    report.row("lines left", len(lines))
    report.row("shards that are not done", len(undone))
    report.problems += [f"a line left: {line.name}: {line.metadata}" for line in lines]
    report.problems += [f"a shard that is not done: {shard.id} ({shard.state}): {shard.problem}" for shard in undone]
    never_written = 0
    for claim in await campaign.listed(STATE, CLAIMS):
        log = BatchLog.kept_in(await campaign.read(STATE, claim.name))
        if log is None or not log.waiting:
            continue
        if any(done.done and done.method == "PUT" for line in log.waiting for done in ledger.on(STATE, LINES + line)):
            report.problems.append(f"a claim that waits for lines: {log.request.name}: {log.waiting}")
        else:
            never_written += 1
    report.row("logs of what was deleted or changed before its line was written", never_written)


async def _shards(campaign: Campaign) -> list[Shard]:
    bodies = [await campaign.read(STATE, blob.name) for blob in await campaign.listed(STATE, SHARDS)]
    return [shard for body in bodies if (shard := Shard.from_json(body))]


def _where(payment: Payment) -> str:
    if payment.line is None:
        return f"the default lane at {payment.call.at:.1f}"
    return f"the line {payment.line.custom_id} of {payment.line.batch_id} at {payment.call.at:.1f}"
