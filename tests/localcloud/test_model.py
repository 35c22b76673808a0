"""The local model keeps to the service's protocol, its refusals included, and says only what it can know."""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import jsonschema
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from PIL import Image
from support.asking_model import TOKEN, Echo, body, encoded, image_part, sdk, verify
from support.examples import examples

from localcloud.certificates import Certificates
from localcloud.errors import LocalCloudError
from localcloud.model import (
    DEPLOYMENT_NOT_FOUND,
    EMPTY,
    FORBIDDEN,
    MODEL,
    RETIRED,
    ROLE_MISSING,
    SERVER_ERROR,
    SMALL,
    TRUNCATED,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    AnswerFiltered,
    Asked,
    Behaviour,
    CannotAnswerError,
    Deployed,
    Deployment,
    Dropped,
    Garbled,
    Hang,
    HonestBrain,
    LocalModel,
    PromptFiltered,
    Question,
    Quota,
    Refusal,
    Slow,
    Throttled,
)
from localcloud.model.pixels import measure
from localcloud.model.reading import ReaderMissingError, Row, Word, arrange
from localcloud.model.structured import Findings, fill
from localcloud.model.tokens import cut, image_tokens, text_tokens

SAMPLES = Path(__file__).parents[2] / "samples"


class Unable:
    def answer(self, question: Question) -> str:
        raise CannotAnswerError(f"Not to {question.deployment}.")


class Rows:
    """A reader that sees the same text in every picture."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows

    def read(self, image: bytes) -> tuple[Row, ...]:
        assert image
        return self.rows


class NoReader:
    def read(self, image: bytes) -> tuple[Row, ...]:
        raise ReaderMissingError(str(len(image)))


RECEIPT = Rows(
    ("LUMEN COFFEE",),
    ("Date 2026-03-14", "Time 09:42"),
    ("Subtotal", "1,196.00"),
    ("TOTAL NOK", "1,245.00"),
    ("営業時間", "八時から"),
)


@pytest.fixture(scope="session")
async def model(certificates: Certificates) -> AsyncIterator[LocalModel]:
    async with LocalModel(certificates, verify=verify, brain=Echo()) as running:
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


@pytest.fixture
async def http(certificates: Certificates) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=certificates.client_context())
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session


async def ask(client: openai.AsyncOpenAI, *parts: Mapping[str, Any], **options: Any) -> ChatCompletion:
    answer = await client.chat.completions.create(**body(*parts, **options))
    assert isinstance(answer, ChatCompletion)
    return answer


async def post(
    http: aiohttp.ClientSession, model: LocalModel, payload: Any, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    async with http.post(
        f"{model.endpoint}/openai/v1/chat/completions",
        data=BytesIO(payload if isinstance(payload, bytes) else json.dumps(payload).encode()),
        headers=headers,
    ) as response:
        return response.status, await response.json()


# --- the protocol ---


async def test_an_answer_has_the_services_shape(client: openai.AsyncOpenAI) -> None:
    picture = image_part(encoded(size=(640, 480)), detail="high")
    raw = await client.chat.completions.with_raw_response.create(**body(picture, max_completion_tokens=100))
    answer = json.loads(raw.http_response.content)
    safe = {"filtered": False, "severity": "safe"}
    unseen = {"detected": False, "filtered": False}
    categories = dict.fromkeys(["hate", "self_harm", "sexual", "violence"], safe)

    assert answer.pop("id").startswith("chatcmpl-")
    assert abs(answer.pop("created") - time.time()) < 60
    assert answer == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "You asked: What is it?",
                    "refusal": None,
                    "annotations": [],
                },
                "finish_reason": "stop",
                "logprobs": None,
                "content_filter_results": categories
                | {"protected_material_code": unseen, "protected_material_text": unseen},
            }
        ],
        "usage": {
            "prompt_tokens": 356,
            "completion_tokens": 6,
            "total_tokens": 362,
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "system_fingerprint": "fp_blobsight1",
        "service_tier": "default",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": categories | {"jailbreak": unseen}}],
    }
    assert raw.headers["x-request-id"] == raw.headers["apim-request-id"]
    assert raw.headers["x-ms-deployment-name"] == "vision"
    assert int(raw.headers["x-ratelimit-remaining-requests"]) > 0
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) > 0


async def test_history_has_the_questions_but_not_the_bytes(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    data = encoded("JPEG", (20, 10))
    await ask(client, image_part(data, "image/jpeg", detail="low"), text="¿Qué es?", reasoning_effort="low")
    (asked,) = model.history
    (picture,) = asked.pictures
    assert (asked.deployment, asked.system, asked.instructions) == ("vision", "Be brief.", "¿Qué es?")
    assert asked.options == {"reasoning_effort": "low"}
    assert (picture.size, picture.format, picture.width, picture.height, picture.detail) == (
        len(data),
        "jpeg",
        20,
        10,
        "low",
    )
    assert "authorization" not in asked.headers
    assert asked.headers["x-stainless-retry-count"] == "0"
    assert TOKEN not in repr(asked)


async def test_the_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [listed.id async for listed in client.models.list()] == ["vision"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 401, None),
        ({"Authorization": "Basic abc"}, 401, None),
        ({"Authorization": "Bearer another-audience"}, 401, None),
        ({"Authorization": "", "api-key": "abc"}, 403, "AuthenticationTypeDisabled"),
    ],
)
async def test_only_a_token_for_this_audience_opens(
    model: LocalModel, http: aiohttp.ClientSession, headers: dict[str, str], status: int, code: str | None
) -> None:
    answered, answer = await post(http, model, body(), headers)
    assert answered == status
    if code:
        assert answer["error"]["code"] == code
    else:
        assert answer["statusCode"] == 401
    assert not model.history


async def test_the_retired_endpoints_are_gone(model: LocalModel, http: aiohttp.ClientSession) -> None:
    """The 2024 tutorial's path among them."""
    path = "/openai/deployments/vision/extensions/chat/completions?api-version=2023-12-01-preview"
    async with http.post(model.endpoint + path, json=body()) as response:
        assert response.status == 404
        assert (await response.json()) == {"error": {"code": "404", "message": "Resource not found"}}


