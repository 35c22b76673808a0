"""Every upload ends in a result within its time, even where files can't be read, and takes nothing else with it."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO
from random import Random
from typing import Any

import pytest
from azure.storage.blob import ContentSettings, StandardBlobTier
from azure.storage.blob.aio import BlobServiceClient
from PIL import Image
from support.guarded_storage import guarded
from support.person import Person
from support.pictures import picture
from support.workshop import Queue, Workshop, failing, workshop

from pipeline.errors import RetryableFailure, TimedOut
from pipeline.job.analysis import Analyzer
from pipeline.job.last_resort import LastResort
from pipeline.job.places import Place, Places
from pipeline.job.race import Outcome
from pipeline.job.reading import NotSettled
from pipeline.job.requests import Request
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane
from pipeline.storage.claims import Claims
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.results import Results
from pipeline.storage.uploads import Uploads
from pipeline.triggers.deliveries import Deliveries
from pipeline.triggers.lanes import Lanes
from pipeline.triggers.sequel import MOST_TIME_OUTS

ENCRYPTED = (
    409,
    "BlobUsesCustomerSpecifiedEncryption",
    "The blob is encrypted with a customer specified key, but it was not provided in the request.",
)


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def put(shop: Workshop, data: bytes, *, encoding: str | None = None, name: str = "a.png") -> Request:
    settings = ContentSettings(content_type="image/png", content_encoding=encoding)
    await shop.person.blobs.get_blob_client("shop-images", name).upload_blob(
        data, overwrite=True, metadata={"instructions": "?"}, content_settings=settings
    )
    return Request(container="shop-images", name=name)


@asynccontextmanager
async def behind(shop: Workshop, door: str) -> AsyncIterator[Deliveries]:
    """The app's deliveries, with its storage behind a door."""
    async with BlobServiceClient.from_connection_string(door, retry_total=0) as service:
        place = Place(Uploads(service, "shop-images"), Results(service, "shop-results"))
        places = Places(place, trials=place)
        claims = Claims(service, "shop-state", 60)
        yield Deliveries(
            Analyzer(shop.settings, places, claims, shop.model),
            LastResort(shop.settings.openai_deployment, places, claims),
            shop.queue,
            QueuedMarks(service, "shop-state"),
            Governor(most_in_flight=8, patience=30),
            lanes=Lanes.of(shop.settings),
            retry_for=shop.retry_for.total_seconds(),
            now=lambda: shop.time,
        )


# ---- What storage refuses --------------------------------------------------------------------------------------------


