"""The listed images, in columns: what the overview shows, filters and sorts without reading a result.

A Python object for each image would take a kilobyte. Here each takes `FIXED_BYTES` and its name in UTF-8, and four
bytes more in each of the `KEPT_VIEWS` orders that were looked at last.
"""

import re
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from blobsight.image_states import ImageState, State
from blobsight.terminal import shortened
from pipeline.storage.facts import ListedBlob

STATES = (State.PENDING, State.SUCCEEDED, State.FAILED)
FIXED_BYTES = 8 + 4 + 4 + 8 + 1 + 2 + 4 + 8 + 8
"""Bytes of an image in all columns, without its name."""
KEPT_VIEWS = 4
MOST_CODES = 1000
"""Error codes that are told apart: they are metadata, which anybody with access may have written."""
OTHER_CODE = "other"
MOST_FOLDERS = 1000
"""Folders of one folder that are shown."""
NO_TOKENS = -1
_NUMBERS = re.compile(r"([0-9]+)")


class Sort(StrEnum):
    """The order of a view. Images whose value is not known come last, whichever way it is sorted."""

    NEWEST = "newest"
    OLDEST = "oldest"
    NAME = "name"
    NAME_DOWN = "name-down"
    MOST_TOKENS = "most-tokens"
    FEWEST_TOKENS = "fewest-tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Which images are shown, in which order."""

    folder: str = ""
    """The start of their names."""
    states: frozenset[str] = frozenset()
    """Empty for all."""
    codes: frozenset[str] = frozenset()
    """Empty for all; only failed images have one."""
    text: str = ""
    """Part of the name or, where it was read, of the answer."""
    sort: Sort = Sort.NEWEST


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts of the images in a folder that hold a text, whatever their state."""

    states: Counter[str]
    codes: Counter[str]
    folders: Counter[str]
    """The folders directly in this one, by their whole name."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One image, as the index knows it."""

    name: str
    state: State
    code: str | None
    tokens: int | None
    size: int
    modified: datetime
    finished: datetime | None
    etag: str
    result_etag: str | None
    is_expected: bool = False
    """Whether another result is on its way."""

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "state": self.state,
            "code": self.code,
            "tokens": self.tokens,
            "size": self.size,
            "modified": self.modified.isoformat(),
            "finished": self.finished.isoformat() if self.finished else None,
            "etag": self.etag,
            "result_etag": self.result_etag,
            "expected": self.is_expected,
        }


