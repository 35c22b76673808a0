"""Size, orientation and completeness of an image, from its header and structure alone.

Nothing is decoded, and the work on one file is bounded whatever its bytes say: every loop counts its steps. So these
may run on the event loop. They read what Pillow would read too, and are here because Pillow does not say
whether a file is complete without decoding it, and because for some formats opening alone can cost gigabytes.

A reader takes the whole file and returns a `Header`. Where it can't make out the size it raises `Unreadable`, or
IndexError, OverflowError or struct.error where a file ends within its header: the decoder then has the last word. So
it has on what a reader leaves as `obstacle`. A file that would take too long to decode is a `PermanentFailure`.
"""

import struct
import zlib
from collections.abc import Iterator
from struct import unpack_from
from typing import NamedTuple

from pipeline.images.facts import Header
from pipeline.images.recognise import unsupported

MAX_STEPS = 20_000
"""Parts of a header that are looked at: 5 ms of work, and far above what cameras and programs write."""

VEILED = "it may be transparent all over"
"""The obstacle of an image whose alpha channel may be zero everywhere: viewers ignore such a channel, and whether the
service does is its own business. Only decoding tells."""

NO_END = "no end marker"
"""The obstacle of a JPEG that lacks its last two bytes, and perhaps more."""

# Bytes between the segments of a JPEG header, which decoders skip: Pillow one by one, at 0.3 µs each.
_MAX_JUNK_BYTES = 1_000_000

_ORIENTATION_TAG = 0x0112
_EXIF_MAX_BYTES = 65_536  # all that a JPEG can hold; the directory stands at the front


class Unreadable(Exception):
    """The reader can't make out the size. The text completes "The image is damaged: …"."""


class Missing(Unreadable):
    """The picture is not in the file, and what a decoder would find in its place is something else."""


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


class JpegFrame(NamedTuple):
    """The SOF segment."""

    coding: int
    """The marker's second byte."""
    precision: int
    """Bits a sample."""
    height: int
    width: int
    components: int
    at: int
    """Offset of the marker."""

    def planes_bytes(self, data: bytes) -> int:
        """Bytes of coefficients that a decoder holds, two each, where it can't go through the image in one pass."""
        factors = [data[self.at + 11 + 3 * n] for n in range(self.components)] or [0x11]
        blocks = sum((factor >> 4) * (factor & 15) for factor in factors)
        widest = max(factor >> 4 for factor in factors) * max(factor & 15 for factor in factors)
        return 2 * self.width * self.height * blocks // (widest or 1)


class _JpegHeader(NamedTuple):
    frame: JpegFrame
    orientation: int
    scan: int
    """Offset of the first SOS marker."""
    junk: bool
    """Whether something stands between the segments."""

    def in_one_pass(self, data: bytes) -> bool:
        return self.frame.coding in _JPEG_ONE_PASS and data[self.scan + 4] == self.frame.components


