"""The reckoning: what is there, held against what was sent; every deviation explained, or a problem."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import jsonschema_rs
from azure.core.exceptions import ResourceNotFoundError

from bench.chaos.campaign import CLAIM_SECONDS, ROOT, Campaign, Sent
from bench.chaos.faults import Call, Kill, Outage
from bench.chaos.plan import Kind
from pipeline.names import result_name

SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
CERTAIN_SECONDS = 1.0
"""A result may be made until this long after its image was deleted: between the last look at the image and the
result's making lies one answer of the storage on a busy machine."""
WRITTEN_SECONDS = 2.5
"""From the question to the written result, on a busy machine and with the slowest answer: of a worker killed later the
answer was not lost."""
MARKING_SECONDS = 2.0
"""A mark is written right before its message is sent. Blobs' times have whole seconds."""
CLAIM_LOST = "lost, though the work goes on"
"""What pipeline.claims says then."""
READ_AT_ONCE = 16


@dataclass(slots=True)
class Report:
    """Rows to show, and all that is wrong."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def row(self, what: str, count: float | str) -> None:
        self.rows.append((what, f"{count:,}" if isinstance(count, int) else str(count)))


@dataclass(frozen=True, slots=True)
class Repeated:
    """Calls that were answered though the same work had been answered before."""

    by_kill: int
    by_outage: int
    unexplained: list[str]


async def reckon(campaign: Campaign, seconds: float) -> Report:
    """Read everything that is there, once nothing moves any more."""
    report = Report()
    images = {blob.name: blob.etag for blob in await campaign.listed("images")}
    stored = {blob.name for blob in await campaign.listed("results")}
    results = await _read(campaign, stored)
    validator = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)
    there = [sent for sent in campaign.sent if sent.item.name in images]
    gone = [sent for sent in campaign.sent if sent.item.name not in images]

    report.row("images uploaded", len(campaign.sent))
    report.row("… versions, overwriting and repeated tries included", sum(sent.versions for sent in campaign.sent))
    report.row("… deleted", len(gone))
    right = 0
    for sent in there:
        problem = _problem(sent, images[sent.item.name], results.get(result_name(sent.item.name)), validator)
        right += problem is None
        if problem:
            report.problems.append(f"{sent.item.name} ({sent.item.kind}): {problem}")
    report.row("uploads with their one current, valid result", f"{right:,} of {len(there):,}")
    failed = Counter(result["error"]["code"] for result in results.values() if result["status"] == "failed")
    for code, count in sorted(failed.items()):
        report.row(f"… failed, as the file is bad: {code}", count)

    own = {result_name(sent.item.name) for sent in campaign.sent}
    report.problems += [f"{name}: a result of nothing that was sent" for name in stored - own]
    late = [sent for sent in gone if _made_after_deletion(sent, results.get(result_name(sent.item.name)))]
    report.row(
        "results of deleted images, made before", sum(result_name(s.item.name) in stored for s in gone) - len(late)
    )
    report.problems += [f"{sent.item.name}: deleted, and got a result afterwards" for sent in late]

    _reckon_calls(campaign, results.values(), report)
    current = [results[name] for sent in there if (name := result_name(sent.item.name)) in results]
    await _reckon_leftovers(campaign, {result["work_key"] for result in current}, report)

    counts, disturbances = campaign.events.counts, campaign.disturbances
    report.row("events lost / doubled / delayed", f"{counts['lost']} / {counts['doubled']} / {counts['delayed']}")
    report.row("queued by reconcile", campaign.reconciled)
    report.row("messages that a restart hid for ten minutes, brought forward", campaign.brought_forward)
    report.row("workers killed / emulator restarts", f"{len(disturbances.kills)} / {len(disturbances.outages)}")
    report.row("spells in which the model failed for all", disturbances.spells)
    report.row("seconds, all / with faults", f"{seconds:.0f} / {seconds - (campaign.settled_for):.0f}")
    report.row("images a second, all / with faults", _rates(campaign, seconds))
    return report


def repeated(calls: Sequence[Call], kills: Sequence[Kill], outages: Sequence[Outage]) -> Repeated:
    """Why work that was answered was asked for again.

    A kill soon after an answered call, before its result can have been written, explains that it was asked for again;
    each kill so many as ran in that worker.
    """
    by_work: defaultdict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.fate == "answered":
            by_work[call.work].append(call)
    room = [kill.running for kill in kills]
    by_kill = by_outage = 0
    unexplained: list[str] = []
    for work, answered in by_work.items():
        answered.sort(key=lambda call: call.at)
        for first, second in pairwise(answered):
            written = first.at + WRITTEN_SECONDS
            during = [outage for outage in outages if outage.began <= written and first.at <= outage.ended]
            latest = min(second.at, max([written, *(outage.ended + WRITTEN_SECONDS for outage in during)]))
            fatal = next((n for n, kill in enumerate(kills) if room[n] and first.at <= kill.at <= latest), None)
            if fatal is not None:
                room[fatal] -= 1
                by_kill += 1
            elif during:
                by_outage += 1
            else:
                unexplained.append(f"{work[0]} answered again after {second.at - first.at:.1f} s, at {second.at:.1f}")
    return Repeated(by_kill, by_outage, unexplained)


def _reckon_calls(campaign: Campaign, results: Iterable[dict[str, Any]], report: Report) -> None:
    calls, disturbances = campaign.model.calls, campaign.disturbances
    fates = Counter(call.fate for call in calls)
    again = repeated(calls, disturbances.kills, disturbances.outages)
    report.row("model calls", len(calls))
    report.row("… turned away (429, 5xx, 401, 404): free", fates["turned away"])
    report.row("… answer lost on the wire", fates["lost on the wire"])
    report.row("… answered", fates["answered"])
    report.row("works answered", len({call.work for call in calls if call.fate == "answered"}))
    running = sum(kill.running for kill in disturbances.kills)
    report.row("answered again as a kill lost the answer", f"{again.by_kill:,} ({running:,} were running)")
    report.row("answered again as storage was away", again.by_outage)
    report.row("answered again with no explanation", len(again.unexplained))
    report.row("claims that a living worker lost", campaign.log.read_text(encoding="utf-8").count(CLAIM_LOST))
    report.problems += [f"paid twice: {text}" for text in again.unexplained]
    given = {call.request_id for call in calls if call.fate == "answered"}
    for result in results:
        if result["answer"] and result["model"]["request_id"] not in given:
            report.problems.append(f"{result['source']['name']}: an answer that the model never gave")


def is_cut_off(modified: float, kills: Sequence[Kill], outages: Sequence[Outage]) -> bool:
    """Whether a kill or an outage explains a claim, last written at `modified`, on work whose result is there.

    Who is killed, or loses the storage, between writing the result and letting go of the claim leaves it. A claim in
    use is renewed at a third of its lifetime, so its last writing is at most that old then.
    """
    oldest = CLAIM_SECONDS / 3 + 2  # a second for the blob's time, which has whole ones, and one for a busy machine
    by_kill = any(0 <= kill.at - modified <= oldest for kill in kills)
    return by_kill or any(outage.began - oldest <= modified <= outage.ended for outage in outages)


async def _reckon_leftovers(campaign: Campaign, current: set[str], report: Report) -> None:
    """Messages, claims and marks. `current`: keys of the work on images that are there, which is done."""
    for queue, count in (await campaign.queued()).items():
        name = re.sub(r"(?<=blobtrigger-)(?!poison).*", "<host id>", queue)
        report.row(f"messages left: {name}", count)
        if count:
            report.problems.append(f"{count} messages left in {queue}")
    claims = await campaign.listed("pipeline-state", "claims/")
    done = [claim for claim in claims if claim.name.removeprefix("claims/") in current]
    kills = campaign.disturbances.kills
    running = sum(kill.running for kill in kills)
    disturbances = campaign.disturbances
    cut_off = [claim for claim in done if is_cut_off(claim.modified, disturbances.kills, disturbances.outages)]
    report.row("claims left on work that is done, by a kill or an outage in its last moment", len(cut_off))
    report.row("claims left on work that is done, unexplained", len(done) - len(cut_off))
    report.row("claims left by killed workers on versions that nobody wants any more", len(claims) - len(done))
    report.problems += [f"a claim left though the work is done: {claim}" for claim in done if claim not in cut_off]
    if len(claims) - len(done) > running:
        report.problems.append(f"{len(claims) - len(done)} claims left, more than work was killed")
    marks = await campaign.listed("pipeline-state", "waiting/")
    killed = [mark for mark in marks if any(0 <= kill.at - mark.modified < MARKING_SECONDS for kill in kills)]
    report.row("waiting marks left by workers killed before they sent the message", len(killed))
    report.row("waiting marks left with no explanation", len(marks) - len(killed))
    report.problems += [f"marked as waiting, though nothing waits: {mark}" for mark in marks if mark not in killed]


def _problem(sent: Sent, etag: str, result: dict[str, Any] | None, validator: Any) -> str | None:
    """What is wrong with the result of an upload that is there."""
    if result is None:
        return "no result"
    if (error := next(validator.iter_errors(result), None)) is not None:
        return f"its result does not meet the schema: {error.message}"
    if result["source"]["etag"] != etag:
        return "its result is of an older version"
    code = result["error"]["code"] if result["error"] else None
    if code != sent.item.code:
        return f"its result is {code or 'a success'}, not {sent.item.code or 'a success'}: {result['error']}"
    asked = result["instructions"]["text"]
    if sent.item.kind is not Kind.BAD_INSTRUCTIONS and asked != sent.question:
        return f"its result answers {asked!r} and not {sent.question!r}"
    return None


def _made_after_deletion(sent: Sent, result: dict[str, Any] | None) -> bool:
    if sent.deleted_at is None or result is None:
        return False
    return datetime.fromisoformat(result["created_at"]).timestamp() > sent.deleted_at + CERTAIN_SECONDS


async def _read(campaign: Campaign, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    places = asyncio.Semaphore(READ_AT_ONCE)

    async def read(name: str) -> tuple[str, dict[str, Any] | None]:
        async with places:
            try:
                stream = await campaign.blobs.get_blob_client("results", name).download_blob()
                return name, json.loads(await stream.readall())
            except ResourceNotFoundError:
                return name, None

    return {name: result for name, result in await asyncio.gather(*map(read, names)) if result is not None}


def _rates(campaign: Campaign, seconds: float) -> str:
    images = len(campaign.sent)
    return f"{images / seconds:.1f} / {images / max(seconds - campaign.settled_for, 1):.1f}"
