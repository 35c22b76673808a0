"""Read numbers, dates and texts in the ways that people write them. Pure.

What can be read in two ways is never guessed: 03/05/2026 is the third of May or the fifth of March, and "1,234" a
thousand or a bit more than one. Such a text has several readings.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, cast
from unicodedata import category, normalize

if TYPE_CHECKING:
    from dateutil.parser import parserinfo

MOST_CHARACTERS = 60
"""Characters of a number or date; longer texts are neither."""
_REMEMBERED = 20_000
"""Readings kept: in lists, each text is compared with many."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as text has it. `values` are its readings; `unit` is what stands beside it, such as € or kg."""

    values: frozenset[Decimal]
    unit: str = ""

    def contradicts(self, other: "Amount") -> bool:
        """Whether both have a currency, and not the same."""
        if not self.unit or not other.unit:
            return False
        mine, others = (_CURRENCIES.get(unit, unit) for unit in (self.unit, other.unit))
        if not (is_currency(mine) and is_currency(others)) or mine == others:
            return False
        return "$" not in (mine, others) or bool({mine, others} & {*_CURRENCIES.values()})


_CURRENCIES = {"€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}
"""Signs that mean one currency; $ means any dollar or peso."""
_MINUS = str.maketrans("−–—’`´", "---'''")  # noqa: RUF001 - as they are printed
_AMOUNT = re.compile(
    r"(?P<before>[^\d+\-(]*)(?P<open>\(?)(?P<sign>[+-]?)\s*(?P<more>[^\d\s.,'()+-]*)\s*"
    r"(?P<digits>\d(?:[\d.,' ]*\d)?)[.,]?(?P<end>-{0,2})(?P<close>\)?)(?P<after>[^\d()]*)"
)
_GROUPED = r"\d{1,3}(?:[.,' ]\d{3})+|\d{1,2}(?:,\d{2})*,\d{3}"


@lru_cache(_REMEMBERED)
def amount_of(text: str) -> Amount | None:
    """Read a number with or without a unit: `1.234,50 €`, `CHF 1'234.50`, `-12.5`, `(12.50)`; None if it is not one.

    `1.234` and `1,234` have two readings, except with a currency, where they are thousands.
    """
    text = normalize("NFKC", text.translate(_MINUS)).strip()
    match = _AMOUNT.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if not match or bool(match["open"]) != bool(match["close"]):
        return None
    unit = " ".join(f"{match['before']} {match['more']} {match['after']}".split()).strip(".,:/- ")
    if len(unit) > 8 or len(unit.split()) > 1:
        return None  # prose with a number in it
    values = _values(match["digits"], currency=is_currency(unit))
    negative = match["sign"] == "-" or bool(match["open"]) or (match["end"] == "-" and not match["digits"].isdigit())
    return Amount(frozenset(-value if negative else value for value in values), unit) if values else None


def is_currency(unit: str) -> bool:
    """Whether it is a currency's sign or code."""
    return bool(re.fullmatch(r"[A-Z]{3}", unit)) or any(category(character) == "Sc" for character in unit)


def _values(digits: str, *, currency: bool) -> set[Decimal]:
    """The readings of digits with separators; none if they are not one number."""
    separators = re.sub(r"\d", "", digits)
    if not separators:
        return {Decimal(digits)}
    last = separators[-1]
    whole, _, fraction = digits.rpartition(last)
    readings: set[Decimal] = set()
    if re.fullmatch(_GROUPED, digits) and len(set(separators)) == 1 and not digits.startswith("0"):
        readings.add(Decimal(re.sub(r"\D", "", digits)))
    can_be_fraction = last in ".," and last not in separators[:-1] and not (currency and readings)
    if can_be_fraction and (whole.isdigit() or (re.fullmatch(_GROUPED, whole) and len(set(separators[:-1])) == 1)):
        readings.add(Decimal(f"{re.sub(r'\D', '', whole)}.{fraction}"))
    return readings


@lru_cache(_REMEMBERED)
def json_number(text: str) -> Decimal | None:
    """The number that JSON would read; None for anything else, such as 0012 or NaN."""
    if len(text) > MOST_CHARACTERS or not re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?", text, re.ASCII):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # pragma: no cover - the pattern is stricter
        return None


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, a time of day, or both; a part that the text does not name is None."""

    day: date | None
    hour: time | None
    """In UTC if the text names a time zone, and then with it."""


_MONTHS = """
    Jan January Januar Jänner janvier janv enero ene gennaio gen janeiro januari
    Feb February Februar février févr febrero febbraio fevereiro fev februari
    Mar March März Mrz mars marzo março maart mrt
    Apr April avril avr abril abr aprile
    May Mai mayo maggio mag maio mei
    Jun June Juni juin junio giugno giu junho
    Jul July Juli juillet juil julio luglio lug julho
    Aug August août agosto ago augustus
    Sep Sept September septembre septiembre settembre set setembro
    Oct October Oktober Okt octobre octubre ottobre ott outubro out
    Nov November novembre noviembre novembro
    Dec December Dezember Dez décembre déc diciembre dic dicembre dezembro
"""
"""English, German, French, Spanish, Italian, Portuguese, Dutch, with their abbreviations."""
_FILLERS = "de del le la den der do di er il el af vom am uhr um"
_WRITTEN = re.compile(
    r"\d{4}([./-])\d{1,2}\1\d{1,2}([T ,].*)?"
    r"|\d{1,2}([./-]) ?\d{1,2}\3 ?(\d{4}|\d{2})([T ,].*)?"
    r"|.*[^\W\d_]{3,}.*\b\d{4}\b.*|.*\b\d{4}\b.*[^\W\d_]{3,}.*"
)
"""What a date looks like, so that versions, house numbers and article numbers are not taken for one."""
_DEFAULTS = (datetime(2000, 1, 1), datetime(2004, 12, 2, 13))  # noqa: DTZ001 - a part that follows them was not written
_TIME_ONLY = re.compile(r"\d{1,2}([:.h])\d{2}((:\d{2})(\.\d+)?)?\s*([AaPp]\.?[Mm]\.?)?\s*(Z|[+-]\d{2}:?\d{2}|Uhr)?")


@lru_cache(_REMEMBERED)
def moments_of(text: str) -> frozenset[Moment]:
    """Read a date, with a time of day or without; or a time of day. Several if it is ambiguous, none if it is neither.

    Understood are ISO 8601, year first with any separator, days and months in figures, and months as words.
    """
    text = normalize("NFKC", text).strip()
    if len(text) > MOST_CHARACTERS:
        return frozenset()
    if _TIME_ONLY.fullmatch(text):
        readings = _parsed(re.sub(r"(?<=\d)[.h](?=\d{2}\b)", ":", text, count=1), day_first=False, year_first=False)
        return frozenset(Moment(None, reading.hour) for reading in readings if reading.hour)
    if not _WRITTEN.fullmatch(text):
        return frozenset()
    if re.match(r"\d{4}\D", text):
        return frozenset(reading for reading in _parsed(text, day_first=False, year_first=True) if reading.day)
    every = {
        reading
        for day_first in (True, False)
        for year_first in (True, False)
        for reading in _parsed(text, day_first=day_first, year_first=year_first)
    }
    return frozenset(reading for reading in every if reading.day)


def _parsed(text: str, *, day_first: bool, year_first: bool) -> list[Moment]:
    from dateutil.parser import parse  # noqa: PLC0415 - 20 ms that other commands don't need

    try:
        first, second = (
            parse(text, parserinfo=_words(), default=default, dayfirst=day_first, yearfirst=year_first, tzinfos=_zone)
            for default in _DEFAULTS
        )
    except (ValueError, OverflowError, TypeError, AttributeError):  # what dateutil raises for odd texts
        return []
    if first.tzinfo and second.tzinfo and first.date() == second.date() and first.time() == second.time():
        try:
            first = second = first.astimezone(UTC)
        except (ValueError, OverflowError):
            return []
    return [
        Moment(
            first.date() if first.date() == second.date() else None,
            first.timetz() if first.time() == second.time() else None,
        )
    ]


def _zone(_name: str | None, offset: int | None) -> timezone | None:
    """The time zone `offset` seconds east of UTC; None for one that is only named, which dateutil would warn of.

    Raises:
        ValueError: it is a day or more.
    """
    return None if offset is None else timezone(timedelta(seconds=offset))


@cache
def _words() -> "parserinfo":
    from dateutil.parser import parserinfo  # noqa: PLC0415

    words: Any = type(
        "Words",
        (parserinfo,),
        {
            "MONTHS": [tuple(dict.fromkeys(line.split())) for line in _MONTHS.strip().splitlines()],
            "JUMP": [*parserinfo.JUMP, *_FILLERS.split()],
        },
    )
    return cast("parserinfo", words())


def is_written_date(text: str) -> bool:
    """Whether the text is a date, ambiguous or not."""
    return any(reading.day for reading in moments_of(text))


_TRUE = {
    "true",
    "yes",
    "1",
    "y",
    "wahr",
    "ja",
    "vrai",
    "oui",
    "verdadero",
    "sí",
    "si",
    "vero",
    "sì",
    "verdadeiro",
    "sim",
}
_FALSE = {"false", "no", "0", "n", "falsch", "nein", "faux", "non", "falso", "não", "nee"}
"""Also as spreadsheets in other languages save TRUE and FALSE."""


def boolean_of(text: str) -> bool | None:
    """Read true or false; None for anything else."""
    word = text.strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else None


@lru_cache(_REMEMBERED)
def plain_text(text: str) -> str:
    """`text` without what reading it aloud would not tell: case, spaces, punctuation, forms of the same character."""
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    words = "".join(" " if category(character)[0] in "PZC" else character for character in folded).split()
    return " ".join(words) or folded.strip()


def digits_in(text: str) -> list[str]:
    return re.findall(r"\d+", normalize("NFKC", text))


def similarity(first: str, second: str) -> float:
    """From 0 to 1: the part of both texts that one edits around, by insertions and deletions (Indel, `fuzz.ratio`)."""
    from rapidfuzz import fuzz  # noqa: PLC0415 - other commands don't need it

    return fuzz.ratio(first[:MOST_COMPARED], second[:MOST_COMPARED]) / 100


MOST_COMPARED = 20_000
"""Characters of a text whose similarity is measured; the time grows with the square."""