def gif_of_two() -> bytes:
    buffer = BytesIO()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


STRICT = {"name": "r", "strict": True, "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}


@pytest.mark.parametrize(
    ("payload", "status", "code", "words"),
    [
        pytest.param(b"{", 400, None, "could not parse the JSON body", id="no JSON"),
        pytest.param({"messages": []}, 400, None, "must provide a model", id="no model"),
        pytest.param(body() | {"model": "gone"}, 404, "DeploymentNotFound", "does not exist", id="deployment"),
        pytest.param(body() | {"messages": None}, 400, "missing_required_parameter", "'messages'", id="no messages"),
        pytest.param(body() | {"messages": []}, 400, "empty_array", "empty array", id="empty messages"),
        pytest.param(body(max_tokens=5), 400, "unsupported_parameter", "'max_completion_tokens'", id="max_tokens"),
        pytest.param(body(temperature=0.2), 400, "unsupported_value", "'temperature'", id="temperature"),
        pytest.param(body(top_p=0.2), 400, "unsupported_parameter", "'top_p'", id="top_p"),
        pytest.param(body(max_completion_tokens=0), 400, "integer_below_min_value", "at least 1", id="no tokens"),
        pytest.param(body(reasoning_effort="huge"), 400, "invalid_value", "'huge'", id="effort"),
        pytest.param(body(dataSources=[]), 400, None, "dataSources", id="unknown argument"),
        pytest.param(body({"type": "file"}), 400, "invalid_value", "'file'", id="part"),
        pytest.param(body(image_part(b"")), 400, "invalid_base64", "base64", id="empty image"),
        pytest.param(body(image_part(b"text")), 400, "invalid_image_format", "unsupported image", id="text"),
        pytest.param(
            body(image_part(encoded("BMP"))), 400, "invalid_image_format", "unsupported image", id="bmp called png"
        ),
        pytest.param(
            body(image_part(encoded(), "application/pdf")), 400, "invalid_image_format", "unsupported", id="mime"
        ),
        pytest.param(
            body(image_part(gif_of_two(), "image/gif")), 400, "invalid_image_format", "unsupported", id="animation"
        ),
        pytest.param(
            body(image_part(encoded("JPEG", (400, 400), quality=95)[:-900], "image/jpeg")),
            400,
            "invalid_image",
            "Invalid image data",
            id="truncated",
        ),
        pytest.param(body(image_part(encoded(), detail="huge")), 400, "invalid_value", "'huge'", id="detail"),
        pytest.param(
            body({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
            400,
            "invalid_image_url",
            "data URL",
            id="web address",
        ),
        pytest.param(
            body(response_format={"type": "json_schema", "json_schema": STRICT}),
            400,
            None,
            "'additionalProperties' is required",
            id="strict schema",
        ),
        pytest.param(body(response_format={"type": "json_object"}), 400, None, "the word 'json'", id="json mode"),
    ],
)
async def test_a_wrong_request_is_refused_in_the_services_words(
    model: LocalModel, http: aiohttp.ClientSession, payload: Any, status: int, code: str | None, words: str
) -> None:
    answered, answer = await post(http, model, payload)
    assert (answered, answer["error"]["code"]) == (status, code)
    assert words in answer["error"]["message"]


async def test_an_image_above_20_mb_is_refused(model: LocalModel, http: aiohttp.ClientSession) -> None:
    answered, answer = await post(http, model, body(image_part(encoded() + bytes(20 * 1024 * 1024))))
    assert answered == 400
    assert "below 20 MB" in answer["error"]["message"]


async def test_a_body_above_the_limit_is_refused(model: LocalModel, http: aiohttp.ClientSession) -> None:
    answered, answer = await post(http, model, b" " * (51 * 1024 * 1024))
    assert (answered, answer["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("kind", "mime"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif"), ("PNG", "image/jpeg")],
)
async def test_an_image_is_known_by_its_bytes(
    model: LocalModel, client: openai.AsyncOpenAI, kind: str, mime: str
) -> None:
    """A wrong MIME type in the data URL does no harm."""
    await ask(client, image_part(encoded(kind), mime))
    assert model.history[0].pictures[0].format == kind.lower()


async def test_an_answer_longer_than_allowed_is_cut(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, max_completion_tokens=2)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You aske", "length")


# --- behaviours ---


@pytest.mark.parametrize(
    ("behaviour", "error", "status", "code"),
    [
        (UNAUTHORIZED, openai.AuthenticationError, 401, None),
        (ROLE_MISSING, openai.AuthenticationError, 401, "PermissionDenied"),
        (FORBIDDEN, openai.PermissionDeniedError, 403, "403"),
        (DEPLOYMENT_NOT_FOUND, openai.NotFoundError, 404, "DeploymentNotFound"),
        (RETIRED, openai.APIStatusError, 410, "ModelDeprecated"),
        (SERVER_ERROR, openai.InternalServerError, 500, None),
        (UNAVAILABLE, openai.InternalServerError, 503, "InternalServerError"),
        (PromptFiltered(), openai.BadRequestError, 400, "content_filter"),
        (Throttled(), openai.RateLimitError, 429, "429"),
    ],
)
async def test_a_scripted_failure_reads_as_the_services_own(
    model: LocalModel,
    client: openai.AsyncOpenAI,
    behaviour: Behaviour,
    error: type[openai.APIStatusError],
    status: int,
    code: str | None,
) -> None:
    model.script.add(behaviour)
    with pytest.raises(error) as raised:
        await ask(client)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert (await ask(client)).choices[0].message.content == "You asked: What is it?"


async def test_the_prompt_filter_names_its_category(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.script.add(PromptFiltered("self_harm"))
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    result = raised.value.body["innererror"]["content_filter_result"]
    assert [name for name, verdict in result.items() if verdict["filtered"]] == ["self_harm"]


@pytest.mark.parametrize(
    ("behaviour", "headers"),
    [
        (Throttled(), {}),
        (Throttled(retry_after=1.2), {"retry-after": "2"}),
        (Throttled(retry_after_ms=1500), {"retry-after-ms": "1500"}),
        (Throttled(reset_tokens=30), {"x-ratelimit-reset-tokens": "30"}),
        (Throttled(reset_requests=3), {"x-ratelimit-reset-requests": "3"}),
    ],
)
async def test_a_429_carries_the_headers_asked_for_and_no_others(
    model: LocalModel, client: openai.AsyncOpenAI, behaviour: Throttled, headers: dict[str, str]
) -> None:
    model.script.add(behaviour)
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client)
    sent = raised.value.response.headers
    assert {name: sent[name] for name in sent if name.startswith(("retry", "x-ratelimit"))} == headers


@pytest.mark.parametrize(
    ("behaviour", "content", "refusal", "finish"),
    [
        (Answer("A cat."), "A cat.", None, "stop"),
        (Refusal("No."), None, "No.", "stop"),
        (AnswerFiltered(text="It sh"), "It sh", None, "content_filter"),
        (TRUNCATED, "The picture shows a", None, "length"),
    ],
)
async def test_a_scripted_answer_is_given(
    model: LocalModel,
    client: openai.AsyncOpenAI,
    behaviour: Behaviour,
    content: str | None,
    refusal: str | None,
    finish: str,
) -> None:
    model.script.add(behaviour)
    choice = (await ask(client)).choices[0]
    assert (choice.message.content, choice.message.refusal, choice.finish_reason) == (content, refusal, finish)


@pytest.mark.parametrize("behaviour", [Garbled(), EMPTY])
async def test_a_garbled_answer_is_not_an_openai_error(
    model: LocalModel, client: openai.AsyncOpenAI, behaviour: Garbled
) -> None:
    model.script.add(behaviour)
    with pytest.raises(json.JSONDecodeError):
        await ask(client)


async def test_a_connection_can_be_dropped_before_the_answer(model: LocalModel, http: aiohttp.ClientSession) -> None:
    model.script.add(Dropped())
    with pytest.raises((aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError)):
        await post(http, model, body())


async def test_a_connection_can_be_dropped_in_the_middle(model: LocalModel, http: aiohttp.ClientSession) -> None:
    """The head and half the body arrive."""
    model.script.add(Dropped(midway=True))
    async with http.post(f"{model.endpoint}/openai/v1/chat/completions", json=body()) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_the_sdk_sees_a_dropped_connection(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.script.add(Dropped(), Dropped(midway=True))
    for _ in range(2):
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError, httpx2.ReadError)):
            await ask(client)


async def test_a_hanging_request_meets_the_clients_timeout(model: LocalModel, certificates: Certificates) -> None:
    model.script.add(Hang())
    async with sdk(model, certificates, timeout=0.2) as impatient:
        with pytest.raises(openai.APITimeoutError):
            await ask(impatient)


async def test_the_model_knows_which_answers_were_not_received(model: LocalModel, certificates: Certificates) -> None:
    model.script.add(Answer("heard"), Slow(0.4))
    async with sdk(model, certificates, timeout=0.2) as impatient:
        await ask(impatient)
        with pytest.raises(openai.APITimeoutError):
            await ask(impatient)
    async with asyncio.timeout(10):
        while not model.unheard:
            await asyncio.sleep(0.01)
    assert list(model.unheard) == [model.history[-1].request_id]
    assert model.unheard[model.history[-1].request_id] >= 0.4


async def test_slow_answers_overlap(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """More than the bodies that fit into memory at once: waiting holds none of that room."""
    model.script.policy = lambda _: Slow(0.3, Answer("done"))
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(client) for _ in range(40)))
    assert {answer.choices[0].message.content for answer in answers} == {"done"}
    assert 0.3 <= time.monotonic() - began < 5


