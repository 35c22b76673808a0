"""Pages of documents: which are chosen, and what the process that draws them may do."""

import io
import subprocess
import sys
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageStat
from support.documents import ENCRYPTED_PDF, deep_pdf, form_pdf, pdf, pdf_of_objects, scanned_pdf, stream
from support.examples import some_of
from support.person import ROOT

from pipeline.documents.choice import NoSuchPages, PageChoice
from pipeline.documents.facts import MOST_PAGES
from pipeline.documents.pdf import Rendering, measure_pdf, render_pdf
from pipeline.documents.recognise import is_pdf
from pipeline.errors import Failure, OperatorFailure, PermanentFailure

ALL = PageChoice.parse("all")


# Which pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "of_ten"),
    [
        ("all", [*range(1, 11)]),
        ("First", [1]),
        (" last ", [10]),
        ("1-3,7", [1, 2, 3, 7]),
        ("9-", [9, 10]),
        ("7, 1-2, 2", [7, 1, 2]),
        ("3\u20134", [3, 4]),
        ("10", [10]),
    ],
)
def test_pages_are_chosen_as_print_dialogs_have_it(text: str, of_ten: list[int]) -> None:
    assert PageChoice.parse(text).numbers(10) == of_ten


@pytest.mark.parametrize(
    "text", ["", "0", "3-1", "1 3", "a", "1,,2", "-3", "1-2-3", "1e3", "\u0663", "1;2", ",".join("1" * 51)]
)
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it should|its numbers should"):
        PageChoice.parse(text)


@pytest.mark.parametrize(("text", "there"), [("11", "1 to 10"), ("1-11", "1 to 10"), ("11-", "1 to 10")])
def test_a_page_that_is_not_there_is_named(text: str, there: str) -> None:
    with pytest.raises(NoSuchPages, match=f"'{text}' is not there: the pages are {there}"):
        PageChoice.parse(text).numbers(10)


@given(st.text(max_size=30), st.integers(1, 10**6))
def test_any_text_is_a_choice_of_pages_that_are_there_or_an_error(text: str, count: int) -> None:
    try:
        numbers = PageChoice.parse(text).numbers(count)
    except ValueError:
        return
    assert numbers
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(1, count + 1))


# PDFs -----------------------------------------------------------------------------------------------------------------


async def failure_of(data: bytes, choice: str = "all", most_pages: int = 10) -> PermanentFailure:
    with pytest.raises(PermanentFailure) as failed:
        await render_pdf(data, PageChoice.parse(choice), most_pages)
    return failed.value


def images(rendering: Rendering) -> Sequence[Image.Image]:
    return [Image.open(io.BytesIO(page.image.data)) for page in rendering.pages.sent]


async def test_each_page_is_drawn_large_enough_to_read_and_no_larger() -> None:
    rendering = await render_pdf(pdf(["One", "Two", "Three"]), PageChoice.parse("3,1"), 10)
    assert (rendering.facts.format, rendering.facts.pages, rendering.pages.count) == ("pdf", 3, 3)
    assert [page.number for page in rendering.pages.sent] == [3, 1]
    for page, image in zip(rendering.pages.sent, images(rendering), strict=True):
        assert image.size == (page.image.width, page.image.height) == (1448, 2048)
        assert page.image.format == "png"
        assert image.convert("L").getextrema() == (0, 255)


async def test_a_small_label_is_drawn_at_print_resolution() -> None:
    rendering = await render_pdf(pdf(["A"], box=(144, 72)), ALL, 10)
    assert images(rendering)[0].size == (600, 300)


async def test_a_page_is_drawn_upright() -> None:
    (image,) = images(await render_pdf(pdf(["Wide"], of_page="/Rotate 90"), ALL, 10))
    assert image.size == (2048, 1448)


async def test_a_photograph_on_a_page_is_sent_as_jpeg() -> None:
    target = io.BytesIO()
    Image.effect_noise((1240, 1754), 80).convert("RGB").save(target, "PDF")
    (page,) = (await render_pdf(target.getvalue(), ALL, 10)).pages.sent
    assert page.image.format == "jpeg"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound a process's memory so")
