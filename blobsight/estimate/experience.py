"""Learn the cost of the next images from the results so far."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import ContainerClient
from pydantic import ValidationError

from blobsight.estimate.image_tokens import family, rules_of
from blobsight.estimate.ranges import Range
from blobsight.estimate.text_tokens import text_tokens
from blobsight.reading import side_by_side
from blobsight.stored_results import read_result
from blobsight.terminal import Unknown
from pipeline.result import Result
from pipeline.settings import DEFAULT_SYSTEM_PROMPT
from pipeline.storage.listing import list_page

SAMPLE = 60
"""Most results that are read, out of the first page of the listing."""

FEWEST = 3
"""Fewest results to learn from."""

_DOWNLOADS = 16


@dataclass(frozen=True, slots=True)
class Experience:
    """Means over `results` results with answers of the model `model`."""

    results: int
    model: str
    """Without its version."""
    instruction_tokens: float
    """Mean tokens of the instructions, by our own count."""
    output_tokens: Range | None
    """Mean tokens of an answer, as the service counted. None if too few results have the next images' instructions."""
    answers: int
    """Number of answers behind `output_tokens`."""
    image_factor: Range | None
    """Tokens that the service counted for an image, divided by those of the published rule. None without a rule."""


async def experience_of(
    results: ContainerClient,
    prefix: str = "",
    *,
    model: str | None = None,
    instructions: str | None = None,
    unread: dict[str, Unknown] | None = None,
) -> Experience | None:
    """Learn from results whose names begin with `prefix`. None if there are too few, or they may not be read.

    Args:
        results: the result container.
        prefix: of the images' names.
        model: use only answers of this model. None: of the model with most answers.
        instructions: of the next images. Only answers to the same instructions say how long theirs will be.
        unread: gets the results that can't be read, and why.
    """
    found: list[Result] = []
    failed: dict[str, Unknown] = {}

    def take(name: str, result: Mapping[str, Any] | Unknown) -> None:
        if isinstance(result, Unknown):
            failed[name] = replace(result, reason=f"not used for the estimate: {result.reason}")
        else:
            with suppress(ValidationError):  # of a newer version, perhaps
                found.append(Result.model_validate(result, extra="ignore"))

    try:
        page = await list_page(results, None, metadata=True, prefix=prefix)
        succeeded = [blob.name for blob in page.blobs if blob.metadata.get("status") == "succeeded"]
        # The same question twice gets the same answer.
        names = random.Random(0).sample(succeeded, min(SAMPLE, len(succeeded)))  # noqa: S311 - not a secret
        await side_by_side(names, partial(read_result, results), take, at_once=_DOWNLOADS, in_order=True)
    except HttpResponseError:
        return None  # the results may not be read or don't exist; an estimate is possible without them
    if unread is not None:
        unread |= failed
    return learned(found, model=model, instructions=instructions)


def learned(found: Sequence[Result], *, model: str | None = None, instructions: str | None = None) -> Experience | None:
    """Learn from `found`; see `experience_of`."""
    answered = [
        result
        for result in found
        if result.model.model and result.usage.input_tokens is not None and result.usage.output_tokens is not None
    ]
    if model is None and answered:
        ((model, _),) = Counter(family(result.model.model or "") for result in answered).most_common(1)
    alike = [result for result in answered if family(result.model.model or "") == family(model or "")]
    if model is None or len(alike) < FEWEST:
        return None
    texts = [text_tokens(result.instructions.text or "") for result in alike]
    outputs = [result.usage.output_tokens or 0 for result in alike if instructions in (None, result.instructions.text)]
    return Experience(
        results=len(alike),
        model=family(model),
        instruction_tokens=sum(texts) / len(texts),
        output_tokens=Range.of_mean(outputs) if len(outputs) >= FEWEST else None,
        answers=len(outputs),
        image_factor=_image_factor(alike, model),
    )


def _image_factor(results: Sequence[Result], model: str) -> Range | None:
    published = rules_of(model)[:1]
    if not published:
        return None
    factors = []
    for result in results:
        sent = result.image_sent
        if sent.width and sent.height and sent.detail:
            text = text_tokens(DEFAULT_SYSTEM_PROMPT) + text_tokens(result.instructions.text or "")
            expected = published[0].tokens(sent.width, sent.height, sent.detail).high
            factors.append(max(0, (result.usage.input_tokens or 0) - text) / expected)
    return Range.of_mean(factors) if factors else None
