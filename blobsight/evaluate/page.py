"""The page of an evaluation: one HTML file to send, with the scores, the differences, and the images, the worst first.

A second opinion is the same page in other words: two variants agree or differ, and neither is what is expected.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import IO

from blobsight.evaluate import overview
from blobsight.evaluate.cards import Cards
from blobsight.evaluate.overview import Asked
from blobsight.evaluate.scores import Evaluation
from blobsight.evaluate.words import EXPECTED, Words, second_opinion
from blobsight.pages.one_file import AT_ONCE, MOST_BYTES, read_template, size_of, write_file
from blobsight.pictures.pictures import NoPictureError, Picture
from blobsight.reading import side_by_side
from blobsight.terminal import Unknown, counted, one_line
from blobsight.whole_files import replacing, spool

RESERVE = 2_000
"""Bytes for the policy, and for the sentence on images left out."""
TEMPLATE = Path(__file__).with_name("evaluation.html")


@dataclass(frozen=True, slots=True)
class About:
    """What the page says besides the scores."""

    title: str
    made_at: datetime
    asked: Sequence[Asked]
    """The variants; of a second opinion the first is the one that takes the place of the expected answers."""
    notes: Sequence[str] = ()
    """Sentences below the title, such as how many images have no answer yet."""
    is_second_opinion: bool = False

    @property
    def words(self) -> Words:
        if not self.is_second_opinion:
            return EXPECTED
        first, second = self.asked
        return second_opinion(first.label, second.label)


async def write_page(
    path: Path,
    evaluation: Evaluation,
    about: About,
    picture: Callable[[str], Awaitable[Picture | None]],
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write the page to `path`, over an earlier file.

    Images without anything wrong come last. Of a page that would have more than `MOST_BYTES` the last images are left
    out, and the page says how many.

    Args:
        path: of the file.
        evaluation: of `scores.evaluate`, or of `scores.disagreement`.
        about: the rest.
        picture: a thumbnail of an image by its name in the evaluation, None or NoPictureError if it has none.
        advance: called for each image.

    Raises:
        AzureError, RetryableFailure: no picture can be read.
        OSError: the file can't be written.
    """
    names = _in_order(evaluation)
    parts = _head(evaluation, about)
    template = read_template(TEMPLATE)
    room = MOST_BYTES - size_of(template + "".join(parts.values())) - RESERVE
    with replacing(path) as partial, spool(partial) as cards:
        written = await _write_cards(cards, names, Cards(evaluation, about.words), room, picture, advance)
        parts["left"] = _left_out(names, written, len(evaluation.worst()), about.words)
        cards.seek(0)
        write_file(partial, template, parts, cards)


def _in_order(evaluation: Evaluation) -> list[str]:
    """The names of all images with a result: the worst first, then those without anything wrong."""
    every = [name for variant in evaluation.variants.values() for name in variant.images]
    return list(dict.fromkeys([*evaluation.worst(), *sorted(every)]))


async def _write_cards(  # noqa: PLR0913, PLR0917 - one place
    stream: IO[str],
    names: Sequence[str],
    cards: Cards,
    room: int,
    picture: Callable[[str], Awaitable[Picture | None]],
    advance: Callable[[], None],
) -> int:
    """Write the cards of as many images as fit in `room` bytes. Returns their number."""
    written = 0
    is_full = False

    async def shown(name: str) -> Picture | None:
        try:
            return None if is_full else await picture(name)
        except NoPictureError:
            return None

    def take(name: str, made: Picture | Unknown | None) -> None:
        nonlocal written, is_full, room
        advance()
        if is_full:
            return
        card = cards.card(name, made if isinstance(made, Picture) else None)
        room -= size_of(card)
        is_full = room < 0
        if not is_full:
            stream.write(card)
            written += 1

    await side_by_side(names, shown, take, in_order=True, at_once=AT_ONCE)
    return written


def _head(evaluation: Evaluation, about: About) -> dict[str, str]:
    """The parts of the page above the images."""
    words = about.words
    made = f"Made by Blobsight on {about.made_at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC."
    said = f"{counted(evaluation.expected, 'image')} {words.images}. {made}"
    compared = overview.differences(evaluation.differences)
    return {
        "title": escape(one_line(about.title)),
        "about": "".join(f'<p class="dim">{escape(one_line(line))}</p>' for line in (said, *about.notes)),
        "variants": overview.variants(about.asked, evaluation, words),
        "share": escape(words.share),
        "scores": overview.scores(evaluation, words),
        "differences": f"<section><h2>Differences</h2>{compared}</section>" if evaluation.differences else "",
        "only": escape(words.only_wrong),
        "fields": overview.choices([each.name for each in evaluation.fields], "All fields"),
        "labels": overview.choices(list(evaluation.variants), "All variants"),
        "alone": "" if len(evaluation.variants) > 1 else " hidden",
        "left": "",
        "kind": "opinion" if about.is_second_opinion else "expected",
    }


def _left_out(names: Sequence[str], written: int, wrong: int, words: Words) -> str:
    left = len(names) - written
    if not left:
        return ""
    room = f"The page has room for {written:,} of {counted(len(names), 'image')}."
    rest = f"Of the {left:,} left out, {words.wrong_in} {max(wrong - written, 0):,}."
    return f'<p class="left">{room} {rest}</p>'
