"""The local model takes files of requests as the service does, through the SDK; and fails as it is told to."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import openai
import pytest
from openai.types import Batch, FileObject
from support.asking_model import TOKEN, Echo, body, encoded, image_part, sdk, verify

from localcloud.certificates import Certificates
from localcloud.model import (
    Deployment,
    LocalModel,
)
from localcloud.model.batches import (
    BatchLimits,
    Course,
)

QUICK = Course(validating=0.01, finalizing=0.01, cancelling=0.01)
ENDED = ("failed", "completed", "expired", "cancelled")
DEPLOYMENTS = ("vision", Deployment("plain", tiers=()), Deployment("nightly", "GlobalBatch"))


@pytest.fixture(scope="session")
async def model(certificates: Certificates) -> AsyncIterator[LocalModel]:
    async with LocalModel(certificates, verify=verify, brain=Echo(), deployments=DEPLOYMENTS) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(model: LocalModel) -> Iterator[None]:
    model.batches.script.course = lambda _: QUICK
    yield
    model.script.reset()
    model.batches.script.reset()
    model.batches.limits = BatchLimits()
    model.batches.history.clear()
    model.batches.billed.clear()


@pytest.fixture
async def client(model: LocalModel, certificates: Certificates) -> AsyncIterator[openai.AsyncOpenAI]:
    async with sdk(model, certificates) as made:
        yield made


@pytest.fixture
async def http(model: LocalModel, certificates: Certificates) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        f"{model.endpoint}/openai/v1/",
        connector=aiohttp.TCPConnector(ssl=certificates.client_context()),
        headers={"Authorization": f"Bearer {TOKEN}"},
    ) as session:
        yield session


def line(custom_id: str = "a", *, url: str = "/v1/chat/completions", **request: Any) -> dict[str, Any]:
    asked = body(image_part(encoded()), text=f"What is {custom_id}?") | {"model": "nightly"} | request
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


def lines(*custom_ids: str) -> bytes:
    return jsonl(*(line(custom_id) for custom_id in custom_ids))


def jsonl(*parts: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(part).encode() + b"\n" for part in parts)


async def upload(client: openai.AsyncOpenAI, content: bytes, **options: Any) -> FileObject:
    return await client.files.create(file=("shard.jsonl", content), purpose="batch", **options)


async def submit(client: openai.AsyncOpenAI, content: bytes, **options: Any) -> Batch:
    """Upload a file and create its batch."""
    file = await upload(client, content)
    return await create(client, file.id, **options)


async def create(
    client: openai.AsyncOpenAI, file_id: str, endpoint: Any = "/v1/chat/completions", **options: Any
) -> Batch:
    return await client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **options)


async def until(client: openai.AsyncOpenAI, batch: Batch, *statuses: str) -> Batch:
    async with asyncio.timeout(20):
        while True:
            batch = await client.batches.retrieve(batch.id)
            if batch.status in (statuses or ENDED):
                return batch
            await asyncio.sleep(0.01)


async def content(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id
    text = (await client.files.content(file_id)).text
    return [json.loads(row) for row in text.splitlines()]


async def answers(client: openai.AsyncOpenAI, batch: Batch) -> dict[str, dict[str, Any]]:
    """The lines of both files, by custom_id."""
    written = [
        row
        for file_id in (batch.output_file_id, batch.error_file_id)
        if file_id
        for row in await content(client, file_id)
    ]
    assert len({row["custom_id"] for row in written}) == len(written)
    return {row["custom_id"]: row for row in written}


# --- all goes well ---


async def test_a_batch_is_answered_as_chat_completions_are(client: openai.AsyncOpenAI) -> None:
    file = await upload(client, lines("a", "b"), expires_after={"anchor": "created_at", "seconds": 1_209_600})
    assert (file.purpose, file.status, file.filename) == ("batch", "processed", "shard.jsonl")
    assert file.expires_at == file.created_at + 1_209_600
    batch = await create(client, file.id, metadata={"shard": "7"})
    assert (batch.status, batch.input_file_id, batch.endpoint) == ("validating", file.id, "/chat/completions")

    done = await until(client, batch)
    assert done.status == "completed"
    assert done.metadata == {"shard": "7"}
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}
    assert done.created_at <= (done.in_progress_at or 0) <= (done.finalizing_at or 0) <= (done.completed_at or 0)
    assert await content(client, done.error_file_id) == []
    rows = await answers(client, done)
    assert {key: row["response"]["status_code"] for key, row in rows.items()} == {"a": 200, "b": 200}
    asked = body(image_part(encoded()), text="What is a?")
    at_once = (await client.chat.completions.create(**asked)).to_dict()
    for differing in ("id", "created"):
        at_once.pop(differing), rows["a"]["response"]["body"].pop(differing)
    assert rows["a"]["response"]["body"] == at_once
    assert (await client.files.retrieve(done.output_file_id or "")).purpose == "batch_output"


async def test_a_batch_takes_a_second_or_so(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.course = lambda _: Course()
    began = time.monotonic()
    await until(client, await submit(client, lines("a", "b", "c")))
    assert time.monotonic() - began < 3


async def test_lines_are_billed_apart_from_calls(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.history.clear()
    first, second = await submit(client, lines("a", "b")), await submit(client, lines("b"))
    for batch in (first, second):
        await until(client, batch)
    assert not model.history
    assert Counter(line.custom_id for line in model.batches.billed if line.status == 200) == {"a": 1, "b": 2}
    (billed,) = (line for line in model.batches.billed if line.custom_id == "a")
    assert (billed.batch_id, billed.deployment, billed.instructions) == (first.id, "nightly", "What is a?")
    assert len(billed.pictures) == 1
    assert billed.prompt_tokens > 70
    assert billed.completion_tokens == 6


async def test_batches_are_listed_newest_first_and_by_pages(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    made = [(await submit(client, lines("a"))).id for _ in range(5)]
    assert [batch.id async for batch in client.batches.list(limit=2)][:5] == made[::-1]
    async with http.get("batches", params={"limit": "2", "after": made[3]}) as response:
        page = await response.json()
    assert [batch["id"] for batch in page["data"]] == made[2:0:-1]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[2], made[1], True)
    async with http.get("batches", params={"after": made[0]}) as response:
        assert made[0] not in [batch["id"] for batch in (await response.json())["data"]]


async def test_files_are_listed_and_deleted(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    file = await upload(client, lines("a"))
    assert file.id in [listed.id async for listed in client.files.list(purpose="batch")]
    assert (await client.files.delete(file.id)).deleted
    assert file.id not in [listed.id async for listed in client.files.list()]
    for gone in (client.files.retrieve(file.id), client.files.delete(file.id), client.files.content(file.id)):
        with pytest.raises(openai.NotFoundError):
            await gone
    assert file.id not in {path.name for path in model.batches.files.path(file.id).parent.iterdir()}


async def test_a_batch_outlives_its_input(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.plan(Course(validating=60))
    batch = await submit(client, lines("a"))
    await client.files.delete(batch.input_file_id)
    model.batches.hurry(batch.id)
    assert set(await answers(client, await until(client, batch))) == {"a"}


async def test_uploads_go_to_disk_piece_by_piece(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """Also with no content length known: a file of many chunks arrives whole."""
    many = lines(*(f"line-{number:04}" for number in range(3000)))
    assert len(many) > 4 * 256 * 1024
    file = await upload(client, many)
    assert model.batches.files.path(file.id).read_bytes() == many
    assert (await client.files.content(file.id)).content == many
    done = await until(client, await create(client, file.id))
    assert done.request_counts
    assert done.request_counts.completed == 3000
    order = [row["custom_id"] for row in await content(client, done.output_file_id)]
    assert len(set(order)) == 3000
    assert order != sorted(order)


async def test_a_new_run_knows_nothing_of_an_earlier_one(certificates: Certificates) -> None:
    model = LocalModel(certificates, verify=verify, brain=Echo(), deployments=DEPLOYMENTS)
    async with model, sdk(model, certificates) as client:
        model.batches.script.plan(Course(validating=60))
        batch = await submit(client, lines("a"))
        folder = model.batches.files.path("x").parent
        assert folder.exists()
    assert not folder.exists()
    async with model, sdk(model, certificates) as client:
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(batch.input_file_id)


async def test_only_a_token_for_this_audience_opens(model: LocalModel, http: aiohttp.ClientSession) -> None:
    for method, path in (
        ("GET", "files"),
        ("POST", "files"),
        ("GET", "batches"),
        ("POST", "batches"),
        ("GET", "files/x/content"),
    ):
        async with http.request(method, path, headers={"Authorization": "Bearer another"}) as response:
            assert response.status == 401
    assert not model.batches.history


async def test_requests_are_remembered(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    batch = await submit(client, lines("a"))
    await client.batches.retrieve(batch.id)
    assert [(request.operation, request.target) for request in model.batches.history] == [
        ("upload_file", None),
        ("create_batch", None),
        ("get_batch", batch.id),
    ]
