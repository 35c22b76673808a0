"""A stranger's text, such as a service's error message, made fit for logs, messages and results. Pure."""

import html
import math
import re
from collections.abc import Iterable
from itertools import groupby

from pipeline.one_line import short

MOST_SHOWN = 300
"""Characters of a message. Azure OpenAI's longest have about 350, a link at the end included."""
ECHO = 12
"""Letters and digits in a row that two texts don't share by chance, in bytes of UTF-8: longer than most two words of
English, and four characters of Japanese."""
SHORT_ECHO = 8
"""The same for a text that has no more. "What is it?" is recognized as a whole; "Why?" gives nothing away."""
MOST_ESCAPES = 3
"""JSON in JSON in JSON."""
MIXED = 12
"""Characters of small letters, capitals and digits that look like base64."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrt])|([\\\"'/]))")
_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,\S*", re.IGNORECASE)
_INPUT_VALUE = re.compile(r"input_value=.*?(?=, input_type=|\]|$)", re.DOTALL)
"""Pydantic quotes the start and the end of what it refuses."""
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_SAME_AGAIN = re.compile(r"([A-Za-z0-9+/])\1{15,}")
"""Base64 of zeros, for example."""
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|glpat)[-_][\w-]{8,}|\bA(?:Iza|KIA)\w{12,}"
    r"|(?<=\bbearer )(?=\S*\d)[\w.+/=~-]{8,}"
    r"|\b(?:(?:api|access|account|subscription)[-_ ]?key|token|secret|password|sig)['\"]?\s?[=:]\s?['\"]?"
    r"(?=\S*\d)[^\s\"',;&]{8,}",
    re.IGNORECASE,
)
"""Keys by how they begin, and what follows the name of one."""
_MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{9,}")
"""From Python's or Go's own names of objects; an HRESULT is shorter."""
_INSIDE = re.compile(
    r"(?:\b[a-z]+://)?\b(?:(?:10|127)\.\d{1,3}|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b"
    r"(?::\d+)?(?:/[^\s\"'<>)]*)?"
    r"|\b[a-z]+://(?:[\w-]+|[\w.-]+\.(?:local|internal|svc))(?=[:/\s\"')]|$)[^\s\"'<>)]*",
    re.IGNORECASE,
)
"""Addresses in networks of the service's own."""


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """`text` on one line, printable, and of at most `most` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    return short(" ".join(printable.split()), most)


def letters(text: str) -> str:
    """The letters of `text`, small: spellings of one code differ in the rest."""
    return "".join(character for character in text.lower() if character.isalpha())


def quoted(text: str, private: Iterable[str]) -> str:
    """`text` as `shown`, without what it repeats of the `private` texts, without data URLs, base64, keys, tokens and
    addresses of memory and of private networks.

    An ellipsis stands for each of those. Services quote parts of what they refuse: escaped, cut, in other capitals.
    """
    text = text[: 4 * MOST_SHOWN]
    for _ in range(MOST_ESCAPES):
        text = _ESCAPE.sub(_unescaped, text)
    text = html.unescape(text)
    text = _INPUT_VALUE.sub("input_value=…", _DATA_URL.sub("…", text))
    for hidden in (_SECRET, _MEMORY_ADDRESS, _INSIDE):
        text = hidden.sub("…", text)
    text = _SAME_AGAIN.sub("…", _LONG_RUN.sub(_unless_words, text))
    return shown(_without_echo(text, private))


def _without_echo(text: str, private: Iterable[str]) -> str:
    places = [place for place, character in enumerate(text) if character.isalnum()]
    letters = _echoing(text)
    hidden = bytearray(len(text))
    for source in map(_echoing, private):
        size = len(source.encode(errors="replace"))
        length = min(math.ceil(ECHO * len(source) / max(size, 1)), len(source))
        for first in range(len(letters) - length + 1) if size >= SHORT_ECHO else ():
            if letters[first : first + length] in source:
                start, end = places[first], places[first + length - 1] + 1
                hidden[start:end] = b"\1" * (end - start)
    runs = groupby(zip(hidden, text, strict=True), key=lambda pair: pair[0])
    return "".join("…" if is_hidden else "".join(character for _, character in run) for is_hidden, run in runs)


def _echoing(text: str) -> str:
    """The letters and digits of `text`, one small letter for each."""
    return "".join(character.lower()[0] for character in text if character.isalnum())


def _unescaped(found: re.Match[str]) -> str:
    wide, narrow, space, itself = found.groups()
    return " " if space else itself or chr(int(wide or narrow, 16))


def _unless_words(found: re.Match[str]) -> str:
    """Paths and names are long, too, but hardly a part of one mixes small letters, capitals and digits."""
    parts = (part for part in re.split(r"[-_/+=]", found.group()) if len(part) >= MIXED)
    kinds = (str.islower, str.isupper, str.isdigit)
    return "…" if any(all(any(map(kind, part)) for kind in kinds) for part in parts) else found.group()
