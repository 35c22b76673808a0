"""A row for each page, of a result whose pages were asked about one by one."""

from collections.abc import Iterator, Mapping
from typing import Any

from blobsight.results.export import Advance, Export


class ByPage:
    """An export that gets a row for each page."""

    def __init__(self, export: Export) -> None:
        self._export = export

    def add(self, result: Mapping[str, Any]) -> None:
        for of_page in by_page(result):
            self._export.add(of_page)

    def complete(self, advance: Advance) -> None:
        self._export.complete(advance)


def by_page(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a result for each page: the document's, with the page's `answer`, `usage` and `error`, and its number as
    `page`. A result without such pages is yielded as it is.
    """
    answer = result.get("answer")
    answer = answer if isinstance(answer, Mapping) else {}
    pages = answer.get("pages")
    if not isinstance(pages, list) or not all(isinstance(page, Mapping) for page in pages):
        yield result
        return
    for page in pages:
        error = page.get("error")
        of_page = {name: page.get(name) for name in ("text", "data", "finish_reason", "truncated")}
        yield {
            **result,
            "page": page.get("number"),
            "status": "failed" if error else "succeeded",
            "answer": None if page.get("text") is None else of_page | {"reused_from": answer.get("reused_from")},
            "model": {**(result.get("model") or {}), "request_id": page.get("request_id")},
            "usage": page.get("usage"),
            "error": error,
        }
