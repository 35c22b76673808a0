"""Log lines, spans and metrics of deliveries.

Spans and metrics go through OpenTelemetry's API alone: without its SDK, which only the platform brings (see
docs/operations.md), a span costs five microseconds and a measurement none. Names and units of everything about the
model are the GenAI conventions', still in development:
https://github.com/open-telemetry/semantic-conventions-genai/tree/main/docs/gen-ai

Names, sizes, ids and counts only: never a prompt, an answer, an image's bytes or a token's value. So exceptions are
not recorded on spans: the message of a refusal is the model's own words.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from pipeline import __version__
from pipeline.errors import OperatorFailure, PermanentFailure, RetryableFailure, TimedOut
from pipeline.one_line import blob_label, short

_tracer = trace.get_tracer("pipeline", __version__)
meter = metrics.get_meter("pipeline", __version__)

_outcomes = meter.create_counter("blobsight.outcomes", unit="{delivery}", description="How deliveries ended.")
_deferred = meter.create_counter(
    "blobsight.attempts.deferred", unit="{attempt}", description="Attempts that were deferred."
)
_taken_over = meter.create_counter(
    "blobsight.claims.taken_over", unit="{claim}", description="Claims taken over from a run that ended without a word."
)
_reused = meter.create_counter(
    "blobsight.answers.reused", unit="{answer}", description="Answers that an earlier run had paid for."
)
_lost = meter.create_counter(
    "blobsight.answers.lost",
    unit="{answer}",
    description="Answers that were paid for and could not be stored anywhere.",
)

type Value = str | int


@dataclass(slots=True)
class DeliveryRecord:
    """The findings of one delivery, for its log line and its span.

    It is filled in as things become known, so a delivery that failed shows what it had found out until then.
    """

    container: str
    name: str
    number: int
    """From 1: the request's count, and the runs that ended without a word."""
    trial: str | None = None
    """The id of the trial that it is for."""
    work_key: str | None = None
    outcome: str | None = None
    """None for a delivery that failed and comes again."""
    error_code: str | None = None
    deployment: str | None = None
    service_tier: str | None = None
    """Of the question, once it is known."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Milliseconds by step, as in a result's `timings_ms`."""
    started: float = field(default_factory=perf_counter)

    def fields(self) -> dict[str, Value]:
        """For a log record's `extra`: what is a column of its own in Application Insights (customDimensions)."""
        known: dict[str, Value | None] = {
            "container": short(self.container, 63),
            "blob": self.name,
            "attempt": self.number,
            "trial": self.trial,
            "work_key": self.work_key,
            "outcome": self.outcome,
            "error_code": self.error_code,
            "service_tier": self.service_tier,
            "total_ms": self._ms(),
            "model_ms": self.steps.get("model"),
        }
        return {name: value for name, value in known.items() if value is not None}

    def __str__(self) -> str:
        model = f", model {self.steps['model']} ms" if "model" in self.steps else ""
        return (
            f"{blob_label(self.container, self.name)}: {self.outcome}{f' {self.error_code}' if self.error_code else ''}"
            f" in {self._ms()} ms{model} ({self.ids})"
        )

    @property
    def ids(self) -> str:
        """Enough of the work key to find it by."""
        trial = f", trial {self.trial[:8]}" if self.trial else ""
        return f"attempt {self.number}{trial}" + (f", work {self.work_key[:8]}" if self.work_key else "")

    def _ms(self) -> int:
        return round((perf_counter() - self.started) * 1000)


@contextmanager
def analyzing(record: DeliveryRecord) -> Iterator[None]:
    """Trace the delivery; count its outcome if it has one."""
    with spanned("analyze", SpanKind.INTERNAL) as span:
        try:
            yield
        finally:
            span.set_attributes({f"blobsight.{name}": value for name, value in record.fields().items()})
    if record.outcome:
        error = {"error.type": record.error_code} if record.error_code else {}
        _outcomes.add(1, {"outcome": record.outcome, **error})


def count_deferred(failure: RetryableFailure) -> None:
    _deferred.add(1, {"error.type": error_type(failure)})


def count_taken_over() -> None:
    _taken_over.add(1)


def count_reused_answer() -> None:
    _reused.add(1)


def count_lost_answer() -> None:
    _lost.add(1)


def error_type(error: BaseException) -> str:
    """The kind of an error, in few different words, for metrics: an error code, a status, or an exception's name."""
    if isinstance(error, PermanentFailure):
        return error.code
    if isinstance(error, RetryableFailure) and type(error) in {RetryableFailure, OperatorFailure, TimedOut}:
        # Others say more by their names than by their status or cause.
        return str(error.status or type(error.__cause__ or error.__context__ or error).__name__)
    return type(error).__name__


@contextmanager
def spanned(name: str, kind: SpanKind, attributes: Mapping[str, Value] | None = None) -> Iterator[Span]:
    with _tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", error_type(error))
            span.set_status(Status(StatusCode.ERROR))
            raise
