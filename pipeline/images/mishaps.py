"""Pictures that a program damaged on their way: bytes taken for text, or written as text.

Nothing is undone: the message names what happened and the cure, which is at the sender's end. Pure.
"""

import base64
import binascii
import quopri
import re
from contextlib import suppress
from itertools import islice
from urllib.parse import unquote, unquote_to_bytes

from pipeline.images.signatures import image_kind

_LOOKED_AT_BYTES = 65_536
_START_BYTES = 192

# ── Ruined: bytes that went through a text decoder ───────────────────────────────────────────────────────────────

_ORIGINAL = (
    "The bytes in it are lost: upload the original file, and have whatever sends it pass on bytes (binary), not text."
)
# What is left of JPEG and PNG when each byte above 127 is replaced or dropped. Other signatures are ASCII, and stay.
_LEFT = (
    (re.compile(rb".{0,24}?(?:JFIF\0|Exif\0|Adobe|ICC_PROFILE\0|8BIM)", re.DOTALL), "jpeg"),
    (re.compile(rb".{0,3}PNG[\r\n]", re.DOTALL), "png"),
    (re.compile(rb"BM"), "bmp"),
)
# What PNG's signature was made to show: line ends that were converted, and bytes of 7 bits.
_PNG_LINE_ENDS = re.compile(rb"[\x89\t]PNG(?!\r\n\x1a\n)[\r\n]{1,3}\x1a?[\r\n]{0,2}")
# What programs take bytes for when they write them as UTF-8 or UTF-16.
_TAKEN_FOR = ("latin-1", "cp1252", "iso8859-15", "cp1250", "cp1251", "cp1254", "cp437", "cp850", "cp866", "mac_roman")
# Below that, a file of which all is UTF-8, or all line ends are alike, may be so by chance.
_FOREIGN_CHARACTERS = 16
_LINE_ENDS = 24
_ENOUGH_BYTES = 8
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def ruined(data: bytes) -> tuple[str, str] | None:
    """(what happened, what to do) to a file that was a picture before it went through a text decoder."""
    if _PNG_LINE_ENDS.match(data):
        return "a PNG image whose line ends were converted, as if it were text", _ORIGINAL
    text = text_of(data[:_LOOKED_AT_BYTES]) or ""
    for read in (text, data[:_START_BYTES].decode("utf-16-le", "replace")):
        for encoding in _TAKEN_FOR:
            if taken := image_kind(read[:_START_BYTES].encode(encoding, "replace")):
                return _took_for_text(an_image(taken)), _ORIGINAL
    if is_binary(text):
        left = next((kind for pattern, kind in _LEFT if pattern.match(data)), None)
        if left:
            return _took_for_text(an_image(left)), _ORIGINAL
    # Of pictures, about half the bytes are above 127.
    if text.count(_REPLACEMENT) > max(_FOREIGN_CHARACTERS, len(text) // 8):
        return _took_for_text("a file, perhaps an image,"), _ORIGINAL
    return None


def ruined_inside(kind: str, data: bytes) -> tuple[str, str] | None:
    """The same for a picture whose signature survived, since it is ASCII, but which makes no sense."""
    head = data[:_LOOKED_AT_BYTES]
    if sum(byte > 127 for byte in head) > _FOREIGN_CHARACTERS and text_of(head):
        return _took_for_text(an_image(kind)), _ORIGINAL
    line_ends = data.count(b"\n", 0, 1_000_000)
    if line_ends > _LINE_ENDS and line_ends == data.count(b"\r\n", 0, 1_000_000):
        return f"{an_image(kind)} whose line ends were converted, as if it were text", _ORIGINAL
    return None


def _took_for_text(what: str) -> str:
    return f"{what} that a program on its way treated as text"


def text_of(head: bytes) -> str | None:
    """The text that `head` begins, in UTF-8 or UTF-16; None if it does not begin one. A last, cut character is lost."""
    encoding = "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif len(head) > _ENOUGH_BYTES and not any(head[1:32:2]):
        encoding = "utf-16-le"
    for cut in range(min(4, len(head))):
        with suppress(UnicodeDecodeError):
            return head[: len(head) - cut].decode(encoding)
    return None


def is_binary(text: str) -> bool:
    """Whether it holds control characters that no text has."""
    return bool(_CONTROLS.search(text))


# ── Written as text: nothing is lost, but it has to be turned back into bytes ────────────────────────────────────

_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_MOST_RUNS = 200
_HEX_RUN = re.compile(r"(?:[0-9A-Fa-f]{2}[\s,:-]?(?:0x|\\x)?){8,}")
_HEX_OFFSET = re.compile(r"[0-9A-Fa-f]{6,8}:?\s+")
_NUMBERS = re.compile(r"(?<![\w\".])-?\d{1,3}(?:\s*[,\s]\s*-?\d{1,3}){7,}")
_NUMBERED = re.compile(r'"\d{1,4}"\s*:\s*(\d{1,3})\b')
_ESCAPED = re.compile(r"['\"](?=\\x|\\u00|GIF8|RIFF)")
_DECODE = "Decode it where it is sent, and upload the bytes."
_DECODE_BASE64 = "Decode it where it is sent (in Power Automate and Logic Apps: base64ToBinary), and upload the bytes."
_FORM = re.compile(rb"\s*--[^\r\n]{1,200}\r?\n(?:content-[^\r\n]{1,300}\r?\n){1,5}", re.IGNORECASE)


def posted_form(data: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) for the body of a web form, or of a mail, with a file in it."""
    if not (form := _FORM.match(data)):
        return None
    what = "a web form (multipart/form-data)" if b"form-data" in form[0].lower() else "a MIME message"
    return f"{what} with the file in it", "Upload the bytes of that file, without the lines around it."


def written_as_text(data: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) for a text that holds a picture as base64, hexadecimal digits or numbers."""
    # What JSON and web forms do to base64 is undone: the slashes of `\\/9j\\/4AAQ` and `%2F9j%2F4AAQ`.
    text = unquote((text_of(data[:_LOOKED_AT_BYTES]) or "").replace("\\/", "/"), errors="replace").lstrip()
    for run in islice(_BASE64_RUN.finditer(text), _MOST_RUNS):
        if kind := _kind_of_base64(run[0]):
            return _in_base64(an_image(kind), text, run.start()), _DECODE_BASE64
    if text.startswith("JVBERi0"):
        return "a PDF document encoded as base64", "Export the page you are asking about as PNG and upload that."
    for written, start in (
        ("hexadecimal digits", _of_hexadecimal(text)),
        ("a list of numbers", _of_numbers(text)),
        ("an escaped string", _of_escapes(text)),
        ("percent escapes, as in a URL", unquote_to_bytes(data[:_LOOKED_AT_BYTES].rpartition(b",")[2][:600])),
        ("quoted-printable text", quopri.decodestring(data[:600])),
    ):
        if kind := image_kind(start):
            return f"{an_image(kind)} written as {written}", _DECODE
    return None


def _in_base64(what: str, text: str, start: int) -> str:
    before = text[max(0, start - 400) : start]
    if re.search(r"data:[\w/+.;=-]*base64,\s*$", before, re.IGNORECASE):
        what = f"{what} as a data URL (base64)"
    else:
        what = f"{what} encoded as base64"
    if key := re.search(r'"([\w$. -]{1,40})"\s*:\s*"[^"]*$', before):
        return f"{what}, in JSON under '{key[1]}'"
    return f"{what}, in JSON" if text.startswith(("{", "[")) else what


def _kind_of_base64(run: str) -> str | None:
    start = run[:_START_BYTES]
    start = start[: len(start) & ~3].replace("-", "+").replace("_", "/")
    try:
        return image_kind(base64.b64decode(start))
    except binascii.Error:
        return None


def _of_hexadecimal(text: str) -> bytes:
    for line in (text, _HEX_OFFSET.sub("", text[:_START_BYTES], count=1)):  # a dump has the offset in front
        start = re.sub(r"^[\s'\"xX\\bB]*(0x)?", "", line[:_START_BYTES])
        if run := _HEX_RUN.match(start):
            digits = re.sub(r"0x|\\x|[^0-9A-Fa-f]", "", run[0])
            return bytes.fromhex(digits[: len(digits) & ~1])
    return b""


def _of_numbers(text: str) -> bytes:
    numbers = _NUMBERS.search(text)
    found = (
        re.findall(r"-?\d+", numbers[0][: 5 * _START_BYTES])
        if numbers
        else _NUMBERED.findall(text[: 20 * _START_BYTES])
    )
    return bytes(int(value) & 255 for value in found)


def _of_escapes(text: str) -> bytes:
    if not (quote := _ESCAPED.search(text)):
        return b""
    escaped = text[quote.end() : quote.end() + 6 * _START_BYTES].encode("latin-1", "replace")
    with suppress(UnicodeError):
        return escaped.decode("unicode_escape", "ignore").encode("latin-1", "replace")
    return b""


def an_image(kind: str) -> str:
    """For example "a JPEG image"."""
    return f"{'an' if kind == 'avif' else 'a'} {kind.upper()} image"
