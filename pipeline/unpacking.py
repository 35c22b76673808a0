"""Unpacking content that was stored compressed, within a limit. Pure.

Content-Encoding is the uploader's remark and often wrong: a plain JPEG says `gzip`, a gzipped PNG says nothing. So the
bytes are read as stored, and what they start with decides.
"""

import zlib

_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""The first bytes that zlib writes at its four levels. A text may begin like two of them: "x^"."""
_PROBED_BYTES = 512
"""Enough to tell zlib from text: decompression of a text that begins as zlib fails within 60 bytes."""
_ANY_WRAPPER = 32 + zlib.MAX_WBITS
"""For zlib: recognise the header of gzip or zlib."""


MOST_MEMBERS = 10_000
"""Of a gzip file. bgzip writes one for each 64 KiB."""
_FED_BYTES = 64 * 1024
"""Given to zlib at a time: what it does not use of them, behind the end of a member, it copies."""


class TooLarge(Exception):
    """Unpacked, the content is larger than the limit."""


class Broken(Exception):
    """The content is compressed, and can't be unpacked. The text completes "It can't be unpacked: …"."""


def is_gzip(data: bytes) -> bool:
    """Whether `data` starts as gzip does, and no text in UTF-8."""
    return data.startswith(_GZIP)


def is_packed(data: bytes) -> bool:
    """Whether `data` is compressed as gzip, by its signature, or zlib (what HTTP calls deflate), by its first bytes."""
    return is_gzip(data) or (data.startswith(_ZLIB) and _begins_as_zlib(data))


def _begins_as_zlib(data: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(data[:_PROBED_BYTES], zlib.DEF_BUF_SIZE)
    except zlib.error:
        return False
    return unpacker.eof or len(data) >= _PROBED_BYTES


def unpacked(data: bytes, limit: int) -> bytes:
    """`data` unpacked if it is packed, otherwise `data` itself. It takes 2 to 5 ms for each megabyte that comes out.

    Never holds more than `limit` bytes of unpacked content and a copy of it, whatever `data` claims.

    Raises:
        TooLarge: more than `limit` bytes come out.
        Broken: it is damaged or cut off.
    """
    if not is_packed(data):
        return data
    out = bytearray()
    rest = memoryview(data)
    for _ in range(MOST_MEMBERS):  # gzip may be several members, one after the other
        unpacker = zlib.decompressobj(_ANY_WRAPPER)
        while rest and not unpacker.eof:
            part = rest[:_FED_BYTES]
            try:
                out += unpacker.decompress(unpacker.unconsumed_tail + part, limit + 1 - len(out))
            except zlib.error as error:
                raise Broken(_problem(error, behind=bool(out))) from None
            if len(out) > limit:
                raise TooLarge
            rest = rest[len(part) - len(unpacker.unused_data) :]
        if not unpacker.eof:
            raise Broken("it is cut off")
        # Anything but another member is padding, as gzip itself has it.
        if rest[: len(_GZIP)] != _GZIP:
            return bytes(out)
    raise Broken(f"it has more than {MOST_MEMBERS:,} parts")


def _problem(error: zlib.error, *, behind: bool) -> str:
    if " check" in str(error) and "header" not in str(error):  # "incorrect data check", "incorrect length check"
        return "it is damaged (its checksum does not match)"
    return "what follows its first part is damaged" if behind else "it is damaged"


def unpacked_start(data: bytes, length: int) -> bytes:
    """At most `length` bytes of what packed content begins with, of which `data` is the beginning.

    What is not packed, or only looks as if, comes back as it is.
    """
    if not is_packed(data):
        return data
    try:
        return zlib.decompressobj(_ANY_WRAPPER).decompress(data, length)
    except zlib.error:
        return data
