"""`blobsight evaluate`: how often answers are right, by field and variant, before many are paid for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import click

from blobsight.account import Place, account_options
from blobsight.evaluate.choosing import choose_local, choose_uploaded
from blobsight.evaluate.comparing import DEFAULT, Tolerance
from blobsight.evaluate.doubts import doubts
from blobsight.evaluate.expected import Expectations, read_expected
from blobsight.evaluate.options import Share, Tolerable
from blobsight.evaluate.scores import Evaluation, Given, disagreement, evaluate, given_of
from blobsight.evaluate.shapes import Schema, fields_of, shape_of
from blobsight.evaluate.showing import Shown
from blobsight.evaluate.trial_page import write_trial_page
from blobsight.image_states import checked_prefix
from blobsight.local_files import links_option
from blobsight.results.page import PAGES
from blobsight.running import run
from blobsight.terminal import (
    Exit,
    Problem,
    Trouble,
    Unknown,
    counted,
    name_problems,
    one_line,
    say,
    write_json,
)
from blobsight.trials.asking import Answers
from blobsight.trials.choosing import Chosen, choose_blobs, choose_files
from blobsight.trials.models import model_option, models_given
from blobsight.trials.record import Trial
from blobsight.trials.steps import require_terminal, say_what_was_left, tried
from blobsight.trials.variants import Deployment, Variant, variant_options
from blobsight.whole_files import check_output
from pipeline.instructions.options import Options


def _output(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        check_output(path, PAGES)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Which images, as the person says."""

    source: Path | None
    prefix: str | None
    folder: Path | None
    sample: int | None
    seed: int
    follow_links: bool


@click.command("evaluate")
@click.argument("expected", required=False, type=click.Path(path_type=Path))
@click.option(
    "--image-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the images are that a file of expected answers names.  [default: in the input container]",
)
@click.option(
    "--against",
    type=Deployment(),
    metavar="DEPLOYMENT",
    help="Without expected answers: where this deployment answers otherwise.",
)
@click.option(
    "--in-container",
    "prefix",
    metavar="PREFIX",
    callback=checked_prefix,
    help="With --against: images already uploaded, by the start of their names; '' for all.",
)
@variant_options
@click.option("--sample", type=click.IntRange(1), help="How many images.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed chooses other images.")
@click.option(
    "--tolerance", type=Tolerable(), metavar="N|N%", default=DEFAULT, help="How far numbers may be off.  [default: 0]"
)
@click.option(
    "--similarity",
    type=Share(),
    metavar="SHARE",
    default=DEFAULT.similarity,
    show_default=True,
    help="How alike texts have to be.",
)
@click.option("--min-accuracy", type=Share(), metavar="SHARE", help="Exit with 1 if a field of a variant is below.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE.html", callback=_output, help="A page to send."
)
@model_option
@links_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask before.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@account_options
def evaluation(  # noqa: PLR0913 - one for each option
    place: Place,
    variants: tuple[Variant, ...],
    expected: Path | None,
    *,
    image_folder: Path | None,
    against: str | None,
    prefix: str | None,
    sample: int | None,
    seed: int,
    tolerance: Tolerance,
    similarity: float,
    min_accuracy: float | None,
    output: Path | None,
    models: tuple[str, ...],
    follow_links: bool,
    yes: bool,
    as_json: bool,
) -> Exit:
    """Score answers against EXPECTED ones: how often each field is right, for each variant.

    EXPECTED is a folder of images with photo.jpg.expected.json beside photo.jpg; or a .jsonl or .csv file, such as
    `blobsight results -o` writes, corrected by hand. Options that list several values make variants, as for
    `blobsight try`: the cost is shown first, and what was asked before is not paid again. With --against, EXPECTED is
    a folder of images, or one image, and needs no answers.

    \b
    blobsight evaluate receipts/ --schema receipt.schema.json --deployment vision,vision-small --detail low,high
    blobsight evaluate corrected.csv --schema receipt.schema.json --min-accuracy 0.95 --yes
    blobsight evaluate receipts/ --schema receipt.schema.json -o evaluation.html
    blobsight evaluate receipts/ --schema receipt.schema.json --against vision-small
    """  # noqa: D301 - click's mark of lines to leave alone
    images = Images(
        source=expected, prefix=prefix, folder=image_folder, sample=sample, seed=seed, follow_links=follow_links
    )
    _check(images, against, min_accuracy)
    if against is not None:
        variants = _with_second(variants, against)
    known = models_given(models)
    require_terminal(yes=yes)
    tolerance = replace(tolerance, similarity=similarity)
    expectations, chosen = _chosen(place, images, variants, against)
    name_problems([*expectations.problems, *doubts(expectations.answers, _schema_of(variants))])
    say_what_was_left(replace(chosen, instructing=0))
    outcome = tried(place, _stem(images, place), variants, chosen, known, yes=yes)
    if not outcome.asked:
        if as_json:
            write_json({"trial": None, "asked": None, "problems": [each.to_json() for each in outcome.problems]})
        return Exit.DONE
    given, unread = given_to(outcome.trial, outcome.answers)
    name_problems(unread)
    if against is not None and (alone := answering_alone(outcome.trial, outcome.answers)):
        say(f"'{one_line(alone)}' was compared with itself: it answered both. Give another deployment.", "yellow")
    found = _scored(expectations, given, variants, tolerance, second=against is not None)
    if output is not None:
        notes = [f"Not scored: {counted(len(unread), 'answer')} that can't be read or is not there."] if unread else []
        run(write_trial_page(place, output, found, outcome, known, notes, second=against is not None))
    shown = Shown(found, outcome, known, min_accuracy, second=against is not None)
    problems = [*expectations.problems, *chosen.problems, *outcome.problems, *unread]
    if as_json:
        value = shown.to_json()
        left = [one.to_json() for one in chosen.left_out if one.problem]
        write_json(value | {"problems": left + [problem.to_json() for problem in problems]})
    else:
        shown.show()
    if output is not None:
        say(f"{output} has the images beside expected and given values: open it in a browser, or send it.")
    failed = problems or shown.below or any(left.problem for left in chosen.left_out)
    return Exit.SOME_FAILED if failed else Exit.DONE


