"""The job: from the name of an uploaded image to its result."""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol

from pipeline import __version__
from pipeline.budget import Budget
from pipeline.claims import Claim, ClaimedElsewhere
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.governor import Busy
from pipeline.images import (
    ImageFacts,
    ImageLimits,
    Inspection,
    PreparedImage,
    as_stored,
    convert,
    inspect,
    too_many_bytes,
)
from pipeline.instructions import Files, Instructions, InstructionSources, Origin
from pipeline.instructions.options import Options
from pipeline.model import Question, Reply
from pipeline.names import image_of_sidecar, result_name, wants_result
from pipeline.requests import Request
from pipeline.result import (
    Answer,
    ImageSent,
    InstructionsUsed,
    ModelUsed,
    Result,
    ResultError,
    Source,
    TimingsMs,
    Usage,
)
from pipeline.settings import Settings
from pipeline.storage import StoredResult, Upload, VersionGone, first_read_bytes
from pipeline.structured import AnswerMismatch, AnswerSchema
from pipeline.telemetry import Attempt, analyzing, count_taken_over

logger = logging.getLogger(__name__)

CONVERSIONS = 2
"""What conversions at the same time may hold, by estimate, in `settings.image_memory_bytes`: half of an instance where
that is a quarter of it."""
MOST_RUNS = 5
"""Runs that may end without a word (a killed worker) before the work counts as what kills them. As many deliveries as
the host gives."""


class Uploads(Files, Protocol):
    """Where images come from; see `pipeline.storage.Uploads`."""

    container: str

    async def open(self, name: str) -> Upload | None: ...
    async def current_etag(self, name: str) -> str | None: ...


class Results(Protocol):
    """Where results go; see `pipeline.storage.Results`."""

    async def find(self, name: str) -> StoredResult | None: ...
    async def write(
        self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None
    ) -> bool: ...


class Claims(Protocol):
    """Who works on what; see `pipeline.claims.Claims`."""

    def held(self, key: str) -> AbstractAsyncContextManager[Claim]: ...


class VisionModel(Protocol):
    """Who is asked; see `pipeline.model.AzureOpenAIModel`."""

    async def ask(self, question: Question, image: PreparedImage) -> Reply: ...


class NoRoom(Busy):
    """The images in work leave no memory for this one."""


