"""The size in the headers of JPEG 2000 and of Photoshop documents, as `headers` reads those of other formats."""

from struct import unpack_from

from pipeline.images.facts import Header
from pipeline.images.headers import MAX_STEPS, Unreadable
from pipeline.images.other_files import NO_DECODER, SAVE_AS_PICTURE
from pipeline.images.recognise import unsupported

_CODESTREAM = b"\xff\x4f\xff\x51"
_MOST_TILES = 65_536
"""Each is decoded by itself."""
_MOST_COMPONENTS = 4
_PSD_MODES = {0: 1, 1: 1, 2: 1, 3: 3, 4: 4, 8: 1, 9: 3}
"""Channels by colour mode: bitmap, grey, indexed, RGB, CMYK, duotone, L*a*b*."""
_PSD_VERSION_INFO = 1057
_PSD_INDEXED = 2


def read_jpeg2000(data: bytes) -> Header:
    """The SIZ marker, which begins the codestream: ISO/IEC 15444-1, A.5.1. In a JP2 file that is in a box."""
    at = 0 if data.startswith(_CODESTREAM) else _codestream_in_boxes(data)
    x, y, left, top, tile_width, tile_height, _, _, components = unpack_from(">8IH", data, at + 8)
    width, height = x - left, y - top
    if not (tile_width and tile_height and x > left and y > top):
        raise Unreadable("its header states a size that can't be")
    if -(-width // tile_width) * -(-height // tile_height) > _MOST_TILES or components > _MOST_COMPONENTS:
        raise unsupported("a JPEG 2000 image of an unusual structure", NO_DECODER)
    return Header(width, height, channels=components if components in {1, 3} else 4)


def _codestream_in_boxes(data: bytes) -> int:
    at = 0
    for _ in range(MAX_STEPS):
        size, kind = unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = unpack_from(">Q", data, start)
            start += 8
        if kind == b"jp2c" and data.startswith(_CODESTREAM, start):
            return start
        if size < start - at:
            break
        at += size
    raise Unreadable("it has a header but no picture")


def read_psd(data: bytes) -> Header:
    """https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/#50577409_19840."""
    version, channels, height, width, depth, mode = unpack_from(">H6xHIIHH", data, 4)
    if version > 1:
        raise unsupported("a large Photoshop document (PSB)", SAVE_AS_PICTURE)
    if mode not in _PSD_MODES or channels < _PSD_MODES[mode] or depth != (8 if mode else 1):
        raise unsupported("a Photoshop document of an unusual kind (PSD)", SAVE_AS_PICTURE)
    if not _psd_has_composite(data):
        raise unsupported(
            "a Photoshop document (PSD) of layers only",
            'Save it with "Maximize Compatibility", or as PNG or JPEG, and upload that.',
        )
    return Header(width, height, channels=3 if mode == _PSD_INDEXED else _PSD_MODES[mode])


def _psd_has_composite(data: bytes) -> bool:
    """Whether the picture is there, and not only its layers: programs then write a notice in its place."""
    at = 30 + unpack_from(">I", data, 26)[0]
    end = at + 4 + unpack_from(">I", data, at)[0]
    at += 4
    for _ in range(MAX_STEPS):
        if at + 12 > min(end, len(data)):
            break
        signature, kind, name = unpack_from(">4sHB", data, at)
        at += 6 + (name + 2 & ~1)
        (size,) = unpack_from(">I", data, at)
        if signature != b"8BIM":
            break
        if kind == _PSD_VERSION_INFO:
            return bool(data[at + 8])
        at += 4 + (size + 1 & ~1)
    return True
