"""The head of the page: the variants, the scores by field, the differences. HTML, with strangers' text escaped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from blobsight.evaluate.comparing import Outcome
from blobsight.evaluate.report import certainty, chance, percent
from blobsight.evaluate.scores import Compared, Evaluation, FieldScore
from blobsight.evaluate.words import Words
from blobsight.results.flattening import json_text
from blobsight.terminal import counted, shortened

LONG = 400
"""Characters of a question from which on it is folded away."""
MOST_DIFFERENCES = 500
"""Rows of the table."""
CHANCE = (
    '<p class="dim">Chance: how likely a difference at least as large is where in truth there is none, corrected for'
    " the number of comparisons. Below 0.05 it counts as a difference.</p>"
)
COUNTED = (Outcome.RIGHT, Outcome.WRONG, Outcome.MISSING, Outcome.INVENTED)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a variant asked, and what it took. None where it is not known."""

    label: str
    instructions: str | None
    """None: what the app asks by itself."""
    options: Mapping[str, Any]
    """By name, as in instruction files; those that are not null."""
    tokens: tuple[float, float] | None = None
    """Mean input and output tokens of an image."""
    usd_per_1000: float | None = None
    """US dollars for 1,000 such images."""
    seconds: float | None = None
    """Median for an image."""


def label_of(label: str) -> str:
    """A variant's label in the page."""
    return escape(shortened(label, 60))


def field_of(name: str) -> str:
    """A field's name in the page; the empty one is an answer that is a list or text as a whole."""
    return escape(shortened(name, 60))


# The variants.


def variants(asked: Sequence[Asked], evaluation: Evaluation, words: Words) -> str:
    """A box for each variant, and what all have in common said once."""
    shared = {
        key: found
        for key, found in (asked[0].options if asked else {}).items()
        if len(asked) > 1 and all(each.options.get(key) == found for each in asked)
    }
    one_question = len(asked) > 1 and len({each.instructions for each in asked}) == 1
    boxes = (_box(each, shared, evaluation, words, with_question=not one_question) for each in asked)
    together = (_question(asked[0].instructions) if one_question else "") + _options(shared)
    said = f'<div class="shared"><p class="dim">Asked by all</p>{together}</div>' if together else ""
    return f'{said}<div class="boxes">{"".join(boxes)}</div>'


def _box(asked: Asked, shared: Mapping[str, Any], evaluation: Evaluation, words: Words, *, with_question: bool) -> str:
    own = {key: found for key, found in asked.options.items() if key not in shared}
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in _facts(asked, evaluation, words) if text
    )
    question = _question(asked.instructions) if with_question else ""
    return (
        f'<section class="box"><h3 dir="auto">{label_of(asked.label)}</h3>{question}{_options(own)}'
        f"<dl>{facts}</dl></section>"
    )


def _question(text: str | None) -> str:
    if text is None:
        said = "No instructions of its own: the app's default, or what an uploaded image's metadata and files say"
        return f'<p class="dim">{said}</p>'
    whole = f'<p class="text question" dir="auto">{escape(text)}</p>'
    if len(text) <= LONG:
        return whole
    return f'<details><summary dir="auto">{escape(shortened(text, LONG // 2))}</summary>{whole}</details>'


def _options(options: Mapping[str, Any]) -> str:
    simple = {key: found for key, found in options.items() if not isinstance(found, Mapping | list)}
    chips = "".join(
        f'<li><span class="dim">{escape(shortened(key, 60))}</span> {escape(shortened(str(found), 60))}</li>'
        for key, found in simple.items()
    )
    large = "".join(
        f"<details><summary>{escape(shortened(key, 60))}</summary>"
        f'<pre class="text">{escape(json_text(found, indent=2))}</pre></details>'
        for key, found in options.items()
        if key not in simple
    )
    return (f'<ul class="chips">{chips}</ul>' if chips else "") + large


def _facts(asked: Asked, evaluation: Evaluation, words: Words) -> Iterator[tuple[str, str]]:
    variant = evaluation.variants.get(asked.label)
    if variant and words.whole:
        yield words.whole, f"{variant.all_right:,} of {len(variant.images):,}"
        yield "failed", f"{variant.failed:,}" if variant.failed else ""
    yield "for 1,000 images", "" if asked.usd_per_1000 is None else f"${_money(asked.usd_per_1000)}"
    yield "tokens in, out", "" if asked.tokens is None else " + ".join(f"{tokens:,.0f}" for tokens in asked.tokens)
    yield "median time", "" if asked.seconds is None else f"{asked.seconds:.1f} s"


def _money(usd: float) -> str:
    return f"{usd:,.2f}" if usd >= 0.1 else f"{usd:.2g}"


# The scores.