class Outcome(StrEnum):
    """How one delivery of one upload ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ALREADY_DONE = "already done"
    """What is asked of the image as it is now has its result."""
    SUPERSEDED = "superseded"
    """A newer version of the image has its result."""
    GONE = "gone"
    """The upload was deleted."""
    NOT_AN_IMAGE = "not an image"
    """Instruction file or desktop litter."""


class Analyzer:
    """The use case, once per process.

    It works on at most `settings.max_concurrency` images at a time, and holds at most `settings.image_memory_bytes` of
    them: half of that for what comes with opening one, which is all of most, and half for the others as a whole. So
    nobody who holds some of one half waits for more of it.

    Args:
        patience: seconds to wait for memory; an image that would wait longer gets `NoRoom`.
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
        self._model = model
        self._sources = InstructionSources(uploads, settings.default_instructions)
        self._room = asyncio.Semaphore(settings.max_concurrency)
        self._opening = first_read_bytes(settings.image_memory_bytes, settings.max_concurrency)
        self._memory = Budget(settings.image_memory_bytes // 2)
        self._patience = patience
        # A conversion keeps a processor busy and holds decoded pixels: more at a time would only cost memory.
        self._conversions = asyncio.Semaphore(os.process_cpu_count() or 1)
        self._pixels = Budget(CONVERSIONS * settings.image_memory_bytes)
        self._limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)

    async def analyze(
        self, request: Request, verdict: PermanentFailure | None = None, attempt: Attempt | None = None
    ) -> Outcome:
        """Bring the requested upload to its result; an upload that is an image's sidecar, that image.

        With `verdict` the model is not asked: that is what becomes of the upload, unless it has its result already.
        With `attempt` the caller learns what was found out before a failure.

        Raises:
            RetryableFailure: nothing is written and the same call may succeed later.
        """
        name = image_of_sidecar(request.name) or request.name
        attempt = attempt or Attempt(self._uploads.container, name, request.attempt)
        attempt.name = name
        with analyzing(attempt):
            if wants_result(name):
                async with self._room:
                    outcome = await self._bring_to_result(name, request, verdict, attempt)
            else:
                outcome = Outcome.NOT_AN_IMAGE
            attempt.outcome = outcome
            logger.info("%s", attempt, extra=attempt.fields())
        return outcome

    async def analyze_bytes(self, data: bytes, content_type: str | None, asked: str | None) -> Result:
        """The result for an image that came by HTTP; nothing is read from storage or written to it.

        Raises:
            RetryableFailure: the same call may succeed later.
        """
        source = Source(
            container=None,
            name=None,
            url=None,
            etag=None,
            last_modified=None,
            size_bytes=len(data),
            content_type=content_type,
        )
        work = self._work(source, hashlib.sha256(data).hexdigest())
        attempt = Attempt("http", "process_image", 1, steps=work.steps)
        with analyzing(attempt):
            async with self._room:
                with work.failures():
                    await self._find_question(work, {}, asked)
                    await self._prepare(work, data)
                    await self._ask(work)
            result = work.result()
            attempt.work_key, attempt.outcome = result.work_key, result.status
            attempt.error_code = result.error.code if result.error else None
            logger.info("%s", attempt, extra=attempt.fields())
        return result

    async def _bring_to_result(
        self, name: str, request: Request, verdict: PermanentFailure | None, attempt: Attempt
    ) -> Outcome:
        # The claim keeps the same work from being done twice. Different work on one image, as after an overwrite, may
        # go on at the same time, and the newest has to win:
        #
        #   slow run              storage                quick run
        #   open image v1
        #   find result: none
        #                         image v2 uploaded
        #                                              open v2, find result: none, answer
        #                         result of v2    <--- write, if there is none yet
        #   answer v1
        #   write, if there is none yet: refused
        #   open v2, find result of v2: done already
        #
        # A result is written only if it is still the one that was found, so a lost race starts over from there, without
        # letting go of the claim. And a result that was found is replaced only if it can't be a newer version's:
        # because the image is still the one we opened, or else because the result says so. One of the same version
        # may answer a newer question, since a sidecar has changed: so what is asked is looked up once more.
        while True:
            opened = await self._open(name, request)
            if opened is None:
                return Outcome.GONE
            upload, work = opened
            attempt.work_key, attempt.steps = work.key, work.steps
            try:
                async with self._claims.held(work.key) as claim:
                    if claim.runs > 1:
                        count_taken_over()
                    attempt.number = work.attempts = request.attempt + claim.runs - 1
                    crashed = _crashed(claim.runs - 1) if claim.runs > MOST_RUNS else None
                    outcome = await self._claimed(work, upload, request, verdict or crashed)
            except ClaimedElsewhere:
                # Perhaps by somebody who only looks, too: duplicates would put each other off again and again.
                if _is_done(work, request, await self._results.find(result_name(name))):
                    return Outcome.ALREADY_DONE
                raise
            if outcome is not None:
                attempt.error_code = work.failure.code if work.failure and outcome is Outcome.FAILED else None
                return outcome

    async def _claimed(  # noqa: PLR0911 - one for each way to end
        self, work: "_Work", upload: Upload, request: Request, verdict: PermanentFailure | None
    ) -> Outcome | None:
        """How the work ended; None when something else is asked of the image by now."""
        target, answered = result_name(upload.name), False
        while True:
            stored = await self._results.find(target)
            if _is_done(work, request, stored):
                return Outcome.ALREADY_DONE
            if stored and stored.source_etag == upload.etag and _asks_nothing_of_its_own(request, stored):
                return Outcome.ALREADY_DONE
            if stored and stored.source_etag == upload.etag and not await self._is_still_asked(work, request):
                return None
            if not answered:
                try:
                    await self._find_answer(work, upload, verdict)
                except VersionGone:
                    return None
                answered = True
            current = await self._uploads.current_etag(upload.name)
            if current is None:
                return Outcome.GONE
            if current != upload.etag and stored and stored.is_newer_than(upload):
                return Outcome.SUPERSEDED
            result = work.result()
            if await self._results.write(target, result.to_json(), _metadata_of(result), replacing=stored):
                return Outcome(result.status)

    async def _is_still_asked(self, work: "_Work", request: Request) -> bool:
        assert work.source.name is not None  # noqa: S101 - only an upload's work is claimed
        opened = await self._open(work.source.name, request)
        return opened is not None and opened[1].key == work.key

    async def _open(self, name: str, request: Request) -> "tuple[Upload, _Work] | None":
        """The upload as it is now, and what is asked of it; None when it is gone."""
        upload = await self._uploads.open(name)
        if upload is None:
            return None
        work = self._work(_source_of(upload), upload.etag)
        with work.failures():
            await self._find_question(work, upload.metadata, request.instructions, request.options)
        return upload, work

    async def record_crash(self, request: Request, verdict: PermanentFailure) -> Outcome:
        """Write `verdict` as the result of the requested upload, looking at nothing that may crash again.

        Raises:
            RetryableFailure: storage can't be reached.
        """
        name = image_of_sidecar(request.name) or request.name
        target = result_name(name)
        upload = await self._uploads.open(name) if wants_result(name) else None
        if upload is None:
            return Outcome.GONE
        work = self._work(_source_of(upload), upload.etag)
        work.failure, work.attempts = verdict, request.attempt
        while True:
            stored = await self._results.find(target)
            if stored and (stored.source_etag == upload.etag or stored.is_newer_than(upload)):
                return Outcome.ALREADY_DONE
            result = work.result()
            if await self._results.write(target, result.to_json(), _metadata_of(result), replacing=stored):
                return Outcome.FAILED

    async def record_unreadable(self, message: str, problem: str) -> None:
        """Write a failed result for a request that names no upload, so that somebody finds it."""
        digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
        source = Source(
            container=None, name=None, url=None, etag=None, last_modified=None, size_bytes=None, content_type=None
        )
        work = self._work(source, digest)
        work.failure = PermanentFailure(
            ErrorCode.CRASHED,
            f"A message on the request queue can't be understood: {problem}. Correct whatever sends it.",
            {"message": message[:1000]},
        )
        result = work.result()
        name = f"unreadable-requests/{digest}.json"
        await self._results.write(name, result.to_json(), _metadata_of(result), None)
        logger.error("%s: a message on the request queue can't be understood", name)

    def _work(self, source: Source, version: str) -> "_Work":
        return _Work(source, version, self._settings.openai_deployment)

    async def _find_question(
        self, work: "_Work", metadata: Mapping[str, str], asked: str | None, given: Options | None = None
    ) -> None:
        work.instructions = found = await self._sources.find(work.source.name, metadata, asked, given)
        options, settings = found.options, self._settings
        work.deployment = options.deployment or settings.openai_deployment
        work.question = Question(
            instructions=found.text,
            deployment=work.deployment,
            system_prompt=settings.system_prompt,
            detail=options.detail or settings.image_detail,
            max_output_tokens=options.max_output_tokens or settings.max_output_tokens,
            reasoning_effort=options.reasoning_effort or settings.reasoning_effort,
            schema=found.schema,
        )

    async def _find_answer(self, work: "_Work", upload: Upload, verdict: PermanentFailure | None) -> None:
        work.failure = work.failure or verdict
        if work.failure is None:
            with work.failures():
                if upload.size > self._limits.max_bytes:
                    raise too_many_bytes(upload.size, self._limits)
                async with AsyncExitStack() as memory:
                    if upload.size > self._opening:
                        await self._take_memory(memory, upload.size)
                    with work.timed("download"):
                        data = await upload.read()
                    image = await self._prepare(work, data)
                    if image.transformed:
                        del data
                        await memory.aclose()
                    await self._ask(work)

    async def _take_memory(self, taken: AsyncExitStack, size: int) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await taken.enter_async_context(self._memory.held(size))
        except TimeoutError:
            raise NoRoom(
                f"No memory came free for an image of {size:,} bytes within {self._patience:g} seconds.",
                retry_after=self._patience,
            ) from None

    async def _prepare(self, work: "_Work", data: bytes) -> PreparedImage:
        with work.timed("prepare"):
            work.inspection = inspect(data, self._limits)
            work.image = await self._prepared(data, work.inspection)
        return work.image

    async def _ask(self, work: "_Work") -> None:
        assert work.question and work.image  # noqa: PT018, S101 - callers stop at instructions that failed
        with work.timed("model"):
            work.reply = work.paid = await self._model.ask(work.question, work.image)
            if work.question.schema is not None:
                work.data = await self._structured(work, work.question.schema)

    async def _structured(self, work: "_Work", schema: AnswerSchema) -> Any:
        """The object in the reply; a reply that does not meet the schema is asked for once more."""
        assert work.question and work.image and work.reply  # noqa: PT018, S101 - the caller has just asked
        try:
            return schema.check(work.reply.text)
        except AnswerMismatch as mismatch:
            if work.reply.truncated:
                raise _truncated(work.question) from mismatch
        work.reply = await self._model.ask(work.question, work.image)
        work.paid = work.reply.after(work.paid)
        try:
            return schema.check(work.reply.text)
        except AnswerMismatch as mismatch:
            raise PermanentFailure(
                ErrorCode.INVALID_ANSWER,
                f"{mismatch} It was asked twice. Simplify the schema, or say in the instructions what to write where"
                " the image does not show something.",
                {"problems": mismatch.problems},
            ) from mismatch

    async def _prepared(self, data: bytes, inspection: Inspection) -> PreparedImage:
        if inspection.sendable:
            return as_stored(data, inspection)
        async with self._pixels.held(inspection.conversion_bytes), self._conversions:
            return await asyncio.to_thread(convert, data, inspection, self._limits)