async def test_stopping_does_not_wait_for_clients(certificates: Certificates) -> None:
    """Hanging and slow requests end with the model, which can be started again."""
    model = LocalModel(certificates, verify=verify, brain=Echo())
    async with model:
        model.script.add(Hang(), Slow(60))
        async with sdk(model, certificates) as client:
            requests = [asyncio.create_task(ask(client)) for _ in range(2)]
            async with asyncio.timeout(10):
                while len(model.history) < 2:
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            await model.__aexit__()
            assert time.monotonic() - began < 3
            await asyncio.gather(*requests, return_exceptions=True)
    async with model, sdk(model, certificates) as client:
        assert (await ask(client)).choices[0].finish_reason == "stop"


def asked(tokens: int, **options: Any) -> Asked:
    return Asked(
        at=datetime.now(UTC),
        deployment="vision",
        system="",
        instructions="",
        pictures=(),
        response_format=None,
        options=options,
        prompt_tokens=tokens,
        request_id="",
        caller=None,
        headers={},
    )


def test_a_quota_refuses_what_exceeds_it_and_refills_evenly() -> None:
    now = 0.0
    quota = Quota(tokens_per_minute=600, requests_per_minute=60, clock=lambda: now)
    assert isinstance(quota(asked(300, max_completion_tokens=200)), Answer)
    refused = quota(asked(200))
    assert isinstance(refused, Throttled)
    assert (refused.retry_after, refused.retry_after_ms, refused.reset_requests) == (10.0, 10_000, 0.0)
    assert refused.limits is not None
    assert refused.limits.remaining_tokens == 100
    now = 10.0
    assert isinstance(quota(asked(200)), Answer)