async def test_an_archived_image_ends_at_once_and_says_what_to_do(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    blob = shop.person.blobs.get_blob_client("shop-images", "a.png")
    await blob.set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    await shop.deliveries().handle(request)
    result = await shop.result("a.png")
    properties = await blob.get_blob_properties()
    assert (result["error"]["code"], result["error"]["details"]) == (
        "unreadable_blob",
        {"storage_code": "BlobArchived"},
    )
    assert "Set its tier to hot or cool" in result["error"]["message"]
    source = result["source"]
    assert (source["etag"], source["size_bytes"]) == (properties.etag.strip('"'), properties.size)
    assert result["instructions"]["text"] == "?"
    assert (shop.model.asked, shop.queue.sent, await shop.state()) == ([], [], [])
    await blob.set_standard_blob_tier(StandardBlobTier.HOT)
    rerun = request.model_copy(update={"rerun_failed": True})
    assert await shop.analyzer.analyze(rerun) is Outcome.SUCCEEDED


async def test_an_image_under_a_key_of_the_uploaders_ends_at_once(shop: Workshop) -> None:
    """Neither GET nor HEAD is answered without the key."""
    request = await shop.drop("a.png")
    async with (
        guarded(
            shop.person, lambda method, path: method in {"GET", "HEAD"} and "/shop-images/a.png" in path, ENCRYPTED
        ) as door,
        behind(shop, door) as deliveries,
    ):
        await deliveries.handle(request)
    result = await shop.result("a.png")
    assert (result["error"]["code"], result["source"]["size_bytes"]) == ("unreadable_blob", len(picture()))
    assert (shop.queue.sent, await shop.state()) == ([], [])


@pytest.mark.parametrize("listed", ["listed", ""])
async def test_giving_up_does_not_need_what_failed(shop: Workshop, listed: str) -> None:
    """The blob can't be read, for longer than RETRY_FOR_SECONDS; perhaps its container can't be listed either."""
    request = await shop.drop("a.png")
    etag = (await shop.person.blobs.get_blob_client("shop-images", "a.png").get_blob_properties()).etag.strip('"')

    def refuses(_method: str, path: str) -> bool:
        return "/shop-images/a.png" in path or ("/shop-images?" in path and not listed)

    async with guarded(shop.person, refuses) as door, behind(shop, door) as deliveries:
        await deliveries.handle(request)
        ((later, _),) = shop.queue.sent
        shop.time += shop.retry_for
        await deliveries.handle(later)
    result = await shop.result("a.png")
    assert (result["error"]["code"], result["error"]["details"]["status"]) == ("retries_exhausted", 403)
    assert (result["source"]["name"], result["source"]["etag"]) == ("a.png", etag if listed else None)
    assert (len(shop.queue.sent), await shop.state()) == (1, [])


async def test_giving_up_does_not_need_the_state_container(shop: Workshop) -> None:
    request = await shop.drop("a.png")
    async with (
        guarded(shop.person, lambda _method, path: "/shop-state/" in path) as door,
        behind(shop, door) as deliveries,
    ):
        await deliveries.handle(request)
        ((later, _),) = shop.queue.sent
        shop.time += shop.retry_for
        await deliveries.handle(later)
    assert ((await shop.result("a.png"))["error"]["code"], shop.model.asked) == ("retries_exhausted", [])


# ---- Content-Encoding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "utf-8", "aws-chunked", "gzip, gzip"])
async def test_a_plain_image_is_read_whatever_its_content_encoding_says(shop: Workshop, encoding: str) -> None:
    request = await put(shop, picture(), encoding=encoding)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    assert (await shop.result("a.png"))["image_sent"]["transformed"] is False


@pytest.mark.parametrize("encoding", ["gzip", ""])
@pytest.mark.parametrize("pack", [pytest.param(gzip.compress, id="gzip"), pytest.param(zlib.compress, id="zlib")])
async def test_a_compressed_image_is_unpacked_whatever_its_content_encoding_says(
    shop: Workshop, pack: Any, encoding: str
) -> None:
    request = await put(shop, pack(picture()), encoding=encoding or None)
    assert await shop.analyzer.analyze(request) is Outcome.SUCCEEDED
    result = await shop.result("a.png")
    assert (result["source"]["format"], result["image_sent"]["size_bytes"]) == ("png", len(picture()))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(gzip.compress(bytes(60_000_000)), "image_too_large", id="bomb"),
        pytest.param(gzip.compress(picture())[:-30], "corrupt_image", id="cut"),
        pytest.param(gzip.compress(b"hello, this is a text"), "unsupported_image", id="text"),
        pytest.param(b"x is the unknown here", "unsupported_image", id="begins nearly as zlib"),
        pytest.param(b"x^2 + y^2 = 1", "unsupported_image", id="begins as zlib"),
    ],
)
async def test_an_upload_that_cannot_be_unpacked_is_named(shop: Workshop, data: bytes, code: str) -> None:
    request = await put(shop, data, encoding="gzip")
    assert await shop.analyzer.analyze(request) is Outcome.FAILED
    assert (await shop.result("a.png"))["error"]["code"] == code


async def test_a_compressed_image_larger_than_the_first_read_is_unpacked(shop: Workshop) -> None:
    shop.settings = shop.settings.model_copy(update={"max_image_bytes": 20_000_000})
    noise = Image.frombytes("RGB", (2000, 2000), Random(1).randbytes(12_000_000))  # noqa: S311 - to fill a picture
    target = BytesIO()
    noise.save(target, "PNG")
    request = await put(shop, gzip.compress(target.getvalue(), 1), encoding="gzip")
    await shop.analyzer.analyze(request)
    result = await shop.result("a.png")
    assert (result["error"], result["status"]) == (None, "succeeded")


