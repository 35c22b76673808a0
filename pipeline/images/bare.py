"""The picture without what is not pixels and may trip up a decoder. Pure."""

import zlib

from pipeline.images import tiff
from pipeline.images.headers import png_chunks

MAX_PROFILE_BYTES = 65_536
"""A colour profile larger than that is a printer's or a scanner's, or a bomb."""

_PNG_IHDR_END = 33
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# What tRNS holds for grey and for RGB; for a palette, a byte for each of at most 256 colours.
_PNG_TRANSPARENCY_BYTES = {0: {2}, 2: {6}, 3: set(range(1, 257))}


def bare(kind: str, data: bytes, directory: int | None) -> bytes:
    """A PNG with nothing but its pixels, palette and profile; a TIFF that begins with `directory`; else `data` itself.

    Remarks, times, previews and animations of a PNG may then be as large and as damaged as they like.
    """
    if directory is not None:
        return tiff.beginning_with(data, directory)
    return _bare_png(data) if kind == "png" and data[12:16] == b"IHDR" else data


def _bare_png(data: bytes) -> bytes:
    file = memoryview(data)
    profile, colours, pixels, end = b"", [], [], _PNG_IHDR_END
    for kind, at, length in png_chunks(data, len(data)):
        end = at + length + 4
        if kind == b"IDAT":
            pixels.append(file[at : at + length])
        elif kind == b"PLTE" or (kind == b"tRNS" and length in _PNG_TRANSPARENCY_BYTES.get(data[25], ())):
            colours.append(_png_chunk(kind, data[at : at + length]))
        elif kind == b"iCCP":
            profile = _png_profile(data[at : at + length])
        elif kind == b"IEND":
            break
    if data[end + 4 : end + 8] == b"IDAT":  # cut short: the decoder says whether anything is missing
        pixels.append(file[end + 8 :])
    size = sum(len(part) for part in pixels).to_bytes(4)
    # Decoders don't check the CRC of pixel data: its stream has a checksum of its own.
    return b"".join((file[:_PNG_IHDR_END], profile, *colours, size, b"IDAT", *pixels, bytes(4), _PNG_END))


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def _png_profile(content: bytes) -> bytes:
    """The chunk of a colour profile, or nothing if that is damaged or too large."""
    _, _, packed = content.partition(b"\0")
    try:
        profile = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return b""
    return _png_chunk(b"iCCP", content) if packed[:1] == b"\0" and len(profile) <= MAX_PROFILE_BYTES else b""
