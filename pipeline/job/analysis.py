"""The job: from the name of an uploaded image to its result."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

from pipeline.errors import ErrorCode, NotTried, PermanentFailure, RetryableFailure
from pipeline.images import ImageLimits, too_many_bytes
from pipeline.instructions import Files, InstructionSources
from pipeline.instructions.options import Options
from pipeline.job.answering import Answerer, Failing, Interrupted, ModelAnswerer, VisionModel
from pipeline.job.memory import Budget, Content
from pipeline.job.race import Ended, Outcome, Race, Results, Versions, is_done
from pipeline.job.requests import Request
from pipeline.job.work import Answered, Asked, NotAsked, Stopwatch, Work, assemble, unknown_source
from pipeline.model.question import Question
from pipeline.names import image_of_sidecar, result_name, wants_result
from pipeline.result import Result, ResultMetadata
from pipeline.settings import Settings
from pipeline.storage.facts import (
    Claim,
    ClaimedElsewhere,
    OpenedUpload,
    StoredResult,
    Upload,
    VersionGone,
    first_read_bytes,
)
from pipeline.telemetry import Attempt, analyzing, count_taken_over

logger = logging.getLogger("pipeline.analysis")  # a name that people's queries match (docs/operations.md)

MOST_GROWTH_SECONDS = 600.0
"""For how long a blob that is written in pieces is waited for; one that grows longer is analyzed as it is."""
HASHED_AT_ONCE_BYTES = 1024 * 1024
"""What is hashed on the event loop, in half a millisecond; more is hashed in a thread."""


class Uploads(Files, Versions, Protocol):
    """Where images come from; see `pipeline.storage.uploads.Uploads`."""

    container: str

    async def open(self, name: str) -> OpenedUpload | None: ...
    async def listed(self, name: str) -> Upload | None: ...


class Claims(Protocol):
    """Who works on what; see `pipeline.storage.claims.Claims`."""

    def held(self, key: str) -> AbstractAsyncContextManager[Claim]: ...


class NotSettled(NotTried):
    """The blob is still being written: it is looked at again after a pause."""


class Analyzer:
    """The use case, once per process.

    It works on at most `settings.max_concurrency` images at a time, and holds at most `settings.image_memory_bytes` of
    them. Half is divided evenly among first reads, enough for nearly every image; the other half is one pool for larger
    ones. No image waits for one half while it holds part of the other, so they can't deadlock.

    Args:
        patience: seconds to wait for memory; an image that would wait longer gets `NoMemory`.
    """

    def __init__(  # noqa: PLR0913 - the parts of the app, and by keyword a time
        self,
        settings: Settings,
        uploads: Uploads,
        results: Results,
        claims: Claims,
        model: VisionModel,
        *,
        patience: float = 30.0,
    ) -> None:
        self._settings = settings
        self._uploads = uploads
        self._results = results
        self._claims = claims
        self._sources = InstructionSources(uploads, settings.default_instructions)
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._first_read = first_read_bytes(settings.image_memory_bytes, settings.max_concurrency)
        self._memory = Budget(settings.image_memory_bytes // 2, patience=patience)
        self._model = ModelAnswerer(settings, model, self._memory)
        self._limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)

    async def analyze(
        self, request: Request, answerer: Answerer | None = None, attempt: Attempt | None = None
    ) -> Outcome:
        """Bring the requested upload to its result; an upload that is an image's sidecar, that image.

        A sidecar of no image, whose name shows that it will never have one, ends in a failed result of its own.

        Args:
            request: names the upload; what it asks comes before what the upload itself says.
            answerer: what answers instead of the model: `Failing`, when the work is given up.
            attempt: is told what was found out, so that the caller knows it after a failure, too.

        Raises:
            RetryableFailure: nothing is written and the same call may succeed later.
        """
        name = image_of_sidecar(request.name) or request.name
        attempt = attempt or Attempt(self._uploads.container, name, request.attempt)
        attempt.name = name
        with analyzing(attempt):
            if wants_result(name):
                async with self._slots:
                    answers = answerer or self._model
                    ended = await self._bring_to_result(name, request, answers, attempt)
                    if ended.outcome is Outcome.GONE and name != request.name:
                        ended = await self._end_misnamed(request, answers, attempt)
            else:
                ended = Ended(Outcome.NOT_AN_IMAGE)
            attempt.outcome, attempt.error_code = ended.outcome, ended.error_code
            logger.info("%s", attempt, extra=attempt.fields())
        return ended.outcome

    async def analyze_bytes(self, data: bytes, content_type: str | None, asked: str | None) -> Result:
        """The result for an image that came by HTTP; nothing is read from storage or written to it.

        Raises:
            RetryableFailure: the same call may succeed later.
        """
        digest, watch = await _sha256(data), Stopwatch()
        source = unknown_source(None, None).model_copy(
            update={"size_bytes": len(data), "content_type": content_type, "sha256": digest}
        )
        attempt = Attempt("http", "process_image", 1, steps=watch.steps)
        with analyzing(attempt):
            async with self._slots:
                work = Work(source, digest, await self._asked(None, {}, asked))
                try:
                    answered = await self._model.answer(work.asked, Content(data, AsyncExitStack()), watch)
                except Interrupted as interrupted:
                    raise interrupted.cause from None
            result = assemble(work, answered, attempts=1, watch=watch)
            attempt.work_key, attempt.outcome = result.work_key, result.status
            attempt.error_code = result.error.code if result.error else None
            logger.info("%s", attempt, extra=attempt.fields())
        return result

    async def record_failure(self, request: Request, failure: PermanentFailure) -> Outcome:
        """Write `failure` as the result of the requested upload: the last resort, which needs nothing that may fail.

        It goes by what the container's listing says of the upload, or, when that can't be had, by its name alone.

        Raises:
            RetryableFailure: the result can't be written.
        """
        name = image_of_sidecar(request.name) or request.name
        if not wants_result(name):
            return Outcome.NOT_AN_IMAGE
        not_asked = NotAsked(self._settings.openai_deployment, failure)
        while True:
            # In this order, so that a result which is replaced can't be one of a newer version than is listed.
            stored = await self._results.find(result_name(name))
            try:
                upload = await self._uploads.listed(name)
            except RetryableFailure as unlisted:
                if stored:
                    return Outcome.ALREADY_DONE
                logger.warning("%s: %s Its failed result says no more than its name.", name, unlisted.message)
                work = Work(unknown_source(self._uploads.container, name), "unknown", not_asked)
            else:
                if upload is None:
                    return Outcome.GONE
                if stored and stored.facts.source_etag == upload.etag:
                    return Outcome.ALREADY_DONE
                work = Work.on(upload, not_asked)
            result = assemble(work, Answered(failure), attempts=request.attempt, watch=Stopwatch())
            if await self._write(result_name(name), result, replacing=stored):
                return Outcome.FAILED

    async def record_unreadable(self, message: str, problem: str) -> None:
        """Write a failed result for a request that names no upload, so that people find it."""
        digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
        failure = PermanentFailure(
            ErrorCode.CRASHED,
            f"A message on the request queue can't be understood: {problem}. Correct whatever sends it.",
            {"message": message[:1000]},
        )
        work = Work(unknown_source(None, None), digest, NotAsked(self._settings.openai_deployment, failure))
        result = assemble(work, Answered(failure), attempts=1, watch=Stopwatch())
        name = f"unreadable-requests/{digest}.json"
        await self._write(name, result, replacing=None)
        logger.error(
            "%s: a message on the request queue can't be understood",
            name,
            extra={"error_code": ErrorCode.CRASHED.value},
        )

    async def _write(self, name: str, result: Result, replacing: StoredResult | None) -> bool:
        return await self._results.write(
            name, result.to_json(), ResultMetadata.of(result).to_blob(), replacing=replacing
        )

    async def _end_misnamed(self, request: Request, answerer: Answerer, attempt: Attempt) -> Ended:
        """Bring a sidecar to a failed result of its own, if its image is not only yet to come."""
        if await self._sources.misnamed(request.name) is None:
            return Ended(Outcome.GONE)
        attempt.name = request.name
        return await self._bring_to_result(request.name, request, answerer, attempt)

    async def _bring_to_result(self, name: str, request: Request, answerer: Answerer, attempt: Attempt) -> Ended:
        while True:
            opened = await self._uploads.open(name)
            if opened is None:
                return Ended(Outcome.GONE)
            watch = Stopwatch()
            work = Work.on(
                opened.facts, await self._asked(name, opened.facts.metadata, request.instructions, request.options)
            )
            attempt.work_key, attempt.steps = work.key, watch.steps
            async with AsyncExitStack() as reserved:
                content, answers = Content(b"", reserved), answerer
                try:
                    if isinstance(work.asked, Asked):
                        content = await self._read(opened, reserved, watch)
                        work = work.with_content(await _sha256(content.data))
                except PermanentFailure as failure:
                    answers = Failing(failure)
                except VersionGone:
                    continue
                try:
                    async with self._claimed(work, opened.facts, request, attempt, watch) as race:
                        ended = await race.run(answers, content)
                except ClaimedElsewhere:
                    # Duplicates of what is done would otherwise put each other off, again and again.
                    if is_done(work, request, await self._results.find(result_name(name))):
                        return Ended(Outcome.ALREADY_DONE)
                    raise
            if ended.outcome is not Outcome.CHANGED:
                return ended

    @asynccontextmanager
    async def _claimed(
        self, work: Work, upload: Upload, request: Request, attempt: Attempt, watch: Stopwatch
    ) -> AsyncIterator[Race]:
        async def is_still_asked() -> bool:
            current = await self._uploads.look(upload.name)
            if current is None or current.etag != upload.etag:
                return False
            asked = await self._asked(upload.name, current.metadata, request.instructions, request.options)
            return asked.identity() == work.asked.identity()

        async with self._claims.held(work.content_key) as claim:
            if claim.runs > 1:
                count_taken_over()
            race = Race(
                self._results,
                self._uploads,
                upload=upload,
                work=work,
                request=request,
                claim=claim,
                watch=watch,
                is_still_asked=is_still_asked,
            )
            attempt.number = race.attempts
            yield race

    async def _read(self, opened: OpenedUpload, reserved: AsyncExitStack, watch: Stopwatch) -> Content:
        """The upload's bytes.

        Raises:
            PermanentFailure: too large, or storage does not hand them over.
            NotSettled: it is empty or in pieces, and was changed a moment ago.
            VersionGone: there is a newer version.
        """
        upload = opened.facts
        self._require_settled(upload)
        if upload.size > self._limits.max_bytes:
            raise too_many_bytes(upload.size, self._limits)
        if upload.size > self._first_read:
            await reserved.enter_async_context(self._memory.held(upload.size))
        with watch.timed("download"):
            return Content(await opened.read(), reserved)

    def _require_settled(self, upload: Upload) -> None:
        being_written = upload.size == 0 or (upload.grown_for is not None and upload.grown_for < MOST_GROWTH_SECONDS)
        if being_written and upload.age is not None and upload.age < self._settings.settle_seconds:
            wait = self._settings.settle_seconds - upload.age
            raise NotSettled("It is empty, or written in pieces, and was changed a moment ago.", retry_after=wait)

    async def _asked(
        self, name: str | None, metadata: Mapping[str, str], text: str | None, given: Options | None = None
    ) -> Asked | NotAsked:
        """What is asked about an image with this `metadata`, where a request says `text` and the options `given`."""
        settings = self._settings
        try:
            found = await self._sources.find(name, metadata, text, given)
        except PermanentFailure as failure:
            return NotAsked(settings.openai_deployment, failure)
        options = found.options
        question = Question(
            instructions=found.text,
            deployment=options.deployment or settings.openai_deployment,
            system_prompt=settings.system_prompt,
            detail=options.detail or settings.image_detail,
            max_output_tokens=options.max_output_tokens or settings.max_output_tokens,
            reasoning_effort=options.reasoning_effort or settings.reasoning_effort,
            schema=found.schema,
        )
        return Asked(found, question)


async def _sha256(data: bytes) -> str:
    if len(data) <= HASHED_AT_ONCE_BYTES:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
