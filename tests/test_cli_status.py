"""`blobsight status`: how far things are, by listing alone."""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob.aio import ContainerClient
from support.person import ROOT, Person
from support.pictures import picture
from support.terminal import Ran, blobsight

from blobsight.image_states import ImageState, State, image_states
from blobsight.status import Counting
from blobsight.terminal import printable
from pipeline.names import result_name
from pipeline.storage.facts import ListedBlob

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


async def put(images: ContainerClient, results: ContainerClient, name: str, result: Mapping[str, str] | None) -> None:
    """An image and, if it has one, its result with this metadata, of the image as it is unless that says otherwise."""
    uploaded = await images.upload_blob(name, b"x")
    if result is not None:
        etag = (await uploaded.get_blob_properties()).etag.strip('"')
        await results.upload_blob(result_name(name), b"{}", metadata={"sourceetag": etag} | dict(result))


SUCCEEDED, CORRUPT = {"status": "succeeded"}, {"status": "failed", "errorcode": "corrupt_image"}
FILTERED, STALE = CORRUPT | {"errorcode": "content_filtered"}, SUCCEEDED | {"sourceetag": "0xEARLIER"}
IMAGES: Mapping[str, Mapping[str, str] | None] = {
    "a": SUCCEEDED,
    "a-b": None,
    "a.jpg": SUCCEEDED,
    "a/ä 漢字 😀.png": CORRUPT,
    "a/b": CORRUPT,
    "b/1": FILTERED,
    "b/2": STALE,
    "x" * 1024: SUCCEEDED,
    "x" * 1023 + "y": None,
}


async def run(person: Person, containers: tuple[ContainerClient, ContainerClient], *arguments: str) -> Ran:
    images, results = containers
    return await blobsight(
        person, "status", *arguments, "--images", images.container_name, "--results", results.container_name
    )


async def test_every_image_is_counted_once_by_its_state(
    person: Person, containers: tuple[ContainerClient, ContainerClient]
) -> None:
    for name, result in IMAGES.items():
        await put(*containers, name, result)
    images, results = containers
    await images.upload_blob("a/_instructions.md", b"not an image")
    await results.upload_blob("of-a-deleted-image.json", b"{}", metadata=SUCCEEDED)
    found = [state async for state in image_states(images, results)]
    assert {state.image.name: (state.state, state.error_code) for state in found} == {
        name: (State.PENDING, None)
        if result is None or result is STALE
        else (State(result["status"]), result.get("errorcode"))
        for name, result in IMAGES.items()
    }
    assert len(found) == len(IMAGES)
    assert [state.image.name async for state in image_states(images, results, "b/")] == ["b/1", "b/2"]
    shown = await run(person, containers)
    assert (shown.status, shown.lines) == (
        0,
        [
            ["pending", "3"],
            ["succeeded", "3"],
            ["failed", "3"],
            ["failed: corrupt_image", "2"],
            ["failed: content_filtered", "1"],
            ["all images", "9"],
        ],
    )
    assert "The oldest pending image was uploaded" in shown.talk
    output = (await run(person, containers, "b/", "--json")).json()
    assert (output["images"], output["pending"], output["failed"], output["failed_by_code"]) == (
        2,
        1,
        1,
        {"content_filtered": 1},
    )


async def test_failed_images_are_listed_with_their_messages(person: Person) -> None:
    await person.drop("failed-status/cut.png", picture()[:60])
    await person.drop("failed-status/page.jpg", b"<html>")
    await person.result("failed-status/cut.png")
    await person.result("failed-status/page.jpg")
    ran = await blobsight(person, "status", "failed-status/", "--failed")
    rows = dict(ran.lines)
    assert (ran.status, set(rows)) == (0, {"failed-status/cut.png", "failed-status/page.jpg"})
    assert rows["failed-status/page.jpg"].startswith("unsupported_image: The file is not an image")


