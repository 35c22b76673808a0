"""`blobsight estimate`: what images will cost, before anything is paid."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from azure.storage.blob.aio import ContainerClient
from support.documents import pdf, tiff
from support.person import Person
from support.pictures import picture
from support.some_results import failed, put_result, result_of
from support.terminal import blobsight

from blobsight.account import Place
from blobsight.estimate.estimating import ASSUMED_OUTPUT, SAMPLE, Assumptions, estimate_blobs, estimated
from blobsight.estimate.experience import learned
from blobsight.estimate.lanes import Quotas, _said, lanes_of
from blobsight.estimate.measuring import HEADS, Size, file_sizes
from blobsight.estimate.ranges import Range
from blobsight.estimate.text_tokens import MESSAGE_FORMAT, text_tokens
from blobsight.local_files import LocalFile
from pipeline.settings import DEFAULT_SYSTEM_PROMPT, ServiceTier
from pipeline.storage.listing import list_page

SQUARE = 630
"""Tokens of 1024 x 1024 pixels with gpt-5.1: 70 and 140 for each of four tiles."""


def encoded(width: int, height: int, kind: str = "PNG", before: int = 0) -> bytes:
    """An image file; a JPEG may have `before` bytes of a camera's notes before its header."""
    data = picture(kind, (width, height))
    notes = b"".join(b"\xff\xef\xff\xff" + bytes(65_533) for _ in range(before // 65_536))
    return data[:2] + notes + data[2:] if notes else data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them deep in a folder; something that is none; instructions; a file that is empty."""
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(encoded(1024, 1024))
    (tmp_path / "deep" / "deeper" / "b.jpg").write_bytes(encoded(1024, 1024, "JPEG", before=200_000))
    (tmp_path / "deep" / "paper.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "_instructions.md").write_text("What is it?", encoding="utf-8")
    return tmp_path


async def test_local_files_are_estimated_without_an_account(folder: Path) -> None:
    ran = await blobsight(None, "estimate", str(folder), "--model", "gpt-5.1", "-i", "What is it?")
    assert ran.status == 0
    prompt = 2 * (text_tokens(DEFAULT_SYSTEM_PROMPT) + text_tokens("What is it?") + MESSAGE_FORMAT)
    assert ran.lines[:-3] == [
        ["model", "gpt-5.1, detail auto"],
        ["images", "2"],
        ["left out, not images", "2"],
        ["instruction files (not counted)", "1"],
        ["image tokens", f"{2 * SQUARE:,}"],
        ["prompt tokens", str(prompt)],
        ["output tokens", "200 to 2,000"],
    ]
    # 1.25 and 10 US dollars for a million, as OpenAI and Azure publish.
    low, high = (((2 * SQUARE + prompt) * 1.25 + output * 10) / 1e6 for output in (200, 2000))
    assert ran.lines[-3:] == [
        ["default", f"{low:.4f} to {high:.4f} USD", "about a minute"],
        ["flex", f"{low / 2:.4f} to {high / 2:.4f} USD", "as default while there is capacity; no promise"],
        ["batch", f"{low / 2:.4f} to {high / 2:.4f} USD", "within 24.25 hours as a rule: 1 file, 1 wave"],
    ]
    assert "  - batch: the app has a deployment for batches, and " in ran.talk
    assert ran.talk.startswith(f"Expect {low:.4f} to {high:.4f} USD if:\n")
    assert "a guess, since there are too few such results" in ran.talk
    assert "images cost what OpenAI publishes." in ran.talk


async def test_an_estimate_is_written_as_json(folder: Path) -> None:
    ran = await blobsight(None, "estimate", str(folder / "a.png"), "--json", "--model", "gpt-5.1", "--detail", "low")
    assert (ran.status, ran.talk) == (0, "")
    answer = ran.json()
    assert answer["image_tokens"] == {"low": 70, "high": 70}
    assert answer["cost"]["low"] < answer["cost"]["high"]
    tiers = answer["tiers"]
    assert {tier: lane["cost"]["high"] for tier, lane in tiers.items()} == pytest.approx(
        {"default": answer["cost"]["high"], "flex": answer["cost"]["high"] / 2, "batch": answer["cost"]["high"] / 2},
        abs=1e-6,
    )
    assert tiers["flex"]["hours"]["high"] is None
    assert tiers["batch"]["hours"] == {"low": 0.25, "high": 24.25}
    assert {
        name: answer[name] for name in ("model", "detail", "images", "left_out", "instruction_files", "currency")
    } == {
        "model": "gpt-5.1",
        "detail": "low",
        "images": 1,
        "left_out": 0,
        "instruction_files": 0,
        "currency": "USD",
    }
    assert len(answer["how_sure"]) > 3
    assert answer["image_tokens_original"] is None  # which gpt-5.1 does not take


async def test_an_estimate_says_what_detail_original_costs(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(encoded(2496, 3520))
    patches = 78 * 110
    chosen = await blobsight(None, "estimate", str(tmp_path), "--model", "gpt-5.6-luna", "--detail", "high")
    assert ["image tokens, with detail original", f"{patches * 1.2:,.0f}"] in chosen.lines
    original = await blobsight(None, "estimate", str(tmp_path), "--model", "gpt-5.6-luna", "--detail", "original")
    assert ["image tokens", f"{patches * 1.2:,.0f}"] in original.lines
    assert not [line for line in original.lines if "original" in line[0]]
    refused = await blobsight(None, "estimate", str(tmp_path), "--model", "gpt-5.4-mini", "--detail", "original")
    assert refused.status == 3
    assert "'gpt-5.4-mini' does not take the detail original" in refused.talk


async def test_globs_and_lists_are_estimated_and_unreadable_files_named(folder: Path) -> None:
    matched = await blobsight(None, "estimate", f"{folder}/**/*.jpg", "--json")
    assert (matched.status, matched.json()["images"]) == (0, 1)
    listed = await blobsight(None, "estimate", "-", "--json", stdin=f"{folder}/a.png\n{folder}/none.png\n")
    assert (listed.status, listed.json()["images"]) == (1, 1)
    assert listed.talk == f"{folder}/none.png: it does not exist\n"


async def test_an_unknown_model_gets_tokens_and_no_price(folder: Path) -> None:
    ran = await blobsight(None, "estimate", str(folder), "--model", "house-model", "--json")
    answer = ran.json()
    assert (ran.status, answer["cost"], answer["tiers"]["batch"]["cost"]) == (0, None, None)
    assert answer["image_tokens"]["low"] < answer["image_tokens"]["high"]
    assert answer["how_sure"][0] == (
        "The price of 'house-model' is not known: give the model behind your deployment with --model."
    )


async def test_wrong_usage_of_estimate_is_explained(folder: Path) -> None:
    for arguments, status, said in (
        ([], 2, "Give either paths on this machine or --in-container PREFIX."),
        ([str(folder), "--in-container", ""], 2, "Give either paths on this machine or --in-container PREFIX."),
        (["--in-container", ""], 2, "--in-container needs an account"),
        ([str(folder / "empty.png")], 3, "what you named holds no images"),
    ):
        refused = await blobsight(None, "estimate", *arguments)
        assert (refused.status, refused.out) == (status, "")
        assert said in refused.talk


async def test_images_in_a_container_are_estimated_from_a_sample_and_from_results(
    person: Person, containers: tuple[ContainerClient, ContainerClient]
) -> None:
    images, results = containers
    data = encoded(1024, 1024)
    names = [f"x/{number:03}.png" for number in range(SAMPLE + 40)]
    await asyncio.gather(*(images.upload_blob(name, data) for name in names))
    await images.upload_blob("x/_instructions.md", b"What?")
    await images.upload_blob("elsewhere.png", data)
    for number in range(5):
        # The service counted 700 tokens: an image of 630 and a text of 70.
        text = "a" * 4 * (70 - text_tokens(DEFAULT_SYSTEM_PROMPT))
        asked = result_of(f"x/{number:03}.png", instructions={"text": text}, usage={"output_tokens": 40 + number})
        await put_result(results, f"x/{number:03}.png", asked)
    await put_result(results, "x/005.png", failed("x/005.png"))
    ran = await blobsight(
        person,
        *("estimate", "--in-container", "x/", "--json"),
        *("--images", images.container_name, "--results", results.container_name),
    )
    assert ran.status == 0, ran.talk
    answer = ran.json()
    count = SAMPLE + 40
    assert (answer["model"], answer["images"], answer["instruction_files"]) == ("gpt-5.1", count, 1)
    assert answer["image_tokens"] == {"low": SQUARE * count, "high": SQUARE * count}
    assert answer["prompt_tokens"] == (70 + MESSAGE_FORMAT) * count
    assert 40 * count < answer["output_tokens"]["low"] < 42 * count < answer["output_tokens"]["high"] < 44 * count
    assert "answers are as long as the 5 so far." in answer["how_sure"]
    assert f"the other images have sizes like the {SAMPLE} that were read." in answer["how_sure"]


async def test_blobs_to_be_analyzed_again_are_estimated(
    person: Person, containers: tuple[ContainerClient, ContainerClient]
) -> None:
    """For `blobsight retry`: one is deleted meanwhile, one is not an image, one has its header after a megabyte."""
    images, results = containers
    await images.upload_blob("a.png", encoded(1024, 1024))
    await images.upload_blob("far.jpg", encoded(1024, 1024, "JPEG", before=HEADS[1] + 65_536))
    await images.upload_blob("text.png", b"just text")
    await images.upload_blob("gone.png", encoded(8, 8))
    blobs = (await list_page(images, None, metadata=False)).blobs
    await images.delete_blob("gone.png")
    place = Place(
        account=None,
        connection_string=person.cloud.front.connection_string,
        queue_endpoint=None,
        images=images.container_name,
        results=results.container_name,
        state="pipeline-state",
        requests="analysis-requests",
    )
    async with place.opened() as account:
        answer = await estimate_blobs(account, blobs, Assumptions(model="gpt-5.1"))
    assert (answer.images, answer.left_out, answer.image_tokens) == (2, 2, Range(2 * SQUARE, 2 * SQUARE))
    assert answer.in_short.startswith("2 images with gpt-5.1: 0.00")


def test_sizes_are_read_wherever_the_header_is(tmp_path: Path) -> None:
    files: list[LocalFile] = []
    for kind, before in (("JPEG", 0), ("JPEG", 2_000_000), ("TIFF", 0), ("WEBP", 0), ("BMP", 0), ("GIF", 0)):
        path = tmp_path / f"{len(files)}.{kind.lower()}"
        path.write_bytes(encoded(300, 200, kind, before))
        files.append(LocalFile(path, path.name, path.stat().st_size))
    assert [size for _, size in file_sizes(files)] == [Size(300, 200)] * len(files)


def test_each_page_of_a_document_is_counted(tmp_path: Path) -> None:
    documents = {
        "a.pdf": pdf(["1", "2", "3"]),
        "b.pdf": pdf(["1"] * 51),
        "c.pdf": b"%PDF-1.7",
        "d.tif": tiff(["1", "2"]),
    }
    files = []
    for name, data in documents.items():
        (tmp_path / name).write_bytes(data)
        files.append(LocalFile(tmp_path / name, name, len(data)))
    assert [size for _, size in file_sizes(files)] == [Size(2479, 3508, 3), None, None, Size(620, 877, 2)]
    one, three = (
        estimated(Counter({Size(1447, 2048, n): 1}), 1, 0, Assumptions(model="gpt-5.1")).image_tokens for n in (1, 3)
    )
    assert three == one.scaled(3)


def test_half_of_a_sample_that_are_images_means_half_of_all() -> None:
    sizes: Counter[Size | None] = Counter({Size(1024, 1024): 50, None: 50})
    answer = estimated(sizes, 1_000_000, 7, Assumptions(model="gpt-5.1"))
    assert (answer.images, answer.left_out) == (500_000, 500_007)
    assert answer.output_tokens == ASSUMED_OUTPUT.scaled(500_000)
    # A million requests are a million small prices: no tier for long texts.
    one = estimated(Counter({Size(1024, 1024): 1}), 1, 0, Assumptions(model="gpt-5.1"))
    assert answer.money
    assert one.money
    assert answer.money.high == pytest.approx(one.money.high * 500_000)


def test_a_mixed_sample_leaves_a_doubt_that_all_of_them_do_not() -> None:
    sizes: Counter[Size | None] = Counter({Size(500, 500): 50, Size(1024, 1024): 50})
    sample = estimated(sizes, 10_000, 0, Assumptions(model="gpt-5.1"))
    everything = estimated(sizes, 100, 0, Assumptions(model="gpt-5.1"))
    assert sample.image_tokens.low < 10_000 * (210 + SQUARE) / 2 < sample.image_tokens.high
    assert everything.image_tokens == Range(50 * (210 + SQUARE), 50 * (210 + SQUARE))


def test_the_time_of_each_tier_follows_from_its_quota() -> None:
    """A hundred thousand images of 1 MB: 670 files, and as many waves as the quota for input tokens makes of them."""
    sizes: Counter[Size | None] = Counter({Size(1024, 1024): 1})
    answer = estimated(sizes, 100_000, 0, Assumptions(model="gpt-5.1", instructions="?"))
    assert answer.image_tokens.high == 100_000 * SQUARE
    a_question = SQUARE + answer.prompt_tokens / 100_000
    lanes = lanes_of(
        replace(answer, size_bytes=100_000_000_000),
        Quotas(tokens_per_minute=1_000_000, enqueued_tokens=20_000_000),
        max_output_tokens=400,
    )
    at_once = timedelta(minutes=100_000 * (a_question + 400) / 1_000_000)
    assert (lanes["default"].low, lanes["default"].high) == (at_once, at_once)
    assert (lanes["flex"].low, lanes["flex"].high) == (at_once, None)
    waves = math.ceil(100_000 * a_question / 20_000_000)
    assert lanes["batch"].more == {"files": 667, "waves": waves, "enqueued_tokens": 20_000_000}
    assert lanes["batch"].high == timedelta(minutes=15) + waves * timedelta(hours=24)
    # With few tokens each, requests are what the quota counts.
    tiny = lanes_of(answer, Quotas(tokens_per_minute=1_000_000), max_output_tokens=1)
    assert tiny["default"].low == timedelta(minutes=100)
    assert _said(timedelta(seconds=50), timedelta(seconds=64)) == "a minute to 2 minutes"
    assert _said(timedelta(seconds=50), timedelta(seconds=51)) == "about a minute"


def test_the_price_of_a_tier_is_a_part_of_the_list_price_or_not_known() -> None:
    sizes: Counter[Size | None] = Counter({Size(1024, 1024): 1})
    tiers: tuple[ServiceTier, ...] = ("default", "flex", "batch", "priority")
    of = {tier: estimated(sizes, 1, 0, Assumptions(model="gpt-5.1", service_tier=tier)) for tier in tiers}
    assert of["default"].money
    assert of["flex"].money == of["batch"].money == of["default"].money.scaled(0.5)
    assert of["priority"].money is None
    assert of["priority"].how_sure[0] == "The price of the service tier 'priority' is not known here."


def test_an_answer_never_costs_more_than_its_ceiling() -> None:
    answer = estimated(Counter({Size(8, 8): 1}), 1, 0, Assumptions(model="gpt-5.1", max_output_tokens=10))
    assert answer.output_tokens == Range(10, 10)


def test_experience_is_learned_from_results() -> None:
    results = [result_of(f"{number}.png") for number in range(4)]
    other = result_of("other.png", model={"model": "gpt-4o-2024-08-06"}, instructions={"text": "Other?"})
    experience = learned([*results, other, failed("f.png")])
    assert experience
    assert (experience.results, experience.model, experience.output_tokens) == (4, "gpt-5.1", Range(50, 50))
    assert learned([*results, other], model="gpt-4o") is None  # one is too few
    unlike = learned([*results, other], instructions="Other?")
    assert unlike
    assert (unlike.model, unlike.output_tokens, unlike.image_factor) == ("gpt-5.1", None, experience.image_factor)
    asked_anew = estimated(Counter({Size(8, 8): 1}), 1, 0, Assumptions(instructions="Other?"), unlike)
    assert (asked_anew.model, asked_anew.output_tokens) == ("gpt-5.1", ASSUMED_OUTPUT)
    assert learned(results, model="gpt-5.1-2025-11-13", instructions="Describe this image.") == experience
    charged = [result_of(f"{n}.png", usage={"input_tokens": 3 * SQUARE + 70}) for n in range(4)]
    more = learned(charged)
    assert more
    assert more.image_factor
    assert more.image_factor.low == pytest.approx(3, rel=0.05)
    dearer = estimated(Counter({Size(1024, 1024): 1}), 1, 0, Assumptions(), more)
    assert dearer.image_tokens.high == pytest.approx(3 * SQUARE, rel=0.05)
