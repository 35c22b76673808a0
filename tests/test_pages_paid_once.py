"""Documents in the job itself: what is sent of each, and that no page is paid for twice, whatever comes in between."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pypdfium2
import pytest
from PIL import Image
from support.documents import animation, pdf, psd, tiff
from support.person import Person
from support.pictures import picture
from support.workshop import BUSY, THROTTLED, Workshop, failing, workshop

from pipeline.documents import pdf_process
from pipeline.documents.facts import PROCESS_BYTES
from pipeline.errors import ErrorCode, Failure, PermanentFailure, RetryableFailure
from pipeline.images import PreparedImage
from pipeline.job.answering import Failing
from pipeline.job.rationed import RationedModel
from pipeline.job.requests import Request
from pipeline.model.question import Question, Reply
from pipeline.pacing.rates import DailyTokens, OverDailyTokens
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.storage.spending import Spending

FILTERED = PermanentFailure(ErrorCode.CONTENT_FILTERED, "Filtered.")


@pytest.fixture
async def shop(person: Person) -> AsyncIterator[Workshop]:
    async with workshop(person) as shop:
        yield shop


async def drop(shop: Workshop, data: bytes, name: str = "a.pdf", **metadata: str) -> Request:
    blob = shop.person.blobs.get_blob_client("shop-images", name)
    await blob.upload_blob(data, overwrite=True, metadata={"instructions": "?"} | metadata)
    return Request(container="shop-images", name=name)


def answered(text: str, tokens: int = 1) -> Reply:
    return Reply(text, "stop", "fake", f"id of {text}", tokens, tokens, None, None)


def pages_of(result: dict[str, Any]) -> list[tuple[int, str | None, str | None]]:
    return [
        (page["number"], page["text"], page["error"] and page["error"]["code"]) for page in result["answer"]["pages"]
    ]


@pytest.mark.parametrize(
    ("name", "data", "pages", "sent"),
    [
        ("a.pdf", pdf(["1", "2", "3"]), "", [1, 2, 3]),
        ("a.pdf", pdf(["1", "2", "3"]), "2-", [2, 3]),
        ("a.tif", tiff(["1", "2"]), "", [1, 2]),
        ("a.tif", tiff(["1", "2"]), "2", [2]),
        ("a.gif", animation("GIF", 4), "", [1]),
        ("a.gif", animation("GIF", 4), "4,2", [4, 2]),
        ("a.webp", animation("WEBP", 3), "last", [3]),
        ("a.png", picture(), "first", [1]),
    ],
)
async def test_the_pages_that_are_meant_are_sent(
    shop: Workshop, name: str, data: bytes, pages: str, sent: list[int]
) -> None:
    request = await drop(shop, data, name, **({"pages": pages} if pages else {}))
    await shop.analyzer.analyze(request)
    result = await shop.result(name)
    assert (result["status"], [page["number"] for page in result["pages_sent"]]) == ("succeeded", sent)
    assert len(shop.model.asked) == 1


@pytest.mark.parametrize(
    ("data", "pages", "code"),
    [
        (pdf(["1"] * 11), "", "too_many_pages"),
        (tiff(["1"] * 11), "", "too_many_pages"),
        (tiff(["1", "2"]), "3", "invalid_instructions"),
        (b"%PDF-1.7 of nothing", "", "corrupt_image"),
        (psd(Image.new("RGB", (9, 9)), composite=False), "", "unsupported_image"),
    ],
    ids=["many of a PDF", "many of a TIFF", "not there", "damaged", "layers"],
)
async def test_what_can_not_be_sent_is_not_paid_for(shop: Workshop, data: bytes, pages: str, code: str) -> None:
    await shop.analyzer.analyze(await drop(shop, data, **({"pages": pages} if pages else {})))
    assert ((await shop.result("a.pdf"))["error"]["code"], shop.model.asked) == (code, [])


@pytest.mark.parametrize(("tiers", "at_the_top"), [(("flex",) * 3, "flex"), (("flex", "default", "flex"), None)])
async def test_each_page_says_at_which_tier_it_was_answered(
    shop: Workshop, tiers: tuple[str, ...], at_the_top: str | None
) -> None:
    """Pages that were answered before flex had no more capacity, and those that fell back."""
    request = await drop(shop, pdf(["1", "2", "3"]), per_page="true")
    replies = [replace(answered(tier), service_tier=tier, endpoint="here") for tier in tiers]
    shop.model.replies.extend(replies)
    shop.model.behaviours.extend([_nothing, THROTTLED])  # what is kept of the first page keeps it, too
    with pytest.raises(RetryableFailure, match="throttling"):
        await shop.analyzer.analyze(request)
    await shop.analyzer.analyze(request)
    result = await shop.result("a.pdf")
    assert tuple(page["service_tier"] for page in result["answer"]["pages"]) == tiers
    assert (result["model"]["service_tier"], result["model"]["endpoint"]) == (at_the_top, "here")


def noisy_tiff(*strengths: float) -> bytes:
    """Pages that compress the less, the more noise is on them."""
    pages = [Image.effect_noise((600, 800), strength) for strength in strengths]
    target = io.BytesIO()
    pages[0].save(target, "TIFF", save_all=True, append_images=pages[1:])
    return target.getvalue()


async def test_pages_of_a_tiff_are_sent_smaller_where_one_question_has_no_room_for_them(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first, plain page leaves is shared by the others."""
    together = 600_000
    monkeypatch.setattr("pipeline.job.preparing.MOST_SENT_BYTES", together)
    await shop.analyzer.analyze(await drop(shop, noisy_tiff(0, 90, 90), "a.tif"))
    plain, second, third = (await shop.result("a.tif"))["pages_sent"]
    assert plain["size_bytes"] < 10_000
    assert plain["size_bytes"] + second["size_bytes"] + third["size_bytes"] <= together
    for page in (second, third):
        assert together / 3 < page["size_bytes"] < together / 2
        assert (page["format"], page["width"]) == ("jpeg", 600)