@pytest.mark.parametrize("name", ["a.png.instructions.txt", "_instructions.md"])
async def test_instruction_files_are_read_whatever_their_content_encoding_says(shop: Workshop, name: str) -> None:
    await shop.person.blobs.get_blob_client("shop-images", "a.png").upload_blob(picture())
    await put(shop, b"What is the total?", encoding="gzip", name=name)
    await shop.analyzer.analyze(Request(container="shop-images", name="a.png"))
    assert shop.model.asked == ["What is the total?"]


# ---- Blobs that are still being written ------------------------------------------------------------------------------


async def test_an_empty_blob_is_looked_at_again_before_it_fails(shop: Workshop) -> None:
    """Pyarrow and fsspec create a blob empty and fill it seconds later; the good result of the image that it replaces
    stays meanwhile.
    """
    shop.settings = shop.settings.model_copy(update={"settle_seconds": 2})
    request = await shop.drop("a.png")
    analyzer = shop.analyzer
    await analyzer.analyze(request)
    await put(shop, b"")
    with pytest.raises(NotSettled) as failed:
        await analyzer.analyze(request)
    assert 0 < (failed.value.retry_after or 0) <= 2
    assert (await shop.result("a.png"))["status"] == "succeeded"
    await asyncio.sleep(3)
    assert await analyzer.analyze(request) is Outcome.FAILED
    assert (await shop.result("a.png"))["error"]["code"] == "empty_blob"


async def test_an_append_blob_is_analyzed_once_it_has_not_grown_for_a_while(shop: Workshop) -> None:
    shop.settings = shop.settings.model_copy(update={"settle_seconds": 2})
    analyzer, data = shop.analyzer, picture()
    blob = shop.person.blobs.get_blob_client("shop-images", "a.png")
    await blob.create_append_blob(metadata={"instructions": "?"})
    request = Request(container="shop-images", name="a.png")
    for part in (data[:50], data[50:]):
        with pytest.raises(NotSettled):
            await analyzer.analyze(request)
        await blob.append_block(part)
    await asyncio.sleep(3)
    assert await analyzer.analyze(request) is Outcome.SUCCEEDED


# ---- Calls that time out ---------------------------------------------------------------------------------------------

SLOW = failing(TimedOut("The model did not answer within 120 seconds."))


async def deliver_until_the_end(shop: Workshop, governor: Governor, *, answered: bool) -> int:
    """Deliver an image whose calls time out; how often it was delivered, at most a hundred times."""
    queue = Queue()
    shop.queue = queue
    deliveries, request = shop.deliveries(governor), await shop.drop("a.png")

    async def time_out() -> None:
        if answered:
            async with governor.turn(Lane(shop.settings.openai_deployment)) as turn:
                turn.succeeded({})
        await SLOW()

    for number in range(1, 101):
        shop.model.behaviours.append(time_out)
        await deliveries.handle(request)
        if not queue.sent:
            return number
        ((request, delay),) = queue.sent
        queue.sent.clear()
        shop.time += timedelta(seconds=delay)
    return 101


async def test_an_image_that_times_out_while_others_are_answered_is_given_up_after_a_handful(
    shop: Workshop,
) -> None:
    governor = Governor(most_in_flight=8, patience=30)
    assert await deliver_until_the_end(shop, governor, answered=True) == MOST_TIME_OUTS
    error = (await shop.result("a.png"))["error"]
    assert (error["code"], error["details"]["attempts"]) == ("retries_exhausted", MOST_TIME_OUTS)
    assert "MODEL_TIMEOUT_SECONDS" in error["message"]


async def test_where_no_image_is_answered_it_is_an_outage_and_waits_as_long_as_any(shop: Workshop) -> None:
    governor = Governor(most_in_flight=8, patience=30)
    async with governor.turn(Lane(shop.settings.openai_deployment)) as turn:
        turn.succeeded({})  # before the outage
    assert 80 < await deliver_until_the_end(shop, governor, answered=False) <= 101


async def test_a_first_failed_call_counts_though_the_next_gets_no_turn(shop: Workshop) -> None:
    """See `AzureOpenAIModel.ask`: the failure is what the call met, not that there was no place for another."""
    request = await shop.drop("a.png")
    shop.model.behaviours.append(failing(RetryableFailure("The model failed (HTTP 500).", status=500)))
    await shop.deliveries().handle(request)
    ((later, _),) = shop.queue.sent
    assert later.attempt == 2
