"""Question and reply, as facts."""

from dataclasses import dataclass, replace

from pipeline.documents.choice import PageChoice
from pipeline.model.foreign_text import letters
from pipeline.pacing.lane import Lane
from pipeline.schemas import AnswerSchema
from pipeline.settings import MOST_OUTPUT_TOKENS, Detail, ReasoningEffort, ServiceTier, TierFallback

TRUNCATED = frozenset({"length", "modellength", "maxtokens", "maxoutputtokens", "maxcompletiontokens"})
"""`finish_reason`, as `letters`, of an answer that used up its tokens: OpenAI's, Mistral's, others'."""


SENT: frozenset[ServiceTier] = frozenset({"flex", "priority"})
"""Tiers that a call names."""


@dataclass(frozen=True, slots=True)
class Buying:
    """How an answer is bought. It changes what the answer costs and when it comes, never what it says."""

    tier: ServiceTier = "default"
    by_option: bool = False
    """Whether an option chose the tier, and not the setting SERVICE_TIER."""
    fallback: TierFallback = "none"
    """What follows where the tier does not answer: `default` asks at the default tier, `none` goes on as it is."""
    flex_patience: float = 3600
    """Seconds without capacity at `flex` before `fallback` counts."""

    @property
    def after_flex(self) -> "Buying":
        """How to go on when the patience with `flex` is over."""
        return replace(self, tier="default") if self.tier == "flex" and self.fallback == "default" else self


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked besides the image."""

    instructions: str
    deployment: str
    system_prompt: str
    detail: Detail
    max_output_tokens: int
    reasoning_effort: ReasoningEffort | None = None
    schema: AnswerSchema | None = None
    pages: PageChoice | None = None
    """Which pages of a document are meant; None: what is usual for its kind."""
    per_page: bool = False
    """Whether each page is asked about by itself."""
    most_output_tokens: int = MOST_OUTPUT_TOKENS
    """Ceiling of `max_output_tokens`. It changes no answer."""
    detail_by_setting: bool = False
    """Whether `detail` is the operator's setting, and no option. It changes no answer either."""
    buying: Buying = Buying()
    """Not part of the identity: another tier never pays for an answer again."""

    @property
    def service_tier(self) -> ServiceTier:
        """The tier to ask at: the lane that the question takes."""
        return self.buying.tier

    @property
    def lane(self) -> Lane:
        """Where its calls take their turns."""
        return Lane(self.deployment, self.service_tier if self.service_tier in SENT else "default")

    def at(self, tier: ServiceTier) -> "Question":
        """The same question at another tier."""
        return replace(self, buying=replace(self.buying, tier=tier))

    @property
    def cure_of_truncation(self) -> str:
        """What to do where an answer takes more tokens than it may."""
        if self.max_output_tokens < self.most_output_tokens:
            return f"raise max_output_tokens (now {self.max_output_tokens:,})"
        return f"ask the app's operator to raise MAX_OUTPUT_TOKENS (now {self.max_output_tokens:,})"

    def identity(self) -> list[object]:
        """JSON that is equal for equal questions, and for no others."""
        schema = self.schema.digest if self.schema else None
        plain = [*(getattr(self, name) for name in _PLAIN), schema]
        # Only where it is said: what has been asked about images keeps its identity.
        return [*plain, self.pages and self.pages.ranges, self.per_page] if self.pages or self.per_page else plain


_PLAIN = ("instructions", "deployment", "system_prompt", "detail", "max_output_tokens", "reasoning_effort")


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """Who answered: the model and version, and the host of its endpoint."""

    model: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The service's reply. Token counts are the service's own, None where it gave none."""

    text: str
    """The answer; "" where there is none."""
    finish_reason: str | None
    model: str | None
    request_id: str | None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    service_tier: str | None = None
    """The tier that the service says it answered at."""
    endpoint: str | None = None
    """The host that was asked."""

    @property
    def answered_by(self) -> AnsweredBy:
        return AnsweredBy(self.model, self.endpoint)

    @property
    def truncated(self) -> bool:
        return letters(self.finish_reason or "") in TRUNCATED

    def after(self, earlier: "Reply | None") -> "Reply":
        """This reply, with the tokens of an earlier one that did not do: they were paid too."""
        if earlier is None:
            return self
        return replace(
            self,
            model=self.model or earlier.model,
            service_tier=the_same(self.service_tier, earlier.service_tier),
            endpoint=self.endpoint or earlier.endpoint,
            input_tokens=_sum(self.input_tokens, earlier.input_tokens),
            output_tokens=_sum(self.output_tokens, earlier.output_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, earlier.reasoning_tokens),
            cached_tokens=_sum(self.cached_tokens, earlier.cached_tokens),
        )


def the_same(*said: str | None) -> str | None:
    """What all say that say anything; None where they differ."""
    different = set(filter(None, said))
    return different.pop() if len(different) == 1 else None


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)
