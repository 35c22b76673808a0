"""`blobsight results`: everything that came out, in one file, or one result on the screen."""

import asyncio
import contextlib
import csv
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import ContainerClient
from pyarrow import parquet
from support.person import ROOT, Person
from support.pictures import picture
from support.some_results import MOMENT, failed, put_result, result_of
from support.terminal import Ran, blobsight, started

from blobsight.account import Place
from blobsight.reading import AT_ONCE
from blobsight.results.command import Tally, export_results
from blobsight.results.export import Advance, JsonLines, new_file
from blobsight.results.flattening import FIXED
from blobsight.terminal import Problem, Unknown


@pytest.fixture
async def container(person: Person) -> AsyncIterator[ContainerClient]:
    """A container of results, with no app running on it."""
    container = person.blobs.get_container_client(f"results-{uuid4().hex[:8]}")
    await container.create_container()
    yield container
    await container.delete_container()


@pytest.fixture
def run(person: Person, container: ContainerClient) -> Callable[..., Any]:
    async def run(*arguments: str) -> Ran:
        return await blobsight(person, "results", *arguments, "--results", container.container_name)

    return run


async def test_the_results_of_the_pipeline_come_out_as_they_are(person: Person, tmp_path: Path) -> None:
    await person.drop("export/a.png", picture("PNG"), {"instructions": "Export me"})
    await person.drop("export/broken.png", b"not an image")
    expected = [await person.result("export/a.png"), await person.result("export/broken.png")]
    exported = await blobsight(person, "results", "export/")
    assert exported.status == 0
    assert [json.loads(line) for line in exported.out.splitlines()] == expected
    file = tmp_path / "out.jsonl"
    saved = await blobsight(person, "results", "export/", "-o", str(file))
    assert (saved.status, saved.out) == (0, "")
    assert saved.talk == f"1 succeeded, 1 failed: {file}\n"
    assert file.read_text(encoding="utf-8") == exported.out


async def test_one_result_by_the_exact_name_of_its_image(run: Callable[..., Any], container: ContainerClient) -> None:
    long = "long/" + "x" * 1019
    for name in ("a/photo.jpg", "a/photo.jpg.bak", long):
        await put_result(container, name, result_of(name, answer={"text": "漢字 \x9b31m"}))
    for name in ("a/photo.jpg", long):
        shown = await run(name)
        assert shown.status == 0
        assert shown.json() == json.loads(result_of(name, answer={"text": "漢字 \x9b31m"}).to_json())
        assert shown.out.startswith('{\n  "schema_version": 1,\n')
        assert "漢字 \\u009b31m" in shown.out
    assert "'a/photo.jpg*'" in (await run("a/photo.jpg")).talk
    assert [json.loads(line)["source"]["name"] for line in (await run("a/photo.jpg*")).out.splitlines()] == [
        "a/photo.jpg.bak",
        "a/photo.jpg",
    ]
    # A prefix that is longer than what the short form of a result's name keeps.
    assert [json.loads(line)["source"]["name"] for line in (await run("long/" + "x" * 990)).out.splitlines()] == [long]


async def test_colours_are_for_terminals_only(person: Person, container: ContainerClient) -> None:
    """And no escape codes but ours, there either."""
    name = "[red].png"
    await put_result(container, name, result_of(name, answer={"text": "[bold]\x1b[2J"}))
    terminal, end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blobsight", "results", name, "--results", container.container_name),
        *("--connection-string", person.cloud.front.connection_string),
        stdout=end,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"},
    )
    os.close(end)
    shown = await asyncio.to_thread(everything_from, terminal)
    assert await process.wait() == 0
    assert "\x1b[" in shown
    assert "\x1b[2J" not in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert json.loads(plain)["answer"]["text"] == "[bold]\x1b[2J"


