"""One piece of work, from its question to the result that is assembled. Pure values and functions."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Self

from pipeline import __version__
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageFacts
from pipeline.instructions import Instructions
from pipeline.model.question import AnsweredBy, Question, Reply
from pipeline.result import (
    Answer,
    ImageSent,
    InstructionsUsed,
    ModelUsed,
    PageAnswer,
    PageSent,
    Result,
    ResultError,
    Source,
    TimingsMs,
    Usage,
)
from pipeline.storage.facts import StoredResult, Upload

GIVEN_UP = frozenset({ErrorCode.RETRIES_EXHAUSTED, ErrorCode.CRASHED})
"""Failures that say nothing of the image: an answer that comes after all replaces them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about an image, and where it came from."""

    instructions: Instructions
    question: Question

    @property
    def deployment(self) -> str:
        return self.question.deployment

    def identity(self) -> list[object]:
        """JSON that is equal for equal questions, and for no others."""
        return self.question.identity()


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Nothing can be asked about an image: its instructions can't be used, or are not known."""

    deployment: str
    failure: PermanentFailure

    def identity(self) -> list[object]:
        return ["invalid", self.failure.message]


@dataclass(frozen=True, slots=True)
class Work:
    """One version of an image, and what is asked about it.

    `version` identifies the version: the ETag, or a digest where there is none. `trial` is the trial's id, if it is
    asked for one: it has its own claim and result.
    """

    source: Source
    version: str
    asked: Asked | NotAsked
    trial: str | None = None

    @classmethod
    def on(cls, upload: Upload, asked: Asked | NotAsked, trial: str | None = None) -> Self:
        return cls(source_of(upload), upload.etag, asked, trial)

    def with_content(self, sha256: str) -> Self:
        """The same work, once the image's bytes are known."""
        return replace(self, source=self.source.model_copy(update={"sha256": sha256}))

    @property
    def key(self) -> str:
        """The same key means the same work, which is not paid twice.

        The blob's name is part of it: two blobs written in the same instant may have the same ETag.
        """
        return self._key(self.version)

    @property
    def content_key(self) -> str:
        """The same key means the same question about the same bytes in the same place, whatever the ETag.

        It is what is claimed: a change of metadata, headers or tier makes a new version of a blob, and its bytes may
        be in progress already.
        """
        return self._key(f"sha256:{self.source.sha256}") if self.source.sha256 else self.key

    @property
    def usual(self) -> Self:
        """The same apart from trials."""
        return replace(self, trial=None)

    @property
    def is_per_page(self) -> bool:
        return isinstance(self.asked, Asked) and self.asked.question.per_page

    @property
    def goes_by_batch(self) -> bool:
        return isinstance(self.asked, Asked) and self.asked.question.service_tier == "batch"

    def is_of(self, stored: StoredResult) -> bool:
        """Whether `stored` is about the same bytes and the same question, whichever version it was written for."""
        return (
            self.source.sha256 is not None
            and stored.facts.source_sha256 == self.source.sha256
            and stored.facts.source_etag is not None
            and stored.facts.work_key == self._key(stored.facts.source_etag)
        )

    def _key(self, version: str) -> str:
        container = self.source.container if self.trial is None else f"{self.trial}/{self.source.container}"
        return work_key(container, self.source.name, version, self.asked.identity())


def work_key(container: str | None, name: str | None, version: str, asked: list[object]) -> str:
    """Equal for equal arguments and for no others, as far as SHA-256 goes."""
    return hashlib.sha256(json.dumps([container, name, version, asked]).encode()).hexdigest()


def source_of(upload: Upload) -> Source:
    return Source(
        container=upload.container,
        name=upload.name,
        url=upload.url.partition("?")[0],
        etag=upload.etag,
        last_modified=upload.last_modified,
        size_bytes=upload.size,
        content_type=upload.content_type,
    )


