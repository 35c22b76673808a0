"""A span and a duration for each call of the model.

Names and units are the GenAI conventions', still in development:
https://github.com/open-telemetry/semantic-conventions-genai/tree/main/docs/gen-ai
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from pipeline.model.question import Reply
from pipeline.telemetry import Value, error_type, meter, spanned

# The boundaries are those that the conventions recommend.
_token_usage = meter.create_histogram(
    "gen_ai.client.token.usage",
    unit="{token}",
    description="Number of input and output tokens used.",
    explicit_bucket_boundaries_advisory=[4**power for power in range(14)],
)

_operation_duration = meter.create_histogram(
    "gen_ai.client.operation.duration",
    unit="s",
    description="GenAI operation duration.",
    explicit_bucket_boundaries_advisory=[0.01 * 2**power for power in range(14)],
)


@contextmanager
def calling_model(
    endpoint: str, deployment: str, *, max_output_tokens: int, as_json: bool
) -> Iterator[Callable[[Reply], None]]:
    """A span and a duration for one call of the model; give what it yields the reply.

    with calling_model(…) as replied:
        replied(await …)
    """
    server = urlsplit(endpoint)
    common: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": deployment,
        "server.address": server.hostname or endpoint,
        "server.port": server.port or (443 if server.scheme == "https" else 80),
    }
    ended: dict[str, Value] = {}
    started = perf_counter()
    with spanned(f"chat {deployment}", SpanKind.CLIENT, common) as span:
        span.set_attributes(
            {
                "gen_ai.system": "azure.ai.openai",  # the older name of the provider, which Application Insights knows
                "gen_ai.request.max_tokens": max_output_tokens,
                "gen_ai.output.type": "json" if as_json else "text",
            }
        )

        def replied(reply: Reply) -> None:
            if reply.model:
                ended["gen_ai.response.model"] = reply.model
            span.set_attributes(_of_reply(reply))
            for kind, tokens in (("input", reply.input_tokens), ("output", reply.output_tokens)):
                if tokens is not None:
                    _token_usage.record(tokens, {**common, **ended, "gen_ai.token.type": kind})

        try:
            yield replied
        except BaseException as error:
            ended["error.type"] = error_type(error)
            raise
        finally:
            _operation_duration.record(perf_counter() - started, {**common, **ended})


def _of_reply(reply: Reply) -> dict[str, Value | list[str]]:
    attributes = {
        "gen_ai.response.model": reply.model,
        "gen_ai.response.finish_reasons": [reply.finish_reason] if reply.finish_reason else None,
        "openai.response.service_tier": reply.service_tier,
        "azure.service.request.id": reply.request_id,
        "gen_ai.usage.input_tokens": reply.input_tokens,
        "gen_ai.usage.output_tokens": reply.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": reply.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": reply.cached_tokens,
    }
    return {name: value for name, value in attributes.items() if value is not None}