@pytest.mark.parametrize("dpi", some_of([100, 300]))
@pytest.mark.parametrize("filter_", ["DCTDecode", "FlateDecode"])
async def test_an_image_on_a_page_is_drawn_or_the_document_is_refused(filter_: str, dpi: int) -> None:
    """PDFium leaves out what it finds no memory for: with too little of it, a scan would be sent as a white page."""
    data = scanned_pdf(1, dpi=dpi, filter_=filter_)
    outcomes = set[str]()
    for memory in some_of(range(56_000_000, 160_000_000, 8_000_000)):
        try:
            (image,) = images(await render_pdf(data, ALL, 10, memory))
        except PermanentFailure as failure:
            outcomes.add(failure.code.value)
        else:
            outcomes.add("drawn" if ImageStat.Stat(image.convert("L")).stddev[0] > 5 else "white")
    assert outcomes == {"image_too_large", "drawn"}


async def test_fields_are_drawn_filled_in() -> None:
    """The appearance of a form field is not in the page's content."""
    (image,) = images(await render_pdf(form_pdf(), ALL, 10))
    assert image.convert("L").getpixel((700, 1000)) == 0


@pytest.mark.parametrize(
    ("data", "choice", "code", "said"),
    [
        (ENCRYPTED_PDF, "all", "unsupported_image", "encrypted with a password. Save it without one"),
        (pdf([]), "all", "corrupt_image", "it has no pages"),
        (pdf(["A"])[:200], "all", "corrupt_image", "save or print it to a new PDF"),
        (b"%PDF-1.7\nnothing", "all", "corrupt_image", "damaged"),
        (pdf(["A", "B"]), "3", "invalid_instructions", "'3' is not there: the pages are 1 to 2"),
        (pdf(["A"] * 11), "all", "too_many_pages", "11 pages, and 11 of them"),
        (pdf(["A"] * 100), "2-", "too_many_pages", "100 pages, and 99 of them"),
        (
            pdf(["A"], of_catalog="/AcroForm <</XFA (x) /Fields []>> /NeedsRendering true"),
            "all",
            "unsupported_image",
            "XFA",
        ),
    ],
    ids=["encrypted", "empty", "cut", "nonsense", "not there", "too many", "far too many", "xfa"],
)
async def test_what_can_not_be_drawn_says_what_to_do(data: bytes, choice: str, code: str, said: str) -> None:
    failure = await failure_of(data, choice)
    assert (failure.code, said in failure.message) == (code, True), failure.message


def bomb_of_streams() -> bytes:
    """50 KB that unpack to 50 MB of drawing."""
    packed = zlib.compress(b"0 0 m 900 900 l S\n" * 3_000_000, 9)
    head = f"<</Length {len(packed)} /Filter /FlateDecode>>\nstream\n"
    return pdf_of_objects(
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 900 900] /Contents 4 0 R>>",
        head + packed.decode("latin-1") + "\nendstream",
    )


def bomb_of_pixels() -> bytes:
    """An image of 60,000 by 60,000 pixels, all of them zero."""
    packed = zlib.compress(bytes(1_000_000), 9)
    image = (
        "<</Type /XObject /Subtype /Image /Width 60000 /Height 60000 /ColorSpace /DeviceRGB /BitsPerComponent 8"
        f" /Filter /FlateDecode /Length {len(packed)}>>\nstream\n{packed.decode('latin-1')}\nendstream"
    )
    return pdf_of_objects(
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 900 900] /Contents 4 0 R /Resources <</XObject <</I 5 0 R>>>>>>",
        stream("900 0 0 900 0 0 cm /I Do"),
        image,
    )


def bomb_of_forms() -> bytes:
    """Each form draws the next one ten times: 10^12 lines."""
    forms = [
        f"<</Type /XObject /Subtype /Form /BBox [0 0 900 900] /Resources <</XObject <</N {n + 6} 0 R>>>> /Length 59>>\n"
        "stream\n" + "/N Do " * 10 + "\nendstream"
        for n in range(12)
    ]
    last = "<</Type /XObject /Subtype /Form /BBox [0 0 900 900] /Length 22>>\nstream\n0 0 m 900 900 l S     \nendstream"
    return pdf_of_objects(
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 900 900] /Contents 4 0 R /Resources <</XObject <</N 5 0 R>>>>>>",
        stream("/N Do"),
        *forms,
        last,
    )