def unknown_source(container: str | None, name: str | None) -> Source:
    """The source of which nothing else is known."""
    return Source(
        container=container, name=name, url=None, etag=None, last_modified=None, size_bytes=None, content_type=None
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """An image's answer, as far as it came: with `failure` it is not complete."""

    failure: PermanentFailure | None = None
    facts: ImageFacts | None = None
    sent: tuple[PageSent, ...] = ()
    detail: str | None = None
    pages: tuple[PageAnswer, ...] = ()
    """Of pages that were asked about one by one."""
    reply: Reply | None = None
    data: Any = None


class Stopwatch:
    """Milliseconds since it was started, and for each step that was timed."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self.steps: dict[str, int] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.steps[step] = self.steps.get(step, 0) + _ms_since(started)

    @property
    def total(self) -> int:
        return _ms_since(self._started)


def _ms_since(started: float) -> int:
    return round((perf_counter() - started) * 1000)


def assemble(work: Work, answered: Answered, *, attempts: int, watch: Stopwatch) -> Result:
    """The result of `work`."""
    asked, facts, reply = work.asked, answered.facts, answered.reply
    failure = answered.failure or _failure_of_pages(answered.pages)
    return Result(
        status="failed" if failure else "succeeded",
        created_at=datetime.now(UTC),
        pipeline_version=__version__,
        work_key=work.key,
        attempts=attempts,
        source=work.source.model_copy(
            update={"format": facts.format, "width": facts.width, "height": facts.height, "pages": facts.pages}
            if facts
            else {}
        ),
        instructions=_instructions(asked),
        image_sent=_image_sent(answered),
        pages_sent=list(answered.sent),
        answer=_answer(answered),
        model=ModelUsed(
            deployment=asked.deployment,
            model=reply.model if reply else None,
            service_tier=reply.service_tier if reply else None,
            endpoint=reply.endpoint if reply else None,
            request_id=reply.request_id if reply else None,
        ),
        usage=usage_of(reply),
        timings_ms=TimingsMs(**watch.steps, total=watch.total),
        error=error_of(failure),
    )


def _image_sent(answered: Answered) -> ImageSent:
    if len(answered.sent) != 1:
        return ImageSent()
    (page,) = answered.sent
    return ImageSent(**page.model_dump(exclude={"number"}), detail=answered.detail)


def _answer(answered: Answered) -> Answer | None:
    reply, pages = answered.reply, answered.pages
    if pages:
        return Answer(
            text="\n\n".join(page.text for page in pages if page.text),
            finish_reason=None,
            truncated=any(page.truncated for page in pages),
            pages=list(pages),
        )
    if reply is None or not reply.text:
        return None
    return Answer(text=reply.text, data=answered.data, finish_reason=reply.finish_reason, truncated=reply.truncated)


def _failure_of_pages(pages: Sequence[PageAnswer]) -> PermanentFailure | None:
    """The failure of a document of which some pages have no answer: the first one's."""
    failed = [page for page in pages if page.error]
    if not failed or failed[0].error is None:
        return None
    first = failed[0].error
    return PermanentFailure(
        first.code,
        f"{len(failed):,} of {len(pages):,} pages have no answer. The first is page {failed[0].number}:"
        f" {first.message}",
        {"pages_failed": [page.number for page in failed], **(first.details or {})},
    )


def usage_of(reply: Reply | None) -> Usage:
    if reply is None:
        return Usage()
    return Usage(
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        reasoning_tokens=reply.reasoning_tokens,
        cached_tokens=reply.cached_tokens,
    )


def carried_over(earlier: Result, work: Work, *, attempts: int, watch: Stopwatch) -> Result:
    """The result of `work`, which an earlier run has answered: its answer, under this version and this key.

    Usage and model are the earlier run's: they are what this answer has cost, once.
    """
    update: dict[str, Any] = {
        "created_at": datetime.now(UTC),
        "pipeline_version": __version__,
        "work_key": work.key,
        "attempts": attempts,
        "source": earlier.source.model_copy(update={name: getattr(work.source, name) for name in _OF_THE_VERSION}),
        "instructions": _instructions(work.asked),
    }
    if earlier.source.etag == work.source.etag:  # it was kept since it could not be written
        return earlier.model_copy(update=update)
    update["timings_ms"] = TimingsMs(**watch.steps, total=watch.total)
    if earlier.answer is not None:
        reused_from = earlier.answer.reused_from or earlier.source.etag
        update["answer"] = earlier.answer.model_copy(update={"reused_from": reused_from})
    if earlier.error is not None:
        details = {"reused_from": earlier.source.etag, **(earlier.error.details or {})}
        update["error"] = earlier.error.model_copy(update={"details": details})
    return earlier.model_copy(update=update)


_OF_THE_VERSION = ("url", "etag", "last_modified", "size_bytes", "content_type", "sha256")


@dataclass(frozen=True, slots=True)
class SoFar:
    """What was paid for work that is not done."""

    reply: Reply | None = None
    """A reply to the same question that did not meet the schema."""
    pages: tuple[PageAnswer, ...] = ()
    """Of pages that were asked about one by one."""
    answered_by: AnsweredBy = field(default_factory=AnsweredBy)
    """Who gave those."""


UNFINISHED = "unfinished"
"""In the details of a result that is kept, and never written: there are pages that were not asked about yet."""


def so_far(result: Result) -> SoFar | None:
    """The part of `result` that was paid for, if it is kept since more has to be asked; None for any other result."""
    details = (result.error.details if result.error else None) or {}
    if details.get(UNFINISHED) and result.answer and result.answer.pages:
        return SoFar(pages=tuple(result.answer.pages), answered_by=_answered_by(result))
    reply = _reply_so_far(result)
    return SoFar(reply) if reply else None


def answered_pages(result: Result) -> SoFar:
    """The pages of a failed result that have answers: only the others are asked about again."""
    pages = (result.answer.pages if result.answer else None) or []
    return SoFar(pages=tuple(page for page in pages if page.error is None), answered_by=_answered_by(result))


def _answered_by(result: Result) -> AnsweredBy:
    return AnsweredBy(result.model.model, result.model.endpoint)


def _reply_so_far(result: Result) -> Reply | None:
    """The reply that was paid for a `result` which was kept because its first reply did not meet the schema, and the
    second could not be had.
    """
    error, usage = result.error, result.usage
    if error is None or error.code is not ErrorCode.INVALID_ANSWER or (error.details or {}).get("asked") != 1:
        return None
    return Reply(
        text="",
        finish_reason=None,
        model=result.model.model,
        service_tier=result.model.service_tier,
        endpoint=result.model.endpoint,
        request_id=result.model.request_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
    )


def _instructions(asked: Asked | NotAsked) -> InstructionsUsed:
    if isinstance(asked, NotAsked):
        return InstructionsUsed()
    said = asked.instructions
    return InstructionsUsed(text=said.text, origin=said.origin, origin_name=said.origin_name, sha256=said.sha256)


def error_of(failure: PermanentFailure | None) -> ResultError | None:
    if failure is None:
        return None
    details: Mapping[str, Any] = failure.details or {}
    return ResultError(code=failure.code, message=failure.message, details=dict(details) or None)
