"""Text that no spreadsheet takes for a formula, and the way back. Pure.

https://owasp.org/www-community/attacks/CSV_Injection

A spreadsheet that opens a file with another separator than it was written with starts cells in the middle of a text,
quoted or not: a quotation mark counts only at a cell's start. So an apostrophe stands in front of what would run
wherever a cell may start: at the start of the text, after each separator, and in each line.
"""

import re

_STARTS = r"(^|[,;|\t\r\n\v\f\x85\u2028\u2029])"
"""Where a cell may start: Excel, LibreOffice and Google Sheets guess from these, or ask for one."""
_RUNS = r"(?=[\s\"]*[=+\-@＝＋－＠]|')"  # noqa: RUF001 - the last ones are full-width forms, which spreadsheets read, too
"""What runs: a sign, which spaces and quotation marks don't hide. And an apostrophe, so that the text's own can be told
from those that are put in."""

_UNGUARDED = re.compile(_STARTS + _RUNS)
_GUARDED = re.compile(f"{_STARTS}'")


def guarded(text: str) -> str:
    """`text` with an apostrophe wherever a formula might start: `=1;-2` becomes `'=1;'-2`."""
    return _UNGUARDED.sub(r"\1'", text)


def unguarded(text: str) -> str:
    """The text that `guarded` was given: an exported CSV file is read back with this, cell by cell."""
    return _GUARDED.sub(r"\1", text)
