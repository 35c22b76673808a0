"""Detail `original`: images at the size that newer models look at, and what follows where a model does not take it."""

import io
import math
from collections.abc import AsyncIterator
from typing import Any, NoReturn, cast, get_args

import aiohttp
import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from support.documents import pdf
from support.person import SCHEMA, People, Person

from localcloud.model import Deployed
from pipeline.documents.choice import PageChoice
from pipeline.documents.facts import process_bytes
from pipeline.documents.pdf import render_pdf
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageLimits, PreparedImage, as_stored, convert, inspect
from pipeline.images.resolution import ORIGINAL, PATCH, STANDARD, of_detail, patches
from pipeline.model.azure_openai import AzureOpenAIModel
from pipeline.model.original import DeployedModels, DetailRefused, is_about_original, takes_original
from pipeline.model.question import Question
from pipeline.model.reasons import reason_in
from pipeline.pacing.gate import Busy
from pipeline.settings import Detail

SIDES = st.integers(1, 30_000)
BY_OPTION = Question("?", "vision", "", "original", 100)
BY_SETTING = Question("?", "vision", "", "original", 100, detail_by_setting=True)
LIMITS = ImageLimits(seen=ORIGINAL)
SMALL = Deployed("gpt-5.4-mini-2026-03-17", takes_original=False)
LARGE = Deployed("gpt-5.4-2026-03-05")


