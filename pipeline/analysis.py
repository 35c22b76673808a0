"""The job: from the name of an uploaded image to its result."""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Protocol

from pipeline import __version__, instructions
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageFacts, ImageLimits, Inspection, PreparedImage, as_stored, convert, inspect
from pipeline.instructions import Instructions
from pipeline.model import Options, Reply
from pipeline.names import result_name, wants_result
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

logger = logging.getLogger(__name__)


class Uploads(Protocol):
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

    async def ask(self, instructions: str, image: PreparedImage, options: Options) -> Reply: ...


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
        self._room = asyncio.Semaphore(settings.max_concurrency)
        # A conversion keeps a processor busy and holds decoded pixels: more at a time would only cost memory.
        self._conversions = asyncio.Semaphore(os.process_cpu_count() or 1)
        self._limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)

    async def analyze_upload(self, name: str) -> Outcome:
        """Bring the upload `name` to its result.

        Raises:
            RetryableFailure: nothing is written and the same call may succeed later.
        """
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
        work = _Work(
            self._options(),
            Source(
                container=None,
                name=None,
                url=None,
                etag=None,
                last_modified=None,
                size_bytes=len(data),
                content_type=content_type,
            ),
            version=hashlib.sha256(data).hexdigest(),
        )
        async with self._room:
            with work.failures():
                work.instructions = instructions.resolve(
                    request=request, metadata={}, default=self._settings.default_instructions
                )
            if work.failure is None:
                with work.failures():
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
            work = self._work_on(upload)
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

    def _work_on(self, upload: Upload) -> "_Work":
        """What is asked of this upload."""
        work = _Work(self._options(), _source_of(upload), version=upload.etag)
        with work.failures():
            work.instructions = instructions.resolve(
                request=None, metadata=upload.metadata, default=self._settings.default_instructions
            )
        return work

    async def _answered(self, work: "_Work", upload: Upload) -> "_Work":
        if work.failure is None:
            with work.failures():
                self._check_size(upload.size)
                with work.timed("download"):
                    data = await upload.read()
                await self._answer(work, data)
        return work

    async def _answer(self, work: "_Work", data: bytes) -> None:
        assert work.instructions is not None  # noqa: S101 - callers stop at instructions that failed
        with work.timed("prepare"):
            work.inspection = inspect(data, self._limits)
            image = await self._prepared(data, work.inspection)
        work.image = image
        with work.timed("model"):
            work.reply = await self._model.ask(work.instructions.text, image, work.options)

    async def _prepared(self, data: bytes, inspection: Inspection) -> PreparedImage:
        if inspection.sendable:
            return as_stored(data, inspection)
        async with self._conversions:
            return await asyncio.to_thread(convert, data, inspection, self._limits)

    def _options(self) -> Options:
        return Options(
            deployment=self._settings.openai_deployment,
            system_prompt=self._settings.system_prompt,
            detail=self._settings.image_detail,
            max_output_tokens=self._settings.max_output_tokens,
            reasoning_effort=self._settings.reasoning_effort,
        )

    def _check_size(self, size: int) -> None:
        """Refuse before downloading what `inspect` would refuse after."""
        if size > self._limits.max_bytes:
            raise PermanentFailure(
                ErrorCode.IMAGE_TOO_LARGE,
                f"The file has {size:,} bytes, more than the {self._limits.max_bytes:,} accepted: upload a"
                " smaller one, or have MAX_IMAGE_BYTES raised.",
                {"size_bytes": size, "max_bytes": self._limits.max_bytes},
            )


@dataclass(slots=True)
class _Work:
    """What is known so far about one image on its way to a result."""

    options: Options
    source: Source
    version: str
    """What identifies the image's content: the ETag, or a digest where there is none."""
    started: float = field(default_factory=perf_counter)
    instructions: Instructions | None = None
    inspection: Inspection | None = None
    image: PreparedImage | None = None
    reply: Reply | None = None
    failure: PermanentFailure | None = None
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same key means the same work, which is not paid twice.

        The blob's name is part of it: two blobs written in the same instant may have the same ETag.
        """
        asked = self.instructions.sha256 if self.instructions else f"invalid: {self.failure}"
        parts = [self.source.container, self.source.name, self.version, asked, asdict(self.options)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

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
                detail=self.options.detail,
            )
            if image
            else ImageSent(),
            answer=Answer(text=reply.text, finish_reason=reply.finish_reason, truncated=reply.truncated)
            if reply
            else None,
            model=ModelUsed(
                deployment=self.options.deployment,
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
