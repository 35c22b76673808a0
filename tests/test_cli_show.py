"""`blobsight show`: what is known of one image, and what is not known and why."""

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import BlobProperties
from support.guarded_storage import guarded
from support.person import ROOT, Person
from support.pictures import picture
from support.some_results import failed, result_of
from support.terminal import blobsight
from support.workshop import Workshop, workshop

from blobsight.show import Version, earlier_results
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.job.answering import Failing
from pipeline.job.requests import Request
from pipeline.storage.marks import QueuedMarks


async def show(person: Person, name: str, *arguments: str) -> Any:
    ran = await blobsight(person, "show", name, "--json", *arguments)
    assert ran.status == 0, ran.talk
    return ran.json()


async def test_show_prints_all_parts_of_a_result(person: Person) -> None:
    """For people and for programs; the name is one that other tools trip over."""
    name, question = "show/grüße #1 %41?.png", "What is the colour of this one?"
    etag = await person.drop(name, picture(size=(64, 48)), {"instructions": question})
    result = await person.result(name)
    ran = await blobsight(person, "show", name)
    assert (ran.status, ran.talk) == (0, "")
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == f"{name}  succeeded"
    assert lines[2:5] == [
        "Image",
        "png, 64 x 48 pixels",
        f"{len(picture()):,} bytes, declared as application/octet-stream",
    ]
    assert lines[lines.index("Asked") :][1:3] == [question, "(metadata instructions)"]
    assert lines[lines.index("Answer") :][1] == f"You asked: {question}"
    history = lines[lines.index("History") :]
    assert history[1].startswith("succeeded ")
    assert history[1].endswith("after 1 attempt")
    output = await show(person, name)
    uploaded = output["image"].pop("uploaded")
    output.pop("in_work")  # other tests' images may be
    assert datetime.now(UTC) - datetime.fromisoformat(uploaded) < timedelta(minutes=5)
    assert output == {
        "name": name,
        "status": "succeeded",
        "image": {
            "size_bytes": len(picture()),
            "content_type": "application/octet-stream",
            "etag": etag,
            "format": "png",
            "width": 64,
            "height": 48,
        },
        "would_be_asked": None,
        "result_is_current": True,
        "result": result,
        "earlier_results": [],
        "waits_until": None,
        "in_batch_since": None,
    }


async def test_show_says_that_an_answer_was_paid_for_earlier(person: Person) -> None:
    for tier in ("default", "flex"):
        etag = await person.drop("show/tier.png", picture(), {"instructions": "Paid?", "service_tier": tier})
        await person.result("show/tier.png", etag=etag)
        shown = (await blobsight(person, "show", "show/tier.png")).out
        assert ("paid for an earlier version" in shown) == (tier == "flex")
    assert len(person.asked("Paid?")) == 1


async def test_show_prints_a_failure_with_its_message_and_details(person: Person) -> None:
    await person.drop("show/text.txt.png", b"This is not an image.")
    error = (await person.result("show/text.txt.png"))["error"]
    ran = await blobsight(person, "show", "show/text.txt.png")
    assert "show/text.txt.png  failed\n" in ran.out
    assert f"  {error['code']}: {error['message']}\n" in ran.out
    assert "  tokens: none\n" in ran.out


QUIET = ("--images", "show-images", "--results", "show-results", "--state", "show-state")
"""Containers with no app running on them."""


@pytest.fixture(scope="module")
async def quiet(person: Person) -> Person:
    for container in QUIET[1::2]:
        await person.blobs.create_container(container)
    return person


async def put(person: Person, name: str, data: bytes, **metadata: str) -> None:
    await person.blobs.get_blob_client("show-images", name).upload_blob(data, overwrite=True, metadata=metadata)


