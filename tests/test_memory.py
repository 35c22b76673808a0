"""Images of any size in progress take no more memory than the setting says, and all get their turn."""

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from struct import pack
from uuid import uuid4

import pytest
from support.damaged_images import webp_of
from support.odd_images import large_jpeg
from support.person import Person
from support.pictures import picture

from pipeline.documents.facts import Picture, sent_pages
from pipeline.job.analysis import Analyzer
from pipeline.job.memory import Budget, NoMemory
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.model.question import Question, Reply
from pipeline.settings import Settings
from pipeline.storage.facts import Claim, OpenedUpload, StoredResult, Upload
from pipeline.storage.uploads import Uploads

MEMORY = 32 * 1024 * 1024
HALF = MEMORY // 2
SETTINGS = Settings.from_environment(
    {
        "DataStorage__blobServiceUri": "https://a.blob.core.windows.net",
        "DataStorage__queueServiceUri": "https://a.queue.core.windows.net",
        "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
        "AZURE_OPENAI_DEPLOYMENT": "vision",
        "IMAGE_MEMORY_BYTES": str(MEMORY),
        "MAX_CONCURRENCY": "16",
    }
)


def sized(size: int) -> bytes:
    """A PNG of so many bytes, which the model takes as it is."""
    plain = picture()
    kind, text = b"tEXt", b"k\0".ljust(size - len(plain) - 12, b"x")
    chunk = pack(">I", len(text)) + kind + text + pack(">I", zlib.crc32(kind + text))
    end_of_header = 8 + 25
    return plain[:end_of_header] + chunk + plain[end_of_header:]


@dataclass
class Shop:
    """Storage and model, which note how many bytes are read and not let go of. A blob's name is its size."""

    held: list[int] = field(default_factory=list)
    most: int = 0
    content: Callable[[int], bytes] = sized
    asked: int = 0
    answers: asyncio.Event | None = None
    """Without it the model answers at once."""
    written: list[bytes] = field(default_factory=list)
    container: str = "images"

    async def open(self, name: str) -> OpenedUpload:
        size = int(name)

        async def read() -> bytes:
            self.held.append(size)
            self.most = max(self.most, sum(self.held))
            return self.content(size)

        now = datetime.now(UTC)
        asked = {"instructions": "?"}
        return OpenedUpload(Upload("images", name, f"https://a/{name}", uuid4().hex, now, size, metadata=asked), read)

    async def look(self, name: str) -> Upload:
        return (await self.open(name)).facts

    async def listed(self, name: str) -> Upload:
        return (await self.open(name)).facts

    async def read_start(self, name: str, length: int) -> bytes | None:  # noqa: ARG002 - no files
        return None

    async def find(self, name: str) -> StoredResult | None:  # noqa: ARG002 - nothing is done
        return None

    async def read(self, name: str) -> bytes | None:  # noqa: ARG002 - nothing is done
        return None

    async def require_writable(self) -> None:
        return

    async def write(self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None) -> bool:  # noqa: ARG002 - taken
        self.written.append(body)
        return True

    async def note(self, name: str, metadata: Mapping[str, str], of: StoredResult) -> bool:  # noqa: ARG002 - no rate
        raise AssertionError

    @asynccontextmanager
    async def claimed(self, key: str) -> AsyncIterator[Claim]:  # noqa: ARG002 - always free
        yield Claim(1, None, self.keep, lambda: None, self.keep_for)

    async def keep(self, answer: bytes) -> None:
        raise AssertionError(answer)

    async def keep_for(self, key: str, answer: bytes) -> None:
        raise AssertionError(key, answer)

    async def ask(self, question: Question, image: Picture) -> Reply:  # noqa: ARG002 - any answer does
        self.asked += 1
        if self.answers:
            await self.answers.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        (sent,) = sent_pages(image)
        if not sent.image.transformed:
            self.held.remove(len(sent.image.data))
        return Reply("An answer.", "stop", "fake", None, 1, 1, None, None)


class AlwaysFree:
    def __init__(self, shop: Shop) -> None:
        self.held = shop.claimed


def analyzer(shop: Shop, patience: float = 60) -> Analyzer:
    place = Place(shop, shop)
    return Analyzer(SETTINGS, Places(place, trials=place), AlwaysFree(shop), shop, patience=patience)


