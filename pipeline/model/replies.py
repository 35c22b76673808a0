"""The content of a response with status 200: an answer, or why there is none. Pure.

Whatever was paid for is kept: an odd field is passed over rather than the answer refused, and a failure says what the
call has cost.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import ErrorCode, Failure, PermanentFailure, RetryableFailure
from pipeline.model.foreign_text import shown
from pipeline.model.question import Question, Reply
from pipeline.model.reasons import reason_in, reason_of, request_id_in, verdict_in
from pipeline.model.refusals import content_filtered, refusal

MOST_TOKENS = 2**53
"""No service counts further; JSON's numbers do."""
MOST_REFUSAL_CHARACTERS = 500
"""Of the model's own words in a message; `details` hold them all."""
FILTERED = ("content_filter", "sensitive", "safety")
"""How `finish_reason` begins where a content filter stopped the answer: OpenAI's and Azure's, z.ai's, Google's."""
BROKEN_OFF = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
"""`finish_reason` of gateways (OpenRouter), z.ai, DeepSeek and vLLM where the answer is not whole."""


class UnreadableAnswer(RetryableFailure):
    """The response holds neither an answer nor a refusal. After a few tries it is `for_good`."""

    def __init__(
        self, message: str, code: ErrorCode = ErrorCode.INVALID_ANSWER, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def for_good(self, times: int) -> PermanentFailure:
        """The failure once it was asked `times` times in vain."""
        failure = PermanentFailure(
            self.code,
            f"{self.message} It was asked {times} times. Once the service is fixed, have the image run again.",
            {**(self.details or {}), "asked": times},
        )
        failure.reply = self.reply
        return failure


def read_reply(body: bytes, headers: Mapping[str, str], question: Question) -> Reply:
    """The answer in a 200 response's `body`.

    Raises:
        PermanentFailure: content_filtered, model_refused, empty_answer.
        RetryableFailure: the body is not a chat completion, or is the refusal of a gateway that says 200 all the same.
    """
    try:
        # An answer may hold half a character, which has no UTF-8.
        whole = json.loads(body.decode(errors="replace"), object_hook=_without_half_characters)
    except (ValueError, RecursionError):
        failure = _no_json(body, headers, question)
        failure.reply = Reply("", None, None, request_id_in(headers))
        raise failure from None
    choice = _at(whole, "choices", 0)
    reply = Reply(
        text="",
        finish_reason=_word(_at(choice, "finish_reason")),
        model=_word(_at(whole, "model")),
        request_id=request_id_in(headers),
        input_tokens=_count(_at(whole, "usage", "prompt_tokens")),
        output_tokens=_count(_at(whole, "usage", "completion_tokens")),
        reasoning_tokens=_count(_at(whole, "usage", "completion_tokens_details", "reasoning_tokens")),
        cached_tokens=_count(_at(whole, "usage", "prompt_tokens_details", "cached_tokens")),
    )
    try:
        _require_unfiltered(whole, choice, reply)
        if not isinstance(choice, dict):
            raise _without_choices(whole, headers, question)
        if reply.finish_reason in BROKEN_OFF:
            reason = reason_of(choice.get("error"), 200, headers, question)
            raise UnreadableAnswer(
                f"The model's answer broke off (finish_reason {reply.finish_reason}). {reason.words}"
            )
        return replace(reply, text=_text_of(_at(choice, "message"), reply, question))
    except Failure as failure:
        failure.reply = reply
        raise


def _require_unfiltered(whole: Any, choice: Any, reply: Reply) -> None:
    stopped = (reply.finish_reason or "").lower().startswith(FILTERED)
    beside = {key: part for key, part in choice.items() if key != "message"} if isinstance(choice, dict) else None
    of_answer, of_prompt = verdict_in(beside), verdict_in(_at(whole, "prompt_filter_results"))
    if stopped or any(category["filtered"] for category in of_answer.values()):
        raise content_filtered("answer", of_answer)
    if any(category["filtered"] for category in of_prompt.values()):
        raise content_filtered("request", of_prompt)


def _text_of(message: Any, reply: Reply, question: Question) -> str:
    if not isinstance(message, dict):
        raise UnreadableAnswer("The model's answer holds no message.")
    content, declined = message.get("content"), message.get("refusal")
    if isinstance(content, list):  # compatible servers may answer in parts, as requests are written
        parts = [part for part in content if isinstance(part, dict)]
        declined = declined or "".join(str(part["refusal"]) for part in parts if part.get("refusal"))
        content = "".join(str(part.get("text") or "") for part in parts)
    if declined:
        raise PermanentFailure(
            ErrorCode.MODEL_REFUSED,
            f"The model declined to answer: {shown(str(declined), MOST_REFUSAL_CHARACTERS)} Change the instructions or"
            " the image.",
            {"refusal": str(declined)},
        )
    if not isinstance(content, str | None):
        raise UnreadableAnswer("The model's answer holds no text, but something else.")
    if not any(character.isprintable() and not character.isspace() for character in content or ""):
        raise _empty(reply, question)
    return content or ""


def _empty(reply: Reply, question: Question) -> PermanentFailure:
    reasoned = f"{reply.reasoning_tokens:,} of them for reasoning" if reply.reasoning_tokens else ""
    if reply.truncated:
        what = (
            f"It used up the {question.max_output_tokens:,} tokens that it may take{', ' if reasoned else ''}{reasoned}"
        )
    else:
        what = f"It ended by itself (finish_reason {reply.finish_reason})"
    effort = f" (now {question.reasoning_effort})" if question.reasoning_effort else ""
    return PermanentFailure(
        ErrorCode.EMPTY_ANSWER,
        f"The model answered without a word. {what}: raise max_output_tokens (now {question.max_output_tokens:,}), or"
        f" lower reasoning_effort{effort}{'' if reply.truncated else ', or put the question in other words'}.",
        {"finish_reason": reply.finish_reason, "reasoning_tokens": reply.reasoning_tokens},
    )


def _no_json(body: bytes, headers: Mapping[str, str], question: Question) -> UnreadableAnswer:
    reason = reason_in(200, headers, body, question)
    if reason.is_page:  # nobody's answer, so its words may be reason
        return UnreadableAnswer(
            f"A web page came instead of the model's answer. {reason.words}", details=reason.details
        )
    return UnreadableAnswer(f"The model's answer of {len(body):,} bytes is not JSON ({reason.where}).")


def _without_choices(whole: Any, headers: Mapping[str, str], question: Question) -> Failure:
    """A 200 that holds no answer: a gateway's refusal, or nothing."""
    reason = reason_of(whole, 200, headers, question)
    status = _embedded_status(whole)
    if status is not None or reason.filtered:
        return refusal(replace(reason, status=status or 200), headers, question)
    if any(_at(whole, key) for key in ("error", "errors", "detail")) or _at(whole, "object") == "error":
        return UnreadableAnswer(
            f"The model service refused, and called it an answer. {reason.words}",
            ErrorCode.REQUEST_REJECTED,
            {**reason.details, "param": reason.param},
        )
    return UnreadableAnswer(f"The model's answer holds no choices ({reason.where}).")


def _embedded_status(whole: Any) -> int | None:
    """The HTTP status that a gateway puts into the body of a 200."""
    paths: tuple[tuple[str, ...], ...] = (
        ("error", "code"),
        ("error", "status"),
        ("code",),
        ("statusCode",),
        ("status",),
    )
    said = (str(_at(whole, *path)) for path in paths)
    return next((int(status) for status in said if re.fullmatch(r"[45][0-9]{2}", status)), None)


def _at(document: Any, *path: str | int) -> Any:
    """What lies at `path`; None where nothing does."""
    for step in path:
        is_there = (isinstance(document, dict) and step in document) or (
            isinstance(document, list) and isinstance(step, int) and step < len(document)
        )
        document = document[step] if is_there else None
    return document


def _word(said: Any) -> str | None:
    return shown(said, 200) or None if isinstance(said, str) else None


def _count(tokens: Any) -> int | None:
    is_number = isinstance(tokens, int | float) and not isinstance(tokens, bool)
    return int(tokens) if is_number and 0 <= tokens < MOST_TOKENS else None


def _without_half_characters(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: part.encode(errors="replace").decode() if isinstance(part, str) else part for key, part in value.items()
    }