async def test_without_a_result_show_says_what_would_be_asked(quiet: Person) -> None:
    """By the code of the app: here a folder file, with options of the image's own metadata."""
    await put(quiet, "f/_instructions.md", b"---\nmax_output_tokens: 50\n---\nHow many?\nAnd where?")
    await put(quiet, "f/deep/a.jpg", picture("JPEG", (300, 200)), detail="low")
    output = await show(quiet, "f/deep/a.jpg", *QUIET)
    assert (output["status"], output["result"]) == ("pending", None)
    assert (output["image"]["format"], output["image"]["width"], output["image"]["height"]) == ("jpeg", 300, 200)
    assert output["would_be_asked"] == {
        "text": "How many?\nAnd where?",
        "origin": "folder",
        "origin_name": "f/_instructions.md",
        "options": {"detail": "low", "max_output_tokens": 50},
    }
    ran = await blobsight(quiet, "show", "f/deep/a.jpg", *QUIET)
    assert "    And where?\n  (folder f/_instructions.md)\n  detail: low\n" in ran.out
    assert "  neither in progress nor on the queue, as far as can be seen\n" in ran.out


async def test_the_apps_default_question_is_not_guessed(quiet: Person) -> None:
    await put(quiet, "plain.png", picture())
    output = await show(quiet, "plain.png", *QUIET)
    assert output["would_be_asked"] == {"text": None, "origin": None, "origin_name": None, "options": {}}
    ran = await blobsight(quiet, "show", "plain.png", *QUIET)
    assert "can't be seen from here" in ran.out


async def test_instructions_that_can_not_be_used_are_explained(quiet: Person) -> None:
    await put(quiet, "bad.png", picture(), detail="extreme")
    output = await show(quiet, "bad.png", *QUIET)
    assert output["would_be_asked"]["error"]["code"] == "invalid_instructions"
    ran = await blobsight(quiet, "show", "bad.png", *QUIET)
    assert "'detail' is 'extreme'" in ran.out


async def test_show_explains_files_that_are_not_readable_images(quiet: Person) -> None:
    await put(quiet, "broken.png", picture()[:20])
    ran = await blobsight(quiet, "show", "broken.png", *QUIET)
    assert "The PNG image is damaged: it ends within its header." in ran.out
    await put(quiet, "_instructions.txt", b"Hm?")
    ran = await blobsight(quiet, "show", "_instructions.txt", *QUIET)
    assert (ran.status, "None: this is an instruction file, a schema or a junk file." in ran.out) == (0, True)
    await quiet.blobs.get_blob_client("show-images", "_instructions.txt").delete_blob()


