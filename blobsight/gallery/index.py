"""The listed images: what the overview shows, filters and sorts without reading a result.

Beside the columns, an image takes four bytes in each of the `KEPT_VIEWS` orders that were looked at last.
"""

import re
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from blobsight.gallery.columns import STATES, Columns
from blobsight.image_states import ImageState, State

KEPT_VIEWS = 4
MOST_FOLDERS = 1000
"""Folders of one folder that are shown."""
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


class Index:
    """Grows while the containers are listed. Rows are numbered from 0, in the order in which they were listed."""

    def __init__(self) -> None:
        self.columns = Columns()
        self._waiting: dict[str, int] = {}
        """Rows of images that may still turn out to have a result."""
        self._views: OrderedDict[View, tuple[int, array[int]]] = OrderedDict()
        """By view: its rows, and the revision that they are of."""
        self._overviews: OrderedDict[tuple[str, str], tuple[int, Overview]] = OrderedDict()
        self.revision = 0

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def pending(self) -> int:
        """The number of images without a result that are in no batch."""
        return self.columns.states.count(STATES.index(State.PENDING))

    def add(self, state: ImageState, *, is_final: bool) -> None:
        """Add an image, or correct the one that was added as pending."""
        name = state.image.name
        row = self._waiting.pop(name, None) if is_final else None
        if row is None:
            row = self.columns.append(name, state.image)
            if not is_final:
                self._waiting[name] = row
        self.columns.set(row, state)
        self.revision += 1

    def complete(self) -> None:
        """Every image has its final state."""
        self._waiting.clear()

    def note_batches(self, is_in_batch: Callable[[str], bool]) -> None:
        """Tell the pending images that are in batches from the others."""
        pending = STATES.index(State.PENDING)
        for row, state in enumerate(self.columns.states):
            if state == pending and is_in_batch(self.columns.name(row)):
                self.columns.set_in_batch(row)
        self.revision += 1

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
            states[self.columns.states[row]] += 1
            codes[self.columns.codes[row]] += 1
            below = self.columns.name_bytes(row)[len(start) :]
            at = below.find(b"/")
            if at >= 0 and (len(folders) < MOST_FOLDERS or folder + below[: at + 1].decode() in folders):
                folders[folder + below[: at + 1].decode()] += 1
        return Overview(
            Counter({STATES[number]: count for number, count in states.items()}),
            Counter({self.columns.code_names[number]: count for number, count in codes.items() if number}),
            folders,
        )

    def _chosen(self, view: View, answer: Callable[[str], str | None]) -> Iterator[int]:
        folder, text = view.folder.encode(), view.text.casefold()
        states = {STATES.index(state) for state in view.states if state in STATES}
        codes = {number for code, number in self.columns.code_numbers.items() if code in view.codes}
        for row in range(len(self)):
            if view.states and self.columns.states[row] not in states:
                continue
            if view.codes and self.columns.codes[row] not in codes:
                continue
            if folder and not self.columns.name_bytes(row).startswith(folder):
                continue
            if text:
                name = self.columns.name(row)
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
                return lambda row: _natural(self.columns.name(row))
            case Sort.MOST_TOKENS:
                return lambda row: -self.columns.tokens[row]
            case Sort.FEWEST_TOKENS:
                return lambda row: self.columns.tokens[row] % 2**31  # -1 becomes the largest

    def _when(self, row: int) -> int:
        """When something last happened to the image."""
        return self.columns.finished[row] or self.columns.modified[row]


def _keep[K, V](kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Keep it as the one that was used last, and forget those that were not used for longest."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > KEPT_VIEWS:
        kept.popitem(last=False)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """So that IMG_2 comes before IMG_10."""
    parts = _NUMBERS.split(name.casefold())  # text and digits take turns
    return [(0, int(part[:18])) if number % 2 else (1, part) for number, part in enumerate(parts)]
