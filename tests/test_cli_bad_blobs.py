"""One bad blob never stops a command for the others: it is named, the rest is done, and the exit status says so.

The blobs are in the emulator, in every bad shape at once; what the emulator has not (customers' keys, rights to a part
of the blobs) is answered by a doorkeeper in front of it.
"""

import asyncio
import csv
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient
from azure.storage.queue.aio import QueueServiceClient
from support.guarded_storage import answering
from support.person import Person
from support.pictures import picture
from support.some_results import failed, result_of
from support.terminal import Ran, blobsight

from blobsight.stored_results import MAX_RESULT_BYTES
from localcloud.front.forwarding import storage_error
from pipeline.storage.marks import QueuedMarks

SUCCEEDED = {"status": "succeeded"}
FAILED = {"status": "failed", "errorcode": "crashed"}
CPK = "BlobUsesCustomerSpecifiedEncryption"


def changed(**changes: Any) -> bytes:
    """A result with these fields instead, of any types."""
    document = json.loads(result_of("x").to_json())
    for path, value in changes.items():
        *sections, last = path.split("__")
        section = document
        for name in sections:
            section = section[name]
        section[last] = value
    return json.dumps(document).encode()


def without(*fields: str) -> bytes:
    document = json.loads(result_of("x").to_json())
    return json.dumps({key: value for key, value in document.items() if key not in fields}).encode()


type Pack = Callable[[bytes], bytes]

GOOD_RESULTS: Mapping[str, tuple[bytes, Pack, str | None]] = {
    "plain": (result_of("plain").to_json(), bytes, None),
    "called gzip": (result_of("called gzip").to_json(), bytes, "gzip"),
    "called deflate": (result_of("called deflate").to_json(), bytes, "deflate"),
    "gzip": (result_of("gzip").to_json(), gzip.compress, "gzip"),
    "deflate": (result_of("deflate").to_json(), zlib.compress, "deflate"),
    "gzip, unsaid": (result_of("gzip, unsaid").to_json(), gzip.compress, None),
    "byte order mark": (result_of("byte order mark").to_json(), b"\xef\xbb\xbf".__add__, None),
    "of an older version": (without("timings_ms", "usage", "model", "instructions", "created_at"), bytes, None),
    "of a newer version": (changed(image_sent__depth=3, answer__pages=[{"number": 1}], lane="bulk"), bytes, None),
}
BAD_RESULTS: Mapping[str, tuple[bytes, str | None, str]] = {
    "truncated": (result_of("x").to_json()[:-30], None, "it is not valid JSON"),
    "empty": (b"", None, "it is not valid JSON"),
    "binary": (bytes(range(256)), None, "it is not valid JSON"),
    "brotli": (b"\x1b\x03\x00\xf8\xa5\x41", "br", "Content-Encoding is 'br'"),
    "half a gzip": (
        gzip.compress(result_of("x").to_json())[:-20],
        "gzip",
        "it is compressed, and can't be unpacked: it is cut off",
    ),
    "begins as zlib": (b"x^2 + y^2 = 1", None, "it is not valid JSON"),
    "bomb": (gzip.compress(bytes(MAX_RESULT_BYTES + 1)), "gzip", "it is compressed, and larger than the"),
    "large": (b" " * (MAX_RESULT_BYTES + 1), None, "it has 16,777,217 bytes"),
    "another program's": (b'{"status": "succeeded", "id": 7}', None, "not a Blobsight result"),
    "version 2": (changed(schema_version=2), None, "in a result format that this program does not know"),
    "words for numbers": (changed(usage__input_tokens="many"), None, "usage.input_tokens"),
    "a list for a section": (changed(model=[]), None, "model"),
    "a number for a moment": (changed(created_at=5), None, "created_at"),
    "no such moment": (changed(source__last_modified="0001-01-01T00:00:00+14:00"), None, "source.last_modified"),
    "a number for a name": (changed(source__name=7), None, "source.name"),
    "infinite": (changed(answer__data=1).replace(b'"data": 1', b'"data": 1e999'), None, "1e999 is not a number"),
    "not a number": (changed(answer__data=1).replace(b'"data": 1', b'"data": NaN'), None, "NaN is not a number"),
    "deep": (changed(answer__data=1).replace(b'"data": 1', b'"data": ' + b"[" * 100_000 + b"]" * 100_000), None, "("),
    "archived": (result_of("archived").to_json(), None, "it is in the archive tier"),
    "customer's key": (b"", None, "a key that only its uploader has"),
    "not yours": (b"", None, "you have no role that allows it to be read (AuthorizationPermissionMismatch)"),
    "gone": (b"", None, "it has been deleted meanwhile"),
    "odd headers": (b"", None, "the answer is not as Blob Storage gives it (IndexError)"),
    "no headers": (b"", None, "the answer is not as Blob Storage gives it (ValueError)"),
}