async def test_other_things_in_the_result_container_are_listed_as_such(
    person: Person, containers: tuple[ContainerClient, ContainerClient]
) -> None:
    images, results = containers
    for name, body in (("a", b"no JSON"), ("b", b"[]"), ("c", b'{"status": "failed"}')):
        etag = (await (await images.upload_blob(name, b"x")).get_blob_properties()).etag.strip('"')
        await results.upload_blob(f"{name}.json", body, metadata=CORRUPT | {"sourceetag": etag})
    ran = await run(person, containers, "--failed")
    assert [name for name, _ in ran.lines] == ["a", "b", "c"]
    assert all("its result can't be read: it is" in why for _, why in ran.lines)
    lines = [json.loads(line) for line in (await run(person, containers, "--failed", "--json")).out.splitlines()]
    assert [(one["name"], one["code"]) for one in lines] == [("a", None), ("b", None), ("c", None)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Combien\u00a0? 漢字 😀 \u202f\u200d", "Combien\u00a0? 漢字 😀 \u202f\u200d"),
        ("a\x1b[31m\x9b\u202eb", "a\\x1b[31m\\x9b\\u202eb"),
        ("a\u200db\u200b\u00ad\U000e0041👨\u200d👩", "a\\u200db\\u200b\\xad\\U000e0041👨\u200d👩"),
        ("\ud800\x00", "\\ud800\\x00"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_only_terminal_control_and_hidden_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
async def test_a_full_disk_and_a_closed_stdout_are_reported(person: Person) -> None:
    for redirected, status in ((">/dev/full", 3), (">&-", 0)):
        process = await asyncio.create_subprocess_shell(
            f"{shlex.quote(sys.executable)} -m blobsight status --json {redirected}",
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": person.cloud.front.connection_string},
        )
        _, talk = await process.communicate()
        assert (process.returncode, b"Traceback" in talk) == (status, False), talk


async def test_watching_ends_when_nothing_is_pending(
    person: Person, containers: tuple[ContainerClient, ContainerClient]
) -> None:
    await put(*containers, "a", SUCCEEDED)
    ran = await run(person, containers, "--watch")
    assert ran.out == "pending 0, succeeded 1, failed 0, all images 1\n"


async def test_an_empty_container_is_reported(person: Person) -> None:
    ran = await blobsight(person, "status", "no-such-folder/")
    assert (ran.status, ran.talk) == (0, "'images' holds no images whose names start with 'no-such-folder/'.\n")


def image(uploaded: timedelta, finished: timedelta | None, state: State = State.SUCCEEDED) -> ImageState:
    blob = ListedBlob("a", "0x1", NOW - uploaded, {})
    return ImageState(blob, state, "a.json", None, None if finished is None else NOW - finished)


def counted(*images: ImageState) -> Counting:
    counting = Counting(NOW)
    for one in images:
        counting.add(one)
    return counting


@pytest.mark.parametrize(
    ("images", "rate", "left"),
    [
        # Ten results within the last 100 seconds, when it began.
        ([(100, 10 * number) for number in range(10)], 0.1, 50),
        # Work that began long ago counts over the last five minutes.
        ([(7200, number) for number in range(300)], 1.0, 5),
        # Nothing has come of it lately.
        ([(7200, 7000)], 0.0, None),
    ],
)
def test_status_has_the_rate_and_the_time_left(images: list[tuple[int, int]], rate: float, left: int | None) -> None:
    seconds: Callable[[int], timedelta] = lambda n: timedelta(seconds=n)  # noqa: E731 - a short name for rows of numbers
    done = [image(seconds(uploaded), seconds(finished)) for uploaded, finished in images]
    pending = [image(seconds(3600), None, State.PENDING)] * 5
    status = counted(*done, *pending).status
    assert (round(status.rate, 6), status.left) == (rate, None if left is None else seconds(left))
    assert status.to_json()["seconds_left"] == left
