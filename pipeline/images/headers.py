"""Size, orientation and completeness of an image, from its header and structure alone.

Nothing is decoded, and the work on one file is bounded whatever its bytes say: every loop counts its steps. So these
may run on the event loop. They read what Pillow would read too, and are here because Pillow does not say
whether a file is complete without decoding it, and because for some formats opening alone can cost gigabytes
(a TIFF whose 65,535 tags each claim the whole file).

A reader takes the whole file and returns a `Header`. A file that ends where a header should be raises IndexError,
OverflowError or struct.error, which `inspect` turns into corrupt_image; other damage raises `Damaged`. What a reader
cannot decide it leaves as `obstacle`: the image is then not sent as it is, and the decoder has the last word.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import NamedTuple

from pipeline.images.recognise import unsupported

# Far above what cameras and programs write: 20,000 PNG chunks of 8 KB are 160 MB. Up to 5 ms of work.
_MAX_STEPS = 20_000

_TOO_MANY_PIECES = "it is cut into more pieces than any program makes"

_ORIENTATION_TAG = 0x0112
_EXIF_MAX_BYTES = 65_536  # all that a JPEG can hold; the directory stands at the front


class Damaged(Exception):
    """The structure contradicts itself. The text completes "The image is damaged: …"."""


@dataclass(frozen=True, slots=True)
class Header:
    """`obstacle` is why the service may not take the file as it is, as far as the format's own structure tells."""

    width: int
    height: int
    orientation: int = 1
    obstacle: str | None = None


def exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block (a TIFF header and directory), 1 if it has none or is damaged."""
    exif = exif[:_EXIF_MAX_BYTES]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if not order or len(exif) < 8:
        return 1
    (directory,) = unpack_from(order + "I", exif, 4)
    if directory + 2 > len(exif):
        return 1
    (entries,) = unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, min(directory + 2 + 12 * entries, len(exif) - 11), 12):
        tag, kind, _count, value = unpack_from(order + "HHIH", exif, at)
        if tag == _ORIENTATION_TAG:
            return value if kind == 3 and 1 <= value <= 8 else 1
    return 1


# ── JPEG ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_JPEG_PLAIN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: all with Huffman coding
_JPEG_ONE_PASS = frozenset({0xC0, 0xC1, 0xC3, 0xC9, 0xCB})  # sequential or lossless
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LENGTHLESS = frozenset({0x01, *range(0xD0, 0xD9), 0xFF})  # TEM, restarts, SOI, fill bytes


def jpeg_passes(data: bytes) -> int:
    """How many times decoding goes over the whole image: its scans, if they are progressive or hold one colour each."""
    frame, _, scan = _jpeg_frame(data)
    if frame.coding in _JPEG_ONE_PASS and data[scan + 4] == frame.components:
        return 1
    end = data.find(b"\xff\xd9", scan)
    return data.count(b"\xff\xda", scan, end if end > 0 else len(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, offset of its 0xFF), up to and including the first SOS."""
    at = 2
    for _ in range(_MAX_STEPS):
        if data[at] != 0xFF:
            raise Damaged("its header is not made of JPEG segments")
        marker = data[at + 1]
        if marker in _JPEG_LENGTHLESS:
            at += 1 if marker == 0xFF else 2
            continue
        yield marker, at
        if marker in {0xDA, 0xD9}:
            return
        (length,) = unpack_from(">H", data, at + 2)
        at += 2 + length
    raise Damaged("its header goes on without end")


class _JpegFrame(NamedTuple):
    coding: int  # the SOF marker's second byte
    precision: int  # bits a sample
    height: int
    width: int
    components: int


def _read_jpeg(data: bytes) -> Header:
    frame, orientation, scan = _jpeg_frame(data)
    return Header(frame.width, frame.height, orientation, _jpeg_obstacle(data, scan, frame))


def _jpeg_frame(data: bytes) -> tuple[_JpegFrame, int, int]:
    """(frame, orientation, offset of the first SOS marker)."""
    frame: _JpegFrame | None = None
    orientation = 0  # not read yet: only the first EXIF block counts
    scan = 0
    for marker, at in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if frame:
                raise Damaged("it states its size twice")
            frame = _JpegFrame(marker, *unpack_from(">BHHB", data, at + 4))
        elif marker == 0xE1 and not orientation and data.startswith(b"Exif\0\0", at + 4):
            (length,) = unpack_from(">H", data, at + 2)
            orientation = exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            scan = at
    if not frame or not scan:
        raise Damaged("it has a header but no picture")
    return frame, orientation or 1, scan


def _jpeg_obstacle(data: bytes, scan: int, frame: _JpegFrame) -> str | None:
    if frame.coding not in _JPEG_PLAIN or frame.precision != 8:
        return "a rare kind of JPEG"
    if frame.components not in {1, 3}:
        return "CMYK colours"
    # Inside compressed data 0xFF is always escaped, so the end marker is found only if the picture is complete; a
    # thumbnail's own lies before the scan. From the back, because what follows it (a motion photo's video) is legal.
    end = data.rfind(b"\xff\xd9", scan)
    if end < 0:
        return "no end marker"
    # An 8 x 8 block costs at least one bit: less data than that cannot be a picture of the stated size.
    if (end - scan) * 8 * 64 < frame.width * frame.height:
        return "too little data for its size"
    return None


