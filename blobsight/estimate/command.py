"""What images will cost, before anything is paid."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import click

from blobsight.account import Account, Place, optional_account
from blobsight.estimate.experience import Experience, experience_of
from blobsight.estimate.image_tokens import UNKNOWN, image_tokens, rules_of
from blobsight.estimate.measuring import Size, blob_sizes, file_sizes
from blobsight.estimate.prices import CURRENCY, price_of
from blobsight.estimate.ranges import Range
from blobsight.estimate.text_tokens import MESSAGE_FORMAT, text_tokens
from blobsight.local_files import LeftOut, LocalFile, find_files
from blobsight.terminal import Exit, Trouble, progress, say, table, write_json
from pipeline.listing import ListedBlob, list_page
from pipeline.names import wants_result
from pipeline.settings import DEFAULT_SYSTEM_PROMPT, MOST_OUTPUT_TOKENS, Detail

DEFAULT_MODEL = "gpt-5.6-luna"
"""What infra/ deploys."""

DEFAULT_MAX_OUTPUT_TOKENS = 4096
"""The app's own default."""

ASSUMED_OUTPUT = Range(100, 1000)
"""Tokens of an answer that nothing is known of: from a sentence or two to a page, or less with some reasoning."""

BUILT_IN_INSTRUCTIONS = "Describe this image."

_LEAST_DOUBT = 0.05
"""Prompts are counted roughly, and no two answers are equally long."""

