"""A contender: only the storage and model calls of one image, as many at a time as the app makes.

Storage by the SDK, with its defaults; the model by plain aiohttp, with the body put together from bytes.

No worker runtime, no claims (only their requests), no instructions, no checks, no governor, no retries of ours, no
telemetry: what remains is the floor that the whole function is measured against.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import psutil
import pybase64
from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.identity.aio import ManagedIdentityCredential, get_bearer_token_provider
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from bench.measure import answer
from bench.stages import Stage, in_flight, requests_so_far

AT_ONCE = 32
"""The app's default, `MAX_CONCURRENCY`."""
FIRST_READ_BYTES = 8 * 1024 * 1024
"""As the app's: one request for nearly every photo."""
METADATA = {
    "status": "succeeded",
    "sourceetag": "0x8DE0000000000",
    "sourcemodified": "2026-11-24T09:00:00+00:00",
    "origin": "metadata",
    "workkey": "0" * 64,
}
QUESTION = {
    "model": "vision",
    "messages": [
        {"role": "system", "content": "You analyze one image as the user asks. " * 5},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is in this picture?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,*", "detail": "auto"}},
            ],
        },
    ],
    "max_completion_tokens": 4096,
}


async def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """As `bench.worker_loop.run`; `ready_seconds` is from the process's start until all is imported and built."""
    credential = ManagedIdentityCredential(client_id=os.environ["AZURE_CLIENT_ID"])
    account = os.environ["DataStorage__blobServiceUri"]  # noqa: SIM112 - the platform's spelling
    blobs = BlobServiceClient(account, credential, max_single_get_size=FIRST_READ_BYTES)
    token = get_bearer_token_provider(credential, "https://cognitiveservices.azure.com/.default")
    model, url = aiohttp.ClientSession(), f"{os.environ['AZURE_OPENAI_ENDPOINT']}/openai/v1/chat/completions"
    process = psutil.Process()
    ready, idle = time.time() - process.create_time(), process.memory_info().rss
    uploads, results = os.environ["INPUT_CONTAINER"], os.environ["OUTPUT_CONTAINER"]
    head, _, tail = json.dumps(QUESTION).encode().partition(b"*")

    async def analyze(number: int) -> None:
        name = f"{task['prefix']}/{number}"
        image = blobs.get_blob_client(uploads, name)
        claim = blobs.get_blob_client("pipeline-state", f"claims/{results}/{name}")
        result = blobs.get_blob_client(results, f"{name}.json")
        data = await (await image.download_blob()).readall()
        await claim.upload_blob(b"", overwrite=True, match_condition=MatchConditions.IfMissing)
        try:
            await result.get_blob_properties()
        except ResourceNotFoundError:
            pass
        else:
            raise AssertionError(f"{name} was analyzed before")
        body = b"".join((head, pybase64.b64encode(data), tail))
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {await token()}"}
        async with model.post(url, data=body, headers=headers, raise_for_status=True) as replied:
            text = (await replied.json())["choices"][0]["message"]["content"]
        await image.get_blob_properties()
        await result.upload_blob(
            json.dumps({"answer": text, "more": "." * 1500}),
            overwrite=True,
            match_condition=MatchConditions.IfMissing,
            metadata=METADATA,
            content_settings=ContentSettings(content_type="application/json; charset=utf-8"),
        )
        await claim.delete_blob()

    async with credential, blobs, model:
        await analyze(0)
        first = time.time() - process.create_time()
        stages, done = [], 1
        for images in task["stages"]:
            before = await requests_so_far()
            stage = Stage(process)
            await in_flight(AT_ONCE, analyze, range(done, done + images))
            stages.append(stage.over(images) | {"requests": await requests_so_far() - before})
            done += images
    return {"ready_seconds": ready, "first_seconds": first, "idle_bytes": idle, "stages": stages}


if __name__ == "__main__":
    answer(lambda task: asyncio.run(run(task)))