# ── PNG ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_DEFLATE_MAX_RATIO = 1032  # https://zlib.net/zlib_tech.html
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _read_png(data: bytes) -> Header:
    length, kind = unpack_from(">I4s", data, 8)
    if kind != b"IHDR" or length != 13:
        raise Damaged("it does not begin with its size")
    width, height, depth, colour, *_ = unpack_from(">IIBBBBB", data, 16)
    if zlib.crc32(data[12:29]) != unpack_from(">I", data, 29)[0]:
        raise Damaged("the checksum of its header is wrong")

    orientation, pixel_bytes, obstacle = 0, 0, "no end chunk"
    for kind, at, length in _png_chunks(data):
        if kind == b"IDAT":
            pixel_bytes += length
        elif kind == b"eXIf" and not orientation:
            orientation = exif_orientation(data[at : at + length])
        elif kind == b"acTL":
            return Header(width, height, orientation or 1, "an animation")
        elif kind == b"IEND":
            obstacle = ""
    pixel_bits = width * height * depth * _PNG_SAMPLES.get(colour, 1)
    if depth == 16:
        obstacle = obstacle or "16 bits per channel"
    elif pixel_bits > pixel_bytes * 8 * _DEFLATE_MAX_RATIO:
        obstacle = obstacle or "too little data for its size"
    return Header(width, height, orientation or 1, obstacle or None)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset of the content, its length) of the whole chunks after the first, up to IEND."""
    at = 33
    for _ in range(_MAX_STEPS):
        if at + 12 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise Damaged(_TOO_MANY_PIECES)


# ── GIF ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_gif(data: bytes) -> Header:
    width, height, flags = unpack_from("<HHB", data, 6)
    at = 13 + _gif_palette(flags)
    steps = _MAX_STEPS
    frames = 0
    try:
        while steps and frames < 2:
            block = data[at]
            if block == 0x3B:
                return Header(width, height, obstacle=None if frames else "no picture")
            if block == 0x2C:
                frames += 1
                left, top, frame_width, frame_height, flags = unpack_from("<HHHHB", data, at + 1)
                if frames == 1:  # a frame that juts out enlarges the canvas, in Pillow as in browsers
                    width, height = max(width, left + frame_width), max(height, top + frame_height)
                at += 11 + _gif_palette(flags)  # ten bytes, the palette, the code size
            elif block == 0x21:
                at += 2
            else:
                return Header(width, height, obstacle="a block of no known kind")
            at, steps = _after_gif_sub_blocks(data, at, steps)
    except IndexError:
        if not frames:
            raise
        return Header(width, height, obstacle="no end block")
    if not frames:
        raise Damaged(_TOO_MANY_PIECES)
    return Header(width, height, obstacle="an animation" if frames > 1 else "too many blocks to check")


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_gif_sub_blocks(data: bytes, at: int, steps: int) -> tuple[int, int]:
    """(offset after a chain of sub-blocks, steps left). Every sub-block has at most 255 bytes."""
    while steps and (length := data[at]):
        at += length + 1
        steps -= 1
    return at + 1, max(steps - 1, 0)


# ── WEBP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_webp(data: bytes) -> Header:
    """https://developers.google.com/speed/webp/docs/riff_container."""
    (riff_size,) = unpack_from("<I", data, 4)
    kind, _, flags = unpack_from("<4sIB", data, 12)
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise Damaged("it does not begin with a picture")
    if kind == b"VP8X" and flags & 0x02:
        return Header(width, height, obstacle="an animation")

    orientation, picture = 0, False
    at, end = 12, min(riff_size + 8, len(data))
    for _ in range(_MAX_STEPS):
        if at + 8 > end:
            break
        chunk, length = unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            return Header(width, height, orientation or 1, "less data than it states")
        if chunk in {b"VP8 ", b"VP8L"}:
            picture = True
        elif chunk == b"EXIF" and not orientation:
            exif = data[at + 8 : at + 8 + length]
            orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
        at += 8 + length + (length & 1)
    complete = picture and riff_size + 8 <= len(data)
    return Header(width, height, orientation or 1, None if complete else "less data than it states")


# ── BMP ──────────────────────────────────────────────────────────────────────────────────────────────────────────


_BMP_RUN_LENGTH = frozenset({1, 2})
# Pillow decodes these in Python, some 0.5 µs for each two bytes.
_BMP_MAX_RUN_LENGTH_BYTES = 2_000_000


def _read_bmp(data: bytes) -> Header:
    (header_size,) = unpack_from("<I", data, 14)
    width, height = unpack_from("<HH" if header_size <= 16 else "<ii", data, 18)
    if header_size > 16 and len(data) > _BMP_MAX_RUN_LENGTH_BYTES and unpack_from("<I", data, 30)[0] in _BMP_RUN_LENGTH:
        raise unsupported("a large run-length coded BMP, which takes too long to decode")
    return Header(width, abs(height))  # negative: rows from top to bottom


