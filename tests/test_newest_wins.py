"""Whatever the order in which uploads, deletions, instruction files, deliveries and kills happen, the newest wins.

And nothing is paid twice: not for another version of the same bytes, nor while results can't be written.

The real job runs against storage in memory. It stops in front of every request that it makes, and the examples choose
which one is answered next. So they run through interleavings that no real storage would show in years.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.pictures import picture

from pipeline.documents.facts import Picture, sent_pages
from pipeline.errors import RetryableFailure
from pipeline.job.analysis import Analyzer
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.model.question import Question, Reply
from pipeline.result import ResultMetadata
from pipeline.settings import Settings
from pipeline.storage.facts import Claim, ClaimedElsewhere, OpenedUpload, StoredResult, Upload, VersionGone

NAME = "image.png"
SIDECAR = "image.png.instructions.md"
IMAGES = [picture(size=(2 + n, 2)) for n in range(60)]
MOST_CHANGES = 20
MOST_TROUBLES = 3
"""So that the examples spend their steps on races rather than on ever more versions and kills."""
# Races need one run to stand still while another gets far.
KINDS = [*["go on"] * 12, *["switch"] * 2, *["deliver"] * 2, *["change"] * 2, "tick", "trouble"]
STEPS = 150


@dataclass(eq=False)
class Run:
    """One delivery under way."""

    request: Request
    read: int = 0
    """The content that it read."""
    killed: bool = False


CURRENT: ContextVar[Run] = ContextVar("CURRENT")


@dataclass(frozen=True, slots=True)
class Version:
    number: int
    modified: datetime
    uploaded: bool
    """Event Grid reports uploads, but not changed metadata."""
    content: int
    """Which bytes: a changed ETag does not mean changed bytes."""

    @property
    def etag(self) -> str:
        return f"0x{self.number}"

    @property
    def image(self) -> bytes:
        return IMAGES[self.content]


@dataclass
class Held:
    """A claim: how often its work was begun, by which run (None: it is free), and the answer that it keeps."""

    runs: int
    run: Run | None
    answer: bytes | None = None


@dataclass
class Storage:
    """One image, its sidecar, its result and the claims on it."""

    container: str = "images"
    now: datetime = datetime(2026, 3, 14, tzinfo=UTC)
    """Storage gives times in whole seconds, so versions may have the same."""
    image: Version | None = None
    numbers: int = 0
    question: int = 0
    result: tuple[StoredResult, tuple[int, int], bytes] | None = None
    """And of which version of image and question it is, and its JSON."""
    claims: dict[str, "Held"] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Content and question, each time the model answered."""
    refusals: int = 0
    unwritable: int = 0
    """Writes of results that are refused yet."""
    open_requests: list[tuple[Run, asyncio.Future[None]]] = field(default_factory=list)

    async def turn(self) -> None:
        run = CURRENT.get()
        if run.killed:
            raise asyncio.CancelledError
        answered = asyncio.get_running_loop().create_future()
        self.open_requests.append((run, answered))
        await answered

    # Uploads
    async def open(self, name: str) -> OpenedUpload | None:
        assert name == NAME
        await self.turn()
        version = self.image
        if version is None:
            return None

        async def read() -> bytes:
            await self.turn()
            if self.image is not version:
                raise VersionGone
            CURRENT.get().read = version.content
            return version.image

        return OpenedUpload(self.facts(version), read)

    def facts(self, version: Version) -> Upload:
        size = len(version.image)
        return Upload(self.container, NAME, f"https://x/{NAME}", version.etag, version.modified, size)

    async def look(self, name: str) -> Upload | None:
        assert name == NAME
        await self.turn()
        return self.facts(self.image) if self.image else None

    async def listed(self, name: str) -> Upload | None:
        return await self.look(name)

    async def read_start(self, name: str, length: int) -> bytes | None:
        if name != SIDECAR:
            return None
        await self.turn()
        return str(self.question).encode()[:length] if self.question else None

    # Results
    async def find(self, name: str) -> StoredResult | None:
        assert name == f"{NAME}.json"
        await self.turn()
        return self.result[0] if self.result else None

    async def read(self, name: str) -> bytes | None:
        assert name == f"{NAME}.json"
        await self.turn()
        return self.result[2] if self.result else None

    async def require_writable(self) -> None:
        return

    async def write(self, name: str, body: bytes, metadata: Mapping[str, str], replacing: StoredResult | None) -> bool:
        assert body
        assert name == f"{NAME}.json"
        await self.turn()
        if self.unwritable:
            self.unwritable -= 1
            raise RetryableFailure("The result is leased.")
        if (self.result[0] if self.result else None) != replacing:
            return False
        of = (int(metadata["sourceetag"].removeprefix("0x")), _number(json.loads(body)["instructions"]["text"]))
        if self.result is not None:
            assert of >= self.result[1], "a newer result was replaced by an older one"
        self.numbers += 1
        self.result = StoredResult(f"r{self.numbers}", len(body), ResultMetadata.from_blob(metadata)), of, body
        return True

    # Claims
    async def note(self, name: str, metadata: Mapping[str, str], of: StoredResult) -> bool:  # noqa: ARG002 - no rate
        raise AssertionError

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[Claim]:
        await self.turn()
        found = self.claims.get(key)
        if found and found.run and not found.run.killed:
            raise ClaimedElsewhere("Another run is at this image.")
        held = self.claims[key] = Held(
            found.runs + bool(found.run) if found else 1, CURRENT.get(), found.answer if found else None
        )

        async def keep(answer: bytes) -> None:
            await self.turn()
            held.answer = answer

        def discard() -> None:
            held.answer = None

        try:
            yield Claim(held.runs, held.answer, keep, discard, self.keep_for)
        finally:
            await self.turn()
            held.run = None
            if held.answer is None:
                del self.claims[key]

    async def keep_for(self, key: str, answer: bytes) -> None:
        await self.turn()
        found = self.claims.get(key)
        if found and found.run and not found.run.killed:
            raise ClaimedElsewhere("The run before has not ended yet.")
        if not (found and found.answer):
            self.claims[key] = Held(1, None, answer)

    # VisionModel
    async def ask(self, question: Question, image: Picture) -> Reply:
        assert sent_pages(image)[0].image.data == IMAGES[CURRENT.get().read]
        await self.turn()
        if self.refusals:
            self.refusals -= 1
            raise RetryableFailure("The model is throttling.")
        self.asked.append((CURRENT.get().read, _number(question.instructions)))
        return Reply("An answer.", "stop", None, None, 1, 1, None, None)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


