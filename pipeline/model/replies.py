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
from pipeline.model.foreign_text import letters, shown
from pipeline.model.question import Question, Reply
from pipeline.model.reasons import decoded, reason_in, reason_of, request_id_in, verdict_in
from pipeline.model.refusals import content_filtered, refusal

MOST_TOKENS = 2**53
"""No service counts further; JSON's numbers do."""
MOST_REFUSAL_CHARACTERS = 500
"""Of the model's own words in a message; `details` hold them all."""
FILTERED = (
    *("contentfilter", "sensitive", "safety", "imagesafety", "recitation", "imagerecitation", "blocklist"),
    *("prohibitedcontent", "imageprohibitedcontent", "spii", "guardrail", "contentpolicy", "moderation"),
)
"""How `finish_reason` begins, as `letters`, where a content filter stopped the answer: OpenAI's and Azure's, z.ai's,
Google's, Amazon's."""
REFUSED = "refusal"
"""`finish_reason` of Anthropic's models where the model declined."""
BROKEN_OFF = frozenset({"error", "networkerror", "insufficientsystemresource", "abort"})
"""`finish_reason`, as `letters`, of gateways (OpenRouter), z.ai, DeepSeek and vLLM where the answer is not whole."""
TEXTS = ("text", "value", "content", "refusal", "reason", "message", "explanation")
"""Keys of an object that stands for text, the likeliest first."""
MOST_NESTED = 5
_DIGITS = re.compile(r"[0-9]{1,16}")


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


def read_response(status: int, headers: Mapping[str, str], body: bytes, question: Question) -> Reply:
    """The answer in a response, whatever its status.

    Raises:
        PermanentFailure, RetryableFailure: as `read_reply` and `refusal` give them.
    """
    if not 200 <= status < 300:
        raise refusal(reason_in(status, headers, body, question), headers, question)
    return read_reply(body, headers, question, status)


def read_reply(body: bytes, headers: Mapping[str, str], question: Question, status: int = 200) -> Reply:
    """The answer in the `body` of a response with a 2xx `status`.

    Raises:
        PermanentFailure: content_filtered, model_refused, empty_answer.
        RetryableFailure: the body is not a chat completion, or is the refusal of a gateway that says 200 all the same.
    """
    try:
        whole = json.loads(decoded(body))
    except (ValueError, RecursionError):
        failure = _no_json(body, headers, question, status)
        failure.reply = Reply("", None, None, request_id_in(headers))
        raise failure from None
    choice = _choice(_at(whole, "choices"))
    usage = _at(whole, "usage")
    reply = Reply(
        text="",
        finish_reason=_word(_at(choice, "finish_reason")),
        model=_word(_at(whole, "model")),
        request_id=request_id_in(headers),
        service_tier=_word(_at(whole, "service_tier")),
        # Chat completions' names, and those of the Responses API.
        input_tokens=_count(_at(usage, "prompt_tokens"), _at(usage, "input_tokens")),
        output_tokens=_count(_at(usage, "completion_tokens"), _at(usage, "output_tokens")),
        reasoning_tokens=_count(
            _at(usage, "completion_tokens_details", "reasoning_tokens"),
            _at(usage, "output_tokens_details", "reasoning_tokens"),
        ),
        cached_tokens=_count(
            _at(usage, "prompt_tokens_details", "cached_tokens"), _at(usage, "input_tokens_details", "cached_tokens")
        ),
    )
    try:
        _require_unfiltered(whole, choice, reply)
        if not isinstance(choice, dict):
            raise _without_choices(whole, headers, question, status)
        if letters(reply.finish_reason or "") in BROKEN_OFF:
            reason = reason_of(choice.get("error"), status, headers, question)
            raise UnreadableAnswer(
                f"The model's answer broke off (finish_reason {reply.finish_reason}). {reason.words}"
            )
        return replace(reply, text=_text_of(_at(choice, "message"), reply, question))
    except Failure as failure:
        failure.reply = reply
        raise


def _require_unfiltered(whole: Any, choice: Any, reply: Reply) -> None:
    stopped = letters(reply.finish_reason or "").startswith(FILTERED)
    beside = {key: part for key, part in choice.items() if key != "message"} if isinstance(choice, dict) else None
    of_answer, of_prompt = verdict_in(beside), verdict_in(_at(whole, "prompt_filter_results"))
    if stopped or any(category["filtered"] for category in of_answer.values()):
        raise content_filtered("answer", of_answer)
    if any(category["filtered"] for category in of_prompt.values()):
        raise content_filtered("request", of_prompt)


