"""`blobsight try`: ask several questions about a few images, and see the answers side by side."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import override

import click
from azure.core.exceptions import ResourceNotFoundError

from blobsight.account import Account, Place, account_options, affects_all
from blobsight.image_states import checked_prefix
from blobsight.local_files import links_option
from blobsight.reading import side_by_side
from blobsight.running import run
from blobsight.terminal import (
    Exit,
    Problem,
    Trouble,
    Unknown,
    counted,
    name_problems,
    one_line,
    plain,
    progress,
    say,
    table,
    write_json,
)
from blobsight.trials.allowed import require_container
from blobsight.trials.asking import unanswered
from blobsight.trials.choosing import Chosen, choose_blobs, choose_files
from blobsight.trials.cost import cost_json
from blobsight.trials.models import Models, model_option, models_given
from blobsight.trials.promoting import instruction_file, into_container, into_folder
from blobsight.trials.record import RUNS, Trial, read_trial, read_trials
from blobsight.trials.showing import show, to_json
from blobsight.trials.steps import Tried, read_answers, require_terminal, say_what_was_left, tried
from blobsight.trials.variants import Variant, chosen_variant, numbered, variant_options

SAMPLE = 20
"""Images that are tried unless a person says how many."""


class Group(click.Group):
    """Without the name of a command it is `ask`."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


@click.group("try", cls=Group)
def trials() -> None:
    """Ask several questions about a few images, and see the answers side by side.

    `blobsight try PATH...` is short for `blobsight try ask PATH...`, whose options are in `blobsight try ask --help`.

    \b
    blobsight try receipts/ --instructions-file a.md --instructions-file b.md
    blobsight try receipts/ --schema receipt.schema.json --deployment vision,vision-small --detail low,high
    blobsight try list
    blobsight try show receipts-1f6c0ab2
    blobsight try promote receipts-1f6c0ab2 --variant 2 receipts/
    blobsight try remove receipts-1f6c0ab2
    """  # noqa: D301 - click's mark of lines to leave alone


as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask before.")
prefix_option = click.option(
    "--in-container",
    "prefix",
    metavar="PREFIX",
    callback=checked_prefix,
    help="Images already uploaded, by the start of their names; '' for all.",
)


@trials.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@prefix_option
@click.option("--sample", type=click.IntRange(1), default=SAMPLE, show_default=True, help="How many images to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed chooses other images.")
@variant_options
@model_option
@links_option
@yes_option
@as_json_option
@account_options
def ask(  # noqa: PLR0913 - one for each option
    place: Place,
    variants: tuple[Variant, ...],
    paths: tuple[str, ...],
    *,
    prefix: str | None,
    sample: int,
    seed: int,
    models: tuple[str, ...],
    follow_links: bool,
    yes: bool,
    as_json: bool,
) -> Exit:
    """Try questions on a sample of images: each combination of the options that list several values.

    PATH is a file, a folder, a glob, or - for a list of files on stdin, as for `blobsight upload`. Shows the cost and
    asks before anything is sent. The same question about the same image costs nothing the second time. Ctrl-C loses
    nothing: the same command goes on.

    \b
    blobsight try photos/ -i "What is in this picture?" -i "Name the main object in one word."
    blobsight try receipts/ --instructions-file receipt.md --detail low,high --sample 50
    blobsight try --in-container 2026/invoices/ --schema invoice.schema.json --deployment vision,vision-small
    """  # noqa: D301 - click's mark of lines to leave alone
    if bool(paths) == (prefix is not None):
        raise click.UsageError("Give either paths on this machine or --in-container PREFIX.")
    known = models_given(models)
    require_terminal(yes=yes)
    if prefix is None:
        chosen = choose_files(paths, place.trials, sample, seed, follow_links=follow_links)
        stem = PurePath(paths[0]).stem
    else:
        chosen = run(_chosen_blobs(place, prefix, sample, seed))
        stem = prefix.strip("/").rpartition("/")[2] or place.images
    say_what_was_left(chosen)
    if prefix is None and any(variant.instructions is None for variant in variants):
        say("Without instructions, the app's own question is asked (DEFAULT_INSTRUCTIONS).", "dim")
    outcome = tried(place, stem, variants, chosen, known, yes=yes)
    if outcome.asked:
        _show(outcome, known, chosen, as_json=as_json)
    elif as_json:
        write_json({"trial": None, "asked": None, "problems": [problem.to_json() for problem in outcome.problems]})
    problems = outcome.problems or chosen.problems or any(left.problem for left in chosen.left_out)
    return Exit.SOME_FAILED if problems else Exit.DONE


