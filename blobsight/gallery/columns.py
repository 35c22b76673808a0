"""The facts of listed images in columns: arrays of numbers, and one of names.

A Python object for each image would take 700 bytes. Here each takes `FIXED_BYTES` and its name in UTF-8.
"""

from array import array
from dataclasses import dataclass
from datetime import UTC, datetime

from blobsight.image_states import ImageState, State
from blobsight.terminal import shortened
from pipeline.storage.facts import ListedBlob

IN_BATCH = "in_batch"
"""A pending image that waits for a batch, or is in one."""
STATES = (State.PENDING, State.SUCCEEDED, State.FAILED, IN_BATCH)
FIXED_BYTES = 8 + 4 + 4 + 8 + 1 + 2 + 4 + 8 + 8
"""Bytes of an image in all columns, without its name."""
MOST_CODES = 1000
"""Error codes that are told apart: they are metadata, which anybody with access may have written."""
OTHER_CODE = "other"
NO_TOKENS = -1


@dataclass(frozen=True, slots=True)
class Shown:
    """One image, as the index knows it."""

    name: str
    state: str
    """One of `STATES`."""
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


class Columns:
    """Rows are numbered from 0, in the order in which images were listed. One that can be seen is whole."""

    def __init__(self) -> None:
        self.names = bytearray()
        self.ends = array("Q")
        self.modified = array("I")
        self.finished = array("I")
        self.sizes = array("Q")
        self.states = array("B")
        """Positions in `STATES`."""
        self.codes = array("H")
        """Positions in `code_names`."""
        self.tokens = array("i")
        self.etags = _Etags()
        self.result_etags = _Etags()
        self.code_names = ["", OTHER_CODE]
        self.code_numbers = {"": 0, OTHER_CODE: 1}

    def __len__(self) -> int:
        return len(self.ends)

    def __eq__(self, other: object) -> bool:
        """Whether both show the same."""
        return isinstance(other, Columns) and self._shown() == other._shown()

    __hash__ = None  # type: ignore[assignment] # it changes

    def append(self, name: str, image: ListedBlob) -> int:
        """Add a pending image, and return its row."""
        self.names += name.encode()
        self.modified.append(_seconds(image.last_modified))
        self.sizes.append(image.size)
        self.etags.append(image.etag)
        self.finished.append(0)
        self.states.append(0)
        self.codes.append(0)
        self.tokens.append(NO_TOKENS)
        self.result_etags.append("")
        self.ends.append(len(self.names))  # last: a row that can be seen is whole
        return len(self.ends) - 1

    def set(self, row: int, state: ImageState) -> None:
        """Set what is known of the image in a row."""
        self.states[row] = STATES.index(state.state)
        self.codes[row] = self._code_number(state.error_code)
        self.tokens[row] = NO_TOKENS if state.tokens is None else min(state.tokens, 2**31 - 1)
        self.finished[row] = _seconds(state.finished) if state.finished else 0
        self.result_etags[row] = state.result_etag or ""

    def set_in_batch(self, row: int) -> None:
        """Note that a pending image waits for a batch, or is in one."""
        self.states[row] = STATES.index(IN_BATCH)

    def shown(self, row: int) -> Shown:
        tokens, finished = self.tokens[row], self.finished[row]
        return Shown(
            name=self.name(row),
            state=STATES[self.states[row]],
            code=self.code_names[self.codes[row]] or None,
            tokens=None if tokens == NO_TOKENS else tokens,
            size=self.sizes[row],
            modified=datetime.fromtimestamp(self.modified[row], UTC),
            finished=datetime.fromtimestamp(finished, UTC) if finished else None,
            etag=self.etags[row],
            result_etag=self.result_etags[row] or None,
        )

    def state(self, row: int) -> ImageState:
        """The image as the commands know it."""
        one = self.shown(row)
        blob = ListedBlob(one.name, one.etag, one.modified, {}, one.size)
        state = State.PENDING if one.state == IN_BATCH else State(one.state)
        return ImageState(blob, state, "", one.code, one.finished, one.result_etag)

    def name(self, row: int) -> str:
        return self.name_bytes(row).decode()

    def find(self, name: str) -> int | None:
        """The row of `name`; a search through all names, at a gigabyte a second or so."""
        wanted = name.encode()
        at = self.names.find(wanted)
        while at >= 0:
            row = self._row_at(at)
            if self.name_bytes(row) == wanted:
                return row
            at = self.names.find(wanted, at + 1)
        return None

    def name_bytes(self, row: int) -> bytes:
        """The name in UTF-8."""
        return bytes(self.names[self.ends[row - 1] if row else 0 : self.ends[row]])

    def _row_at(self, position: int) -> int:
        low, high = 0, len(self.ends)
        while low < high:
            middle = (low + high) // 2
            if self.ends[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def _code_number(self, code: str | None) -> int:
        code = shortened(code or "", 60)
        number = self.code_numbers.get(code)
        if number is None:
            if len(self.code_names) >= MOST_CODES:
                return self.code_numbers[OTHER_CODE]
            number = self.code_numbers[code] = len(self.code_names)
            self.code_names.append(code)
        return number

    def _shown(self) -> tuple[object, ...]:
        return (
            *(self.names, self.ends, self.modified, self.finished, self.states, self.codes, self.code_names),
            *(self.etags, self.result_etags),
        )


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