def flat(width: int, height: int, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("L", (width, height), 200).save(target, kind)
    return target.getvalue()


def film(width: int, height: int) -> bytes:
    """An animation of two frames."""
    target = io.BytesIO()
    frames = [Image.new("L", (width, height), grey) for grey in (50, 200)]
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    return target.getvalue()


# ---- Which models take it --------------------------------------------------------------------------------------------

MODELS = {
    True: (
        *("gpt-5.4", "GPT-5.4-2026-03-05", "gpt-5.5", "gpt-5.5-2026-04-23", "gpt-5.6-luna", "gpt-5.6-sol-2026-07-09"),
        *("gpt-5.6", "gpt-5.5-latest", " gpt-5.4 ", "openai/gpt-5.4"),
    ),
    False: (
        *(
            "gpt-5.4-mini",
            "gpt-5.4-nano-2026-03-17",
            "gpt-5",
            "gpt-5-mini",
            "gpt-5.1-2025-11-13",
            "gpt-5.2-chat-latest",
        ),
        *("gpt-5.3-codex", "gpt-4o-2024-08-06", "gpt-4.1-nano", "o4-mini", "o3", "o1-2024-12-17", "gpt-4"),
    ),
    None: ("gpt-6", "gpt-5.7-mini", "gpt-5.5-mini", "gpt-5.40", "qwen3-vl", "blobsight-local-ocr", "vision", "", None),
}


@pytest.mark.parametrize(("taken", "model"), [(taken, model) for taken, models in MODELS.items() for model in models])
def test_models_take_original_do_not_or_are_not_known(model: str | None, *, taken: bool | None) -> None:
    assert takes_original(model) is taken


def test_answers_replace_what_the_setting_says_of_a_deployment() -> None:
    deployed = DeployedModels("vision", "gpt-5.4-mini")
    with pytest.raises(PermanentFailure, match=r"'vision' \(gpt-5.4-mini\) does not take") as failed:
        deployed.require_taken(BY_OPTION)
    assert (failed.value.code, failed.value.details) == (
        ErrorCode.INVALID_INSTRUCTIONS,
        {"option": "detail", "deployment": "vision"},
    )
    with pytest.raises(DetailRefused, match="IMAGE_DETAIL is 'original'"):
        deployed.require_taken(BY_SETTING)
    deployed.learn("another", "gpt-5.5")
    deployed.learn("vision", None)
    with pytest.raises(DetailRefused):
        deployed.require_taken(BY_SETTING)
    for model in ("gpt-5.4-2026-03-05", "gpt-7"):
        deployed.learn("vision", model)
        deployed.require_taken(BY_OPTION)
        deployed.require_taken(BY_SETTING)
    deployed.learn("vision", "gpt-5.4-nano")
    deployed.require_taken(Question("?", "vision", "", "high", 100))
    deployed.require_taken(Question("?", "unheard of", "", "original", 100))


ABOUT_DETAIL = [
    b"""{"error": {"message": "Invalid value: 'original'. Supported values are: 'low', 'high', and 'auto'.",
    "type": "invalid_request_error", "param": "messages[1].content[1].image_url.detail", "code": "invalid_value"}}""",
    b"""{"error": {"type": "invalid_request_error", "message": "Unsupported Responses image detail: original"}}""",
    b"""{"detail": [{"loc": ["body", "messages", 1, "image_url", "detail"], "msg": "Input should be 'auto'"}]}""",
]


@pytest.mark.parametrize("body", ABOUT_DETAIL)
def test_a_refusal_of_the_detail_is_recognised(body: bytes) -> None:
    reason = reason_in(400, {}, body, BY_OPTION)
    assert is_about_original(reason, BY_OPTION)
    assert not is_about_original(reason, Question("?", "vision", "", "high", 100))
    assert not is_about_original(reason_in(500, {}, body, BY_OPTION), BY_OPTION)


def test_a_refusal_of_something_else_is_not_taken_for_one_of_the_detail() -> None:
    body = b'{"error": {"message": "Invalid image data. For more detail see the guide.", "param": "messages"}}'
    assert not is_about_original(reason_in(400, {}, body, BY_OPTION), BY_OPTION)


# ---- What is sent ----------------------------------------------------------------------------------------------------


@given(SIDES, SIDES)
@example(6195, 1795)
def test_what_is_sent_is_not_scaled_again_and_no_smaller_than_it_has_to_be(width: int, height: int) -> None:
    wide, high = ORIGINAL.fitted(width, height)
    assert patches(wide, high) <= 10_000
    assert max(wide, high) <= 6_000
    assert ORIGINAL.holds(wide, high)
    if (wide, high) == (width, height):
        return
    off = wide - width * high / height, high - height * wide / width
    # Rounded to the longest side, by half a pixel, and cut to the patches, by one.
    assert abs(off[0]) <= 1.5 * (1 + wide / high) or abs(off[1]) <= 1.5 * (1 + high / wide)
    larger = 1 + 2 * PATCH / min(wide, high)  # the guide's arithmetic goes by whole patches on either side
    assert max(wide, high) >= 5_999 or patches(math.ceil(wide * larger), math.ceil(high * larger)) > 10_000


@given(SIDES, SIDES)
def test_the_other_details_are_sent_at_2048_pixels(width: int, height: int) -> None:
    assert {of_detail(detail) for detail in get_args(Detail.__value__) if detail != "original"} == {STANDARD}
    assert max(STANDARD.fitted(width, height)) == min(2048, max(width, height))
    assert of_detail("original") is ORIGINAL


def test_an_image_that_fits_is_sent_untouched_and_another_is_scaled_to_what_is_seen() -> None:
    page = flat(2480, 3508)
    assert not inspect(page, ImageLimits()).sendable
    assert as_stored(page, inspect(page, LIMITS)).data is page
    for data, size in ((flat(9_000, 90, "BMP"), (6_000, 60)), (flat(4_000, 4_000, "TIFF"), (3_200, 3_200))):
        prepared = convert(data, inspect(data, LIMITS), LIMITS)
        assert (prepared.width, prepared.height, prepared.transformed) == (*size, True)


async def test_a_page_is_drawn_at_300_dots_an_inch_or_as_large_as_it_is_seen() -> None:
    sizes = []
    for box in ((595, 842), (3370, 2384), (14_400, 60)):
        rendering = await render_pdf(pdf(["A"], box=box), PageChoice.parse("all"), 1, seen=ORIGINAL)
        (page,) = rendering.pages.sent
        assert ORIGINAL.holds(page.image.width, page.image.height)
        sizes.append((page.image.width, page.image.height))
    assert sizes == [(2480, 3509), (3775, 2671), (6000, 25)]


async def test_drawing_larger_pages_takes_no_more_memory_than_is_held_for_it() -> None:
    usual = 80 * 1024 * 1024
    for seen in (STANDARD, ORIGINAL):
        memory = usual + process_bytes(seen) - process_bytes(STANDARD)
        assert await render_pdf(pdf(["A"], box=(3370, 2384)), PageChoice.parse("all"), 1, memory, seen)
    with pytest.raises(PermanentFailure, match="more memory than the app has"):
        await render_pdf(pdf(["A"], box=(3370, 2384)), PageChoice.parse("all"), 1, usual, ORIGINAL)


class Toll:
    """A governor that lets no call through, and remembers what each would have cost."""

    def __init__(self) -> None:
        self.costs: list[int] = []

    def turn(self, _deployment: str, cost: int) -> NoReturn:
        self.costs.append(cost)
        raise Busy("Not now.")


async def test_the_governor_hears_of_an_images_patches() -> None:
    async def token() -> str:
        return ""

    toll = Toll()
    model = AzureOpenAIModel("https://ai.openai.azure.com", token, 1, cast("Any", toll))
    details: tuple[Detail, ...] = ("high", "original")
    for detail in details:
        question = Question("?", "vision", "", detail, 100)
        for width, height in ((3200, 3200), (64, 64)):
            with pytest.raises(Busy):
                await model.ask(question, PreparedImage(b"image", "png", width, height, transformed=False))
    await model.close()
    assert toll.costs == [1_100, 1_100, 10_100, 1_100]


# ---- Through the worker ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "pages", "size", "transformed"),
    [
        ("original/a.png", flat(2480, 350), "all", (2480, 350), False),
        ("original/a.tif", flat(4_100, 410, "TIFF"), "all", (4_100, 410), True),
        ("original/a.gif", film(2_400, 24), "2", (2_400, 24), True),
        ("original/a.pdf", pdf(["Small print"], box=(1440, 144)), "all", (6_000, 600), True),
    ],
)
async def test_an_image_is_sent_larger_with_original(
    person: Person, name: str, data: bytes, pages: str, size: tuple[int, int], *, transformed: bool
) -> None:
    asked = f"What does the small print of {name} say?"
    await person.drop(name, data, {"instructions": asked, "detail": "original", "pages": pages})
    result = await person.result(name)
    jsonschema.validate(result, SCHEMA)
    assert result["status"] == "succeeded"
    sent = result["image_sent"]
    assert (sent["width"], sent["height"], sent["transformed"], sent["detail"]) == (*size, transformed, "original")
    (call,) = (call for call in person.cloud.model.history if call.instructions.startswith(asked))
    (picture,) = call.pictures
    assert (picture.width, picture.height, picture.detail) == (*size, "original")
    assert result["usage"]["input_tokens"] >= patches(*size)