@pytest.mark.parametrize(
    "data",
    [
        pdf(["A"], box=(1e9, 1e9)),
        pdf(["A"], box=(1e9, 1)),
        pdf(["A"], of_page="/UserUnit 75000"),
        pdf(["A"] * 10_000),
        pdf_of_objects("<</Type /Catalog /Pages 2 0 R>>", *["<<>>"] * 200_000),
        deep_pdf(5000),
        bomb_of_pixels(),
        bomb_of_streams(),
    ],
    ids=["huge box", "long box", "huge unit", "pages", "objects", "depth", "pixels", "streams"],
)
async def test_a_bomb_costs_a_failed_result_or_a_page_and_never_more(data: bytes) -> None:
    try:
        rendering = await render_pdf(data, ALL, MOST_PAGES)
    except PermanentFailure:
        return
    assert all(max(page.image.width, page.image.height) <= 2048 for page in rendering.pages.sent)


async def test_a_drawing_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.documents.pdf.PROCESSOR_SECONDS", 1)
    failure = await failure_of(bomb_of_forms())
    assert failure.code in {"image_too_large", "corrupt_image"}


async def test_a_process_that_can_not_be_started_is_the_operators_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OperatorFailure, match="can't be started"):
        await render_pdf(pdf(["A"]), ALL, 10)
    with pytest.raises(OperatorFailure, match="can't be started"):
        measure_pdf(pdf(["A"]))


def test_a_pdf_is_measured_without_being_drawn() -> None:
    assert measure_pdf(pdf(["A", "B"])) == (2, 2479, 3508)


async def test_a_process_that_is_killed_meanwhile_is_no_fault_of_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.documents.pdf._START", "import os; os.kill(os.getpid(), 15)")
    with pytest.raises(Failure, match="was stopped"):
        await render_pdf(pdf(["A"]), ALL, 10)


BEGINNING = '{"count": 1, "numbers": [1], "sandboxed": true}\n'
SIZE = '"width": 1, "height": 1'


@pytest.mark.parametrize(
    "said",
    [
        "not json",
        '{"count": 1, "numbers": [1, 2, 3], "sandboxed": true}',
        BEGINNING + '{"number": 9, "format": "png", ' + SIZE + ', "size": 1}',
        BEGINNING + '{"number": 1, "format": "png", ' + SIZE + ', "size": 1e12}',
        BEGINNING + '{"number": 1, "format": "exe", ' + SIZE + ', "size": 1}',
        '{"problem": "' + "x" * 10_000 + '"}',
    ],
)
async def test_nothing_that_the_process_says_is_believed(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PDFium has had holes: what takes it over still speaks only to this."""
    monkeypatch.setattr("pipeline.documents.pdf._START", f"print({said!r})")
    with pytest.raises(PermanentFailure):
        await render_pdf(pdf(["A"]), ALL, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_the_process_can_open_nothing_start_nothing_and_reach_no_one() -> None:
    tries = (
        "import os, socket, subprocess\n"
        "from pipeline.documents import sandbox\n"
        "def refused(call, *arguments):\n"
        "    try: call(*arguments)\n"
        "    except PermissionError: return True\n"
        "    return False\n"
        "assert sandbox.enter()\n"
        "print(all([refused(open, '/etc/passwd'), refused(open, f'/proc/{os.getppid()}/environ'),"
        " refused(socket.socket),"
        " refused(os.fork), refused(os.execv, '/bin/true', ['true']), refused(os.kill, os.getppid(), 0),"
        " refused(os.unlink, '/tmp/x'), refused(os.listdir, '/')]))"
    )
    done = subprocess.run([sys.executable, "-c", tries], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


async def test_the_process_has_nothing_of_the_apps_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "a secret")
    monkeypatch.setattr(
        "pipeline.documents.pdf._START",
        'import os, json; print(json.dumps({"problem": "other", "cause": " ".join(sorted(os.environ))}))',
    )
    failure = await failure_of(pdf(["A"]))
    assert "IDENTITY_HEADER" not in failure.message
    assert "PATH" in failure.message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pdf(["A"]), True),
        (b"\r\n\xef\xbb\xbf" + pdf(["A"]), True),
        (b"\x89PNG\r\n\x1a\n" + b"%PDF-1.7", False),
        (b"\xff\xd8\xff\xe0" + b"%PDF-1.7", False),
        (b"", False),
    ],
)
def test_a_pdf_is_known_by_its_content(data: bytes, *, expected: bool) -> None:
    assert is_pdf(data) is expected