def test_a_quota_counts_requests_too() -> None:
    quota = Quota(tokens_per_minute=6000, requests_per_minute=2, clock=lambda: 0.0)
    assert [type(quota(asked(1))) for _ in range(3)] == [Answer, Answer, Throttled]


async def test_a_quota_shows_in_the_headers(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.script.policy = Quota(tokens_per_minute=100, requests_per_minute=1)
    raw = await client.chat.completions.with_raw_response.create(**body())
    assert raw.headers["x-ratelimit-limit-tokens"] == "100"
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client)
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 60


async def test_an_unanswerable_question_ends_in_a_refusal(certificates: Certificates) -> None:
    async with (
        LocalModel(certificates, verify=verify, brain=Unable()) as unable,
        sdk(unable, certificates) as client,
    ):
        message = (await ask(client)).choices[0].message
    assert (message.content, message.refusal) == (None, "Not to vision.")


# --- the relay ---


class Upstream:
    """A small OpenAI-compatible server over plain HTTP, as Ollama is one."""

    def __init__(self, *models: str) -> None:
        self.models = models
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.status = 200

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_get("/v1/models", self._list)
        application.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _complete(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.json()))
        return web.json_response({"from": "upstream"}, status=self.status)


@pytest.mark.parametrize(("models", "used"), [(("llava", "vision"), "vision"), (("llava", "qwen"), "llava")])
async def test_the_relay_forwards_to_a_model_that_the_upstream_has(
    certificates: Certificates, http: aiohttp.ClientSession, models: tuple[str, ...], used: str
) -> None:
    upstream = Upstream(*models)
    async with upstream.running() as url, LocalModel(certificates, verify=verify, upstream=url) as model:
        sent = body(image_part(encoded()), max_completion_tokens=7)
        assert await post(http, model, sent) == (200, {"from": "upstream"})
        ((headers, received),) = upstream.requests
        assert received == sent | {"model": used, "max_tokens": 7}
        assert "Authorization" not in headers
        assert len(model.history) == 1


