"""Values as people print them: dates, currencies, and the lines of a bill. Pure."""

import re
from calendar import month_abbr, month_name
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date

from localcloud.model.reading import Row

_MONTHS = {name.casefold(): month for names in (month_name, month_abbr) for month, name in enumerate(names) if name}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d{1,2})(?P<mark>[./-])(?P<m>\d{1,2})(?P=mark)(?P<y>\d{4}|\d{2})(?!\d)"),
    re.compile(
        rf"(?<!\d)(?P<d>\d{{1,2}})[. -]*(?P<m>{_MONTH})[a-z]*[., -]*(?P<y>\d{{4}}|\d{{2}})(?!\d)", re.IGNORECASE
    ),
    re.compile(rf"\b(?P<m>{_MONTH})[a-z]*[. ]*(?P<d>\d{{1,2}})[, ]+(?P<y>\d{{4}})(?!\d)", re.IGNORECASE),
)
_CURRENCY = re.compile(r"\b(?:EUR|USD|GBP|NOK|SEK|DKK|CHF|JPY|CNY|INR|CAD|AUD|PLN|CZK|BRL)\b|[€$£¥₹]")
_SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR"}
_LINE = re.compile(
    r"(?:(?P<quantity>\d{1,3}) ?x? )?(?P<description>\S.*?) *"
    r"(?P<amount>-? ?(?:[€$£]|\b[A-Z]{3})? ?\d[\d.,]*[.,]\d{2})(?: ?(?:€|[A-Z]{3}))?"
)
_ENDS = frozenset({"total", "subtotal", "sum"})
_NO_GOODS = frozenset({"date", "time", "vat", "tax"})


def date_in(text: str) -> str | None:
    """The first date in `text`, as 2026-03-14. Where the order is not clear, the day comes before the month."""
    found = min((each for pattern in _DATES if (each := pattern.search(text))), key=re.Match.start, default=None)
    if found is None:
        return None
    year, month = int(found["y"]), _MONTHS.get(found["m"].casefold()) or int(found["m"])
    for first, second in ((month, int(found["d"])), (int(found["d"]), month)):
        with suppress(ValueError):
            return date(year + 2000 if year < 100 else year, first, second).isoformat()
    return None


def currency_in(text: str) -> str | None:
    """The ISO 4217 code of the first currency in `text`."""
    found = _CURRENCY.search(text)
    return _SYMBOLS.get(found[0], found[0]) if found else None


def goods(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    """What was bought: for each line of a bill its description, quantity and amount, as rows with a label in front."""
    for text in map(" ".join, rows):
        words = {word.casefold() for word in re.findall(r"[^\W\d_]+", text)}
        if words & _ENDS:
            return
        found = _LINE.fullmatch(text)
        if found and words.isdisjoint(_NO_GOODS) and re.search(r"[^\W\d_]{2}", found["description"]):
            yield (
                ("description", found["description"]),
                *((("quantity", found["quantity"]),) if found["quantity"] else ()),
                ("amount", re.sub(r"[^\d.,-]", "", found["amount"])),
            )
