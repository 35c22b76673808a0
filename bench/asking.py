"""Ways to ask a model about images, each in a fresh process: `python -m bench.asking TASK`.

    ours      `pipeline.model.azure_openai` with its governor and a managed identity's token
    bounded   the same behind `pipeline.job.analysis`, with storage in memory: to see that IMAGE_MEMORY_BYTES holds
    floor     bodies made before, over aiohttp: no credential, no SDK, no checks
    sliced    the same in slices of 64 KiB: the lowest cost known to us
    shared    one SDK client for all, used as its documentation has it
    tutorial  our own writing of the 2024 tutorial's way: for each image a temporary file, a credential and a client

The task: `way`, `url` of the model, `size` of an image in bytes, how many questions are under way `at_once`, and how
many `rounds` of as many are measured, after `warm_up` rounds.
"""

import asyncio
import base64
import json
import mimetypes
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from azure.identity import DefaultAzureCredential, get_bearer_token_provider
from azure.identity.aio import ManagedIdentityCredential
from azure.identity.aio import get_bearer_token_provider as get_token_provider
from openai import AsyncOpenAI, AzureOpenAI
from openai.types.chat import ChatCompletionMessageParam

from bench.measure import answer, forget_peak, peak_bytes, rss_bytes
from bench.pictures import jpeg_of
from localcloud.identity import IdentityEndpoint
from pipeline.images import PreparedImage
from pipeline.job.analysis import Analyzer
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.model.azure_openai import TOKEN_SCOPE, AzureOpenAIModel
from pipeline.model.question import Question
from pipeline.model.request_body import request_body
from pipeline.pacing.governor import Governor
from pipeline.settings import DEFAULT_SYSTEM_PROMPT, Settings
from pipeline.storage.facts import Claim, OpenedUpload, StoredResult, Upload, first_read_bytes

QUESTION = Question("What is in this picture?", "vision", DEFAULT_SYSTEM_PROMPT, "auto", 4096)
SLICE_BYTES = 64 * 1024
SAMPLING = 0.005
"""Seconds between two looks at how late the event loop is."""

type Ask = Callable[[], Awaitable[None]]
"""Asks about one image, the same one each time."""
type Task = Mapping[str, Any]


def main(task: Task) -> dict[str, float]:
    """Seconds of processor time (`cpu`) and of wall time per question, bytes above idle (`peak`), and at the 99.9th
    percentile by how many seconds the event loop was `late`, and for how many it was `busy` itself between two looks.
    Where the first is much more than the second it was other processes that held it up.
    """
    return _tutorial(task) if task["way"] == "tutorial" else asyncio.run(_async(task))


async def _async(task: Task) -> dict[str, float]:
    way = {"ours": _ours, "bounded": _bounded, "floor": _floor, "sliced": _sliced, "shared": _shared}[task["way"]]
    looks: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        worker = await way(task, stack)
        await worker(0)()  # all is imported, and one connection open
        forget_peak()
        idle = rss_bytes()
        asks = [worker(number) for number in range(task["at_once"])]
        for _ in range(task["warm_up"]):
            await asyncio.gather(*(ask() for ask in asks))
        sampling = asyncio.create_task(_sample(looks)) if task["at_once"] > 1 else None
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_repeated(ask, task["rounds"]) for ask in asks))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = peak_bytes() - idle
        if sampling:
            sampling.cancel()
    questions = task["at_once"] * task["rounds"]
    late, busy = (sorted(times)[int(len(looks) * 0.999)] for times in zip(*looks, strict=True)) if looks else (0.0, 0.0)
    return {"cpu": cpu / questions, "wall": wall / questions, "peak": peak, "late": late, "busy": busy}


async def _repeated(ask: Ask, times: int) -> None:
    for _ in range(times):
        await ask()