class Index:
    """Grows while the containers are listed. Rows are numbered from 0, in the order in which they were listed."""

    def __init__(self) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self._modified = array("I")
        self._finished = array("I")
        self._sizes = array("Q")
        self._states = array("B")
        self._codes = array("H")
        self._tokens = array("i")
        self._etags = _Etags()
        self._result_etags = _Etags()
        self._code_names = ["", OTHER_CODE]
        self._code_numbers = {"": 0, OTHER_CODE: 1}
        self._waiting: dict[str, int] = {}
        """Rows of images that may still turn out to have a result."""
        self._views: OrderedDict[View, tuple[int, array[int]]] = OrderedDict()
        """By view: its rows, and the revision that they are of."""
        self._overviews: OrderedDict[tuple[str, str], tuple[int, Overview]] = OrderedDict()
        self.revision = 0

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def pending(self) -> int:
        """The number of images without a result."""
        return self._states.count(STATES.index(State.PENDING))

    def add(self, state: ImageState, *, is_final: bool) -> None:
        """Add an image, or correct the one that was added as pending."""
        name = state.image.name
        row = self._waiting.pop(name, None) if is_final else None
        if row is None:
            row = self._append(name, state.image)
            if not is_final:
                self._waiting[name] = row
        self._set(row, state)
        self.revision += 1

    def complete(self) -> None:
        """Every image has its final state."""
        self._waiting.clear()

    def rows(self, view: View, answer: Callable[[str], str | None]) -> Sequence[int]:
        """The rows of `view`, in its order. `answer` gives an image's answer in lower case, where it was read."""
        revision, found = self._views.get(view, (-1, None))
        if found is None or revision != self.revision or view.text:  # more answers may have been read since
            revision = self.revision
            chosen = sorted(self._chosen(view, answer), key=self._key(view.sort), reverse=view.sort is Sort.NAME_DOWN)
            found = array("I", chosen)
        _keep(self._views, view, (revision, found))
        return found

    def overview(self, folder: str, text: str, answer: Callable[[str], str | None]) -> Overview:
        """Count the images of a folder."""
        key = folder, text
        revision, found = self._overviews.get(key, (-1, None))
        if found is None or revision != self.revision or text:  # more answers may have been read since
            revision, found = self.revision, self._counted(folder, text, answer)
        _keep(self._overviews, key, (revision, found))
        return found

    def _counted(self, folder: str, text: str, answer: Callable[[str], str | None]) -> Overview:
        states: Counter[int] = Counter()
        codes: Counter[int] = Counter()
        folders: Counter[str] = Counter()
        start = folder.encode()
        for row in self._chosen(View(folder=folder, text=text), answer):
            states[self._states[row]] += 1
            codes[self._codes[row]] += 1
            below = self._name_bytes(row)[len(start) :]
            at = below.find(b"/")
            if at >= 0 and (len(folders) < MOST_FOLDERS or folder + below[: at + 1].decode() in folders):
                folders[folder + below[: at + 1].decode()] += 1
        return Overview(
            Counter({STATES[number]: count for number, count in states.items()}),
            Counter({self._code_names[number]: count for number, count in codes.items() if number}),
            folders,
        )

    def shown(self, row: int) -> Shown:
        tokens, finished = self._tokens[row], self._finished[row]
        return Shown(
            name=self.name(row),
            state=STATES[self._states[row]],
            code=self._code_names[self._codes[row]] or None,
            tokens=None if tokens == NO_TOKENS else tokens,
            size=self._sizes[row],
            modified=datetime.fromtimestamp(self._modified[row], UTC),
            finished=datetime.fromtimestamp(finished, UTC) if finished else None,
            etag=self._etags[row],
            result_etag=self._result_etags[row] or None,
        )

    def state(self, row: int) -> ImageState:
        """The image as the commands know it."""
        one = self.shown(row)
        blob = ListedBlob(one.name, one.etag, one.modified, {}, one.size)
        return ImageState(blob, one.state, "", one.code, one.finished, one.result_etag)

    def name(self, row: int) -> str:
        return self._name_bytes(row).decode()

    def find(self, name: str) -> int | None:
        """The row of `name`; a search through all names, at a gigabyte a second or so."""
        wanted = name.encode()
        at = self._names.find(wanted)
        while at >= 0:
            row = self._row_at(at)
            if self._name_bytes(row) == wanted:
                return row
            at = self._names.find(wanted, at + 1)
        return None

    def is_like(self, other: "Index") -> bool:
        """Whether both show the same."""
        return self.columns() == other.columns()

    def columns(self) -> tuple[object, ...]:
        """All that is known, to be compared."""
        return (
            *(self._names, self._ends, self._modified, self._finished, self._states, self._codes, self._code_names),
            *(self._etags, self._result_etags),
        )

    def _append(self, name: str, image: ListedBlob) -> int:
        self._names += name.encode()
        self._modified.append(_seconds(image.last_modified))
        self._sizes.append(image.size)
        self._etags.append(image.etag)
        self._finished.append(0)
        self._states.append(0)
        self._codes.append(0)
        self._tokens.append(NO_TOKENS)
        self._result_etags.append("")
        self._ends.append(len(self._names))  # last: a row that can be seen is whole
        return len(self._ends) - 1

    def _set(self, row: int, state: ImageState) -> None:
        self._states[row] = STATES.index(state.state)
        self._codes[row] = self._code_number(state.error_code)
        self._tokens[row] = NO_TOKENS if state.tokens is None else min(state.tokens, 2**31 - 1)
        self._finished[row] = _seconds(state.finished) if state.finished else 0
        self._result_etags[row] = state.result_etag or ""

    def _code_number(self, code: str | None) -> int:
        code = shortened(code or "", 60)
        number = self._code_numbers.get(code)
        if number is None:
            if len(self._code_names) >= MOST_CODES:
                return self._code_numbers[OTHER_CODE]
            number = self._code_numbers[code] = len(self._code_names)
            self._code_names.append(code)
        return number

    def _chosen(self, view: View, answer: Callable[[str], str | None]) -> Iterator[int]:
        folder, text = view.folder.encode(), view.text.casefold()
        states = {STATES.index(State(state)) for state in view.states if state in set(STATES)}
        codes = {number for code, number in self._code_numbers.items() if code in view.codes}
        for row in range(len(self)):
            if view.states and self._states[row] not in states:
                continue
            if view.codes and self._codes[row] not in codes:
                continue
            if folder and not self._name_bytes(row).startswith(folder):
                continue
            if text:
                name = self.name(row)
                if text not in name.casefold() and text not in (answer(name) or ""):
                    continue
            yield row

    def _key(self, sort: Sort) -> Callable[[int], Any]:
        when = self._when
        match sort:  # what is equal stays in the order of the listing
            case Sort.NEWEST:
                return lambda row: -when(row)
            case Sort.OLDEST:
                return when
            case Sort.NAME | Sort.NAME_DOWN:
                return lambda row: _natural(self.name(row))
            case Sort.MOST_TOKENS:
                return lambda row: -self._tokens[row]
            case Sort.FEWEST_TOKENS:
                return lambda row: self._tokens[row] % 2**31  # -1 becomes the largest

    def _when(self, row: int) -> int:
        """When something last happened to the image."""
        return self._finished[row] or self._modified[row]

    def _name_bytes(self, row: int) -> bytes:
        return bytes(self._names[self._ends[row - 1] if row else 0 : self._ends[row]])

    def _row_at(self, position: int) -> int:
        low, high = 0, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._ends[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low


def _keep[K, V](kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Keep it as the one that was used last, and forget those that were not used for longest."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > KEPT_VIEWS:
        kept.popitem(last=False)


class _Etags:
    """ETags, which the service writes as a number in hexadecimal: eight bytes each. Others are kept as text."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._others: dict[int, str] = {}

    def append(self, etag: str) -> None:
        self._numbers.append(0)
        self[len(self._numbers) - 1] = etag

    def __setitem__(self, row: int, etag: str) -> None:
        number = _number(etag)
        self._numbers[row] = number
        if etag and not number:
            self._others[row] = etag
        else:
            self._others.pop(row, None)

    def __getitem__(self, row: int) -> str:
        number = self._numbers[row]
        return f"0x{number:X}" if number else self._others.get(row, "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Etags) and (self._numbers, self._others) == (other._numbers, other._others)

    __hash__ = None  # type: ignore[assignment] # it changes


def _number(etag: str) -> int:
    """The number that is written exactly so; 0 if none is."""
    try:
        number = int(etag, 16)
    except ValueError:
        return 0
    return number if 0 < number < 2**64 and f"0x{number:X}" == etag else 0


def _seconds(moment: datetime) -> int:
    return min(max(int(moment.timestamp()), 1), 2**32 - 1)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """So that IMG_2 comes before IMG_10."""
    parts = _NUMBERS.split(name.casefold())  # text and digits take turns
    return [(0, int(part[:18])) if number % 2 else (1, part) for number, part in enumerate(parts)]
