"""Documents dropped like images: each ends in one result, with nothing left out silently and no page paid twice."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image
from support.documents import animation, pdf, tiff
from support.person import SCHEMA, People, Person
from support.pictures import picture
from support.terminal import blobsight

from localcloud.model import Answer, Asked, Hang, PromptFiltered


async def result_of(person: Person, name: str, data: bytes, **metadata: str) -> dict[str, Any]:
    """Drop a document; its result, which the published schema knows."""
    await person.drop(name, data, metadata)
    result = await person.result(name)
    jsonschema.validate(result, SCHEMA)
    return result


def asked_about(person: Person, question: str) -> list[Asked]:
    """What the model was asked with these instructions: pages are announced behind them."""
    return [asked for asked in person.cloud.model.history if asked.instructions.startswith(question)]


def numbers(result: dict[str, Any]) -> list[int]:
    return [page["number"] for page in result["pages_sent"]]


@pytest.mark.parametrize(
    ("name", "data", "of_source", "sent"),
    [
        ("three.pdf", pdf(["One", "Two", "Three"]), ("pdf", 3), [1, 2, 3]),
        ("one.pdf", pdf(["One"]), ("pdf", 1), [1]),
        ("fax.tif", tiff(["One", "Two", "Three"]), ("tiff", 3), [1, 2, 3]),
        ("one.tif", tiff(["One"]), ("tiff", 1), [1]),
        ("moving.gif", animation("GIF", 5), ("gif", 5), [1]),
        ("moving.webp", animation("WEBP", 4), ("webp", 4), [1]),
        ("moving.png", animation("PNG", 3), ("png", 3), [1]),
        ("moving.avif", animation("AVIF", 3), ("avif", 3), [1]),
        ("still.png", picture(), ("png", None), [1]),
    ],
)
async def test_all_pages_of_a_document_are_sent_and_the_first_frame_of_an_animation(
    person: Person, name: str, data: bytes, of_source: tuple[str, int | None], sent: list[int]
) -> None:
    question = f"What is in {name}?"
    result = await result_of(person, f"pages/{name}", data, instructions=question)
    assert (result["status"], result["error"]) == ("succeeded", None)
    assert (result["source"]["format"], result["source"]["pages"]) == of_source
    assert numbers(result) == sent
    assert (result["image_sent"]["width"] is None) == (len(sent) > 1)
    (asked,) = asked_about(person, question)
    assert len(asked.pictures) == len(sent)


async def test_the_pages_that_are_named_are_sent_in_that_order_and_announced(person: Person) -> None:
    data = pdf(["One", "Two", "Three", "Four"])
    result = await result_of(person, "pages/named.pdf", data, instructions="Which of the four?", pages="4,1-2")
    assert (numbers(result), result["source"]["pages"]) == ([4, 1, 2], 4)
    (asked,) = asked_about(person, "Which of the four?")
    assert len(asked.pictures) == 3
    assert [line for line in asked.instructions.splitlines() if line.startswith("Page")] == [
        "Page 4 of 4:",
        "Page 1 of 4:",
        "Page 2 of 4:",
    ]


async def test_a_frame_can_be_named_like_a_page(person: Person) -> None:
    result = await result_of(person, "pages/frame.gif", animation("GIF", 5), instructions="Frame?", pages="last")
    assert (numbers(result), result["source"]["pages"], result["image_sent"]["transformed"]) == ([5], 5, True)


@pytest.mark.parametrize(
    ("name", "data", "pages", "code", "said"),
    [
        ("many.pdf", pdf(["A"] * 11), "", "too_many_pages", "The file has 11 pages, and 11 of them"),
        ("many.tif", tiff(["A"] * 11), "", "too_many_pages", "The file has 11 pages, and 11 of them"),
        ("many.gif", animation("GIF", 12), "all", "too_many_pages", "The file has 12 frames, and 12 of them"),
        ("two.pdf", pdf(["A", "B"]), "3", "invalid_instructions", "'3' is not there: the pages are 1 to 2"),
        ("two.tif", tiff(["A", "B"]), "2-3", "invalid_instructions", "'2-3' is not there: the pages are 1 to 2"),
        ("two.gif", animation("GIF", 2), "7", "invalid_instructions", "'7' is not there: the frames are 1 to 2"),
        ("still.png", picture(), "2", "invalid_instructions", "'2' is not there: there is only one"),
        ("odd.png", picture(), "two", "invalid_instructions", "'pages' is 'two': it should be all, first, last"),
    ],
)
async def test_nothing_is_cut_and_nothing_is_paid_for_pages_that_are_not_there(
    person: Person, name: str, data: bytes, pages: str, code: str, said: str
) -> None:
    question = f"Not there in {name}?"
    metadata = {"instructions": question} | ({"pages": pages} if pages else {})
    result = await result_of(person, f"pages/not-there/{name}", data, **metadata)
    assert (result["error"]["code"], said in result["error"]["message"]) == (code, True), result["error"]["message"]
    assert (result["pages_sent"], asked_about(person, question)) == ([], [])


async def test_a_picture_that_is_there_twice_is_no_page(person: Person) -> None:
    """A TIFF's thumbnail."""
    target = io.BytesIO()
    large, small = Image.new("RGB", (400, 300), "navy"), Image.new("RGB", (40, 30), "navy")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(target, "TIFF", save_all=True, append_images=[small])
    result = await result_of(person, "pages/thumbnail.tif", target.getvalue(), instructions="Once?")
    assert (result["source"]["pages"], numbers(result)) == (1, [1])


