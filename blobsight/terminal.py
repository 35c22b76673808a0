"""What people see: data on stdout, talk on stderr, no colours or animation in pipes, NO_COLOR obeyed."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import override
from unicodedata import category

import click
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

talk = Console(stderr=True, highlight=False)
out = Console(highlight=False)


class Exit(IntEnum):
    """What the exit status tells a script."""

    DONE = 0
    SOME_FAILED = 1
    """The command ran; some of what it was about failed, and is listed."""
    USAGE = 2
    CANNOT = 3
    """It could not do its work: no access, nothing there, no connection."""
    INTERRUPTED = 130


class Trouble(click.ClickException):
    """The command can't go on; the message says what is wrong, where, and what to do."""

    exit_code = Exit.CANNOT

    @override
    def show(self, file: object = None) -> None:
        say(f"error: {self.message}")


class _Rate(ProgressColumn):
    """Pieces a second, or a minute where that says more."""

    @override
    def render(self, task: Task) -> Text:
        speed = task.speed or 0
        return Text(f"{speed:,.0f}/s" if speed >= 2 else f"{60 * speed:,.0f}/min" if speed else "")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator["Bar"]:
    """A progress bar on a terminal, with rate and time left; nothing elsewhere. `total` may come to be known later."""
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
    """One piece of long work."""

    def __init__(self, shown: Progress, what: str, total: int | None) -> None:
        self._shown = shown
        self._task = shown.add_task(what, total=total)

    def advance(self, by: int = 1) -> None:
        self._shown.advance(self._task, by)

    def says(self, *, what: str | None = None, done: int | None = None, total: int | None = None) -> None:
        self._shown.update(self._task, description=what, completed=done, total=total)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Rows on stdout: lined up for people; in pipes, a line each, without a head, separated by tabs.

    Args:
        head: one title for each column.
        rows: the cells.
        right: the columns, from 0, that are numbers.
    """
    if not out.is_terminal:
        for row in rows:
            plain("\t".join(map(one_line, row)))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(head):
        shown.add_column(title, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    out.print(shown)


def plain(line: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(f"{printable(line)}\n")


def write_json(value: object, indent: int | None = None) -> None:
    """A value on stdout, as JSON in ASCII: whatever the terminal or the pipe, programs read it."""
    sys.stdout.write(f"{json.dumps(value, indent=indent)}\n")


def say(line: str, style: str | None = None) -> None:
    """A line of talk on stderr: broken between words on a terminal, nowhere in a pipe."""
    talk.print(Text(printable(line)), style=style, soft_wrap=not talk.is_terminal)


def counted(number: int, noun: str) -> str:
    """For example "1 image" or "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_STEERING = {"Cc", "Cs", "Zl", "Zp", "Co", "Cn"}
_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def printable(text: str) -> str:
    """`text`, with what would steer a terminal, and what it can't show (half characters), escaped."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode()
        if character not in "\n\t" and (category(character) in _STEERING or character in _BIDI)
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """The same with line breaks and tabs escaped, too: for names, and for cells of a table in a pipe."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
