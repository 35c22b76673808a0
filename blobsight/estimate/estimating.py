"""Estimate the cost of images from their sizes, published rules and prices, and the results so far."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from blobsight.account import Account
from blobsight.estimate.experience import Experience, experience_of
from blobsight.estimate.image_tokens import UNKNOWN, image_tokens, rules_of
from blobsight.estimate.measuring import Size, blob_sizes
from blobsight.estimate.prices import CURRENCY, SHARES, price_of
from blobsight.estimate.ranges import Range
from blobsight.estimate.text_tokens import MESSAGE_FORMAT, text_tokens
from blobsight.image_states import odd_ones
from blobsight.terminal import Problem, Unknown
from pipeline.model.original import takes_original
from pipeline.names import is_instruction_file, wants_result
from pipeline.settings import DEFAULT_SYSTEM_PROMPT, Detail, ServiceTier
from pipeline.storage.facts import ListedBlob
from pipeline.storage.listing import listed

type Advance = Callable[[int], None]

DEFAULT_MODEL = "gpt-5.6-luna"
"""The model that infra/ deploys."""

DEFAULT_MAX_OUTPUT_TOKENS = 4096
"""The app's default."""

ASSUMED_OUTPUT = Range(100, 1000)
"""Tokens of an answer of unknown length: from a sentence or two to a page, or less text with some reasoning."""

BUILT_IN_INSTRUCTIONS = "Describe this image."

_LEAST_DOUBT = 0.05
"""Least relative error: prompts are counted roughly, and answers vary in length."""

SAMPLE = 200
"""Images in a container whose sizes are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """How the images will be analyzed."""

    model: str | None = None
    """The model, with or without its version; not the deployment. None: that of the results so far, or the default."""
    detail: Detail = "auto"
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    instructions: str | None = None
    """None: the instructions of the results so far, or the built-in ones."""
    service_tier: ServiceTier = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimate for all images together."""

    images: int
    left_out: int
    """Files that cost nothing: not images, damaged, too large or unreadable."""
    instruction_files: int = 0
    """Instruction files and schemas, which are not images and not among those left out."""
    size_bytes: int = 0
    """Of the images, as they are stored; 0 where the caller did not say."""
    model: str
    detail: Detail
    service_tier: ServiceTier = "default"
    image_tokens: Range
    image_tokens_original: Range | None = None
    """What they would be with detail `original`. None if that is the detail, or the model is not known to take it."""
    prompt_tokens: int
    output_tokens: Range
    money: Range | None
    """US dollars; None if the price of the model or the tier is not known."""
    how_sure: Sequence[str] = field(default=())
    """Sentences on the estimate's assumptions, most important first."""
    problems: Sequence[Problem] = field(default=())
    """Images and results that could not be read and are not part of the estimate."""

    @property
    def in_short(self) -> str:
        """For example "1,200 images with gpt-5.6-luna: 2.21 to 7.93 USD"."""
        cost = said(self.money) if self.money else f"price not known, {numbers(self.tokens)} tokens"
        tier = "" if self.service_tier == "default" else f", tier {self.service_tier}"
        return f"{self.images:,} image{'' if self.images == 1 else 's'} with {self.model}{tier}: {cost}"

    @property
    def tokens(self) -> Range:
        """All tokens: image, prompt, output."""
        return Range(
            self.image_tokens.low + self.prompt_tokens + self.output_tokens.low,
            self.image_tokens.high + self.prompt_tokens + self.output_tokens.high,
        )


async def estimate_blobs(account: Account, blobs: Sequence[ListedBlob], assumptions: Assumptions) -> Estimate:
    """Estimate the cost of analyzing `blobs` of the input container, from the sizes of a random sample of them.

    Raises:
        AzureError: as the SDK gives it.
    """
    wanted = [blob for blob in blobs if wants_result(blob.name)]
    sample = random.Random(0).sample(wanted, min(SAMPLE, len(wanted)))  # noqa: S311 - not a secret, and reproducible
    return await _from_sample(account, sample, len(wanted), len(blobs) - len(wanted), "", assumptions)


