"""A page to send: results and thumbnails in one HTML file, which needs no server and loads nothing."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import IO, Any

from blobsight.account import Account
from blobsight.pages.one_file import (
    AT_ONCE,
    MOST_BYTES,
    THUMBNAIL_SIDE,
    figure,
    read_template,
    size_of,
    value,
    write_file,
)
from blobsight.pictures.pictures import NoPictureError, Picture, Pictures
from blobsight.reading import side_by_side
from blobsight.results.flattening import json_text
from blobsight.terminal import Trouble, Unknown, counted, one_line
from pipeline.names import is_blob_name

PAGES = (".html", ".htm")
TEMPLATE = Path(__file__).with_name("answers.html")


@dataclass(frozen=True, slots=True)
class _Row:
    """A result on its way into the page."""

    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.result["source"].get("name") or "")


class AnswersPage:
    """An export that becomes a page. `illustrate` has to run before `complete`."""

    def __init__(self, path: Path, spool: IO[str], illustrated: IO[str], title: str) -> None:
        self._path = path
        self._spool = spool
        self._cards = illustrated
        self._title = title
        self._bytes = 0
        self._statuses: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()

    def add(self, result: Mapping[str, Any]) -> None:
        self._spool.write(json_text(result) + "\n")

    async def illustrate(self, account: Account, advance: Callable[[], None] = lambda: None) -> None:
        """Make the cards, each with its thumbnail.

        Raises:
            Trouble: the page would be too large.
            AzureError: no image can be read.
        """
        self._spool.seek(0)
        rows = (_Row(json.loads(line)) for line in self._spool)

        async with Pictures(account.images) as pictures:

            async def picture(row: _Row) -> Picture | None:
                source = row.result["source"]
                try:
                    if not is_blob_name(row.name):
                        return None
                    etag, size = str(source.get("etag") or ""), source.get("size_bytes") or 0
                    return await pictures.thumbnail(row.name, etag, size, side=THUMBNAIL_SIDE)
                except NoPictureError:
                    return None

            def take(row: _Row, picture: Picture | Unknown | None) -> None:
                advance()
                self._write(row.result, picture if isinstance(picture, Picture) else None)

            await side_by_side(rows, picture, take, in_order=True, at_once=AT_ONCE)

    def _write(self, result: Mapping[str, Any], picture: Picture | None) -> None:
        card = _card(result, picture)
        self._bytes += size_of(card)
        if self._bytes > MOST_BYTES:
            raise Trouble(
                f"The page would have more than {MOST_BYTES / 1e6:.0f} MB:"
                f" {counted(self._statuses.total(), 'result')} fit. Give a longer PREFIX,"
                " or --failed or --succeeded; or export JSON Lines, which holds any number."
            )
        self._cards.write(card)
        self._statuses[result["status"]] += 1
        if result["status"] == "failed":
            self._codes[str(result["error"]["code"])] += 1

    def complete(self, advance: Callable[[], None]) -> None:
        self._cards.seek(0)
        about = ", ".join(f"{count:,} {status}" for status, count in self._statuses.most_common())
        parts = {
            "title": escape(self._title),
            "about": escape(f"{about}. Made by Blobsight on {datetime.now(UTC):%Y-%m-%d}."),
            "choices": _choices(self._statuses, self._codes),
        }
        write_file(self._path, read_template(TEMPLATE), parts, self._cards)
        for _ in range(self._statuses.total()):
            advance()


def _choices(statuses: Counter[str], codes: Counter[str]) -> str:
    names = {"succeeded": "Answered", "failed": "Failed"}
    chosen = [(status, names[status], statuses[status]) for status in names if statuses[status]]
    chosen += [(_kind(code), one_line(code), count) for code, count in codes.most_common()]
    options = (f'<option value="{escape(kind)}">{escape(name)} ({count:,})</option>' for kind, name, count in chosen)
    return f'<option value="">All</option>{"".join(options)}'


def _kind(code: str) -> str:
    """The code as one word, different from both statuses."""
    return "code-" + re.sub(r"\s", "_", code)


def _card(result: Mapping[str, Any], picture: Picture | None) -> str:
    """One result as HTML, on one line but for the line breaks in its texts."""
    failed = result["status"] == "failed"
    code = str(result["error"]["code"]) if failed else ""
    kind = f"{result['status']} {_kind(code)}" if failed else "succeeded"
    name = one_line(str(result["source"].get("name") or "An image that came by HTTP"))
    return (
        f'    <article data-kind="{escape(kind)}">{figure(picture)}<div class="words">'
        f'<h2 dir="auto">{escape(name)}</h2>'
        f'<span class="badge{" failed" if failed else ""}">{escape(one_line(code) if failed else "Answered")}</span>'
        f"{''.join(_words(result))}</div></article>\n"
    )


def _words(result: Mapping[str, Any]) -> Iterator[str]:
    question = (result.get("instructions") or {}).get("text")
    if question:
        yield f'<p class="text question" dir="auto">{escape(question)}</p>'
    if result["status"] == "failed":
        yield f'<p class="text" dir="auto">{escape(result["error"]["message"])}</p>'
    else:
        data = result["answer"].get("data")
        text = result["answer"]["text"]
        yield f'<p class="text" dir="auto">{escape(text)}</p>' if data is None else value(data)
    usage, model = result.get("usage") or {}, result.get("model") or {}
    tokens = sum(usage.get(key) or 0 for key in ("input_tokens", "output_tokens"))
    facts = [model.get("model"), f"{tokens:,} tokens" if tokens else None, result.get("created_at")]
    yield f'<p class="dim facts">{escape(" · ".join(one_line(str(fact)) for fact in facts if fact))}</p>'
