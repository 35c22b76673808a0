"""Documents of several pages, against the plain way with the libraries; and what an image pays for them.

    python -m bench.pages '{"way": "ours", "document": PATH, "most_pages": 10}'

is one contender: it prepares one document. Its memory is that of all its processes together.
"""

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil

from bench.measure import Row, Say, answer, contender, in_turns, row
from bench.measure import rss_bytes as held
from pipeline.errors import ErrorCode
from pipeline.images import ImageLimits, as_stored, inspect
from pipeline.images.resolution import STANDARD
from pipeline.job.memory import Budget, Content
from pipeline.job.preparing import Preparer
from pipeline.model.question import Question
from pipeline.settings import Settings
from pipeline.unpacking import is_packed

NAME = "pages"
PLAIN = "plain library"
EAGER = ("openai", "azure.identity.aio", "azure.storage.blob.aio")
FOR_IMAGES = ("pipeline.documents.choice", "pipeline.documents.facts", "pipeline.documents.recognise")
"""The modules of documents that an image's preparation imports."""
BEFORE = ("pydantic", "pipeline.images", "pipeline.errors")
"""Those that it needed before."""
PASSES, ROUNDS = 50, 100
"""Times that an image which is sent as it is gets prepared, and how often that is timed."""
LOOK_SECONDS = 0.002
QUESTION = Question("?", "vision", "", "auto", 100)
A4_AT_300 = (2480, 3508)
DIFFERENT = 5

type Document = Callable[[int], bytes]


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Time and memory of documents, and what images pay.

    Raises:
        ContenderError: one could not be prepared.
    """
    few, many, too_many = (2, 3, 6) if quick else (10, 50, 100)
    cases: list[tuple[str, Document, int, int]] = [
        (f"scan of {few} pages, PDF", _scanned_pdf, few, 10),
        (f"scan of {few} pages, G4 TIFF", _fax, few, 10),
        (f"PDF of {many} pages in one question", _scanned_pdf, many, 50),
        (f"PDF of {too_many} pages, refused", _scanned_pdf, too_many, 5 if quick else 50),
    ]
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        path = Path(directory) / "file"
        rows = []
        for case, make, pages, most in cases:
            say(f"{case}: making it")
            path.write_bytes(make(pages))
            say(case)
            rows += _document(case, path, most, repeats)
        say("an image that is sent as it is")
        path.write_bytes(_photo())
        rows.append(_image(path, repeats))
    say("imports")
    return [*rows, _imports(repeats)]


def _document(case: str, path: Path, most_pages: int, repeats: int) -> list[Row]:
    figures = in_turns(
        repeats, ours=lambda: _figures("ours", path, most_pages), plain=lambda: _figures("plain", path, most_pages)
    )
    return [_row(case, unit, figures, key, factor, PLAIN) for unit, key, factor in (
        ("ms", "wall", 1e3), ("MB at peak", "peak", 1e-6),
    )]  # fmt: skip


def _image(path: Path, repeats: int) -> Row:
    both = [_figures("image", path, 10) for _ in range(repeats)]
    figures: dict[str, list[Mapping[str, Any]]] = {
        side: [{"wall": one[side]} for one in both] for side in ("ours", "plain")
    }
    return _row("JPEG, 3 megapixels, sent as it is", "µs", figures, "wall", 1e6, "without documents")


def _imports(repeats: int) -> Row:
    figures = in_turns(repeats, ours=lambda: _imported(FOR_IMAGES, BEFORE), plain=lambda: _imported(EAGER, ()))
    return _row("import what an image needs of it", "ms", figures, "seconds", 1e3, "the three SDKs at once")


def _row(  # noqa: PLR0913, PLR0917 - the fields of a row
    case: str, unit: str, figures: Mapping[str, list[Mapping[str, Any]]], key: str, factor: float, baseline: str
) -> Row:
    ours, plain = ([factor * one[key] for one in figures[side]] for side in ("ours", "plain"))
    return row(NAME, case, unit, ours, plain, baseline_name=baseline)


def _figures(way: str, path: Path, most_pages: int) -> Mapping[str, Any]:
    task = {"way": way, "document": str(path), "most_pages": most_pages}
    figures: Mapping[str, Any] = contender("bench.pages", task)
    return figures


def _imported(modules: tuple[str, ...], after: tuple[str, ...]) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = contender("bench.importing", {"modules": list(modules), "after": list(after)})
    return figures


def _pages(count: int) -> list[Any]:
    """Pages of text as a scanner sees them at 300 dpi, black and white; a few of them again and again."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - a contender must not have loaded Pillow before it is measured

    pages = []
    for number in range(min(count, DIFFERENT)):
        page = Image.new("1", A4_AT_300, 1)
        draw = ImageDraw.Draw(page)
        for line, top in enumerate(range(200, 3200, 70)):
            draw.text(
                (200, top), f"{number + 1}.{line}  the quick brown fox jumps over the lazy dog " * 2, 0, font_size=40
            )
        pages.append(page)
    return [pages[number % DIFFERENT] for number in range(count)]


