"""`blobsight estimate`: the cost of images, before anything is paid."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import click

from blobsight.account import Place, optional_account
from blobsight.estimate.estimating import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    Assumptions,
    Estimate,
    estimate_prefix,
    estimated,
    experience_near,
    numbers,
)
from blobsight.estimate.experience import Experience
from blobsight.estimate.lanes import ENQUEUED_TOKENS, TOKENS_PER_MINUTE, Lane, Quotas, lanes_of
from blobsight.estimate.measuring import Size, file_sizes
from blobsight.estimate.prices import CURRENCY
from blobsight.estimate.ranges import Range
from blobsight.image_states import checked_prefix
from blobsight.local_files import LeftOut, LocalFile, find_files, links_option, why_unreadable
from blobsight.running import run
from blobsight.terminal import Exit, Problem, Trouble, name_problems, one_line, out, progress, say, table, write_json
from pipeline.model.original import takes_original
from pipeline.names import wants_result
from pipeline.settings import MOST_OUTPUT_TOKENS, Detail


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--in-container",
    "prefix",
    metavar="PREFIX",
    callback=checked_prefix,
    help="Images already uploaded, by the start of their names; '' for all.",
)
@click.option("--model", help="Model behind the deployment.  [default: the one that answered so far, or gpt-5.6-luna]")
@click.option("--detail", type=click.Choice(get_args(Detail.__value__)), default="auto", show_default=True)
@click.option(
    "--max-output-tokens",
    type=click.IntRange(1, MOST_OUTPUT_TOKENS),
    default=DEFAULT_MAX_OUTPUT_TOKENS,
    show_default=True,
)
@click.option("-i", "--instructions", help="The question that will be asked.")
@click.option(
    "--tokens-per-minute",
    type=click.IntRange(1),
    default=TOKENS_PER_MINUTE,
    show_default=True,
    help="Quota of the deployment: 1,000 times its capacity.",
)
@click.option(
    "--enqueued-tokens",
    type=click.IntRange(1),
    default=ENQUEUED_TOKENS,
    show_default=True,
    help="Quota of the deployment for batches: input tokens that may wait there.",
)
@links_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@optional_account
def estimate(  # noqa: PLR0913, PLR0917 - click passes each option by name
    place: Place | None,
    paths: tuple[str, ...],
    prefix: str | None,
    model: str | None,
    detail: Detail,
    max_output_tokens: int,
    instructions: str | None,
    tokens_per_minute: int,
    enqueued_tokens: int,
    *,
    follow_links: bool,
    as_json: bool,
) -> Exit:
    """Estimate what images will cost, and how long they will take, at each service tier.

    \b
    blobsight estimate photos/
    blobsight estimate photos/ scan.png --model gpt-5.1 --detail low
    blobsight estimate "photos/**/*.jpg" --instructions "Which brand is it?" --json
    blobsight estimate --local --in-container 2026/invoices/ --tokens-per-minute 1000000

    PATHs are files, folders, globs, or - for a list on stdin, as for `blobsight upload`. They need no account. With
    one, the estimate is better: it learns from the account's results how long answers are and what images cost.
    """  # noqa: D301 - click's mark of lines to leave alone
    if bool(paths) == (prefix is not None):
        raise click.UsageError("Give either paths on this machine or --in-container PREFIX.")
    assumptions = Assumptions(
        model=model, detail=detail, max_output_tokens=max_output_tokens, instructions=instructions
    )
    files: Sequence[LeftOut] = ()
    if prefix is None:
        answer, files = _of_files(place, paths, assumptions, follow_links=follow_links)
    elif place is None:
        raise click.UsageError("--in-container needs an account: give --account NAME or --local.")
    else:
        answer = run(_of_prefix(place, prefix, assumptions))
    if detail == "original" and takes_original(answer.model) is False:
        raise Trouble(f"'{answer.model}' does not take the detail original: estimate with another model or detail.")
    any_problems = bool(files or answer.problems)
    for file in files:
        say(f"{one_line(file.path)}: {one_line(file.reason)}", "red")
    name_problems(answer.problems)
    if not answer.images and not any_problems:
        raise Trouble("There is nothing to estimate: what you named holds no images.")
    quotas = Quotas(tokens_per_minute=tokens_per_minute, enqueued_tokens=enqueued_tokens)
    lanes = lanes_of(answer, quotas, max_output_tokens)
    if as_json:
        listed = [file.to_json() for file in files] + [problem.to_json() for problem in answer.problems]
        by_tier = {tier: lane.to_json() for tier, lane in lanes.items()}
        write_json(_as_json(answer) | {"tiers": by_tier, "problems": listed})
    else:
        _show(answer, lanes)
    return Exit.SOME_FAILED if any_problems else Exit.DONE


def _of_files(
    place: Place | None, paths: Sequence[str], assumptions: Assumptions, *, follow_links: bool
) -> tuple[Estimate, Sequence[LeftOut]]:
    experience, unread = run(_experience_of(place, assumptions)) if place else (None, [])
    problems: list[LeftOut] = []
    instruction_files = 0

    def images() -> Iterator[LocalFile]:
        nonlocal instruction_files
        for found in find_files(paths, sys.stdin, follow_links=follow_links):
            if isinstance(found, LeftOut):
                if found.problem:
                    problems.append(found)
            elif wants_result(found.name):
                yield found
            else:
                instruction_files += 1

    sizes: Counter[Size | None] = Counter()
    size_bytes = 0
    with progress("looking at images") as bar:
        for file, size in file_sizes(images()):
            if isinstance(size, OSError):
                problems.append(LeftOut(str(file.path), why_unreadable(file.path, size)))
            else:
                sizes[size] += 1
                size_bytes += file.size if size else 0
            bar.advance()
    estimate = estimated(sizes, sizes.total(), 0, assumptions, experience)
    estimate = replace(estimate, size_bytes=size_bytes, instruction_files=instruction_files, problems=unread)
    return estimate, problems


async def _experience_of(place: Place, assumptions: Assumptions) -> tuple[Experience | None, list[Problem]]:
    async with place.opened() as account:
        return await experience_near(account, "", assumptions)


async def _of_prefix(place: Place, prefix: str, assumptions: Assumptions) -> Estimate:
    async with place.opened() as account:
        with progress("listing images") as bar:
            return await estimate_prefix(account, prefix, assumptions, bar.advance)


def _show(answer: Estimate, lanes: Mapping[str, Lane]) -> None:
    rows = [
        ("model", f"{answer.model}, detail {answer.detail}"),
        ("images", f"{answer.images:,}"),
        ("left out, not images", f"{answer.left_out:,}"),
        ("instruction files (not counted)", f"{answer.instruction_files:,}"),
        ("image tokens", numbers(answer.image_tokens)),
        *_with_original(answer),
        ("prompt tokens", f"{answer.prompt_tokens:,}"),
        ("output tokens", numbers(answer.output_tokens)),
    ]
    table(("", "estimate"), rows)
    if out.is_terminal:
        out.print()
    table(("service tier", "cost", "time"), [(tier, lane.cost, lane.time) for tier, lane in lanes.items()])
    for number, sentence in enumerate(answer.how_sure):
        say(f"  - {sentence}" if number else f"{sentence}")
    say("The times, if:")
    for tier, lane in lanes.items():
        say(f"  - {tier}: {lane.condition}")


def _with_original(answer: Estimate) -> list[tuple[str, str]]:
    """A row on what detail original would cost, if it makes a difference."""
    tokens = answer.image_tokens_original
    if tokens is None or tokens == answer.image_tokens:
        return []
    return [("image tokens, with detail original", numbers(tokens))]


def _as_json(answer: Estimate) -> dict[str, Any]:
    def both(value: Range) -> dict[str, int]:
        return {"low": round(value.low), "high": round(value.high)}

    money = answer.money
    return {
        "model": answer.model,
        "detail": answer.detail,
        "images": answer.images,
        "left_out": answer.left_out,
        "instruction_files": answer.instruction_files,
        "image_tokens": both(answer.image_tokens),
        "image_tokens_original": answer.image_tokens_original and both(answer.image_tokens_original),
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": both(answer.output_tokens),
        "cost": None if money is None else {"low": round(money.low, 6), "high": round(money.high, 6)},
        "currency": CURRENCY,
        "how_sure": list(answer.how_sure),
    }
