"""Instruction files: `.md` and `.txt` with optional front matter, `.json` with the same keys.

    ---
    detail: high
    max_output_tokens: 200
    ---
    Which of the labels is torn?

Everything between the `---` lines is YAML with the options; everything after is the text.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.instructions.options import InvalidOption, Options, parse_options
from pipeline.instructions.plain_text import document_kind, visible_text
from pipeline.one_line import short
from pipeline.unpacking import Broken, TooLarge, is_gzip, unpacked

MAX_FILE_BYTES = 64 * 1024
"""Far more than people ask of one image, and four times the tokens that an answer has by default."""

_MAX_DEPTH = 64
_MAX_DIGITS = 1000
"""Of a whole number. No option takes more than 7; Python refuses to read more than 4,300."""
_MOST_OF_A_MESSAGE = 600
"""Characters: with the file's name, and what comes of it, it fits into a failure's message."""
_FENCE = "---"
_YAML = "tag:yaml.org,2002:"


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc] # by what is installed
    """YAML as people mean it: `NO` is a country, 12:30 and 2026-03-14 are text, as in YAML 1.2; PyYAML follows 1.1."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, form) for tag, form in forms if tag == f"{_YAML}null"]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _tag, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_YAML + _tag, re.compile(f"(?:{_form})$"), list(_first))


class InvalidFile(Exception):
    """The file can't be understood; the message says in which line and what to write instead."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(short(f"line {line}: {message}" if line else message, _MOST_OF_A_MESSAGE))


@dataclass(frozen=True, slots=True)
class InstructionFile:
    """The content of a file; `text` may be empty, when it only sets options."""

    text: str
    options: Options


def unpacked_file(data: bytes) -> bytes:
    """The content of a file that was stored as `data`: unpacked if it is compressed.

    Raises:
        InvalidFile: it can't be unpacked, or not within `MAX_FILE_BYTES`.
    """
    if len(data) > MAX_FILE_BYTES:
        return data  # which is too large as it is
    try:
        return unpacked(data, MAX_FILE_BYTES)
    except TooLarge:
        raise InvalidFile(
            None, f"the file is compressed, and unpacked it is larger than the {MAX_FILE_BYTES:,} bytes that are read"
        ) from None
    except Broken as error:
        if not is_gzip(data):
            return data  # a text that begins as zlib does: "x^2 …"
        raise InvalidFile(
            None, f"the file is compressed (gzip) and can't be unpacked ({error}): store it uncompressed"
        ) from None


def parse_file(name: str, data: bytes) -> InstructionFile:
    """The content of the instruction file called `name`.

    Raises:
        InvalidFile: it is too large, no text, or not in the grammar of its ending.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidFile(None, f"the file is larger than the {MAX_FILE_BYTES:,} bytes that are read: shorten it")
    text = _decode(data)
    return _parse_json(text) if name.endswith(".json") else _parse_text(text)


def parse_json(data: bytes) -> Any:
    """The value in a file of JSON, such as a schema's.

    Raises:
        InvalidFile: it is not text, or not JSON that can be read.
    """
    return _loaded(_decode(data), dict)


