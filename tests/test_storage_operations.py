"""The cost of an upload in storage operations, counted: docs/architecture.md states these numbers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize
from urllib.parse import urlsplit

import pytest
from azure.core.pipeline import PipelineRequest
from azure.storage.blob.aio import BlobServiceClient
from support.person import Person
from support.pictures import picture

from pipeline.documents.facts import Picture, sent_pages
from pipeline.job.analysis import Analyzer
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from pipeline.model.question import Question, Reply
from pipeline.settings import Settings
from pipeline.storage.claims import Claims
from pipeline.storage.facts import FIRST_READ_BYTES
from pipeline.storage.listing import list_page
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads


class Counter:
    """Notes each request as `METHOD container`."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, request: PipelineRequest[Any]) -> None:
        self.seen.append(f"{request.http_request.method} {urlsplit(request.http_request.url).path.split('/')[2]}")


class Model:
    async def ask(self, question: Question, image: Picture) -> Reply:
        return Reply(
            f"{question.instructions} {sent_pages(image)[0].image.width}", "stop", "fake", None, 1, 1, None, None
        )


@dataclass
class Counted:
    analyzer: Analyzer
    counter: Counter
    service: BlobServiceClient

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
        place = Place(Uploads(service, "costs"), Results(service, "costs-results"))
        analyzer = Analyzer(
            settings,
            Places(place, trials=place),
            Claims(service, "costs-state", 60),
            Model(),
        )
        yield Counted(analyzer, counter, service)
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
    # It is looked at once or twice: within a second it is unknown whether the earlier result is older.
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


async def test_another_question_costs_two_more_which_keep_the_earlier_answer(person: Person, counted: Counted) -> None:
    blob = person.blobs.get_blob_client("costs", "a.png")
    await blob.upload_blob(picture(), metadata={"instructions": "?"})
    await counted.cost("a.png")
    await blob.set_blob_metadata({"instructions": "And now?"})
    outcome, another = await counted.cost("a.png")
    assert outcome is Outcome.SUCCEEDED
    assert [one for one in another if one != "HEAD costs"] == [  # once or twice, as above
        "GET costs",
        "PUT costs-state",
        "HEAD costs-results",
        "GET costs-results",
        "PUT costs-state",
        "PUT costs-results",
        "DELETE costs-state",
    ]


@pytest.mark.parametrize("name", ["x/_Instructions.txt", "x/b.instructions.txt"])
async def test_a_near_miss_of_an_instruction_file_looks_for_no_other_file(
    person: Person, counted: Counted, name: str
) -> None:
    await person.blobs.get_blob_client("costs", name).upload_blob(b"What is it?")
    outcome, seen = await counted.cost(name)
    of_the_image = ["GET costs"] if "b" in name else []
    assert (outcome, [one for one in seen if one == "GET costs"]) == (Outcome.FAILED, ["GET costs", *of_the_image])


@pytest.mark.parametrize(
    ("name", "reads"), [("x/Größe.png", 1 + 3 + 2 * 3), (normalize("NFD", "x/Größe.png"), 1 + 3 + 3 + 2 * 3)]
)
async def test_only_an_image_in_an_unusual_unicode_form_costs_three_reads_more(
    person: Person, counted: Counted, name: str, reads: int
) -> None:
    await person.blobs.get_blob_client("costs", name).upload_blob(picture())
    _, seen = await counted.cost(name)
    assert seen.count("GET costs") == reads


@pytest.mark.parametrize(("name", "cost"), [("@eaDir/a.jpg", []), ("a.jpg.part", []), ("folder/", ["GET costs"] * 2)])
async def test_junk_costs_no_operation_and_a_folder_marker_one_read(
    person: Person, counted: Counted, name: str, cost: list[str]
) -> None:
    """Which the SDK makes twice: the first one asks for bytes from 0 on, and there is no byte 0."""
    await person.blobs.get_blob_client("costs", name).upload_blob(b"")
    assert (await counted.cost(name))[1] == cost


@pytest.mark.parametrize(
    ("empty", "pages"), [([], 1), (["folder/"], 1), (["folder"], 2), ([f"folder-{n}" for n in range(9)], 2)]
)
async def test_a_page_with_empty_blobs_costs_one_listing_more(
    person: Person, counted: Counted, empty: list[str], pages: int
) -> None:
    container = person.blobs.get_container_client("costs")
    for name in empty:
        await container.upload_blob(name, b"", metadata={"hdi_isfolder": "true"})
    await container.upload_blob("z.png", picture())
    counted.counter.seen.clear()
    listed = await list_page(counted.service.get_container_client("costs"), None, metadata=False)
    assert [blob.name for blob in listed.blobs] == ["z.png"]
    assert counted.counter.seen == ["GET costs"] * pages


async def test_a_sidecar_before_its_image_costs_the_reads_of_other_writings(person: Person, counted: Counted) -> None:
    """Of `a.jpg`: .jpeg and capitals of both, each with the name in small letters and in capitals."""
    await person.blobs.get_blob_client("costs", "a.jpg.instructions.txt").upload_blob(b"What is it?")
    assert await counted.cost("a.jpg.instructions.txt") == (Outcome.GONE, ["GET costs"] * (1 + 7))


async def test_an_image_that_is_gone_costs_one(counted: Counted) -> None:
    assert await counted.cost("gone.png") == (Outcome.GONE, ["GET costs"])