async def test_the_relay_passes_errors_on_and_still_checks_tokens(
    certificates: Certificates, http: aiohttp.ClientSession
) -> None:
    upstream = Upstream("llava")
    upstream.status = 418
    async with upstream.running() as url, LocalModel(certificates, verify=verify, upstream=url) as model:
        assert (await post(http, model, body()))[0] == 418
        assert (await post(http, model, body(), {"Authorization": "Bearer other"}))[0] == 401
        assert len(upstream.requests) == 1


async def test_an_unusable_upstream_is_named_at_the_start(certificates: Certificates, unused_tcp_port: int) -> None:
    with pytest.raises(LocalCloudError, match=f"http://127.0.0.1:{unused_tcp_port}/v1"):
        await LocalModel(certificates, verify=verify, upstream=f"http://127.0.0.1:{unused_tcp_port}/v1").__aenter__()
    async with Upstream().running() as url:
        with pytest.raises(LocalCloudError, match="has no model"):
            await LocalModel(certificates, verify=verify, upstream=url).__aenter__()


# --- the brain ---


def question(data: bytes, text: str = "", schema: Mapping[str, Any] | None = None) -> Question:
    from localcloud.model.question import check  # noqa: PLC0415 - the tests that need a whole question

    asked_for = check(body(image_part(data), text=text), ["vision"], Deployed())
    return dataclasses.replace(asked_for, schema=schema)


