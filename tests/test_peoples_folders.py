"""Folders as people have them, in the container: near misses of instruction files, and what only marks a folder."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal
from unicodedata import normalize

import pyarrow.fs
import pytest
from azure.storage.blob.aio import ContainerClient
from support.person import Person
from support.pictures import picture
from support.terminal import blobsight
from support.workshop import Workshop, workshop

from blobsight.image_states import State, image_states
from pipeline.errors import PermanentFailure
from pipeline.instructions import InstructionSources
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.storage.listing import list_page

PNG = picture()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("_Instructions.txt", "_instructions.txt"),
        ("a.png.Instructions.txt", "a.png.instructions.txt"),
        ("a.png.instructions.txt.txt", "a.png.instructions.txt"),
        ("a.png.instruction.md", "a.png.instructions.md"),
        ("instructions.txt", "_instructions.txt"),
        ("a.instructions.txt", "a.jpg.instructions.txt"),
    ],
)
async def test_a_near_miss_ends_in_a_failed_result_that_says_what_to_call_it(
    person: Person, name: str, right: str
) -> None:
    """Whatever it says and whenever it comes, the model is not asked that, and it costs nothing."""
    folder = f"near/{name}/"
    asked = f"Asked by {name}"
    await person.drop(f"{folder}{name}", asked.encode())
    result = await person.result(f"{folder}{name}")
    assert (result["status"], result["error"]["code"]) == ("failed", "invalid_instructions")
    assert right in result["error"]["message"]
    assert result["error"]["details"] == {"file": f"{folder}{name}", "right_name": f"{folder}{right}"}
    assert result["instructions"]["text"] is None
    await person.drop(f"{folder}a.png", PNG)
    assert (await person.result(f"{folder}a.png"))["instructions"]["origin"] == "builtin"
    assert not person.asked(asked)
    shown = await blobsight(person, "status", "--failed", folder)
    assert [line[0] for line in shown.lines if line[0].startswith(folder)] == [f"{folder}{name}"]


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("photo.jpg", "photo.JPG.instructions.txt"),
        ("photo.jpg", "photo.jpeg.instructions.txt"),
        ("IMG_1.JPEG", "img_1.jpg.instructions.md"),
        ("scan.tif", "Scan.TIFF.instructions.json"),
        ("photo.heic", "photo.HEIF.instructions.txt"),
    ],
)
async def test_a_sidecar_of_another_writing_of_its_image_ends_in_a_failed_result(
    person: Person, image: str, sidecar: str
) -> None:
    folder = f"writings/{sidecar}/"
    ending = sidecar.partition(".instructions")[2]
    await person.drop(folder + image, PNG)
    await person.drop(folder + sidecar, b'{"instructions": "Never asked"}')
    result = await person.result(folder + sidecar)
    assert (result["status"], result["error"]["code"]) == ("failed", "invalid_instructions")
    right = f"{image}.instructions{ending}"
    assert f"there is '{folder}{image}'" in result["error"]["message"]
    assert result["error"]["details"] == {"file": folder + sidecar, "right_name": folder + right}
    shown = await blobsight(person, "status", "--failed", folder)
    assert [line[0] for line in shown.lines if line[0].startswith(folder)] == [folder + sidecar]


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("instruction", "instructions"),
        ("Instruction", "instructions"),
        ("instructions_base64", "instructions_b64"),
        ("instructionsb64", "instructions_b64"),
    ],
)
async def test_a_near_miss_of_a_metadata_key_is_named(key: str, right: str) -> None:
    sources = InstructionSources(NoFiles(), None)
    with pytest.raises(PermanentFailure, match=f"write '{right}'") as caught:
        await sources.find("a.jpg", {key: "What is it?"})
    assert caught.value.details == {"metadata": key.lower(), "right_key": right}
    assert (await sources.find("a.jpg", {key: "What is it?", "instructions": "This?"})).text == "This?"


async def test_other_tools_metadata_break_nothing() -> None:
    metadata = {"prompt": "x", "max_tokens": "x", "description": "x", "instructor": "x", "instruction": " "}
    assert (await InstructionSources(NoFiles(), None).find("a.jpg", metadata)).origin == "builtin"


async def test_a_long_or_steering_name_is_shown_in_one_short_line() -> None:
    name = f"{'x' * 900}\n\x1b[31m/b.Instructions.txt"
    failure = await InstructionSources(NoFiles(), None).misnamed(name)
    assert failure is not None
    assert failure.message.isprintable()
    assert len(failure.message) < 1500
    assert failure.details == {"file": name, "right_name": f"{name[:-17]}.jpg.instructions.txt"}


class NoFiles:
    async def read_start(self, _name: str, _length: int) -> None:
        return None


async def test_a_photo_of_instructions_is_a_photo(person: Person) -> None:
    for name in ("instructions.jpg", "_instructions.png", "a.instructions.gif"):
        await person.drop(f"photos/{name}", PNG, {"instructions": "Photo?"})
        assert (await person.result(f"photos/{name}"))["status"] == "succeeded"


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def put(shop: Workshop, name: str, data: bytes, **metadata: str) -> Request:
    client = shop.person.blobs.get_blob_client("shop-images", name)
    await client.upload_blob(data, metadata=metadata, overwrite=True)
    return Request(container="shop-images", name=name)


@pytest.mark.parametrize(("image_form", "file_form"), [("NFC", "NFD"), ("NFD", "NFC")])
async def test_a_sidecar_in_another_unicode_form_than_its_image_fails(
    shop: Workshop, image_form: Literal["NFC", "NFD"], file_form: Literal["NFC", "NFD"]
) -> None:
    """Which look alike: `ö` is one character, or two, as macOS writes it."""
    image, sidecar = normalize(image_form, "x/Größe.png"), normalize(file_form, "x/Größe.png.instructions.txt")
    assert await shop.analyzer.analyze(await put(shop, image, PNG)) is Outcome.SUCCEEDED
    request = await put(shop, sidecar, b"Asked by the sidecar")
    assert [await shop.analyzer.analyze(request) for _ in range(2)] == [Outcome.FAILED, Outcome.ALREADY_DONE]
    error = (await shop.result(sidecar))["error"]
    assert error["code"] == "invalid_instructions"
    assert error["details"] == {"file": sidecar, "right_name": f"{image}.instructions.txt"}
    right = await put(shop, f"{image}.instructions.txt", b"Asked by the right one")
    assert await shop.analyzer.analyze(right) is Outcome.SUCCEEDED
    assert shop.model.asked == ["Describe this image.", "Asked by the right one"]


async def test_an_image_is_not_asked_something_else_than_a_sidecar_that_came_first_in_the_usual_form(
    shop: Workshop,
) -> None:
    image, sidecar = normalize("NFD", "x/Größe.png"), "x/Größe.png.instructions.txt"
    assert await shop.analyzer.analyze(await put(shop, sidecar, b"Asked by the sidecar")) is Outcome.GONE
    assert await shop.analyzer.analyze(await put(shop, image, PNG)) is Outcome.FAILED
    assert (await shop.result(image))["error"]["details"]["right_name"] == f"{image}.instructions.txt"
    assert not shop.model.asked


@pytest.mark.parametrize("name", ["scan.png", "0123abcd", "v1.2"])
async def test_a_right_sidecar_waits_for_its_image_whatever_that_is_called(shop: Workshop, name: str) -> None:
    sidecar = await put(shop, f"{name}.instructions.txt", b"Asked by the sidecar")
    await shop.analyzer.analyze(sidecar)
    assert await shop.analyzer.analyze(await put(shop, name, PNG)) is Outcome.SUCCEEDED
    assert shop.model.asked == ["Asked by the sidecar"]
    assert await shop.analyzer.analyze(sidecar) is Outcome.ALREADY_DONE


MARKERS = {
    "rclone/": {"hdi_isfolder": "true"},
    "opendal/": {},
    "adlfs/": {"is_directory": "false"},
    "hadoop": {"hdi_isfolder": "true"},
    "capitals": {"Hdi_isfolder": "True"},
    "other.jpg": {"Is_Directory": "TRUE"},
}


def make_folder_with_pyarrow(person: Person, folder: str) -> None:
    settings = dict(part.split("=", 1) for part in person.cloud.front.connection_string.split(";") if part)
    authority = settings["BlobEndpoint"].split("/")[2]
    pyarrow.fs.AzureFileSystem(
        settings["AccountName"],
        account_key=settings["AccountKey"],
        blob_storage_authority=authority,
        dfs_storage_authority=authority,
        blob_storage_scheme="http",
        dfs_storage_scheme="http",
    ).create_dir(folder)


async def test_a_folder_marker_is_not_an_upload(person: Person) -> None:
    for name, metadata in MARKERS.items():
        await person.drop(f"marked/{name}", b"", metadata)
        await person.logged(f"images/marked/{name}: gone")
    await asyncio.to_thread(make_folder_with_pyarrow, person, "images/marked/pyarrow/sub")
    await person.logged("images/marked/pyarrow/sub/: gone")
    await person.drop("marked/opendal/a.png", PNG)
    await person.result("marked/opendal/a.png")
    assert await person.result_names("marked/") == ["marked/opendal/a.png.json"]
    shown = await blobsight(person, "status", "marked/", "--json")
    assert (shown.json()["pending"], shown.json()["succeeded"]) == (0, 1)


@pytest.mark.parametrize("metadata", [True, False])
async def test_listings_leave_folder_markers_out(
    containers: tuple[ContainerClient, ContainerClient], *, metadata: bool
) -> None:
    images, results = containers
    for name, marks in MARKERS.items():
        await images.upload_blob(name, b"", metadata=marks)
    for name in ("a.jpg", "empty.jpg", "z"):
        await images.upload_blob(name, b"" if name == "empty.jpg" else PNG)
    names, token = [], None
    for _ in range(len(MARKERS) + 3):
        page = await list_page(images, token, metadata=metadata, page_size=2)
        names += [blob.name for blob in page.blobs]
        if (token := page.next_token) is None:
            break
    assert names == ["a.jpg", "empty.jpg", "z"]
    states = [(state.image.name, state.state) async for state in image_states(images, results)]
    assert states == [(name, State.PENDING) for name in names]


async def test_reconcile_queues_no_folder_marker(shop: Workshop) -> None:
    for name, metadata in MARKERS.items():
        await put(shop, name, b"", **metadata)
    await put(shop, "lost.png", PNG)
    await shop.reconciler().run()
    assert [request.name for request in await shop.queued() if isinstance(request, Request)] == ["lost.png"]
