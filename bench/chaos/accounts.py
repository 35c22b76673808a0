"""Compare what is there with what was sent. Every deviation is explained, or is a problem."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonschema_rs
from azure.core.exceptions import ResourceNotFoundError

from bench.chaos.batch_accounts import reckon_batches
from bench.chaos.campaign import CLAIM_SECONDS, MODEL_TIMEOUT_SECONDS, ROOT, Campaign
from bench.chaos.explanations import Cause, Witness, deaths
from bench.chaos.faults import Call
from bench.chaos.ledger import IMAGES, RESULTS
from bench.chaos.people import Sent
from bench.chaos.plan import PAGES, Item, Kind
from bench.chaos.report import Report
from pipeline.job.work import work_key
from pipeline.names import result_name

SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
CLAIM_LOST = "lost, though the work goes on"
"""The log message of pipeline.storage.claims for it."""
READ_AT_ONCE = 16


async def reckon(campaign: Campaign, seconds: float) -> Report:
    """Read everything that is there, once nothing moves any more."""
    report = Report()
    witness = Witness(
        ledger=campaign.ledger,
        kills=deaths(campaign.disturbances.kills, campaign.cloud.functions.ends, campaign.ledger),
        unheard=campaign.cloud.model.unheard,
        patience=MODEL_TIMEOUT_SECONDS,
        claim_seconds=CLAIM_SECONDS,
    )
    images = {blob.name: blob.etag for blob in await campaign.listed("images")}
    stored = {blob.name for blob in await campaign.listed("results")}
    results = await _read(campaign, stored)
    there = [sent for sent in campaign.sent if sent.item.name in images]
    gone = [sent for sent in campaign.sent if sent.item.name not in images]

    report.row("images uploaded", len(campaign.sent))
    report.row("… versions, overwriting and repeated tries included", sum(sent.versions for sent in campaign.sent))
    report.row("… deleted", len(gone))
    _reckon_results(campaign, there, images, results, report)
    own = {result_name(sent.item.name) for sent in campaign.sent}
    report.problems += [f"{name}: a result of nothing that was sent" for name in stored - own]
    late = [sent for sent in gone if not witness.looked_before_writing(sent.item.name)]
    report.row("results of deleted images, made before", sum(result_name(sent.item.name) in stored for sent in gone))
    report.problems += [f"{sent.item.name}: deleted, and got a result afterwards" for sent in late]
    _reckon_calls(campaign, witness, results.values(), report)
    if campaign.batches.lines.calls:
        await reckon_batches(campaign, witness, report)
    used = {answer for result in results.values() for answer in _answers(result)}
    await _reckon_leftovers(campaign, witness, used, report)
    _tell_faults(campaign, report)
    report.row("seconds, all / with faults", f"{seconds:.0f} / {seconds - campaign.settled_for:.0f}")
    report.row("images a second, all / with faults", _rates(campaign, seconds))
    return report


def _reckon_results(
    campaign: Campaign, there: Sequence[Sent], etags: Mapping[str, str], results: Mapping[str, Any], report: Report
) -> None:
    validator = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)
    asked = {call.request_id: call for call in (*campaign.model.calls, *campaign.batches.lines.calls)}
    right = reused = 0
    for sent in there:
        name = sent.item.name
        result = results.get(result_name(name))
        problem = _problem(sent, etags[name], result, asked, validator)
        right += problem is None
        reused += bool(result and result["answer"] and result["answer"].get("reused_from"))
        if problem:
            report.problems.append(f"{name} ({sent.item.kind}): {problem}")
    report.row("uploads with their one current, valid result", f"{right:,} of {len(there):,}")
    report.row("… with an answer that was given for the same bytes before", reused)
    failed = Counter(result["error"]["code"] for result in results.values() if result["status"] == "failed")
    for code, count in sorted(failed.items()):
        report.row(f"… failed, as the file is bad: {code}", count)


def _reckon_calls(campaign: Campaign, witness: Witness, results: Iterable[dict[str, Any]], report: Report) -> None:
    calls = campaign.model.calls
    fates = Counter(call.fate for call in calls)
    again = witness.repeated(calls)
    report.row("model calls", len(calls))
    report.row("… turned away (429, 5xx, 401, 404): free", fates["turned away"])
    report.row("… answer lost on the wire", fates["lost on the wire"])
    report.row("… answered", fates["answered"])
    report.row("works answered", len({call.work for call in calls if call.fate == "answered"}))
    running = sum(kill.running for kill in campaign.disturbances.kills)
    report.row("paid again as a kill lost the answer", f"{again.causes[Cause.KILL]:,} ({running:,} were running)")
    report.row("paid again as storage was away", again.causes[Cause.OUTAGE])
    report.row("paid again as the answer came too late", again.causes[Cause.LATE])
    report.row("paid again with no explanation", len(again.unexplained))
    report.row("claims that a living worker lost", campaign.log.read_text(encoding="utf-8").count(CLAIM_LOST))
    report.problems += [f"paid twice: {text}" for text in again.unexplained]
    report.problems += [f"asked by no worker: {call.question}" for call in calls if call.worker is None]
    given = {call.request_id for call in (*calls, *campaign.batches.lines.calls) if call.fate == "answered"}
    for result in results:
        if result["answer"] and not given.issuperset(_answers(result)):
            report.problems.append(f"{result['source']['name']}: an answer that the model never gave")


async def _reckon_leftovers(campaign: Campaign, witness: Witness, used: set[str], report: Report) -> None:
    """Messages, claims and marks. `used`: the ids of the answers that are in results."""
    for queue, count in (await campaign.queued()).items():
        name = re.sub(r"(?<=blobtrigger-)(?!poison).*", "<host id>", queue)
        report.row(f"messages left: {name}", count)
        if count:
            report.problems.append(f"{count} messages left in {queue}")
    claims = [claim.name for claim in await campaign.listed("pipeline-state", "claims/")]
    causes = {claim: witness.why_claim_is_left(claim, used) for claim in claims}
    counts = Counter(causes.values())
    unexplained = [claim for claim, cause in causes.items() if cause is None]
    report.row("answers kept for images that were deleted or overwritten", counts[Cause.NOT_WANTED])
    report.row("answers kept before a race was lost", counts[Cause.ASIDE])
    report.row("claims left by a kill", counts[Cause.KILL])
    report.row("claims left by an outage", counts[Cause.OUTAGE])
    report.row("claims left with no explanation", len(unexplained))
    report.problems += [f"a claim left with no explanation: {claim}" for claim in unexplained]
    marks = [mark.name for mark in await campaign.listed("pipeline-state", "waiting/")]
    unexplained = [mark for mark in marks if witness.why_mark_is_left(mark) is None]
    report.row("waiting marks left by a kill or an outage", len(marks) - len(unexplained))
    report.row("waiting marks left with no explanation", len(unexplained))
    report.problems += [f"marked as waiting, though nothing waits: {mark}" for mark in unexplained]


def _tell_faults(campaign: Campaign, report: Report) -> None:
    counts, disturbances = campaign.events.counts, campaign.disturbances
    report.row("events lost / doubled / delayed", f"{counts['lost']} / {counts['doubled']} / {counts['delayed']}")
    report.row("queued by reconcile", campaign.reconciled)
    kills, ends = len(disturbances.kills), len(campaign.cloud.functions.ends)
    report.row(
        "workers killed / whole hosts stopped / emulator restarts", f"{kills} / {ends} / {disturbances.restarts}"
    )
    report.row("spells in which the model failed for all", disturbances.spells)
    refused = [done for done in campaign.ledger.operations if done.refused]
    report.row("spells in which results could not be written", disturbances.refusals.total())
    report.row("… writes of results refused then", sum(done.writes for done in refused if done.container == RESULTS))


def _problem(
    sent: Sent, etag: str, result: dict[str, Any] | None, asked: Mapping[str, Call], validator: Any
) -> str | None:
    """Return what is wrong with an upload's result, if anything."""
    if result is None:
        return "no result"
    if (error := next(validator.iter_errors(result), None)) is not None:
        return f"its result does not meet the schema: {error.message}"
    if result["source"]["etag"] != etag:
        return "its result is of an older version"
    code = result["error"]["code"] if result["error"] else None
    if code != sent.item.code:
        return f"its result is {code or 'a success'}, not {sent.item.code or 'a success'}: {result['error']}"
    text = result["instructions"]["text"]
    if sent.item.kind is not Kind.BAD_INSTRUCTIONS and text != sent.question:
        return f"its result answers {text!r} and not {sent.question!r}"
    origin = _wrong_origin(sent, result, asked.get(result["model"]["request_id"]))
    return _wrong_answer(sent.item, result["answer"]) or origin


