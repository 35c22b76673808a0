"""The main job: drop an image, get JSON. Every test goes through emulator, events, worker and identity."""

import asyncio
import base64
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import aiohttp
import jsonschema
import psutil
import pytest
from azure.storage.blob import BlobBlock
from inline_snapshot import snapshot
from support.odd_images import Page, tiff_of_pages
from support.person import SCHEMA, People, Person, deliver_again
from support.pictures import picture

from localcloud.cloud import DATA_KEY
from localcloud.model import (
    DEPLOYMENT_NOT_FOUND,
    FAILED_DEPENDENCY,
    FILTERED_WITHOUT_MESSAGE,
    FIREWALL_PAGE,
    FORBIDDEN,
    INSUFFICIENT_QUOTA,
    MODEL,
    NO_CHOICES,
    ONLY_REASONING,
    REQUEST_TOO_LARGE,
    RETIRED,
    TRUNCATED,
    UNAUTHORIZED,
    UNAVAILABLE,
    AnswerFiltered,
    Behaviour,
    Dropped,
    Garbled,
    Hang,
    PromptFiltered,
    Refusal,
    Slow,
    Throttled,
    Verbatim,
)


async def test_an_image_becomes_a_result(person: Person) -> None:
    """Every field of the published schema is there, and true."""
    data = picture("PNG")
    etag = await person.drop(
        "first/cat picture.png", data, {"instructions": "What is this?"}, content_type="image/jpeg"
    )
    result = await person.result("first/cat picture.png")

    jsonschema.validate(result, SCHEMA, format_checker=jsonschema.FormatChecker())
    properties = await person.blobs.get_blob_client("results", "first/cat picture.png.json").get_blob_properties()
    assert properties.content_settings.content_type == "application/json; charset=utf-8"
    assert properties.metadata.pop("sourcemodified")[:19] == result["source"]["last_modified"][:19]
    assert len(properties.metadata.pop("contentkey")) == len(result["work_key"])
    assert properties.metadata == {
        "sourcesha256": sha256(picture()).hexdigest(),
        "inputtokens": "264",
        "outputtokens": "6",
        "status": "succeeded",
        "origin": "metadata",
        "sourceetag": etag,
        "workkey": result["work_key"],
    }
    assert result["source"].pop("url").endswith("/devstoreaccount1/images/first/cat%20picture.png")
    assert result["source"].pop("etag") == etag
    assert result["instructions"].pop("sha256") == sha256(b"What is this?").hexdigest()
    assert result["model"].pop("request_id") == person.asked("What is this?")[0].request_id
    assert {"download", "prepare", "model", "total"} == set(result.pop("timings_ms"))
    assert result["source"].pop("sha256") == sha256(picture()).hexdigest()
    for volatile in ("created_at", "work_key"):
        assert result.pop(volatile)
    assert result["source"].pop("last_modified")
    assert result == snapshot(
        {
            "schema_version": 1,
            "status": "succeeded",
            "pipeline_version": "0.1.0",
            "attempts": 1,
            "source": {
                "container": "images",
                "name": "first/cat picture.png",
                "size_bytes": 137,
                "content_type": "image/jpeg",
                "format": "png",
                "width": 64,
                "height": 48,
                "pages": None,
            },
            "instructions": {"text": "What is this?", "origin": "metadata", "origin_name": "instructions"},
            "image_sent": {
                "format": "png",
                "width": 64,
                "height": 48,
                "size_bytes": 137,
                "transformed": False,
                "detail": "auto",
            },
            "pages_sent": [
                {
                    "number": 1,
                    "format": "png",
                    "width": 64,
                    "height": 48,
                    "size_bytes": 137,
                    "transformed": False,
                }
            ],
            "answer": {
                "text": "You asked: What is this?",
                "data": None,
                "finish_reason": "stop",
                "truncated": False,
                "reused_from": None,
                "pages": None,
            },
            "model": {
                "deployment": "vision",
                "model": "blobsight-local-ocr",
                "service_tier": "default",
                "endpoint": "127.0.0.1",
            },
            "usage": {"input_tokens": 264, "output_tokens": 6, "reasoning_tokens": 0, "cached_tokens": 0},
            "error": None,
        }
    )


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "grüße 漢字 😀.png",
        "100%.png",
        "a%20b.png",
        "x#y?z+&=.png",
        "dots...png",
        "deep/er/and/deeper.png",
        "n" * 250 + ".png",
    ],
)
async def test_any_name_finds_its_result(person: Person, name: str) -> None:
    await person.drop(f"names/{name}", picture(), {"instructions": "Name?"})
    result = await person.result(f"names/{name}")
    assert (result["status"], result["source"]["name"]) == ("succeeded", f"names/{name}")


