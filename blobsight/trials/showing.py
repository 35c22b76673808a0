"""A trial's answers side by side and what they cost: on a terminal, as lines in a pipe, as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import Any

from rich.table import Table
from rich.text import Text

from blobsight.estimate.prices import CURRENCY
from blobsight.results.flattening import in_brief, json_text
from blobsight.terminal import Unknown, one_line, out, plain, printable, say, shortened, table
from blobsight.trials.asking import Answers
from blobsight.trials.comparing import TEXT, Compared, Row, compared, differing_fields
from blobsight.trials.measured import Given, Measured, measured
from blobsight.trials.models import Models
from blobsight.trials.record import Trial
from blobsight.trials.variants import Variant, numbered

MOST_IMAGES = 50
"""Images shown on a terminal: of more, those whose answers differ in most fields."""
MOST_FIELDS = 40
"""Fields of one image that are shown on a terminal."""
MOST_OF_A_VALUE = 300
MOST_ITEMS = 30
"""Of a list of objects."""
MOST_OF_AN_ITEM = 120
MOST_OF_A_TEXT = 2000
"""Characters of an answer's text."""
MOST_NAMED = 8
"""Fields in the sentence on differences."""
_NARROWEST = 22
"""Characters of a column below which the variants go below one another in groups."""
_FIELD = 28
DIFFERS = "≠"
NONE = "-"


def show(trial: Trial, found: Answers, models: Models) -> None:
    """Write the answers and the measures of each variant to stdout, and what differs to stderr.

    Args:
        trial: as it was recorded.
        found: its answers.
        models: whose prices count, as the person names them.
    """
    images = [compared(image.name, given_to(trial, found, image.name)) for image in trial.images]
    if out.is_terminal:
        _show_images(trial, images)
    else:
        for line in _lines(trial, found):
            plain("\t".join(map(one_line, line)))
    show_measures(trial, found, models)
    fields = differing_fields(images)
    if fields:
        named = ", ".join(f"{shortened(name, 60)} in {count:,}" for name, count in fields[:MOST_NAMED])
        more = f", and {len(fields) - MOST_NAMED} more fields" if len(fields) > MOST_NAMED else ""
        say(f"Fields that differ, of {len(images):,} images: {named}{more}.")


def given_to(trial: Trial, found: Answers, image: str) -> list[Given]:
    """The answers about one image, in the order of the variants."""
    return [found.get((variant.id, image)) for variant in trial.variants]


def measures(trial: Trial, found: Answers, models: Models) -> list[tuple[Variant, Measured]]:
    """Sum up the answers of each variant."""
    return [
        (
            variant,
            measured(
                [found.get((variant.id, image.name)) for image in trial.images],
                variant.options.service_tier or "default",
                models,
            ),
        )
        for variant in trial.variants
    ]


# On a terminal.


def _show_images(trial: Trial, images: Sequence[Compared]) -> None:
    most = sorted(range(len(images)), key=lambda number: -len(images[number].differing))[:MOST_IMAGES]
    for image in (images[number] for number in sorted(most)):
        out.print(Text(one_line(image.image), style="bold"), soft_wrap=True)
        rows = image.rows[:MOST_FIELDS]
        for group in _groups(trial.variants, rows):
            out.print(_side_by_side(group, rows))
        if len(image.rows) > MOST_FIELDS:
            out.print(Text(f"  … and {len(image.rows) - MOST_FIELDS} more fields (--json has all)", style="dim"))
        out.print()
    if len(images) > MOST_IMAGES:
        say(f"Shown: the {MOST_IMAGES} images whose answers differ in most fields, of {len(images):,}. --json has all.")


