"""From variants and images to answers: look, show the cost, ask the person, ask the app, follow.

`blobsight evaluate` takes the same steps with images of its own choosing.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from blobsight.account import Account, Place
from blobsight.running import run
from blobsight.terminal import Problem, Trouble, counted, name_problems, one_line, progress, say
from blobsight.trials.allowed import Allowance, require_allowed
from blobsight.trials.asking import (
    GOES_ON,
    Answers,
    Question,
    answers,
    etags_there,
    follow,
    send_requests,
    too_large,
    unanswered,
    upload,
)
from blobsight.trials.choosing import Chosen
from blobsight.trials.cost import Cost, costs_of, say_cost
from blobsight.trials.models import Models
from blobsight.trials.record import Trial, is_recorded, with_etags, write_trial
from blobsight.trials.variants import Variant, distinct


@dataclass(slots=True)
class Plan:
    """A trial before anything is paid."""

    trial: Trial
    chosen: Chosen
    allowance: Allowance
    etags: dict[str, str]
    """Of the images that are in their container already, by blob."""
    questions: list[Question]
    """Those that are to be asked."""
    costs: list[Cost] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Questions that have their answer."""
        return len(self.trial.answer_names()) - len(self.questions)


@dataclass(slots=True)
class Tried:
    """A trial and its answers."""

    trial: Trial
    answers: Answers
    plan: Plan | None = None
    """What was to be asked in this run; None where only stored answers were read."""
    problems: list[Problem] = field(default_factory=list)
    asked: bool = True
    """False: the person did not want to ask."""


def require_terminal(*, yes: bool) -> None:
    """Check before any work that the person can be asked.

    Raises:
        click.UsageError: there is no terminal.
    """
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("There is no terminal to confirm the cost on: give --yes to ask without confirmation.")


async def plan_of(account: Account, stem: str, variants: Sequence[Variant], chosen: Chosen, models: Models) -> Plan:
    """Look at everything, and send nothing.

    Args:
        account: where the app is.
        stem: how the trial's name begins.
        variants: the questions.
        chosen: the images.
        models: for the prices.

    Raises:
        Trouble: the app would refuse something, or it would be too much.
        AzureError: as the SDK gives it.
    """
    trial = Trial.of(stem, variants, chosen.images)
    if problems := too_large(trial):
        raise Trouble(" ".join(problems))
    allowance = await require_allowed(account, variants)
    known = allowance.alone if chosen.files else allowance.beside
    trial = Trial.of(stem, distinct(map(known, variants)), chosen.images)
    etags = await etags_there(account, trial)
    questions = await unanswered(account, trial, etags)
    plan = Plan(trial, chosen, allowance, etags, questions)
    with progress("Estimating"):
        plan.costs, plan.problems = await costs_of(account, trial, questions, chosen.sizes, allowance, models)
    return plan


def say_plan(plan: Plan) -> None:
    """Say what would be asked, and what it costs."""
    chosen, trial = plan.chosen, plan.trial
    of = f" of {chosen.of:,}" if chosen.of > len(trial.images) else ""
    images, variants = counted(len(trial.images), "image"), counted(len(trial.variants), "variant")
    say(f"Trial {trial.name}: {images}{of}, {variants}.")
    if not plan.questions:
        say("All questions are answered already: nothing is sent, and it costs nothing.")
        return
    say_cost(trial, plan.costs, plan.answered)
    if any(question.variant.options.service_tier == "batch" for question in plan.questions):
        say("  Answers by batch come within a day, as a rule. Ctrl-C stops waiting; the same command shows them later.")


async def carry_out(account: Account, plan: Plan) -> tuple[Trial, list[Problem]]:
    """Upload, record, ask, and wait for the answers. Returns the trial as recorded, and what could not be done.

    Raises:
        Trouble: the address of the queue service is not known.
        AzureError, RetryableFailure: a failure that affects all.
    """
    problems: list[Problem] = []
    try:
        await upload(account, plan.trial, plan.chosen.files, plan.etags, problems)
        trial = with_etags(plan.trial, plan.etags)
        if plan.questions or not await is_recorded(account, trial):
            await write_trial(account, trial)
        known = {image.blob: image for image in trial.images}
        questions = [
            Question(question.variant, known[question.image.blob], question.rerun_of)
            for question in plan.questions
            if question.image.blob in known
        ]
        sent = await send_requests(account, questions, problems)
    except asyncio.CancelledError:
        say(GOES_ON)
        raise
    await follow(account, trial, sent, problems)
    return trial, problems


def tried(  # noqa: PLR0913 - what a person says
    place: Place, stem: str, variants: Sequence[Variant], chosen: Chosen, models: Models, *, yes: bool
) -> Tried:
    """Bring a trial to its answers: look, show the cost, ask the person, ask the app, follow.

    Raises:
        Trouble: as `plan_of`; any failure of the account, explained.
        KeyboardInterrupt: the person stops; what goes on has been said.
    """
    plan = run(_plan(place, stem, variants, chosen, models))
    say_plan(plan)
    name_problems(plan.problems)
    # Asked outside an event loop: within one, Ctrl-C would wait for the answer.
    if plan.questions and not (yes or click.confirm("Ask them?", err=True)):
        say("Nothing was asked.")
        return Tried(plan.trial, {}, plan, plan.problems, asked=False)
    trial, problems, found = run(_carried_out(place, plan))
    name_problems(problems)
    return Tried(trial, found, plan, plan.problems + problems)


async def _plan(place: Place, stem: str, variants: Sequence[Variant], chosen: Chosen, models: Models) -> Plan:
    async with place.opened() as account:
        return await plan_of(account, stem, variants, chosen, models)


async def _carried_out(place: Place, plan: Plan) -> tuple[Trial, list[Problem], Answers]:
    async with place.opened() as account:
        trial, problems = await carry_out(account, plan)
        return trial, problems, await read_answers(account, trial)


async def read_answers(account: Account, trial: Trial) -> Answers:
    """The answers of a trial, with a progress bar.

    Raises:
        AzureError: as the SDK gives it.
    """
    with progress("Reading answers", len(trial.answer_names())) as bar:
        return await answers(account, trial, bar.advance)


def say_what_was_left(chosen: Chosen) -> None:
    """Name what was not taken for an image, and say what does not count."""
    for left in chosen.left_out:
        say(f"{one_line(left.path)}: {one_line(left.reason)}", "red" if left.problem else "dim")
    name_problems(chosen.problems)
    if chosen.instructing:
        say(
            f"Instruction files and schemas beside the images do not count here ({chosen.instructing:,} found):"
            " give them with --instructions-file and --schema.",
            "yellow",
        )