def work_key(container: str | None, name: str | None, version: str, asked: list[object]) -> str:
    """Equal for equal arguments and for no others, as far as SHA-256 goes."""
    return hashlib.sha256(json.dumps([container, name, version, asked]).encode()).hexdigest()


@dataclass(slots=True)
class _Work:
    """What is known so far about one image on its way to a result."""

    source: Source
    version: str
    """What identifies the image's content: the ETag, or a digest where there is none."""
    deployment: str
    started: float = field(default_factory=perf_counter)
    instructions: Instructions | None = None
    question: Question | None = None
    inspection: Inspection | None = None
    image: PreparedImage | None = None
    reply: Reply | None = None
    """The answer."""
    paid: Reply | None = None
    """What all replies have cost, whether or not one is an answer."""
    data: Any = None
    failure: PermanentFailure | None = None
    attempts: int = 1
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same key means the same work, which is not paid twice.

        The blob's name is part of it: two blobs written in the same instant may have the same ETag.
        """
        asked: list[object] = self.question.identity() if self.question else ["invalid", str(self.failure)]
        return work_key(self.source.container, self.source.name, self.version, asked)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Keep a permanent failure as part of the work: it is a result, not an error of ours."""
        try:
            yield
        except PermanentFailure as failure:
            self.failure = failure
            self.paid = failure.reply.after(self.paid) if failure.reply else self.paid

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.steps[step] = _ms_since(started)

    def result(self) -> Result:
        facts: ImageFacts | None = self.inspection.facts if self.inspection else None
        image, reply, paid, asked, failure = self.image, self.reply, self.paid, self.instructions, self.failure
        return Result(
            status="failed" if failure else "succeeded",
            created_at=datetime.now(UTC),
            pipeline_version=__version__,
            work_key=self.key,
            attempts=self.attempts,
            source=self.source.model_copy(
                update={"format": facts.format, "width": facts.width, "height": facts.height} if facts else {}
            ),
            instructions=InstructionsUsed(
                text=asked.text, origin=asked.origin, origin_name=asked.origin_name, sha256=asked.sha256
            )
            if asked
            else InstructionsUsed(),
            image_sent=ImageSent(
                format=image.format,
                width=image.width,
                height=image.height,
                size_bytes=len(image.data),
                transformed=image.transformed,
                detail=self.question.detail if self.question else None,
            )
            if image
            else ImageSent(),
            answer=Answer(text=reply.text, data=self.data, finish_reason=reply.finish_reason, truncated=reply.truncated)
            if reply
            else None,
            model=ModelUsed(
                deployment=self.deployment,
                model=paid.model if paid else None,
                request_id=paid.request_id if paid else None,
            ),
            usage=Usage(
                input_tokens=paid.input_tokens,
                output_tokens=paid.output_tokens,
                reasoning_tokens=paid.reasoning_tokens,
                cached_tokens=paid.cached_tokens,
            )
            if paid
            else Usage(),
            timings_ms=TimingsMs(**self.steps, total=_ms_since(self.started)),
            error=ResultError(
                code=failure.code,
                message=failure.message,
                details=dict(failure.details) if failure.details else None,
            )
            if failure
            else None,
        )