def test_the_answer_shows_what_the_question_is_about() -> None:
    answer = HonestBrain(RECEIPT).answer(question(encoded(), "What is the total?"))
    assert answer == (
        "What the picture says about it:\n"
        "- TOTAL NOK  1,245.00\n"
        "\n"
        "All the text in it:\n"
        "- LUMEN COFFEE\n"
        "- Date 2026-03-14  Time 09:42\n"
        "- Subtotal  1,196.00\n"
        "- TOTAL NOK  1,245.00\n"
        "- 営業時間  八時から\n"
        "\n"
        f"The picture: PNG, 8 x 6 pixels (landscape), {len(encoded())} bytes; dark overall; mostly red.\n"
        "\n"
        "(Local stand-in, no vision model: it only reads text and measures pixels.)"
    )


class Sizes:
    """A reader that says at which size it sees a picture."""

    def read(self, image: bytes) -> tuple[Row, ...]:
        with Image.open(BytesIO(image)) as picture:
            return ((f"seen at {picture.width} x {picture.height}",),)


@pytest.mark.parametrize(
    ("deployment", "detail", "seen"),
    [
        ("vision", "auto", "2048 x 1024"),
        ("vision", "high", "2048 x 1024"),
        ("vision", "low", "512 x 256"),
        ("vision", "original", "3000 x 1500"),
        ("vision-small", "high", f"{SMALL.side} x {SMALL.side // 2}"),
        ("vision-small", "low", "512 x 256"),
    ],
)
async def test_a_picture_is_seen_as_its_detail_and_the_model_allow(
    certificates: Certificates, http: aiohttp.ClientSession, deployment: str, detail: str, seen: str
) -> None:
    """Answers name the model that gave them; what is measured of the picture is measured of what was sent."""
    deployments = ("vision", Deployment("vision-small", model=SMALL))
    async with LocalModel(certificates, verify=verify, brain=HonestBrain(Sizes()), deployments=deployments) as model:
        asked_for = body(image_part(encoded("GIF", (3000, 1500)), "image/gif", detail=detail), model=deployment)
        _, answer = await post(http, model, asked_for)
    text = answer["choices"][0]["message"]["content"]
    assert f"seen at {seen}" in text
    assert "3000 x 1500 pixels" in text
    assert answer["model"] == (SMALL.name if deployment == "vision-small" else MODEL)


async def test_a_small_model_takes_less(certificates: Certificates, http: aiohttp.ClientSession) -> None:
    deployments = (Deployment("vision-small", model=SMALL),)
    async with LocalModel(certificates, verify=verify, brain=Echo(), deployments=deployments) as model:
        status, answer = await post(http, model, body(image_part(encoded(), detail="original"), model="vision-small"))
    assert (status, answer["error"]["param"]) == (400, "messages[1].content[1].image_url.detail")


def test_a_question_without_spaces_finds_its_line() -> None:
    answer = HonestBrain(RECEIPT).answer(question(encoded(), "営業時間を教えてください。"))
    assert answer.startswith("What the picture says about it:\n- 営業時間  八時から\n\n")


def test_the_answer_says_when_text_can_not_be_read() -> None:
    answer = HonestBrain(NoReader()).answer(question(encoded()))
    assert "Reading text is not installed here" in answer
    assert "no text in the picture" not in answer


def test_the_answer_says_that_a_picture_has_no_text() -> None:
    assert HonestBrain(Rows()).answer(question(encoded())).startswith("There is no text in the picture.")


def test_pixels_are_measured_as_they_are() -> None:
    """A rotation in EXIF is reported but not applied, as by the service."""
    facts = measure((SAMPLES / "label.jpg").read_bytes())
    assert (facts.format, facts.width, facts.height, facts.shape, facts.turned) == ("jpeg", 900, 1200, "portrait", True)
    assert measure(encoded(colour="navy", size=(5, 5))).sentence().startswith("PNG, 5 x 5 pixels (square), ")
    assert measure(encoded(colour="white")).brightness == "bright"


