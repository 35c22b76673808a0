"""A hostile or careless upload costs a failed result, and other people nothing."""

import asyncio
import gzip
import json
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from time import monotonic

import aiohttp
import psutil
import pytest
from azure.storage.blob import ContentSettings
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient
from support.damaged_images import webp_of
from support.hostile_schemas import KINDS
from support.person import Person, deliver_again
from support.pictures import picture
from support.some_settings import ENOUGH

from pipeline.errors import PermanentFailure
from pipeline.instructions.files import MAX_FILE_BYTES
from pipeline.instructions.metadata_text import UndecodableText, decode_text
from pipeline.model.question import Question
from pipeline.model.replies import read_reply
from pipeline.settings import Settings, SettingsError

QUESTION = Question("?", "vision", "", "auto", 100)
MANY = {f"漢{chr(0x4E00 + n)}": {"type": "string"} for n in range(900)}
SLOW_SCHEMA = {
    "type": "object",
    "$defs": MANY,
    "properties": {str(n): {"$ref": f"#/$defs/{name}"} for n, name in enumerate(MANY)},
}

HOSTILE: dict[str, tuple[dict[str, str], dict[str, bytes], str]] = {
    # metadata, sidecar files, code of the failed result
    "tokens without end": ({"max_output_tokens": "9" * 400}, {}, "invalid_instructions"),
    "tokens for a year": ({"max_output_tokens": "1000000000"}, {}, "invalid_instructions"),
    "half a character as a key": ({}, {".instructions.json": b'{"\\ud800": 1}'}, "invalid_instructions"),
    "half a character twice": ({}, {".instructions.json": b'{"\\ud800": 1, "\\ud800": 2}'}, "invalid_instructions"),
    "half a character in a name": ({}, {".instructions.json": b'{"schema": "x\\ud800"}'}, "invalid_instructions"),
    "half a character as text": ({}, {".instructions.json": b'{"instructions": "a\\ud800"}'}, "invalid_instructions"),
    "half a character in UTF-7": ({"instructions": "=?utf-7?Q?+2AA-x?="}, {}, "invalid_instructions"),
    "a schema elsewhere": ({"schema": "../results/secret"}, {}, "invalid_instructions"),
    "UTF-16 without its mark": ({}, {".instructions.txt": "hello".encode("utf-16-le")}, "invalid_instructions"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_it_becomes_a_failed_result_that_says_so(person: Person, case: str) -> None:
    metadata, files, code = HOSTILE[case]
    name = f"hostile/{case}.png"
    for ending, data in files.items():
        await person.drop(name + ending, data)
    await person.drop(name, picture(), metadata)
    result = await person.result(name)
    assert (result["status"], result["error"]["code"]) == ("failed", code)


async def test_other_uploads_are_served_meanwhile(person: Person) -> None:
    """A schema that takes long to look through, dropped for a whole folder, delays no other upload."""
    await person.drop("slow/_instructions.json", json.dumps({"schema": SLOW_SCHEMA, "instructions": "Slow?"}).encode())
    for n in range(4):
        await person.drop(f"slow/{n}.png", picture())
    functions = person.cloud.functions
    started = monotonic()
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{functions.url}/api/process_image?instructions=Meanwhile",
            data=picture(),
            headers={"x-functions-key": functions.function_key},
        ) as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "You asked: Meanwhile")
    assert monotonic() - started < 3
    for n in range(4):
        await person.result(f"slow/{n}.png")


@contextmanager
def most_memory(pids: list[int]) -> Iterator[Callable[[], int]]:
    """The most bytes that the largest of these processes holds while the block runs."""
    processes, most, ended = [psutil.Process(pid) for pid in pids], [0], Event()

    def watch() -> None:
        while not ended.wait(0.01):
            most[0] = max(most[0], *(process.memory_info().rss for process in processes))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(watch)
        try:
            yield lambda: most[0]
        finally:
            ended.set()


async def test_compressed_bombs_cost_their_own_failed_results_and_no_memory(person: Person) -> None:
    """Each would be 300 MB unpacked; the images next to them are answered."""
    bomb = gzip.compress(bytes(300_000_000), 9)
    disguised = ContentSettings(content_type="image/png", content_encoding="gzip")
    await person.drop("bombs/first.png", picture(), {"instructions": "Before the bombs"})
    await person.result("bombs/first.png")
    with most_memory(await workers_of(person)) as most:
        for n in range(12):
            await person.drop(f"bombs/{n}.png", bomb, {"instructions": "Bomb"}, content_settings=disguised)
            await person.drop(f"bombs/{n}-beside.png", picture(), {"instructions": "Beside a bomb"})
        codes = {(await person.result(f"bombs/{n}.png"))["error"]["code"] for n in range(12)}
        beside = {(await person.result(f"bombs/{n}-beside.png"))["status"] for n in range(12)}
    assert (codes, beside) == ({"image_too_large"}, {"succeeded"})
    assert most() < 350_000_000


