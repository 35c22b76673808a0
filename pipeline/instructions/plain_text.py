"""Documents that people take for plain text, and characters that are invisible."""

from unicodedata import category

_DOCUMENTS = (
    (b"{\\rtf", "a Rich Text (RTF) document"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"pk\x03\x04", "a Word or OpenDocument file, or another ZIP"),
    (b"\xd0\xcf\x11\xe0", "a document of an older Word"),
    (b"%pdf-", "a PDF"),
)
"""How they begin, in small letters. TextEdit and Word call such a file `.txt` when they are told to."""
_INVISIBLE = ("Cf", "Cc", "Zs", "Zl", "Zp")
"""Categories of Unicode: zero-width spaces and joiners, byte order marks, control characters, spaces."""


def document_kind(data: bytes) -> str | None:
    """The kind of document that `data` is, if it is one that only a program of its own shows as text."""
    start = data[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for beginning, kind in _DOCUMENTS if start.startswith(beginning)), None)


def visible_text(text: str) -> str:
    """`text` without the space around it; empty if it holds nothing that can be seen."""
    text = text.strip()
    return "" if all(category(character) in _INVISIBLE for character in text) else text