SAMPLE = 200
"""Images in a container whose sizes are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """How the images will be analyzed."""

    model: str | None = None
    """The model, with or without its version, not the deployment. None: what the results so far say, or the default."""
    detail: Detail = "auto"
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    instructions: str | None = None
    """None: as the results so far were asked, or the built-in ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of all images together."""

    images: int
    left_out: int
    """What costs nothing: no images, damaged or too large, and instruction files."""
    model: str
    detail: Detail
    image_tokens: Range
    prompt_tokens: int
    output_tokens: Range
    money: Range | None
    """In US dollars; None if no price of the model is known."""
    how_sure: Sequence[str] = field(default=())
    """Sentences: what it is built on, most important first."""

    @property
    def in_short(self) -> str:
        """For example "1,200 images with gpt-5.6-luna: 2.21 to 7.93 USD"."""
        cost = said(self.money) if self.money else f"price not known, {_numbers(self.tokens)} tokens"
        return f"{self.images:,} images with {self.model}: {cost}"

    @property
    def tokens(self) -> Range:
        """Of everything: image, prompt, output."""
        return Range(
            self.image_tokens.low + self.prompt_tokens + self.output_tokens.low,
            self.image_tokens.high + self.prompt_tokens + self.output_tokens.high,
        )


async def estimate_blobs(account: Account, blobs: Sequence[ListedBlob], assumptions: Assumptions) -> Estimate:
    """What it costs to analyze `blobs` of the input container, from the sizes of a random sample of them.

    Raises:
        AzureError: as the SDK gives it.
    """
    wanted = [blob for blob in blobs if wants_result(blob.name)]
    sample = random.Random(0).sample(wanted, min(SAMPLE, len(wanted)))  # noqa: S311 - no secret, and the same each time
    return await _from_sample(account, sample, len(wanted), len(blobs) - len(wanted), "", assumptions)


async def _from_sample(  # noqa: PLR0913, PLR0917 - what two callers know
    account: Account, sample: Sequence[ListedBlob], images: int, left_out: int, prefix: str, assumptions: Assumptions
) -> Estimate:
    sizes, experience = await asyncio.gather(
        blob_sizes(account.images, sample), _experience(account, prefix, assumptions)
    )
    return estimated(sizes, images, left_out, assumptions, experience)


async def _experience(account: Account, prefix: str, assumptions: Assumptions) -> Experience | None:
    """What results near these images tell, or else all results."""
    for where in dict.fromkeys((prefix, "")):
        found = await experience_of(
            account.results, where, model=assumptions.model, instructions=assumptions.instructions
        )
        if found:
            return found
    return None


def estimated(
    sizes: Counter[Size | None],
    files: int,
    left_out: int,
    assumptions: Assumptions,
    experience: Experience | None = None,
) -> Estimate:
    """The estimate for `files` files, of which `sizes` are known: all of them or a random sample.

    Args:
        sizes: how many have which size; None for what costs nothing.
        files: how many there are in all.
        left_out: files that are known to cost nothing and are not among `files`.
        assumptions: how they will be analyzed.
        experience: what results so far tell, if any do.
    """
    looked_at = sizes.total()
    seen = looked_at - sizes[None]
    images = round(files * seen / looked_at) if looked_at else 0
    model = assumptions.model or (experience.model if experience else DEFAULT_MODEL)
    for_images = _image_tokens(sizes, images, model, assumptions.detail, experience)
    output = _output_tokens(assumptions, experience)
    prompt = _prompt_tokens(assumptions, experience)
    money = _money(model, images, for_images, prompt, output)
    return Estimate(
        images=images,
        left_out=left_out + files - images,
        model=model,
        detail=assumptions.detail,
        image_tokens=for_images.scaled(images),
        prompt_tokens=round(prompt * images),
        output_tokens=output.scaled(images),
        money=money,
        how_sure=tuple(_how_sure(model, money, files - looked_at and seen, assumptions, experience)),
    )


def _image_tokens(
    sizes: Counter[Size | None], images: int, model: str, detail: Detail, experience: Experience | None
) -> Range:
    """For one image."""
    rules = rules_of(model) or UNKNOWN
    learned = experience.image_factor if experience else None
    if learned:
        rules = rules[:1]
    costs = {size: image_tokens(*size, rules, detail) for size in sizes if size}
    if not costs:
        return Range.exactly(0)
    low = Range.of_mean([costs[size].low for size in sizes.elements() if size], images).low
    high = Range.of_mean([costs[size].high for size in sizes.elements() if size], images).high
    return Range(low, high).product(learned or Range.exactly(1))


def _prompt_tokens(assumptions: Assumptions, experience: Experience | None) -> float:
    """For one image."""
    if assumptions.instructions is None and experience:
        instructions = experience.instruction_tokens
    else:
        instructions = text_tokens(assumptions.instructions or BUILT_IN_INSTRUCTIONS)
    return text_tokens(DEFAULT_SYSTEM_PROMPT) + instructions + MESSAGE_FORMAT


def _output_tokens(assumptions: Assumptions, experience: Experience | None) -> Range:
    """For one image."""
    output = (experience.output_tokens if experience else None) or ASSUMED_OUTPUT
    most = assumptions.max_output_tokens
    return Range(min(output.low, most), min(output.high, most))


def _money(model: str, images: int, for_images: Range, prompt: float, output: Range) -> Range | None:
    price = price_of(model)
    if price is None:
        return None
    return Range(
        float(price(for_images.low + prompt, output.low)) * images,
        float(price(for_images.high + prompt, output.high)) * images,
    )


def _how_sure(
    model: str, money: Range | None, sampled: int, assumptions: Assumptions, experience: Experience | None
) -> list[str]:
    said_of = []
    if money is None:
        said_of.append(f"No price of '{model}' is known: name the model that your deployment has with --model.")
    elif money.high:
        off = max(_LEAST_DOUBT, (money.high - money.low) / (money.high + money.low))
        said_of.append(f"The bill should come within {off:.0%} of the middle of this range, provided that:")
    if experience and experience.output_tokens:
        alike = "" if assumptions.instructions is None else " to the same instructions"
        said_of.append(f"answers are as long as the {experience.answers} so far{alike}.")
    else:
        said_of.append(
            f"answers have {ASSUMED_OUTPUT.low:,.0f} to {ASSUMED_OUTPUT.high:,.0f} tokens, reasoning included: a guess,"
            " since no results like these tell. Analyze a few images and ask again."
        )
    said_of.append(_how_sure_of_images(model, experience))
    if sampled:
        said_of.append(f"the others have sizes like the {sampled:,} images that were looked at.")
    if assumptions.instructions is None and not experience:
        said_of.append(f"instructions are about as short as '{BUILT_IN_INSTRUCTIONS}': give yours with --instructions.")
    if money is not None:
        said_of.append(
            f"you pay list prices (global standard; genai-prices {version('genai-prices')}): batch and discounts cost"
            " less, regional deployments more."
        )
    return said_of


def _how_sure_of_images(model: str, experience: Experience | None) -> str:
    rules = rules_of(model)
    if not rules:
        return f"images cost '{model}' about what they cost other models: no rule for it is published."
    if experience and experience.image_factor:
        low, high = (f"{factor:.2f}" for factor in experience.image_factor)
        return f"images cost {low if low == high else f'{low} to {high}'} times what is published, as they did so far."
    if len(rules) > 1:
        return "images cost what OpenAI publishes or what callers have measured, which differ for this model."
    return "images cost what OpenAI publishes."


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--in-container", "prefix", metavar="PREFIX", help="Images that are uploaded already; '' for all of them."
)
@click.option("--model", help="The model behind the deployment.  [default: what answered so far, or gpt-5.6-luna]")
@click.option("--detail", type=click.Choice(["auto", "low", "high"]), default="auto", show_default=True)
@click.option(
    "--max-output-tokens",
    type=click.IntRange(1, MOST_OUTPUT_TOKENS),
    default=DEFAULT_MAX_OUTPUT_TOKENS,
    show_default=True,
)
@click.option("-i", "--instructions", help="What will be asked.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@optional_account
def estimate(  # noqa: PLR0913, PLR0917 - click passes each option by name
    place: Place | None,
    paths: tuple[str, ...],
    prefix: str | None,
    model: str | None,
    detail: Detail,
    max_output_tokens: int,
    instructions: str | None,
    *,
    as_json: bool,
) -> Exit:
    """Say what images will cost before you pay: tokens and money.

    \b
    blobsight estimate photos/
    blobsight estimate photos/ scan.png --model gpt-5.1 --detail low
    blobsight estimate "photos/**/*.jpg" --instructions "Which brand is it?" --json
    blobsight estimate --local --in-container 2026/invoices/

    PATHs are files, folders, globs, or - for a list on stdin, as for `blobsight upload`. No account is needed for them;
    with one, the estimate is better, since it learns from the results in it how long answers are and what images cost.
    """  # noqa: D301 - click's mark of lines to leave alone
    if bool(paths) == (prefix is not None):
        raise click.UsageError("Give paths on this machine, or --in-container PREFIX.")
    assumptions = Assumptions(
        model=model, detail=detail, max_output_tokens=max_output_tokens, instructions=instructions
    )
    if prefix is None:
        answer, problems = _of_files(place, paths, assumptions)
    elif place is None:
        raise click.UsageError("--in-container needs an account: give --account NAME or --local.")
    else:
        answer, problems = asyncio.run(_of_prefix(place, prefix, assumptions)), []
    for problem in problems:
        say(f"{problem.path}: {problem.reason}", "red")
    if not answer.images:
        raise Trouble("There are no images in what you named: nothing to pay for.")
    _show(answer, as_json=as_json)
    return Exit.SOME_FAILED if problems else Exit.DONE


def _of_files(
    place: Place | None, paths: Sequence[str], assumptions: Assumptions
) -> tuple[Estimate, Sequence[LeftOut]]:
    experience = asyncio.run(_experience_of(place, assumptions)) if place else None
    problems: list[LeftOut] = []
    left_out = 0

    def images() -> Iterator[LocalFile]:
        nonlocal left_out
        for found in find_files(paths, sys.stdin):
            if isinstance(found, LeftOut):
                if found.problem:
                    problems.append(found)
            elif wants_result(found.name):
                yield found
            else:
                left_out += 1

    sizes: Counter[Size | None] = Counter()
    with progress("looking at images") as bar:
        for file, size in file_sizes(images()):
            if isinstance(size, OSError):
                problems.append(LeftOut(str(file.path), f"it can't be read ({size.strerror or size})"))
            else:
                sizes[size] += 1
            bar.advance()
    return estimated(sizes, sizes.total(), left_out, assumptions, experience), problems


async def _experience_of(place: Place, assumptions: Assumptions) -> Experience | None:
    async with place.opened() as account:
        return await _experience(account, "", assumptions)


async def _of_prefix(place: Place, prefix: str, assumptions: Assumptions) -> Estimate:
    async with place.opened() as account:
        sample: list[ListedBlob] = []
        images = left_out = 0
        chance = random.Random(0)  # noqa: S311 - no secret, and the same each time
        token: str | None = None
        with progress("listing images") as bar:
            while True:
                page = await list_page(account.images, token, metadata=False, prefix=prefix)
                for blob in page.blobs:
                    if not wants_result(blob.name):
                        left_out += 1
                        continue
                    images += 1
                    # A reservoir: each image is as likely in it as any other, however many there are.
                    if len(sample) < SAMPLE:
                        sample.append(blob)
                    elif (at := chance.randrange(images)) < SAMPLE:
                        sample[at] = blob
                bar.advance(len(page.blobs))
                token = page.next_token
                if token is None:
                    break
        return await _from_sample(account, sample, images, left_out, prefix, assumptions)


def _show(answer: Estimate, *, as_json: bool) -> None:
    if as_json:
        write_json(_as_json(answer))
        return
    rows = [
        ("model", f"{answer.model}, detail {answer.detail}"),
        ("images", f"{answer.images:,}"),
        ("left out, no images", f"{answer.left_out:,}"),
        ("image tokens", _numbers(answer.image_tokens)),
        ("prompt tokens", f"{answer.prompt_tokens:,}"),
        ("output tokens", _numbers(answer.output_tokens)),
        ("cost", said(answer.money) if answer.money else "not known"),
    ]
    table(("", "estimate"), rows)
    for number, sentence in enumerate(answer.how_sure):
        say(f"  - {sentence}" if number else f"{sentence}")


def _as_json(answer: Estimate) -> dict[str, Any]:
    def both(value: Range) -> dict[str, int]:
        return {"low": round(value.low), "high": round(value.high)}

    money = answer.money
    return {
        "model": answer.model,
        "detail": answer.detail,
        "images": answer.images,
        "left_out": answer.left_out,
        "image_tokens": both(answer.image_tokens),
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": both(answer.output_tokens),
        "cost": None if money is None else {"low": round(money.low, 6), "high": round(money.high, 6)},
        "currency": CURRENCY,
        "how_sure": list(answer.how_sure),
    }


def said(money: Range) -> str:
    """For example "2.21 to 7.93 USD"."""
    digits = 2 if money.high >= 1 else 4
    low, high = (f"{value:,.{digits}f}" for value in money)
    return f"{low} {CURRENCY}" if low == high else f"{low} to {high} {CURRENCY}"


def _numbers(value: Range) -> str:
    low, high = (f"{each:,.0f}" for each in value)
    return low if low == high else f"{low} to {high}"
