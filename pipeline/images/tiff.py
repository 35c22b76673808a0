"""The directories of a TIFF: which page is the picture, how many there are, and of what kind. Nothing is decoded.

Classic TIFF (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), and BigTIFF with its 64-bit offsets.
"""

from collections.abc import Iterator, Mapping
from struct import error, pack, unpack_from
from typing import NamedTuple

from pipeline.images.facts import Header
from pipeline.images.headers import MAX_STEPS, Missing
from pipeline.images.other_files import NO_DECODER
from pipeline.images.recognise import unsupported

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS = 254, 255, 256, 257, 258
_COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 259, 262, 273, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _SUB_IFDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 324, 330, 338, 339
_DNG_VERSION = 50706

_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: a smaller version of another image, and a mask for one."""
_OLD_REDUCED = 2
"""The value of SubfileType for the former."""
_SHORT, _LONG, _LONG8 = 3, 4, 16
"""Types of tags that are whole numbers."""

# What a file may make the decoder do: each strip or tile is decoded, onto others if they are too many.
_MAX_PIECES = 65_536
_MAX_WORK = 4
_FREE_WORK_PIXELS = 16_000_000
_MAX_TAGS = 4_096

# What no decoder here reads, by the value of its tag: https://www.awaresystems.be/imaging/tiff/tifftags/compression.html.
_COMPRESSIONS = {
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT compression",
    32908: "PixarFilm compression",
    32909: "PixarLog compression",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "LogLuv colours",
    34677: "LogLuv colours",
    34712: "JPEG 2000",
    34713: "a camera's raw data",
    34887: "LERC compression",
    34892: "a camera's raw data",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard compression",
    50001: "WEBP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_NUMBERS = {2: "signed whole", 3: "floating-point", 5: "complex", 6: "complex"}
_USUAL_BITS = frozenset({1, 8, 16})
# Samples of a pixel by photometric interpretation: grey twice, RGB, palette, CMYK, YCbCr, L*a*b*.
_USUAL_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_YCBCR = 6
_SEPARATE = 2
_JPEG = frozenset({6, 7})


class _Layout(NamedTuple):
    """How this file writes numbers and directories, in the notation of `struct`."""

    order: str
    pointer: str
    count_form: str
    """Of the entries of a directory, at its start."""
    count_bytes: int
    entry: str
    """Tag, type and count, before the value."""
    entry_bytes: int
    value_at: int
    """Offset of the value, or of a pointer to it."""

    @property
    def first_pointer_at(self) -> int:
        return 8 if self.count_bytes == 8 else 4

    def entries(self, data: bytes, directory: int) -> tuple[int, int]:
        """(offset of the first entry, how many)."""
        return directory + self.count_bytes, unpack_from(self.count_form, data, directory)[0]


def _layout(data: bytes) -> _Layout:
    order = "<" if data.startswith(b"II") else ">"
    if unpack_from(order + "H", data, 2)[0] == 43:
        return _Layout(order, order + "Q", order + "Q", 8, order + "HHQ", 20, 12)
    return _Layout(order, order + "I", order + "H", 2, order + "HHI", 12, 8)


class _Directory(NamedTuple):
    """The tags of one page: those with a single value, the counts of all, and the first number of each."""

    values: Mapping[int, int]
    counts: Mapping[int, int]


def read_tiff(data: bytes, page: int = 1) -> Header:
    """The header of a page, by its number from 1: there must be as many."""
    layout = _layout(data)
    offsets = list(_directories(data, layout))
    if not offsets:
        raise Missing("it has a header but no picture")
    real = [offset for offset in offsets if offset and not _is_beside_the_picture(data, layout, offset)]
    if not real and not offsets[-1]:
        raise Missing("it ends before the page with its picture")
    first = real[page - 1] if real else max(filter(None, offsets), key=lambda offset: _pixels(data, layout, offset))
    _, beginning = _read(data, layout, offsets[0])
    if _DNG_VERSION in beginning or (_SUB_IFDS in beginning and offsets[0] not in real):
        raise unsupported("a camera's raw file (DNG, NEF or a relative)")
    directory = _read(data, layout, first)
    width, height = directory.values.get(_WIDTH, 0), directory.values.get(_HEIGHT, 0)
    values = directory.values
    if values.get(_PLANAR) == _SEPARATE and values.get(_SAMPLES, 1) > 1 and values.get(_BITS, 1) > 8:
        # Pillow 13 decodes them to noise.
        raise unsupported(f"a TIFF with separate colour planes of {values[_BITS]} bits", NO_DECODER)
    _check_pieces(directory, width, height)
    return Header(
        width,
        height,
        channels=_channels(directory),
        pages=max(len(real), 1),
        directory=None if first == offsets[0] else first,
    )


def beginning_with(data: bytes, directory: int) -> bytes:
    """`data` with that directory as its first: decoders look no further."""
    layout = _layout(data)
    at = layout.first_pointer_at
    offset = pack(layout.pointer, directory)
    return b"".join((memoryview(data)[:at], offset, memoryview(data)[at + len(offset) :]))


def rare_kind(data: bytes, directory: int | None) -> str | None:
    """Name what no decoder here reads in the picture, such as "with JPEG 2000 inside"; None if it is usual."""
    try:
        layout = _layout(data)
        values, counts = _read(data, layout, directory or next(_directories(data, layout)))
    except (IndexError, error, OverflowError, StopIteration):
        return None
    bits, samples = values.get(_BITS, 1), values.get(_SAMPLES, 1)
    numbers = _NUMBERS.get(values.get(_SAMPLE_FORMAT, 1))
    usual = _USUAL_SAMPLES.get(values.get(_PHOTOMETRIC, 0))
    what = _COMPRESSIONS.get(values.get(_COMPRESSION, 1))
    if what:
        what = f"with {what} inside"
    elif numbers:
        what = f"with {bits}-bit {numbers} samples"
    elif bits not in _USUAL_BITS:
        what = f"with {bits} bits per sample"
    elif layout.order == ">" and layout.count_bytes == 8:
        what = "in the large, big-endian form (BigTIFF)"
    elif usual is None or usual != samples - counts.get(_EXTRA_SAMPLES, 0):
        what = "with an unusual number of colour channels" if usual else "in an unusual colour space"
    elif values.get(_PHOTOMETRIC) == _YCBCR and values.get(_COMPRESSION) not in _JPEG:
        what = "with subsampled colours"
    return what


def _directories(data: bytes, layout: _Layout) -> Iterator[int]:
    """The offsets of all pages, up to where they turn back. If they lead out of the file the last one is 0."""
    (directory,) = unpack_from(layout.pointer, data, layout.first_pointer_at)
    layout.entries(data, directory)  # the first has to be there
    seen: set[int] = set()
    while directory and directory not in seen and len(seen) < MAX_STEPS:
        try:
            first, count = layout.entries(data, directory)
            (following,) = unpack_from(layout.pointer, data, first + count * layout.entry_bytes)
        except (error, OverflowError):
            if seen:
                yield 0
                return
            following = 0
        yield directory
        seen.add(directory)
        directory = following


def _is_beside_the_picture(data: bytes, layout: _Layout, offset: int) -> bool:
    """Whether the page is a thumbnail or a mask. Tags stand in ascending order, and these are the lowest of all."""
    at, count = layout.entries(data, offset)
    for start in range(at, at + min(count, 2) * layout.entry_bytes, layout.entry_bytes):
        tag, kind, _ = unpack_from(layout.entry, data, start)
        if tag > _OLD_SUBFILE_TYPE:
            break
        (value,) = unpack_from(layout.order + ("H" if kind == _SHORT else "I"), data, start + layout.value_at)
        if (tag == _SUBFILE_TYPE and value & (_REDUCED | _MASK)) or (
            tag == _OLD_SUBFILE_TYPE and value == _OLD_REDUCED
        ):
            return True
    return False


def _pixels(data: bytes, layout: _Layout, offset: int) -> int:
    values, _ = _read(data, layout, offset, most=8)
    return values.get(_WIDTH, 0) * values.get(_HEIGHT, 0)


def _read(data: bytes, layout: _Layout, offset: int, most: int = _MAX_TAGS) -> _Directory:
    at, count = layout.entries(data, offset)
    if count > _MAX_TAGS:
        raise unsupported(f"a TIFF with {count:,} tags, too many to look through")
    numbers = {_SHORT: (layout.order + "H", 2), _LONG: (layout.order + "I", 4), _LONG8: (layout.order + "Q", 8)}
    room = layout.entry_bytes - layout.value_at
    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    whole = (len(data) - at) // layout.entry_bytes  # of a directory that is cut short, decoders take what is there
    for start in range(at, at + min(count, most, whole) * layout.entry_bytes, layout.entry_bytes):
        tag, kind, length = unpack_from(layout.entry, data, start)
        counts[tag] = max(length, counts.get(tag, 0))
        if (number := numbers.get(kind)) and (length == 1 or tag in _FIRST_OF_MANY):
            form, size = number
            inline = length * size <= room
            where = start + layout.value_at if inline else unpack_from(layout.pointer, data, start + layout.value_at)[0]
            if where + size <= len(data):
                (values[tag],) = unpack_from(form, data, where)
    return _Directory(values, counts)


_FIRST_OF_MANY = frozenset({_BITS, _SAMPLE_FORMAT})
"""One value for each sample, and as good as always the same."""


def _channels(directory: _Directory) -> int:
    values, counts = directory
    samples, bits = values.get(_SAMPLES, 1), values.get(_BITS, 1)
    if bits > 16 or _EXTRA_SAMPLES in counts or samples > 4:
        return 4
    return 1 if samples == 1 and bits <= 8 and values.get(_PHOTOMETRIC, 0) < 2 else 3


def _check_pieces(directory: _Directory, width: int, height: int) -> None:
    """No more strips or tiles than the picture needs: each is decoded, onto the others if they are too many."""
    values, counts = directory
    planes = values.get(_SAMPLES, 1) if values.get(_PLANAR) == _SEPARATE else 1
    rows = min(values.get(_ROWS_PER_STRIP, height) or height, height)
    tile_width, tile_height = values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)
    allowed = _MAX_WORK * width * height * planes + _FREE_WORK_PIXELS
    for count, pixels in ((counts.get(_STRIPS, 0), width * rows), (counts.get(_TILES, 0), tile_width * tile_height)):
        if count > _MAX_PIECES or count * pixels > allowed:
            raise unsupported(f"a TIFF of {count:,} strips or tiles, which takes too long to decode")
    if tile_width * tile_height > 2 * max(width * height, 1024 * 1024):
        raise unsupported("a TIFF whose tiles are larger than the picture")
