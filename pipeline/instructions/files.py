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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.instructions.options import InvalidOption, Options, parse_options

MAX_FILE_BYTES = 64 * 1024
"""Far more than anybody asks of one image, and four times the tokens that an answer has by default."""

_MAX_DEPTH = 64
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
        super().__init__(f"line {line}: {message}" if line else message)


@dataclass(frozen=True, slots=True)
class InstructionFile:
    """What a file says; `text` may be empty, when it only sets options."""

    text: str
    options: Options


def parse_file(name: str, data: bytes) -> InstructionFile:
    """The content of the instruction file called `name`.

    Raises:
        InvalidFile: it is too large, no text, or not in the grammar of its ending.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidFile(None, f"the file is larger than the {MAX_FILE_BYTES:,} bytes that are read: shorten it")
    text = _decode(data)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidFile(line, "there is a NUL character, so this is no text in UTF-8: save the file as UTF-8")
    return _parse_json(text) if name.endswith(".json") else _parse_text(text)


def _decode(data: bytes) -> str:
    # Windows editors call UTF-16 with a byte order mark "Unicode".
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFile(line, f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8") from None


def _parse_text(text: str) -> InstructionFile:
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != _FENCE:
        return InstructionFile(text.strip(), Options())
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
    return InstructionFile("".join(lines[end + 1 :]).strip(), options)


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
                raise InvalidFile(key.start_mark.line + 2, f"'{key.value}' is there twice: keep one")
            lines[str(key.value)] = key.start_mark.line + 1
        given = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else None
        raise InvalidFile(line, f"this is not YAML ({error.problem}): write 'name: value'") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidFile(None, f"the options are not YAML ({str(error).partition(chr(10))[0]})") from None
    return {str(key): value for key, value in given.items()}, lines


def _refuse_bombs(text: str) -> None:
    """Look through the YAML before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 2 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent):  # a few lines of them stand for gigabytes
            raise InvalidFile(line, "the options use a YAML alias (*): write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:  # libyaml builds values recursively, without a limit
            raise InvalidFile(line, f"the options are nested deeper than {_MAX_DEPTH} levels: simplify them")


def _parse_json(text: str) -> InstructionFile:
    try:
        given = json.loads(text or "{}", object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise InvalidFile(error.lineno, f"this is not JSON ({error.msg})") from None
    except _Duplicate as error:
        raise InvalidFile(_line_of(text, error.key), f"'{error.key}' is there twice: keep one") from None
    except (RecursionError, ValueError) as error:
        raise InvalidFile(None, f"this is not JSON that can be read ({error})") from None
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidFile(None, "an escape such as \\ud83d stands for half a character: write the character") from None
    if not isinstance(given, dict):
        raise InvalidFile(1, 'the file should hold an object: {"instructions": "…"}')
    asked = given.pop("instructions", None)
    if asked is not None and not isinstance(asked, str):
        raise InvalidFile(_line_of(text, "instructions"), "'instructions' should be text in quotation marks")
    lines = {key: line for key in given if (line := _line_of(text, key)) is not None}
    return InstructionFile((asked or "").strip(), _options(given, lines))


class _Duplicate(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


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