async def _sample(looks: list[tuple[float, float]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, busy = loop.time() + SAMPLING, time.thread_time()
        await asyncio.sleep(SAMPLING)
        looks.append((loop.time() - due, time.thread_time() - busy))


def _image(size: int) -> PreparedImage:
    return PreparedImage(data=os.urandom(size), format="jpeg", width=640, height=480, transformed=False)


# ---- Ours ------------------------------------------------------------------------------------------------------------


async def _model(task: Task, stack: AsyncExitStack) -> AzureOpenAIModel:
    credential = await stack.enter_async_context(ManagedIdentityCredential(client_id=os.environ["AZURE_CLIENT_ID"]))
    governor = Governor(most_in_flight=task["at_once"], patience=60)
    model = AzureOpenAIModel(task["url"], get_token_provider(credential, TOKEN_SCOPE), 60, governor)
    stack.push_async_callback(model.close)
    return model


async def _ours(task: Task, stack: AsyncExitStack) -> Callable[[int], Ask]:
    model = await _model(task, stack)

    def worker(_number: int) -> Ask:
        image = _image(task["size"])

        async def ask() -> None:
            reply = await model.ask(QUESTION, image)
            assert reply.text  # noqa: S101 - else nothing was measured

        return ask

    return worker


async def _bounded(task: Task, stack: AsyncExitStack) -> Callable[[int], Ask]:
    settings = Settings.from_environment(
        {
            "DataStorage__blobServiceUri": "https://127.0.0.1",
            "DataStorage__queueServiceUri": "https://127.0.0.1",
            "AZURE_OPENAI_ENDPOINT": task["url"],
            "AZURE_OPENAI_DEPLOYMENT": QUESTION.deployment,
            "MAX_CONCURRENCY": str(task["at_once"]),
            "IMAGE_MEMORY_BYTES": str(task["memory"]),
        }
    )
    store = _Store(task["size"], first_read_bytes(settings.image_memory_bytes, settings.max_concurrency))
    place = Place(store, store)
    analyzer = Analyzer(settings, Places(place, trials=place), store, await _model(task, stack), patience=60)

    def worker(number: int) -> Ask:
        async def ask() -> None:
            outcome = await analyzer.analyze(Request(container="images", name=f"{number}.jpg"))
            assert outcome is Outcome.SUCCEEDED  # noqa: S101 - else nothing was measured

        return ask

    return worker


class _Store:
    """Uploads, results and claims, in memory: an opening brings the beginning of an image, reading all of it."""

    container = "images"

    def __init__(self, size: int, opening: int) -> None:
        self._image = jpeg_of(size)
        self._opening = opening

    async def open(self, name: str) -> OpenedUpload:
        begun = [bytes(bytearray(self._image[: self._opening]))]

        async def read() -> bytes:
            return begun.pop() + self._image[self._opening :]

        now = datetime.now(UTC)
        asked = {"instructions": QUESTION.instructions}
        url = f"https://127.0.0.1/{name}"
        return OpenedUpload(Upload("images", name, url, "1", now, len(self._image), metadata=asked), read)

    async def look(self, name: str) -> Upload:
        return (await self.open(name)).facts

    async def listed(self, name: str) -> Upload:
        return (await self.open(name)).facts

    async def read_start(self, _name: str, _length: int) -> None:
        return None

    async def find(self, _name: str) -> None:
        return None

    async def read(self, _name: str) -> None:
        return None

    async def require_writable(self) -> None:
        return

    async def write(
        self, _name: str, _body: bytes, _metadata: Mapping[str, str], replacing: StoredResult | None
    ) -> bool:
        return replacing is None

    async def note(self, _name: str, _metadata: Mapping[str, str], of: StoredResult) -> bool:  # noqa: ARG002 - by name
        return False

    @asynccontextmanager
    async def held(self, _key: str) -> AsyncIterator[Claim]:
        yield Claim(1, None, _never, lambda: None, _never_for)


async def _never_for(_key: str, answer: bytes) -> None:
    await _never(answer)


async def _never(_answer: bytes) -> None:
    raise AssertionError("every result can be written")


# ---- The floor -------------------------------------------------------------------------------------------------------


async def _posting(task: Task, stack: AsyncExitStack) -> Callable[[Any, int], Awaitable[None]]:
    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    url = f"{task['url']}/openai/v1/chat/completions"
    token = IdentityEndpoint().token("https://cognitiveservices.azure.com")

    async def post(body: Any, length: int) -> None:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Content-Length": str(length),
        }
        async with session.post(url, data=body, headers=headers) as response:
            assert json.loads(await response.read())["choices"]  # noqa: S101 - else nothing was measured

    return post


async def _body(size: int) -> bytes:
    return b"".join([part async for part in request_body(QUESTION, _image(size))])


async def _floor(task: Task, stack: AsyncExitStack) -> Callable[[int], Ask]:
    post = await _posting(task, stack)
    bodies = [await _body(task["size"]) for _ in range(task["at_once"])]

    def worker(number: int) -> Ask:
        # As a payload, which aiohttp does not warn about above 1 MB: it would cost, too.
        return lambda: post(aiohttp.BytesPayload(bodies[number]), len(bodies[number]))

    return worker


async def _sliced(task: Task, stack: AsyncExitStack) -> Callable[[int], Ask]:
    post = await _posting(task, stack)
    bodies = [await _body(task["size"]) for _ in range(task["at_once"])]

    async def slices(body: bytes) -> AsyncIterator[memoryview]:
        with memoryview(body) as whole:
            for start in range(0, len(whole), SLICE_BYTES):
                yield whole[start : start + SLICE_BYTES]

    def worker(number: int) -> Ask:
        return lambda: post(slices(bodies[number]), len(bodies[number]))

    return worker


# ---- With the SDK ----------------------------------------------------------------------------------------------------


def _messages(image: bytes, kind: str | None) -> list[ChatCompletionMessageParam]:
    url = f"data:{kind};base64,{base64.b64encode(image).decode()}"
    return [
        {"role": "system", "content": QUESTION.system_prompt},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION.instructions},
                {"type": "image_url", "image_url": {"url": url}},
            ],
        },
    ]