def test_rows_are_found_on_a_leaning_page() -> None:
    """The right column stands higher than the left by more than a line, as on a page photographed at an angle."""

    def word(text: str, x: float, y: float) -> Word:
        return Word(text, (x, y), (x + 100, y - 20), (x + 100, y), (x, y + 20))

    words = [word("9.00", 300, 40), word("Tea", 0, 100), word("Milk", 0, 130), word("4.50", 300, 70)]
    assert arrange(words) == (("Tea", "9.00"), ("Milk", "4.50"))
    assert arrange([]) == ()


def test_sideways_text_is_read_upwards() -> None:
    def word(text: str, x: float, y: float) -> Word:
        return Word(text, (x, y), (x + 20, y), (x + 20, y + 100), (x, y + 100))

    assert arrange([word("340 g", 40, 0), word("Weight", 40, 300), word("Jam", 0, 150)]) == (
        ("Jam",),
        ("Weight", "340 g"),
    )


# --- structured output ---

FOUND = Findings(RECEIPT.rows, (measure(encoded()),), "")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number"}, {"total": 1245}),
        ({"type": "string"}, {"total": "1,245.00", "vendor": "LUMEN COFFEE", "time": "09:42", "colour": ""}),
        ({"type": ["string", "null"]}, {"total": "1,245.00", "waiter": None}),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, {"total": 1245, "waiter": None}),
        ({"type": "string"}, {"date": "2026-03-14", "purchaseDate": "2026-03-14"}),
        ({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, {"lines": []}),
        ({"enum": ["EUR", "NOK", "unknown"]}, {"currency": "NOK"}),
        ({"enum": ["cat", "unknown"]}, {"animal": "unknown"}),
        ({"type": "boolean"}, {"paid": False}),
        ({"type": ["boolean", "null"]}, {"paid": None}),
        ({"type": "array", "items": {"type": "string"}}, {"colours": ["red"], "lines": FOUND.text.split("\n")}),
        ({"type": "integer"}, {"width": 8, "height": 6}),
    ],
)
def test_properties_are_filled_from_labels(schema: dict[str, Any], value: dict[str, Any]) -> None:
    whole = {"type": "object", "properties": dict.fromkeys(value, schema), "required": list(value)}
    assert fill(whole, FOUND) == value


@pytest.mark.parametrize(
    ("printed", "date"),
    [
        ("Date 14.03.2026 09:42", "2026-03-14"),
        ("Date 3/4/26", "2026-04-03"),
        ("Date 03/14/2026", "2026-03-14"),
        ("Date 14. March 2026", "2026-03-14"),
        ("Date14-Mar-2026", "2026-03-14"),
        ("Sept 5, 2026", "2026-09-05"),
        ("Date 14.O3.2026", None),
        ("Date 31.02.2026", None),
        ("Ref 2026.1234", None),
    ],
)
def test_dates_are_read_as_printed(printed: str, date: str | None) -> None:
    """What is not one is left out, as the app asks for: it would fail the check of the whole answer."""
    found = Findings((("LUMEN COFFEE",), (printed,)), (), "")
    schema = {"type": "object", "properties": {"date": {"type": ["string", "null"]}}, "required": ["date"]}
    assert fill(schema, found) == {"date": date}


