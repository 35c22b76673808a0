"""Answer questions about a picture from what can be known without a vision model: its text and its pixels."""

import json
import re
from io import BytesIO
from typing import Protocol

from PIL import Image

from localcloud.model import pixels, structured
from localcloud.model.pixels import Facts
from localcloud.model.question import Picture, Question
from localcloud.model.reading import OcrReader, Reader, ReaderMissingError, Row

STAND_IN = "(Local stand-in, no vision model: it only reads text and measures pixels.)"
NOT_INSTALLED = "Reading text is not installed here (pip install -r requirements-demo.txt)."

MOST_ROWS = 60
"""Rows of text that an answer repeats."""

COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        what which where when who why how many much the this that these those is are was were and for from with its
        has have had does did can cannot could please tell show give list find read describe picture image photo text
        one two any all most someone paragraph sentence word words answer there here into out not you see name number
        """,
    )
)
"""Words of a question that say nothing about what is asked for."""


class Brain(Protocol):
    def answer(self, question: Question) -> str:
        """The answer's text; JSON that meets `question.schema` when there is one.

        Runs in a thread. Raises CannotAnswerError with the reason when there can be no such answer; the model then
        refuses in these words.
        """


class HonestBrain:
    """Reads and measures; never guesses. Reads a picture at the size at which the model would see it."""

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or OcrReader()

    def answer(self, question: Question) -> str:
        facts = [pixels.measure(picture.data) for picture in question.pictures]
        read: list[list[Row]] = [[] for _ in facts]
        installed = True
        try:
            read = [list(self._reader.read(_seen(picture))) for picture in question.pictures]
        except ReaderMissingError:
            installed = False
        if question.schema is not None:
            rows = tuple(row for rows in read for row in rows)
            found = structured.Findings(rows, tuple(facts), STAND_IN if installed else NOT_INSTALLED)
            return json.dumps(structured.fill(question.schema, found), ensure_ascii=False)
        return "\n\n".join(_paragraphs(question.instructions, read, facts, installed=installed))


def _seen(picture: Picture) -> bytes:
    """The picture as the model sees it: scaled down if its detail, or the model, is for less."""
    if max(picture.width, picture.height) <= picture.seen_side:
        return picture.data
    with Image.open(BytesIO(picture.data)) as image:
        image.thumbnail((picture.seen_side, picture.seen_side))
        scaled = BytesIO()
        image.convert("RGBA" if image.has_transparency_data else "RGB").save(scaled, "PNG", compress_level=1)
    return scaled.getvalue()


def _paragraphs(instructions: str, read: list[list[Row]], facts: list[Facts], *, installed: bool) -> list[str]:
    if not facts:
        return ["No image came with the question.", STAND_IN]
    parts: list[str] = []
    for place, (rows, fact) in enumerate(zip(read, facts, strict=True), 1):
        if len(facts) > 1:
            parts.append(f"Picture {place} of {len(facts)}")
        parts += _about(instructions, rows, fact, installed=installed)
    return [*parts, STAND_IN]


def _about(instructions: str, rows: list[Row], fact: Facts, *, installed: bool) -> list[str]:
    parts: list[str] = []
    matching = [row for row in rows if matches(instructions, row)]
    if matching:
        parts.append(_listed("What the picture says about it:", matching))
    if rows and len(matching) < len(rows):
        parts.append(_listed("All the text in it:" if matching else "The text in the picture:", rows))
    if not rows:
        parts.append("There is no text in the picture." if installed else NOT_INSTALLED)
    return [*parts, f"The picture: {fact.sentence()}"]


def _listed(heading: str, rows: list[Row]) -> str:
    lines = [f"- {'  '.join(row)}" for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"- … and {len(rows) - MOST_ROWS} more")
    return "\n".join([heading, *lines])


def matches(instructions: str, row: Row) -> bool:
    """Whether a row of text is related to the question: it holds one of its words, or the question quotes it.

    The second is for scripts that put no spaces between words.
    """
    asked = instructions.casefold()
    if any(len(cell) > 1 and not cell.isascii() and cell.casefold() in asked for cell in row):
        return True
    words = {word for word in re.findall(r"\w+", asked) if len(word) > 2 and word not in COMMON}
    return not words.isdisjoint(re.findall(r"\w+", " ".join(row).casefold()))
