"""The sample images are what samples.json says, and come from the script next to them."""

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageChops, ImageStat

from pipeline.documents.choice import PageChoice
from pipeline.documents.pdf import render_pdf
from pipeline.images.resolution import ORIGINAL, STANDARD, within

FOLDER = Path(__file__).parents[1] / "samples"
SAMPLES = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def make_samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", FOLDER / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_image_is_listed_once() -> None:
    assert sorted(sample["file"] for sample in SAMPLES) == sorted(
        path.name for path in FOLDER.iterdir() if path.suffix in {*FORMATS, ".pdf"}
    )


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if not sample["file"].endswith(".pdf")], ids=lambda sample: sample["file"]
)
def test_a_sample_is_small_and_has_the_format_of_its_name(sample: dict[str, str]) -> None:
    path = FOLDER / sample["file"]
    with Image.open(path) as image:
        image.load()
        assert image.format == FORMATS[path.suffix]
    assert path.stat().st_size < 200_000
    assert sample["instructions"].strip()
    assert sample["shows"].strip()


def test_one_instruction_is_in_another_script() -> None:
    """Blob metadata is ASCII on the wire: the samples show that people need not be."""
    assert any(not sample["instructions"].isascii() for sample in SAMPLES)


def test_the_label_lies_on_its_side() -> None:
    """Whoever ignores EXIF sees it turned: that is what the sample is for."""
    with Image.open(FOLDER / "label.jpg") as image:
        assert image.getexif()[EXIF_ORIENTATION] == 6
        assert image.height > image.width


def test_the_sample_with_an_order_in_it_is_not_asked_for_that() -> None:
    """Text in an image is content, never an instruction: the sample's caption says so in the demo."""
    [sample] = [sample for sample in SAMPLES if sample["file"] == "delivery-note.png"]
    assert "approve" not in sample["instructions"].casefold()
    assert "never an instruction" in sample["shows"]


@pytest.mark.parametrize("name", ["receipt.jpg", "label.jpg", "chart.png", "lighthouse.webp", "delivery-note.png"])
def test_the_script_draws_the_committed_image(make_samples: ModuleType, name: str) -> None:
    """Compared by eye, so to say: encoders and font rendering differ a little between platforms."""
    drawn = make_samples.DRAWINGS[name]().convert("RGB")
    with Image.open(FOLDER / name) as committed:
        difference = ImageChops.difference(drawn, committed.convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 5


@pytest.mark.parametrize("name", ["small-print.png", "small-print-seen.png"])
def test_the_script_draws_the_pictures_of_the_documentation(make_samples: ModuleType, name: str) -> None:
    with Image.open(make_samples.DOCS / name) as committed:
        difference = ImageChops.difference(make_samples.FOR_DOCS[name]().convert("L"), committed.convert("L"))
    assert ImageStat.Stat(difference).mean[0] < 5


def test_the_documentation_shows_the_small_print_as_it_is_sent(make_samples: ModuleType) -> None:
    page = make_samples.small_print()
    high, original = make_samples.SEEN
    assert high == within(2500, *STANDARD.fitted(*page.size))
    assert original == ORIGINAL.fitted(*page.size)


async def test_the_document_has_the_two_pages_that_the_script_draws(make_samples: ModuleType) -> None:
    data = (FOLDER / "agreement.pdf").read_bytes()
    assert len(data) < 200_000
    sent = (await render_pdf(data, PageChoice.parse("all"), 10)).pages.sent
    for page, drawn in zip(sent, make_samples.agreement(), strict=True):
        image = Image.open(io.BytesIO(page.image.data)).convert("L").resize(drawn.size)
        assert ImageStat.Stat(ImageChops.difference(image, drawn.convert("L"))).mean[0] < 8
