"""`blobsight retry`: queue images to be analyzed again, as requests on the app's queue.

Queueing the same image again costs no second model call: the app identifies each piece of work by image, question and
settings together, and asks the model only what it has not been asked. So a run that was killed can be started again.

Requests are queued without the app's marks of what is queued (pipeline.storage.marks), since the caller may have no
rights on the state container. A missing mark costs at most one more check by the reconciliation.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import click

from blobsight.account import Account, Place, account_options
from blobsight.asking import Asked, asking_options
from blobsight.estimate.estimating import DEFAULT_MAX_OUTPUT_TOKENS, Assumptions, Estimate, estimate_blobs
from blobsight.image_states import ImageState, State, checked_prefix, image_states
from blobsight.reading import side_by_side
from blobsight.running import run
from blobsight.terminal import (
    Exit,
    Problem,
    Unknown,
    name_problems,
    one_line,
    progress,
    say,
    shortened,
    table,
    write_json,
)
from pipeline.errors import ErrorCode, RetryableFailure
from pipeline.instructions import Origin
from pipeline.job.public import MOST_BYTES, PublicRequest
from pipeline.storage.marks import QueuedMarks

OLDER_THAN_MINUTES = 15
"""Minutes within which an image without a result may still be in progress."""


class Chosen(StrEnum):
    """Which images to run again."""

    FAILED = "failed"
    MISSING = "missing"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which images the caller wants to run again, and with what question."""

    prefix: str
    chosen: Chosen
    codes: frozenset[str]
    """Only failures with these codes; empty for all."""
    older_than: timedelta
    asked: Asked
    model: str | None
    """The model, for the estimate; None for the one that answered so far."""


