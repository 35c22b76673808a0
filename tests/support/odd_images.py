"""Pictures as programs write them that do it a little differently, built by hand: every viewer opens them."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from support.damaged_images import encoded, png_chunk

PNG_HEADER_END = 33


def png_with_chunk(png: bytes, kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    """`png` with one more chunk behind its header; any `checksum` but the right one is a wrong one."""
    chunk = png_chunk(kind, content)
    if checksum is not None:
        chunk = chunk[:-4] + checksum.to_bytes(4)
    return png[:PNG_HEADER_END] + chunk + png[PNG_HEADER_END:]


def interlaced_png(width: int, height: int, pixel: bytes) -> bytes:
    """A PNG of one colour, in RGBA, whose rows come in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for left, top, across, down in passes:
        columns, lines = len(range(left, width, across)), len(range(top, height, down))
        rows += (b"\0" + pixel * columns) * lines if columns else b""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def bmp_with_alpha(image: Image.Image) -> bytes:
    """A BITMAPV5HEADER that claims an alpha channel, with `image` in RGBA behind it."""
    pixels = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    fields = (124, image.width, image.height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header = (struct.pack("<IiiHHIIiiII", *fields) + masks).ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels), 0, 0, 14 + 124) + header + pixels


def large_jpeg(width: int, height: int) -> bytes:
    """A baseline JPEG of any size, made without holding its pixels: one row of blocks, again and again."""
    strip = Image.linear_gradient("L").resize((width, 16)).convert("RGB")
    row = encoded(strip, "JPEG", quality=40, restart_marker_rows=1)
    frame, scan = row.index(b"\xff\xc0"), row.index(b"\xff\xda")
    data = scan + 2 + int.from_bytes(row[scan + 2 : scan + 4])
    head = row[: frame + 5] + height.to_bytes(2) + row[frame + 7 : data]
    rows = -(-height // 16)
    restarts = (bytes((0xFF, 0xD0 + n % 8)) for n in range(rows - 1))
    return head + b"".join(row[data:-2] + restart for restart in restarts) + row[data:-2] + b"\xff\xd9"


@dataclass
class Page:
    """A page of a TIFF, in one colour; `tags` are (number, type, value), of one value each."""

    width: int
    height: int
    colour: tuple[int, int, int] = (200, 30, 30)
    tags: Sequence[tuple[int, int, int]] = field(default_factory=tuple)


def tiff_of_pages(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """An uncompressed RGB TIFF, its tags in ascending order as the format wants them."""
    pointer, count, entry = (
        (order + "Q", order + "Q", order + "HHQ") if big else (order + "I", order + "H", order + "HHI")
    )
    mark = b"II" if order == "<" else b"MM"
    start = mark + struct.pack(order + "HHH", 43, 8, 0) if big else mark + struct.pack(order + "H", 42)
    first_at = len(start)
    data = bytearray(start + bytes(struct.calcsize(pointer)))
    for page in pages:
        pixels, depths = len(data), len(data) + 3 * page.width * page.height
        data += bytes(page.colour) * (page.width * page.height) + struct.pack(order + "HHH", 8, 8, 8)
        tags = [(256, 4, page.width), (257, 4, page.height), (259, 3, 1), (262, 3, 2), (273, 4, pixels), (277, 3, 3)]
        tags += [(278, 4, page.height), (279, 4, 3 * page.width * page.height), *page.tags]
        data[first_at : first_at + struct.calcsize(pointer)] = struct.pack(pointer, len(data))
        entries = {tag: (kind, 1, value) for tag, kind, value in tags}
        entries[258] = (3, 3, depths)
        data += struct.pack(count, len(entries))
        for tag, (kind, number, value) in sorted(entries.items()):
            inline = struct.pack(order + ("H" if kind == 3 else "I"), value) if number == 1 else b""
            if number == 3:
                inline = struct.pack(order + "HHH", 8, 8, 8) if big else struct.pack(order + "I", value)
            data += struct.pack(entry, tag, kind, number) + inline.ljust(struct.calcsize(pointer), b"\0")
        first_at = len(data)
        data += bytes(struct.calcsize(pointer))
    return bytes(data)