def everything_from(terminal: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # what Linux says at the end
        while part := os.read(terminal, 65_536):
            shown += part
    os.close(terminal)
    return shown.decode()


async def test_results_can_be_limited_to_failed_or_succeeded_ones(
    run: Callable[..., Any], container: ContainerClient, tmp_path: Path
) -> None:
    await put_result(container, "good.png", result_of("good.png"))
    await put_result(container, "bad.png", failed("bad.png"))
    # Copied by a tool that lost the metadata: then the content counts. Metadata in the listing are believed unread.
    await container.upload_blob("copied.png.json", failed("copied.png").to_json())
    await container.upload_blob("unread.png.json", b"not JSON", metadata={"status": "succeeded"})
    chosen = await run("--failed")
    assert chosen.status == 0
    assert [json.loads(line)["source"]["name"] for line in chosen.out.splitlines()] == ["bad.png", "copied.png"]
    assert [json.loads(line)["source"]["name"] for line in (await run("good", "--succeeded")).out.splitlines()] == [
        "good.png"
    ]
    file = tmp_path / "failed.csv"
    file.write_text("of yesterday", encoding="utf-8")
    none = await run("good", "--failed", "-o", str(file))
    assert (none.status, none.talk) == (0, f"0 failed: {file}\n")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1  # a stale list of failures would be wrong


async def test_blobs_that_are_not_results_are_named_and_the_rest_goes_on(
    run: Callable[..., Any], container: ContainerClient, tmp_path: Path
) -> None:
    await put_result(container, "a.png", result_of("a.png"))
    await put_result(container, "z.png", result_of("z.png"))
    await container.upload_blob("unreadable-requests/0.json", failed(None).to_json(), metadata={"status": "failed"})
    await container.upload_blob("b.json", b'{"status": "succ', metadata={"status": "succeeded"})
    await container.upload_blob("deep.json", b"[" * 100_000)
    await container.upload_blob("huge.json", b'{"status": "failed", "source": {"name": "x", "size_bytes": 1e999}}')
    await container.upload_blob("somebody.json", b'{"of": "another program"}')
    await container.upload_blob("folder", b"", metadata={"hdi_isfolder": "true"})
    for options in ([], ["-o", str(tmp_path / "o.csv")], ["-o", str(tmp_path / "o.parquet")]):
        exported = await run(*options)
        assert exported.status == 1
        named = [line.partition(":")[0] for line in exported.talk.splitlines()]
        assert named[:4] == ["b.json", "deep.json", "huge.json", "somebody.json"], exported.talk
        assert "4 could not be exported." in exported.talk
    names = [row["source.name"] for row in read_csv(tmp_path / "o.csv")]
    assert names == ["a.png", "", "z.png"]


async def test_results_that_vanish_meanwhile_are_named(person: Person, container: ContainerClient) -> None:
    names = [f"{number:03}.png" for number in range(AT_ONCE + 3)]
    await asyncio.gather(*(put_result(container, name, result_of(name)) for name in names))
    connection_string = person.cloud.front.connection_string

    class Deleting:
        """Deletes the last result when it gets the first, which is before that one is downloaded."""

        def __init__(self) -> None:
            self.names: list[str] = []

        def add(self, result: Mapping[str, Any]) -> None:
            if not self.names:
                with BlobServiceClient.from_connection_string(connection_string) as blobs:
                    blobs.get_container_client(container.container_name).delete_blob(f"{names[-1]}.json")
            self.names.append(result["source"]["name"])

        def complete(self, advance: Advance) -> None:
            pass

    export, tally = Deleting(), Tally()
    exporting = export_results(place_of(connection_string, container.container_name), "", None, export, tally, None)
    await asyncio.to_thread(asyncio.run, exporting)  # the cloud goes on in this loop
    assert export.names == names[:-1]
    assert tally.problems == [Problem(f"{names[-1]}.json", Unknown("it has been deleted meanwhile", "BlobNotFound"))]


def place_of(connection_string: str, results_container: str) -> Place:
    return Place(
        account=None,
        connection_string=connection_string,
        queue_endpoint=None,
        images="images",
        results=results_container,
        state="pipeline-state",
        requests="analysis-requests",
    )


async def test_an_interrupted_export_leaves_nothing_behind(
    person: Person, container: ContainerClient, tmp_path: Path
) -> None:
    await asyncio.gather(*(put_result(container, f"{n}.png", result_of(f"{n}.png")) for n in range(300)))
    file = tmp_path / "answers.csv"
    file.write_text("of yesterday", encoding="utf-8")
    process = await started(person, "results", "--results", container.container_name, "-o", str(file))
    while len(names_in(tmp_path)) < 2:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, talk = await process.communicate()
    assert (process.returncode, out, talk) == (130, b"", b"\nStopped.\n")
    assert names_in(tmp_path) == [file.name]
    assert file.read_text(encoding="utf-8") == "of yesterday"


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


TEXT = 'He said "ä, 漢字 😀"\r\nand\u2028left\ud800'
DATA: list[dict[str, Any]] = [
    {"total": 3, "price": 1, "paid": True, "items": [{"n": 1}, {}], "buyer": {"name": "=1+1", "a.b": "x"}, "mixed": 1},
    {"total": 2**60, "price": 2.5, "paid": None, "buyer": {"name": "'tis"}, "mixed": "one", "none": None},
]


@pytest.fixture
async def two(container: ContainerClient) -> None:
    for number, data in enumerate(DATA):
        await put_result(container, f"{number}.png", result_of(f"{number}.png", answer={"text": TEXT, "data": data}))
    await put_result(container, "2.png", failed("2.png"))


@pytest.mark.usefixtures("two")
async def test_csv_is_written_for_spreadsheets(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a.CSV"
    assert (await run("-o", str(file))).status == 0
    assert file.read_bytes().startswith(b'\xef\xbb\xbf"source.name","status","answer.text",')
    first, second, third = read_csv(file)
    assert list(first)[:5] == ["source.name", "status", "answer.text", "error.code", "error.message"]
    assert FIXED.keys() <= first.keys()
    assert first["answer.text"] == TEXT.replace("\ud800", "\\ud800")
    assert {name: value for name, value in first.items() if name.startswith("answer.data.")} == {
        "answer.data.total": "3",
        "answer.data.price": "1.0",
        "answer.data.paid": "true",
        "answer.data.items": '[{"n":1},{}]',
        "answer.data.buyer.name": "'=1+1",
        "answer.data.buyer.a\\.b": "x",
        "answer.data.mixed": "1",
        "answer.data.none": "",
    }
    assert (second["answer.data.total"], second["answer.data.price"]) == (str(2**60), "2.5")
    assert (second["answer.data.buyer.name"], second["answer.data.mixed"]) == ("''tis", "one")
    assert (third["status"], third["error.code"], third["answer.data.total"]) == ("failed", "corrupt_image", "")
    assert (first["created_at"], first["image_sent.transformed"]) == ("2026-03-14T09:30:15.250Z", "false")


@pytest.mark.usefixtures("two")
async def test_parquet_is_written_with_types(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    assert (await run("-o", str(file))).status == 0
    table = parquet.read_table(file)
    types = {field.name: str(field.type) for field in table.schema}
    assert {name: kind for name, kind in types.items() if name.startswith("answer.data.")} == {
        "answer.data.total": "int64",
        "answer.data.price": "double",
        "answer.data.paid": "bool",
        "answer.data.items": "string",
        "answer.data.buyer.name": "string",
        "answer.data.buyer.a\\.b": "string",
        "answer.data.mixed": "string",
        "answer.data.none": "string",
    }
    assert types["created_at"] == "timestamp[ms, tz=UTC]"
    assert (types["usage.input_tokens"], types["image_sent.transformed"]) == ("int64", "bool")
    first, second, third = table.to_pylist()
    assert first["answer.text"] == TEXT.replace("\ud800", "\\ud800")
    assert (first["created_at"], first["answer.data.buyer.name"]) == (MOMENT, "=1+1")
    assert [row["answer.data.total"] for row in (first, second, third)] == [3, 2**60, None]
    assert [row["answer.data.price"] for row in (first, second, third)] == [1.0, 2.5, None]
    assert [row["answer.data.mixed"] for row in (first, second, third)] == ["1", "one", None]


async def test_many_results_come_complete_and_in_order(run: Callable[..., Any], container: ContainerClient) -> None:
    names = [f"{number:03}.png" for number in range(150)]
    await asyncio.gather(*(put_result(container, name, result_of(name)) for name in names))
    exported = await run()
    assert [json.loads(line)["source"]["name"] for line in exported.out.splitlines()] == names


async def test_a_prefix_without_results_is_an_error_and_replaces_no_file(
    run: Callable[..., Any], container: ContainerClient, tmp_path: Path
) -> None:
    await put_result(container, "a.png", result_of("a.png"))
    file = tmp_path / "kept.csv"
    file.write_text("of yesterday", encoding="utf-8")
    nothing = await run("no/such/", "-o", str(file))
    assert (nothing.status, nothing.out) == (3, "")
    assert "' has no result" in nothing.talk
    assert "'no/such/'" in nothing.talk
    assert file.read_text(encoding="utf-8") == "of yesterday"
    assert names_in(tmp_path) == [file.name]


async def test_an_output_file_that_cannot_be_written_is_an_error(person: Person, tmp_path: Path) -> None:
    for given, said in (
        ("answers.xlsx", ".jsonl, .ndjson, .csv, .parquet"),
        ("answers", ".jsonl, .ndjson, .csv, .parquet"),
        (str(tmp_path / "none" / "a.csv"), "does not exist: create it first"),
    ):
        refused = await blobsight(person, "results", "-o", given)
        assert refused.status == 2
        assert said in " ".join(refused.talk.split())
    missing = await blobsight(person, "results", "--results", "no-such-container")
    assert missing.status == 3
    assert "no container" in missing.talk


async def test_a_reader_may_stop_early(person: Person, container: ContainerClient) -> None:
    """As `head -1` does, with more to come than a pipe holds; shells see the status of a program that SIGPIPE ended."""
    long = {"text": "long " * 2000}
    await asyncio.gather(*(put_result(container, f"{n}.png", result_of(f"{n}.png", answer=long)) for n in range(100)))
    process = await started(person, "results", "--results", container.container_name)
    assert process.stdout
    assert process.stderr
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    with new_file(link) as export:
        export.add({"whole": 1})
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == '{"whole":1}\n'

    def interrupted() -> None:
        with new_file(file) as export:
            assert isinstance(export, JsonLines)
            export.add({"half": 1})
            assert file.read_text(encoding="utf-8") == '{"whole":1}\n'
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text(encoding="utf-8") == '{"whole":1}\n'
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "link.jsonl"}
    assert os.stat(file).st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o22))  # noqa: PTH116 - beside umask
