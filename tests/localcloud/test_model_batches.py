"""The local model takes files of requests as the service does, through the SDK; and fails as it is told to."""

import asyncio
import dataclasses
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx2
import openai
import pytest
from openai.types import Batch, FileObject
from support.asking_model import TOKEN, Echo, body, encoded, image_part, sdk, verify

from localcloud.certificates import Certificates
from localcloud.model import (
    UNAVAILABLE,
    Answer,
    Changed,
    Deployment,
    Dropped,
    Garbled,
    Hang,
    LocalModel,
    PromptFiltered,
    Question,
    Slow,
    Throttled,
)
from localcloud.model.batches import (
    BATCH_ROLE_MISSING,
    ODD,
    TOKEN_LIMIT,
    TOKEN_LIMIT_AT_ONCE,
    BatchLimits,
    Course,
    Cut,
)
from localcloud.model.batches.script import Fault

QUICK = Course(validating=0.01, finalizing=0.01, cancelling=0.01)
ENDED = ("failed", "completed", "expired", "cancelled")
DEPLOYMENTS = ("vision", Deployment("plain", tiers=()), Deployment("nightly", "GlobalBatch"))


@pytest.fixture(scope="session")
async def model(certificates: Certificates) -> AsyncIterator[LocalModel]:
    async with LocalModel(certificates, verify=verify, brain=Echo(), deployments=DEPLOYMENTS) as running:
        yield running


@pytest.fixture(autouse=True)
async def fresh(model: LocalModel) -> AsyncIterator[None]:
    """Each test has the model's batches to itself."""
    model.batches.script.course = lambda _: QUICK
    yield
    model.script.reset()
    model.batches.script.reset()
    model.batches.limits = BatchLimits()
    for batch in model.batches.all.values():
        if not batch.has_ended:
            model.batches.cancel(batch.id)
    async with asyncio.timeout(10):
        while not all(batch.has_ended for batch in model.batches.all.values()):
            await asyncio.sleep(0.01)
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


async def test_an_upload_goes_to_disk_as_it_comes(model: LocalModel, http: aiohttp.ClientSession) -> None:
    """The second half is sent when the first is on disk."""
    first, second = lines("a") * 1000, lines("b")
    folder = model.batches.files.path("x").parent

    async def halves() -> AsyncIterator[bytes]:
        yield first
        async with asyncio.timeout(10):
            while not any(path.stat().st_size > len(first) - 300_000 for path in folder.iterdir()):
                await asyncio.sleep(0.01)
        yield second

    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", halves(), filename="shard.jsonl", content_type="application/jsonl")
    for identifier in model.batches.file_ids:
        model.batches.files.delete(identifier)
    async with http.post("files", data=form) as response:
        file = await response.json()
    assert file["bytes"] == len(first) + len(second) > 300_000
    async with http.get(f"files/{file['id']}/content") as response:
        assert await response.read() == first + second


async def test_answers_come_in_any_order(client: openai.AsyncOpenAI) -> None:
    ids = [f"line-{number:03}" for number in range(300)]
    done = await until(client, await submit(client, lines(*ids)))
    order = [row["custom_id"] for row in await content(client, done.output_file_id)]
    assert sorted(order) == ids != order


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
    model.batches.script.plan(Course(validating=60))
    batch = await submit(client, lines("a"))
    await client.batches.cancel(batch.id)
    assert [(request.operation, request.target, request.made) for request in model.batches.history] == [
        ("upload_file", None, batch.input_file_id),
        ("create_batch", None, batch.id),
        ("cancel_batch", batch.id, None),
    ]


# --- files that are not taken ---


