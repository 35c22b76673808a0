"""The 2024 tutorial's scenario over the same core: an image in the body of a POST, its answer in the response."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiohttp
import azure.functions as func
import jsonschema
import pytest
from support.person import SCHEMA, Person
from support.pictures import picture
from support.some_results import result_of
from support.workshop import workshop

from localcloud.model import ROLE_MISSING, Refusal
from pipeline.errors import RetryableFailure
from pipeline.result import Result
from pipeline.triggers.http_api import process_image

if TYPE_CHECKING:
    from pipeline.job.analysis import Analyzer


@dataclass
class Client:
    person: Person
    http: aiohttp.ClientSession

    async def ask(self, data: bytes, instructions: str | None = None, **headers: str) -> tuple[int, str, str]:
        """Status, body, content type."""
        functions = self.person.cloud.functions
        async with self.http.post(
            f"{functions.url}/api/process_image",
            params={"instructions": instructions} if instructions else {},
            data=data,
            headers={"x-functions-key": functions.function_key, **headers},
        ) as answer:
            return answer.status, await answer.text(), answer.content_type


@pytest.fixture
async def client(person: Person) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http:
        yield Client(person, http)


async def test_the_answer_comes_back_as_text(client: Client) -> None:
    assert await client.ask(picture(), "Was ist das für ein Bild?") == (
        200,
        "You asked: Was ist das für ein Bild?",
        "text/plain",
    )


async def test_without_instructions_the_image_is_described(client: Client) -> None:
    assert (await client.ask(picture()))[:2] == (200, "You asked: Describe this image.")


async def test_a_question_that_does_not_count_is_refused_and_not_replaced(person: Person) -> None:
    """An answer to another question than the caller's would look like an answer to theirs."""
    async with workshop(person) as shop:
        shop.settings = shop.settings.model_copy(update={"instruction_sources": ("metadata", "folder")})
        result = await shop.analyzer.analyze_bytes(picture(), None, "What is the total?")
        assert result.error is not None
        assert (result.error.code, shop.model.asked) == ("invalid_instructions", [])
        assert "INSTRUCTION_SOURCES" in result.error.message
        assert (await shop.analyzer.analyze_bytes(picture(), None, " ")).status == "succeeded"


@pytest.mark.parametrize(
    ("setting", "asked"), [("default", "default"), ("flex", "default"), ("batch", "default"), ("priority", "priority")]
)
async def test_a_caller_who_waits_is_answered_at_once(person: Person, setting: str, asked: str) -> None:
    """Whatever patience the operator has for uploads: a call that waits would be cut off."""
    async with workshop(person) as shop:
        shop.settings = shop.settings.model_copy(update={"service_tier": setting})
        assert (await shop.analyzer.analyze_bytes(picture(), None, None)).status == "succeeded"
        assert shop.model.tiers == [asked]


async def test_the_whole_result_comes_back_for_json(client: Client) -> None:
    status, body, content_type = await client.ask(picture("JPEG"), "Whole?", Accept="application/json")
    result = json.loads(body)
    jsonschema.validate(result, SCHEMA)
    assert (status, content_type, result["status"]) == (200, "application/json", "succeeded")
    assert result["instructions"]["origin"] == "request"
    assert (result["source"]["name"], result["source"]["etag"], result["source"]["format"]) == (None, None, "jpeg")


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"Hello, I am a text.", 415, "text"),
        (bytes(3_000_001), 413, "3,000,000"),
        (picture("JPEG", (640, 480))[:2000], 422, "upload"),
    ],
    ids=["empty", "text", "large", "truncated"],
)
async def test_bad_images_have_a_status_and_a_message(client: Client, data: bytes, status: int, words: str) -> None:
    answered, message, _ = await client.ask(data, "Anything?")
    assert (answered, words in message) == (status, True), message


async def test_a_refusal_is_a_message(client: Client) -> None:
    client.person.scripts["Refuse over HTTP"].append(Refusal("I would rather not."))
    status, message, _ = await client.ask(picture(), "Refuse over HTTP")
    assert (status, "I would rather not." in message) == (422, True)


@pytest.mark.parametrize(
    ("accept", "kind"), [("application/json", "application/json"), ("*/*", "text/plain")], ids=["json", "text"]
)
async def test_a_failure_has_the_form_that_was_asked_for(accept: str, kind: str) -> None:
    failed = result_of(
        "a.png", status="failed", error={"code": "empty_blob", "message": "It is empty.", "details": None}
    )

    class Failed:
        async def analyze_bytes(self, *_: object) -> Result:
            return failed

    request = func.HttpRequest("POST", "/api/process_image", headers={"accept": accept}, body=b"")
    answer = await process_image(cast("Analyzer", Failed()), request)
    assert (answer.status_code, answer.mimetype) == (400, kind)


async def test_throttling_says_when_to_come_back() -> None:
    class Throttled:
        async def analyze_bytes(self, *_: object) -> Result:
            raise RetryableFailure("The model is throttling.", status=429, retry_after=200)

    request = func.HttpRequest("POST", "/api/process_image", body=picture())
    answer = await process_image(cast("Analyzer", Throttled()), request)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "200")


async def test_a_missing_role_is_the_operators(client: Client) -> None:
    client.person.scripts["Role?"].append(ROLE_MISSING)
    status, message, _ = await client.ask(picture(), "Role?")
    assert (status, "Cognitive Services OpenAI User" in message) == (502, True)


async def test_a_call_without_a_key_is_refused(client: Client) -> None:
    assert (await client.ask(picture(), "Key?", **{"x-functions-key": "wrong"}))[0] == 401
    assert client.person.asked("Key?") == []