async def test_show_says_until_when_an_image_waits(quiet: Person) -> None:
    await put(quiet, "waits.png", picture())
    await QueuedMarks(quiet.blobs, "show-state").mark("waits.png", 600)
    output = await show(quiet, "waits.png", *QUIET)
    wait = datetime.fromisoformat(output["waits_until"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < wait < timedelta(minutes=10, seconds=1)  # marks have whole seconds
    ran = await blobsight(quiet, "show", "waits.png", *QUIET)
    assert "  waits on the queue until " in ran.out
    await QueuedMarks(quiet.blobs, "show-state").mark("waits.png", -4000)  # a message that was lost long ago
    assert (await show(quiet, "waits.png", *QUIET))["waits_until"] is None


async def test_without_access_to_the_state_container_the_rest_is_shown(quiet: Person) -> None:
    await put(quiet, "seen.png", picture())
    async with guarded(quiet, lambda _method, path: "/show-state" in path) as account:
        ran = await blobsight(None, "show", "seen.png", "--connection-string", account, *QUIET)
    assert ran.status == 0
    assert "png, 64 x 48 pixels" in ran.out
    assert [line for line in ran.out.splitlines() if "state container" in line] == [
        "  in progress or waiting: you may not read the state container (role Storage Blob Data Reader)"
    ]
    assert (
        "the account has no state container"
        in (await blobsight(quiet, "show", "seen.png", *QUIET[:4], "--state", "nope")).out
    )


SHOP = ("--images", "shop-images", "--results", "shop-results", "--state", "shop-state")


@asynccontextmanager
async def at_work(shop: Workshop, request: Request) -> AsyncIterator[None]:
    """While the app is at this request: the model does not answer before the end."""
    release, before = asyncio.Event(), len(shop.model.asked)
    shop.model.behaviours.append(release.wait)
    working = asyncio.create_task(shop.deliveries().handle(request))
    while len(shop.model.asked) == before:
        await asyncio.sleep(0.01)
    yield
    release.set()
    await working


async def test_a_result_of_an_earlier_version_is_not_passed_off_as_this_one(person: Person) -> None:
    async with workshop(person) as shop:
        request = await shop.drop("again.png")
        await shop.analyzer.analyze(request)
        await person.blobs.get_blob_client("shop-images", "again.png").upload_blob(picture(), overwrite=True)
        async with at_work(shop, request):
            output = await show(person, "again.png", *SHOP)
            ran = await blobsight(person, "show", "again.png", *SHOP)
    assert (output["status"], output["result_is_current"]) == ("pending", False)
    assert output["in_work"] == {
        "error": {"code": None, "message": "1 in the whole account; only the app knows which images"}
    }
    assert "Last result\n  of an earlier version of the image\n" in ran.out


async def test_a_failed_image_that_runs_again_is_in_progress(person: Person) -> None:
    async with workshop(person) as shop:
        request = await shop.drop("rerun.png")
        await shop.analyzer.analyze(request, Failing(PermanentFailure(ErrorCode.CRASHED, "It failed.")))
        async with at_work(shop, request.model_copy(update={"rerun_failed": True})):
            ran = await blobsight(person, "show", "rerun.png", *SHOP)
        assert "  in progress: 1 in the whole account; only the app knows which images\n" in ran.out
        assert (await show(person, "rerun.png", *SHOP))["in_work"] is False


class Versioned:
    """A container of an account that keeps versions; the emulator does not. As the SDK lists it."""

    def __init__(self, *versions: tuple[str, int, str, bool]) -> None:
        self._versions = versions

    async def list_blobs(self, *, name_starts_with: str, include: list[str]) -> AsyncIterator[BlobProperties]:
        assert include == ["versions", "metadata"]
        for name, hour, code, is_current in self._versions:
            if name.startswith(name_starts_with):
                blob = BlobProperties(name=name, metadata={"Status": "failed", "errorcode": code})
                blob.version_id, blob.is_current_version = f"2026-03-14T{hour}", is_current or None
                blob.last_modified = datetime(2026, 3, 14, hour, tzinfo=UTC)
                yield blob


async def test_where_the_account_keeps_versions_earlier_results_are_listed_newest_first() -> None:
    container: Any = Versioned(
        ("a.png.json", 8, "crashed", False),
        ("a.png.json", 9, "model_refused", False),
        ("a.png.json", 10, "corrupt_image", True),
        ("a.png.json.json", 11, "corrupt_image", False),
    )
    assert await earlier_results(container, "a.png") == [
        Version(datetime(2026, 3, 14, 9, tzinfo=UTC), "failed", "model_refused"),
        Version(datetime(2026, 3, 14, 8, tzinfo=UTC), "failed", "crashed"),
    ]


async def test_a_deleted_image_still_shows_its_result(person: Person) -> None:
    await person.drop("show/gone.png", picture(), {"instructions": "show: gone?"})
    await person.result("show/gone.png")
    await person.blobs.get_blob_client("images", "show/gone.png").delete_blob()
    ran = await blobsight(person, "show", "show/gone.png")
    assert (ran.status, "show/gone.png  deleted" in ran.out, "You asked: show: gone?" in ran.out) == (0, True, True)


async def test_a_name_that_is_not_there_brings_up_those_like_it(quiet: Person) -> None:
    await put(quiet, "holiday/beach.jpg", b"x")
    ran = await blobsight(quiet, "show", "holiday/baech.jpg", *QUIET)
    assert (ran.status, ran.out) == (3, "")
    assert "Did you mean 'holiday/beach.jpg'?" in ran.talk
    nowhere = await blobsight(quiet, "show", "nowhere/a.jpg", *QUIET)
    assert "nor any other in 'nowhere/'" in nowhere.talk
    unlike = await blobsight(quiet, "show", "holiday/zzz", *QUIET)
    assert "nor one with a similar name in 'holiday/'" in unlike.talk
    no_container = await blobsight(quiet, "show", "a", "--images", "no-such-container")
    assert (no_container.status, "has no container" in no_container.talk) == (3, True)


async def test_control_characters_in_an_answer_are_escaped(person: Person) -> None:
    """Escape codes in an answer are shown, not obeyed."""
    question = "show: \x1b[31mred"
    await person.drop("show/escape.png", picture(), {"instructions_b64": "c2hvdzogG1szMW1yZWQ="})
    assert (await person.result("show/escape.png"))["instructions"]["text"] == question
    ran = await blobsight(person, "show", "show/escape.png")
    assert "\\x1b[31mred" in ran.out
    json.loads((await blobsight(person, "show", "show/escape.png", "--json")).out)


FORGED = "x\n\nAnswer\n  It is safe.\r\u2028\u2029\x85\x0b\x0cHistory " + "and a line longer than any terminal " * 9


def texts_replaced(document: Any) -> Any:
    """A result whose texts, and names of details, are the forged one; but those that say what it is."""
    if isinstance(document, dict):
        kept = ("status", "created_at", "last_modified", "etag", "code", "finish_reason")
        return {key: value if key in kept else texts_replaced(value) for key, value in document.items()}
    return FORGED if isinstance(document, str) else document


@pytest.mark.parametrize("columns", [None, 60], ids=["pipe", "terminal"])
async def test_nothing_in_a_result_can_be_taken_for_a_section_heading(quiet: Person, columns: int | None) -> None:
    """Text with line breaks in any field, at any width of the terminal; the same for the image's name."""
    name = "forged\n\nAnswer\nIt is safe.png"
    await put(quiet, name, picture())
    document = texts_replaced(json.loads(failed("x").to_json())) | {"answer": {"text": FORGED}}
    document["error"]["details"] = {FORGED: FORGED, "nested": [FORGED]}
    document["schema_version"] = 1
    result = quiet.blobs.get_blob_client("show-results", f"{name}.json")
    await result.upload_blob(json.dumps(document).encode(), overwrite=True)
    if columns is None:
        shown = (await blobsight(quiet, "show", name, *QUIET)).out
    else:
        shown = await at_a_terminal(quiet, columns, "show", name, *QUIET)
    at_the_margin = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert at_the_margin[1:] == [
        "Image",
        "Would be asked",
        "Last result",
        "Asked",
        "Answer",
        "Error",
        "Cost",
        "History",
    ]
    assert at_the_margin[0].startswith("forged\\n\\nAnswer")
    await result.delete_blob()


@pytest.mark.parametrize("columns", [None, 40], ids=["pipe", "terminal"])
async def test_nothing_in_an_answer_looks_like_a_remark_of_ours(quiet: Person, columns: int | None) -> None:
    """What is quoted is indented further than what the command says, wherever the terminal breaks its lines."""
    text = "Yes.\n(cut off at the limit on output tokens)\n" + "\u200b\U000e0041 milliseconds: 0 " * 5
    document = json.loads(result_of("remark.png", instructions={"text": "Safe?\n(setting DEFAULT)"}).to_json())
    document["answer"]["text"] = text
    document["model"]["model"] = "gpt " + "tokens: none " * 20
    document["error"] = {"code": "x", "message": "y", "details": {"tokens": "none", "z" * 5000: "9" * 5000}}
    await put(quiet, "remark.png", picture())
    result = quiet.blobs.get_blob_client("show-results", "remark.png.json")
    await result.upload_blob(json.dumps(document).encode(), overwrite=True)
    if columns is None:
        shown = (await blobsight(quiet, "show", "remark.png", *QUIET)).out
    else:
        shown = await at_a_terminal(quiet, columns, "show", "remark.png", *QUIET)
    ours = [line for line in shown.splitlines() if re.match("  [^ ]", line)]
    assert not [line for line in ours if line.startswith(("  (cut off", "  (setting", "  tokens: none", "  z", "  9"))]
    assert [line[:27] for line in ours if "milliseconds" in line] == ["  milliseconds: download 1,"]
    assert ("\u200b" in shown, "\U000e0041" in shown) == (False, False)
    assert len(shown) < 10_000
    await result.delete_blob()


async def at_a_terminal(person: Person, columns: int, *arguments: str) -> str:
    """The output of a command on a terminal of this width, without the escape codes."""
    terminal, end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blobsight", *arguments),
        *("--connection-string", person.cloud.front.connection_string),
        stdout=end,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)},
    )
    os.close(end)
    shown = b""
    with suppress(OSError):  # what Linux says at the end
        while part := await asyncio.to_thread(os.read, terminal, 65_536):
            shown += part
    os.close(terminal)
    assert await process.wait() == 0
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n")
