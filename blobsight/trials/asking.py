"""Asking what is not answered yet: images up, requests out, and answers as they come.

A question has one place for its answer, so a run that was stopped goes on where it was, and nothing is paid twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobProperties, ContentSettings

from blobsight.account import Account, affects_all
from blobsight.following import CHANGE_SECONDS, HINT_AFTER_SECONDS, LOOK_EVERY_SECONDS
from blobsight.image_states import odd_ones
from blobsight.local_files import LocalFile
from blobsight.reading import UnreadableError, metadata_of, properties_of, side_by_side
from blobsight.stored_results import read_result
from blobsight.terminal import Problem, Unknown, counted, progress, say
from blobsight.trials.choosing import read_file
from blobsight.trials.record import Trial, TrialImage, answer_name, answers_of
from blobsight.trials.variants import Variant
from pipeline.documents.recognise import is_pdf
from pipeline.errors import ErrorCode
from pipeline.images.recognise import find_picture
from pipeline.job.public import MOST_BYTES, PublicRequest
from pipeline.result import ResultMetadata
from pipeline.storage.listing import listed

GOES_ON = "The app goes on with what was sent; the same command waits for it and asks the rest, and pays nothing twice."
ASKED_ONE_BY_ONE = 100
"""Up to so many answers are looked up one by one; more are listed."""
UPLOADS_AT_ONCE = 4
PASSING = frozenset({ErrorCode.RETRIES_EXHAUSTED, ErrorCode.CRASHED})
"""Failures that say nothing about the question: it is asked again."""


@dataclass(frozen=True, slots=True)
class Question:
    """One variant about one image. `rerun_of` is the ETag of the failed answer that is to be replaced."""

    variant: Variant
    image: TrialImage
    rerun_of: str | None = None

    def request(self) -> PublicRequest:
        return PublicRequest(
            container=self.image.container,
            name=self.image.blob,
            instructions=self.variant.instructions,
            options=self.variant.options,
            trial=self.variant.id,
            rerun_of=self.rerun_of,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer that is there, as its properties say."""

    etag: str
    facts: ResultMetadata


type Answers = dict[tuple[str, str], Mapping[str, Any] | Unknown | None]
"""Results by the variant's id and the image's name; None for one that is not there."""


def too_large(trial: Trial) -> list[str]:
    """What can't be asked because it does not fit into a message, a sentence for each variant."""
    longest = max(trial.images, key=lambda image: len(image.model_dump_json()))
    sizes = ((variant, Question(variant, longest, "0" * 40).request().work_bytes) for variant in trial.variants)
    return [
        f"The question '{variant.label}' takes {size:,} bytes as a message, and may take {MOST_BYTES:,}: shorten its"
        " instructions or its schema."
        for variant, size in sizes
        if size > MOST_BYTES
    ]


async def etags_there(account: Account, trial: Trial) -> dict[str, str]:
    """The ETags of the trial's images that are in their containers already, by their blobs' names.

    Raises:
        AzureError: as the SDK gives it.
    """
    etags = {image.blob: image.etag for image in trial.images if image.etag}

    def take(image: TrialImage, found: BlobProperties | Unknown | None) -> None:
        if found is not None and not isinstance(found, Unknown):
            etags[image.blob] = found.etag.strip('"')

    missing = [image for image in trial.images if image.etag is None]
    await side_by_side(missing, lambda image: properties_of(account.trials, image.blob), take)
    return etags


async def upload(
    account: Account, trial: Trial, files: Mapping[str, LocalFile], etags: dict[str, str], problems: list[Problem]
) -> None:
    """Send the images of this machine that are not there; `etags` gets theirs, by blob.

    Raises:
        AzureError: a failure that affects all.
    """
    missing = [image for image in trial.images if image.blob not in etags]
    with progress("Uploading", len(missing)) as bar:

        def take(image: TrialImage, etag: str | Unknown) -> None:
            bar.advance()
            if isinstance(etag, Unknown):
                problems.append(Problem(image.name, etag))
            else:
                etags[image.blob] = etag

        async def send(image: TrialImage) -> str:
            return await _send(account, image.blob, files[image.blob])

        distinct = list({image.blob: image for image in missing}.values())
        await side_by_side(distinct, send, take, doing="sent", at_once=UPLOADS_AT_ONCE)


