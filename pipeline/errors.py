"""Failures of one piece of work, sorted by what has to happen next.

Failure
├── InvalidRequest      a message that can't be understood or is not allowed: it is refused (requests.py)
├── PermanentFailure    trying again would change nothing: it is written as a failed result at once
│   └── Unclear             an image seems damaged, and the decoder has the last word (inspection.py)
└── RetryableFailure    waiting may help: throttling, outages, a connection that broke
    ├── OperatorFailure waiting for a person: a missing role, a wrong deployment name; retried all the same
    │   ├── QuotaUsedUp         the account's money, a gateway's quota, a quota by the day (refusals.py)
    │   ├── DetailRefused       the model does not take the detail of the setting IMAGE_DETAIL (original.py)
    │   ├── RequestTooLarge     one request needs more tokens than a minute's quota (refusals.py)
    │   └── ContainerMissing    there is no such container (facts.py)
    ├── NoFlexCapacity  the tier flex has no capacity: the work waits there, and then falls back if asked (refusals.py)
    ├── Refused         the service does not take a batch now, or a step of it (service.py)
    │   └── FileGone    it does not find the batch, or a file of it (service.py)
    ├── UnreadableAnswer    the model's answer can't be read: permanent after a few tries (replies.py)
    ├── TimedOut        the model did not answer in time; repeated, it may be the image's or the question's fault
    ├── AnswerKept      the answer is there and its result can't be written: the next run goes on from there
    └── NotTried        nothing was tried, so nothing failed: another run has the work, or there is no place for it yet
        ├── Busy                the model's turn would come too late (gate.py)
        ├── OverRate            a rate that the operator set is used up (rates.py)
        │   ├── OverDailyTokens     TOKENS_PER_DAY
        │   └── OverReanalyses      REANALYSES_PER_HOUR
        ├── InBatch             it waits for a batch, which brings it back
        ├── ClaimedElsewhere    another run is at it (facts.py)
        ├── NoMemory            the images in progress leave no memory for it (memory.py)
        └── NotSettled          the blob is still being written (reading.py)

Adapters (storage, model) and the pure modules (images, instructions) raise these and nothing of their
SDKs' own, so the job knows only this tree. A wrong setting is a `SettingsError` and stops the start instead.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pipeline.one_line import short

if TYPE_CHECKING:
    from pipeline.model.question import Reply


MOST_OF_A_MESSAGE = 1000
"""Characters. What quotes other people's text shortens that, so that no message comes near it."""


class ErrorCode(StrEnum):
    """`error.code` of a failed result. Downstream systems match on these: add, never rename."""

    UNSUPPORTED_IMAGE = "unsupported_image"
    EMPTY_BLOB = "empty_blob"
    UNREADABLE_BLOB = "unreadable_blob"
    IMAGE_TOO_LARGE = "image_too_large"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PAGES = "too_many_pages"
    INVALID_INSTRUCTIONS = "invalid_instructions"
    CONTENT_FILTERED = "content_filtered"
    MODEL_REFUSED = "model_refused"
    EMPTY_ANSWER = "empty_answer"
    INVALID_ANSWER = "invalid_answer"
    REQUEST_REJECTED = "request_rejected"
    RETRIES_EXHAUSTED = "retries_exhausted"
    CRASHED = "crashed"


class Failure(Exception):
    """Why a piece of work did not succeed. `message` is written for the person who dropped the file.

    It is one printable line of at most `MOST_OF_A_MESSAGE` characters, whatever was put into it.

    `reply` is what the model service replied all the same: what was paid, and the call's id, with an empty text.
    """

    def __init__(self, message: str) -> None:
        self.message = short(message, MOST_OF_A_MESSAGE)
        super().__init__(self.message)
        self.reply: Reply | None = None


REFUSED_TIER = "service_tier"
"""Key in `details`: the service tier that the model does not take, where an option asked for it."""
MOST_DETAIL = 2000
"""Characters of a text in `details`, longer than any blob's name."""
MOST_DETAILS = 100
"""Entries of a list or an object in `details`."""


class PermanentFailure(Failure):
    """The work fails for good.

    `details` is what a program may want to know beyond the message, JSON-serializable.
    """

    def __init__(self, code: ErrorCode, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = None if details is None else _bounded(details)


class RetryableFailure(Failure):
    """The work may succeed later. `retry_after` is what the service asked for, in seconds, if it did."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class OperatorFailure(RetryableFailure):
    """The work succeeds once an operator has fixed the deployment; `message` says what to fix."""


class TimedOut(RetryableFailure):
    """The model did not answer in time."""


class AnswerKept(RetryableFailure):
    """The model has answered, and the result can't be written now. The answer is kept for the next run."""


class NotTried(RetryableFailure):
    """The work was not tried. It is deferred, which neither counts as an attempt nor towards RETRY_FOR_SECONDS."""


class InBatch(NotTried):
    """The question waits for a batch. It need not be deferred: the batch lane has the work delivered again."""


def _bounded(details: Any) -> Any:
    """`details` without what a stranger wrote too much of."""
    if isinstance(details, str):
        return details if len(details) <= MOST_DETAIL else f"{details[: MOST_DETAIL - 1]}…"
    if isinstance(details, Mapping):
        return {_bounded(key): _bounded(value) for key, value in list(details.items())[:MOST_DETAILS]}
    if isinstance(details, list | tuple):
        return [_bounded(value) for value in details[:MOST_DETAILS]]
    return details
