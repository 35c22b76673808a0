"""A contender: lines of a batch, and the file that they make.

    ours    each line is written to storage, as the job does it; then all are streamed into a file at the model service
    bare    base64 of each image, written into a file on disk: the same bytes, and nothing else

The task: `way`, `size` of an image in bytes, how many `lines`, a `folder`; for ours the storage's `blobs` and the
model's `endpoint`.
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import BlobServiceClient

from bench.asking import QUESTION
from bench.measure import Used, answer, peak_bytes, used
from bench.pictures import jpeg_of
from pipeline.batches.service import BatchService, InputFile
from pipeline.composition import LINE_BLOCK_BYTES
from pipeline.images import PreparedImage
from pipeline.images.allocator import return_freed_memory
from pipeline.model.request_body import batch_line
from pipeline.storage.facts import first_read_bytes
from pipeline.storage.lines import Lines

CONTAINER = "bench-state"
FIRST_READ_BYTES = first_read_bytes(512 * 1024 * 1024, 32)
"""As with the defaults of IMAGE_MEMORY_BYTES and MAX_CONCURRENCY."""


def main(task: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of wall time and of processor time, and bytes above idle, of `lines` and of the `file`; the most bytes
    that the process held while it made the file (`rss`).
    """
    if task["way"] == "bare":
        size, (lines, file) = _bare(task)
    else:
        return_freed_memory()
        size, (lines, file) = asyncio.run(_ours(task))
    return {"bytes": size, "rss": peak_bytes()} | {
        f"{name}_{key}": getattr(use, key)
        for name, use in (("lines", lines), ("file", file))
        for key in ("wall", "cpu", "peak")
    }


def _bare(task: Mapping[str, Any]) -> tuple[int, tuple[Used, Used]]:
    image, path = jpeg_of(task["size"]), Path(task["folder"]) / "bare.jsonl"
    with used() as use, path.open("wb") as file:
        for number in range(task["lines"]):
            file.write(b'{"custom_id": "%d", "body": "' % number + base64.b64encode(image) + b'"}\n')
    size = path.stat().st_size
    path.unlink()
    return size, (use, use)


async def _ours(task: Mapping[str, Any]) -> tuple[int, tuple[Used, Used]]:
    picture = PreparedImage(jpeg_of(task["size"]), "jpeg", 1000, 750, transformed=False)
    service = BatchService(task["endpoint"], _token, 60)
    async with BlobServiceClient(
        task["blobs"],
        task["key"],
        max_single_put_size=LINE_BLOCK_BYTES,
        max_block_size=LINE_BLOCK_BYTES,
        max_single_get_size=FIRST_READ_BYTES,
    ) as blobs:
        with suppress(ResourceExistsError):
            await blobs.create_container(CONTAINER)
        lines, names = Lines(blobs, CONTAINER), [f"{os.getpid()}-{number}" for number in range(task["lines"])]
        await _write(lines, "first", picture)  # connections, and what is imported late
        size = 0
        with used() as writing:
            for name in names:
                size += await _write(lines, name, picture)
        written = [line async for line in lines.all() if line.name in names]

        async def content() -> AsyncIterator[bytes]:
            for line in written:
                async for chunk in lines.read(line):
                    yield chunk

        with used() as sending:
            file_id = await service.upload(InputFile("bench.jsonl", size, content))
        for name in names:
            await lines.delete(name)
        await service.delete_file(file_id)
    await service.close()
    return size, (writing, sending)


async def _write(lines: Lines, name: str, picture: PreparedImage) -> int:
    body = batch_line(name, QUESTION, picture)
    await lines.write(name, aiter(body), len(body), {"claim": "0" * 64, "deployment": "vision-batch"})
    return len(body)


async def _token() -> str:
    return "token"


if __name__ == "__main__":
    answer(main)
