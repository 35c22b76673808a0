"""Text of strangers in the log: short, printable, on lines of the app's own; the whole way, whoever wrote it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient
from support.person import People, Person
from support.pictures import picture

from localcloud.model import Answer, Behaviour, Changed, Refusal, Verbatim

FORGED = "\n[2026-01-01T00:00:00.000Z] ERROR forged\r\x1b[31m\x9b\u2028\u202e\u200b\x00"
LONG = FORGED + 100_000 * "漢"
MOST_BYTES = 12_000
"""Of log for one delivery: a name of 1,024 characters has up to 3,072 bytes, and three lines name it."""


SETTINGS = {"ALLOWED_DEPLOYMENTS": "vision-2", "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "1000000"}


@pytest.fixture(scope="module")
async def person(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with people(tmp_path_factory.mktemp("strangers"), SETTINGS) as person:
        yield person


def refused(status: int, **headers: str) -> Verbatim:
    error = {"error": {"message": LONG, "code": LONG, "param": LONG, "type": LONG, "innererror": {"code": LONG}}}
    return Verbatim(status, json.dumps(error).encode(), headers=headers)


def said(**fields: Any) -> Changed:
    return Changed(lambda completion: completion | fields)


NAME = ("names/" + FORGED.replace("\x00", "") + 1000 * "漢")[:1000] + ".png"
UPLOADS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # name, metadata, files beside the image
    "its name": (NAME, {}, {}),
    "its name and option": (f"2{NAME}"[-1000:], {"detail": 7000 * "x"}, {}),
    "a number": ("number.png", {"max_output_tokens": 7000 * "9"}, {}),
    "a deployment": ("deployment.png", {"deployment": 7000 * "x"}, {}),
    "a schema's name": ("schema.png", {"schema": 7000 * "x"}, {}),
    "an unknown option": ("unknown.png", {}, {".instructions.json": json.dumps({LONG: 1})}),
    "many unknown options": (
        "many.png",
        {},
        {".instructions.json": json.dumps({f"{n}{FORGED}": 1 for n in range(3000)})},
    ),
    "an option of another type": ("type.png", {}, {".instructions.json": json.dumps({"detail": [LONG]})}),
    "a deployment in a file": ("file.png", {}, {".instructions.json": json.dumps({"deployment": LONG})}),
    "front matter": ("front.png", {}, {".instructions.md": f"---\n{100_000 * 'x'}: [\n---\nHm?"}),
    "a schema": ("inline.png", {}, {".instructions.json": json.dumps({"schema": {"type": LONG}})}),
    "its content type": ("declared.png", {}, {}),
}
ANSWERS: dict[str, Behaviour] = {
    "a refusal": Refusal(LONG),
    "an answer": Answer(LONG),
    "the model's name": said(model=LONG),
    "an odd finish": Changed(lambda whole: whole | {"choices": [{**whole["choices"][0], "finish_reason": LONG}]}),
    "no choices": said(choices=[], error={"message": LONG, "code": LONG}),
    "a rejection": refused(400),
    "a rejection with ids": refused(400, **{"x-request-id": 5000 * "x", "apim-request-id": 5000 * "y"}),
    "an outage": refused(500),
    "a throttle": refused(429, **{"retry-after": "0"}),
    "a denial": refused(403),
    "a page": Verbatim(200, f"<html><title>{LONG}</title>{LONG}</html>".encode(), "text/html"),
}


def said_since(person: Person, before: int) -> str:
    """What the log says since it had `before` bytes."""
    log = person.log.read_bytes()[before:].decode()
    assert all(character.isprintable() for line in log.split("\n") for character in line), "a character that steers"
    assert not re.search(r"^\[?2026-01-01T00:00:00", log, re.MULTILINE), "a line of somebody else's"
    return log


@pytest.mark.parametrize("case", UPLOADS)
async def test_what_an_uploader_writes(person: Person, case: str) -> None:
    name, metadata, files = UPLOADS[case]
    for ending, text in files.items():
        await person.drop(name + ending, text.encode())
    before = person.log.stat().st_size
    await person.drop(name, picture(), metadata)
    await person.result(name)
    await person.logged("failed invalid_instructions in", "succeeded in", since=before)
    assert len(said_since(person, before).encode()) < MOST_BYTES


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_the_service_writes(person: Person, case: str) -> None:
    """Each call of one delivery may say it, and the deliveries after it are each as short."""
    question = f"What of {case}?"
    person.scripts[question].extend([ANSWERS[case]] * 3)
    before = person.log.stat().st_size
    await person.drop(f"{case}.png", picture(), {"instructions": question})
    await person.logged("deferred for", "failed ", "succeeded in", since=before)
    assert len(said_since(person, before).encode()) < MOST_BYTES


@pytest.mark.parametrize(
    "message",
    [
        {"version": 1, "container": "images", "name": LONG[:40]},
        {"version": 1, "container": FORGED + 10_000 * "漢", "name": "a.png"},
        {"version": 1, "container": "images", "name": "a.png", FORGED + 10_000 * "漢": 1},
        {"version": 1, "container": "images", "name": "a.png", "options": {"deployment": FORGED + 10_000 * "漢"}},
        [{"eventType": "Microsoft.Storage.BlobCreated", "subject": FORGED + 10_000 * "漢"}],
        {"version": 1, "redrive": [FORGED + 10_000 * "漢"]},
    ],
    ids=["name", "container", "key", "deployment", "subject", "redrive"],
)
async def test_what_a_sender_writes(person: Person, message: Any) -> None:
    before = person.log.stat().st_size
    async with QueueClient.from_connection_string(
        person.cloud.front.connection_string, "analysis-requests", message_encode_policy=TextBase64EncodePolicy()
    ) as queue:
        await queue.send_message(json.dumps(message, ensure_ascii=False))
    await person.logged("Ignored", "a request was refused", "gone in", "failed invalid_instructions", since=before)
    log = said_since(person, before)
    assert len(log.encode()) < MOST_BYTES * max(log.count(", attempt "), 1)


@pytest.mark.parametrize("length", ["Content-Length: 5000000000", "Transfer-Encoding: chunked"])
async def test_a_large_body_is_refused_before_it_is_there(person: Person, length: str) -> None:
    """By its length, of which no byte has come; or once there is too much of it. The function does not run."""
    functions = person.cloud.functions
    address = urlsplit(functions.url)
    before = person.log.stat().st_size
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST /api/process_image HTTP/1.1\r\nHost: x\r\nx-functions-key: {functions.function_key}\r\n{length}\r\n\r\n"
    )
    writer.write(head.encode())
    if "chunked" in length:
        writer.write(11 * (f"{100_000:x}\r\n".encode() + bytes(100_000) + b"\r\n"))
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"413"
    writer.close()
    assert "process_image" not in said_since(person, before)


async def test_an_answer_that_looks_like_a_page_is_not_one(person: Person) -> None:
    functions = person.cloud.functions
    person.scripts["A page?"].append(Answer("<script>alert(1)</script>"))
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{functions.url}/api/process_image?instructions=A+page%3F",
            data=picture(),
            headers={"x-functions-key": functions.function_key},
        ) as answer,
    ):
        assert (answer.content_type, answer.headers["X-Content-Type-Options"]) == ("text/plain", "nosniff")
        assert await answer.text() == "<script>alert(1)</script>"
