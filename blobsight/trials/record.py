"""The record of a trial, and where its images and answers are in the container `trials`.

images/<sha256><suffix>                            images of this machine, once whatever they are called
answers/<variant>/<container>/<image>.json         results, written by the app alone
runs/<trial>.json                                  records, written by the command line
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Literal, Self

from azure.core.exceptions import ResourceNotFoundError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from blobsight.account import Account, affects_all
from blobsight.reading import UnreadableError, read_blob, side_by_side
from blobsight.terminal import Problem, Trouble, Unknown, shortened
from blobsight.trials.variants import MOST_VARIANTS, Variant
from pipeline.job.requests import BlobName
from pipeline.names import result_name
from pipeline.storage.listing import listed

RUNS = "runs/"
IMAGES = "images/"
MOST_QUESTIONS = 20_000
"""Variants times images of one trial."""
_MOST_BYTES = 32 * 1024 * 1024
_OWN = re.compile(rf"{IMAGES}[0-9a-f]{{64}}(\.[a-z0-9]{{1,10}})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")


class TrialImage(BaseModel):
    """An image of a trial. `name` is the one that people know; `etag` is None until it is uploaded."""

    model_config = ConfigDict(frozen=True)

    name: str
    container: str = Field(pattern=r"^[a-z0-9$-]{1,63}$")
    blob: BlobName
    etag: str | None = None


class Trial(BaseModel):
    """What was asked about which images."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    name: str = Field(pattern=f"^{_NAME.pattern}$")
    created_at: AwareDatetime
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=MOST_VARIANTS)
    images: tuple[TrialImage, ...]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        """A record may be another person's."""
        if self.number_of_questions > MOST_QUESTIONS:
            raise ValueError(f"it has {self.number_of_questions:,} questions, more than {MOST_QUESTIONS:,}")
        if not MINYEAR < self.created_at.year < MAXYEAR:  # no time in some time zones
            raise ValueError("it is of no time")
        return self

    @property
    def number_of_questions(self) -> int:
        """Images alike counted each."""
        return len(self.variants) * len(self.images)

    @classmethod
    def of(cls, stem: str, variants: Sequence[Variant], images: Sequence[TrialImage]) -> Self:
        """The trial of these variants and images. The same ones give the same name, which begins with `stem`.

        Raises:
            Trouble: there are too many questions.
        """
        if (questions := len(variants) * len(images)) > MOST_QUESTIONS:
            raise Trouble(
                f"{len(variants)} variants of {len(images):,} images are {questions:,} questions, and a trial may have"
                f" {MOST_QUESTIONS:,}: take fewer images."
            )
        parts = [*sorted(variant.id for variant in variants), *sorted(f"{one.container}/{one.blob}" for one in images)]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
        start = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "trial"
        return cls(
            name=f"{start}-{digest}", created_at=datetime.now(UTC), variants=tuple(variants), images=tuple(images)
        )

    def answer_names(self) -> dict[str, tuple[Variant, TrialImage]]:
        """Each question of the trial, by the name of the blob that holds its answer; once for images alike."""
        return {answer_name(variant, image): (variant, image) for variant in self.variants for image in self.images}

    def uses(self, container: str) -> set[str]:
        """The names of the blobs in `container`, that of trials, that belong to the trial."""
        own = {image.blob for image in self.images if image.container == container and _OWN.fullmatch(image.blob)}
        return own | set(self.answer_names())


def answer_name(variant: Variant, image: TrialImage) -> str:
    """The name of the answer, as the app derives it (`pipeline.job.places`)."""
    return result_name(f"{answers_of(variant)}{image.container}/{image.blob}")


def answers_of(variant: Variant) -> str:
    """The folder of all answers to the variant, with its slash."""
    return f"answers/{variant.id}/"


async def write_trial(account: Account, trial: Trial) -> None:
    """Write the record, over an earlier one of the same trial.

    Raises:
        AzureError: as the SDK gives it.
    """
    text = trial.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    await account.trials.upload_blob(f"{RUNS}{trial.name}.json", text.encode(), overwrite=True)


async def is_recorded(account: Account, trial: Trial) -> bool:
    """Whether the trial is recorded already, with these versions of its images.

    Raises:
        AzureError: as the SDK gives it.
    """
    try:
        earlier = await _read(account, f"{RUNS}{trial.name}.json")
    except (ResourceNotFoundError, UnreadableError):
        return False
    return (earlier.variants, earlier.images) == (trial.variants, trial.images)


async def read_trial(account: Account, name: str) -> Trial:
    """The trial called `name`.

    Raises:
        Trouble: there is none, or its record can't be read.
        AzureError: as the SDK gives it.
    """
    unknown = Trouble(f"There is no trial '{shortened(name, 90)}': `blobsight try list` lists those that there are.")
    if not _NAME.fullmatch(name):
        raise unknown
    try:
        return await _read(account, f"{RUNS}{name}.json")
    except ResourceNotFoundError as error:
        if affects_all(error):
            raise
        raise unknown from error
    except UnreadableError as error:
        raise Trouble(f"The record of the trial '{name}' can't be read: {error}.") from error


async def read_trials(account: Account) -> tuple[list[Trial], list[Problem]]:
    """All trials, the newest first, and the records that can't be read.

    Raises:
        AzureError: as the SDK gives it.
    """
    found: dict[str, Trial | Unknown] = {}
    names = [blob.name async for page in listed(account.trials, metadata=False, prefix=RUNS) for blob in page.blobs]
    await side_by_side(names, lambda name: _read(account, name), found.__setitem__)
    trials = [trial for trial in found.values() if isinstance(trial, Trial)]
    problems = [Problem(name, why) for name, why in sorted(found.items()) if isinstance(why, Unknown)]
    return sorted(trials, key=lambda trial: trial.created_at, reverse=True), problems


async def _read(account: Account, blob: str) -> Trial:
    data = (await read_blob(account.trials, blob, most=_MOST_BYTES)).data
    try:
        trial = Trial.model_validate_json(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableError(f"it is not the record of a trial ({shortened(wrong['msg'], 100)})") from error
    if blob != f"{RUNS}{trial.name}.json":
        raise UnreadableError("it is the record of a trial with another name")
    return trial


def with_etags(trial: Trial, etags: Mapping[str, str]) -> Trial:
    """The trial with the ETags of its images, by their blobs' names, without the images that have none."""
    images = (one.model_copy(update={"etag": etags.get(one.blob)}) for one in trial.images)
    return trial.model_copy(update={"images": tuple(one for one in images if one.etag)})
