"""Detail `original`: which models take it, and what follows where one does not. Pure.

https://developers.openai.com/api/docs/guides/images-vision, "Model sizing behavior" (November 2026): gpt-5.4 and later
models take it, but for gpt-5.4-mini and gpt-5.4-nano.
"""

import re
from typing import TYPE_CHECKING

from pipeline.errors import ErrorCode, OperatorFailure, PermanentFailure
from pipeline.model.foreign_text import shown

if TYPE_CHECKING:  # who looks at the table needs no more of the model's side
    from pipeline.model.question import Question
    from pipeline.model.reasons import Reason

ORIGINAL = "original"

_VERSION = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|latest)$")
_TAKE_IT = re.compile(r"gpt-5\.[456](?:-(?:sol|terra|luna))?")
_DO_NOT = re.compile(
    r"gpt-5\.4-(?:mini|nano)"
    r"|gpt-5(?:\.[0-3])?(?:-.*)?"
    r"|(?:chat)?gpt-[34].*"
    r"|o[134](?:-.*)?"
    r"|computer-use-preview"
)
_ABOUT_DETAIL = re.compile(
    r"image_url\W{1,3}detail|\bdetail\b.{0,80}\boriginal\b|\boriginal\b.{0,80}\bdetail\b", re.IGNORECASE
)


class DetailRefused(OperatorFailure):
    """IMAGE_DETAIL is `original`, and the deployment's model does not take it."""


def takes_original(model: str | None) -> bool | None:
    """Whether `model`, with or without its version, takes detail `original`. None: not known, as of newer models."""
    family = _VERSION.sub("", (model or "").strip().lower().rpartition("/")[2])
    if _TAKE_IT.fullmatch(family):
        return True
    return False if _DO_NOT.fullmatch(family) else None


class DeployedModels:
    """Which model each deployment is, as far as it is known. One per process.

    Args:
        deployment: the app's own.
        model: what the operator says that it is. What answers say replaces it.
    """

    def __init__(self, deployment: str, model: str | None = None) -> None:
        self._models = {deployment: model}

    def learn(self, deployment: str, model: str | None) -> None:
        """Take down which `model` gave an answer, if it says so."""
        if model:
            self._models[deployment] = model

    def require_taken(self, question: "Question") -> None:
        """Check that the model takes the question's detail, as far as it is known.

        Raises:
            PermanentFailure: invalid_instructions; an option asks for what the model does not take.
            DetailRefused: the operator's setting does.
        """
        model = self._models.get(question.deployment)
        if question.detail == ORIGINAL and takes_original(model) is False:
            raise not_taken(question, f" ({shown(model or '', 100)})")


def is_about_original(reason: "Reason", question: "Question") -> bool:
    """Whether the service refuses a question for its detail `original`."""
    said = f"{reason.param} {reason.message}"
    return question.detail == ORIGINAL and reason.status in (400, 422) and _ABOUT_DETAIL.search(said) is not None


def not_taken(question: "Question", model: str = "", words: str = "") -> PermanentFailure | DetailRefused:
    """The failure of a question whose detail the model does not take.

    Args:
        question: it says whether an option or the setting asks for that detail.
        model: its name, as the message shows it.
        words: the service's own.
    """
    deployment = shown(question.deployment, 100)
    which = f"the model of the deployment '{deployment}'{model} does not take"
    if question.detail_by_setting:
        return DetailRefused(
            f"IMAGE_DETAIL is 'original', which {which}. Set it to auto, low or high; or deploy a model that takes it,"
            f" such as gpt-5.4, and set AZURE_OPENAI_MODEL to its name. {words}".rstrip()
        )
    return PermanentFailure(
        ErrorCode.INVALID_INSTRUCTIONS,
        f"The option detail is 'original', which {which}. Write auto, low or high, or name a deployment of a model that"
        f" takes it with the option deployment. {words}".rstrip(),
        {"option": "detail", "deployment": deployment},
    )
