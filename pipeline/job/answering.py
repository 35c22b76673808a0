"""From an image's bytes to the model's answer: unpack, inspect, convert if need be, ask, check."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.errors import ErrorCode, PermanentFailure, RetryableFailure
from pipeline.images import (
    ImageLimits,
    Inspection,
    PreparedImage,
    Unclear,
    as_stored,
    convert,
    inspect,
    inspect_by_decoder,
)
from pipeline.job.memory import Budget, Content
from pipeline.job.work import Answered, Asked, NotAsked, Stopwatch
from pipeline.model.question import Question, Reply
from pipeline.result import ImageSent
from pipeline.schemas import AnswerMismatch
from pipeline.settings import Settings
from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

CONVERSIONS = 2
"""Memory for all conversions together, by estimate, in `settings.image_memory_bytes`: half of an instance where that
setting is a quarter of it."""


class VisionModel(Protocol):
    """The model that is asked; see `pipeline.model.azure_openai.AzureOpenAIModel`."""

    async def ask(self, question: Question, image: PreparedImage) -> Reply: ...


class Interrupted(Exception):
    """A reply has to be asked for once more, which `cause` prevents for now; `answered` is what was paid so far."""

    def __init__(self, answered: Answered, cause: RetryableFailure) -> None:
        super().__init__(cause.message)
        self.answered = answered
        self.cause = cause


class Answerer(Protocol):
    """Answers what is asked about an image."""

    async def answer(
        self, asked: Asked | NotAsked, content: Content, watch: Stopwatch, earlier: Reply | None = None
    ) -> Answered:
        """Answer what is asked about the image in `content`.

        Args:
            asked: the question, or why there is none.
            content: the upload's bytes, which may be dropped once they are not needed.
            watch: times the steps.
            earlier: a reply to the same question that was paid for and did not meet the schema.

        Raises:
            Interrupted: a reply was paid for, but it takes another one.
            RetryableFailure: the same call may succeed later.
        """


@dataclass(frozen=True, slots=True)
class Failing:
    """Answers with a failure that is settled already: the image can't be read, or its work is given up."""

    failure: PermanentFailure

    async def answer(
        self,
        asked: Asked | NotAsked,
        content: Content,  # noqa: ARG002 - the answer is known without looking
        watch: Stopwatch,  # noqa: ARG002
        earlier: Reply | None = None,
    ) -> Answered:
        failure = asked.failure if isinstance(asked, NotAsked) else self.failure
        return Answered(failure, reply=failure.reply.after(earlier) if failure.reply else earlier)


class ModelAnswerer:
    """Asks the model. One per process.

    Args:
        memory: what the bytes of uploads may hold in addition to those that come with opening one.
    """

    def __init__(self, settings: Settings, model: VisionModel, memory: Budget) -> None:
        self._model = model
        self._memory = memory
        # A conversion keeps a processor busy and holds decoded pixels: more at a time would only cost memory.
        self._conversions = asyncio.Semaphore(os.process_cpu_count() or 1)
        pixels = CONVERSIONS * settings.image_memory_bytes
        self._pixels = Budget(pixels)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, max_conversion_bytes=pixels)

    async def answer(
        self, asked: Asked | NotAsked, content: Content, watch: Stopwatch, earlier: Reply | None = None
    ) -> Answered:
        """See `Answerer`."""
        if isinstance(asked, NotAsked):
            return Answered(asked.failure)
        async with AsyncExitStack() as unpacking:
            try:
                with watch.timed("prepare"):
                    await self._unpack(content, unpacking)
                    inspection = await self._inspected(content.data)
            except PermanentFailure as failure:
                return Answered(failure)
            known = Answered(facts=inspection.facts)
            try:
                with watch.timed("prepare"):
                    image = await self._prepared(content, inspection)
            except PermanentFailure as failure:
                return replace(known, failure=failure)
            if image.transformed:
                await content.drop()
                await unpacking.aclose()
            with watch.timed("model"):
                return await self._ask(asked.question, image, known, earlier)

    async def _unpack(self, content: Content, reserved: AsyncExitStack) -> None:
        """Unpack what was stored compressed, whatever its Content-Encoding says."""
        if not is_packed(content.data):
            return
        limit = self._limits.max_bytes
        await reserved.enter_async_context(self._memory.held(2 * limit))
        try:
            content.replace(await asyncio.to_thread(unpacked, content.data, limit))
        except TooLarge:
            raise PermanentFailure(
                ErrorCode.IMAGE_TOO_LARGE,
                f"The file is compressed (gzip or deflate) and unpacks to more than the {limit:,} bytes that are"
                " accepted. Upload the image itself, saved smaller.",
                {"max_bytes": limit},
            ) from None
        except Broken as error:
            raise PermanentFailure(
                ErrorCode.CORRUPT_IMAGE,
                f"The file is compressed (gzip or deflate) and can't be unpacked: {error}. Upload the image itself,"
                " without a Content-Encoding.",
            ) from None

    async def _inspected(self, data: bytes) -> Inspection:
        try:
            return inspect(data, self._limits)
        except Unclear as unclear:
            return await asyncio.to_thread(inspect_by_decoder, data, unclear, self._limits)

    async def _prepared(self, content: Content, inspection: Inspection) -> PreparedImage:
        if inspection.sendable:
            return as_stored(content.data, inspection)
        async with self._pixels.held(inspection.conversion_bytes), self._conversions:
            return await asyncio.to_thread(convert, content.data, inspection, self._limits)

    async def _ask(self, question: Question, image: PreparedImage, known: Answered, earlier: Reply | None) -> Answered:
        known = replace(known, sent=_sent(image, question))
        try:
            reply = await self._model.ask(question, image)
        except PermanentFailure as failure:
            return replace(known, failure=failure, reply=failure.reply.after(earlier) if failure.reply else earlier)
        known = replace(known, reply=reply.after(earlier), failure=None)
        if question.schema is None:
            return known
        try:
            return replace(known, data=question.schema.check(reply.text))
        except AnswerMismatch as mismatch:
            if reply.truncated:
                return replace(known, failure=_truncated(question))
            if earlier:
                return replace(known, failure=_mismatched(mismatch, asked=2))
            first = replace(known, failure=_mismatched(mismatch, asked=1))
        try:
            return await self._ask(question, image, first, reply)
        except RetryableFailure as failure:
            raise Interrupted(first, failure) from failure


def _truncated(question: Question) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.INVALID_ANSWER,
        f"The answer ended at its limit of {question.max_output_tokens:,} tokens, before it met the schema:"
        f" {question.cure_of_truncation}, or ask for less.",
        {"max_output_tokens": question.max_output_tokens},
    )


def _mismatched(mismatch: AnswerMismatch, *, asked: int) -> PermanentFailure:
    tried = "It was asked twice. " if asked > 1 else ""
    return PermanentFailure(
        ErrorCode.INVALID_ANSWER,
        f"{mismatch} {tried}Simplify the schema, or say in the instructions what to write where the image does not show"
        " something.",
        {"problems": mismatch.problems, "asked": asked},
    )


def _sent(image: PreparedImage, question: Question) -> ImageSent:
    return ImageSent(
        format=image.format,
        width=image.width,
        height=image.height,
        size_bytes=len(image.data),
        transformed=image.transformed,
        detail=question.detail,
    )
