"""From an image's bytes to the model's answer: prepare, ask, check."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from pipeline.documents.facts import Pages, Picture, SentPage, sent_pages
from pipeline.errors import ErrorCode, InBatch, PermanentFailure, RetryableFailure
from pipeline.job.memory import Content
from pipeline.job.page_by_page import Interrupted, Keep, answer_pages, together
from pipeline.job.preparing import Preparer
from pipeline.job.work import Answered, Asked, NotAsked, SoFar, Stopwatch
from pipeline.model.original import DeployedModels
from pipeline.model.question import Question, Reply
from pipeline.result import PageSent
from pipeline.schemas import AnswerMismatch

NOTHING_YET = SoFar()


class VisionModel(Protocol):
    """The model that is asked; see `pipeline.model.azure_openai.AzureOpenAIModel`."""

    async def ask(self, question: Question, image: Picture) -> Reply: ...


class Answerer(Protocol):
    """Answers what is asked about an image."""

    async def answer(
        self,
        asked: Asked | NotAsked,
        content: Content,
        watch: Stopwatch,
        so_far: SoFar = NOTHING_YET,
        keep: Keep | None = None,
    ) -> Answered:
        """Answer what is asked about the image in `content`.

        Args:
            asked: the question, or why there is none.
            content: the upload's bytes, which may be dropped once they are not needed.
            watch: times the steps.
            so_far: what was paid for the same question in an earlier run.
            keep: keeps what is paid, in case this run ends without a word.

        Raises:
            Interrupted: something was paid for, and more has to be asked.
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
        so_far: SoFar = NOTHING_YET,
        keep: Keep | None = None,  # noqa: ARG002
    ) -> Answered:
        failure = asked.failure if isinstance(asked, NotAsked) else self.failure
        if so_far.pages:
            return replace(together(so_far.pages, Answered(), so_far.answered_by), failure=failure)
        return Answered(failure, reply=failure.reply.after(so_far.reply) if failure.reply else so_far.reply)


class ModelAnswerer:
    """Asks the model, and remembers which one answers.

    Args:
        preparer: of the process.
        deployed: likewise.
    """

    def __init__(self, model: VisionModel, preparer: Preparer, deployed: DeployedModels) -> None:
        self._model = model
        self._preparer = preparer
        self._deployed = deployed

    async def answer(
        self,
        asked: Asked | NotAsked,
        content: Content,
        watch: Stopwatch,
        so_far: SoFar = NOTHING_YET,
        keep: Keep | None = None,
    ) -> Answered:
        """See `Answerer`."""
        if isinstance(asked, NotAsked):
            return Answered(asked.failure)
        question = asked.question
        try:
            self._deployed.require_taken(question)
        except PermanentFailure as failure:
            return await Failing(failure).answer(asked, content, watch, so_far)
        async with AsyncExitStack() as unpacking, AsyncExitStack() as holding:
            with watch.timed("prepare"):
                prepared = await self._preparer.prepare(content, question, unpacking, holding)
            known, picture = Answered(facts=prepared.facts), prepared.picture
            if picture is None:
                return replace(known, failure=prepared.failure)
            if isinstance(picture, Pages) or picture.transformed:
                await content.drop()
                await unpacking.aclose()
            known = replace(known, sent=_pages_sent(picture), detail=question.detail)
            with watch.timed("model"):
                if question.per_page:
                    return await answer_pages(
                        sent_pages(picture), known, so_far, partial(self._ask_page, question), keep or _forget
                    )
                return await self._ask(question, picture, known, so_far.reply)

    async def _ask_page(self, question: Question, page: SentPage, earlier: Reply | None) -> Answered:
        return await self._ask(question, page, Answered(), earlier)

    async def _ask(self, question: Question, picture: Picture, known: Answered, earlier: Reply | None) -> Answered:
        try:
            reply = await self._model.ask(question, picture)
        except PermanentFailure as failure:
            return replace(known, failure=failure, reply=failure.reply.after(earlier) if failure.reply else earlier)
        self._deployed.learn(question.deployment, reply.model)
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
            return await self._ask(question, picture, first, reply)
        except InBatch:
            raise
        except RetryableFailure as failure:
            raise Interrupted(first, failure) from failure


class LoggedAnswerer:
    """Asks a model that keeps its own log of what was paid, as `pipeline.job.batched` does: nothing else is kept."""

    def __init__(self, model: VisionModel, preparer: Preparer, deployed: DeployedModels) -> None:
        self._answerer = ModelAnswerer(model, preparer, deployed)

    async def answer(
        self,
        asked: Asked | NotAsked,
        content: Content,
        watch: Stopwatch,
        so_far: SoFar = NOTHING_YET,
        keep: Keep | None = None,  # noqa: ARG002
    ) -> Answered:
        """See `Answerer`."""
        try:
            return await self._answerer.answer(asked, content, watch, so_far)
        except Interrupted as interrupted:
            raise interrupted.cause from None


async def _forget(answered: Answered) -> None:
    """Nothing needs to be kept, or there is no claim to keep it in."""


def _pages_sent(picture: Picture) -> tuple[PageSent, ...]:
    return tuple(
        PageSent(
            number=page.number,
            format=page.image.format,
            width=page.image.width,
            height=page.image.height,
            size_bytes=len(page.image.data),
            transformed=page.image.transformed,
        )
        for page in sent_pages(picture)
    )


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