def _text_of(message: Any, reply: Reply, question: Question) -> str:
    if isinstance(message, str):
        message = {"content": message}
    if not isinstance(message, dict):
        raise UnreadableAnswer("The model's answer holds no message.")
    content, declined = message.get("content"), message.get("refusal")
    text, words = _text_in(content), _text_in(declined)
    if isinstance(content, list):
        words = words or "".join(_text_in(part.get("refusal")) for part in content if isinstance(part, dict))
    if words or declined or letters(reply.finish_reason or "") == REFUSED:
        raise _refused(words or text)
    if not isinstance(content, str | list | None) and not text:
        raise UnreadableAnswer("The model's answer holds no text, but something else.")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise _empty(reply, question)
    return text


def _text_in(said: Any, depth: int = 0) -> str:
    """The text of an answer or a refusal. Compatible servers may write parts, as requests are written."""
    if isinstance(said, str):
        return said.encode(errors="replace").decode()  # it may hold half a character, which has no UTF-8
    if isinstance(said, list) and depth < MOST_NESTED:
        return "".join(_text_in(part, depth + 1) for part in said)
    if isinstance(said, dict) and depth < MOST_NESTED:
        return next(filter(None, (_text_in(said.get(key), depth + 1) for key in TEXTS)), "")
    return ""


def _refused(words: str) -> PermanentFailure:
    said = f": {shown(words, MOST_REFUSAL_CHARACTERS)}" if words.strip() else ", and gives no reason."
    return PermanentFailure(
        ErrorCode.MODEL_REFUSED,
        f"The model declined to answer{said} Change the instructions or the image.",
        {"refusal": words},
    )


def _empty(reply: Reply, question: Question) -> PermanentFailure:
    reasoned = f"{reply.reasoning_tokens:,} of them for reasoning" if reply.reasoning_tokens else ""
    if reply.truncated:
        what = (
            f"It used up the {question.max_output_tokens:,} tokens that it may take{', ' if reasoned else ''}{reasoned}"
        )
    else:
        what = "It ended by itself" + (f" (finish_reason {reply.finish_reason})" if reply.finish_reason else "")
    effort = f" (now {question.reasoning_effort})" if question.reasoning_effort else ""
    return PermanentFailure(
        ErrorCode.EMPTY_ANSWER,
        f"The model answered without a word. {what}: {question.cure_of_truncation}, or lower"
        f" reasoning_effort{effort}{'' if reply.truncated else ', or put the question in other words'}.",
        {"finish_reason": reply.finish_reason, "reasoning_tokens": reply.reasoning_tokens},
    )


def _no_json(body: bytes, headers: Mapping[str, str], question: Question, status: int) -> UnreadableAnswer:
    reason = reason_in(status, headers, body, question)
    if reason.is_page:  # not an answer, so its words may be the reason
        return UnreadableAnswer(
            f"A web page came instead of the model's answer. {reason.words}", details=reason.details
        )
    return UnreadableAnswer(f"The model's answer of {len(body):,} bytes is not JSON ({reason.where}).")


def _without_choices(whole: Any, headers: Mapping[str, str], question: Question, status: int) -> Failure:
    """A success that holds no answer: a gateway's refusal, or nothing."""
    reason = reason_of(whole, status, headers, question)
    embedded = _embedded_status(whole)
    if embedded is not None or reason.filtered:
        return refusal(replace(reason, status=embedded or status), headers, question)
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
    said = (value for path in paths if isinstance(value := _at(whole, *path), str | int))
    return next((int(status) for status in said if re.fullmatch(r"[45][0-9]{2}", str(status))), None)


def _at(document: Any, *path: str | int) -> Any:
    """The value at `path`; None where there is none."""
    for step in path:
        is_there = (isinstance(document, dict) and step in document) or (
            isinstance(document, list) and isinstance(step, int) and step < len(document)
        )
        document = document[step] if is_there else None
    return document


def _word(said: Any) -> str | None:
    return shown(said, 200) or None if isinstance(said, str) else None


def _count(*said: Any) -> int | None:
    """The first number in `said`, which may be a string of digits."""
    for tokens in said:
        number = int(tokens) if isinstance(tokens, str) and _DIGITS.fullmatch(tokens) else tokens
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < MOST_TOKENS:
            return int(number)
    return None


def _choice(choices: Any) -> Any:
    """The first choice that has a message; failing that, the first one."""
    those = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return next((choice for choice in those if isinstance(choice.get("message"), dict)), those[0] if those else None)