class World:
    """Storage, what was delivered, and who may be called on to do something next."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.analyzer = Analyzer(
            Settings.from_environment(
                {
                    "DataStorage__blobServiceUri": "https://a.blob.core.windows.net",
                    "DataStorage__queueServiceUri": "https://a.queue.core.windows.net",
                    "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
                    "AZURE_OPENAI_DEPLOYMENT": "vision",
                }
            ),
            Places(Place(self.storage, self.storage), trials=Place(self.storage, self.storage)),
            self.storage,
            self.storage,
        )
        self.events: list[Request] = []
        self.put_off: list[Request] = []
        self.runs: dict[asyncio.Task[Outcome], Run] = {}
        self.killed: list[asyncio.Task[Outcome]] = []
        self.last: Run | None = None
        """Whose request was answered last."""
        self.changes = 0
        self.contents = 0
        self.troubles = 0

    def do(self, rng: Random) -> None:
        """Anything that may happen now."""
        requests = self.storage.open_requests
        change = [*[self.upload] * 3, *[self.change_sidecar] * 2, self.change_metadata, self.delete]
        possible: dict[str, Sequence[Callable[[], None]]] = {
            "go on": [partial(self.answer, number) for number, (run, _) in enumerate(requests) if run is self.last],
            "switch": [partial(self.answer, number) for number in range(len(requests))],
            "deliver": [partial(self.deliver, number) for number in range(len(self.events))],
            "change": change if self.changes < MOST_CHANGES else [],
            "tick": [self.tick],
            "trouble": [
                self.duplicate,
                self.refuse,
                self.make_unwritable,
                *(partial(self.kill, task) for task in self.runs),
            ]
            if self.troubles < MOST_TROUBLES
            else [],
        }
        if choice := possible[rng.choice(KINDS)]:
            rng.choice(choice)()

    def upload(self) -> None:
        """Other bytes, or sometimes the same again."""
        again = self.storage.image is not None and self.changes % 3 == 0
        self._new_version(uploaded=True, same_content=again)
        self.events.append(Request(container="images", name=NAME))

    def change_metadata(self) -> None:
        if self.storage.image:
            self._new_version(uploaded=False, same_content=True)

    def _new_version(self, *, uploaded: bool, same_content: bool) -> None:
        self.changes += 1
        self.storage.numbers += 1
        self.contents += not same_content
        self.storage.image = Version(self.storage.numbers, self.storage.now, uploaded, self.contents)

    def delete(self) -> None:
        self.changes += 1
        self.storage.image = None

    def change_sidecar(self) -> None:
        self.changes += 1
        self.storage.question += 1
        self.events.append(Request(container="images", name=SIDECAR))

    def tick(self) -> None:
        self.storage.now += timedelta(seconds=1)

    def refuse(self) -> None:
        self.troubles += 1
        self.storage.refusals += 1

    def make_unwritable(self) -> None:
        self.troubles += 1
        self.storage.unwritable += 1

    def duplicate(self) -> None:
        self.troubles += 1
        self.events.append(Request(container="images", name=NAME))

    def deliver(self, number: int) -> None:
        run = Run(self.events.pop(number))
        context = copy_context()
        context.run(CURRENT.set, run)
        task = asyncio.get_running_loop().create_task(self.analyzer.analyze(run.request), context=context)
        self.runs[task] = run

    def answer(self, number: int) -> None:
        self.last, answered = self.storage.open_requests.pop(number)
        answered.set_result(None)

    def kill(self, task: asyncio.Task[Outcome]) -> None:
        """Its claim stays behind; the host delivers its message again."""
        self.troubles += 1
        run = self.runs.pop(task)
        run.killed = True
        self.killed.append(task)
        self.storage.open_requests = [(of, answered) for of, answered in self.storage.open_requests if of is not run]
        self.events.append(run.request)

    async def until_all_wait(self) -> None:
        """Until every run has made its next requests, or has ended."""
        await asyncio.sleep(0)
        while {run for task, run in self.runs.items() if not task.done()} - {
            run for run, _ in self.storage.open_requests
        }:
            await asyncio.sleep(0)
        for task, run in list(self.runs.items()):
            if task.done():
                del self.runs[task]
                if isinstance(task.exception(), RetryableFailure):
                    self.put_off.append(run.request)
                else:
                    task.result()

    async def settle(self) -> None:
        """Until nothing is under way and nothing waits."""
        while self.runs or self.events or self.put_off:
            if self.runs:
                self.answer(0)
            elif self.events:
                self.deliver(0)
            else:
                self.events, self.put_off = self.put_off, []
            await self.until_all_wait()

    async def close(self) -> None:
        for run in self.runs.values():
            run.killed = True
        tasks = [*self.killed, *self.runs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@examples(400)
@given(st.integers(0, 2**32))
async def test_the_newest_wins_whatever_happens_when(seed: int) -> None:
    """No newer result is ever replaced by an older one, and in the end the result is of what lies there now.

    Nothing is paid twice either: no answer to the same question about the same bytes, unless a run was killed.
    """
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    world = World()
    storage = world.storage
    try:
        world.upload()
        for _ in range(STEPS):
            world.do(rng)
            await world.until_all_wait()
        await world.settle()
        if storage.image is not None:
            if storage.result is None or storage.result[1][0] != storage.image.number:
                assert not storage.image.uploaded, "an upload's result is not of the newest version"
                world.events.append(Request(container="images", name=NAME))  # as reconcile finds it
                await world.settle()
            assert storage.result is not None
            assert storage.result[1] == (storage.image.number, storage.question)
        if not world.killed:
            # An answer that was kept stays when its image is deleted or overwritten, and no one asks for it any more.
            assert all(held.run is None and held.answer for held in storage.claims.values())
            assert len(storage.asked) == len(set(storage.asked)), "paid twice"
    finally:
        await world.close()