async def estimate_prefix(account: Account, prefix: str, assumptions: Assumptions, advance: Advance) -> Estimate:
    """Estimate the cost of all blobs whose names start with `prefix`. `advance` gets the number of blobs listed.

    Raises:
        AzureError: as the SDK gives it.
    """
    sample: list[ListedBlob] = []
    odd: list[Problem] = []
    images = left_out = instruction_files = size_bytes = 0
    chance = random.Random(0)  # noqa: S311 - not a secret, and reproducible
    async for page in listed(account.images, metadata=False, prefix=prefix):
        odd += odd_ones(page)
        for blob in page.blobs:
            if is_instruction_file(blob.name):
                instruction_files += 1
                continue
            if not wants_result(blob.name):
                left_out += 1
                continue
            images += 1
            size_bytes += blob.size
            # Reservoir sampling: each image is in the sample with the same chance.
            if len(sample) < SAMPLE:
                sample.append(blob)
            elif (at := chance.randrange(images)) < SAMPLE:
                sample[at] = blob
        advance(len(page.blobs))
    estimate = await _from_sample(account, sample, images, left_out, prefix, assumptions)
    return replace(
        estimate,
        instruction_files=instruction_files,
        size_bytes=round(size_bytes * estimate.images / images) if images else 0,
        problems=(*odd, *estimate.problems),
    )


async def _from_sample(  # noqa: PLR0913, PLR0917 - what two callers know
    account: Account, sample: Sequence[ListedBlob], images: int, left_out: int, prefix: str, assumptions: Assumptions
) -> Estimate:
    (sizes, problems), (experience, unread) = await asyncio.gather(
        blob_sizes(account.images, sample), experience_near(account, prefix, assumptions)
    )
    estimate = estimated(sizes, images, left_out, assumptions, experience)
    return replace(estimate, problems=(*problems, *unread))


async def experience_near(
    account: Account, prefix: str, assumptions: Assumptions
) -> tuple[Experience | None, list[Problem]]:
    """Learn from the results of images with this prefix, or else from all. Returns also those that can't be read."""
    unread: dict[str, Unknown] = {}
    experience: Experience | None = None
    for where in dict.fromkeys((prefix, "")):
        experience = await experience_of(
            account.results, where, model=assumptions.model, instructions=assumptions.instructions, unread=unread
        )
        if experience:
            break
    return experience, [Problem(name, why) for name, why in unread.items()]


def estimated(
    sizes: Counter[Size | None],
    files: int,
    left_out: int,
    assumptions: Assumptions,
    experience: Experience | None = None,
) -> Estimate:
    """Make the estimate for `files` files. The `sizes` of all of them, or of a random sample, are known.

    Args:
        sizes: the number of files of each size; None for those that cost nothing.
        files: their total number.
        left_out: files that are known to cost nothing and are not among `files`.
        assumptions: how they will be analyzed.
        experience: learned from the results so far, if there are enough.
    """
    looked_at = sizes.total()
    seen = looked_at - sizes[None]
    images = round(files * seen / looked_at) if looked_at else 0
    model = assumptions.model or (experience.model if experience else DEFAULT_MODEL)
    for_images = _image_tokens(sizes, images, model, assumptions.detail, experience)
    output = _output_tokens(assumptions, experience)
    prompt = _prompt_tokens(assumptions, experience)
    money = _money(model, assumptions.service_tier, images, for_images, prompt, output)
    original = None
    if assumptions.detail != "original" and takes_original(model):
        original = _image_tokens(sizes, images, model, "original", experience).scaled(images)
    return Estimate(
        images=images,
        left_out=left_out + files - images,
        model=model,
        detail=assumptions.detail,
        service_tier=assumptions.service_tier,
        image_tokens=for_images.scaled(images),
        image_tokens_original=original,
        prompt_tokens=round(prompt * images),
        output_tokens=output.scaled(images),
        money=money,
        how_sure=tuple(_how_sure(model, money, files - looked_at and seen, assumptions, experience)),
    )