def scores(evaluation: Evaluation, words: Words) -> str:
    """A table with a group of rows for each field, a row for each variant."""
    several = len(evaluation.variants) > 1
    heads = ("Field", *(("Variant",) if several else ()), words.share, "95 % interval")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    counts = [*(words.counts[each] for each in COUNTED), "of"]
    head += "".join(f'<th scope="col" class="number">{escape(capital(shortened(name, 30)))}</th>' for name in counts)
    groups = "".join(f"<tbody>{''.join(_group(evaluation, field.name, words))}</tbody>" for field in evaluation.fields)
    caption = f'<caption class="unseen">{escape(words.share)} by field</caption>'
    return f'<table class="scores stack">{caption}<thead><tr>{head}</tr></thead>{groups}</table>'


def _group(evaluation: Evaluation, name: str, words: Words) -> Iterator[str]:
    several = len(evaluation.variants)
    for number, variant in enumerate(evaluation.variants.values()):
        score = variant.fields[name]
        kind = (
            f'<span class="kind">{escape(score.field.kind.value)}{" in a list" if score.field.in_list else ""}</span>'
        )
        first = (
            f'<th scope="rowgroup" rowspan="{several}" dir="auto">{field_of(name)} {kind}</th>' if not number else ""
        )
        label = f'<th scope="row" dir="auto">{label_of(variant.label)}</th>' if several > 1 else ""
        yield f"<tr>{first}{label}{_numbers(score, words)}</tr>"


def _numbers(score: FieldScore, words: Words) -> str:
    low, high = score.interval
    interval = f"{low * 100:.1f} – {high * 100:.1f} %"  # noqa: RUF001 - a range
    counts = "".join(_count(words.counts[each], score.outcomes[each]) for each in COUNTED)
    every = _count("of", score.n)
    share = f'<span class="share">{percent(score.accuracy)}</span>{_bar(score.accuracy, low, high)}'
    return (
        f'<td class="accuracy">{share}</td>'
        f'<td class="interval" data-label="95 % interval">{interval}</td>{counts}{every}'
    )


def _count(name: str, number: int) -> str:
    return f'<td class="number{"" if number else " none"}" data-label="{escape(shortened(name, 30))}">{number:,}</td>'


def _bar(share: float | None, low: float, high: float) -> str:
    """The share as a bar from 0 to 1, and the interval as whiskers. What it shows stands beside it as text."""
    at, start, end = (round((each or 0) * 100, 2) for each in (share, low, high))
    return (
        '<svg class="bar" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="whole" y="4" width="100" height="8"/>'
        f'<rect class="part" y="4" width="{at:g}" height="8"/>'
        f'<path d="M{start:g} 8H{end:g}M{start:g} 3V13M{end:g} 3V13" vector-effect="non-scaling-stroke"/></svg>'
    )


# The differences.


def differences(found: Sequence[Compared]) -> str:
    """The comparisons that tell two variants apart, and the others folded away."""
    order = dict.fromkeys(each.field for each in found)
    by_field = [each for name in order for each in found if each.field == name]
    told, others = ([each for each in by_field if each.told_apart is apart] for apart in (True, False))
    every = counted(len(found), "comparison")
    said = (
        f"{len(told):,} of {every} tell two variants apart."
        if told
        else f"0 of {every} tell two variants apart: they may be alike, or the images too few."
    )
    summary = f"<summary>{counted(len(others), 'comparison')} without a clear difference</summary>"
    folded = f"<details>{summary}{_compared(others)}</details>"
    return f"<p>{said}</p>{_compared(told) if told else ''}{folded if others else ''}{CHANCE}"


def _compared(found: Sequence[Compared]) -> str:
    heads = ("Field", "Better", "Than", "By", "Images better, worse", "Chance", "Told apart")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "".join(map(_difference, found[:MOST_DIFFERENCES]))
    more = len(found) - MOST_DIFFERENCES
    rest = f'<p class="dim">… and {counted(more, "comparison")} more (--json has all).</p>' if more > 0 else ""
    return (
        '<table class="differences stack"><caption class="unseen">Differences between variants</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"
    )


def _difference(each: Compared) -> str:
    apart = each.difference
    better, worse = (apart.worse, apart.better) if apart.by < 0 else (apart.better, apart.worse)
    cells = {
        "better": label_of(each.better),
        "than": label_of(each.worse),
        "by": f"{abs(apart.by) * 100:.1f} points",
        "images better, worse": f"{better:,}, {worse:,} of {apart.images:,}",
        "chance": escape(chance(each)),
        "told apart": escape(certainty(each)),
    }
    row = "".join(f'<td data-label="{name}" dir="auto">{text}</td>' for name, text in cells.items())
    return f'<tr><th scope="row" dir="auto">{field_of(each.field)}</th>{row}</tr>'


def choices(names: Iterable[str], every: str) -> str:
    """The options of a filter: all, and each by its number."""
    options = (f'<option value="{number}">{escape(shortened(name, 60))}</option>' for number, name in enumerate(names))
    return f'<option value="">{escape(every)}</option>{"".join(options)}'


def capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
