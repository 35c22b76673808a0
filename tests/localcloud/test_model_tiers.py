"""Service tiers and deployments: the local model takes what the service takes, and says which tier it was."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from support.asking_model import Echo, body, sdk, verify

from localcloud.certificates import Certificates
from localcloud.model import (
    FLEX_UNSUPPORTED,
    NO_FLEX_CAPACITY,
    ByTier,
    Deployment,
    LocalModel,
    Quota,
)


@pytest.fixture(scope="session")
async def model(certificates: Certificates) -> AsyncIterator[LocalModel]:
    deployments = ("vision", Deployment("plain", tiers=()), Deployment("nightly", "DataZoneBatch"))
    async with LocalModel(certificates, verify=verify, brain=Echo(), deployments=deployments) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(model: LocalModel) -> Iterator[None]:
    yield
    model.script.reset()
    model.history.clear()


@pytest.fixture
async def client(model: LocalModel, certificates: Certificates) -> AsyncIterator[openai.AsyncOpenAI]:
    async with sdk(model, certificates) as made:
        yield made


async def tier_of(client: openai.AsyncOpenAI, **options: Any) -> str | None:
    answer = await client.chat.completions.create(**body() | options)
    tier: str | None = answer.service_tier
    return tier


@pytest.mark.parametrize(
    ("options", "tier"),
    [
        ({}, "default"),
        ({"service_tier": "auto"}, "default"),
        ({"service_tier": "default"}, "default"),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
        ({"model": "plain", "service_tier": "default"}, "default"),
    ],
)
async def test_the_answer_says_which_tier_it_was(
    model: LocalModel, client: openai.AsyncOpenAI, options: dict[str, Any], tier: str
) -> None:
    assert await tier_of(client, **options) == tier
    assert model.history[0].service_tier == tier


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"model": "plain", "service_tier": "flex"}, None, "Unsupported service_tier: flex"),
        ({"service_tier": "batch"}, "invalid_value", "'batch'"),
        ({"model": "nightly"}, "OperationNotSupported", "chatCompletion operation does not work"),
    ],
)
async def test_what_a_deployment_does_not_take_is_refused(
    model: LocalModel, client: openai.AsyncOpenAI, options: dict[str, Any], code: str | None, words: str
) -> None:
    """And does not fall back to another tier."""
    with pytest.raises(openai.BadRequestError, match=words) as raised:
        await tier_of(client, **options)
    assert raised.value.code == code
    assert not model.history


async def test_flex_without_capacity_is_a_429_like_any_other(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """Which says nothing of flex, nor when to try again; other tiers go on."""
    model.script.policy = ByTier(flex=lambda _: NO_FLEX_CAPACITY)
    with pytest.raises(openai.RateLimitError) as raised:
        await tier_of(client, service_tier="flex")
    assert raised.value.code == "429"
    assert "flex" not in raised.value.response.text
    assert not {name for name in raised.value.response.headers if name.startswith(("retry", "x-ratelimit"))}
    assert await tier_of(client) == "default"
    assert await tier_of(client, service_tier="priority") == "priority"


async def test_capacities_of_tiers_are_apart(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.script.policy = ByTier(
        Quota(tokens_per_minute=100_000, requests_per_minute=1),
        flex=Quota(tokens_per_minute=100_000, requests_per_minute=2),
    )
    for _ in range(2):
        assert await tier_of(client, service_tier="flex") == "flex"
    assert await tier_of(client) == "default"
    for options in ({"service_tier": "flex"}, {}):
        with pytest.raises(openai.RateLimitError):
            await tier_of(client, **options)


async def test_a_model_may_cease_to_take_flex(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.script.add(FLEX_UNSUPPORTED)
    with pytest.raises(openai.BadRequestError, match="Unsupported service_tier: flex"):
        await tier_of(client, service_tier="flex")
    assert await tier_of(client, service_tier="flex") == "flex"