@pytest.mark.parametrize(
    ("metadata", "asked", "origin_name"),
    [
        ({"Instructions": "Plain"}, "Plain", "instructions"),
        ({"instructions": quote("Größe in 漢字?")}, "Größe in 漢字?", "instructions"),
        ({"instructions": "=?utf-8?B?w4Rwd2w/?="}, "Äpwl?", "instructions"),
        (
            {"instructions_b64": base64.b64encode("Zwei\nZeilen ✓".encode()).decode()},
            "Zwei\nZeilen ✓",
            "instructions_b64",
        ),
    ],
    ids=["plain", "percent", "words", "base64"],
)
async def test_instructions_reach_the_model_however_they_were_encoded(
    person: Person, metadata: dict[str, str], asked: str, origin_name: str
) -> None:
    name = f"asked/{sha256(asked.encode()).hexdigest()[:8]}.png"
    await person.drop(name, picture(), metadata)
    result = await person.result(name)
    assert result["answer"]["text"] == f"You asked: {asked}"
    assert {k: result["instructions"][k] for k in ("text", "origin", "origin_name")} == {
        "text": asked,
        "origin": "metadata",
        "origin_name": origin_name,
    }


async def test_an_image_without_instructions_is_described(person: Person) -> None:
    await person.drop("plain.png", picture())
    result = await person.result("plain.png")
    assert (result["instructions"]["origin"], result["answer"]["text"]) == (
        "builtin",
        "You asked: Describe this image.",
    )


JPEG = picture("JPEG", (640, 480))