@click.command()
@click.argument("prefix", default="", callback=checked_prefix)
@click.option(
    "--code",
    "codes",
    multiple=True,
    type=click.Choice([code.value for code in ErrorCode]),
    metavar="CODE",
    help="Only failures with this code; can be repeated.",
)
@click.option("--missing", is_flag=True, help="Instead of failed images, those without a result.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="MINUTES",
    default=OLDER_THAN_MINUTES,
    show_default=True,
    help="With --missing: leave younger uploads alone, which may be in progress.",
)
@click.option("--all", "everything", is_flag=True, help="Every image, also those that succeeded.")
@asking_options
@click.option("--model", help="Model behind the deployment, for its price.  [default: the one that answered so far]")
@click.option("-y", "--yes", is_flag=True, help="Don't ask before queueing.")
@click.option("-n", "--dry-run", is_flag=True, help="List what would be queued, and queue nothing.")
@click.option("--json", "as_json", is_flag=True, help="What was queued, as one JSON object on stdout.")
@account_options
def retry(  # noqa: PLR0913 - one for each option
    place: Place,
    asked: Asked,
    prefix: str,
    codes: Sequence[str],
    *,
    older_than: float,
    model: str | None,
    missing: bool,
    everything: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    """Run images again whose names start with PREFIX: failed ones, missing ones, or all with a new question.

    Shows how many there are and what they may cost, and asks before it queues anything. The same question about the
    same image is never paid twice: with --all and no new question, the model is asked only where the question has
    changed, for example by another _instructions.md. You can stop at any time and run it again.

    The codes: unsupported_image, empty_blob, unreadable_blob, image_too_large, corrupt_image, too_many_pages,
    invalid_instructions, content_filtered, model_refused, empty_answer, invalid_answer, request_rejected,
    retries_exhausted, crashed.

    \b
    blobsight retry --code retries_exhausted --code crashed     once the cause is fixed
    blobsight retry 2026/receipts/ --dry-run                    list what failed there
    blobsight retry --missing                                   images without a result
    blobsight retry photos/ --all --instructions "Which animals are in the picture?"
    """  # noqa: D301 - click's mark of lines to leave alone
    if sum([bool(codes), missing, everything]) > 1:
        raise click.UsageError("--code, --missing and --all choose different images: give one.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError(
            "There is no terminal to confirm on: give --yes to queue, or --dry-run to see what would be queued."
        )
    chosen = Chosen.MISSING if missing else Chosen.ALL if everything else Chosen.FAILED
    choice = Choice(
        prefix=prefix,
        chosen=chosen,
        codes=frozenset(codes),
        older_than=timedelta(minutes=older_than),
        asked=asked,
        model=model,
    )
    if too_large := too_large_for_queue(request_for(place.images, "x", choice, "0x")):
        raise click.UsageError(too_large)
    return _retry(place, choice, yes=yes, dry_run=dry_run, as_json=as_json)


def _retry(place: Place, choice: Choice, *, yes: bool, dry_run: bool, as_json: bool) -> Exit:
    problems: list[Problem] = []
    found, cost = run(_look(place, choice, problems))
    name_problems(problems)
    if found and not dry_run:
        # Asked outside an event loop: within one, Ctrl-C would wait for the answer.
        if yes or click.confirm("Queue them?", err=True):
            found = run(_queue(place, found, choice, problems))
        else:
            say("Nothing was queued.")
            found = []
    if as_json:
        write_json(_as_json(found, choice, cost, problems, dry_run=dry_run))
    elif dry_run:
        table(("image", "why"), [(one_line(state.image.name), _why(state)) for state in found])
    return Exit.SOME_FAILED if problems else Exit.DONE


async def _look(place: Place, choice: Choice, problems: list[Problem]) -> tuple[list[ImageState], Estimate | None]:
    """Find the images to run again and estimate their cost. Both are also shown."""
    async with place.opened() as account:
        found, left_alone = await _find(account, choice, problems)
        for sentence in left_alone:
            say(sentence)
        if not found:
            say("No image is to be run again.")
            return found, None
        cost = await _say_what(account, found, choice)
        problems += cost.problems
        return found, cost


# Choosing images.


async def _find(account: Account, choice: Choice, problems: list[Problem]) -> tuple[list[ImageState], list[str]]:
    """Return the images to run again, by name; and sentences on others that one might expect among them."""
    youngest = datetime.now(UTC) - choice.older_than
    found: list[ImageState] = []
    left: Counter[str] = Counter()
    with progress("Looking at images") as bar:
        async for state in image_states(account.images, account.results, choice.prefix, problems):
            bar.advance()
            if reason := _left_alone(state, choice, youngest):
                left[reason] += 1
            elif not _is_chosen(state, choice):
                pass
            elif too_large := too_large_for_queue(
                request_for(account.place.images, state.image.name, choice, state.result_etag)
            ):
                problems.append(Problem(state.image.name, Unknown(f"not queued: {too_large}")))
            else:
                found.append(state)
    if choice.chosen is Chosen.MISSING:
        found, waiting = await _without_waiting(account, found, problems)
        left["are on the queue already"] += waiting
    found.sort(key=lambda state: state.image.name)
    return found, [f"Left out: {count:,} that {reason}." for reason, count in left.items() if count]


def _is_chosen(state: ImageState, choice: Choice) -> bool:
    match choice.chosen:
        case Chosen.FAILED:
            return state.state is State.FAILED and (not choice.codes or state.error_code in choice.codes)
        case Chosen.MISSING:
            return state.state is State.PENDING
        case Chosen.ALL:
            return True


def _left_alone(state: ImageState, choice: Choice, youngest: datetime) -> str | None:
    if choice.chosen is Chosen.MISSING and state.state is State.PENDING and state.image.last_modified > youngest:
        return f"were uploaded within the last {choice.older_than.total_seconds() / 60:g} minutes (--older-than)"
    # The app would take such a request for a repeated upload event.
    own_question = state.state is State.SUCCEEDED and state.origin == Origin.REQUEST
    if choice.chosen is Chosen.ALL and own_question and not choice.asked.is_another_question:
        return "were asked with instructions of their own by an earlier retry (give --instructions to ask anew)"
    return None


async def _without_waiting(
    account: Account, found: list[ImageState], problems: list[Problem]
) -> tuple[list[ImageState], int]:
    """Return the images without a message on the queue, as far as that can be seen, and the number of the others."""
    waiting = QueuedMarks(account.blobs, account.place.state)
    kept: list[ImageState] = []
    unseen: list[Problem] = []

    def take(state: ImageState, is_waiting: bool | Unknown) -> None:  # noqa: FBT001 - one outcome
        bar.advance()
        if isinstance(is_waiting, Unknown):
            why = f"queued, though it may be on the queue already: its mark can't be read ({is_waiting.reason})"
            unseen.append(Problem(state.image.name, Unknown(why, is_waiting.code)))
        if is_waiting is not True:
            kept.append(state)

    try:
        with progress("Checking the queue", len(found)) as bar:
            await side_by_side(found, lambda state: waiting.is_marked(state.image.name), take)
    except RetryableFailure as failure:
        if failure.status != 403:
            raise
        say(
            "Some may be on the queue already: you may not read the state container, which says so. An image that is"
            " queued twice is run once."
        )
        return found, 0
    problems += unseen
    return kept, len(found) - len(kept)


# Cost.


async def _say_what(account: Account, found: Sequence[ImageState], choice: Choice) -> Estimate:
    reasons = Counter(_why(state) for state in found)
    say(f"To be run again: {len(found):,} ({', '.join(f'{why} {count:,}' for why, count in reasons.most_common())})")
    lost = sum(state.origin == Origin.REQUEST and state.state is State.FAILED for state in found)
    if lost and choice.asked.text is None:
        say(
            f"{lost:,} of them failed with instructions of an earlier retry. They will be asked what their metadata and"
            " files say. Give --instructions to repeat those."
        )
    with progress("Estimating"):
        cost = await cost_of(account, found, choice)
    if not cost.images:
        say("Cost: nothing. None of them is an image that can be sent to the model.")
        return cost
    at_most = choice.chosen is Chosen.ALL and not choice.asked.is_another_question
    free = len(found) - cost.images
    others = f"; the other{f' {free:,} cost' if free > 1 else ' costs'} nothing" if free > 0 else ""
    say(f"Cost{', if every question has changed' if at_most else ''}: {cost.in_short}{others}")
    for sentence in cost.how_sure:
        say(f"  {sentence}", "dim")
    return cost


async def cost_of(account: Account, found: Sequence[ImageState], choice: Choice) -> Estimate:
    """Estimate the cost of running `found` again.

    Raises:
        AzureError: as the SDK gives it.
    """
    options = choice.asked.options
    assumptions = Assumptions(
        model=choice.model,
        detail=options.detail or "auto",
        max_output_tokens=options.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        instructions=choice.asked.text,
        service_tier=options.service_tier or "default",
    )
    return await estimate_blobs(account, [state.image for state in found], assumptions)


def _why(state: ImageState) -> str:
    return shortened(state.error_code, 60) if state.error_code else state.state.value


def _as_json(
    found: Sequence[ImageState], choice: Choice, cost: Estimate | None, problems: Sequence[Problem], *, dry_run: bool
) -> dict[str, object]:
    return {
        "prefix": choice.prefix,
        "chosen": choice.chosen.value,
        "queued": 0 if dry_run else len(found),
        "dry_run": dry_run,
        "estimated_usd": list(cost.money) if cost and cost.money else None,
        "images": [{"name": state.image.name, "why": _why(state)} for state in found],
        "problems": [problem.to_json() for problem in problems],
    }


# Queueing.


def request_for(container: str, name: str, choice: Choice, failed: str | None) -> PublicRequest:
    """Build the request. `failed` is the ETag of the result to replace, if that is a failed one."""
    return PublicRequest(
        container=container,
        name=name,
        instructions=choice.asked.text,
        options=choice.asked.options,
        rerun_of=failed,
    )


def too_large_for_queue(request: PublicRequest) -> str | None:
    """Explain that a request does not fit into a message, if it does not."""
    size = request.work_bytes
    if size <= MOST_BYTES:
        return None
    return (
        f"The request for one image takes {size:,} bytes, and may take {MOST_BYTES:,}. Put long"
        " instructions into the folder as _instructions.md, then run `blobsight retry --all` without --instructions."
    )


async def _queue(
    place: Place, found: Sequence[ImageState], choice: Choice, problems: list[Problem]
) -> list[ImageState]:
    """Queue a request for each image, and return those that were queued."""
    sent: list[ImageState] = []
    failed: list[Problem] = []

    def take(state: ImageState, why: Unknown | None) -> None:
        bar.advance()
        if why is None:
            sent.append(state)
        else:
            failed.append(Problem(state.image.name, why))

    try:
        async with place.opened() as account:
            with progress("Queueing", len(found)) as bar:
                await queue_again(account, found, choice, take)
    finally:
        name_problems(failed)
        problems += failed
        hint = (
            " The app replaces their results one by one; `blobsight doctor` shows how many requests are waiting."
            if len(sent) == len(found)
            else " Run it again to queue the rest; an image that is queued twice is run once."
        )
        say(f"Queued: {len(sent):,} of {len(found):,}.{hint}")
    return sorted(sent, key=lambda state: state.image.name)


async def queue_again(
    account: Account, found: Sequence[ImageState], choice: Choice, take: Callable[[ImageState, Unknown | None], None]
) -> None:
    """Queue a request for each image. `take` gets each with None, or with the reason why it was not queued.

    Raises:
        Trouble: the address of the queue service is not known.
        AzureError, RetryableFailure: a failure that affects all.
    """
    queue = account.requests

    async def send(state: ImageState) -> None:
        result = state.result_etag if state.state is State.FAILED else None
        await queue.send(request_for(account.place.images, state.image.name, choice, result), 0)

    await side_by_side(found, send, take, doing="queued")
