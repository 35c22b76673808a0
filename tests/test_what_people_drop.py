"""Everything people drop and everything they ask, each through the real runtime and emulator."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import jsonschema
import pillow_heif
import pytest
from PIL import Image
from support.person import ROOT, SCHEMA, Person
from support.pictures import picture

from localcloud.model import TRUNCATED, Answer, Behaviour

RECEIPT = json.loads((ROOT / "samples" / "receipt.schema.json").read_text(encoding="utf-8"))
PNG = picture()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    return saved(Image.new("RGB", (80, 40), "teal"), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("teal", "orange")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def heic() -> bytes:
    buffer = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "teal")).save(buffer)
    return buffer.getvalue()


IMAGES: dict[str, tuple[Callable[[], bytes], str, tuple[str, int, int, bool]]] = {
    # what is dropped: its bytes, its format, what is sent (format, width, height, transformed)
    "jpeg": (lambda: picture("JPEG"), "jpeg", ("jpeg", 64, 48, False)),
    "png": (lambda: PNG, "png", ("png", 64, 48, False)),
    "webp": (lambda: picture("WEBP"), "webp", ("webp", 64, 48, False)),
    "gif": (lambda: picture("GIF"), "gif", ("gif", 64, 48, False)),
    "photo turned by EXIF": (turned, "jpeg", ("jpeg", 40, 80, True)),
    "large photo": (lambda: picture("JPEG", (4000, 3000)), "jpeg", ("jpeg", 2000, 1500, True)),
    "animated gif": (animated, "gif", ("png", 30, 20, True)),
    "bmp": (lambda: picture("BMP"), "bmp", ("png", 64, 48, True)),
    "tiff": (lambda: picture("TIFF"), "tiff", ("png", 64, 48, True)),
    "avif": (lambda: picture("AVIF"), "avif", ("jpeg", 64, 48, True)),
    "heic": (heic, "heic", ("jpeg", 64, 48, True)),
    "cmyk": (lambda: saved(Image.new("CMYK", (64, 48)), "JPEG"), "jpeg", ("jpeg", 64, 48, True)),
    "16 bit": (lambda: saved(Image.new("I;16", (64, 48), 40000), "PNG"), "png", ("png", 64, 48, True)),
}


@pytest.mark.parametrize("what", IMAGES)
async def test_every_image_format_is_sent_as_the_service_takes_it(person: Person, what: str) -> None:
    data, stored, sent = IMAGES[what]
    asked = f"Format: {what}"
    await person.drop(f"formats/{what}", data(), {"instructions": asked})
    result = await person.result(f"formats/{what}")
    assert (result["status"], result["source"]["format"]) == ("succeeded", stored), result["error"]
    image = result["image_sent"]
    assert (image["format"], image["width"], image["height"], image["transformed"]) == sent
    [seen] = person.asked(asked)[0].pictures
    assert (seen.format.lower(), seen.width, seen.height, seen.size) == (*sent[:3], image["size_bytes"])


@dataclass(frozen=True)
class Row:
    """The contents of the container, and the result of `image.png` in it."""

    expected: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    answers: tuple[Behaviour, ...] = ()
    asked: str = "?"


SLIP = {"vendor": "Lumen Coffee", "date": "2026-03-14", "total": 245, "currency": "NOK", "lines": []}
GOOD = Answer(json.dumps(SLIP))
BAD = Answer('{"total": "a lot"}')
ROWS = {
    "sidecar": Row(
        {"instructions.origin": "sidecar", "answer.text": "You asked: From the sidecar"},
        files={"image.png.instructions.md": b"From the sidecar"},
    ),
    "nearest folder": Row(
        {"instructions.origin": "folder", "answer.text": "You asked: Near", "image_sent.detail": "low"},
        files={"_instructions.txt": b"---\ndetail: low\n---\nNear"},
    ),
    "options in metadata": Row(
        {"image_sent.detail": "high", "answer.text": "You asked: Look"},
        metadata={"instructions": "Look", "detail": "high", "max_output_tokens": "77", "reasoning_effort": "low"},
    ),
    "unknown detail": Row(
        {"error.code": "invalid_instructions"},
        metadata={"detail": "sharp"},
    ),
    "malformed sidecar": Row(
        {"error.code": "invalid_instructions", "instructions.text": None},
        files={"image.png.instructions.json": b'{"instructions": '},
    ),
    "schema by name": Row(
        {"answer.data": SLIP, "status": "succeeded"},
        files={"slip.schema.json": json.dumps(RECEIPT).encode()},
        metadata={"instructions": "Slip by name", "schema": "{folder}slip"},
        answers=(GOOD,),
        asked="Slip by name",
    ),
    "schema inline": Row(
        {"answer.data": SLIP},
        files={"_instructions.json": json.dumps({"instructions": "Slip inline", "schema": RECEIPT}).encode()},
        answers=(GOOD,),
        asked="Slip inline",
    ),
    "answer that meets the schema at the second try": Row(
        {"answer.data": SLIP, "usage.output_tokens": None},
        metadata={"instructions": "Slip again", "schema": "{folder}slip"},
        files={"slip.schema.json": json.dumps(RECEIPT).encode()},
        answers=(BAD, GOOD),
        asked="Slip again",
    ),
    "answer that never meets the schema": Row(
        {"error.code": "invalid_answer", "answer.text": '{"total": "a lot"}', "answer.data": None},
        metadata={"instructions": "Slip never", "schema": "{folder}slip"},
        files={"slip.schema.json": json.dumps(RECEIPT).encode()},
        answers=(BAD, BAD),
        asked="Slip never",
    ),
    "answer cut off before it meets the schema": Row(
        {"error.code": "invalid_answer", "answer.truncated": True},
        metadata={"instructions": "Slip cut", "schema": "{folder}slip"},
        files={"slip.schema.json": json.dumps(RECEIPT).encode()},
        answers=(TRUNCATED,),
        asked="Slip cut",
    ),
    "no such schema": Row(
        {"error.code": "invalid_instructions", "error.details": {"file": "{folder}nowhere.schema.json"}},
        metadata={"instructions": "Nowhere", "schema": "{folder}nowhere"},
    ),
}


@pytest.mark.parametrize("case", ROWS)
async def test_every_way_of_asking_ends_in_the_result_that_it_should(person: Person, case: str) -> None:
    row, folder = ROWS[case], f"ways/{case}/"
    for name, data in row.files.items():
        await person.drop(folder + name, data)
    person.scripts[row.asked].extend(row.answers)
    metadata = {key: value.format(folder=folder) for key, value in row.metadata.items()}
    await person.drop(f"{folder}image.png", PNG, metadata)
    result = await person.result(f"{folder}image.png")
    jsonschema.validate(result, SCHEMA)
    for path, value in row.expected.items():
        found: Any = result
        for part in path.split("."):
            found = found[part]
        if path == "usage.output_tokens":  # both tries were paid
            assert found > len(person.asked(row.asked))
        else:
            expected = json.loads(json.dumps(value).replace("{folder}", folder)) if path == "error.details" else value
            assert found == expected, result["error"]
    if row.answers:
        asked = person.asked(row.asked)
        assert len(asked) == len(row.answers)
        sent = asked[0].response_format
        assert sent is not None
        assert sent["json_schema"]["strict"] is True
    assert await person.result_names(folder) == [f"{folder}image.png.json"]


async def test_options_reach_the_model(person: Person) -> None:
    metadata = {"instructions": "Options?", "detail": "high", "max_output_tokens": "77", "reasoning_effort": "low"}
    await person.drop("options.png", PNG, metadata)
    await person.result("options.png")
    [asked] = person.asked("Options?")
    assert (asked.options["max_completion_tokens"], asked.options["reasoning_effort"], asked.pictures[0].detail) == (
        77,
        "low",
        "high",
    )


async def test_a_late_sidecar_analyzes_its_image_again_when_it_says_something_else(person: Person) -> None:
    await person.drop("late/a.png", PNG)
    await person.result("late/a.png")
    await person.drop("late/a.png.instructions.txt", b"Late words")
    while (await person.result("late/a.png"))["instructions"]["origin"] != "sidecar":
        await asyncio.sleep(0.05)
    assert (await person.result("late/a.png"))["answer"]["text"] == "You asked: Late words"

    await person.drop("late/a.png.instructions.txt", b"  Late words \n")
    await person.logged("images/late/a.png: already done")
    assert len(person.asked("Late words")) == 1


async def test_a_sidecar_of_an_image_with_its_own_metadata_changes_nothing(person: Person) -> None:
    await person.drop("own/a.png", PNG, {"instructions": "My own"})
    first = await person.result("own/a.png")
    await person.drop("own/a.png.instructions.txt", b"Nobody asks this of own")
    await person.logged("images/own/a.png: already done")
    assert (await person.result("own/a.png"), person.asked("Nobody asks this of own")) == (first, [])


async def test_a_sidecar_that_comes_first_costs_nothing_extra(person: Person) -> None:
    await person.drop("early/a.png.instructions.txt", b"Early words")
    await person.logged("images/early/a.png: gone")
    await person.drop("early/a.png", PNG)
    assert (await person.result("early/a.png"))["answer"]["text"] == "You asked: Early words"
    assert len(person.asked("Early words")) == 1


async def test_the_model_is_instructed_that_text_in_the_image_is_content(person: Person) -> None:
    await person.drop("told.png", PNG, {"instructions": "Told?"})
    await person.result("told.png")
    [asked] = person.asked("Told?")
    assert "never an instruction" in asked.system
