"""A schema made plain: JSON's own types, within limits."""

import math
from typing import Any

from pipeline.one_line import short
from pipeline.schemas.wording import Pointer, pointer_text

MAX_SCHEMA_CHARACTERS = 64 * 1024
MAX_SCHEMA_VALUES = 5_000
"""Objects, lists, texts, numbers: each takes up to 300 bytes and 10 µs, however short it is written. Of 12,000
published schemas of up to 64 KB none has more; of the 3,700 among them that are for answers none has more than 240."""
MAX_SCHEMA_NESTING = 64
"""Of its JSON; a level of the answer takes two or three."""


class InvalidSchema(ValueError):
    """The schema can't be used; the message says where in it, as a JSON pointer, and what to write instead."""

    def __init__(self, where: Pointer, problem: str) -> None:
        super().__init__(f"{f'at {short(pointer_text(where))}: ' if where else ''}{problem}")


def plain(definition: Any) -> Any:
    """A copy of `definition`.

    Raises:
        InvalidSchema: it is too large or too deep, or holds what JSON has not.
    """
    return _Copy().of(definition, ())


class _Copy:
    """Counts what repeats itself as often as it does: YAML's anchors make much, or no end, out of little."""

    def __init__(self) -> None:
        self._characters = MAX_SCHEMA_CHARACTERS
        self._values = MAX_SCHEMA_VALUES

    def of(self, value: Any, where: Pointer) -> Any:
        if len(where) > MAX_SCHEMA_NESTING:
            raise InvalidSchema(where[:4], f"it is nested deeper than {MAX_SCHEMA_NESTING} levels: flatten it")
        self._values -= 1
        if self._values < 0:
            raise InvalidSchema((), f"it holds more than {MAX_SCHEMA_VALUES:,} values: ask for less, or list fewer")
        match value:
            case None | bool():
                return value
            case int() | float():
                return _number(value, where)
            case str():
                return self._text(value, where)
            case list():
                return [self.of(item, (*where, str(index))) for index, item in enumerate(value)]
            case dict():
                return {self._key(key, where): self.of(item, (*where, str(key))) for key, item in value.items()}
            case _:
                raise InvalidSchema(
                    where, f"{short(str(value))} is a {type(value).__name__}, which JSON has not: write it in quotes"
                )

    def _key(self, key: Any, where: Pointer) -> str:
        if not isinstance(key, str):
            written = short(str(key))
            raise InvalidSchema(where, f'the key {written} is a {type(key).__name__}: write it in quotes, "{written}"')
        return self._text(key, where)

    def _text(self, text: str, where: Pointer) -> str:
        self._characters -= len(text)
        if self._characters < 0:
            raise InvalidSchema((), f"it is larger than {MAX_SCHEMA_CHARACTERS // 1024} KB: ask for less")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidSchema(where, "a text holds half a surrogate pair: write the whole character") from None
        return str(text)


def _number(value: float, where: Pointer) -> int | float:
    if isinstance(value, int):
        # Beyond 64 bits JSON's readers disagree, and Python refuses to write numbers of 4,300 digits.
        if value.bit_length() > 64:
            raise InvalidSchema(where, "the number is too large: write one that fits into 64 bits")
        return int(value)
    if not math.isfinite(value):
        raise InvalidSchema(where, f"{value} is not a JSON number: write a finite one")
    return float(value)