@pytest.fixture(scope="module")
async def wrong(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    """A cloud whose operator wants `original` of a model that does not take it, and does not say which that is."""
    async with people(tmp_path_factory.mktemp("wrong"), {"IMAGE_DETAIL": "original"}) as person:
        person.cloud.model.deployed = SMALL
        person.patience = 60
        yield person


async def test_a_wrong_option_is_invalid_instructions_and_a_wrong_setting_waits_until_it_is_mended(
    wrong: Person,
) -> None:
    # Nothing is known of the model yet: it is asked, and the service refuses.
    await wrong.drop("asked.png", flat(80, 60), {"instructions": "By option?", "detail": "original"})
    error = (await wrong.result("asked.png"))["error"]
    assert (error["code"], error["details"]["option"]) == ("invalid_instructions", "detail")
    assert "Write auto, low or high" in error["message"]
    assert "Invalid value: 'original'" in error["message"]
    await wrong.drop("setting.png", flat(80, 60), {"instructions": "By setting?"})
    await wrong.logged("IMAGE_DETAIL is 'original', which the model of the deployment 'vision' does not take.")
    # An answer says which model it is: then nothing is asked in vain.
    await wrong.drop("low.png", flat(80, 60), {"instructions": "Low?", "detail": "low"})
    assert (await wrong.result("low.png"))["model"]["model"] == SMALL.name
    await wrong.drop("known.png", flat(80, 60), {"instructions": "Known?", "detail": "original"})
    known = await wrong.result("known.png")
    assert known["error"]["code"] == "invalid_instructions"
    assert f"({SMALL.name})" in known["error"]["message"]
    assert known["usage"]["input_tokens"] is None
    assert "It says" not in known["error"]["message"]
    # By HTTP nothing can wait: it is the operator's to mend.
    functions = wrong.cloud.functions
    headers = {"x-functions-key": functions.function_key}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{functions.url}/api/process_image", data=flat(80, 60), headers=headers) as answer,
    ):
        assert (answer.status, "IMAGE_DETAIL is 'original'" in await answer.text()) == (502, True)
    assert await wrong.result_names("setting.png") == []
    await wrong.cloud.functions.change_settings({"IMAGE_DETAIL": "high"})
    result = await wrong.result("setting.png")
    assert (result["status"], result["image_sent"]["detail"]) == ("succeeded", "high")


async def test_a_waiting_image_goes_on_once_a_model_that_takes_it_is_deployed(wrong: Person) -> None:
    wrong.cloud.model.deployed = SMALL
    since = wrong.log.stat().st_size
    await wrong.cloud.functions.change_settings({"IMAGE_DETAIL": "original", "AZURE_OPENAI_MODEL": SMALL.name})
    await wrong.drop("waits.png", flat(2480, 90), {"instructions": "Waits?"})
    await wrong.logged(f"'vision' ({SMALL.name}) does not take. Set it to", since=since)
    assert wrong.asked("Waits?") == []
    wrong.cloud.model.deployed = LARGE
    await wrong.drop("tells.png", flat(80, 60), {"instructions": "Tells?", "detail": "auto"})
    await wrong.result("tells.png")
    result = await wrong.result("waits.png")
    assert (result["status"], result["image_sent"]["width"], result["model"]["model"]) == (
        "succeeded",
        2480,
        LARGE.name,
    )
