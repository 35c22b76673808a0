"""Terminal output: data on stdout, messages on stderr, no colours or animation in pipes, NO_COLOR obeyed."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Literal, override
from unicodedata import category

import click
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text


class _Console(Console):
    @override
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called while it is handled; rich would end the process


talk = _Console(stderr=True, highlight=False)
out = _Console(highlight=False)


class Exit(IntEnum):
    """The exit status, for scripts."""

    DONE = 0
    SOME_FAILED = 1
    """The command ran; some items failed and are listed."""
    USAGE = 2
    CANNOT = 3
    """The command could not run: no access, nothing there, no connection."""
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    """The reader of the output has closed its end, as `head` does: 128 and the number of SIGPIPE, as in shells."""


class Trouble(click.ClickException):
    """The command can't go on; the message says what is wrong, where, and what to do.

    `code` is the service's own name of the error, if the service refused.
    """

    exit_code = Exit.CANNOT

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code

    @override
    def show(self, file: object = None) -> None:
        say(f"error: {self.message}")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why something is not known or was not done.

    `reason` is for people; `code` is the service's own name of the error, if it was the service that refused.
    """

    reason: str
    code: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return {"code": self.code, "message": self.reason}


@dataclass(frozen=True, slots=True)
class Problem:
    """One blob that a command could not read or act on."""

    name: str
    why: Unknown

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "error": self.why.to_json()}


def name_problems(problems: Sequence[Problem]) -> None:
    """Name each blob with its reason on stderr, at most 1,000."""
    for problem in problems[:_MOST_NAMED]:
        say(f"{one_line(problem.name)}: {one_line(problem.why.reason)}", "red")
    if len(problems) > _MOST_NAMED:
        say(f"… and {len(problems) - _MOST_NAMED:,} more.", "red")


_MOST_NAMED = 1000


class _Rate(ProgressColumn):
    """Items a second, or a minute if they are slow."""

    @override
    def render(self, task: Task) -> Text:
        speed = task.speed or 0
        return Text(f"{speed:,.0f}/s" if speed >= 2 else f"{60 * speed:,.0f}/min" if speed else "")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator["Bar"]:
    """Show a progress bar with rate and time left; nothing where stderr is not a terminal. `total` may be set later."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as shown:
        yield Bar(shown, what, total)


class Bar:
    """The progress of one long operation."""

    def __init__(self, shown: Progress, what: str, total: int | None) -> None:
        self._shown = shown
        self._task = shown.add_task(what, total=total)

    def advance(self, by: int = 1) -> None:
        self._shown.advance(self._task, by)

    def expect(self, total: int) -> None:
        self._shown.update(self._task, total=total)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Write rows to stdout: aligned on a terminal; in a pipe a line each, separated by tabs, without a head.

    Args:
        head: one title for each column.
        rows: the cells.
        right: the columns, from 0, that are numbers.
    """
    if not out.is_terminal:
        for row in rows:
            plain("\t".join(map(one_line, row)))
        return
    out.print(aligned(head, rows, right=right))


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Table:
    """The same for a terminal, not yet written."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    columns = list(zip(head, *rows, strict=True))
    if _width(columns) > out.width:
        columns = [(cells[0].replace(" ", "\n"), *cells[1:]) for cells in columns]
    # Numbers stay whole while they leave the texts some room.
    are_whole = _width([columns[number] for number in right]) + _LEAST * (len(head) - len(right)) <= out.width
    for number, (title, *_) in enumerate(columns):
        is_number = number in right
        justify: Literal["left", "right"] = "right" if is_number else "left"
        shown.add_column(Text(title), justify=justify, overflow="fold", no_wrap=is_number and are_whole)
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    return shown


_LEAST = 8
"""Characters that a column of texts has at least, with the gap beside it."""


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Characters of a table that wraps nothing."""
    return sum(max(cell_len(line) for cell in cells for line in cell.split("\n")) + 2 for cells in columns) - 2


def plain(line: str) -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(f"{printable(line)}\n")


def write_json(value: object, indent: int | None = None) -> None:
    """Write a value to stdout, as JSON in ASCII: readable in any terminal's encoding."""
    sys.stdout.write(f"{json.dumps(value, indent=indent)}\n")


def say(line: str, style: str | None = None) -> None:
    """Write a message to stderr: wrapped between words on a terminal, on one line in a pipe, whatever it quotes."""
    talk.print(Text(one_line(line)), style=style, soft_wrap=not talk.is_terminal)


def counted(number: int, noun: str) -> str:
    """For example "1 image" or "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(time: timedelta) -> str:
    """For example "3 minutes" or "2 days"."""
    seconds = max(0, round(time.total_seconds()))
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return counted(seconds, "second")


MOST_OF_A_MESSAGE = 2000
"""Characters of an error's message: twice what the app writes. A result may be another program's."""
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
"""Categories of characters that steer a terminal, change the order of others, or don't show at all."""
_JOINERS = "\u200c\u200d"
"""They shape letters and emoji; between letters of ASCII they only hide."""


def printable(text: str) -> str:
    """Escape characters that control a terminal, that don't show, and that it can't show (half characters)."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode() if _is_hidden(character, before) else character
        for before, character in zip(f" {text}", text, strict=False)
    )


def _is_hidden(character: str, before: str) -> bool:
    if character in _JOINERS:
        return before.isascii()
    return character not in "\n\t" and category(character) in _HIDDEN


def one_line(text: str) -> str:
    """Escape line breaks and tabs as well: for names, and for cells of a table in a pipe."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, most: int = 200) -> str:
    """At most `most` characters of an untrusted text, on one line."""
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
