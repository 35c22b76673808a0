"""From the event of an upload to its result, storage calls included, against a bare loop of the same calls.

Two storages: a stand-in that is never the limit, so that the code is compared; and the storage emulator.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from bench.measure import ROOT, ContenderError, Row, Say, contender, row
from bench.pictures import jpeg_of
from bench.stages import in_flight
from bench.stand_in import Services, stand_in
from localcloud.cloud import DATA_ACCOUNT, DATA_KEY, LocalCloud
from localcloud.front.blob_created import BlobWrite, Content, blob_created

NAME = "whole_function"
BARE = "bare loop"
AT_LEAST = 0.6
"""Of what the bare loop does."""
WARM_UP = 40
"""Images before those that are measured: as many connections are open then as are used at a time."""
PREFIX = "images"
"""Prefix of the uploads' names. All contenders analyze the same ones, into their own result containers."""
AT_ONCE = 16
"""Uploads, before anything is measured."""

PATIENCE_SECONDS = 120
"""For the results of some events."""

OURS, THEIRS = "bench.worker_loop", "bench.bare_loop"


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Three cases: the stand-in with two sizes of images, the emulator, and the emulator with the local host.

    Raises:
        ContenderError: one of the two did not do its work.
    """
    return asyncio.run(_run(repeats, quick=quick, say=say))


async def _run(repeats: int, *, quick: bool, say: Say) -> list[Row]:
    rows, warm_up = [], 5 if quick else WARM_UP
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        for size, images in ((100_000, 20),) if quick else ((100_000, 300), (1_000_000, 200)):
            case = f"stand-in, {_size(size)}"
            async with stand_in(Path(directory), jpeg_of(size)) as services:
                turns = _Turns(services.settings, images, warm_up, case, say, services)
                await turns.take(repeats)
            rows += turns.rows()
        size, images = (100_000, 10) if quick else (1_000_000, 150)
        rows += await _with_emulator(Path(directory), size, (warm_up, images), repeats, say)
    return rows


def _size(size: int) -> str:
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1000} KB"


@dataclass(slots=True)
class _Turns:
    """Measure ours and the bare loop in turns, each in its own process and with its own result container."""

    settings: Mapping[str, str]
    images: int
    warm_up: int
    case: str
    say: Say
    services: Services
    ours: list[Mapping[str, Any]] = field(default_factory=list)
    bare: list[Mapping[str, Any]] = field(default_factory=list)
    operations: dict[str, Counter[str]] = field(default_factory=dict)

    async def take(self, repeats: int) -> None:
        for repeat in range(repeats):
            turns = [(OURS, self.ours, "app"), (THEIRS, self.bare, "bare")]
            for module, results, name in turns[:: 1 if repeat % 2 == 0 else -1]:
                self.say(f"{self.case}: {name}, repeat {repeat + 1} of {repeats}")
                task = {"prefix": PREFIX, "stages": [self.warm_up, self.images]}
                container = {"OUTPUT_CONTAINER": result_container(name, repeat)}
                before = await self.services.counts()
                answer = await asyncio.to_thread(contender, module, task, dict(self.settings) | container)
                self.operations[module] = await self.services.counts() - before
                results.append(answer["stages"][-1])
                self._check(module, container["OUTPUT_CONTAINER"])

    def _check(self, module: str, container: str) -> None:
        """Check the counts. For the host, an invocation that deferred its image has succeeded, too."""
        asked, written = self.operations[module]["POST model"], self.operations[module][f"PUT {container}"]
        # The app makes one more write, to check its rights. None with the emulator, which does not count.
        if asked != self._all or written not in {self._all, self._all + 1, 0}:
            raise ContenderError(
                f"{module}: of {self._all} images, {asked} were asked about and {written} have results"
            )

    @property
    def _all(self) -> int:
        return 1 + self.warm_up + self.images

    def rows(self) -> list[Row]:
        return [self.speed(), self.cpu(), self.storage_operations()]

    def speed(self) -> Row:
        ours, bare = ([stage["images"] / stage["wall"] for stage in stages] for stages in (self.ours, self.bare))
        return row(
            NAME, self.case, "images/s", ours, bare,
            baseline_name=BARE, at_least=AT_LEAST, higher_is_better=True,
        )  # fmt: skip

    def cpu(self) -> Row:
        ours, bare = ([1000 * stage["cpu"] / stage["images"] for stage in each] for each in (self.ours, self.bare))
        return row(NAME, self.case, "ms CPU/image", ours, bare, baseline_name=BARE, at_most=1 / AT_LEAST)

    def storage_operations(self) -> Row:
        """Those of an image in a process that has warmed up: what a process does once is not among them."""

        def per_image(stage: Mapping[str, Any]) -> float:
            counts = Counter(stage["requests"])
            return float((counts.total() - counts["POST model"]) / stage["images"])

        ours, bare = (list(map(per_image, stages)) for stages in (self.ours, self.bare))
        return row(NAME, self.case, "storage operations/image", ours, bare, baseline_name=BARE, at_most=1)


def result_container(name: str, repeat: int) -> str:
    return f"results-{name}-{repeat}"


async def _with_emulator(directory: Path, size: int, numbers: tuple[int, int], repeats: int, say: Say) -> list[Row]:
    """The emulator, with ours and the bare loop as before; then also from event to result through the local host."""
    say("starting the local cloud")
    picture = jpeg_of(size)
    warm_up, images = numbers
    async with stand_in(directory, picture) as services:
        cloud = LocalCloud(
            directory=directory,
            app=ROOT,
            log=directory / "functions.log",
            settings={"AZURE_OPENAI_ENDPOINT": services.model_url},
        )
        async with cloud, _past_the_events(cloud) as account:
            uploads = await account.create_container("uploads")
            say(f"emulator, {_size(size)}: uploading")
            await _upload(uploads, [f"{PREFIX}/{number}" for number in range(1 + warm_up + images)], picture)
            for repeat in range(repeats):
                for name in ("app", "bare"):
                    await account.create_container(result_container(name, repeat))
            settings = cloud.app_settings() | {"INPUT_CONTAINER": "uploads"}
            turns = _Turns(settings, images, warm_up, f"emulator, {_size(size)}", say, services)
            await turns.take(repeats)
            events = []
            for repeat in range(repeats):
                say(f"emulator and local host, {_size(size)}: repeat {repeat + 1} of {repeats}")
                events.append(await _events_per_second(cloud, account, picture, f"events-{repeat}", images))
            bare = [stage["images"] / stage["wall"] for stage in turns.bare]
    through_host = row(
        NAME,
        f"emulator, {_size(size)}, event to result through the local host",
        "images/s",
        events,
        bare,
        baseline_name=BARE,
        higher_is_better=True,
    )
    return [turns.speed(), turns.cpu(), through_host]


def _past_the_events(cloud: LocalCloud) -> BlobServiceClient:
    """The emulator itself: a write there raises no event."""
    url, bundle = cloud.azurite.blob_url(DATA_ACCOUNT), str(cloud.certificates.bundle)
    return BlobServiceClient(url, DATA_KEY, connection_verify=bundle)


async def _upload(container: ContainerClient, names: Sequence[str], picture: bytes) -> None:
    async def upload(number: int) -> None:
        await container.upload_blob(
            names[number], BytesIO(picture), metadata={"instructions": "What is in this picture?"}
        )

    await in_flight(AT_ONCE, upload, range(len(names)))


async def _events_per_second(
    cloud: LocalCloud, account: BlobServiceClient, picture: bytes, prefix: str, n: int
) -> float:
    """Images a second, from the first event's publication until the last result is there."""
    names = [f"{prefix}/{number}" for number in range(n)]
    await _upload(account.get_container_client("images"), names, picture)
    content = Content(len(picture), "image/jpeg", "BlockBlob")
    began = time.perf_counter()
    for name in names:
        write = BlobWrite("PutBlob", DATA_ACCOUNT, "images", name, client_request_id="")
        cloud.events.publish(blob_created(write, content, cloud.azurite.blob_url(DATA_ACCOUNT), {"ETag": "0x1"}))
    results = account.get_container_client("results")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len([name async for name in results.list_blob_names(name_starts_with=prefix)]) < n:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # another process's work: no event to wait for
    return n / (time.perf_counter() - began)
