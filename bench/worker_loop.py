"""A contender: the app in the real worker process, given upload events as the Functions host gives them.

Uploads are those of the stand-in, or of a container where `prefix/0`, `prefix/1`, … exist. Between host and worker is
only their channel: the host's own part (webhook, internal queue) is Azure's in the cloud.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

import psutil

from bench.measure import ROOT, answer
from bench.stages import Stage, in_flight, requests_so_far
from localcloud.functions_host import bindings, host_json
from localcloud.functions_host.bindings import BlobTrigger, Function
from localcloud.functions_host.blob_trigger import BlobPath, blob_input
from localcloud.functions_host.worker_pool import Worker


async def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """Start a worker, have it analyze one image, then `task["stages"]` more at a time.

    `ready_seconds` is from its start until it has indexed the app, `first_seconds` until the first result is written.
    """
    settings = dict(os.environ)
    at_once = host_json.load(ROOT).extensions.blobs.max_degree_of_parallelism
    worker = Worker(ROOT, debug=False)
    began = time.perf_counter()
    functions = await worker.start()
    try:
        ready = time.perf_counter() - began
        process = psutil.Process(worker.pid)
        idle = process.memory_info().rss
        function = next(one for one in bindings.read(functions, settings) if one.name == "analyze_image")

        async def analyze(number: int) -> None:
            await worker.invoke(function.indexed, _event(function, task["prefix"], number), limit=None)

        await analyze(0)
        first = time.perf_counter() - began
        stages, done = [], 1
        for images in task["stages"]:
            before = await requests_so_far()
            stage = Stage(process)
            await in_flight(at_once, analyze, range(done, done + images))
            stages.append(stage.over(images) | {"requests": await requests_so_far() - before})
            done += images
    finally:
        await worker.stop()
    return {"ready_seconds": ready, "first_seconds": first, "idle_bytes": idle, "stages": stages}


def _event(function: Function, prefix: str, number: int) -> Any:
    assert isinstance(function.trigger, BlobTrigger)  # noqa: S101 - of analyze_image it is
    return blob_input(function, function.trigger, BlobPath(function.trigger.container, f"{prefix}/{number}"))


if __name__ == "__main__":
    answer(lambda task: asyncio.run(run(task)))
