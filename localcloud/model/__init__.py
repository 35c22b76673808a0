"""A local stand-in for an Azure OpenAI resource: the same protocol, errors included, answered from what OCR reads.

A picture is read at the size at which the model behind a deployment would see it, by its detail. `LocalModel` is the
service; what it does with a request can be scripted (`localcloud.model.script`); who answers is a `Brain`; another
OpenAI-compatible server can answer instead (`upstream`). Files and batches are in `localcloud.model.batches`.
"""

from localcloud.model.brain import Brain, HonestBrain
from localcloud.model.deployments import MODEL, SMALL, Deployed, Deployment
from localcloud.model.question import Picture, Question
from localcloud.model.script import (
    ABUSE_BLOCKED,
    DEPLOYMENT_NOT_FOUND,
    EMPTY,
    FAILED_DEPENDENCY,
    FILTERED_WITHOUT_MESSAGE,
    FIREWALL_PAGE,
    FLEX_UNSUPPORTED,
    FORBIDDEN,
    GATEWAY_QUOTA,
    INSUFFICIENT_QUOTA,
    NO_CHOICES,
    NO_FLEX_CAPACITY,
    ONLY_REASONING,
    PUBLIC_ACCESS_DISABLED,
    REQUEST_TOO_LARGE,
    RETIRED,
    ROLE_MISSING,
    SERVER_ERROR,
    TRUNCATED,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    AnswerFiltered,
    Asked,
    AskedPicture,
    Behaviour,
    ByTier,
    Changed,
    Dropped,
    Failure,
    Garbled,
    Hang,
    Limits,
    Policy,
    PromptFiltered,
    Quota,
    Refusal,
    Script,
    Slow,
    Throttled,
    Verbatim,
)
from localcloud.model.server import LocalModel
from localcloud.model.structured import CannotAnswerError
from localcloud.model.wire import Verify

__all__ = [
    "ABUSE_BLOCKED", "DEPLOYMENT_NOT_FOUND", "EMPTY", "FAILED_DEPENDENCY", "FILTERED_WITHOUT_MESSAGE", "FIREWALL_PAGE",
    "FLEX_UNSUPPORTED", "FORBIDDEN", "GATEWAY_QUOTA", "INSUFFICIENT_QUOTA", "MODEL", "NO_CHOICES", "NO_FLEX_CAPACITY",
    "ONLY_REASONING", "PUBLIC_ACCESS_DISABLED", "REQUEST_TOO_LARGE", "RETIRED", "ROLE_MISSING", "SERVER_ERROR", "SMALL",
    "TRUNCATED", "UNAUTHORIZED", "UNAVAILABLE", "Answer", "AnswerFiltered", "Asked", "AskedPicture", "Behaviour",
    "Brain", "ByTier", "CannotAnswerError", "Changed", "Deployed", "Deployment", "Dropped", "Failure", "Garbled",
    "Hang", "HonestBrain", "Limits", "LocalModel", "Picture", "Policy", "PromptFiltered", "Question", "Quota",
    "Refusal", "Script", "Slow", "Throttled", "Verbatim", "Verify",
]  # fmt: skip