async def _chosen_blobs(place: Place, prefix: str, sample: int, seed: int) -> Chosen:
    async with place.opened() as account:
        return await choose_blobs(account, prefix, sample, seed)


def _show(outcome: Tried, models: Models, chosen: Chosen | None = None, *, as_json: bool) -> None:
    if not as_json:
        show(outcome.trial, outcome.answers, models)
        say(f"`blobsight try show {outcome.trial.name}` shows this again, and pays nothing.", "dim")
        return
    value = to_json(outcome.trial, outcome.answers, models)
    if outcome.plan:
        value["asked"] = cost_json(outcome.plan.costs)
    left = [one.to_json() for one in chosen.left_out if one.problem] if chosen else []
    value["problems"] = left + [
        problem.to_json() for problem in [*(chosen.problems if chosen else ()), *outcome.problems]
    ]
    write_json(value)


@trials.command("list")
@as_json_option
@account_options
def list_trials(place: Place, *, as_json: bool) -> Exit:
    """List the trials, the newest first. Answered counts questions: variants times images."""
    found, problems = run(_listed(place))
    if as_json:
        listed = [
            {
                "name": trial.name,
                "created_at": trial.created_at.isoformat(timespec="seconds"),
                "images": len(trial.images),
                "variants": [variant.label for variant in trial.variants],
                "questions": len(trial.answer_names()),
                "answered": answered,
            }
            for trial, answered in found
        ]
        write_json({"trials": listed, "problems": [problem.to_json() for problem in problems]})
    else:
        head = ("trial", "when", "images", "variants", "answered")
        table(head, [_row(trial, answered) for trial, answered in found], right=(2, 3, 4))
        if not found:
            say("There are no trials.")
    name_problems(problems)
    return Exit.SOME_FAILED if problems else Exit.DONE


def _row(trial: Trial, answered: int) -> tuple[str, ...]:
    return (
        trial.name,
        f"{trial.created_at.astimezone():%Y-%m-%d %H:%M}",
        f"{len(trial.images):,}",
        f"{len(trial.variants)}",
        f"{answered:,} of {len(trial.answer_names()):,}",
    )


async def _listed(place: Place) -> tuple[list[tuple[Trial, int]], list[Problem]]:
    async with place.opened() as account:
        await require_container(account)
        found, problems = await read_trials(account)
        return [(trial, await _answered(account, trial)) for trial in found], problems


async def _answered(account: Account, trial: Trial) -> int:
    etags = {image.blob: image.etag for image in trial.images if image.etag}
    return len(trial.answer_names()) - len(await unanswered(account, trial, etags))


@trials.command("show")
@click.argument("name")
@model_option
@as_json_option
@account_options
def show_trial(place: Place, name: str, models: tuple[str, ...], *, as_json: bool) -> Exit:
    """Show the answers of the trial NAME once more. Nothing is sent or paid."""
    known = models_given(models)
    outcome = run(_read(place, name))
    _show(outcome, known, as_json=as_json)
    unread = any(isinstance(result, Unknown) for result in outcome.answers.values())
    return Exit.SOME_FAILED if unread else Exit.DONE


async def _read(place: Place, name: str) -> Tried:
    async with place.opened() as account:
        await require_container(account)
        trial = await read_trial(account, name)
        return Tried(trial, await read_answers(account, trial))


