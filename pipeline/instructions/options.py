"""Options: how to ask, set beside the instructions or for the whole app."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.documents.choice import PageChoice
from pipeline.errors import MOST_OF_A_MESSAGE
from pipeline.one_line import short
from pipeline.settings import (
    MOST_FLEX_PATIENCE,
    MOST_OUTPUT_TOKENS,
    Detail,
    ReasoningEffort,
    ServiceTier,
    TierFallback,
)


def _no_boolean(value: Any) -> Any:
    """YAML's `yes` is not a number."""
    if isinstance(value, bool):
        raise ValueError("it should be a whole number")  # noqa: TRY004 - pydantic reports ValueErrors
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """YAML's `3` is page 3."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _page_choice(value: str) -> str:
    PageChoice.parse(value)
    return value


class Options(BaseModel):
    """The options of one source; None is left to the next source. The field names are the keys that people write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detail: Annotated[Detail | None, BeforeValidator(_lower)] = None
    max_output_tokens: Annotated[int, BeforeValidator(_no_boolean), Field(gt=0, le=MOST_OUTPUT_TOKENS)] | None = None
    reasoning_effort: Annotated[ReasoningEffort | None, BeforeValidator(_lower)] = None
    deployment: Annotated[str, Field(min_length=1)] | None = None
    service_tier: Annotated[ServiceTier | None, BeforeValidator(_lower)] = None
    tier_fallback: Annotated[TierFallback | None, BeforeValidator(_lower)] = None
    flex_patience: Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, le=MOST_FLEX_PATIENCE)] | None = None
    """Seconds."""
    pages: Annotated[str, BeforeValidator(_as_text), AfterValidator(_page_choice)] | None = None
    """Which pages of a document, as `PageChoice` reads it."""
    per_page: bool | None = None
    schema_: Annotated[dict[str, Any] | str | None, Field(alias="schema")] = None
    """A JSON Schema, or the name of a blob that holds one."""

    def value_of(self, option: str) -> Any:
        """The value of the option that people call `option`."""
        return self.schema_ if option == "schema" else getattr(self, option)

    def over(self, other: "Options") -> "Options":
        """These options, and `other`'s where these say nothing."""
        return Options.model_construct(
            **{
                name: mine if (mine := getattr(self, name)) is not None else getattr(other, name)
                for name in Options.model_fields
            }
        )


_MEANT = {
    "detail": "auto, low, high or original",
    "max_output_tokens": f"a whole number from 1 to {MOST_OUTPUT_TOKENS:,}",
    "reasoning_effort": "none, minimal, low, medium, high or xhigh",
    "deployment": "the name of a deployment",
    "service_tier": "default, flex, priority or batch",
    "tier_fallback": "none or default",
    "flex_patience": f"a whole number of seconds from 0 to {MOST_FLEX_PATIENCE:,}",
    "pages": "all, first, last, or pages and ranges such as 1-3,7 or 2-",
    "per_page": "true or false",
    "schema": "a JSON Schema, or the name of a .schema.json blob",
}


MOST_QUOTED = 60
"""Characters of a value."""


def _written(value: Any) -> str:
    """`value` as messages quote it."""
    if isinstance(value, int) and value.bit_length() > MOST_QUOTED:  # Python refuses to write one of 4,300 digits
        return "far too large"
    return short(repr(value), MOST_QUOTED)


NAMES = tuple(field.alias or name for name, field in Options.model_fields.items())


class InvalidOption(ValueError):
    """An option that can't be meant; `option` is its name, the message says what to write instead."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(short(message, MOST_OF_A_MESSAGE))
        self.option = option


def parse_options(given: Mapping[str, Any]) -> Options:
    """The options in `given`, whose values may be text (metadata) or typed (YAML, JSON).

    Raises:
        InvalidOption: the first one that is unknown or has a value that it can't have.
    """
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            raise InvalidOption(
                option, f"there is no option '{short(option)}': the options are {', '.join(NAMES)}"
            ) from None
        raise InvalidOption(
            option, f"'{option}' is {_written(problem['input'])}: it should be {_MEANT[option]}"
        ) from None
