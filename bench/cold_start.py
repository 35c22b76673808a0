"""The cold start of an instance: imports, the first result, memory while idle, and each dependency's part."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Row, Say, contender, in_turns, row
from bench.pictures import jpeg_of
from bench.stand_in import stand_in

NAME = "cold_start"
APP = ("function_app",)
EAGER = ("openai", "azure.identity.aio", "azure.storage.blob.aio")
EAGERLY = "the three SDKs at once"
AT_MOST = 0.6
"""Of importing the SDKs eagerly."""
WORKER = ("azure_functions_runtime", "azure.functions")
"""Modules that the worker itself has imported before the app."""
DEPENDENCIES = (
    "azure.functions",
    "azurefunctions.extensions.base",
    "pydantic",
    "openai",
    "azure.identity.aio",
    "azure.storage.blob.aio",
    "azure.storage.queue.aio",
    "aiohttp",
    "opentelemetry.trace",
    "azure.monitor.opentelemetry",
    "jsonschema_rs",
    "yaml",
    "cachetools",
    "pybase64",
    "PIL.Image",
    "pillow_heif",
)
"""One module for each line of the dependency group `app`: the one that the code imports."""
IMAGE_BYTES = 100_000


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Imports, the way to the first result, and each dependency.

    Raises:
        ContenderError: something can't be imported, or the worker did not start.
    """
    return asyncio.run(_run(repeats, quick=quick, say=say))


async def _run(repeats: int, *, quick: bool, say: Say) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        async with stand_in(Path(directory), jpeg_of(IMAGE_BYTES)) as services:
            settings = services.settings
            rows = await asyncio.to_thread(_imports, settings, repeats, say)
            rows += await asyncio.to_thread(_first_result, settings, repeats, say)
            dependencies = DEPENDENCIES[:2] if quick else DEPENDENCIES
            rows += await asyncio.to_thread(_dependencies, dependencies, settings, repeats, say)
    return rows


def _imports(settings: Mapping[str, str], repeats: int, say: Say) -> list[Row]:
    say("importing function_app")
    _imported(EAGER, (), settings)  # the first one after an installation compiles
    fresh = in_turns(repeats, app=lambda: _imported(APP, (), settings), eager=lambda: _imported(EAGER, (), settings))
    say("importing function_app in the worker")
    inside = in_turns(
        repeats, app=lambda: _imported(APP, WORKER, settings), eager=lambda: _imported(EAGER, WORKER, settings)
    )
    rows = [
        (fresh, "import function_app", "ms", "seconds", 1e3, AT_MOST),
        (fresh, "import function_app", "MB held", "bytes", 1e-6, None),
        (inside, "import function_app in the worker", "ms", "seconds", 1e3, None),
    ]
    return [
        row(
            NAME, case, unit, _all(figures["app"], key, factor), _all(figures["eager"], key, factor),
            baseline_name=EAGERLY, at_most=at_most,
        )
        for figures, case, unit, key, factor, at_most in rows
    ]  # fmt: skip


def _first_result(settings: Mapping[str, str], repeats: int, say: Say) -> list[Row]:
    worker: list[Mapping[str, Any]] = []
    bare: list[Mapping[str, Any]] = []
    for repeat in range(repeats):
        say(f"the first result, repeat {repeat + 1} of {repeats}")
        for module, answers in (("bench.worker_loop", worker), ("bench.bare_loop", bare)):
            task = {"prefix": f"{module}-{repeat}", "stages": []}
            answers.append(contender(module, task, dict(settings) | {"OUTPUT_CONTAINER": f"results-{repeat}"}))
    return [
        row(NAME, what, unit, _all(worker, key, factor), _all(bare, key, factor), baseline_name="bare loop")
        for what, unit, key, factor in (
            ("process start to indexed app", "ms", "ready_seconds", 1e3),
            ("process start to first result", "ms", "first_seconds", 1e3),
            ("idle, nothing done yet", "MB held", "idle_bytes", 1e-6),
        )
    ]


def _dependencies(names: Sequence[str], settings: Mapping[str, str], repeats: int, say: Say) -> list[Row]:
    at_start = set(_imported(APP, (), settings)["loaded"])
    eager = [_imported(EAGER, (), settings)["seconds"] * 1e3 for _ in range(repeats)]
    rows = []
    for name in names:
        say(f"importing {name}")
        alone = [_imported((name,), (), settings)["seconds"] * 1e3 for _ in range(repeats)]
        when = "at start" if name in at_start else "when first needed"
        rows.append(row(NAME, f"import {name}, {when}", "ms", alone, eager, baseline_name=EAGERLY))
    return rows


def _all(figures: Sequence[Mapping[str, Any]], key: str, factor: float) -> list[float]:
    return [factor * one[key] for one in figures]


def _imported(modules: Sequence[str], after: Sequence[str], settings: Mapping[str, str]) -> Mapping[str, Any]:
    task = {"modules": list(modules), "after": list(after)}
    figures: Mapping[str, Any] = contender("bench.importing", task, settings)
    return figures