async def test_pictures_that_are_small_to_write_and_large_to_decode_cost_no_memory(person: Person) -> None:
    """38 bytes each, for a gigabyte and more; a GIF says its size elsewhere. The images next to them are answered."""
    screen = struct.pack("<HH", 16_000, 15_000)
    gif = b"GIF89a" + screen + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + screen + b"\0\x02\x02\x44\x01\0;"
    pictures = {"webp": webp_of(8_000, 8_000), "larger.webp": webp_of(16_000, 15_000), "gif": gif}
    assert max(map(len, pictures.values())) < 50
    await person.drop("pixels/first.png", picture(), {"instructions": "Before the pixels"})
    await person.result("pixels/first.png")
    names = [f"pixels/{n}.{kind}" for n in range(4) for kind in pictures]
    with most_memory(await workers_of(person)) as most:
        for name in names:
            await person.drop(name, pictures[name.partition(".")[2]], {"instructions": "Pixels"})
            await person.drop(f"{name}-beside.png", picture(), {"instructions": "Beside pixels"})
        errors = [(await person.result(name))["error"] for name in names]
        beside = {(await person.result(f"{name}-beside.png"))["status"] for name in names}
    assert ({error["code"] for error in errors}, beside) == ({"image_too_large"}, {"succeeded"})
    assert all("max_memory_bytes" in error["details"] for error in errors), errors
    assert most() < 350_000_000


async def test_schemas_that_are_small_to_write_and_large_to_compile_cost_no_memory(person: Person) -> None:
    """Each has an image of its own and comes with the others at once; the images next to them are answered."""
    files = {
        f"schemas/{kind}-{n}.png": json.dumps({"schema": schema | {"title": str(n)}, "instructions": kind}).encode()
        for kind, (schema, _) in KINDS.items()
        for n in range(2)
    }
    names = [name for name, file in files.items() if len(file) < MAX_FILE_BYTES]
    assert len(names) >= 40
    await person.drop("schemas/first.png", picture(), {"instructions": "Before the schemas"})
    await person.result("schemas/first.png")
    workers = await workers_of(person)
    before = max(psutil.Process(pid).memory_info().rss for pid in workers)
    with most_memory(workers) as most:
        for name in names:
            await person.drop(f"{name}.instructions.json", files[name])
        for name in names:
            await person.drop(name, picture())
            await person.drop(f"{name}-beside.png", picture(), {"instructions": "Beside a schema"})
        codes = {(await person.result(name))["error"]["code"] for name in names}
        beside = {(await person.result(f"{name}-beside.png"))["status"] for name in names}
    assert (codes, beside) == ({"invalid_instructions", "invalid_answer"}, {"succeeded"})
    assert most() - before < 100_000_000


async def workers_of(person: Person) -> list[int]:
    functions = person.cloud.functions
    headers = {"x-functions-key": functions.master_key}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{functions.url}/admin/host/status", headers=headers) as got,
    ):
        return [worker["pid"] for worker in (await got.json())["local"]["workers"]]


async def test_an_empty_file_hides_no_other_and_the_earlier_one_with_text_wins(person: Person) -> None:
    await person.drop("empty/_instructions.md", b" \n")
    await person.drop("empty/_instructions.txt", b"From the text file")
    await person.drop("empty/a.png", picture())
    assert (await person.result("empty/a.png"))["answer"]["text"] == "You asked: From the text file"


async def test_a_duplicate_event_after_a_re_analysis_neither_pays_nor_reverts(person: Person) -> None:
    await person.drop("again.png", picture(), {"instructions": "Re-analysis: at first"})
    await person.result("again.png")
    request = {"version": 1, "container": "images", "name": "again.png", "instructions": "On second thoughts"}
    async with QueueClient.from_connection_string(
        person.cloud.front.connection_string, "analysis-requests", message_encode_policy=TextBase64EncodePolicy()
    ) as queue:
        await queue.send_message(json.dumps(request))
    while (await person.result("again.png"))["instructions"]["origin"] != "request":
        await asyncio.sleep(0.05)
    await deliver_again(person, "again.png")
    await person.logged("images/again.png: already done")
    assert (await person.result("again.png"))["answer"]["text"] == "You asked: On second thoughts"
    assert len(person.asked("Re-analysis: at first")) == 1


@pytest.mark.parametrize(
    "address",
    [
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET==",
        "https://a.blob.core.windows.net/?sv=2025&sig=SECRET",
        "https://user:SECRET@a.blob.core.windows.net",
        "https://a.blob.core.windows.net:99999/SECRET",
    ],
)
def test_a_secret_in_the_wrong_setting_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(ENOUGH | {"DataStorage__blobServiceUri": address})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("RETRY_FOR_SECONDS", "inf"), ("CLAIM_SECONDS", "1e300")])
def test_a_setting_of_infinite_time_is_refused(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=key):
        Settings.from_environment(ENOUGH | {key: value})


def test_a_paid_answer_is_kept_in_any_shape() -> None:
    body = {
        "choices": [{"message": {"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "cat"}]}}],
        "usage": {"prompt_tokens": "many", "completion_tokens": 7.0},
    }
    reply = read_reply(json.dumps(body).encode(), {}, QUESTION)
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("A cat", None, 7)
    half = read_reply(b'{"choices": [{"message": {"content": "half \\ud83d"}}]}', {}, QUESTION)
    assert half.text == "half ?"


def test_an_odd_content_filter_verdict_still_counts() -> None:
    body = {"choices": [{"message": {}, "finish_reason": "content_filter", "content_filter_results": ["odd"]}]}
    with pytest.raises(PermanentFailure, match="content filter"):
        read_reply(json.dumps(body).encode(), {}, QUESTION)


def test_codecs_that_are_not_character_sets_are_refused() -> None:
    with pytest.raises(UndecodableText):
        decode_text("=?raw_unicode_escape?Q?=5Cud800?=")
