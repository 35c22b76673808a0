"""`make demo`: run the sample images through the whole pipeline, and show the answers."""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from localcloud.cloud import LocalCloud
from localcloud.errors import LocalCloudError
from localcloud.gallery import run_blobsight
from localcloud.model_setting import VARIABLE, upstream
from localcloud.terminal import announced, out, talk

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
KEPT = ROOT / ".local" / "demo"
"""Folder for results and logs to look at afterwards; the cloud itself leaves nothing."""

PATIENCE_SECONDS = 180
"""Longest wait for all answers: the local model takes a few seconds, a large one on a small machine longer."""

SHOWN_LINES = 7
"""Most lines of an answer in the table; the result has all of it."""


@dataclass(frozen=True, slots=True)
class Sample:
    file: str
    instructions: str

    @property
    def metadata(self) -> str:
        """The instructions in ASCII, as HTTP headers need them."""
        return self.instructions if self.instructions.isascii() else quote(self.instructions)

    @property
    def result(self) -> str:
        return f"{self.file}.json"


async def run() -> int:
    """Run the demo. Returns the exit status: 0 if every sample has its answer."""
    samples = [
        Sample(entry["file"], entry["instructions"]) for entry in json.loads((SAMPLES / "samples.json").read_bytes())
    ]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        cloud = LocalCloud(directory=Path(directory), app=ROOT, upstream=upstream(), log=KEPT / "functions.log")
        async with announced(cloud):
            talk.print(f"The local cloud is up after {time.monotonic() - started:.1f} s.")
            async with BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs:
                results = await _analyze(blobs, samples)
            page = KEPT / "answers.html"
            options = ("-o", str(page), "--connection-string", cloud.front.connection_string)
            has_page = await run_blobsight("results", *options)
    failed = _report(samples, results)
    if has_page:
        talk.print(f"To look at images and answers side by side, open {_shown(page)} in a browser;", soft_wrap=True)
        talk.print("to drop more and ask again there: make up, and open the address that it prints.", soft_wrap=True)
    return failed


async def _analyze(blobs: BlobServiceClient, samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """Upload as people do, then wait for the results."""
    waiting = {sample.result: sample for sample in samples}
    results: dict[str, dict[str, Any]] = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=talk) as progress:
        uploading = progress.add_task("Uploading to the container images", total=len(waiting))
        for sample in waiting.values():
            await blobs.get_blob_client("images", sample.file).upload_blob(
                (SAMPLES / sample.file).read_bytes(), metadata={"instructions": sample.metadata}
            )
            progress.advance(uploading)
        arriving = progress.add_task("Results in the container results", total=len(waiting))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while waiting:
                    for name in list(waiting):
                        try:
                            stream = await blobs.get_blob_client("results", name).download_blob(decompress=False)
                        except ResourceNotFoundError:
                            continue
                        results[name] = json.loads(await stream.readall())
                        del waiting[name]
                        progress.advance(arriving)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise LocalCloudError(
                f"No result after {PATIENCE_SECONDS} s for {', '.join(s.file for s in waiting.values())}:"
                f" see {_shown(KEPT / 'functions.log')}."
            ) from None
    return results


def _report(samples: list[Sample], results: dict[str, dict[str, Any]]) -> int:
    kept = KEPT / "results"
    kept.mkdir(parents=True, exist_ok=True)
    table = Table(title="The answer to each image", show_lines=True, title_justify="left", expand=True)
    for heading, ratio in (("Image", 2), ("Instruction", 3), ("Answer", 7)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    failed, rows = 0, []
    for sample in samples:
        result = results[sample.result]
        (kept / sample.result).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        failed += result["status"] != "succeeded"
        answer = (
            result["answer"]["text"] if result["answer"] else f"{result['error']['code']}: {result['error']['message']}"
        )
        rows.append((sample.file, sample.instructions, answer))
        table.add_row(Text(sample.file), Text(sample.instructions), Text(_beginning(answer)))
    if out.is_terminal:
        out.print(table)
    else:  # for programs and files: no frame, and no wrapped lines
        for row in rows:
            out.print("\t".join(" ".join(cell.split()) for cell in row), markup=False, soft_wrap=True)
    talk.print(f"The result of each image is in {_shown(kept)}/, as JSON named after the image.", soft_wrap=True)
    if not upstream():
        talk.print(
            "These answers are by a local stand-in that reads text and measures pixels. To use a real vision model:"
            f" {VARIABLE}=http://localhost:11434/v1 make demo.",
            soft_wrap=True,
        )
    return 1 if failed else 0


def _beginning(answer: str) -> str:
    lines = answer.strip().splitlines()
    rest = len(lines) - SHOWN_LINES
    return "\n".join(lines[:SHOWN_LINES]) + (f"\n… and {rest} lines more" if rest > 0 else "")


def _shown(path: Path) -> str:
    """The path relative to the current folder, if it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