@pytest.mark.parametrize(
    ("content", "code", "at"),
    [
        pytest.param(lines("a")[:-20] + b"\n" + lines("b"), "invalid_json_line", 1, id="half a line"),
        pytest.param(b"[]\n", "invalid_json_line", 1, id="no object"),
        pytest.param(lines("a", "b", "c", "d", "e"), "too_many_tasks", None, id="lines"),
        pytest.param(b"\n \n", "empty_file", None, id="nothing"),
        pytest.param(lines("a", "b", "a"), "duplicate_custom_id", 3, id="twice"),
        pytest.param(jsonl(line("a"), line("b", model="other")), "model_mismatch", 2, id="two deployments"),
        pytest.param(jsonl(line("a", model="gone")), "model_not_found", 1, id="deployment"),
        pytest.param(jsonl(line("a", model="vision")), "invalid_request", 1, id="SKU"),
        pytest.param(jsonl(line("a"), line("b", url="/chat/completions")), "url_mismatch", 2, id="two URLs"),
        pytest.param(jsonl(line("a", url="/v1/embeddings")), "url_mismatch", 1, id="another endpoint"),
        pytest.param(jsonl(line("a") | {"method": "GET"}), "invalid_request", 1, id="method"),
        pytest.param(jsonl(line("")), "invalid_request", 1, id="no custom_id"),
        pytest.param(b"\xef\xbb\xbf" + lines("a"), "invalid_request", None, id="byte order mark"),
    ],
)
async def test_an_input_that_is_not_valid_fails_the_batch(
    model: LocalModel, client: openai.AsyncOpenAI, content: bytes, code: str, at: int | None
) -> None:
    model.batches.limits = BatchLimits(lines=4)
    done = await until(client, await submit(client, content))
    assert (done.status, done.output_file_id) == ("failed", "")
    assert done.errors
    assert done.errors.data
    assert (done.errors.data[0].code, done.errors.data[0].line) == (code, at)
    assert not model.batches.billed


@pytest.mark.parametrize("spelling", ["/chat/completions", "/v1/chat/completions"])
async def test_the_endpoint_has_two_spellings(client: openai.AsyncOpenAI, spelling: str) -> None:
    file = await upload(client, jsonl(line("a", url=spelling)))
    done = await until(client, await create(client, file.id, endpoint=spelling))
    assert (done.status, done.endpoint) == ("completed", "/chat/completions")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"endpoint": "/v1/embeddings"}, "invalid_value"),
        ({"completion_window": "1h"}, "invalid_value"),
        ({"metadata": {f"key-{number}": "x" for number in range(17)}}, "object_above_max_properties"),
        ({"metadata": {"k" * 65: "x"}}, "string_above_max_length"),
        ({"metadata": {"k": "x" * 513}}, "string_above_max_length"),
        ({"metadata": {"k": 1}}, "invalid_type"),
        ({"metadata": "k=1"}, "invalid_type"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "invalidPayload"),
    ],
)
async def test_a_wrong_batch_is_refused(
    model: LocalModel, client: openai.AsyncOpenAI, options: dict[str, Any], code: str
) -> None:
    file = await upload(client, lines("a"))
    wanted = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    before = len(model.batches.all)
    with pytest.raises(openai.BadRequestError) as raised:
        await client.batches.create(**wanted | options)
    assert raised.value.code == code
    assert len(model.batches.all) == before


async def test_outputs_expire_as_asked(client: openai.AsyncOpenAI) -> None:
    file = await upload(client, lines("a"))
    expiring = {"anchor": "created_at", "seconds": 2_592_000}
    done = await until(client, await create(client, file.id, output_expires_after=expiring))
    for output in (done.output_file_id, done.error_file_id):
        kept = await client.files.retrieve(output or "")
        assert kept.expires_at == kept.created_at + 2_592_000


