"""The page of an evaluation, with the pictures from where a trial's images are."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from blobsight.account import Place
from blobsight.evaluate.overview import Asked
from blobsight.evaluate.page import About, write_page
from blobsight.evaluate.scores import Evaluation
from blobsight.pages.one_file import THUMBNAIL_SIDE
from blobsight.pictures.pictures import Picture, Pictures
from blobsight.terminal import progress
from blobsight.trials.asking import Answers
from blobsight.trials.models import Models
from blobsight.trials.record import Trial
from blobsight.trials.showing import measures
from blobsight.trials.steps import Tried


async def write_trial_page(  # noqa: PLR0913, PLR0917 - what the page is about
    place: Place, path: Path, found: Evaluation, outcome: Tried, models: Models, notes: Sequence[str], *, second: bool
) -> None:
    """Write the page to `path`, over an earlier file.

    Raises:
        Trouble: any failure of the account, explained.
        OSError: the file can't be written.
    """
    trial, answers = outcome.trial, outcome.answers
    images = {image.name: image for image in trial.images}
    sizes = {name: _size(answers, trial, name) for name in images}
    about = replace(_about(trial, answers, models, second=second), notes=notes)
    async with place.opened() as account, AsyncExitStack() as stack:
        pictures = {
            container: await stack.enter_async_context(Pictures(account.blobs.get_container_client(container)))
            for container in {image.container for image in images.values()}
        }

        async def picture(name: str) -> Picture | None:
            image = images[name]
            etag = image.etag or ""
            return await pictures[image.container].thumbnail(image.blob, etag, sizes[name], side=THUMBNAIL_SIDE)

        with progress("Writing the page", len(images)) as bar:
            await write_page(path, found, about, picture, bar.advance)


def _size(answers: Answers, trial: Trial, name: str) -> int:
    """Bytes of the image, as a result says."""
    results = (answers.get((variant.id, name)) for variant in trial.variants)
    sizes = (result["source"].get("size_bytes") for result in results if isinstance(result, Mapping))
    return next((size for size in sizes if size), 0)


def _about(trial: Trial, answers: Answers, models: Models, *, second: bool) -> About:
    asked = []
    for variant, sums in measures(trial, answers, models):
        tokens = None
        if sums.input_tokens is not None and sums.output_tokens is not None:
            tokens = sums.input_tokens, sums.output_tokens
        asked.append(
            Asked(
                variant.label,
                variant.instructions,
                variant.options.model_dump(by_alias=True, exclude_none=True),
                tokens,
                sums.usd_per_1000,
                sums.median_ms / 1000 if sums.median_ms is not None else None,
            )
        )
    return About(trial.name, datetime.now(UTC), asked, is_second_opinion=second)
