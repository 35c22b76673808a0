"""Places and values as messages write them."""

import json
from typing import Any

type Pointer = tuple[str, ...]
"""A JSON pointer's tokens; () is the whole document."""


def pointer_text(where: Pointer) -> str:
    return "".join(f"/{token.replace('~', '~0').replace('/', '~1')}" for token in where)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def short(text: str, limit: int = 120) -> str:
    """`text` on one line, printable, and of at most `limit` characters: strangers wrote it."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