def _image_tokens(
    sizes: Counter[Size | None], images: int, model: str, detail: Detail, experience: Experience | None
) -> Range:
    """For one image: a mean."""
    rules = rules_of(model) or UNKNOWN
    learned = experience.image_factor if experience else None
    if learned:
        rules = rules[:1]
    costs = {size: image_tokens(size.width, size.height, rules, detail).scaled(size.pages) for size in sizes if size}
    if not costs:
        return Range.exactly(0)
    low = Range.of_mean([costs[size].low for size in sizes.elements() if size], images).low
    high = Range.of_mean([costs[size].high for size in sizes.elements() if size], images).high
    return Range(low, high).product(learned or Range.exactly(1))


def _prompt_tokens(assumptions: Assumptions, experience: Experience | None) -> float:
    """For one image: a mean."""
    if assumptions.instructions is None and experience:
        instructions = experience.instruction_tokens
    else:
        instructions = text_tokens(assumptions.instructions or BUILT_IN_INSTRUCTIONS)
    return text_tokens(DEFAULT_SYSTEM_PROMPT) + instructions + MESSAGE_FORMAT


def _output_tokens(assumptions: Assumptions, experience: Experience | None) -> Range:
    """For one image: a mean."""
    output = (experience.output_tokens if experience else None) or ASSUMED_OUTPUT
    most = assumptions.max_output_tokens
    return Range(min(output.low, most), min(output.high, most))


def _money(  # noqa: PLR0913, PLR0917 - what a bill is made of
    model: str, tier: ServiceTier, images: int, for_images: Range, prompt: float, output: Range
) -> Range | None:
    price = price_of(model, tier)
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
    if assumptions.service_tier not in SHARES:
        said_of.append(f"The price of the service tier '{assumptions.service_tier}' is not known here.")
    elif money is None:
        said_of.append(f"The price of '{model}' is not known: give the model behind your deployment with --model.")
    elif money.high:
        middle = (money.high + money.low) / 2
        off = max(_LEAST_DOUBT * middle, money.high - middle)
        said_of.append(f"Expect {said(Range(middle - off, middle + off))} if:")
    if experience and experience.output_tokens:
        alike = "" if assumptions.instructions is None else " to the same instructions"
        said_of.append(f"answers are as long as the {experience.answers} so far{alike}.")
    else:
        said_of.append(
            f"answers have {ASSUMED_OUTPUT.low:,.0f} to {ASSUMED_OUTPUT.high:,.0f} tokens, reasoning included: a guess,"
            " since there are too few such results. Analyze a few images, then estimate again."
        )
    said_of.append(_how_sure_of_images(model, experience))
    if sampled:
        said_of.append(f"the other images have sizes like the {sampled:,} that were read.")
    if assumptions.instructions is None and not experience:
        said_of.append(f"instructions are about as long as '{BUILT_IN_INSTRUCTIONS}': give yours with --instructions.")
    if money is not None:
        half = "" if assumptions.service_tier == "default" else f", half of them for {assumptions.service_tier}"
        said_of.append(
            f"you pay list prices (global standard; genai-prices {version('genai-prices')}{half}): discounts cost less,"
            " regional deployments more."
        )
    return said_of


def _how_sure_of_images(model: str, experience: Experience | None) -> str:
    rules = rules_of(model)
    if not rules:
        return f"images cost about as many tokens with '{model}' as with other models: it has no published rule."
    if experience and experience.image_factor:
        low, high = (f"{factor:.2f}" for factor in experience.image_factor)
        return f"images cost {low if low == high else f'{low} to {high}'} times what is published, as they did so far."
    if len(rules) > 1:
        return "images cost what OpenAI publishes or what callers have measured, which differ for this model."
    return "images cost what OpenAI publishes."


def said(money: Range) -> str:
    """For example "2.21 to 7.93 USD"."""
    digits = 2 if money.high >= 1 else 4
    low, high = (f"{value:,.{digits}f}" for value in money)
    return f"{low} {CURRENCY}" if low == high else f"{low} to {high} {CURRENCY}"


def numbers(value: Range) -> str:
    low, high = (f"{each:,.0f}" for each in value)
    return low if low == high else f"{low} to {high}"
