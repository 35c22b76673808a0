"""Unpacking content that was stored compressed, within a limit. Pure.

Content-Encoding is the uploader's remark and often wrong: a plain JPEG says `gzip`, a gzipped PNG says nothing. So the
bytes are read as stored, and what they start with decides.
"""

import zlib

_GZIP = b"\x1f\x8b\x08"
_ANY_WRAPPER = 32 + zlib.MAX_WBITS
"""For zlib: recognise the header of gzip or zlib."""


class TooLarge(Exception):
    """Unpacked, the content is larger than the limit."""


class Broken(Exception):
    """The content starts as compressed data does, and can't be unpacked."""


def is_packed(data: bytes) -> bool:
    """Whether `data` starts as gzip does, or zlib (what HTTP calls deflate)."""
    return data.startswith(_GZIP) or (data[:1] == b"\x78" and len(data) > 1 and (data[0] * 256 + data[1]) % 31 == 0)


def unpacked(data: bytes, limit: int) -> bytes:
    """`data` unpacked if it is packed, otherwise `data` itself. It takes 2 to 5 ms for each megabyte that comes out.

    Never holds more than `limit` bytes of unpacked content and a copy of it, whatever `data` claims.

    Raises:
        TooLarge: more than `limit` bytes come out.
        Broken: it is damaged or ends early.
    """
    if not is_packed(data):
        return data
    out = bytearray()
    rest = data
    while rest:  # gzip may be several members, one after the other
        unpacker = zlib.decompressobj(_ANY_WRAPPER)
        try:
            out += unpacker.decompress(rest, limit + 1 - len(out))
        except zlib.error as error:
            if out:  # what follows the last member is padding, as gzip itself has it
                break
            raise Broken(str(error)) from None
        if len(out) > limit:
            raise TooLarge
        if not unpacker.eof:
            raise Broken("it ends early")
        rest = unpacker.unused_data if unpacker.unused_data.startswith(_GZIP) else b""
    return bytes(out)


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