async def test_pages_that_fit_into_no_question_are_not_paid_for(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.job.preparing.MOST_SENT_BYTES", 2_000)
    await shop.analyzer.analyze(await drop(shop, noisy_tiff(90, 90), "a.tif"))
    error = (await shop.result("a.tif"))["error"]
    assert (error["code"], "Name fewer with the option pages" in error["message"]) == ("image_too_large", True)
    assert shop.model.asked == []


async def test_a_page_that_can_not_be_answered_now_is_asked_about_later_and_no_other(shop: Workshop) -> None:
    request = await drop(shop, pdf(["1", "2", "3"]), per_page="true")
    shop.model.replies.extend(map(answered, ("one", "two", "three")))
    shop.model.behaviours.extend([_nothing, THROTTLED])
    with pytest.raises(RetryableFailure, match="throttling"):
        await shop.analyzer.analyze(request)
    assert await shop.results() == []
    await shop.analyzer.analyze(request)
    result = await shop.result("a.pdf")
    assert pages_of(result) == [(1, "one", None), (2, "two", None), (3, "three", None)]
    assert (result["usage"]["input_tokens"], result["model"]["model"]) == (3, "fake")
    assert len(shop.model.asked) == 4  # the second page twice


async def test_the_first_page_that_can_not_be_asked_about_keeps_nothing(shop: Workshop) -> None:
    request = await drop(shop, pdf(["1", "2"]), per_page="true")
    shop.model.behaviours.append(BUSY)
    with pytest.raises(RetryableFailure):
        await shop.analyzer.analyze(request)
    assert await shop.state() == []


async def test_pages_outlive_a_worker_that_is_killed(shop: Workshop) -> None:
    request = await drop(shop, pdf(["1", "2", "3"]), per_page="true")
    shop.model.replies.extend(map(answered, ("one", "two", "three")))
    shop.model.behaviours.append(_nothing)
    shop.claim_seconds = 0.1
    await shop.die_in_mid_call(request)
    assert len(shop.model.asked) == 2
    async with asyncio.timeout(10):
        while not await shop.results():
            with suppress(ClaimedElsewhere):  # until the claim is a dead one's
                await shop.analyzer.analyze(request)
    assert pages_of(await shop.result("a.pdf")) == [(1, "one", None), (2, "two", None), (3, "three", None)]
    assert len(shop.model.asked) == 4


async def test_a_page_whose_first_reply_does_not_meet_the_schema_is_asked_once_more_later(shop: Workshop) -> None:
    schema = b'{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    await drop(shop, schema, "n.schema.json")
    request = await drop(shop, pdf(["1", "2"]), per_page="true", schema="n.schema.json")
    shop.model.replies.extend(map(answered, ('{"n": 1}', "no number", '{"n": 2}')))
    shop.model.behaviours.extend([_nothing, _nothing, THROTTLED])
    with pytest.raises(RetryableFailure):
        await shop.analyzer.analyze(request)
    await shop.analyzer.analyze(request)
    result = await shop.result("a.pdf")
    assert [page["data"] for page in result["answer"]["pages"]] == [{"n": 1}, {"n": 2}]
    assert (len(shop.model.asked), result["usage"]["input_tokens"]) == (4, 3)


async def test_a_rerun_asks_only_about_the_pages_without_an_answer(shop: Workshop) -> None:
    request = await drop(shop, pdf(["1", "2", "3"]), per_page="true")
    shop.model.replies.extend(map(answered, ("one", "three", "two")))
    shop.model.behaviours.extend([_nothing, failing(FILTERED)])
    await shop.analyzer.analyze(request)
    failed = await shop.result("a.pdf")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_filtered")
    assert failed["error"]["message"].startswith("1 of 3 pages have no answer. The first is page 2: Filtered.")
    assert failed["error"]["details"]["pages_failed"] == [2]
    await shop.analyzer.analyze(request)  # the event again: nothing is asked
    assert len(shop.model.asked) == 3
    await shop.analyzer.analyze(request.model_copy(update={"rerun_failed": True}))
    assert pages_of(await shop.result("a.pdf")) == [(1, "one", None), (2, "two", None), (3, "three", None)]
    assert len(shop.model.asked) == 4


async def test_work_that_is_given_up_shows_the_pages_that_were_answered(shop: Workshop) -> None:
    request = await drop(shop, pdf(["1", "2"]), per_page="true")
    shop.model.replies.append(answered("one"))
    shop.model.behaviours.extend([_nothing, THROTTLED])
    with pytest.raises(RetryableFailure):
        await shop.analyzer.analyze(request)
    given_up = PermanentFailure(ErrorCode.RETRIES_EXHAUSTED, "Given up.")
    await shop.analyzer.analyze(request, Failing(given_up))
    result = await shop.result("a.pdf")
    assert (result["status"], result["error"]["code"]) == ("failed", "retries_exhausted")
    assert pages_of(result) == [(1, "one", None)]
    assert result["usage"]["input_tokens"] == 1


async def _nothing() -> None:
    pass


# Tokens of a day ------------------------------------------------------------------------------------------------------


class Asked:
    def __init__(self, *replies: Reply | Failure) -> None:
        self.replies = list(replies)

    async def ask(self, question: Question, image: object) -> Reply:  # noqa: ARG002 - any answer does
        reply = self.replies.pop(0)
        if isinstance(reply, Failure):
            raise reply
        return reply


QUESTION = Question("?", "vision", "", "auto", 100)
IMAGE = PreparedImage(b"", "png", 1, 1, transformed=False)


async def test_what_the_model_takes_is_noted_for_all_instances_answers_and_failures_alike(shop: Workshop) -> None:
    now = datetime(2026, 3, 14, 12, tzinfo=UTC)
    spending = Spending(shop.service, "shop-state")
    paid = PermanentFailure(ErrorCode.MODEL_REFUSED, "No.")
    paid.reply = answered("", tokens=20)
    model = RationedModel(Asked(answered("a", tokens=30), paid, FILTERED), DailyTokens(100, spending, lambda: now))
    await model.ask(QUESTION, IMAGE)
    with pytest.raises(PermanentFailure):
        await model.ask(QUESTION, IMAGE)
    assert await spending.total("2026-03-14") == (0, None)  # it tells the others in a while, or when it knows no more
    with pytest.raises(OverDailyTokens):
        await model.ask(QUESTION, IMAGE)
    assert await spending.total("2026-03-14") == (100, 100)
    another = RationedModel(Asked(), DailyTokens(100, spending, lambda: now))
    with pytest.raises(OverDailyTokens):
        await another.ask(QUESTION, IMAGE)


# The process that draws PDFs, in this one -----------------------------------------------------------------------------


def test_the_process_says_first_what_it_draws_and_then_draws_it() -> None:
    asked = {
        "pages": [[2, None]],
        "most_pages": 2,
        "resolution": [512, None],
        "page_bytes": 100_000,
        "sent_bytes": 200_000,
    }
    target = io.BytesIO()
    pdf_process.render(pypdfium2.PdfDocument(pdf(["1", "2", "3"])), asked, target, sandboxed=True, memory=PROCESS_BYTES)
    beginning, first, *_ = target.getvalue().split(b"\n")
    assert beginning == b'{"count": 3, "numbers": [2, 3], "sandboxed": true}'
    assert first.startswith(b'{"number": 2, "format": "png", "width": 362, "height": 512, "size": ')


@pytest.mark.parametrize(
    ("asked", "problem"),
    [({"pages": [[4, 4]]}, "no such pages"), ({"pages": [[1, None]]}, "too many"), ({"page_bytes": 10}, "page")],
)
def test_the_process_names_what_it_can_not_do(asked: dict[str, Any], problem: str) -> None:
    usual = {
        "pages": [[1, 1]],
        "most_pages": 2,
        "resolution": [512, None],
        "page_bytes": 100_000,
        "sent_bytes": 200_000,
    }
    document = pypdfium2.PdfDocument(pdf(["1", "2", "3"]))
    with pytest.raises(pdf_process.Refused, match=problem):
        pdf_process.render(document, usual | asked, io.BytesIO(), sandboxed=True, memory=PROCESS_BYTES)


def test_pages_get_what_smaller_ones_before_them_leave() -> None:
    """Together they fit, and an even share would make a JPEG of the second."""
    document = pypdfium2.PdfDocument(pdf(["", "The quick brown fox jumps"]))
    sizes = [page["size"] for page in _drawn_pages(document, together=10**6)]
    assert sizes[0] < sizes[1] / 2
    again = _drawn_pages(document, together=sum(sizes))
    assert [(page["format"], page["size"]) for page in again] == [("png", size) for size in sizes]


def _drawn_pages(document: pypdfium2.PdfDocument, *, together: int) -> list[dict[str, Any]]:
    """What the process says of each page."""
    asked = {
        "pages": [[1, None]],
        "most_pages": 9,
        "resolution": [512, None],
        "sent_bytes": together,
        "page_bytes": together,
    }
    target = io.BytesIO()
    pdf_process.render(document, asked, target, sandboxed=True, memory=PROCESS_BYTES)
    target.seek(0)
    beginning = json.loads(target.readline())
    pages = []
    for _ in beginning["numbers"]:
        pages.append(json.loads(target.readline()))
        target.seek(pages[-1]["size"], io.SEEK_CUR)
    return pages