def _groups(variants: Sequence[Variant], rows: Sequence[Row]) -> Iterator[tuple[tuple[int, Variant], ...]]:
    """The variants with their numbers, as many at a time as stand side by side."""
    room = out.width - (_FIELD if any(row.field != TEXT for row in rows) else 2)
    return batched(numbered(variants), max(1, room // _NARROWEST), strict=False)


def _side_by_side(group: Sequence[tuple[int, Variant]], rows: Sequence[Row]) -> Table:
    has_fields = any(row.field != TEXT for row in rows)
    shown = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    shown.add_column("", width=1)
    if has_fields:
        shown.add_column("", max_width=_FIELD - 4, overflow="fold")
    for number, variant in group:
        title = Text(f"{number} {one_line(variant.label)}")  # as it is: a label may look like rich's markup
        shown.add_column(title, ratio=1 if not has_fields else None, overflow="fold")
    for row in rows:
        marked = row.differs and row.field != TEXT
        cells = [_cell(row.cells[number - 1], row.field) for number, _ in group]
        field = [Text(shortened(row.field, 100))] if has_fields else []
        shown.add_row(Text(DIFFERS if marked else ""), *field, *cells, style="yellow" if marked else "")
    return shown


def _cell(value: str | None, field: str) -> Text:
    if value is None:
        return Text(NONE if field else "", style="dim")
    if field:
        return Text("\n".join(_readable(value)))
    text = value if len(value) <= MOST_OF_A_TEXT else f"{value[: MOST_OF_A_TEXT - 1]}…"
    return Text(printable(text))


def _readable(value: str) -> list[str]:
    """A value on one line; a list of objects with a line for each."""
    items = _items(value)
    if items is None:
        return [shortened(value, MOST_OF_A_VALUE)]
    lines = [shortened(in_brief(item), MOST_OF_AN_ITEM) for item in items[:MOST_ITEMS]]
    return lines + ([f"… and {len(items) - MOST_ITEMS:,} more"] if len(items) > MOST_ITEMS else [])


def _items(value: str) -> list[dict[str, Any]] | None:
    """The objects of a list; None for anything else."""
    if not value.startswith("[{"):
        return None
    try:
        found = json.loads(value)
    except ValueError:  # a text that begins so
        return None
    return found if isinstance(found, list) and all(isinstance(item, dict) for item in found) else None


# In a pipe.


def _lines(trial: Trial, found: Answers) -> Iterator[tuple[str, str, str]]:
    """A line for each answer: image, variant, and the answer, as JSON where it has fields."""
    for image in trial.images:
        for variant, given in zip(trial.variants, given_to(trial, found, image.name), strict=True):
            (answer,) = compared(image.name, [given]).rows[:1]
            yield image.name, variant.label, _whole(given) if answer.field else answer.cells[0] or ""


def _whole(given: Given) -> str:
    return json_text(given["answer"]["data"]) if isinstance(given, Mapping) else ""


def show_measures(trial: Trial, found: Answers, models: Models) -> None:
    """Write what each variant costs and how long it takes to stdout, and what failed to stderr."""
    head = ("", "variant", "answered", "failed", "tokens in", "out", f"{CURRENCY} per 1,000", "median s", "p90 s")
    rows, failures, unpriced = [], [], False
    for number, (variant, sums) in enumerate(measures(trial, found, models), 1):
        failed = sum(sums.failed.values())
        rows.append(
            (
                str(number),
                variant.label,
                f"{sums.answered:,} of {sums.images:,}",
                f"{failed:,}",
                _number(sums.input_tokens, 0),
                _number(sums.output_tokens, 0),
                _number(sums.usd_per_1000, 2),
                _seconds(sums.median_ms),
                _seconds(sums.p90_ms),
            )
        )
        unpriced |= sums.answered > 0 and sums.usd_per_1000 is None
        if failed:
            codes = ", ".join(f"{shortened(code, 60)} {count:,}" for code, count in sorted(sums.failed.items()))
            failures.append(f"{number} {one_line(variant.label)}: {failed:,} failed ({codes})")
    table(head, rows, right=(2, 3, 4, 5, 6, 7, 8))
    for failure in failures:
        say(failure, "red")
    if unpriced:
        say("For money per 1,000 images, give the model behind the deployments: --model [DEPLOYMENT=]NAME.", "dim")


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _seconds(milliseconds: float | None) -> str:
    return NONE if milliseconds is None else f"{milliseconds / 1000:,.2f}"


# For programs.


def to_json(trial: Trial, found: Answers, models: Models) -> dict[str, Any]:
    """The whole comparison."""
    return {
        "trial": trial.name,
        "created_at": trial.created_at.isoformat(timespec="seconds"),
        "variants": [
            {
                "number": number,
                "id": variant.id,
                "label": variant.label,
                "instructions": variant.instructions,
                "options": variant.options.model_dump(by_alias=True, exclude_none=True),
            }
            | sums.to_json()
            for number, (variant, sums) in enumerate(measures(trial, found, models), 1)
        ],
        "images": [
            {
                "name": image.name,
                "container": image.container,
                "blob": image.blob,
                "differing_fields": compared(image.name, given := given_to(trial, found, image.name)).differing,
                "answers": [_answer_json(variant, one) for variant, one in zip(trial.variants, given, strict=True)],
            }
            for image in trial.images
        ],
    }


def _answer_json(variant: Variant, given: Given) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        why = {"error": given.to_json()} if isinstance(given, Unknown) else {}
        return {"variant": variant.id, "status": "unknown" if why else "pending"} | why
    answer = given.get("answer") or {}
    return {
        "variant": variant.id,
        "status": given["status"],
        "text": answer.get("text"),
        "data": answer.get("data"),
        "error": given.get("error"),
        "model": given.get("model"),
        "usage": given.get("usage"),
        "timings_ms": given.get("timings_ms"),
    }
