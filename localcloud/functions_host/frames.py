"""Frames between host and worker: a JSON head and, apart from it, the raw bytes of a body.

    4 bytes length of the head | 4 bytes length of the body (both big-endian) | head | body

The body is kept out of the JSON so that a 20 MB HTTP request is not turned into base64 and back.
"""

import asyncio
import json
import struct
from typing import Any

_LENGTHS = struct.Struct(">II")


def encode(head: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


async def read(stream: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None at the end of the stream (also in the midst of a frame: the other side was
    killed).
    """
    try:
        head_length, body_length = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        head = json.loads(await stream.readexactly(head_length))
        body = await stream.readexactly(body_length) if body_length else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return head, body
