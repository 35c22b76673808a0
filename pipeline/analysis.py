"""The job: from the name of an uploaded image to its result."""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol

from pipeline import __version__
from pipeline.errors import ErrorCode, PermanentFailure
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
from pipeline.instructions import Files, Instructions, InstructionSources
from pipeline.model import Question, Reply
from pipeline.names import image_of_sidecar, result_name, wants_result
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
from pipeline.storage import StoredResult, Upload, VersionGone
from pipeline.structured import AnswerMismatch, AnswerSchema

logger = logging.getLogger(__name__)


class Uploads(Files, Protocol):
    """Where images come from; see `pipeline.storage.Uploads`."""

    container: str

    async def open(self, name: str) -> Upload | None: ...
    async def exists(self, name: str) -> bool: ...


class Results(Protocol):
    """Where results go; see `pipeline.storage.Results`."""

    async def find(self, name: str) -> StoredResult | None: ...
    async def write(
        self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None
    ) -> bool: ...


class VisionModel(Protocol):
    """Who is asked; see `pipeline.model.AzureOpenAIModel`."""

    async def ask(self, question: Question, image: PreparedImage) -> Reply: ...


class Outcome(StrEnum):
    """How one delivery of one upload ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ALREADY_DONE = "already done"
    """What is asked of the image as it is now has its result."""
    GONE = "gone"
    """The upload was deleted."""
    NOT_AN_IMAGE = "not an image"
    """Instruction file or desktop litter."""


class Analyzer:
    """The use case, once per process. It holds at most `settings.max_concurrency` images at a time."""

    def __init__(self, settings: Settings, uploads: Uploads, results: Results, model: VisionModel) -> None:
        self._settings = settings
        self._uploads = uploads
        self._results = results
        self._model = model
        self._sources = InstructionSources(uploads, settings.default_instructions)
        self._room = asyncio.Semaphore(settings.max_concurrency)
        # A conversion keeps a processor busy and holds decoded pixels: more at a time would only cost memory.
        self._conversions = asyncio.Semaphore(os.process_cpu_count() or 1)
        self._limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)

    async def analyze_upload(self, name: str) -> Outcome:
        """Bring the upload `name` to its result; an upload that is an image's sidecar, that image.

        Raises:
            RetryableFailure: nothing is written and the same call may succeed later.
        """
        name = image_of_sidecar(name) or name
        if wants_result(name):
            async with self._room:
                outcome = await self._analyze_upload(name)
        else:
            outcome = Outcome.NOT_AN_IMAGE
        logger.info("%s/%s: %s", self._uploads.container, name, outcome)
        return outcome

    async def analyze_bytes(self, data: bytes, content_type: str | None, request: str | None) -> Result:
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
        async with self._room:
            with work.failures():
                await self._find_question(work, {}, request)
                await self._answer(work, data)
        return work.result()

    async def _analyze_upload(self, name: str) -> Outcome:
        # A result is written only if it is still what it was before the image was read. Whoever loses that race
        # looks again at what is asked of the image as it is now, and gives way if that is what the other answered.
        #
        #   slow run              storage                quick run
        #   find result: none
        #   open image v1
        #                         image v2 uploaded
        #                                              find result, open v2, answer
        #                         result of v2    <--- write, if there is none yet
        #   answer v1
        #   write, if there is none yet: refused
        #   find result of v2
        #   open image v2: done already
        #
        # Finding the result before opening the image is what makes it safe: a result found is never of a newer
        # version than the image opened after it, so replacing exactly this result never replaces a newer one.
        target = result_name(name)
        answered: _Work | None = None
        while True:
            stored = await self._results.find(target)
            upload = await self._uploads.open(name)
            if upload is None:
                return Outcome.GONE
            work = self._work(_source_of(upload), upload.etag)
            with work.failures():
                await self._find_question(work, upload.metadata)
            if stored and stored.work_key == work.key:
                return Outcome.ALREADY_DONE
            if answered is None or answered.key != work.key:
                try:
                    answered = await self._answered(work, upload)
                except VersionGone:
                    continue
                if not await self._uploads.exists(name):
                    return Outcome.GONE
            result = answered.result()
            if await self._results.write(target, result.to_json(), _metadata_of(result), replacing=stored):
                return Outcome(result.status)

    def _work(self, source: Source, version: str) -> "_Work":
        return _Work(source, version, self._settings.openai_deployment)

    async def _find_question(self, work: "_Work", metadata: Mapping[str, str], request: str | None = None) -> None:
        work.instructions = found = await self._sources.find(work.source.name, metadata, request)
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

    async def _answered(self, work: "_Work", upload: Upload) -> "_Work":
        if work.failure is None:
            with work.failures():
                if upload.size > self._limits.max_bytes:
                    raise too_many_bytes(upload.size, self._limits)
                with work.timed("download"):
                    data = await upload.read()
                await self._answer(work, data)
        return work

    async def _answer(self, work: "_Work", data: bytes) -> None:
        assert work.question is not None  # noqa: S101 - callers stop at instructions that failed
        with work.timed("prepare"):
            work.inspection = inspect(data, self._limits)
            work.image = await self._prepared(data, work.inspection)
        with work.timed("model"):
            work.reply = await self._model.ask(work.question, work.image)
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
        work.reply = (await self._model.ask(work.question, work.image)).after(work.reply)
        try:
            return schema.check(work.reply.text)
        except AnswerMismatch as mismatch:
            raise PermanentFailure(
                ErrorCode.INVALID_ANSWER,
                f"The model's answer does not meet the schema, asked twice: {mismatch}. Simplify the schema, or say"
                " in the instructions what to write where the image does not show something.",
                {"problems": mismatch.problems},
            ) from mismatch

    async def _prepared(self, data: bytes, inspection: Inspection) -> PreparedImage:
        if inspection.sendable:
            return as_stored(data, inspection)
        async with self._conversions:
            return await asyncio.to_thread(convert, data, inspection, self._limits)


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
    data: Any = None
    failure: PermanentFailure | None = None
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same key means the same work, which is not paid twice.

        The blob's name is part of it: two blobs written in the same instant may have the same ETag.
        """
        asked = self.question.identity() if self.question else ["invalid", str(self.failure)]
        parts = [self.source.container, self.source.name, self.version, asked]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Keep a permanent failure as part of the work: it is a result, not an error of ours."""
        try:
            yield
        except PermanentFailure as failure:
            self.failure = failure

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.steps[step] = _ms_since(started)

    def result(self) -> Result:
        facts: ImageFacts | None = self.inspection.facts if self.inspection else None
        image, reply, asked, failure = self.image, self.reply, self.instructions, self.failure
        return Result(
            status="failed" if failure else "succeeded",
            created_at=datetime.now(UTC),
            pipeline_version=__version__,
            work_key=self.key,
            attempts=1,
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
                model=reply.model if reply else None,
                request_id=reply.request_id if reply else None,
            ),
            usage=Usage(
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                reasoning_tokens=reply.reasoning_tokens,
                cached_tokens=reply.cached_tokens,
            )
            if reply
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


def _metadata_of(result: Result) -> dict[str, str]:
    """What a listing of the results tells without reading them."""
    told = {"status": result.status, "sourceetag": result.source.etag or "", "workkey": result.work_key}
    return told | ({"errorcode": result.error.code.value} if result.error else {})


def _source_of(upload: Upload) -> Source:
    return Source(
        container=upload.container,
        name=upload.name,
        url=upload.url,
        etag=upload.etag,
        last_modified=upload.last_modified,
        size_bytes=upload.size,
        content_type=upload.content_type,
    )


def _ms_since(started: float) -> int:
    return round((perf_counter() - started) * 1000)
