"""The real adapter of the model, whose requests go to a simulated service instead of over the wire."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2
from openai import APIStatusError, InternalServerError, RateLimitError

from bench.simulation.service import Service
from pipeline.model.azure_openai import AzureOpenAIModel
from pipeline.pacing.governor import Governor

ROUND_TRIP = 0.05
"""Seconds until a request has arrived, and until a refusal is back."""
LATENCY, LATENCY_SPREAD, LONGEST_LATENCY = 4.0, 0.5, 60.0
"""Seconds for an answer: lognormal, its median and sigma; and none above this."""
LEAST_PROMPT, LONGEST_PROMPT = 700, 1500
"""Tokens of an image and its question. The app takes 1,000 for granted."""

_REQUEST = httpx2.Request("POST", "https://simulated.openai.azure.com/openai/v1/chat/completions")
_ANSWER = json.dumps(
    {
        "model": "simulated",
        "choices": [{"message": {"content": "A photo."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20},
    }
).encode()


@dataclass(frozen=True, slots=True)
class _Response:
    """As much of an `httpx2.Response` as is read of an answer."""

    headers: Mapping[str, str]
    content: bytes = _ANSWER
    status_code: int = 200


class Endpoint:
    """Stands in for the adapter's `AsyncOpenAI`."""

    def __init__(self, service: Service, answer_tokens: int, rng: Random) -> None:
        self.service = service
        self.is_down = False
        self.failed = 0
        """Requests while it was down."""
        self._answer_tokens = answer_tokens
        self._rng = rng

    def go_down(self) -> None:
        self.is_down = True

    def come_back(self) -> None:
        self.is_down = False

    async def post(self, _path: str, **_options: Any) -> _Response:
        """One chat completion."""
        await asyncio.sleep(ROUND_TRIP)
        if self.is_down:
            self.failed += 1
            raise _error(InternalServerError, 503, {})
        prompt = self._rng.randint(LEAST_PROMPT, LONGEST_PROMPT)
        accepted, headers = self.service.arrive(prompt + self._answer_tokens)
        if not accepted:
            await asyncio.sleep(ROUND_TRIP)
            raise _error(RateLimitError, 429, headers)
        seconds = self._rng.lognormvariate(math.log(LATENCY), LATENCY_SPREAD)
        await asyncio.sleep(min(seconds, LONGEST_LATENCY))
        return _Response(headers)


class SimulatedModel(AzureOpenAIModel):
    def __init__(self, endpoint: Endpoint, timeout: float, governor: Governor, rng: Random) -> None:
        super().__init__("https://simulated.openai.azure.com", _no_token, timeout, governor)
        self._client = endpoint  # type: ignore[assignment]  # all of the SDK that the adapter uses is its `post`
        self._rng = rng  # type: ignore[assignment]  # as random as it was, and the same for a seed


async def _no_token() -> str:
    return ""


def _error(kind: type[APIStatusError], status: int, headers: Mapping[str, str]) -> APIStatusError:
    return kind(str(status), response=httpx2.Response(status, headers=headers, request=_REQUEST), body=None)