def test_the_lines_of_a_bill_are_found_above_its_total() -> None:
    rows = [
        ("LUMEN COFFEE",),
        ("Date 14.03.2026", "09.42"),
        ("2 Flat white", "104.00"),
        ("Oat porridge $1,059.00",),
        ("Discount", "-5,00 €"),
        ("Subtotal", "158.00"),
        ("Paid by card", "158.00"),
    ]
    line = {
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "quantity": {"type": ["number", "null"]},
            "amount": {"type": "number"},
        },
        "required": ["description", "quantity", "amount"],
    }
    schema = {"type": "object", "properties": {"lines": {"type": "array", "items": line}, "currency": {}}}
    assert fill(schema, Findings(tuple(rows), (), "")) == {
        "lines": [
            {"description": "Flat white", "quantity": 2, "amount": 104},
            {"description": "Oat porridge", "quantity": None, "amount": 1059},
            {"description": "Discount", "quantity": None, "amount": -5},
        ],
        "currency": "USD",
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [False]},
        {"$ref": "#/$defs/none"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_schema_that_cannot_be_met_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(CannotAnswerError):
        fill(schema, FOUND)


def test_a_recursive_schema_ends() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    schema = {"$defs": {"node": node}, "$ref": "#/$defs/node"}
    jsonschema.validate(fill(schema, FOUND), schema)


KINDS: list[dict[str, Any]] = [
    {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
    {"type": ["integer", "null"]}, {}, {"const": 3},
]  # fmt: skip
CHOICES = st.lists(st.none() | st.integers() | st.text(max_size=5), min_size=1, max_size=4)
LEAVES = st.sampled_from(KINDS) | CHOICES.map(lambda options: {"enum": options})
NAMES = st.sampled_from(["total", "date", "vendor", "currency", "colours", "lines", "text", "paid", "note", "x", "éé"])


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def objects(properties: dict[str, Any], *, all_required: bool) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties) if all_required else list(properties)[:1],
            "additionalProperties": False,
        }

    return st.one_of(
        st.builds(objects, st.dictionaries(NAMES, inner, max_size=4), all_required=st.booleans()),
        inner.map(lambda items: {"type": "array", "items": items}),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    )


@examples(150)
@given(st.recursive(LEAVES, nested, max_leaves=8))
def test_the_answer_has_the_shape_of_any_schema(schema: dict[str, Any]) -> None:
    checker = jsonschema.Draft202012Validator(schema)
    checker.validate(json.loads(json.dumps(fill(schema, FOUND))))
    checker.validate(fill(schema, Findings((), (), "")))


# --- estimates ---


@pytest.mark.parametrize(
    ("width", "height", "detail", "tokens"),
    [
        (1000, 1000, "low", 70),
        (512, 512, "high", 210),
        (1024, 1024, "auto", 630),
        (2048, 4096, "high", 910),
        (1, 9000, "high", 210),
        (1024, 1024, "original", 1024),
        (3200, 3200, "original", 10_000),
        (9000, 9000, "original", 10_000),
        (12_000, 64, "original", 188),
    ],
)
def test_images_cost_by_tiles_and_originals_by_patches(width: int, height: int, detail: str, tokens: int) -> None:
    assert image_tokens(width, height, detail) == tokens


@given(st.text(), st.integers(0, 50))
def test_a_cut_text_fits_and_is_whole(text: str, tokens: int) -> None:
    short = cut(text, tokens)
    assert text.startswith(short)
    assert text_tokens(short) <= tokens


# --- with OCR installed ---


@pytest.mark.parametrize(
    ("name", "ask_for", "expected"),
    [
        ("receipt.jpg", "What is the total?", "- TOTAL NOK  245.00"),
        ("label.jpg", "What is the batch number?", "- Batch  L0417-B"),
        ("chart.png", "Which month had the most visitors?", "- Museum visitors, 2026"),
        ("sign.jpg", "営業時間を教えてください。", "- 営業時間  八時から十八時"),
        ("lighthouse.webp", "Describe it.", "There is no text in the picture."),
    ],
)
def test_the_samples_are_read(name: str, ask_for: str, expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Quietly, and with the network cut off (only loopback is open in these tests)."""
    pytest.importorskip("rapidocr")
    answer = READING.answer(question((SAMPLES / name).read_bytes(), ask_for))
    assert expected in answer
    assert capfd.readouterr() == ("", "")


READING = HonestBrain()


def test_ocr_is_imported_at_the_first_picture_only() -> None:
    """Starting the model costs nothing that a relay, or a test, would not use."""
    import subprocess  # noqa: PLC0415 - a fresh interpreter is the point

    code = "import sys, localcloud.model; print('rapidocr' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=SAMPLES.parent)
    assert done.stdout.split() == ["False", "False"]
