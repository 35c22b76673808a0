"""Turn a behaviour into a response: status, headers and body as the service sends them. Pure."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from localcloud.model.deployments import answered_tier
from localcloud.model.errors import ErrorReply, filter_results, prompt_filtered, throttled
from localcloud.model.question import Question
from localcloud.model.script import (
    Answer,
    AnswerFiltered,
    Behaviour,
    Changed,
    Dropped,
    Failure,
    Garbled,
    Hang,
    Limits,
    PromptFiltered,
    Refusal,
    Slow,
    Throttled,
    Verbatim,
)
from localcloud.model.tokens import cut, text_tokens

FINGERPRINT = "fp_blobsight1"
REGION = "Local"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, and how it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: float = 0.0
    """Seconds before the first byte."""
    sent: float = 1.0
    """The share of the body that is sent before the connection breaks; below 0 not even the head is."""
    hangs: bool = False


def request_id() -> str:
    raw = secrets.token_hex(16)
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def render(  # noqa: PLR0911 - one case for each behaviour
    behaviour: Behaviour, question: Question, text: str, created: int
) -> Reply:
    """The reply for a behaviour. text: what the brain answered, "" where the behaviour needs none."""
    match behaviour:
        case Answer():
            return _answered(question, text, behaviour, created)
        case Refusal():
            return _completion(question, created, refusal=behaviour.text)
        case AnswerFiltered():
            return _completion(
                question, created, content=behaviour.text, finish="content_filter", filtered=behaviour.category
            )
        case Changed():
            whole = _completion(question, created, content=behaviour.text)
            return Reply(200, json.dumps(behaviour.change(json.loads(whole.body))).encode(), whole.headers)
        case PromptFiltered():
            return error(prompt_filtered(behaviour.category))
        case Throttled() | Failure() | Verbatim():
            return failure(behaviour)
        case Hang() | Dropped() | Garbled():
            return lost(behaviour, _completion(question, created, content="The answer that is not delivered."))
        case Slow():
            return _changed(render(behaviour.then, question, text, created), silence=behaviour.seconds)
        case _:
            assert_never(behaviour)


def failure(behaviour: Throttled | Failure | Verbatim) -> Reply:
    """The reply that comes in the place of an answer."""
    match behaviour:
        case Throttled():
            return _throttled(behaviour)
        case Failure():
            return error(behaviour.reply)
        case Verbatim():
            return Reply(
                behaviour.status, behaviour.body, {"Content-Type": behaviour.content_type, **behaviour.headers}
            )


def lost(behaviour: Hang | Dropped | Garbled, whole: Reply) -> Reply:
    """What is left of an answer on its way."""
    match behaviour:
        case Hang():
            return Reply(200, b"", hangs=True)
        case Dropped():
            return _changed(whole, sent=0.5 if behaviour.midway else -1.0)
        case Garbled():
            return Reply(200, behaviour.body)


def error(reply: ErrorReply, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(reply.status, json.dumps(reply.body).encode(), headers or {})


def limit_headers(limits: Limits) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(limits.limit_requests),
        "x-ratelimit-limit-tokens": str(limits.limit_tokens),
        "x-ratelimit-remaining-requests": str(limits.remaining_requests),
        "x-ratelimit-remaining-tokens": str(limits.remaining_tokens),
    }


def common_headers(identifier: str, deployment: str) -> dict[str, str]:
    """The headers of every answer."""
    return {
        "x-request-id": identifier,
        "apim-request-id": identifier,
        "x-ms-region": REGION,
        "x-ms-deployment-name": deployment,
        "x-content-type-options": "nosniff",
        "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    }


def _changed(reply: Reply, *, silence: float | None = None, sent: float | None = None) -> Reply:
    return Reply(
        reply.status,
        reply.body,
        reply.headers,
        silence=reply.silence + (silence or 0.0),
        sent=reply.sent if sent is None else sent,
        hangs=reply.hangs,
    )


def _answered(question: Question, text: str, behaviour: Answer, created: int) -> Reply:
    content = text if behaviour.text is None else behaviour.text
    finish: str = behaviour.finish_reason
    most = question.max_completion_tokens
    if most is not None and text_tokens(content) > most:
        content, finish = cut(content, most), "length"
    return _completion(question, created, content=content, finish=finish, limits=behaviour.limits)


def _throttled(behaviour: Throttled) -> Reply:
    waits = [behaviour.retry_after, behaviour.reset_tokens, behaviour.reset_requests]
    if behaviour.retry_after_ms is not None:
        waits.append(behaviour.retry_after_ms / 1000)
    headers = limit_headers(behaviour.limits) if behaviour.limits else {}
    # Whole seconds, rounded up, as the service writes them.
    for name, seconds in (
        ("retry-after", behaviour.retry_after),
        ("x-ratelimit-reset-tokens", behaviour.reset_tokens),
        ("x-ratelimit-reset-requests", behaviour.reset_requests),
    ):
        if seconds is not None:
            headers[name] = str(-int(-seconds // 1))
    if behaviour.retry_after_ms is not None:
        headers["retry-after-ms"] = str(behaviour.retry_after_ms)
    return error(throttled(max((wait for wait in waits if wait is not None), default=60.0)), headers)


def _completion(  # noqa: PLR0913 - the variable parts of one document, all but two by keyword
    question: Question,
    created: int,
    *,
    content: str | None = None,
    refusal: str | None = None,
    finish: str = "stop",
    filtered: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Reply:
    completion_tokens = text_tokens(content or refusal or "")
    body: dict[str, Any] = {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": "chat.completion",
        "created": created,
        "model": question.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal, "annotations": []},
                "finish_reason": finish,
                "logprobs": None,
                "content_filter_results": filter_results(filtered, prompt=False),
            }
        ],
        "usage": {
            "prompt_tokens": question.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": question.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "system_fingerprint": FINGERPRINT,
        "service_tier": answered_tier(question.options.get("service_tier")),
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": filter_results(prompt=True)}],
    }
    return Reply(200, json.dumps(body).encode(), limit_headers(limits))
