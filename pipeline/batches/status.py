"""What the service says of a batch and of its lines, in whatever spelling. Pure.

Samples and answers vary in case, between "" and null, and in what they leave out, so nothing is relied on that the
service need not say. https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
"""

import json
from dataclasses import dataclass
from typing import Any, Self

from pipeline.job.batched import LineReply
from pipeline.model.foreign_text import shown

ENDED = frozenset({"failed", "completed", "expired", "cancelled", "canceled"})
LATER = frozenset(
    {
        "token_limit_exceeded",
        "too_many_tasks",
        "model_not_found",
        "model_mismatch",
        "invalid_request",
        "input_no_permissions",
        "url_mismatch",
    }
)
"""Codes of a batch that failed as a whole before any of its lines was asked: the quota of enqueued tokens is used up,
or an operator has to fix something. It may be submitted again."""
NO_ANSWER = 503
"""The status of a line to which its batch has no answer."""
_PASSING = frozenset({408, 409, 429})
MOST_OF_A_WORD = 200
"""Characters of an id, a status or a code; the longest known have some 50."""


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch, as the service describes it."""

    id: str
    status: str
    """In lower case."""
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int = 0
    failed: int = 0
    code: str | None = None
    """Of the first error, where the batch failed as a whole."""
    problem: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def may_be_taken_later(self) -> bool:
        """Whether it failed before any line was asked, for a reason that passes or that an operator can fix."""
        return self.status == "failed" and self.code in LATER and not (self.output_file_id or self.error_file_id)

    @classmethod
    def read(cls, document: Any) -> Self | None:
        """The batch in the service's JSON; None where there is none."""
        if not isinstance(document, dict) or not (batch_id := word(document.get("id"))):
            return None
        counts = document.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        error = _first_error(document.get("errors"))
        code, message = word(error.get("code")), _text(error.get("message"))
        return cls(
            id=batch_id,
            status=(word(document.get("status")) or "").lower(),
            input_file_id=word(document.get("input_file_id")),
            output_file_id=word(document.get("output_file_id")),
            error_file_id=word(document.get("error_file_id")),
            completed=_count(counts.get("completed")),
            failed=_count(counts.get("failed")),
            code=code.lower() if code else None,
            problem=": ".join(filter(None, (shown(code or "", 60), shown(message or "", 300)))) or None,
        )


def read_line(line: bytes) -> tuple[str, LineReply] | None:
    """The name and the reply in a line of an output or error file; None where it can't be read."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("custom_id"), str):
        return None
    response, error = document.get("response"), document.get("error")
    if isinstance(response, dict) and (status := _count(response.get("status_code"))):
        request_id = _text(response.get("request_id"))
        return document["custom_id"], LineReply(
            status=status, body=_body(response.get("body")), request_id=shown(request_id, 200) if request_id else None
        )
    return document["custom_id"], LineReply(status=NO_ANSWER, body=_body({"error": error}))


def no_answer(why: str) -> LineReply:
    """The reply to a line of which the batch says nothing."""
    return LineReply(status=NO_ANSWER, body=_body({"error": {"code": "no_answer", "message": why}}))


def passes(reply: LineReply) -> bool:
    """Whether another batch may have an answer."""
    return reply.status >= 500 or reply.status in _PASSING


def word(value: Any) -> str | None:
    """An id or a code of the service's; None for what is none."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= MOST_OF_A_WORD else None


def _body(document: Any) -> str:
    if isinstance(document, str):
        return document.encode(errors="replace").decode()  # it may hold half a character, which has no UTF-8
    return json.dumps(document)


def _first_error(errors: Any) -> dict[str, Any]:
    data = errors.get("data") if isinstance(errors, dict) else errors
    first = data[0] if isinstance(data, list) and data else errors if isinstance(errors, dict) else {}
    return first if isinstance(first, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