def _wrong_answer(item: Item, answer: dict[str, Any] | None) -> str | None:
    """Return what an answer lacks."""
    if item.kind is Kind.PAGES and answer and [page["error"] for page in answer["pages"]] != [None] * PAGES:
        return "its result lacks pages"
    if item.kind is Kind.SCHEMA and answer and answer["data"] != {"n": 1}:
        return "its result lacks the data"
    return None


def _wrong_origin(sent: Sent, result: dict[str, Any], call: Call | None) -> str | None:
    """Return what is wrong with the origin of an answer, which `call` gave."""
    if result["answer"] is None or call is None or sent.item.kind is Kind.SCHEMA:
        return None
    if result["work_key"] != work_key(IMAGES, sent.item.name, result["source"]["etag"], call.question):
        return "its work key is not that of its question"
    by_batch = call.worker is not None and result["model"]["service_tier"] == "batch"  # its line may be of any version
    older = sent.touched_at is not None and call.at < sent.touched_at and not by_batch
    if older and result["answer"].get("reused_from") in (None, result["source"]["etag"]):
        return "its answer was given for an earlier upload, and does not say so"
    return None


def _answers(result: dict[str, Any]) -> list[str]:
    """The ids of the model's answers in a result."""
    pages = (result["answer"] or {}).get("pages") or [result["model"]]
    return [page["request_id"] for page in pages if page["request_id"]]


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