def _scanned_pdf(count: int) -> bytes:
    target = BytesIO()
    first, *rest = _pages(count)
    first.save(target, "PDF", save_all=True, append_images=rest, resolution=300)
    return target.getvalue()


def _fax(count: int) -> bytes:
    target = BytesIO()
    first, *rest = _pages(count)
    first.save(target, "TIFF", compression="group4", save_all=True, append_images=rest, dpi=(300, 300))
    return target.getvalue()


def _photo() -> bytes:
    from bench import pictures  # noqa: PLC0415 - likewise

    return pictures.encoded(pictures.photo(3), "JPEG", quality=90)


# A contender ----------------------------------------------------------------------------------------------------------


def _prepare(task: Mapping[str, Any]) -> dict[str, Any]:
    """`wall` in seconds, and `peak` in bytes of this process and those that it started, above what it held before."""
    data = Path(task["document"]).read_bytes()
    match task["way"]:
        case "ours":
            return asyncio.run(_ours(data, task["most_pages"]))
        case "plain":
            with _watched() as use:
                _plain(data)
            return use
        case _:
            return dict(asyncio.run(_image_both_ways(data)))


def _preparer(most_pages: int) -> Preparer:
    settings = Settings.from_environment(
        {
            "DataStorage__blobServiceUri": "https://a.blob.core.windows.net",
            "DataStorage__queueServiceUri": "https://a.queue.core.windows.net",
            "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
            "AZURE_OPENAI_DEPLOYMENT": "vision",
            "MAX_PAGES": str(most_pages),
        }
    )
    return Preparer(settings, Budget(settings.image_memory_bytes))


async def _ours(data: bytes, most_pages: int) -> dict[str, Any]:
    preparer = _preparer(most_pages)
    async with AsyncExitStack() as unpacking, AsyncExitStack() as holding:
        with _watched() as use:
            prepared = await preparer.prepare(Content(data, holding), QUESTION, unpacking, holding)
    if prepared.failure and prepared.failure.code is not ErrorCode.TOO_MANY_PAGES:
        raise prepared.failure
    return use


async def _image_both_ways(data: bytes) -> dict[str, float]:
    """Seconds for an image that is sent as it is, `ours` and by its steps before there were documents (`plain`).

    In one process and in turns, the best of many: it is so short that all else on the machine is longer.
    """
    preparer, limits = _preparer(10), ImageLimits()

    async def ours(content: Content, unpacking: AsyncExitStack, holding: AsyncExitStack) -> object:
        return await preparer.prepare(content, QUESTION, unpacking, holding)

    async def plain(content: Content, _: AsyncExitStack, __: AsyncExitStack) -> object:
        return None if is_packed(content.data) else as_stored(content.data, inspect(content.data, limits))

    best = {"ours": 1.0, "plain": 1.0}
    for _ in range(ROUNDS):
        for side, way in (("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            for _ in range(PASSES):
                async with AsyncExitStack() as unpacking, AsyncExitStack() as holding:
                    await way(Content(data, holding), unpacking, holding)
            best[side] = min(best[side], (time.perf_counter() - began) / PASSES)
    return best


def _plain(data: bytes) -> None:
    """Render all pages at the size that the model sees, and encode them with Pillow's defaults."""
    from PIL import Image, ImageSequence  # noqa: PLC0415 - its import is measured, as ours is

    encoded: list[bytes] = []

    def keep(image: Image.Image) -> None:
        target = BytesIO()
        image.save(target, "PNG")
        encoded.append(target.getvalue())

    if data.startswith(b"%PDF"):
        import pypdfium2  # noqa: PLC0415 - likewise

        for page in pypdfium2.PdfDocument(data):
            keep(page.render(scale=STANDARD.side / max(page.get_size())).to_pil())
        return
    for frame in ImageSequence.Iterator(Image.open(BytesIO(data))):
        image = frame.convert("RGB")
        image.thumbnail((STANDARD.side, STANDARD.side))
        keep(image)


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Time the block, and look at the memory of this process and of what only its children hold."""
    use: dict[str, Any] = {}
    this, over, before, most = psutil.Process(os.getpid()), threading.Event(), held(), 0

    def look() -> None:
        nonlocal most
        while not over.wait(LOOK_SECONDS):
            together = held() - before
            for child in this.children():
                with suppress(psutil.Error):
                    together += child.memory_full_info().uss
            most = max(most, together)

    looking = threading.Thread(target=look)
    looking.start()
    began = time.perf_counter()
    try:
        yield use
    finally:
        use["wall"] = time.perf_counter() - began
        over.set()
        looking.join()
        use["peak"] = max(1, most)


if __name__ == "__main__":
    answer(_prepare)
