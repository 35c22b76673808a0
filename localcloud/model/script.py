"""Behaviours of the model that a test chooses: from a queue or by a policy.

    model.script.add(Throttled(retry_after=2), Slow(0.5), Answer("A cat."))
    model.script.policy = Quota(tokens_per_minute=60_000)

The queue is served first, one behaviour a request; then the policy decides. Without either the model answers.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from localcloud.model.errors import (
    ErrorReply,
    abuse_blocked,
    deployment_not_found,
    failed_dependency,
    filter_results,
    gateway_quota,
    insufficient_quota,
    model_retired,
    network_denied,
    no_capacity,
    public_access_disabled,
    request_too_large,
    role_missing,
    server_error,
    tier_unsupported,
    token_rejected,
)


@dataclass(frozen=True, slots=True)
class AskedPicture:
    """An image that the model was sent, without its bytes."""

    sha256: str
    size: int
    declared_type: str
    format: str
    width: int
    height: int
    detail: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One well-formed request, as `history` keeps it."""

    at: datetime
    deployment: str
    system: str
    instructions: str
    pictures: tuple[AskedPicture, ...]
    response_format: Mapping[str, Any] | None
    options: Mapping[str, Any]
    prompt_tokens: int
    request_id: str
    """The x-request-id of the answer."""
    caller: str | None
    """The app's process that asked; see `localcloud.identity`."""
    headers: Mapping[str, str]
    """Lower-case names; what identifies the client and its try, never the token."""

    @property
    def service_tier(self) -> str:
        """The tier that was asked for; "default" where none was."""
        tier = self.options.get("service_tier")
        return "default" if tier in (None, "auto") else str(tier)


@dataclass(frozen=True, slots=True)
class Limits:
    """The quota after a request, for the x-ratelimit headers. Requests and tokens a minute."""

    limit_requests: int = 100_000
    limit_tokens: int = 100_000_000
    remaining_requests: int = 99_999
    remaining_tokens: int = 99_999_999


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: the text given, or, when there is none, the brain's (or the upstream's)."""

    text: str | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declines in words of its own: `message.refusal`, no content."""

    text: str = "I'm sorry, I can't help with that request."


@dataclass(frozen=True, slots=True)
class AnswerFiltered:
    """The filter stops the answer: finish_reason content_filter, with what was written until then."""

    category: str = "violence"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """An answer in another form: `change` gets the completion, and returns what is sent."""

    change: Callable[[dict[str, Any]], Any]
    text: str = "A picture."


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Any response, byte by byte."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptFiltered:
    """The filter stops the request: 400 with code content_filter."""

    category: str = "violence"


@dataclass(frozen=True, slots=True)
class Throttled:
    """429. Each header is sent only when given a value; the service has been seen to send any of them, and none."""

    retry_after: float | None = None
    retry_after_ms: int | None = None
    reset_tokens: float | None = None
    """Seconds, as x-ratelimit-reset-tokens says them."""
    reset_requests: float | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Any error with a body."""

    reply: ErrorReply


@dataclass(frozen=True, slots=True)
class Hang:
    """Reads the request and never answers."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection breaks: before the first byte of the answer, or in the middle of its body."""

    midway: bool = False


@dataclass(frozen=True, slots=True)
class Garbled:
    """200 and application/json, with a body that is not JSON; an empty one for b""."""

    body: bytes = b'{"id": "chatcmpl-'


@dataclass(frozen=True, slots=True)
class Slow:
    """Seconds of silence, then the other behaviour."""

    seconds: float
    then: "Behaviour" = Answer()


type Behaviour = (
    Answer
    | Refusal
    | AnswerFiltered
    | PromptFiltered
    | Changed
    | Throttled
    | Failure
    | Verbatim
    | Hang
    | Dropped
    | Garbled
    | Slow
)
type Policy = Callable[[Asked], Behaviour]


def _answer(_: Asked) -> Behaviour:
    return Answer()


