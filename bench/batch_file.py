"""Making the input file of a batch: lines into storage, and from there as one file to the model service.

Against a bare loop that writes the base64 of the same images into a file. Storage is the emulator and the service the
local model, each behind TLS and in another process; the bare loop has no network at all, so its ratios say what the way
to them costs.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import Row, Say, contender, in_turns, row
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.cloud import DATA_ACCOUNT, DATA_KEY
from localcloud.model import Deployment, LocalModel

NAME = "batch_file"
BARE = "base64 into a file"
IMAGE_BYTES = 1_000_000
LINES, QUICK_LINES = 149, 10
"""149 are a full file: 200 MB."""
PEAK_BYTES = 16_000_000
"""What a file may take of the memory, whatever its size."""
INSTANCE_BYTES = 2048 * 1024 * 1024


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Measure both ways in turns.

    Raises:
        ContenderError: one of them failed.
    """
    return asyncio.run(_run(repeats, QUICK_LINES if quick else LINES, say))


async def _run(repeats: int, lines: int, say: Say) -> list[Row]:
    say(f"{lines} lines, and the file that they make")
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        folder = Path(directory)
        certificates = Certificates.load_or_create(folder / "certificates")
        accounts, deployments = {DATA_ACCOUNT: DATA_KEY}, ("vision", Deployment("vision-batch", "GlobalBatch"))
        async with (
            Azurite(folder / "azurite", certificates, accounts, in_memory=True) as azurite,
            LocalModel(certificates, verify=lambda _: {}, deployments=deployments) as model,
        ):
            environment = {"SSL_CERT_FILE": str(certificates.bundle)}
            task = {"size": IMAGE_BYTES, "lines": lines, "folder": directory, "key": DATA_KEY}
            task |= {"blobs": azurite.blob_url(DATA_ACCOUNT), "endpoint": model.endpoint}
            measured = await asyncio.to_thread(
                in_turns,
                repeats,
                ours=lambda: contender("bench.batch_lines", {**task, "way": "ours"}, environment),
                bare=lambda: contender("bench.batch_lines", {**task, "way": "bare"}, environment),
            )
    return _rows(lines, measured["ours"], measured["bare"])


def _rows(lines: int, ours: list[Any], bare: list[Any]) -> list[Row]:
    size = f"{ours[0]['bytes'] / 1e6:.0f} MB"
    cases = (("lines", f"{lines} lines of {IMAGE_BYTES // 1_000_000} MB images"), ("file", f"a file of {size}"))
    rows = []
    for part, case in cases:
        rows += [
            row(
                NAME, case, "MB/s",
                [one["bytes"] / 1e6 / one[f"{part}_wall"] for one in ours],
                [one["bytes"] / 1e6 / one[f"{part}_wall"] for one in bare],
                baseline_name=BARE, higher_is_better=True,
            ),
            row(
                NAME, case, "ms CPU/line",
                [1e3 * one[f"{part}_cpu"] / lines for one in ours],
                [1e3 * one[f"{part}_cpu"] / lines for one in bare],
                baseline_name=BARE,
            ),
            row(
                NAME, case, "MB above idle", [one[f"{part}_peak"] / 1e6 for one in ours],
                [PEAK_BYTES / 1e6] * len(ours), baseline_name="what is allowed", at_most=1,
            ),
        ]  # fmt: skip
    whole = [one["rss"] / 1e6 for one in ours]
    instance = [INSTANCE_BYTES / 1e6] * len(ours)
    return [*rows, row(NAME, cases[1][1], "MB of the process", whole, instance, baseline_name="an instance")]
