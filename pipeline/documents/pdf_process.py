r"""The process in which PDFium reads what strangers wrote. It gets a PDF and gives images, and is trusted with neither.

    stdin    {"pages": [[1, null]], "most_pages": 10, "resolution": [2048, null], "page_bytes": …, "sent_bytes": …}\n,
             then the PDF
    stdout   {"count": 12, "numbers": [1, 2], "sandboxed": true}\n, then for each page
             {"number": 1, "format": "png", "width": …, "height": …, "size": …}\n and so many bytes

With {"measure": true} only {"pages": 2, "width": …, "height": …}\n.

Or, in place of any of these lines, {"problem": "encrypted", …}\n: see `pipeline.documents.pdf`, which reads all this
and believes none of it.
"""

import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.documents import sandbox
from pipeline.documents.choice import NoSuchPages, PageChoice
from pipeline.documents.cost import Picture, drawing_bytes
from pipeline.images.resolution import Resolution

if TYPE_CHECKING:
    import pypdfium2

MOST_DPI = 300
"""Of a page that is smaller than what the model sees: print shops' resolution shows all there is."""
DEEPEST_FORM = 3
"""Forms within forms in which images are looked for."""


def main(memory: int, seconds: int) -> None:
    import pypdfium2  # noqa: PLC0415 - the sandbox, in the tests' process, needs none of it

    from pipeline.images.conversion import encoded  # noqa: PLC0415

    source, target = sys.stdin.buffer, sys.stdout.buffer
    asked = json.loads(source.readline())
    warm_up(pypdfium2, encoded)
    sandbox.limit(memory, seconds)
    sandboxed = sandbox.enter()
    try:
        data = source.read()
        document = pypdfium2.PdfDocument(data)
        render(document, asked, target, sandboxed=sandboxed, memory=memory - len(data))
    except Refused as refused:
        _say(target, {"problem": refused.problem, **refused.details})
    except MemoryError:
        _say(target, {"problem": "memory"})
    except pypdfium2.PdfiumError as error:
        _say(target, {"problem": "encrypted" if "password" in str(error).lower() else "damaged", "cause": str(error)})


class Refused(Exception):
    """The document can't be rendered as it was asked."""

    def __init__(self, problem: str, **details: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.details = details


def warm_up(pdfium: Any, encoded: Any) -> None:
    """Load what is loaded on first use: no file can be opened later."""
    document = pdfium.PdfDocument.new()
    document.new_page(8, 8).render().to_pil()
    document.close()
    from PIL import Image  # noqa: PLC0415

    encoded(Image.new("RGB", (16, 16)), most_bytes=10_000)
    encoded(Image.effect_noise((16, 16), 50).convert("RGB"), most_bytes=10_000)


def render(
    document: "pypdfium2.PdfDocument", asked: dict[str, Any], target: BinaryIO, *, sandboxed: bool, memory: int
) -> None:
    """Write the pages that are `asked` for, with no more than `memory` bytes.

    Raises:
        Refused: there are none, or too many; or a page can't be drawn, or not in that memory.
    """
    import pypdfium2  # noqa: PLC0415
    from pypdfium2 import raw  # noqa: PLC0415

    from pipeline.images.conversion import encoded  # noqa: PLC0415

    count = len(document)
    if not count:
        raise Refused("empty")
    if document.get_formtype() == raw.FORMTYPE_XFA_FULL:
        raise Refused("xfa")
    try:
        numbers = PageChoice(tuple(map(tuple, asked["pages"]))).numbers(count)
    except NoSuchPages as error:
        raise Refused("no such pages", count=count, cause=str(error)) from None
    if len(numbers) > asked["most_pages"]:
        raise Refused("too many", count=count, chosen=len(numbers))
    seen = Resolution(*asked["resolution"])
    if asked.get("measure"):
        width, height = document[numbers[0] - 1].get_size()
        scale = _scale(width, height, seen)
        _say(target, {"pages": len(numbers), "width": round(width * scale), "height": round(height * scale)})
        return
    document.init_forms()
    _say(target, {"count": count, "numbers": numbers, "sandboxed": sandboxed})
    left = asked["sent_bytes"]
    for place, number in enumerate(numbers):
        page = document[number - 1]
        width, height = page.get_size()
        if not (width > 0 and height > 0):
            raise Refused("page", number=number, cause="it has no size")
        scale = _scale(width, height, seen)
        if drawing_bytes(set(_pictures(page)), round(width * scale), round(height * scale)) > memory:
            raise Refused("memory")
        # An even share of what is left: what small pages do not need is for those after them.
        most_bytes = min(asked["page_bytes"], left // (len(numbers) - place))
        try:
            bitmap = page.render(scale=scale, rev_byteorder=True, limit_image_cache=True)
            image = encoded(bitmap.to_pil().convert("RGB"), most_bytes=most_bytes)
        except (pypdfium2.PdfiumError, ValueError, OSError) as error:
            raise Refused("page", number=number, cause=str(error)) from None
        _say(
            target,
            {
                "number": number,
                "format": image.format,
                "width": image.width,
                "height": image.height,
                "size": len(image.data),
            },
        )
        target.write(image.data)
        target.flush()
        left -= len(image.data)
        bitmap.close()
        page.close()


def _pictures(page: "pypdfium2.PdfPage") -> Iterator[Picture]:
    from pypdfium2 import raw  # noqa: PLC0415

    for image in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=DEEPEST_FORM):
        filters = image.get_filters()
        yield (*image.get_px_size(), filters[-1] if filters else "")


def _scale(width: float, height: float, seen: Resolution) -> float:
    """Pixels for each point of the page. PDFium rounds up to whole pixels."""
    scale = min(seen.side / max(width, height, 1e-6), MOST_DPI / 72)
    drawn = math.ceil(width * scale), math.ceil(height * scale)
    if seen.holds(*drawn):
        return scale
    wide, high = seen.fitted(*drawn)
    return min((wide - 0.5) / width, (high - 0.5) / height)


def _say(target: BinaryIO, said: dict[str, Any]) -> None:
    target.write(json.dumps(said).encode() + b"\n")
    target.flush()