UNAUTHORIZED = Failure(token_rejected())
ROLE_MISSING = Failure(role_missing())
FORBIDDEN = Failure(network_denied())
PUBLIC_ACCESS_DISABLED = Failure(public_access_disabled())
ABUSE_BLOCKED = Failure(abuse_blocked())
GATEWAY_QUOTA = Failure(gateway_quota())
FIREWALL_PAGE = Verbatim(
    403,
    b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n"
    b"<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n",
    "text/html",
)
INSUFFICIENT_QUOTA = Failure(insufficient_quota())
REQUEST_TOO_LARGE = Failure(request_too_large())
FAILED_DEPENDENCY = Failure(failed_dependency())
DEPLOYMENT_NOT_FOUND = Failure(deployment_not_found())
RETIRED = Failure(model_retired())
SERVER_ERROR = Failure(server_error(500))
UNAVAILABLE = Failure(server_error(503))
NO_FLEX_CAPACITY = Failure(no_capacity())
FLEX_UNSUPPORTED = Failure(tier_unsupported("flex"))
EMPTY = Garbled(b"")
TRUNCATED = Answer("The picture shows a", finish_reason="length")
NO_CHOICES = Changed(lambda completion: completion | {"choices": []})
"""Paid for, as its usage says."""


def _only_reasoning(completion: dict[str, Any]) -> dict[str, Any]:
    completion["choices"][0] |= {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
    completion["usage"] |= {"completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 100}}
    return completion


def _filtered_without_message(completion: dict[str, Any]) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": "content_filter",
        "content_filter_results": filter_results("hate", prompt=False),
    }
    return completion | {"choices": [choice]}


ONLY_REASONING = Changed(_only_reasoning)
"""All tokens that the answer may take went into reasoning."""
FILTERED_WITHOUT_MESSAGE = Changed(_filtered_without_message)


@dataclass(slots=True)
class Script:
    """The queue and the policy after it. Both may be changed while the model runs."""

    queue: deque[Behaviour] = field(default_factory=deque)
    policy: Policy = _answer

    def add(self, *behaviours: Behaviour) -> None:
        self.queue.extend(behaviours)

    def next(self, asked: Asked) -> Behaviour:
        return self.queue.popleft() if self.queue else self.policy(asked)

    def reset(self) -> None:
        self.queue.clear()
        self.policy = _answer


class ByTier:
    """A policy for each service tier, since the capacity of flex is apart from that of the others.

    model.script.policy = ByTier(flex=lambda _: NO_FLEX_CAPACITY)
    """

    def __init__(self, default: Policy = _answer, *, flex: Policy = _answer, priority: Policy = _answer) -> None:
        self._default = default
        self._others = {"flex": flex, "priority": priority}

    def __call__(self, asked: Asked) -> Behaviour:
        return self._others.get(asked.service_tier, self._default)(asked)


class Quota:
    """A deployment's quota as a policy: token buckets that refill evenly, answering 429 when either is empty.

    As the service does, a request is charged when it arrives, for its prompt and for all the tokens that it allows
    the answer; one that is refused costs nothing.
    """

    def __init__(
        self,
        *,
        tokens_per_minute: int,
        requests_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = _Bucket(tokens_per_minute, clock)
        self._requests = _Bucket(requests_per_minute, clock)

    def __call__(self, asked: Asked) -> Behaviour:
        cost = asked.prompt_tokens + int(asked.options.get("max_completion_tokens") or 0)
        wait_tokens, wait_requests = self._tokens.wait_for(cost), self._requests.wait_for(1)
        if wait_tokens or wait_requests:
            wait = max(wait_tokens, wait_requests)
            return Throttled(
                retry_after=wait,
                retry_after_ms=round(wait * 1000),
                reset_tokens=wait_tokens,
                reset_requests=wait_requests,
                limits=self.limits,
            )
        self._tokens.take(cost)
        self._requests.take(1)
        return Answer(limits=self.limits)

    @property
    def limits(self) -> Limits:
        return Limits(
            limit_requests=self._requests.per_minute,
            limit_tokens=self._tokens.per_minute,
            remaining_requests=int(self._requests.level),
            remaining_tokens=int(self._tokens.level),
        )


class _Bucket:
    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._at = clock()
        self._level = float(per_minute)

    @property
    def level(self) -> float:
        now = self._clock()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def wait_for(self, amount: float) -> float:
        """Seconds until that much is there; for more than the bucket holds, until it is full."""
        missing = min(amount, self.per_minute) - self.level
        return max(0.0, missing * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        self._level -= amount