async def _send(account: Account, blob: str, file: LocalFile) -> str:
    data = await read_file(file, blob)
    if isinstance(data, Unknown):
        raise UnreadableError(data.reason)
    kind = "application/pdf" if is_pdf(data) else f"image/{find_picture(data)[0]}"
    client = account.trials.get_blob_client(blob)
    try:
        answer = await client.upload_blob(
            data,
            overwrite=True,  # the condition decides
            match_condition=MatchConditions.IfMissing,
            content_settings=ContentSettings(content_type=kind),
        )
    except (ResourceExistsError, ResourceModifiedError):  # by another run, or ours, whose answer was lost
        there = await properties_of(account.trials, blob)
        if there is None:
            raise
        return there.etag.strip('"')
    return str(answer["etag"]).strip('"')


async def unanswered(account: Account, trial: Trial, etags: Mapping[str, str]) -> list[Question]:
    """The questions without an answer about the image's present version, and those whose failure was a passing one.

    Raises:
        AzureError: as the SDK gives it.
    """
    asked = trial.answer_names()
    names = {name for name, (_, image) in asked.items() if image.blob in etags}
    there = await _look(account, trial, names)
    questions = []
    for name, (variant, image) in asked.items():
        answer, etag = there.get(name), etags.get(image.blob)
        if isinstance(answer, Unknown) or (answer and answer.facts.source_etag == etag and not _is_passing(answer)):
            continue
        again = isinstance(answer, Stored) and answer.facts.source_etag == etag
        known = image.model_copy(update={"etag": etag})
        questions.append(Question(variant, known, answer.etag if answer and again else None))
    return questions


def _is_passing(answer: Stored) -> bool:
    return answer.facts.error_code in PASSING


async def _look(account: Account, trial: Trial, names: set[str]) -> dict[str, Stored | Unknown]:
    """The answers with these names that are there, or why it can't be seen."""
    found: dict[str, Stored | Unknown] = {}

    def take(name: str, answer: BlobProperties | Unknown | None) -> None:
        if isinstance(answer, Unknown):
            found[name] = answer
        elif answer is not None:
            found[name] = Stored(answer.etag.strip('"'), ResultMetadata.from_blob(metadata_of(answer)))

    if len(names) <= ASKED_ONE_BY_ONE:
        await side_by_side(sorted(names), lambda name: properties_of(account.trials, name), take)
        return found
    for variant in trial.variants:
        async for page in listed(account.trials, metadata=True, prefix=answers_of(variant)):
            found |= {odd.name: odd.why for odd in odd_ones(page) if odd.name in names}
            found |= {
                blob.name: Stored(blob.etag, ResultMetadata.from_blob(blob.metadata))
                for blob in page.blobs
                if blob.name in names
            }
    return found


async def send_requests(account: Account, questions: Sequence[Question], problems: list[Problem]) -> list[Question]:
    """Queue a request for each question, and return those that were queued.

    Raises:
        Trouble: the address of the queue service is not known.
        AzureError, RetryableFailure: a failure that affects all.
    """
    queue, sent = account.requests, []
    with progress("Asking", len(questions)) as bar:

        def take(question: Question, why: Unknown | None) -> None:
            bar.advance()
            if why is None:
                sent.append(question)
            else:
                problems.append(Problem(question.image.name, why))

        await side_by_side(questions, lambda question: queue.send(question.request(), 0), take, doing="queued")
    return sent


