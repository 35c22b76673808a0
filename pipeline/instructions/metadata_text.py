"""Text in blob metadata, which is ASCII on the wire: percent-encoded, RFC 2047 or Base64.

HTTP carries metadata, so every tool has its own way round that: Python and JavaScript programs percent-encode,
mail-minded ones and .NET write RFC 2047 encoded words, careful ones use base64.
"""

import base64
import binascii
import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote_to_bytes

from pipeline.one_line import short

_CHARSET = re.compile(
    r"us-ascii|utf-8|iso-8859-\d+|windows-\d+|iso-2022-jp|shift_jis|euc-(jp|kr)|gb18030|gbk|gb2312|big5|koi8-[ru]",
    re.IGNORECASE,
)
"""Character sets that mail programs write. Python also knows encodings that are not character sets."""
_ESCAPED = re.compile(r"(?:[\w.~!*'();/:@&=+$,?#\[\]-]|%[0-9A-Fa-f]{2})+", re.ASCII)
"""Characters that encodeURIComponent, EscapeDataString, quote and the like leave: no space, no quotation mark."""
_FORM_ESCAPED = re.compile(r"(?!.*%20)[^ ]*\w\+\w[^ ]*")
_RESERVED = re.compile(r"%(?:2[346BCF]|3[ABDF]|40)", re.IGNORECASE)
"""Escapes of `#$&+,/:;=?@`. Whatever writes them escapes a plus sign, too, unless it stands for a space."""
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=")


class UndecodableText(ValueError):
    """The value claims or looks to be encoded and isn't what it claims; the message says where and what to write."""


def decode_text(value: str) -> str:
    """Decode the metadata value `value` as its writer meant it.

    Percent-encoded text is decoded when no doubt is possible. The whole value has to decode to UTF-8, with a non-ASCII
    character, or else to words with spaces between them where the value has none: `What%20is%20this%3F` and, as forms
    encode it, `What+is+this%3F`. So `25%20`, `100% sure` and `is it 5%25?` stay as written.

    Raises:
        UndecodableText: for bytes that are not UTF-8, and for broken encoded words.
    """
    text = _text_of_header(value)
    if _ENCODED_WORD.search(text):
        return _decode_words(text)
    return _unescaped(text) if "%" in text and text.isascii() else text


def _unescaped(text: str) -> str:
    is_form = _RESERVED.search(text) and _FORM_ESCAPED.fullmatch(text)
    try:
        decoded = unquote_to_bytes(text.replace("+", " ") if is_form else text).decode()
    except UnicodeDecodeError:
        return text
    if not decoded.isascii():
        return decoded
    words = decoded.split()
    are_words = len(words) > 1 and "".join(words).isprintable() and any(word[0].isalpha() for word in words)
    return decoded if are_words and _ESCAPED.fullmatch(text) else text


def decode_base64(value: str) -> str:
    """The text in `instructions_b64`: UTF-8 in base64, standard or URL-safe alphabet, padding optional.

    Raises:
        UndecodableText: when it is neither.
    """
    compact = "".join(value.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UndecodableText(f"it is not base64 ({error}): write the text as UTF-8 in base64") from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UndecodableText(
            f"its base64 holds byte 0x{data[error.start]:02x} at position {error.start}, which is not UTF-8:"
            " encode the text as UTF-8 before base64"
        ) from None


def _text_of_header(value: str) -> str:
    """`value` with raw UTF-8 put right: HTTP libraries hand raw bytes through as surrogate escapes."""
    try:
        return value.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        byte = value.encode("utf-8", "surrogateescape")[error.start]
        raise UndecodableText(
            f"byte 0x{byte:02x} at position {error.start} is not UTF-8: percent-encode the text, or put it into"
            " instructions_b64 as base64"
        ) from None


def _decode_words(text: str) -> str:
    try:
        parts = decode_header(text)
        strange = [charset for _, charset in parts if charset and not _CHARSET.fullmatch(charset)]
        decoded = "" if strange else str(make_header(parts))
        decoded.encode()
    except (HeaderParseError, LookupError, UnicodeError, ValueError) as error:
        strange, decoded = [str(error)], ""
    if strange:
        raise UndecodableText(
            f"its RFC 2047 encoded word can't be decoded ({short(strange[0])}): write =?utf-8?B?…?=, percent-encode"
            " the text, or put it into instructions_b64 as base64"
        )
    return decoded