def jpeg_passes(data: bytes) -> int:
    """How many times decoding goes over the whole image: its scans, if they are progressive or hold one colour each."""
    try:
        header = jpeg_header(data)
    except (Unreadable, IndexError, struct.error):
        return data.count(b"\xff\xda")
    if header.in_one_pass(data):
        return 1
    end = data.find(b"\xff\xd9", header.scan)
    return data.count(b"\xff\xda", header.scan, end if end > 0 else len(data))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, offset of its 0xFF), up to and including the first SOS. Marker 0 is what stands between segments."""
    at, junk = 2, 0
    for _ in range(MAX_STEPS):
        if data[at] != 0xFF or data[at + 1] == 0:
            yield 0, at
            began, at = at, data.find(b"\xff", at + 1) % (len(data) + 1)  # -1 is the end
            junk += at - began
            if junk > _MAX_JUNK_BYTES:
                break
            continue
        marker = data[at + 1]
        if marker in _JPEG_LENGTHLESS:
            at += 1 if marker == 0xFF else 2
            continue
        yield marker, at
        if marker in {0xDA, 0xD9}:
            return
        (length,) = unpack_from(">H", data, at + 2)
        at += 2 + length
    raise unsupported("a JPEG with a header too long to look through")


def jpeg_header(data: bytes) -> _JpegHeader:
    """The header of a JPEG.

    Raises:
        Unreadable, IndexError, struct.error: it has none.
    """
    frame: JpegFrame | None = None
    orientation = 0  # not read yet: only the first EXIF block counts
    scan, junk = 0, False
    for marker, at in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if frame:
                raise Unreadable("it states its size twice")
            precision, height, width, components = unpack_from(">BHHB", data, at + 4)
            frame = JpegFrame(marker, precision, height, width, components, at)
        elif marker == 0xE1 and not orientation and data.startswith(b"Exif\0\0", at + 4):
            (length,) = unpack_from(">H", data, at + 2)
            orientation = exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            scan = at
        elif not marker:
            junk = True
    if not frame or not scan:
        raise Unreadable("it has a header but no picture")
    return _JpegHeader(frame, orientation or 1, scan, junk)


def read_jpeg(data: bytes) -> Header:
    header = jpeg_header(data)
    frame = header.frame
    return Header(
        frame.width,
        frame.height,
        header.orientation,
        _jpeg_obstacle(data, header),
        channels=1 if frame.components == 1 else 3,
        planes_bytes=0 if header.in_one_pass(data) else frame.planes_bytes(data),
    )


def _jpeg_obstacle(data: bytes, header: _JpegHeader) -> str | None:
    # Inside compressed data 0xFF is always escaped, so the end marker is found only if the picture is complete; a
    # thumbnail's own lies before the scan. From the back, because what follows it (a motion photo's video) is legal.
    end = data.rfind(b"\xff\xd9", header.scan)
    if end < 0:
        return NO_END
    frame = header.frame
    if frame.coding not in _JPEG_PLAIN or frame.precision != 8:
        return "a rare kind of JPEG"
    if frame.components not in {1, 3}:
        return "CMYK colours"
    if header.junk:
        return "something stands between its segments"
    if _is_too_short(frame, end - header.scan):
        return "too little data for its size"
    return None


def _is_too_short(frame: JpegFrame, length: int) -> bool:
    # An 8 x 8 block costs at least one bit: less data than that cannot be a picture of the stated size.
    return length * 8 * 64 < frame.width * frame.height


# A line end or two zeros behind a picture that lacks its end marker may be its last bytes. A longer run of zeros is a
# tail that was never written, or padding behind a whole picture.
_MAX_FILLER_BYTES = 4
# Compressed data that differs in each bit from the other's, without 0xFF.
_NOISE = bytes(n * 83 % 254 + 1 for n in range(254))
_OTHER_NOISE = bytes(255 - byte for byte in _NOISE)


def ended_jpegs(data: bytes) -> Iterator[bytes]:
    """A JPEG without an end marker, completed twice: with noise of two kinds, and an end marker behind it.

    A decoder reads the noise as the rest of the picture if some of that is missing, and skips it if nothing is. So the
    two show the same picture if, and only if, all of it is there. None come where the headers say already that some of
    it is missing.
    """
    header = jpeg_header(data)
    whole = data.rstrip(b"\0\r\n")
    if (
        len(data) - len(whole) > _MAX_FILLER_BYTES
    ):  # where the picture is not complete without these zeros, it is cut off
        data = whole
    if _is_too_short(header.frame, len(data) - header.scan) or not (
        header.in_one_pass(data) or _all_scans_begin(data, header)
    ):
        return
    # The part that is missing may begin with a restart marker: the one that follows the last.
    _, last = max((data.rfind(bytes((0xFF, 0xD0 + n)), header.scan), n) for n in range(8))
    restarts = [bytes((0xFF, 0xD0 + (last + step) % 8)) for step in (1, 2)]
    picture = data.removesuffix(b"\xff")  # half an end marker
    for noise in (_NOISE, _OTHER_NOISE):
        yield b"".join((picture, noise, restarts[0], noise, restarts[1], noise, b"\xff\xd9"))


def _all_scans_begin(data: bytes, header: _JpegHeader) -> bool:
    """Whether there is a scan for the last bit of each of the 64 coefficients of each colour."""
    missing = {component: set(range(64)) for component in _component_ids(data, header.frame)}
    at = header.scan
    while at >= 0 and len(data) > at + 4:
        colours = data[at + 4]
        first, last, bits = data[at + 5 + 2 * colours : at + 8 + 2 * colours].ljust(3, b"\xff")
        for component in data[at + 5 : at + 5 + 2 * colours : 2]:
            if not bits & 15:  # how many bits are left to later scans
                missing.get(component, set()).difference_update(range(first, last + 1))
        at = data.find(b"\xff\xda", at + 2)
    return not any(missing.values())


def _component_ids(data: bytes, frame: JpegFrame) -> bytes:
    return data[frame.at + 10 : frame.at + 10 + 3 * frame.components : 3]


# ── PNG ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_DEFLATE_MAX_RATIO = 1032  # https://zlib.net/zlib_tech.html
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_WITH_ALPHA = frozenset({4, 6})
_PNG_PALETTE = 3
# Of the first row, whose alpha is looked at: 255 pixels of four samples.
_PNG_PEEK_BYTES = 1021


class _PngHeader(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlaced: int


def read_png(data: bytes) -> Header:
    """https://www.w3.org/TR/png-3/."""
    length, kind = unpack_from(">I4s", data, 8)
    if kind != b"IHDR" or length != 13:
        raise Unreadable("it does not begin with its size")
    header = _PngHeader(*unpack_from(">IIBBBBB", data, 16))
    if zlib.crc32(data[12:29]) != unpack_from(">I", data, 29)[0]:
        raise Unreadable("the checksum of its header is wrong")

    orientation, pixel_bytes, palette, transparency = 0, 0, 0, False
    obstacle, veiled = "no end chunk", False
    for kind, at, length in png_chunks(data, MAX_STEPS):
        if kind == b"IDAT":
            veiled = veiled or (not pixel_bytes and _begins_invisible(data, at, length, header))
            pixel_bytes += length
        elif kind == b"PLTE":
            palette = length // 3
        elif kind == b"tRNS":
            transparency = True
            veiled = header.colour == _PNG_PALETTE and length >= palette and not any(data[at : at + length])
        elif kind == b"eXIf" and not orientation:
            orientation = exif_orientation(data[at : at + length])
        elif kind == b"acTL":
            obstacle = "an animation"
            break
        elif kind == b"IEND":
            obstacle = ""
    obstacle = obstacle or _png_obstacle(header, pixel_bytes) or (VEILED if veiled else "")
    channels = 4 if header.colour in _PNG_WITH_ALPHA or transparency else 3
    grey = header.colour == 0 and header.depth <= 8 and not transparency
    return Header(header.width, header.height, orientation or 1, obstacle or None, channels=1 if grey else channels)


