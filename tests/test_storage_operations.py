"""What an upload costs in storage operations, counted: docs/architecture.md states these numbers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.pipeline import PipelineRequest
from azure.storage.blob.aio import BlobServiceClient
from person import Person
from pictures import picture

from pipeline.analysis import Analyzer
from pipeline.claims import Claims
from pipeline.images import PreparedImage
from pipeline.model import Question, Reply
from pipeline.race import Outcome
from pipeline.requests import Request
from pipeline.settings import Settings
from pipeline.storage import FIRST_READ_BYTES, Results, Uploads


class Counter:
    """Notes each request as `METHOD container`."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, request: PipelineRequest[Any]) -> None:
        self.seen.append(f"{request.http_request.method} {urlsplit(request.http_request.url).path.split('/')[2]}")


class Model:
    async def ask(self, question: Question, image: PreparedImage) -> Reply:
        return Reply(f"{question.instructions} {image.width}", "stop", "fake", None, 1, 1, None, None)


@dataclass
class Counted:
    analyzer: Analyzer
    counter: Counter

    async def cost(self, name: str) -> tuple[Outcome, list[str]]:
        self.counter.seen.clear()
        outcome = await self.analyzer.analyze(Request(container="costs", name=name))
        return outcome, list(self.counter.seen)


@pytest.fixture
async def counted(person: Person) -> AsyncIterator[Counted]:
    counter = Counter()
    async with BlobServiceClient.from_connection_string(
        person.cloud.front.connection_string, raw_request_hook=counter, max_single_get_size=FIRST_READ_BYTES
    ) as service:
        for container in ("costs", "costs-results", "costs-state"):
            await service.create_container(container)
        settings = Settings.from_environment(person.cloud.app_settings())
        analyzer = Analyzer(
            settings,
            Uploads(service, "costs"),
            Results(service, "costs-results"),
            Claims(service, "costs-state", 60),
            Model(),
        )
        yield Counted(analyzer, counter)
        for container in ("costs", "costs-results", "costs-state"):
            await service.delete_container(container)


async def test_an_upload_costs_six_operations_and_a_duplicate_event_four(person: Person, counted: Counted) -> None:
    blob = person.blobs.get_blob_client("costs", "a.png")
    await blob.upload_blob(picture(), metadata={"instructions": "?"})
    opening, claiming, finding = "GET costs", "PUT costs-state", "HEAD costs-results"
    looking, writing, releasing = "HEAD costs", "PUT costs-results", "DELETE costs-state"
    trying_to_write = "PUT costs-results"  # once in the life of a process
    assert await counted.cost("a.png") == (
        Outcome.SUCCEEDED,
        [opening, claiming, finding, trying_to_write, looking, writing, releasing],
    )
    await person.blobs.get_blob_client("costs", "b.png").upload_blob(picture(), metadata={"instructions": "?"})
    assert await counted.cost("b.png") == (
        Outcome.SUCCEEDED,
        [opening, claiming, finding, looking, writing, releasing],
    )
    assert await counted.cost("a.png") == (Outcome.ALREADY_DONE, [opening, claiming, finding, releasing])


async def test_files_beside_an_image_cost_three_reads_and_each_folder_three_once(
    person: Person, counted: Counted
) -> None:
    for n in range(2):
        await person.blobs.get_blob_client("costs", f"x/{n}.png").upload_blob(picture())
    _, first = await counted.cost("x/0.png")
    _, second = await counted.cost("x/1.png")
    assert (first.count("GET costs"), second.count("GET costs")) == (1 + 3 + 2 * 3, 1 + 3)


async def test_the_same_bytes_under_a_new_etag_cost_one_read_more_and_no_call(person: Person, counted: Counted) -> None:
    blob = person.blobs.get_blob_client("costs", "a.png")
    await blob.upload_blob(picture(), metadata={"instructions": "?"})
    await counted.cost("a.png")
    await blob.set_blob_metadata({"instructions": "?", "mtime": "1"})
    outcome, again = await counted.cost("a.png")
    # It is looked at once or twice: whether the earlier result is older can't be told within a second.
    others = [one for one in again if one != "HEAD costs"]
    assert outcome is Outcome.SUCCEEDED
    assert others == [
        "GET costs",
        "PUT costs-state",
        "HEAD costs-results",
        "GET costs-results",
        "PUT costs-results",
        "DELETE costs-state",
    ]


async def test_an_image_that_is_gone_costs_one(counted: Counted) -> None:
    assert await counted.cost("gone.png") == (Outcome.GONE, ["GET costs"])