def _decode(data: bytes) -> str:
    if is_gzip(data):
        raise InvalidFile(None, "the file is compressed (gzip): unpack it")
    if kind := document_kind(data):
        raise InvalidFile(None, f"this is {kind}, not plain text: save what it says as plain text")
    # Windows editors call UTF-16 with a byte order mark "Unicode".
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFile(line, f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidFile(line, "there is a NUL character, so this is not text in UTF-8: save the file as UTF-8")
    return text


def _parse_text(text: str) -> InstructionFile:
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != _FENCE:
        return InstructionFile(visible_text(text), Options())
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise InvalidFile(
            1,
            "the options that start with --- have no end: add a line --- before the text, or an empty line before this"
            " one if no options are meant",
        )
    given, at = _parse_yaml("".join(lines[1:end]))
    # Line 1 is the fence, so line 1 of the YAML is line 2 of the file.
    options = _options(given, {key: line + 1 for key, line in at.items()})
    return InstructionFile(visible_text("".join(lines[end + 1 :])), options)


def _parse_yaml(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in `text`, and the line of each of its keys."""
    try:
        _refuse_bombs(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise InvalidFile(node.start_mark.line + 2, "options are written as 'name: value', one on each line")
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if str(key.value) in lines:
                raise InvalidFile(key.start_mark.line + 2, f"'{short(str(key.value))}' is set twice: keep one")
            lines[str(key.value)] = key.start_mark.line + 1
        given = _constructed(loader, node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else None
        raise InvalidFile(line, f"this is not YAML ({short(str(error.problem))}): write 'name: value'") from None
    except yaml.YAMLError as error:
        raise InvalidFile(None, f"the options are not YAML ({short(str(error).partition(chr(10))[0])})") from None
    return {str(key): value for key, value in given.items()}, lines


def _constructed(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    try:
        return loader.construct_document(node)  # type: ignore[no-any-return] # a mapping's is a dict
    except yaml.YAMLError:
        raise
    except Exception:  # noqa: BLE001 - PyYAML's constructors raise whatever a value makes of Python's own
        raise InvalidFile(
            node.start_mark.line + 2, "the options that begin here can't be understood: write 'name: value'"
        ) from None


def _refuse_bombs(text: str) -> None:
    """Look through the YAML before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 2 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent):  # a few lines of them stand for gigabytes
            raise InvalidFile(line, "the options use a YAML alias (*): write the value out")
        if tag := getattr(event, "tag", None):
            raise InvalidFile(
                line, f"the options use a YAML tag ({short(tag.replace(_YAML, '!!'))}): write the value without it"
            )
        if isinstance(event, yaml.ScalarEvent) and _has_too_many_digits(event.value):
            raise InvalidFile(line, _too_many_digits())
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:  # libyaml builds values recursively, without a limit
            raise InvalidFile(line, f"the options are nested deeper than {_MAX_DEPTH} levels: simplify them")


def _has_too_many_digits(number: str) -> bool:
    digits = number.lstrip("+-")
    return len(digits) > _MAX_DIGITS and digits.isdecimal()


def _loaded(text: str, to_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> Any:
    try:
        given = json.loads(text, object_pairs_hook=to_object, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise InvalidFile(error.lineno, f"this is not JSON ({error.msg})") from None
    except _Duplicate as error:
        raise InvalidFile(_line_of(text, error.key), f"'{short(error.key)}' is set twice: keep one") from None
    except _TooLong as error:
        at = text.count("\n", 0, text.index(error.number)) + 1
        raise InvalidFile(at, _too_many_digits()) from None
    except RecursionError:
        raise _too_deep() from None
    if _is_deep(given):
        raise _too_deep()
    return given


def _parse_json(text: str) -> InstructionFile:
    given = _loaded(text or "{}", _without_duplicates)
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidFile(None, "an escape such as \\ud83d stands for half a character: write the character") from None
    if not isinstance(given, dict):
        raise InvalidFile(1, 'the file should hold an object: {"instructions": "…"}')
    asked = given.pop("instructions", None)
    if asked is not None and not isinstance(asked, str):
        raise InvalidFile(_line_of(text, "instructions"), "'instructions' should be text in quotation marks")
    asked = visible_text(asked or "")
    if "\0" in asked:
        raise InvalidFile(_line_of(text, "instructions"), "the text holds a NUL character: leave it out")
    lines = {key: line for key in given if (line := _line_of(text, key)) is not None}
    return InstructionFile(asked, _options(given, lines))


class _Duplicate(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _TooLong(ValueError):
    def __init__(self, number: str) -> None:
        super().__init__(number)
        self.number = number


def _whole_number(number: str) -> int:
    if _has_too_many_digits(number):
        raise _TooLong(number)
    return int(number)


def _too_many_digits() -> str:
    return f"there is a number of more than {_MAX_DIGITS:,} digits: write a smaller one"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            part
            for parts in level
            if isinstance(parts, dict | list)
            for part in (parts.values() if isinstance(parts, dict) else parts)
        ]
    return bool(level)


def _too_deep() -> InvalidFile:
    return InvalidFile(None, f"it is nested deeper than {_MAX_DEPTH} levels: simplify it")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Duplicate(key)
        found[key] = value
    return found


def _line_of(text: str, key: str) -> int | None:
    position = text.find(json.dumps(key, ensure_ascii=False))
    return text.count("\n", 0, position) + 1 if position >= 0 else None


def _options(given: Mapping[str, Any], lines: Mapping[str, int]) -> Options:
    try:
        return parse_options(given)
    except InvalidOption as error:
        raise InvalidFile(lines.get(error.option), str(error)) from None
