"""Documents of several pages: PDFs written out by hand, and those that a program would write."""

import io
import zlib
from collections.abc import Sequence
from struct import pack

from PIL import Image, ImageDraw

A4 = (595, 842)
"""Points."""


def pdf_of_objects(*objects: str, trailer: str = "") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalog."""
    written, offsets = bytearray(b"%PDF-1.7\n"), list[int]()
    for number, text in enumerate(objects, 1):
        offsets.append(len(written))
        written += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size} /Root 1 0 R {trailer}>>"
        f"\nstartxref\n{len(written)}\n%%EOF\n"
    )
    return bytes(written) + end.encode()


ENCRYPTED_PDF = pdf_of_objects(
    "<</Type /Catalog /Pages 2 0 R>>",
    "<</Type /Pages /Kids [] /Count 0>>",
    "<</Filter /Standard /V 1 /R 2 /P -4 /O (" + "o" * 32 + ") /U (" + "u" * 32 + ")>>",
    trailer="/Encrypt 3 0 R /ID [(12345678) (12345678)]",
)


def stream(content: str) -> str:
    return f"<</Length {len(content)}>>\nstream\n{content}\nendstream"


def pdf(pages: Sequence[str], *, box: tuple[float, float] = A4, of_page: str = "", of_catalog: str = "") -> bytes:
    """A PDF with a line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        f"<</Type /Catalog /Pages 2 0 R {of_catalog}>>",
        f"<</Type /Pages /Kids [{kids}] /Count {len(pages)}>>",
        "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    for n, text in enumerate(pages):
        objects.append(
            f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 {box[0]} {box[1]}] /Contents {5 + 2 * n} 0 R"
            f" /Resources <</Font <</F 3 0 R>>>> {of_page}>>"
        )
        objects.append(stream(f"BT /F 48 Tf 60 {box[1] - 120} Td ({text}) Tj ET"))
    return pdf_of_objects(*objects)


def scanned_pdf(pages: int, *, dpi: int, filter_: str = "DCTDecode") -> bytes:
    """A PDF of A4 pages that are images in colour, as a scanner writes it; no page is blank."""
    width, height = round(A4[0] * dpi / 72), round(A4[1] * dpi / 72)
    grey = Image.effect_noise((width // 8, height // 8), 60).resize((width, height))
    scan = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM), grey))
    target = io.BytesIO()
    scan.save(target, "JPEG")
    data = target.getvalue() if filter_ == "DCTDecode" else zlib.compress(scan.tobytes(), 1)
    kids = " ".join(f"{5 + n} 0 R" for n in range(pages))
    page = (
        f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 {A4[0]} {A4[1]}] /Contents 4 0 R"
        " /Resources <</XObject <</I 3 0 R>>>>>>"
    )
    return pdf_of_objects(
        "<</Type /Catalog /Pages 2 0 R>>",
        f"<</Type /Pages /Kids [{kids}] /Count {pages}>>",
        f"<</Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB /BitsPerComponent 8"
        f" /Filter /{filter_} /Length {len(data)}>>\nstream\n{data.decode('latin-1')}\nendstream",
        stream(f"{A4[0]} 0 0 {A4[1]} 0 0 cm /I Do"),
        *[page] * pages,
    )


def form_pdf() -> bytes:
    """A PDF with a form field that is filled in: its appearance is not in the page's content."""
    field = (
        "<</Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (X) /Rect [100 100 500 700] /F 4 /P 3 0 R"
        " /AP <</N 5 0 R>>>>"
    )
    form = (
        "<</Type /XObject /Subtype /Form /BBox [0 0 400 600] /Length 30>>\nstream\n"
        "0 0 0 rg 0 0 400 600 re f    \nendstream"
    )
    return pdf_of_objects(
        "<</Type /Catalog /Pages 2 0 R /AcroForm <</Fields [4 0 R]>>>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 {A4[0]} {A4[1]}] /Annots [4 0 R]>>",
        field,
        form,
    )


def deep_pdf(depth: int) -> bytes:
    """A PDF whose tree of pages is as deep as that."""
    nodes = [f"<</Type /Pages /Kids [{n + 3} 0 R] /Count 1>>" for n in range(depth)]
    return pdf_of_objects("<</Type /Catalog /Pages 2 0 R>>", *nodes, "<</Type /Page /MediaBox [0 0 9 9]>>")


def drawn(text: str, size: tuple[int, int] = (620, 877)) -> Image.Image:
    """A page with a line of text, as a picture."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((60, 60), text, fill="black", font_size=48)
    return image


def tiff(texts: Sequence[str]) -> bytes:
    """A TIFF with a page for each text, as a fax: black and white, G4."""
    pages = [drawn(text).convert("1") for text in texts]
    target = io.BytesIO()
    pages[0].save(target, "TIFF", compression="group4", save_all=True, append_images=pages[1:])
    return target.getvalue()


def animation(kind: str, frames: int) -> bytes:
    """An animation whose frames differ by their grey: 40, 60, 80, …"""
    images = [Image.new("RGB", (64, 48), (20 * (n + 2),) * 3) for n in range(frames)]
    target = io.BytesIO()
    images[0].save(target, kind, save_all=True, append_images=images[1:], duration=50)
    return target.getvalue()


def psd(image: Image.Image, *, composite: bool = True, mode: int = 3, depth: int = 8, version: int = 1) -> bytes:
    """A Photoshop document with that composite, or one that says that it has layers only."""
    info = b"8BIM" + pack(">HHI", 1057, 0, 6) + pack(">IBB", 1, composite, 0)
    head = pack(">4sH6xHIIHH", b"8BPS", version, len(image.getbands()), image.height, image.width, depth, mode)
    planes = b"".join(band.tobytes() for band in image.split())
    return head + pack(">II", 0, len(info)) + info + pack(">IH", 0, 0) + planes
