"""Write a page that is one HTML file. Everything in it that a stranger wrote is escaped.

Its one script and its style are allowed by their hashes, and nothing else is: no other script runs in it, whatever an
answer holds.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from blobsight.pictures.pictures import Picture
from blobsight.results.flattening import json_text

MOST_BYTES = 50_000_000
"""Of the file: about what can be sent by mail or chat, and 3,000 images or so."""
THUMBNAIL_SIDE = 360
AT_ONCE = 8
"""Thumbnails that are made concurrently."""
DEEPEST = 6
"""Levels of a value that become tables of their own."""
STYLE = Path(__file__).with_name("base.css")
_PART = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def read_template(path: Path) -> str:
    """The template at `path`, with the style that all pages share in place of `{base}`."""
    return path.read_text(encoding="utf-8").replace("{base}", STYLE.read_text(encoding="utf-8"))


def write_file(path: Path, template: str, parts: Mapping[str, str], cards: Iterable[str]) -> None:
    """Fill a template and write it to `path`.

    Args:
        path: of the file.
        template: as `read_template` gives it, with the places `{policy}`, `{cards}`, and those of `parts`.
        parts: HTML by place.
        cards: HTML, which is not held in memory as a whole.
    """
    parts = {**parts, "policy": policy(template)}
    before, after = template.split("{cards}")
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(_filled(before, parts))
        for card in cards:
            file.write(card)
        file.write(_filled(after, parts))


def policy(template: str) -> str:
    """The content security policy: nothing but this style, this script, and pictures inside the page."""
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, text in _PART.findall(template):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    allowed = (f"{kind}-src {' '.join(found)}" for kind, found in hashes.items())
    return "; ".join(["default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """Fill the places of a template at once: what is filled in is not looked at again."""
    return re.sub(rf"\{{({'|'.join(parts)})\}}", lambda found: parts[found[1]], text)


def size_of(html: str) -> int:
    """Bytes that it takes in the file."""
    return len(html.encode("utf-8", "backslashreplace"))


def figure(picture: Picture | None) -> str:
    """A picture as part of the page."""
    if picture is None:
        return "<figure>no picture</figure>"
    data = base64.b64encode(picture.data).decode()
    return f'<figure><img src="data:{picture.media_type};base64,{data}" alt="" decoding="async"></figure>'


def value(data: Any, depth: int = 0) -> str:
    """A JSON value as a table, or as text."""
    match data:
        case Mapping() if depth < DEEPEST:
            rows = (
                f'<tr><th scope="row" dir="auto">{escape(str(name))}</th><td>{value(one, depth + 1)}</td></tr>'
                for name, one in data.items()
            )
            return f"<table>{''.join(rows)}</table>"
        case Sequence() if depth < DEEPEST and not isinstance(data, str):
            return f"<table>{''.join(f'<tr><td>{value(one, depth + 1)}</td></tr>' for one in data)}</table>"
        case str():
            return f'<span class="text" dir="auto">{escape(data)}</span>'
        case _:
            return f'<span class="text">{escape(json_text(data))}</span>'