@trials.command()
@click.argument("name")
@yes_option
@account_options
def remove(place: Place, name: str, *, yes: bool) -> Exit:
    """Remove the trial NAME: its record, and the images and answers that no other trial uses.

    Images that were uploaded to be analyzed stay, and so do their results.
    """
    require_terminal(yes=yes)
    trial, own = run(_own(place, name))
    what = f"the trial {trial.name}, with its own images and answers (up to {counted(len(own), 'blob')})"
    if not (yes or click.confirm(f"Remove {what}?", err=True)):
        say("Nothing was removed.")
        return Exit.DONE
    problems = run(_remove(place, trial, own))
    name_problems(problems)
    say("Removed." if not problems else "Run it again to remove the rest.")
    return Exit.SOME_FAILED if problems else Exit.DONE


async def _own(place: Place, name: str) -> tuple[Trial, list[str]]:
    """The trial, and the blobs that no other trial uses.

    Raises:
        Trouble: there is no such trial, or another one's record can't be read.
    """
    async with place.opened() as account:
        await require_container(account)
        trial = await read_trial(account, name)
        others, problems = await read_trials(account)
        if problems:
            name_problems(problems)
            raise Trouble(
                "Nothing was removed: what the trials above use is not known. Delete their records, or restore them."
            )
        used = {blob for other in others if other.name != trial.name for blob in other.uses(place.trials)}
        return trial, sorted(trial.uses(place.trials) - used)


async def _remove(place: Place, trial: Trial, own: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    async with place.opened() as account:

        async def delete(name: str) -> None:
            try:
                await account.trials.delete_blob(name)
            except ResourceNotFoundError as error:
                if affects_all(error):
                    raise

        with progress("Removing", len(own)) as bar:

            def take(name: str, why: Unknown | None) -> None:
                bar.advance()
                if why is not None:
                    problems.append(Problem(name, why))

            await side_by_side(own, delete, take, doing="removed")
        if not problems:  # the record last, so that a run that is stopped can be repeated
            await delete(f"{RUNS}{trial.name}.json")
    return problems


@trials.command()
@click.argument("name")
@click.option("--variant", "given", metavar="V", help="Number, label or id of the variant, as `try show` has it.")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--in-container",
    "prefix",
    metavar="PREFIX",
    callback=checked_prefix,
    help="Instead of a folder here: the one in the input container, '' for its root.",
)
@click.option(
    "--instructions-container",
    envvar="INSTRUCTIONS_CONTAINER",
    metavar="NAME",
    help="With --in-container: where the app looks for instruction files, if not in the input container.",
)
@yes_option
@account_options
def promote(  # noqa: PLR0913 - one for each option
    place: Place,
    name: str,
    given: str | None,
    folder: Path | None,
    *,
    prefix: str | None,
    instructions_container: str | None,
    yes: bool,
) -> Exit:
    """Write a variant of the trial NAME as _instructions.md, for all images in FOLDER and below.

    An _instructions.md that is there is replaced only if you say so.
    """
    if (folder is None) == (prefix is None):
        raise click.UsageError("Give either a FOLDER on this machine or --in-container PREFIX.")
    trial = run(_trial(place, name))
    variant = chosen_variant(trial.variants, given)
    data = instruction_file(variant)
    number = next(number for number, one in numbered(trial.variants) if one is variant)
    what = f"variant {number} ({one_line(variant.label)})"
    if folder is not None:
        written = into_folder(folder, data, what, yes=yes)
    else:
        container = instructions_container or place.images
        written = into_container(place, container, prefix or "", data, what, yes=yes)
    if written is None:
        say("Nothing was written.")
        return Exit.DONE
    plain(written)
    counts = "Upload it with the folder: it counts" if folder else "It counts"
    say(
        f"It asks what {what} of {trial.name} asked. {counts} for images that are analyzed from then on;"
        " `blobsight retry PREFIX --all` asks those again that are there."
    )
    return Exit.DONE


async def _trial(place: Place, name: str) -> Trial:
    async with place.opened() as account:
        await require_container(account)
        return await read_trial(account, name)
