"""A contender: files into the container `bare` by the SDK, as many at a time as `blobsight upload`, and no more."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import BlobServiceClient

from bench.measure import answer, used

AT_ONCE = 32


def run(task: Mapping[str, Any]) -> dict[str, float]:
    """Uploads the first `files` of `folder`."""
    paths = sorted(Path(task["folder"]).rglob("*.png"))[: task["files"]]
    with used() as use:
        asyncio.run(_upload(paths))
    return {"wall": use.wall, "peak": use.peak}


async def _upload(paths: Sequence[Path]) -> None:
    connection_string = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    async with BlobServiceClient.from_connection_string(connection_string) as service:
        container, todo = service.get_container_client("bare"), iter(paths)

        async def work() -> None:
            for path in todo:
                await container.upload_blob(f"{path.parent.name}/{path.name}", path.read_bytes())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    answer(run)