def answer(request: web.BaseRequest) -> web.StreamResponse | None:
    """Answers of storage to reads of some blobs, by their names."""
    path = unquote(request.raw_path.partition("?")[0])
    if request.method not in ("GET", "HEAD"):
        return None
    if "customer's key" in path:
        return storage_error(409, CPK, "The blob is encrypted with a customer-provided key.")
    if "not yours" in path:
        return storage_error(403, "AuthorizationPermissionMismatch", "A condition of the role leaves it out.")
    if "gone" in path:
        return storage_error(404, "BlobNotFound", "The specified blob does not exist.")
    if "odd headers" in path:
        return web.Response(status=206, headers={"Content-Range": "bytes and bits", "Last-Modified": "yesterday"})
    return web.Response() if "no headers" in path else None


@pytest.fixture(scope="module")
async def storage(person: Person) -> AsyncIterator[str]:
    async with answering(person, answer) as connection_string:
        yield connection_string


async def put(container: ContainerClient, name: str, data: bytes, encoding: str | None = None, **metadata: str) -> str:
    """The blob's ETag."""
    settings = ContentSettings(content_encoding=encoding)
    blob = await container.upload_blob(name, data, metadata=metadata, content_settings=settings)
    if "archived" in name:
        await blob.set_standard_blob_tier("Archive")
    return (await blob.get_blob_properties()).etag.strip('"')


