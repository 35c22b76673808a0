"""JSON as .NET's System.Text.Json writes it, byte for byte, for the Storage extension's ModelBindingData.

https://learn.microsoft.com/dotnet/standard/serialization/system-text-json/character-encoding
"""

import re
from collections.abc import Mapping

_SHORT = {"\\": r"\\", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r"}
_ESCAPED = re.compile(r"""[^ -~]|["&'+<>`\\]""")
"""Characters that the default encoder escapes: all outside ASCII, and those with a meaning in HTML or JSON."""


def encoded(content: Mapping[str, str]) -> bytes:
    """`content` as a JSON object without white space."""
    return ("{" + ",".join(f"{_text(name)}:{_text(value)}" for name, value in content.items()) + "}").encode()


def _text(value: str) -> str:
    return f'"{_ESCAPED.sub(lambda found: _escape(found[0]), value)}"'


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(rf"\u{high:02X}{low:02X}" for high, low in zip(units[::2], units[1::2], strict=True))
