"""The command line at scale: `blobsight upload` against what the emulator itself allows, and `blobsight status`.

Uploading goes through the local cloud's front to the emulator, as with `make up`, into a container without an
app. The bare loop sends the same files by the same SDK, as many at a time, and looks at nothing. Listing is measured
against a stand-in that has its pages ready, since the emulator takes minutes to fill: Azure's own time comes on top.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import BlobServiceClient

from bench.listings import listings
from bench.measure import Row, Say, contender, row
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.cloud import DATA_ACCOUNT, DATA_KEY
from localcloud.front import StorageFront

NAME = "command_line"
FILES, QUICK_FILES = 10_000, 200
FEW = 10
"""Part of the files whose memory is the baseline: 1,000 of 10,000."""
FILE_BYTES = 10_000
UPLOAD_AT_LEAST = 0.8
MEMORY_AT_MOST = 1.3
"""Names and digests of nine thousand files more are a few megabytes; their contents would be 90."""

BLOBS, QUICK_BLOBS = 100_000, 10_000


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: ARG001, FBT001 - the interface of all benchmarks
    """Measure once, without `repeats`: its many files are repetitions enough.

    Raises:
        ContenderError: an upload failed.
    """
    return asyncio.run(_run(QUICK_FILES if quick else FILES, QUICK_BLOBS if quick else BLOBS, say))


async def _run(files: int, blobs: int, say: Say) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        folder = Path(directory) / "files"
        await asyncio.to_thread(_write, folder, files)
        async with _storage(Path(directory)) as connection_string:
            say(f"uploading {files:,} files, bare loop")
            bare = await _upload("bench.bare_upload", connection_string, folder, files)
            say(f"uploading {files:,} files, blobsight")
            ours = await _upload("bench.blobsight_upload", connection_string, folder, files)
            say("once more, nothing having changed")
            again = await _upload("bench.blobsight_upload", connection_string, folder, files)
        async with _storage(Path(directory)) as connection_string:
            say(f"uploading {files // FEW:,} files, blobsight")
            few = await _upload("bench.blobsight_upload", connection_string, folder, files // FEW)
    rows = [
        row(
            NAME, f"upload {files:,} files of {FILE_BYTES // 1000} KB", "files/s",
            [files / ours["wall"]], [files / bare["wall"]],
            baseline_name="bare SDK loop", at_least=UPLOAD_AT_LEAST, higher_is_better=True,
        ),
        row(
            NAME, "again, nothing having changed", "files/s", [files / again["wall"]], [files / ours["wall"]],
            baseline_name="the first time", higher_is_better=True,
        ),
        row(
            NAME, f"upload {files:,} files, memory", "MB", [ours["peak"] / 1e6], [few["peak"] / 1e6],
            baseline_name=f"{files // FEW:,} files", at_most=MEMORY_AT_MOST,
        ),
    ]  # fmt: skip
    return [*rows, await _status(blobs, say)]


async def _status(blobs: int, say: Say) -> Row:
    async with listings(blobs) as connection_string:
        environment = {"AZURE_STORAGE_CONNECTION_STRING": connection_string}
        say(f"status of {blobs:,} images, blobsight")
        ours = await asyncio.to_thread(contender, "bench.list_states", {"by": "blobsight"}, environment)
        say(f"status of {blobs:,} images, the SDK's list_blobs")
        plain = await asyncio.to_thread(contender, "bench.list_states", {"by": "list_blobs"}, environment)
    per = 10_000 / blobs
    return row(
        NAME, f"status of {blobs:,} images", "s for 10,000", [per * ours["wall"]], [per * plain["wall"]],
        baseline_name="the SDK's list_blobs", at_most=1,
    )  # fmt: skip


def _write(folder: Path, files: int) -> None:
    """Files that differ, of a form that nothing has to be decoded for."""
    for number in range(files):
        path = folder / f"{number % 100:02}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(FILE_BYTES - 8))


@asynccontextmanager
async def _storage(directory: Path) -> AsyncIterator[str]:
    """The emulator and its front, with the containers; the connection string."""
    certificates = Certificates.load_or_create(directory / "certificates")
    accounts = {DATA_ACCOUNT: DATA_KEY}
    async with (
        Azurite(directory / "azurite", certificates, accounts, in_memory=True) as azurite,
        StorageFront(
            azurite.blob_url(DATA_ACCOUNT), azurite.queue_url(DATA_ACCOUNT), certificates, accounts, lambda _event: None
        ) as front,
        BlobServiceClient.from_connection_string(front.connection_string) as blobs,
    ):
        for container in ("images", "results", "bare"):
            await blobs.create_container(container)
        yield front.connection_string


async def _upload(module: str, connection_string: str, folder: Path, files: int) -> dict[str, Any]:
    environment = {"AZURE_STORAGE_CONNECTION_STRING": connection_string}
    task = {"folder": str(folder), "files": files}
    return dict(await asyncio.to_thread(contender, module, task, environment))