# Each page a question of its own --------------------------------------------------------------------------------------


async def test_each_page_is_asked_about_by_itself(person: Person) -> None:
    data = pdf(["One", "Two", "Three"])
    result = await result_of(person, "pages/each.pdf", data, instructions="Each?", per_page="true", pages="3,1")
    assert (result["status"], numbers(result)) == ("succeeded", [3, 1])
    assert len(person.asked("Each?")) == 2
    answers = result["answer"]["pages"]
    assert [(answer["number"], answer["text"]) for answer in answers] == [
        (3, "You asked: Each?"),
        (1, "You asked: Each?"),
    ]
    assert result["answer"]["text"] == "You asked: Each?\n\nYou asked: Each?"
    assert result["usage"]["input_tokens"] == sum(answer["usage"]["input_tokens"] for answer in answers)
    assert result["model"]["request_id"] is None
    assert len({answer["request_id"] for answer in answers}) == 2


async def test_answers_are_exported_by_page(person: Person, tmp_path: Path) -> None:
    data = pdf(["One", "Two"])
    await result_of(person, "pages/export/a.pdf", data, instructions="Exported?", per_page="true")
    await result_of(person, "pages/export/b.png", picture(), instructions="Exported?")
    table = tmp_path / "answers.csv"
    ran = await blobsight(person, "results", "pages/export/", "--by-page", "-o", str(table))
    assert ran.status == 0, ran.talk
    with table.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["source.name"], row["page"], row["answer.text"]) for row in rows] == [
        ("pages/export/a.pdf", "1", "You asked: Exported?"),
        ("pages/export/a.pdf", "2", "You asked: Exported?"),
        ("pages/export/b.png", "", "You asked: Exported?"),
    ]
    of_one = await blobsight(person, "results", "pages/export/a.pdf", "--by-page")
    assert [json.loads(row)["page"] for row in of_one.out.splitlines()] == [1, 2]


async def test_a_page_that_fails_costs_only_itself_and_a_rerun_asks_only_about_it(person: Person) -> None:
    person.scripts["Fails?"].extend([Answer(), PromptFiltered()])
    result = await result_of(person, "pages/fails.pdf", pdf(["1", "2", "3"]), instructions="Fails?", per_page="true")
    assert (result["status"], result["error"]["code"]) == ("failed", "content_filtered")
    assert result["error"]["message"].startswith("1 of 3 pages have no answer. The first is page 2:")
    assert [answer["error"] and answer["error"]["code"] for answer in result["answer"]["pages"]] == [
        None,
        "content_filtered",
        None,
    ]
    assert len(person.asked("Fails?")) == 3
    ran = await blobsight(person, "retry", "pages/fails.pdf", "--yes")
    assert ran.status == 0, ran.talk
    async with asyncio.timeout(person.patience):
        while (result := await person.result("pages/fails.pdf"))["status"] == "failed":
            await asyncio.sleep(0.1)
    assert [answer["error"] for answer in result["answer"]["pages"]] == [None] * 3
    assert len(person.asked("Fails?")) == 4


@pytest.fixture(scope="module")
async def mortal(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with people(tmp_path_factory.mktemp("mortal"), {"LOCAL_HOST_HIDDEN_SECONDS": "3"}) as person:
        yield person


async def test_pages_that_were_paid_for_outlive_the_worker(mortal: Person) -> None:
    """The worker is killed while the third of four pages is asked about: the first two are not asked about again."""
    person = mortal
    person.scripts["Mortal?"].extend([Answer(), Answer(), Hang()])
    await person.drop("mortal.pdf", pdf(["1", "2", "3", "4"]), {"instructions": "Mortal?", "per_page": "true"})
    async with asyncio.timeout(person.patience):
        while len(person.asked("Mortal?")) < 3:
            await asyncio.sleep(0.05)
    await person.cloud.functions.kill()
    person.patience = 60
    result = await person.result("mortal.pdf")
    assert (result["status"], len(result["answer"]["pages"])) == ("succeeded", 4)
    assert len(person.asked("Mortal?")) == 5