def _truncated(question: Question) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.INVALID_ANSWER,
        f"The answer ended at its limit of {question.max_output_tokens:,} tokens, before it met the schema: raise the"
        " option max_output_tokens, or ask for less.",
        {"max_output_tokens": question.max_output_tokens},
    )


def _crashed(runs: int) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.CRASHED,
        f"The analysis of this image was begun {runs} times and ended without a word each time, as when a worker runs"
        " out of memory. Try a smaller image; the app's log says more.",
        {"runs": runs},
    )


def _is_done(work: _Work, request: Request, stored: StoredResult | None) -> bool:
    if stored is None or stored.work_key != work.key:
        return False
    return not (stored.failed and request.rerun_failed and request.rerun_of in (None, stored.etag))


def _asks_nothing_of_its_own(request: Request, stored: StoredResult) -> bool:
    """Whether `request` is an image's event come again, after somebody had the image asked something else."""
    of_its_own = request.instructions is not None or request.options != Options() or request.rerun_failed
    is_event = not of_its_own and image_of_sidecar(request.name) is None
    return is_event and stored.origin == Origin.REQUEST


def _metadata_of(result: Result) -> dict[str, str]:
    """What a listing of the results tells without reading them."""
    source = result.source
    told = {
        "status": result.status,
        "errorcode": result.error.code.value if result.error else None,
        "sourceetag": source.etag,
        "sourcemodified": source.last_modified.isoformat() if source.last_modified else None,
        "origin": result.instructions.origin,
        "workkey": result.work_key,
    }
    return {key: value for key, value in told.items() if value is not None}


def _source_of(upload: Upload) -> Source:
    return Source(
        container=upload.container,
        name=upload.name,
        url=upload.url.partition("?")[0],
        etag=upload.etag,
        last_modified=upload.last_modified,
        size_bytes=upload.size,
        content_type=upload.content_type,
    )


def _ms_since(started: float) -> int:
    return round((perf_counter() - started) * 1000)