@pytest.mark.parametrize(
    ("name", "data", "metadata", "code", "words"),
    [
        ("empty.png", b"", {}, "empty_blob", "empty"),
        ("cat.jpg", b"This is not a cat, it is a text.\n" * 20, {}, "unsupported_image", "text"),
        ("truncated.jpg", JPEG[: len(JPEG) // 2], {}, "corrupt_image", "upload"),
        ("big.png", picture("PNG") + bytes(3_000_000), {}, "image_too_large", "3,000,000"),
        ("odd.png", picture(), {"instructions_b64": "not base64!"}, "invalid_instructions", "instructions_b64"),
        ("words.png", picture(), {"instructions": "=?klingon?Q?nuqneH?="}, "invalid_instructions", "RFC 2047"),
    ],
    ids=["empty", "text", "truncated", "big", "base64", "words"],
)
async def test_bad_input_becomes_a_failed_result_that_says_what_to_do(
    person: Person, name: str, data: bytes, metadata: dict[str, str], code: str, words: str
) -> None:
    await person.drop(f"bad/{name}", data, metadata)
    result = await person.result(f"bad/{name}")
    jsonschema.validate(result, SCHEMA)
    assert (result["status"], result["error"]["code"], result["answer"]) == ("failed", code, None)
    assert words in result["error"]["message"]
    properties = await person.blobs.get_blob_client("results", f"bad/{name}.json").get_blob_properties()
    assert {k: properties.metadata[k] for k in ("status", "errorcode")} == {"status": "failed", "errorcode": code}


async def test_a_document_of_several_pages_says_how_many_there_are(person: Person) -> None:
    scan = tiff_of_pages(Page(50, 38, tags=[(254, 4, 1)]), Page(400, 300), Page(300, 400), Page(400, 300))
    await person.drop("scan.tif", scan, {"instructions": "Pages?"})
    result = await person.result("scan.tif")
    jsonschema.validate(result, SCHEMA)
    source, sent = result["source"], result["pages_sent"]
    assert (source["format"], source["width"], source["height"], source["pages"]) == ("tiff", 400, 300, 3)
    assert [(page["number"], page["width"], page["height"]) for page in sent] == [
        (1, 400, 300),
        (2, 300, 400),
        (3, 400, 300),
    ]


async def test_the_type_is_the_contents_never_the_names(person: Person) -> None:
    await person.drop("really-png.jpg", picture("PNG"), {"instructions": "Type?"}, content_type="image/jpeg")
    result = await person.result("really-png.jpg")
    assert (result["source"]["format"], result["image_sent"]["format"]) == ("png", "png")
    assert [p.declared_type for p in person.asked("Type?")[0].pictures] == ["image/png"]


@pytest.mark.parametrize(
    "junk",
    [
        ".DS_Store",
        "folder/Thumbs.db",
        "nas/@eaDir/IMG_1.HEIC/SYNOFILE_THUMB_M.jpg",
        "folder/.IMG_1.HEIC.icloud",
        "folder/half.jpg.crdownload",
        "folder/_instructions.md",
        "folder/receipt.schema.json",
    ],
)
async def test_junk_and_instruction_files_get_no_result(person: Person, junk: str) -> None:
    await person.drop(junk, picture())
    await person.logged(f"images/{junk}: not an image")
    assert await person.result_names(junk) == []


@pytest.mark.parametrize(
    ("behaviour", "code", "words", "output_tokens"),
    [
        (AnswerFiltered("hate", text="It sh"), "content_filtered", "hate", 2),
        (FILTERED_WITHOUT_MESSAGE, "content_filtered", "hate", 3),
        (Refusal("I would rather not."), "model_refused", "I would rather not.", 5),
        (ONLY_REASONING, "empty_answer", "MAX_OUTPUT_TOKENS (now 4,096)", 100),
        (PromptFiltered("violence"), "content_filtered", "violence", None),
        (Verbatim(422, b'{"detail": [{"msg": "Field required"}]}'), "request_rejected", "Field required", None),
    ],
    ids=["answer filtered", "without message", "refused", "empty", "prompt filtered", "rejected"],
)
async def test_an_image_that_the_service_declines_is_a_failed_result_at_once(
    person: Person, behaviour: Behaviour, code: str, words: str, output_tokens: int | None
) -> None:
    """It holds what was paid, and the id under which the service knows the call."""
    asked = f"Decline: {code} {output_tokens}"
    person.scripts[asked].append(behaviour)
    name = f"declined/{code}-{output_tokens}.png"
    await person.drop(name, picture(), {"instructions": asked})
    result = await person.result(name)
    jsonschema.validate(result, SCHEMA)
    assert (result["status"], result["error"]["code"], result["answer"]) == ("failed", code, None)
    assert words in result["error"]["message"]
    assert result["usage"]["output_tokens"] == output_tokens
    assert (result["usage"]["input_tokens"] is None) == (output_tokens is None)
    [call] = person.asked(asked)
    assert result["model"] == {
        "deployment": "vision",
        "model": MODEL if output_tokens else None,
        "service_tier": "default" if output_tokens else None,
        "endpoint": "127.0.0.1",
        "request_id": call.request_id,
    }


async def test_an_answer_that_can_not_be_read_is_a_failed_result_after_three_calls(person: Person) -> None:
    """Each was paid, and is counted."""
    person.scripts["Nothing to choose from"].extend([NO_CHOICES] * 3)
    await person.drop("unreadable.png", picture(), {"instructions": "Nothing to choose from"})
    result = await person.result("unreadable.png")
    calls = person.asked("Nothing to choose from")
    assert (len(calls), result["error"]["code"], result["answer"]) == (3, "invalid_answer", None)
    assert "holds no choices" in result["error"]["message"]
    assert result["model"] == {
        "deployment": "vision",
        "model": MODEL,
        "service_tier": "default",
        "endpoint": "127.0.0.1",
        "request_id": calls[-1].request_id,
    }
    assert (result["usage"]["input_tokens"], result["usage"]["output_tokens"]) == (3 * calls[0].prompt_tokens, 9)


async def test_a_truncated_answer_is_kept_and_marked(person: Person) -> None:
    person.scripts["Too long"].append(TRUNCATED)
    await person.drop("long.png", picture(), {"instructions": "Too long"})
    result = await person.result("long.png")
    assert (result["status"], result["answer"]) == (
        "succeeded",
        {
            "text": "The picture shows a",
            "data": None,
            "finish_reason": "length",
            "truncated": True,
            "reused_from": None,
            "pages": None,
        },
    )


PASSING: dict[str, Behaviour] = {
    "throttled, with milliseconds": Throttled(retry_after_ms=20),
    "throttled, with seconds": Throttled(retry_after=1),
    "throttled, with no time": Throttled(),
    "unavailable": UNAVAILABLE,
    "no role": UNAUTHORIZED,
    "no network": FORBIDDEN,
    "failed dependency": FAILED_DEPENDENCY,
    "blocked by a firewall": FIREWALL_PAGE,
    "no money": INSUFFICIENT_QUOTA,
    "too large": REQUEST_TOO_LARGE,
    "no deployment": DEPLOYMENT_NOT_FOUND,
    "retired": RETIRED,
    "hang": Hang(),
    "dropped": Dropped(),
    "dropped midway": Dropped(midway=True),
    "garbled": Garbled(),
    "empty answer": Garbled(b""),
}


@pytest.mark.timeout(240)
async def test_transient_failures_are_tried_again_until_they_pass(tmp_path: Path, people: People) -> None:
    """In place when a moment is enough, by way of the request queue when it is the operator's or takes longer.

    In a cloud of its own: all this trouble makes the governor careful for a while.
    """

    async def outcome(person: Person, trouble: str) -> tuple[str, int]:
        asked = f"Again after: {trouble}"
        person.scripts[asked].append(PASSING[trouble])
        await person.drop(f"again/{trouble}.png", picture(), {"instructions": asked})
        result = await person.result(f"again/{trouble}.png")
        return result["status"], len(person.asked(asked))

    async with people(tmp_path) as person:
        person.patience = 120
        outcomes = await asyncio.gather(*(outcome(person, trouble) for trouble in PASSING))
    assert dict(zip(PASSING, outcomes, strict=True)) == dict.fromkeys(PASSING, ("succeeded", 2))


async def test_a_duplicate_event_is_not_paid_again(person: Person) -> None:
    asked = "Only once, please"
    await person.drop("once.png", picture(), {"instructions": asked})
    first = await person.result("once.png")
    await deliver_again(person, "once.png")
    await person.logged("images/once.png: already done")
    assert (len(person.asked(asked)), await person.result("once.png")) == (1, first)


async def test_an_overwritten_image_is_analyzed_anew(person: Person) -> None:
    await person.drop("twice.png", picture(), {"instructions": "Version one"})
    await person.result("twice.png")
    etag = await person.drop("twice.png", picture(), {"instructions": "Version two"})
    result = await person.result("twice.png", etag=etag)
    assert result["answer"]["text"] == "You asked: Version two"


async def test_a_slow_older_run_never_overwrites_the_newer_result(person: Person) -> None:
    person.scripts["Slow old"].append(Slow(1.0))
    await person.drop("race.png", picture(), {"instructions": "Slow old"})
    while not person.asked("Slow old"):
        await asyncio.sleep(0.02)
    etag = await person.drop("race.png", picture(), {"instructions": "Quick new"})
    newer = await person.result("race.png", etag=etag)
    await person.logged(*(f"images/race.png: {end}" for end in ("already done", "superseded", "deferred")))
    assert await person.result("race.png") == newer
    assert newer["answer"]["text"] == "You asked: Quick new"


async def test_an_image_deleted_meanwhile_gets_no_result(person: Person) -> None:
    person.scripts["Gone?"].append(Slow(0.5))
    await person.drop("gone.png", picture(), {"instructions": "Gone?"})
    while not person.asked("Gone?"):
        await asyncio.sleep(0.02)
    await person.blobs.get_blob_client("images", "gone.png").delete_blob()
    await person.logged("images/gone.png: gone")
    assert await person.result_names("gone.png") == []


async def test_uploads_in_blocks_are_analyzed_once(person: Person) -> None:
    data = picture("PNG", (800, 600))
    client = person.blobs.get_blob_client("images", "blocks.png")
    ids = [base64.b64encode(f"{n:04}".encode()).decode() for n in range(3)]
    third = len(data) // 3 + 1
    for n, block in enumerate(ids):
        await client.stage_block(block, data[n * third : (n + 1) * third])
    await client.commit_block_list([BlobBlock(block_id) for block_id in ids], metadata={"instructions": "In blocks"})
    assert (await person.result("blocks.png"))["answer"]["text"] == "You asked: In blocks"
    assert len(person.asked("In blocks")) == 1


async def test_an_event_of_another_container_is_left_alone(person: Person) -> None:
    """A subscription without a subject filter delivers the results' own events too: they must not be analyzed."""
    await person.drop("other.png", picture(), {"instructions": "Other"})
    await person.result("other.png")
    await deliver_again(person, "other.png.json", container="results")
    await person.logged("Ignored an event of container results")
    assert await person.result_names("other.png.json.json") == []


async def test_one_credential_serves_all_uploads(tmp_path: Path, people: People) -> None:
    """Tokens are asked for once per process and resource, not per image."""
    async with people(tmp_path) as person:
        for n in range(5):
            await person.drop(f"tokens/{n}.png", picture(), {"instructions": "Token"})
        for n in range(5):
            await person.result(f"tokens/{n}.png")
        asked_by_app = [r.resource for r in person.cloud.identity.history if "cognitiveservices" in (r.resource or "")]
    assert len(asked_by_app) == 1


async def test_the_app_gets_no_key(person: Person) -> None:
    """Neither in its settings nor in the environment of the processes that run it."""
    children = await functions_pids(person)
    for pid in children:
        environment = psutil.Process(pid).environ()
        assert not {name for name in environment if "API_KEY" in name}
        assert not {name for name, value in environment.items() if DATA_KEY in value or "AccountKey" in value}
    assert len(children) >= 2


async def functions_pids(person: Person) -> list[int]:
    """The functions host and its workers."""
    url = f"{person.cloud.functions.url}/admin/host/status"
    headers = {"x-functions-key": person.cloud.functions.master_key}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        status = await answer.json()
    return [person.cloud.functions.pid, *(worker["pid"] for worker in status["local"]["workers"])]