async def test_an_input_must_be_there_and_processed(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await create(client, "file-none")
    model.batches.script.pending = 60
    file = await upload(client, lines("a"))
    assert str(file.status) == "pending"
    with pytest.raises(openai.BadRequestError, match="not yet processed"):
        await create(client, file.id)


async def test_only_what_was_uploaded_for_batches_is_an_input(client: openai.AsyncOpenAI) -> None:
    done = await until(client, await submit(client, lines("a")))
    with pytest.raises(openai.BadRequestError, match="not uploaded for batches"):
        await create(client, done.output_file_id or "")


async def test_a_resource_holds_so_many_files(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    expiring = {"anchor": "created_at", "seconds": 1_209_600}
    for identifier in model.batches.file_ids:
        await client.files.delete(identifier)
    model.batches.limits = BatchLimits(files=1, all_files=3)
    await upload(client, lines("a"))
    with pytest.raises(openai.BadRequestError, match="without expiry is reached") as raised:
        await upload(client, lines("a"))
    assert raised.value.code == "quotaExceeded"
    for _ in range(2):
        await upload(client, lines("a"), expires_after=expiring)
    with pytest.raises(openai.BadRequestError, match="The maximum is 3"):
        await upload(client, lines("a"), expires_after=expiring)
    assert len(list(model.batches.files.path("x").parent.iterdir())) == 3


async def test_a_file_above_the_limit_is_refused(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.limits = BatchLimits(file_bytes=1000)
    before = model.batches.file_ids
    with pytest.raises(openai.BadRequestError, match="too large"):
        await upload(client, b" " * 1001)
    assert model.batches.file_ids == before


@pytest.mark.parametrize(
    "options",
    [
        {"purpose": "assistants"},
        {"expires_after": {"anchor": "created_at", "seconds": 1_209_599}},
        {"expires_after": {"anchor": "created_at", "seconds": 2_592_001}},
        {"expires_after": {"seconds": 1_209_600}},
    ],
)
async def test_a_wrong_upload_is_refused(
    model: LocalModel, client: openai.AsyncOpenAI, options: dict[str, Any]
) -> None:
    before = model.batches.file_ids
    with pytest.raises(openai.BadRequestError):
        await client.files.create(**{"file": ("a.jsonl", lines("a")), "purpose": "batch"} | options)
    assert model.batches.file_ids == before


async def test_a_file_without_a_content_type_is_refused(http: aiohttp.ClientSession) -> None:
    with aiohttp.MultipartWriter("form-data") as form:
        part = form.append(lines("a"))
        part.set_content_disposition("form-data", name="file", filename="a.jsonl")
        del part.headers["Content-Type"]
        async with http.post("files", data=form) as response:
            answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (400, "invalidPayload")
    async with http.post("files", data=b"{}") as response:
        assert response.status == 400


async def test_an_upload_that_breaks_off_leaves_nothing(
    model: LocalModel, client: openai.AsyncOpenAI, http: aiohttp.ClientSession, certificates: Certificates
) -> None:
    """As when its sender is killed."""
    folder = model.batches.files.path("x").parent
    before, kept = set(folder.iterdir()), model.batches.file_ids
    port = int(model.endpoint.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=certificates.client_context())
    writer.write(
        f"POST /openai/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9000000\r\n"
        'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; '
        'filename="a"\r\nContent-Type: text/plain\r\n\r\n'.encode()
        + bytes(3_000_000)
    )
    async with asyncio.timeout(10):
        while set(folder.iterdir()) == before:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while set(folder.iterdir()) != before:
            await asyncio.sleep(0.01)
    assert model.batches.file_ids == kept
    wrong = {"Content-Type": "multipart/form-data; boundary=b"}
    async with http.post("files", data=b"no boundary", headers=wrong) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalidPayload")
    assert await upload(client, lines("a"))


async def test_the_guides_form_of_an_expiry_is_understood(http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData(
        {"purpose": "batch", "expires_after.seconds": "1209600", "expires_after.anchor": "created_at"}
    )
    form.add_field("file", lines("a"), filename="a.jsonl", content_type="application/json")
    async with http.post("files", data=form) as response:
        file = await response.json()
    assert file["expires_at"] == file["created_at"] + 1_209_600


# --- quota ---


async def test_a_quota_of_enqueued_tokens_refuses_at_once_or_later(
    model: LocalModel, client: openai.AsyncOpenAI
) -> None:
    model.batches.script.plan(Course(validating=60))
    model.batches.limits = BatchLimits(enqueued_tokens=1000)
    first = await submit(client, lines("a"))
    with pytest.raises(openai.BadRequestError) as raised:
        await submit(client, lines("b"))
    assert raised.value.code == "token_limit_exceeded"

    model.batches.limits = BatchLimits(enqueued_tokens=1000, fails_fast=False)
    late = await until(client, await submit(client, lines("b")))
    assert late.status == "failed"
    assert late.errors
    assert late.errors.data
    assert late.errors.data[0].code == "token_limit_exceeded"

    model.batches.hurry(first.id)
    await until(client, first)
    assert (await until(client, await submit(client, lines("b")))).status == "completed"


async def test_a_quota_can_be_used_up_by_script(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.add("create_batch", TOKEN_LIMIT_AT_ONCE)
    file = await upload(client, lines("a"))
    with pytest.raises(openai.BadRequestError, match="Enqueued token limit"):
        await create(client, file.id)
    model.batches.script.plan(dataclasses.replace(QUICK, fails=TOKEN_LIMIT))
    assert (await until(client, await create(client, file.id))).status == "failed"
    assert (await until(client, await create(client, file.id))).status == "completed"


# --- batches that end otherwise ---


async def test_lines_that_fail_are_in_the_error_file(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """The batch completes all the same."""
    model.batches.script.lines.policy = lambda asked: (
        PromptFiltered() if "bad" in asked.instructions else Throttled() if "busy" in asked.instructions else Answer()
    )
    done = await until(client, await submit(client, lines("good", "bad", "busy")))
    assert done.status == "completed"
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 2}
    assert [row["custom_id"] for row in await content(client, done.output_file_id)] == ["good"]
    failed = {row["custom_id"]: row["response"] for row in await content(client, done.error_file_id)}
    assert {key: response["status_code"] for key, response in failed.items()} == {"bad": 400, "busy": 429}
    assert failed["bad"]["body"]["error"]["code"] == "content_filter"


class Fragile:
    def answer(self, question: Question) -> str:
        if "bad" in question.instructions:
            raise ZeroDivisionError
        return "fine"


async def test_a_brain_that_breaks_fails_its_line_only(certificates: Certificates) -> None:
    fragile = LocalModel(certificates, verify=verify, brain=Fragile(), deployments=DEPLOYMENTS)
    async with fragile, sdk(fragile, certificates) as client:
        rows = await answers(client, await until(client, await submit(client, lines("bad", "good"))))
    assert {key: row["response"]["status_code"] for key, row in rows.items()} == {"bad": 500, "good": 200}


async def test_a_line_has_no_tier_of_its_own(client: openai.AsyncOpenAI) -> None:
    done = await until(
        client, await submit(client, jsonl(line("a", service_tier="flex"), line("b", service_tier="auto")))
    )
    assert {key: row["response"]["status_code"] for key, row in (await answers(client, done)).items()} == {
        "a": 400,
        "b": 200,
    }


@pytest.mark.parametrize("absent", ["", None])
async def test_there_is_no_output_when_all_lines_failed(
    model: LocalModel, client: openai.AsyncOpenAI, absent: Any
) -> None:
    model.batches.script.looks = dataclasses.replace(model.batches.script.looks, no_file=absent)
    done = await until(client, await submit(client, jsonl(line("a", temperature=0.2), line("b", messages=[]))))
    assert (done.status, done.output_file_id) == ("completed", absent)
    assert len(await content(client, done.error_file_id)) == 2
    assert not model.batches.billed


async def test_the_error_file_of_a_success_may_be_absent(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.plan(dataclasses.replace(QUICK, empty_error_file=False))
    assert (await until(client, await submit(client, lines("a")))).error_file_id == ""


async def test_lines_can_be_missing_from_both_files(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.plan(dataclasses.replace(QUICK, missing=lambda custom_id: custom_id == "b"))
    done = await until(client, await submit(client, lines("a", "b", "c")))
    assert set(await answers(client, done)) == {"a", "c"}
    assert {line.custom_id for line in model.batches.billed} == {"a", "c"}


async def test_lines_can_be_garbled(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """They are paid for."""
    model.batches.script.plan(dataclasses.replace(QUICK, garbled=lambda custom_id: custom_id == "b"))
    done = await until(client, await submit(client, lines("a", "b")))
    rows = (await client.files.content(done.output_file_id or "")).text.splitlines()
    assert len(rows) == 2
    readable = []
    for row in rows:
        try:
            readable.append(json.loads(row)["custom_id"])
        except json.JSONDecodeError:
            assert row.startswith('{"custom_id": "b"')
    assert readable == ["a"]
    assert {line.custom_id for line in model.batches.billed if line.status == 200} == {"a", "b"}


@pytest.mark.parametrize(
    ("course", "status", "code"),
    [
        (dataclasses.replace(QUICK, expires_after=2, reports_unfinished=True), "expired", "batch_expired"),
        (dataclasses.replace(QUICK, cancelled_after=2, reports_unfinished=True), "cancelled", "batch_cancelled"),
    ],
)
async def test_a_batch_that_ends_early_keeps_what_is_done(
    model: LocalModel, client: openai.AsyncOpenAI, course: Course, status: str, code: str
) -> None:
    model.batches.script.plan(course)
    done = await until(client, await submit(client, lines("a", "b", "c", "d", "e")))
    assert done.status == status
    assert getattr(done, f"{status}_at")
    finished = {row["custom_id"] for row in await content(client, done.output_file_id)}
    assert finished == {line.custom_id for line in model.batches.billed}
    assert len(finished) == 2
    unfinished = await content(client, done.error_file_id)
    assert {row["custom_id"] for row in unfinished} == set("abcde") - finished
    assert {(row["response"], row["error"]["code"]) for row in unfinished} == {(None, code)}

    model.batches.script.plan(dataclasses.replace(course, reports_unfinished=False))
    silent = await until(client, await submit(client, lines("a", "b", "c")))
    assert len(await answers(client, silent)) == 2


async def test_a_batch_is_cancelled_on_request(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.plan(Course(validating=0.01, working=60, cancelling=0.5))
    batch = await until(client, await submit(client, lines("a")), "in_progress")
    async with asyncio.timeout(10):
        while not model.batches.billed:
            await asyncio.sleep(0.01)
    cancelling = await client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    done = await until(client, batch)
    assert (done.status, bool(done.cancelling_at), bool(done.cancelled_at)) == ("cancelled", True, True)
    assert set(await answers(client, done)) == {"a"}
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)


async def test_tests_end_batches_as_people_and_time_do(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    """A line that hangs ends with its batch, and is not paid for."""
    model.batches.script.course = lambda _: dataclasses.replace(QUICK, working=60)
    model.batches.script.lines.policy = lambda asked: Hang() if "stuck" in asked.instructions else Answer()
    cancelled, expired = await submit(client, lines("stuck", "a")), await submit(client, lines("stuck", "b"))
    for batch in (cancelled, expired):
        await until(client, batch, "in_progress")
    async with asyncio.timeout(10):
        while {line.custom_id for line in model.batches.billed} != {"a", "b"}:
            await asyncio.sleep(0.01)
    model.batches.cancel(cancelled.id)
    model.batches.expire(expired.id)
    assert (await until(client, cancelled)).status == "cancelled"
    done = await until(client, expired)
    assert done.status == "expired"
    assert set(await answers(client, done)) == {"b"}


async def test_a_line_can_be_answered_in_another_form(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.lines.add(Changed(lambda completion: completion | {"choices": []}))
    done = await until(client, await submit(client, lines("a")))
    assert (await answers(client, done))["a"]["response"]["body"]["choices"] == []


async def test_slow_lines_overlap(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.lines.policy = lambda _: Slow(0.3)
    began = time.monotonic()
    done = await until(client, await submit(client, lines(*map(str, range(40)))))
    assert len(await answers(client, done)) == 40
    assert 0.3 <= time.monotonic() - began < 5


async def test_batches_look_different_in_places(
    model: LocalModel, http: aiohttp.ClientSession, client: openai.AsyncOpenAI
) -> None:
    done = await until(client, await submit(client, b"{\n", metadata={"a": "b"}))
    model.batches.script.looks = dataclasses.replace(ODD, metadata=False)
    async with http.get(f"batches/{done.id}") as response:
        odd = await response.json()
    assert (odd["status"], odd["errors"]["data"][0]["code"]) == ("Failed", "Invalid_json_line")
    assert (odd["output_file_id"], odd["endpoint"], odd["metadata"]) == (None, None, None)
    assert odd["request_counts"] == {"total": None, "completed": None, "failed": None}
    assert odd["created_at"].endswith("+00:00")


# --- faults of the operations ---

LOST = (openai.APIConnectionError, openai.APITimeoutError, json.JSONDecodeError)


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        (Dropped(), 1),
        (Dropped(midway=True), 1),
        (Garbled(), 1),
        (Hang(), 1),
        (Cut(), 0),
        (Slow(60, Dropped()), 0),
    ],
)
async def test_the_answer_to_a_submission_can_be_lost(
    model: LocalModel, certificates: Certificates, client: openai.AsyncOpenAI, fault: Fault, made: int
) -> None:
    """With the batch made, or not: the client can't tell."""
    file = await upload(client, lines("a"))
    before = len(model.batches.all)
    model.batches.script.add("create_batch", fault)
    async with sdk(model, certificates, timeout=0.3) as impatient:
        with pytest.raises(LOST):
            await create(impatient, file.id)
    assert len(model.batches.all) - before == made
    found = [batch.id async for batch in client.batches.list() if batch.input_file_id == file.id]
    (submission,) = (request for request in model.batches.history if request.operation == "create_batch")
    assert submission.fault == fault
    assert found == ([submission.made] if made else [])


@pytest.mark.parametrize(("fault", "made"), [(Dropped(), 1), (Cut(), 0), (UNAVAILABLE, 0)])
async def test_the_answer_to_an_upload_can_be_lost(
    model: LocalModel, client: openai.AsyncOpenAI, fault: Fault, made: int
) -> None:
    before = len(model.batches.file_ids)
    model.batches.script.add("upload_file", fault)
    with pytest.raises((openai.APIConnectionError, openai.InternalServerError)):
        await upload(client, lines("a"))
    assert len(model.batches.file_ids) - before == made


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (UNAVAILABLE, openai.InternalServerError),
        (Throttled(retry_after=3), openai.RateLimitError),
        (BATCH_ROLE_MISSING, openai.AuthenticationError),
        (Slow(0.05, UNAVAILABLE), openai.InternalServerError),
    ],
)
async def test_every_operation_can_fail(
    model: LocalModel, client: openai.AsyncOpenAI, fault: Fault, error: type[openai.APIStatusError]
) -> None:
    done = await until(client, await submit(client, lines("a")))
    spare = await upload(client, lines("b"))
    output = done.output_file_id or ""
    model.batches.history.clear()
    model.batches.script.fault = lambda _: fault
    before = set(model.batches.file_ids), set(model.batches.all)
    for call in (
        upload(client, lines("a")),
        client.files.list(),
        client.files.retrieve(spare.id),
        client.files.content(output),
        client.files.delete(spare.id),
        create(client, spare.id),
        client.batches.list(),
        client.batches.retrieve(done.id),
        client.batches.cancel(done.id),
    ):
        with pytest.raises(error):
            await call
    assert (set(model.batches.file_ids), set(model.batches.all)) == before
    assert len({request.operation for request in model.batches.history}) == 9


async def test_faults_are_chosen_by_operation(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    model.batches.script.fault = lambda request: UNAVAILABLE if request.operation == "get_batch" else None
    batch = await submit(client, lines("a"))
    with pytest.raises(openai.InternalServerError):
        await client.batches.retrieve(batch.id)


async def test_a_download_can_break_in_the_middle(model: LocalModel, client: openai.AsyncOpenAI) -> None:
    many = lines(*map(str, range(2000)))
    file = await upload(client, many)
    model.batches.script.add("read_file", Dropped(midway=True))
    received = bytearray()

    async def download() -> None:
        async with client.files.with_streaming_response.content(file.id) as response:
            async for chunk in response.iter_bytes():
                received.extend(chunk)

    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await download()
    assert 0 < len(received) <= len(many) // 2
    assert many.startswith(received)


async def test_stopping_waits_for_no_batch(certificates: Certificates) -> None:
    model = LocalModel(certificates, verify=verify, brain=Echo(), deployments=DEPLOYMENTS)
    async with model, sdk(model, certificates) as client:
        model.batches.script.plan(Course(working=60), Course(validating=60))
        model.batches.script.lines.policy = lambda _: Slow(60)
        for _ in range(2):
            await submit(client, lines("a"))
        began = time.monotonic()
    assert time.monotonic() - began < 3