# ── TIFF ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_TIFF_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES, _TIFF_PLANAR = 256, 257, 277, 284
_TIFF_STRIPS, _TIFF_ROWS_PER_STRIP = 273, 278
_TIFF_TILES, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 324, 322, 323
_TIFF_SUBFILE_TYPE, _TIFF_SUB_IFDS, _TIFF_DNG_VERSION = 254, 330, 50706
_TIFF_COUNTED = frozenset({_TIFF_STRIPS, _TIFF_TILES, _TIFF_SUB_IFDS, _TIFF_DNG_VERSION})

# Pillow makes a Python object of each, and a decoder run.
_TIFF_MAX_PIECES = 65_536


def _read_tiff(data: bytes) -> Header:
    """The first page. Classic TIFF, and BigTIFF with its 64-bit offsets."""
    order = "<" if data.startswith(b"II") else ">"
    big = unpack_from(order + "H", data, 2)[0] == 43
    (directory,) = unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (entries,) = unpack_from(order + ("Q" if big else "H"), data, directory)
    entry, entry_size, first = (order + "HHQ", 20, directory + 8) if big else (order + "HHI", 12, directory + 2)
    value_formats = {3: order + "H", 4: order + "I"} | ({16: order + "Q"} if big else {})
    if entries > _MAX_STEPS:
        raise Damaged("it claims to have more tags than any program writes")

    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    claimed = 0
    for at in range(first, first + entries * entry_size, entry_size):
        tag, kind, count = unpack_from(entry, data, at)
        claimed += count * _TIFF_TYPE_BYTES.get(kind, 1)
        if tag in _TIFF_COUNTED:
            counts[tag] = max(count, counts.get(tag, 0))
        if count == 1 and (value_format := value_formats.get(kind)):
            (values[tag],) = unpack_from(value_format, data, at + entry_size - (8 if big else 4))
    if claimed > len(data) + 12 * entries:
        raise Damaged("its tags claim more data than the file has")
    if _TIFF_DNG_VERSION in counts or (values.get(_TIFF_SUBFILE_TYPE, 0) & 1 and _TIFF_SUB_IFDS in counts):
        raise unsupported("a camera's raw file (DNG, NEF or a relative)")
    _check_tiff_pieces(values, counts)
    return Header(values.get(_TIFF_WIDTH, 0), values.get(_TIFF_HEIGHT, 0))


def _check_tiff_pieces(values: Mapping[int, int], counts: Mapping[int, int]) -> None:
    """No more strips or tiles than the picture needs: each is decoded, onto the others if they are too many."""
    width, height = values.get(_TIFF_WIDTH, 0), values.get(_TIFF_HEIGHT, 0)
    planes = values.get(_TIFF_SAMPLES, 1) if values.get(_TIFF_PLANAR) == 2 else 1
    strips = -(-height // (values.get(_TIFF_ROWS_PER_STRIP, height) or 1))
    tile_width, tile_height = values.get(_TIFF_TILE_WIDTH, 0) or 1, values.get(_TIFF_TILE_HEIGHT, 0) or 1
    tiles = -(-width // tile_width) * -(-height // tile_height)
    for tag, needed in ((_TIFF_STRIPS, strips), (_TIFF_TILES, tiles)):
        if counts.get(tag, 0) > min(needed * planes, _TIFF_MAX_PIECES):
            raise Damaged(_TOO_MANY_PIECES)
    if tile_width * tile_height > 2 * max(width * height, 1024 * 1024):
        raise Damaged("its tiles are larger than the picture")


# ── HEIC and AVIF ────────────────────────────────────────────────────────────────────────────────────────────────


def _read_heif(data: bytes) -> Header:
    """The largest size that the file states for any of its images: its tiles and thumbnails are smaller."""
    at, end = 0, len(data)
    for kind, skipped in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        at, end = next(_boxes(data, kind, at, end), (end, end))
        at += skipped  # version and flags
    sizes = [unpack_from(">II", data, start + 4) for start, _ in _boxes(data, b"ispe", at, end)]
    if not sizes:
        raise Damaged("its header does not say how large the picture is")
    return Header(*max(sizes, key=lambda size: size[0] * size[1]))


def _boxes(data: bytes, wanted: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the content of each box of a kind: https://www.iso.org/standard/83102.html, 4.2."""
    for _ in range(_MAX_STEPS):
        if at + 8 > end:
            return
        size, kind = unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = unpack_from(">Q", data, start)
            start += 8
        stop = at + size if size else end
        if stop < start or stop > end:
            # Pictures stand at the end of the file: one cut short is for the decoder to find.
            if kind == wanted:
                raise Damaged("a part of its header is longer than the file")
            return
        if kind == wanted:
            yield start, stop
        at = stop


READERS: Mapping[str, Callable[[bytes], Header]] = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "gif": _read_gif,
    "webp": _read_webp,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
    "heic": _read_heif,
    "avif": _read_heif,
}