async def follow(account: Account, trial: Trial, questions: Sequence[Question], problems: list[Problem]) -> None:
    """Wait until each question has its answer. Questions about images that have changed meanwhile are let go of.

    Raises:
        AzureError: as the SDK gives it.
    """
    by_question = {(variant.id, image.blob): name for name, (variant, image) in trial.answer_names().items()}
    waiting = {by_question[question.variant.id, question.image.blob]: question for question in questions}
    try:
        with progress("Waiting for answers", len(waiting)) as bar:
            await _follow(account, trial, waiting, problems, bar.advance)
    except asyncio.CancelledError:
        say(f"{counted(len(waiting), 'question')} had no answer yet. {GOES_ON}")
        raise


async def _follow(
    account: Account,
    trial: Trial,
    waiting: dict[str, Question],
    problems: list[Problem],
    advance: Callable[[int], None],
) -> None:
    heard = quiet_since = monotonic()
    hinted = False
    while waiting:
        looked = monotonic()
        came = [name async for name in _came(account, trial, waiting, problems)]
        for name in came:
            del waiting[name]
        advance(len(came))
        if came:
            heard = quiet_since = monotonic()
        elif monotonic() - quiet_since > CHANGE_SECONDS:
            await _let_go_of_changed(account, waiting, problems)
            quiet_since = monotonic()
        if not hinted and monotonic() - heard > HINT_AFTER_SECONDS:
            hinted = True
            say(
                f"No answer for a minute; {counted(len(waiting), 'question')} to go. `blobsight doctor` shows"
                " whether the app works, and its log what it waits for: perhaps a deployment that does not exist."
                " Ctrl-C only stops waiting."
            )
        await asyncio.sleep(max(LOOK_EVERY_SECONDS, 3 * (monotonic() - looked)) if waiting else 0)


async def _came(
    account: Account, trial: Trial, waiting: Mapping[str, Question], problems: list[Problem]
) -> AsyncIterator[str]:
    for name, answer in (await _look(account, trial, set(waiting))).items():
        question = waiting[name]
        if isinstance(answer, Unknown):
            problems.append(Problem(question.image.name, answer))
            yield name
        elif answer.facts.source_etag == question.image.etag and answer.etag != question.rerun_of:
            yield name


async def _let_go_of_changed(account: Account, waiting: dict[str, Question], problems: list[Problem]) -> None:
    images = {question.image.blob: question.image for question in waiting.values()}
    gone: set[str] = set()

    def take(image: TrialImage, found: BlobProperties | Unknown | None) -> None:
        if found is None or (not isinstance(found, Unknown) and found.etag.strip('"') != image.etag):
            gone.add(image.blob)
            why = "it has been replaced or deleted meanwhile: its answers are not waited for"
            problems.append(Problem(image.name, Unknown(why)))

    async def look(image: TrialImage) -> BlobProperties | None:
        container = account.blobs.get_container_client(image.container)
        return await properties_of(container, image.blob)

    await side_by_side(list(images.values())[:ASKED_ONE_BY_ONE], look, take)
    for name in [name for name, question in waiting.items() if question.image.blob in gone]:
        del waiting[name]


async def answers(account: Account, trial: Trial, took: Callable[[], None] = lambda: None) -> Answers:
    """Read the answers of a trial: results as they are stored, those of earlier versions of an image left out.

    Args:
        account: where they are.
        trial: as it was recorded.
        took: called after each that was looked at.

    Raises:
        AzureError: as the SDK gives it.
    """
    by_name: dict[str, Mapping[str, Any] | Unknown | None] = {}
    asked = trial.answer_names()

    async def read(name: str) -> Mapping[str, Any] | None:
        try:
            result = await read_result(account.trials, name)
        except ResourceNotFoundError as error:
            if affects_all(error):
                raise
            return None
        etag: str | None = result["source"].get("etag")
        return result if etag == asked[name][1].etag else None

    def take(name: str, result: Mapping[str, Any] | Unknown | None) -> None:
        by_name[name] = result
        took()

    await side_by_side(list(asked), read, take)
    return {
        (variant.id, image.name): by_name[answer_name(variant, image)]
        for variant in trial.variants
        for image in trial.images
    }
