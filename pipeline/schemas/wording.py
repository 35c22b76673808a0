"""Places and values as messages write them."""

import json
from typing import Any

type Pointer = tuple[str, ...]
"""A JSON pointer's tokens; () is the whole document."""


def pointer_text(where: Pointer) -> str:
    return "".join(f"/{token.replace('~', '~0').replace('/', '~1')}" for token in where)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