def _check(images: Images, against: str | None, min_accuracy: float | None) -> None:
    """Check what options say together.

    Raises:
        click.UsageError: they contradict each other.
    """
    if against is None:
        if images.source is None:
            raise click.UsageError("Give EXPECTED: a folder of images with expected answers beside them, or a file.")
        if images.prefix is not None:
            raise click.UsageError("--in-container goes with --against: expected answers name the images themselves.")
        if images.folder is not None and images.source.is_dir():
            raise click.UsageError("--image-folder goes with a file of expected answers.")
        return
    if min_accuracy is not None:
        raise click.UsageError("--min-accuracy needs expected answers: two models that agree may both be wrong.")
    if images.folder is not None:
        raise click.UsageError("--image-folder goes with a file of expected answers.")
    if (images.source is None) == (images.prefix is None):
        raise click.UsageError("With --against, give either images on this machine or --in-container PREFIX.")


def _with_second(variants: tuple[Variant, ...], against: str) -> tuple[Variant, Variant]:
    """The one variant, and the same question to the other deployment."""
    if len(variants) != 1:
        raise click.UsageError("--against compares one variant with another deployment: list no other values.")
    (first,) = variants
    options = Options.model_validate(
        first.options.model_dump(by_alias=True, exclude_none=True) | {"deployment": against}
    )
    second = Variant(label=against, instructions=first.instructions, options=options)
    if second.id == first.id:
        raise click.UsageError(f"'{against}' would be compared with itself: give another deployment.")
    label = first.options.deployment or "the app's deployment"
    return Variant(label=label, instructions=first.instructions, options=first.options), second


def _chosen(
    place: Place, images: Images, variants: Sequence[Variant], against: str | None
) -> tuple[Expectations, Chosen]:
    """The expected answers, and the images that are asked about."""
    if against is not None:
        if images.source is not None:
            paths = [str(images.source)]
            return Expectations(), choose_files(
                paths, place.trials, images.sample, images.seed, follow_links=images.follow_links
            )
        return Expectations(), run(_blobs(place, images.prefix or "", images))
    source = images.source or Path()
    expectations = read_expected(source, _schema_of(variants))
    if not expectations.answers:
        name_problems(expectations.problems)
        where = " Each stands beside its image, as photo.jpg.expected.json." if source.is_dir() else ""
        raise Trouble(f"There is no expected answer in '{source}' that can be used.{where}")
    if not any(fields_of(shape_of(list(expectations.answers.values()), _schema_of(variants)))):
        raise Trouble(f"No expected answer in '{source}' has a value: there is nothing to score.")
    if expectations.images or images.folder is not None:
        folder = images.folder or source
        return expectations, choose_local(
            expectations, folder, place.trials, images.sample, images.seed, follow_links=images.follow_links
        )
    return expectations, run(_uploaded(place, list(expectations.answers), images))


async def _blobs(place: Place, prefix: str, images: Images) -> Chosen:
    async with place.opened() as account:
        return await choose_blobs(account, prefix, images.sample, images.seed)


async def _uploaded(place: Place, names: Sequence[str], images: Images) -> Chosen:
    async with place.opened() as account:
        return await choose_uploaded(account, names, images.sample, images.seed)


def _schema_of(variants: Sequence[Variant]) -> Schema | None:
    """The first variant's schema: it says how fields are compared."""
    schemas = (variant.options.schema_ for variant in variants)
    return next((schema for schema in schemas if isinstance(schema, dict)), None)


def _stem(images: Images, place: Place) -> str:
    if images.source is not None:
        return PurePath(images.source.resolve()).stem
    return (images.prefix or "").strip("/").rpartition("/")[2] or place.images


def answering_alone(trial: Trial, answers: Answers) -> str | None:
    """The deployment that has given all answers of all variants; None if there are several, or none."""
    results = (answers.get((variant.id, image.name)) for variant in trial.variants for image in trial.images)
    found = {(one.get("model") or {}).get("deployment") for one in results if isinstance(one, Mapping)}
    return found.pop() if len(found) == 1 else None


type ByVariant = dict[str, dict[str, Given]]
"""What was given, by the variant's label and the image's name."""


def given_to(trial: Trial, answers: Answers) -> tuple[ByVariant, list[Problem]]:
    """What each variant gave, and the images whose answers are not there or can't be read."""
    found: ByVariant = {variant.label: {} for variant in trial.variants}
    problems: list[Problem] = []
    for variant in trial.variants:
        for image in trial.images:
            result = answers.get((variant.id, image.name))
            if isinstance(result, Mapping):
                found[variant.label][image.name] = given_of(result)
            else:
                why = result or Unknown("it is not answered yet")
                reason = f"not scored for '{variant.label}': {why.reason}"
                problems.append(Problem(image.name, Unknown(reason, why.code)))
    return found, problems


def _scored(
    expectations: Expectations, given: ByVariant, variants: Sequence[Variant], tolerance: Tolerance, *, second: bool
) -> Evaluation:
    schema = _schema_of(variants)
    if second:
        one, other = given.items()
        return disagreement(one, other, schema, tolerance)
    asked = {name for answers in given.values() for name in answers}
    expected = {name: answer for name, answer in expectations.answers.items() if name in asked}
    return evaluate(expected, given, schema, tolerance)