def _png_obstacle(header: _PngHeader, pixel_bytes: int) -> str:
    if header.depth == 16:
        return "16 bits per channel"
    if header.compression or header.filtering:
        return "a compression of its own"
    pixel_bits = header.width * header.height * header.depth * _PNG_SAMPLES.get(header.colour, 1)
    return "too little data for its size" if pixel_bits > pixel_bytes * 8 * _DEFLATE_MAX_RATIO else ""


def _begins_invisible(data: bytes, at: int, length: int, header: _PngHeader) -> bool:
    """Whether alpha is zero at the start of the first row. No filter makes zeros of anything else there."""
    if header.colour not in _PNG_WITH_ALPHA or header.depth != 8:
        return False
    samples = _PNG_SAMPLES[header.colour]
    row = 1 + samples * (-(-header.width // 8) if header.interlaced else header.width)
    try:
        start = zlib.decompressobj().decompress(data[at : at + min(length, 4096)], min(row, _PNG_PEEK_BYTES))
    except zlib.error:
        return False
    return not any(start[samples::samples])


def png_chunks(data: bytes, most: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset of the content, its length) of the first `most` whole chunks after the first, up to IEND."""
    at = 33
    for _ in range(most):
        if at + 12 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length


# ── GIF ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_gif(data: bytes) -> Header:
    width, height, flags = unpack_from("<HHB", data, 6)
    at = 13 + _gif_palette(flags)
    steps = MAX_STEPS
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
        raise unsupported("a GIF with too many comments to look through")
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


_WEBP_FLAT_ALPHA_BYTES = 64


def read_webp(data: bytes) -> Header:
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
        raise Unreadable("it does not begin with a picture")
    if kind == b"VP8X" and flags & 0x02:
        return Header(width, height, obstacle="an animation")

    orientation, picture, veiled, channels = 0, False, False, 3
    end = min(riff_size + 8, len(data))
    for chunk, at, length in _riff_chunks(data, end):
        if at + length > end:
            return Header(width, height, orientation or 1, "less data than it states")
        if chunk in {b"VP8 ", b"VP8L"}:
            picture = True
        elif chunk == b"EXIF" and not orientation:
            orientation = exif_orientation(data[at : at + length].removeprefix(b"Exif\0\0"))
        if chunk in {b"VP8L", b"ALPH"}:
            channels, veiled = 4, _is_perhaps_veiled(chunk, data[at : at + min(length, _WEBP_FLAT_ALPHA_BYTES)])
    complete = picture and riff_size + 8 <= len(data)
    obstacle = (VEILED if veiled else None) if complete else "less data than it states"
    return Header(width, height, orientation or 1, obstacle, channels=channels)


def _riff_chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset of the content, its length)."""
    at = 12
    for _ in range(MAX_STEPS):
        if at + 8 > end:
            return
        kind, length = unpack_from("<4sI", data, at)
        yield kind, at + 8, length
        at += 8 + length + (length & 1)


def _is_perhaps_veiled(chunk: bytes, start: bytes) -> bool:
    """Whether alpha may be zero everywhere, by the start of a chunk."""
    if chunk == b"VP8L":  # colours and alpha are coded as one: whether there is any alpha is all that shows
        return bool(start[4] & 0x10)
    # Alpha that is the same everywhere is coded in a few bytes, or else its first ones are zero.
    return len(start) < _WEBP_FLAT_ALPHA_BYTES or not any(start[1:])


# ── BMP ──────────────────────────────────────────────────────────────────────────────────────────────────────────


_BMP_RUN_LENGTH = frozenset({1, 2})
# Pillow decodes these in Python, some 0.5 µs for each two bytes.
_BMP_MAX_RUN_LENGTH_BYTES = 2_000_000


def read_bmp(data: bytes) -> Header:
    (header_size,) = unpack_from("<I", data, 14)
    width, height, _, bits = unpack_from("<HHHH" if header_size == 12 else "<iiHH", data, 18)
    if header_size > 16 and len(data) > _BMP_MAX_RUN_LENGTH_BYTES and unpack_from("<I", data, 30)[0] in _BMP_RUN_LENGTH:
        raise unsupported("a large run-length coded BMP, which takes too long to decode")
    return Header(width, abs(height), channels=4 if bits == 32 else 3)  # negative: rows from top to bottom


# ── HEIC and AVIF ────────────────────────────────────────────────────────────────────────────────────────────────


# What says in a property that an image is the alpha channel of another one: ISO/IEC 23000-22, 7.3.5.2, and HEVC's own.
_HEIF_ALPHA = (b"auxiliary:alpha", b"auxid:1\0")


def read_heif(data: bytes) -> Header:
    """The largest size that the file states for any of its images: its tiles and thumbnails are smaller."""
    at, end = 0, len(data)
    for kind, skipped in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        at, end = next(_boxes(data, kind, at, end), (end, end))
        at += skipped  # version and flags
    sizes = [unpack_from(">II", data, start + 4) for start, _ in _boxes(data, b"ispe", at, end)]
    if not sizes:
        raise Unreadable("its header does not say how large the picture is")
    alpha = any(data.find(name, at, end) > 0 for name in _HEIF_ALPHA)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header(width, height, channels=4 if alpha else 3)


def _boxes(data: bytes, wanted: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the content of each box of a kind: https://www.iso.org/standard/83102.html, 4.2."""
    for _ in range(MAX_STEPS):
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
                raise Unreadable("a part of its header is longer than the file")
            return
        if kind == wanted:
            yield start, stop
        at = stop
