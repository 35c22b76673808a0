"""A local stand-in for an Azure OpenAI resource: the same protocol, errors included, answered from what OCR reads.

`LocalModel` is the service; what it does with a request can be scripted (`localcloud.model.script`); who answers is a
`Brain`; another OpenAI-compatible server can answer instead (`upstream`).
"""

from localcloud.model.brain import Brain, HonestBrain
from localcloud.model.question import Picture, Question
from localcloud.model.replies import MODEL
from localcloud.model.script import (
    DEPLOYMENT_NOT_FOUND,
    EMPTY,
    FORBIDDEN,
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
)
from localcloud.model.server import LocalModel, Verify
from localcloud.model.structured import CannotAnswerError

__all__ = [
    "DEPLOYMENT_NOT_FOUND", "EMPTY", "FORBIDDEN", "MODEL", "RETIRED", "ROLE_MISSING", "SERVER_ERROR", "TRUNCATED",
    "UNAUTHORIZED", "UNAVAILABLE", "Answer", "AnswerFiltered", "Asked", "AskedPicture", "Behaviour", "Brain",
    "CannotAnswerError", "Dropped", "Failure", "Garbled", "Hang", "HonestBrain", "Limits", "LocalModel", "Picture",
    "Policy", "PromptFiltered", "Question", "Quota", "Refusal", "Script", "Slow", "Throttled", "Verify",
]  # fmt: skip