async def _shared(task: Task, stack: AsyncExitStack) -> Callable[[int], Ask]:
    credential = await stack.enter_async_context(ManagedIdentityCredential(client_id=os.environ["AZURE_CLIENT_ID"]))
    tokens = get_token_provider(credential, TOKEN_SCOPE)
    client = await stack.enter_async_context(AsyncOpenAI(base_url=f"{task['url']}/openai/v1/", api_key=tokens))

    def worker(_number: int) -> Ask:
        image = os.urandom(task["size"])

        async def ask() -> None:
            response = await client.chat.completions.create(
                model=QUESTION.deployment, messages=_messages(image, "image/jpeg"), max_completion_tokens=1000
            )
            assert response.choices[0].message.content  # noqa: S101 - else nothing was measured

        return ask

    return worker


# ---- The tutorial's way ----------------------------------------------------------------------------------------------


def _tutorial(task: Task) -> dict[str, float]:
    """In threads, as many as the platform's worker gives functions that are not async."""
    idle = rss_bytes()
    with (
        tempfile.TemporaryDirectory() as directory,
        ThreadPoolExecutor(min(32, (os.process_cpu_count() or 1) + 4)) as pool,
    ):
        images = [(Path(directory) / f"{number}.jpg", os.urandom(task["size"])) for number in range(task["at_once"])]
        _ask_as_the_tutorial(task["url"], *images[0])
        forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(task["rounds"]):
            list(pool.map(lambda image: _ask_as_the_tutorial(task["url"], *image), images))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    questions = task["at_once"] * task["rounds"]
    return {"cpu": cpu / questions, "wall": wall / questions, "peak": peak_bytes() - idle}


def _ask_as_the_tutorial(url: str, path: Path, image: bytes) -> None:
    tokens = get_bearer_token_provider(DefaultAzureCredential(), TOKEN_SCOPE)
    path.write_bytes(image)
    kind, _ = mimetypes.guess_type(path)
    client = AzureOpenAI(
        azure_ad_token_provider=tokens,
        api_version="2024-10-21",
        base_url=f"{url}/openai/deployments/{QUESTION.deployment}",
    )
    response = client.chat.completions.create(
        model=QUESTION.deployment,
        messages=_messages(path.read_bytes(), kind),
        max_tokens=1000,
    )
    assert response.choices[0].message.content  # noqa: S101 - else nothing was measured


if __name__ == "__main__":
    answer(main)
