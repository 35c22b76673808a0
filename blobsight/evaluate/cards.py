"""An image in the page: its picture, what was expected, what was given. HTML, with strangers' text escaped."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from blobsight.evaluate.comparing import Outcome, Value
from blobsight.evaluate.overview import field_of, label_of
from blobsight.evaluate.rows import Cell, Row, rows_of
from blobsight.evaluate.scores import NO_ANSWER, Evaluation
from blobsight.evaluate.shapes import Kind, is_absent
from blobsight.evaluate.words import Words
from blobsight.pages.one_file import figure, value
from blobsight.pictures.pictures import Picture
from blobsight.results.flattening import json_text, path_of
from blobsight.terminal import counted, one_line, shortened

MOST_CHARACTERS = 4000
"""Of one text."""
MOST_ROWS = 200
"""Of an image's wrong values, and of its right ones."""
SIDE_BY_SIDE = 4
"""Variants beside a picture; a table with more is scrolled."""
NONE = '<span class="dim">–</span>'  # noqa: RUF001 - a dash


class Cards:
    """Makes the cards of an evaluation's images. Fields and variants are known by their numbers in it."""

    def __init__(self, evaluation: Evaluation, words: Words) -> None:
        self._evaluation = evaluation
        self._words = words
        self._expected = label_of(words.expected)
        self._fields = {each.name: number for number, each in enumerate(evaluation.fields)}
        self._variants = {label: number for number, label in enumerate(evaluation.variants)}

    def card(self, name: str, picture: Picture | None) -> str:
        """The card of the image `name`."""
        rows = rows_of(self._evaluation, name)
        wrong = [row for row in rows if not row.is_right]
        right = [row for row in rows if row.is_right]
        marks = sorted({mark for row in wrong for mark in self._marks(row)})
        tables = (self._table(wrong, "wrongs") if wrong else "") + self._right(right)
        return (
            f'    <article data-wrong="{" ".join(marks)}">{figure(picture)}<div class="words">'
            f'<h3 dir="auto">{escape(one_line(name))}</h3><p class="badges">{"".join(self._badges(name, rows))}</p>'
            f"{''.join(self._failures(name))}{tables}</div></article>\n"
        )

    def _marks(self, row: Row) -> Iterator[str]:
        """What is wrong, as `field.variant`."""
        for label, cell in row.cells.items():
            for field in cell.wrong:
                yield f"{self._fields[field]}.{self._variants[label]}"

    def _badges(self, name: str, rows: Sequence[Row]) -> Iterator[str]:
        for label, variant in self._evaluation.variants.items():
            image = variant.images.get(name)
            count = sum(not row.cells[label].is_right for row in rows if label in row.cells)
            said, kind = f"{count:,} {self._words.wrong}", " failed"
            if image is None:
                said, kind = "no result yet", " open"
            elif image.failure is not None:
                said = NO_ANSWER
            elif not count:
                said, kind = self._words.all_right, ""
            name_of = f"<bdi>{label_of(label)}</bdi>: " if len(self._variants) > 1 else ""
            yield f'<span class="badge{kind}" data-v="{self._variants[label]}">{name_of}{said}</span> '

    def _failures(self, name: str) -> Iterator[str]:
        for label, variant in self._evaluation.variants.items():
            image = variant.images.get(name)
            if image and image.failure is not None:
                yield (
                    f'<p class="failure" data-v="{self._variants[label]}" dir="auto"><b>{label_of(label)}</b>'
                    f" failed: {escape(shortened(image.failure, 500))}</p>"
                )

    def _right(self, rows: Sequence[Row]) -> str:
        if not rows:
            return ""
        summary = f"{counted(len(rows), 'value')} {self._words.folded}"
        return f"<details><summary>{summary}</summary>{self._table(rows, 'rights')}</details>"

    def _table(self, rows: Sequence[Row], kind: str) -> str:
        heads = "".join(
            f'<th scope="col" data-v="{number}" dir="auto">{label_of(label)}</th>'
            for label, number in self._variants.items()
        )
        more = len(rows) - MOST_ROWS
        rest = f'<p class="dim">… and {more:,} more.</p>' if more > 0 else ""
        table = (
            f'<table class="{kind} stack"><thead><tr><th scope="col">Field</th>'
            f'<th scope="col" dir="auto">{self._expected}</th>{heads}</tr></thead>'
            f"<tbody>{''.join(map(self._row, rows[:MOST_ROWS]))}</tbody></table>"
        )
        if len(self._variants) > SIDE_BY_SIDE:
            table = f'<div class="wide" tabindex="0" role="region" aria-label="Values">{table}</div>'
        return table + rest

    def _row(self, row: Row) -> str:
        name = row.field.name
        below = [number for field, number in self._fields.items() if field == name or _is_in(field, row)]
        wrong = sorted({self._variants[label] for label, cell in row.cells.items() if not cell.is_right})
        expected = f'<td data-label="{self._expected}">{self._given(row, row.expected, ())}</td>'
        cells = "".join(self._cell(row, label, number) for label, number in self._variants.items())
        return (
            f'<tr data-f="{" ".join(map(str, below))}" data-wrong-in="{" ".join(map(str, wrong))}">'
            f'<th scope="row" dir="auto">{field_of(name)}</th>{expected}{cells}</tr>'
        )

    def _cell(self, row: Row, label: str, number: int) -> str:
        cell = row.cells.get(label)
        outcome = cell.value.outcome.value if cell else "none"
        start = f'<td class="{outcome}" data-v="{number}" data-label="{label_of(label)}">'
        if cell is None:
            return f"{start}{NONE}</td>"
        if cell.is_right and cell.value.expected == cell.value.given:
            return f"{start}{self._tag(Outcome.RIGHT, self._words.tags[Outcome.RIGHT])}</td>"
        marked = cell.parts if cell.value.outcome is Outcome.WRONG else ()
        said = "" if marked else f" {self._said(cell)}"
        return f"{start}{self._given(row, cell.value.given, marked)}{said}</td>"

    def _said(self, cell: Cell) -> str:
        """What the value is, and why."""
        if cell.value.why == NO_ANSWER:
            return self._tag(Outcome.MISSING, NO_ANSWER)
        tags, outcome = self._words.tags, cell.value.outcome
        why = self._words.why(cell.value.why)
        return self._tag(outcome, f"{tags[outcome]}: {why}" if why else tags[outcome])

    def _tag(self, outcome: Outcome, text: str) -> str:
        sign = f'<span aria-hidden="true">{self._words.signs[outcome]}</span>'
        return f'<span class="tag {outcome.value}">{sign} {escape(text)}</span>'

    def _given(self, row: Row, given: Any, parts: Sequence[Value]) -> str:
        """A value; of an item its members, each with what is wrong in it."""
        if is_absent(given):
            return NONE
        if row.field.kind is not Kind.ITEM or not isinstance(given, Mapping):
            return value(_bounded(given))
        start = f"{row.field.name}."
        wrong = {path_of(part.field.removeprefix(start))[0]: part for part in reversed(parts)}
        members = dict.fromkeys([*given, *wrong] if len(given) <= MOST_ROWS else [*wrong, *given])
        shown = (self._member(key, given.get(key), wrong.get(key)) for key in list(members)[:MOST_ROWS])
        more = f'<p class="dim">… and {len(members) - MOST_ROWS:,} more.</p>' if len(members) > MOST_ROWS else ""
        return f"<dl>{''.join(shown)}</dl>{more}"

    def _member(self, name: str, given: Any, wrong: Value | None) -> str:
        said = ""
        if wrong:
            why = self._words.why(wrong.why) or self._words.tags[wrong.outcome]
            said = f" {self._tag(wrong.outcome, why)}"
        shown = NONE if is_absent(given) else value(_bounded(given))
        return f'<div><dt dir="auto">{escape(shortened(name, 60))}</dt> <dd>{shown}{said}</dd></div>'


def _bounded(given: Any) -> Any:
    """The value; of a long one the beginning of its text, so that one image does not fill the page."""
    text = given if isinstance(given, str) else json_text(given)
    return f"{text[: MOST_CHARACTERS - 1]}…" if len(text) > MOST_CHARACTERS else given


def _is_in(field: str, row: Row) -> bool:
    return row.field.kind is Kind.ITEM and field.startswith(f"{row.field.name}.")