@pytest.fixture(scope="module")
async def full(person: Person) -> tuple[str, ...]:
    """Options that name containers with an image and a result of every kind."""
    images, results = (person.blobs.get_container_client(f"bad-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()

    async def add(name: str, body: bytes, encoding: str | None) -> None:
        etag = await put(images, name, picture())
        metadata = SUCCEEDED if name in GOOD_RESULTS else FAILED
        await put(results, f"{name}.json", body, encoding, sourceetag=etag, **metadata)

    await asyncio.gather(*(add(name, pack(body), encoding) for name, (body, pack, encoding) in GOOD_RESULTS.items()))
    await asyncio.gather(*(add(name, body, encoding) for name, (body, encoding, _) in BAD_RESULTS.items()))
    return "--images", images.container_name, "--results", results.container_name


async def run(storage: str, *arguments: str, **options: Any) -> Ran:
    return await blobsight(None, *arguments, "--connection-string", storage, **options)


def named(talk: str) -> dict[str, str]:
    """Blob and reason of each line that names one."""
    return dict(line.split(": ", 1) for line in talk.splitlines() if ": " in line)


async def test_results_exports_the_good_ones_and_names_the_others(storage: str, full: tuple[str, ...]) -> None:
    ran = await run(storage, "results", *full, "--json")
    assert ran.status == 1
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line for line in lines if "status" in line] == [
        json.loads(GOOD_RESULTS[name][0]) for name in sorted(GOOD_RESULTS, key="{}.json".format)
    ]
    errors = {line["name"]: line["error"] for line in lines if "status" not in line}
    assert set(errors) == {f"{name}.json" for name in BAD_RESULTS}
    talk = named(ran.talk)
    for name, (_, _, reason) in BAD_RESULTS.items():
        assert reason in errors[f"{name}.json"]["message"], name
        assert talk[f"{name}.json"] == errors[f"{name}.json"]["message"]
    assert {name: error["code"] for name, error in errors.items() if error["code"]} == {
        "archived.json": "BlobArchived",
        "customer's key.json": CPK,
        "not yours.json": "AuthorizationPermissionMismatch",
        "gone.json": "BlobNotFound",
    }
    assert f"{len(BAD_RESULTS)} could not be exported." in ran.talk


async def test_readable_results_become_a_table(storage: str, full: tuple[str, ...], tmp_path: Path) -> None:
    """And the number of problems on stdout, for programs, where the results are in a file."""
    for name in ("o.csv", "o.parquet"):
        ran = await run(storage, "results", *full, "-o", str(tmp_path / name), "--json")
        assert (ran.status, len(ran.out.splitlines())) == (1, len(BAD_RESULTS))
    with (tmp_path / "o.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(GOOD_RESULTS)


async def test_an_archived_result_does_not_keep_back_the_others(storage: str, person: Person) -> None:
    results = person.blobs.get_container_client("one-archived")
    await results.create_container()
    for name in ("a", "b", "archived", "c", "d"):
        await put(results, f"p/{name}.json", result_of(f"p/{name}").to_json(), **SUCCEEDED)
    ran = await run(storage, "results", "p/", "--results", "one-archived")
    assert [json.loads(line)["source"]["name"] for line in ran.out.splitlines()] == ["p/a", "p/b", "p/c", "p/d"]
    assert ran.status == 1
    assert ran.talk.splitlines()[0].startswith("p/archived.json: it is in the archive tier and can't be read: ")
    alone = await run(storage, "results", "p/archived", "--results", "one-archived")
    assert (alone.status, alone.out) == (3, "")
    assert "set its tier to Hot or Cool" in alone.talk


async def test_status_lists_readable_blobs_and_says_why_others_are_not(storage: str, full: tuple[str, ...]) -> None:
    counts = await run(storage, "status", *full, "--json")
    output = counts.json()
    assert (counts.status, output["succeeded"], output["failed"], output["problems"]) == (
        0,
        len(GOOD_RESULTS),
        len(BAD_RESULTS),
        [],
    )
    ran = await run(storage, "status", "--failed", *full)
    assert ran.status == 1
    rows = dict(ran.lines)
    assert {name for name, (_, _, reason) in BAD_RESULTS.items() if reason in rows[name]} == set(rows)
    ran = await run(storage, "status", "--failed", *full, "--json")
    lines = {line["name"]: line for line in map(json.loads, ran.out.splitlines())}
    assert (ran.status, set(lines)) == (1, set(BAD_RESULTS))
    assert lines["archived"]["error"]["code"] == "BlobArchived"
    assert lines["archived"]["message"] == f"its result can't be read: {lines['archived']['error']['message']}"


async def test_show_names_unreadable_parts_and_shows_the_rest(storage: str, full: tuple[str, ...]) -> None:
    archived, with_key, malformed = await asyncio.gather(
        *(run(storage, "show", *full, name) for name in ("archived", "customer's key", "words for numbers"))
    )
    assert (archived.status, with_key.status, malformed.status) == (1, 1, 1)
    assert "\nImage\n  can't be read: it is in the archive tier" in archived.out
    assert f"  {len(picture())} bytes, declared as" in archived.out
    assert "\nResult\n  can't be read: it is in the archive tier" in archived.out
    assert "\nImage\n  can't be read: it is encrypted with a key that only its uploader has" in with_key.out
    assert "\nImage\n  png, 64 x 48 pixels\n" in malformed.out
    assert "'usage.input_tokens' should be a whole number" in malformed.out
    output = (await run(storage, "show", *full, "archived", "--json")).json()
    assert (output["status"], output["image"]["error"]["code"], output["result"]["error"]["code"]) == (
        "unknown",
        "BlobArchived",
        "BlobArchived",
    )
    assert output["image"]["size_bytes"] == len(picture())


async def test_a_result_of_an_older_version_is_shown(storage: str, full: tuple[str, ...]) -> None:
    """Fields that are not there are not there, and nothing stumbles over that."""
    ran = await run(storage, "show", *full, "of an older version")
    assert ran.status == 0
    assert "\nAnswer\n    An image.\n" in ran.out
    assert "  deployment not recorded\n" in ran.out


async def test_estimate_does_without_what_it_can_not_read(storage: str, full: tuple[str, ...]) -> None:
    ran = await run(storage, "estimate", "--in-container", "", *full, "--json")
    output = ran.json()
    unread = {problem["name"]: problem["error"]["code"] for problem in output["problems"]}
    assert unread == {
        "archived": "BlobArchived",
        "customer's key": CPK,
        "not yours": "AuthorizationPermissionMismatch",
        "odd headers": None,
        "no headers": None,
    }
    assert (ran.status, output["images"], output["left_out"]) == (1, len(GOOD_RESULTS) + len(BAD_RESULTS) - 6, 6)
    assert "archived: not part of the estimate: it is in the archive tier" in ran.talk
    # What a prefix brings to light is all that cannot be read.
    alone = await run(storage, "estimate", "--in-container", "arch", *full, "--json")
    assert (alone.status, alone.json()["images"], len(alone.json()["problems"])) == (1, 0, 1)


async def test_estimate_learns_from_the_results_that_it_can_read(storage: str, person: Person) -> None:
    images, results = (person.blobs.get_container_client(f"learning-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()
    await put(images, "a.png", picture())
    for number in range(3):
        await put(results, f"{number}.json", result_of(str(number)).to_json(), **SUCCEEDED)
    await put(results, "archived.json", result_of("x").to_json(), **SUCCEEDED)
    await put(results, "cut.json", result_of("x").to_json()[:-9], **SUCCEEDED)
    ran = await run(
        storage, "estimate", "--in-container", "", "--images", "learning-images", "--results", "learning-results"
    )
    assert ran.status == 1
    assert "answers are as long as the 3 so far." in ran.talk
    talk = named(ran.talk)
    assert talk["archived.json"].startswith("not used for the estimate: it is in the archive tier")
    assert talk["cut.json"].startswith("not used for the estimate: it is not valid JSON")


async def test_an_image_that_is_really_compressed_is_measured_as_it_is_inside(storage: str, person: Person) -> None:
    images, results = (person.blobs.get_container_client(f"packed-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()
    await put(images, "a.png", gzip.compress(picture()), "gzip")
    await put(images, "b.png", picture(), "gzip")
    options = ("--images", "packed-images", "--results", "packed-results")
    output = (await run(storage, "estimate", "--in-container", "", *options, "--json")).json()
    assert (output["images"], output["problems"]) == (2, [])
    for name in ("a.png", "b.png"):
        assert "\n  png, 64 x 48 pixels\n" in (await run(storage, "show", name, *options)).out


async def test_retry_queues_the_images_that_are_not_refused(person: Person) -> None:
    """One message of three is refused; and one failed image can't be read, which only the estimate has to."""
    images, results = (person.blobs.get_container_client(f"retrying-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()
    for name in ("a", "archived", "c"):
        etag = await put(images, name, picture())
        await put(results, f"{name}.json", failed(name).to_json(), sourceetag=etag, **FAILED)
    sent = 0

    def refuse_one(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal sent
        sent += (is_message := request.method == "POST" and "/messages" in request.path)
        return storage_error(400, "InvalidInput", "One of the inputs is wrong.") if is_message and sent == 2 else None

    options = ("--images", "retrying-images", "--results", "retrying-results", "--queue", "retrying", "--yes", "--json")
    async with (
        answering(person, refuse_one) as storage,
        QueueServiceClient.from_connection_string(person.cloud.front.connection_string) as queues,
    ):
        await queues.create_queue("retrying")
        ran = await run(storage, "retry", *options)
    output = ran.json()
    assert (ran.status, output["queued"], len(output["images"])) == (1, 2, 2)
    (refused,) = {"a", "archived", "c"} - {image["name"] for image in output["images"]}
    assert [(problem["name"], problem["error"]["code"]) for problem in output["problems"]] == [
        ("archived", "BlobArchived"),
        (refused, "InvalidInput"),
    ]
    assert f"{refused}: the service does not allow it to be queued (InvalidInput)" in ran.talk
    assert "Queued: 2 of 3." in ran.talk


async def test_retry_takes_a_mark_that_another_program_wrote_for_none(storage: str, person: Person) -> None:
    kinds = ("images", "results", "state")
    images, results, state = (person.blobs.get_container_client(f"marked-{kind}") for kind in kinds)
    for container in (images, results, state):
        await container.create_container()
    waiting = QueuedMarks(person.blobs, "marked-state")
    marks = {"a": "soon", "b": "9" * 40, "c": "1e9", "d": str(2**33)}
    for name, until in marks.items():
        await put(images, name, picture())
        await waiting.mark(name, 60)
        async for mark in state.list_blobs(include=["metadata"]):
            if mark.metadata["until"] not in marks.values():
                await state.get_blob_client(mark.name).set_blob_metadata({"until": until})
    options = ("--images", "marked-images", "--results", "marked-results", "--state", "marked-state")
    ran = await run(storage, "retry", "--missing", "--older-than", "0", "--dry-run", *options)
    assert (ran.status, [name for name, _ in ran.lines]) == (0, ["a", "b", "c"])
    assert "Left out: 1 that are on the queue already." in ran.talk
    shown = await asyncio.gather(*(run(storage, "show", name, *options, "--json") for name in marks))
    assert [bool(ran.json()["waits_until"]) for ran in shown] == [False, False, False, True]


async def test_upload_sends_the_files_that_are_not_refused(person: Person, tmp_path: Path) -> None:
    """Refused for one name: by a lease, by a policy that keeps it as it is, by a right that leaves it out."""
    for name in ("a.png", "kept.png", "leased.png", "not yours.png", "z.png"):
        (tmp_path / name).write_bytes(picture())

    def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        if "kept" in request.path and request.method == "PUT":
            return storage_error(409, "BlobImmutableDueToPolicy", "This operation is not permitted.")
        return answer_all(request) if "not%20yours" in request.raw_path else None

    def answer_all(_request: web.BaseRequest) -> web.StreamResponse:
        return storage_error(403, "AuthorizationPermissionMismatch", "This request is not authorized.")

    container = await person.blobs.create_container("refusing")
    await (await container.upload_blob("leased.png", b"another")).acquire_lease()
    arguments = ("upload", str(tmp_path), "--images", "refusing", "--json")
    async with answering(person, refuse) as storage:
        ran = await run(storage, *arguments)
    output = ran.json()
    assert (ran.status, output["sent"], output["failed"]) == (1, 2, 3)
    assert output["sent_bytes"] == 2 * len(picture())
    assert {Path(problem["path"]).name: problem["error"]["code"] for problem in output["problems"]} == {
        "kept.png": "BlobImmutableDueToPolicy",
        "leased.png": "LeaseIdMissing",
        "not yours.png": "AuthorizationPermissionMismatch",
    }
    async with answering(person, answer_all) as storage:
        nothing = await run(storage, *arguments)
    assert nothing.status == 3
    assert nothing.json()["error"]["code"] == "AuthorizationPermissionMismatch"
    assert "You need the role 'Storage Blob Data Contributor'" in nothing.talk


async def test_upload_waits_for_the_readable_results(person: Person, tmp_path: Path) -> None:
    """The result of one can't even be looked at; that of another can't be read."""
    for name in ("good.png", "customer's key.png", "unread.png"):
        (tmp_path / name).write_bytes(picture())
        await person.drop(f"unseen/{name}", picture(), {"instructions": "Unseen?"})
        await person.result(f"unseen/{name}")

    def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        if "/results/" not in request.path:
            return None  # the images are there already, and asked this
        if request.method == "GET" and "unread" in request.path:
            return storage_error(409, "BlobArchived", "This operation is not permitted on an archived blob.")
        return answer(request)

    async with answering(person, refuse) as storage:
        ran = await run(storage, "upload", str(tmp_path), "--prefix", "unseen/", "-i", "Unseen?", "--wait")
    assert ran.status == 1
    rows = dict(ran.lines)
    assert rows["unseen/good.png"] == "You asked: Unseen?"
    assert rows["unseen/unread.png"].startswith("its result can't be read: it is in the archive tier")
    talk = named(ran.talk)
    assert talk["unseen/customer's key.png"].startswith("its result can't be read: it is encrypted")
