"""Which pages of a document are looked at: "all", "first", "last", "1-3,7", "2-". Pure."""

import re
from dataclasses import dataclass
from typing import Self

MOST_PARTS = 50
"""Parts between commas: as many as the most pages that are ever sent."""

_PART = re.compile(r"(?P<first>[0-9]{1,6})\s*(?P<to>[-\u2013])?\s*(?P<last>[0-9]{1,6})?")


class NoSuchPages(ValueError):
    """What was chosen is not there; the message says what is."""


@dataclass(frozen=True, slots=True)
class PageChoice:
    """Ranges of page numbers, from 1, in the order in which they were written. `None` is the last page."""

    ranges: tuple[tuple[int | None, int | None], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The choice that `text` makes.

        Raises:
            ValueError: it can't be understood.
        """
        words = {"all": ((1, None),), "first": ((1, 1),), "last": ((None, None),)}
        if (known := words.get(text.strip().lower())) is not None:
            return cls(known)
        parts = [_PART.fullmatch(part.strip()) for part in text.split(",")]
        if len(parts) > MOST_PARTS or not all(parts):
            raise ValueError("it should be all, first, last, or pages and ranges such as 1-3,7 or 2-")
        return cls(tuple(_range(part) for part in parts if part))

    def numbers(self, count: int, noun: str = "page") -> list[int]:
        """The numbers of the pages that are meant, each once, where there are `count`.

        Raises:
            NoSuchPages: one of them is not there.
        """
        chosen: dict[int, None] = {}
        for first, last in self.ranges:
            begin, end = (count if first is None else first), (count if last is None else last)
            if not 1 <= begin <= end <= count:
                there = f"there is only one {noun}" if count == 1 else f"the {noun}s are 1 to {count:,}"
                raise NoSuchPages(f"'{self._written(first, last)}' is not there: {there}")
            chosen.update(dict.fromkeys(range(begin, end + 1)))
        return list(chosen)

    @staticmethod
    def _written(first: int | None, last: int | None) -> str:
        if first is None:
            return "last"
        return str(first) if first == last else f"{first}-{'' if last is None else last}"


def _range(part: re.Match[str]) -> tuple[int, int | None]:
    first = int(part["first"])
    last = None if part["last"] is None else int(part["last"])
    if part["to"] is None and part["last"] is not None:  # "1 3"
        raise ValueError("it should have a comma or a hyphen between numbers")
    if first < 1 or (last is not None and last < first):
        raise ValueError("its numbers should rise, from 1")
    return first, (last if part["to"] else first)
