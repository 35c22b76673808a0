"""A contender: goes through the listings of images and results, by blobsight's code or by the SDK's `list_blobs`."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from azure.storage.blob.aio import BlobServiceClient

from bench.measure import answer, used
from blobsight.image_states import image_states


async def run(task: Mapping[str, Any]) -> dict[str, float]:
    """Looks at every blob; `by` says how."""
    with used() as use:
        async with BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"]) as service:
            images, results = service.get_container_client("images"), service.get_container_client("results")
            seen = 0
            if task["by"] == "blobsight":
                async for _ in image_states(images, results):
                    seen += 1
            else:
                etags = {blob.name: blob.etag async for blob in images.list_blobs()}
                async for blob in results.list_blobs(include=["metadata"]):
                    seen += (blob.metadata or {}).get("sourceetag") == etags[blob.name.removesuffix(".json")].strip('"')
    return {"wall": use.wall, "peak": use.peak, "seen": seen}


if __name__ == "__main__":
    answer(lambda task: asyncio.run(run(task)))
