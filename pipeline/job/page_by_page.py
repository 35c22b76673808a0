"""A document of which each page is a question of its own: the answers in order, each paid once.

One page after the other, and what was paid is kept after each: a worker that dies loses the page it was asking about,
and no other. A page that fails for good does not stop the others.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from pipeline.documents.facts import SentPage
from pipeline.errors import ErrorCode, InBatch, PermanentFailure, RetryableFailure
from pipeline.job.work import UNFINISHED, Answered, SoFar, error_of, usage_of
from pipeline.model.question import AnsweredBy, Reply, the_same
from pipeline.result import PageAnswer

type AskPage = Callable[[SentPage, Reply | None], Awaitable[Answered]]
type Keep = Callable[[Answered], Awaitable[None]]


class Interrupted(Exception):
    """More has to be asked, which `cause` prevents for now; `answered` is what was paid so far."""

    def __init__(self, answered: Answered, cause: RetryableFailure) -> None:
        super().__init__(cause.message)
        self.answered = answered
        self.cause = cause


async def answer_pages(
    pages: tuple[SentPage, ...], known: Answered, so_far: SoFar, ask: AskPage, keep: Keep
) -> Answered:
    """Ask about each of `pages` that is not answered `so_far`.

    Args:
        pages: in their order.
        known: what is known of the document.
        so_far: the answers that were paid for.
        ask: asks about one page; it is given a reply that was paid for and did not meet the schema.
        keep: keeps what was answered, for the case that this run ends without a word.

    Raises:
        InBatch: pages wait for a batch; all the others were asked about.
        Interrupted: a page can't be answered now, and others were paid for.
        RetryableFailure: none was.
    """
    answers = {page.number: page for page in so_far.pages}
    by = so_far.answered_by
    in_batch: InBatch | None = None
    for page in pages:
        earlier = answers.get(page.number)
        if earlier and not _wants_another(earlier):
            continue
        try:
            answered = await ask(page, _reply_of(earlier, by) if earlier else None)
        except InBatch as waiting:
            in_batch = waiting
            continue
        except (Interrupted, RetryableFailure) as failure:
            if isinstance(failure, Interrupted):
                answers[page.number] = _page_answer(page.number, failure.answered)
            if not answers:
                raise
            so_far_together = _unfinished(together(_in_order(pages, answers), known, by))
            raise Interrupted(
                so_far_together, failure.cause if isinstance(failure, Interrupted) else failure
            ) from failure
        by = answered.reply.answered_by if answered.reply and answered.reply.model else by
        answers[page.number] = _page_answer(page.number, answered)
        if len(answers) < len(pages):
            await keep(_unfinished(together(_in_order(pages, answers), known, by)))
    if in_batch:
        raise in_batch
    return together(_in_order(pages, answers), known, by)


def together(answers: Sequence[PageAnswer], known: Answered, by: AnsweredBy) -> Answered:
    """What is `known` of the document, with the answers of its pages and the sum of what they cost."""
    total: Reply | None = None
    for answer in answers:
        total = _reply_of(answer, by).after(total)
    if total:
        tier = the_same(*(answer.service_tier for answer in answers))
        total = replace(total, request_id=None, service_tier=tier)
    return replace(known, pages=tuple(answers), reply=total)


def _in_order(pages: Sequence[SentPage], answers: Mapping[int, PageAnswer]) -> list[PageAnswer]:
    return [answers[page.number] for page in pages if page.number in answers]


def _wants_another(answer: PageAnswer) -> bool:
    """Whether its first reply did not meet the schema, and the second could not be had."""
    return answer.error is not None and (answer.error.details or {}).get("asked") == 1


def _reply_of(answer: PageAnswer, by: AnsweredBy) -> Reply:
    usage = answer.usage
    return Reply(
        text="",
        finish_reason=None,
        model=by.model,
        endpoint=by.endpoint,
        service_tier=answer.service_tier,
        request_id=answer.request_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
    )


def _page_answer(number: int, answered: Answered) -> PageAnswer:
    reply = answered.reply
    return PageAnswer(
        number=number,
        text=reply.text if reply and reply.text else None,
        data=answered.data,
        finish_reason=reply.finish_reason if reply else None,
        truncated=bool(reply and reply.truncated),
        request_id=reply.request_id if reply else None,
        service_tier=reply.service_tier if reply else None,
        usage=usage_of(reply),
        error=error_of(answered.failure),
    )


def _unfinished(answered: Answered) -> Answered:
    """To be kept, and never to be written."""
    failure = PermanentFailure(ErrorCode.CRASHED, "Not all pages were asked about yet.", {UNFINISHED: True})
    return replace(answered, failure=failure)