def request(size: int) -> Request:
    return Request(container="images", name=str(size))


async def test_large_images_wait_for_memory_and_all_get_it() -> None:
    """Also one that is larger than all there is, and small ones that came whole with their opening."""
    shop = Shop()
    work = analyzer(shop)
    sizes = [5_000_000 + n for n in range(20)]
    sizes[10:10] = [HALF + 1_000_000, 1000, 2000]
    outcomes = await asyncio.gather(*(work.analyze(request(size)) for size in sizes))
    assert set(outcomes) == {Outcome.SUCCEEDED}
    assert HALF + 1_000_000 <= shop.most < HALF + 1_000_000 + 3000


async def test_an_image_that_finds_no_memory_in_time_is_deferred_as_not_tried() -> None:
    """`NoMemory` is `NotTried`: it counts for no attempt, see tests/test_waiting.py."""
    shop, release = Shop(), asyncio.Event()
    work = analyzer(shop, patience=0.05)
    shop.answers = release
    first = asyncio.create_task(work.analyze(request(15_000_000)))
    while not shop.held:
        await asyncio.sleep(0)
    with pytest.raises(NoMemory, match="No memory came free for 15,000,001 bytes") as failed:
        await work.analyze(request(15_000_001))
    assert failed.value.retry_after == 0.05
    release.set()
    assert await first is Outcome.SUCCEEDED
    assert await work.analyze(request(15_000_001)) is Outcome.SUCCEEDED


async def test_a_converted_image_no_longer_counts_against_upload_memory() -> None:
    """The first is still asked about while the second, which would not fit next to it, is read."""
    photo = picture("JPEG", (3000, 600)) + bytes(HALF)
    shop = Shop(content=lambda _size: photo, answers=asyncio.Event())
    work = analyzer(shop)
    tasks = [asyncio.create_task(work.analyze(request(len(photo)))) for _ in range(2)]
    while shop.asked < 2:
        await asyncio.sleep(0.01)
    assert shop.answers
    shop.answers.set()
    assert await asyncio.gather(*tasks) == [Outcome.SUCCEEDED] * 2


async def test_a_conversion_larger_than_the_instance_is_refused_before_it_begins() -> None:
    """30 bytes that say "8,000 x 6,000 pixels" would take a gigabyte; a JPEG of that size takes a twentieth of it."""
    photo = large_jpeg(8_000, 6_000)
    refused, converted = Shop(content=lambda _size: webp_of(8_000, 6_000)), Shop(content=lambda _size: photo)
    assert await analyzer(refused).analyze(request(1000)) is Outcome.FAILED
    assert await analyzer(converted).analyze(request(1000)) is Outcome.SUCCEEDED
    [result] = map(json.loads, refused.written)
    assert result["error"]["code"] == "image_too_large"
    assert "IMAGE_MEMORY_BYTES" in result["error"]["message"]
    assert result["error"]["details"]["max_memory_bytes"] == 2 * MEMORY
    assert refused.asked == 0


async def test_a_large_request_is_not_overtaken_for_ever() -> None:
    budget, order, let_go = Budget(10), [], asyncio.Event()

    async def take(amount: int) -> None:
        async with budget.held(amount):
            order.append(amount)
            await let_go.wait()

    tasks = [asyncio.create_task(take(amount)) for amount in (4, 9, 1, 2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == [4]
    let_go.set()
    await asyncio.gather(*tasks)
    assert order == [4, 9, 1, 2]


async def test_giving_up_a_wait_for_memory_leaves_the_budget_unchanged() -> None:
    budget = Budget(10)
    async with budget.held(10):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), budget.held(5):
                    pytest.fail("there was no room")
    async with budget.held(6), budget.held(4):
        pass


async def test_an_upload_that_was_read_is_held_once(person: Person) -> None:
    """The storage SDK's download keeps the bytes of its first request for as long as it lives."""
    data = sized(6_000_000)
    async with person.blobs.get_container_client(f"memory-{uuid4().hex[:12]}") as container:
        await container.create_container()
        await container.upload_blob("a.png", data)
        tracemalloc.start()
        try:
            upload = await Uploads(person.blobs, container.container_name).open("a.png")
            assert upload
            read = await upload.read()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await container.delete_container()
    assert read == data
    assert held < 1.5 * len(data)
