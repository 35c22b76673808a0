"""Why a response is not an answer, in its own words. Pure.

Refusals have many authors: Azure's token check, its gateway, its content filter and the model itself; API Management, a
web application firewall or another proxy in front of them; servers that speak OpenAI's protocol. Each writes a shape of
its own. So a response is searched for what it may hold, rather than parsed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.model.foreign_text import letters, quoted, shown
from pipeline.model.question import Question

MOST_PARSED_BYTES = 1024 * 1024
"""Of a response. FastAPI may quote the whole request, image included; then its first words are searched for."""

_REQUEST_IDS = ("x-request-id", "apim-request-id", "x-ms-request-id", "x-azure-ref", "request-id")
"""The model's own, Azure's gateway's, other Azure services', Front Door's, others'."""
_FILTERED = frozenset(
    {
        "contentfilter",
        "contentfiltered",
        "contentfilterpolicy",
        "contentpolicyviolation",
        "contentpolicyviolationerror",
        "responsibleaipolicyviolation",
        "moderationblocked",
    }
)
"""Codes of a content filter, letters only."""
_FILTERED_WORDS = re.compile(
    r"content management policy|ContentPolicyViolation|ResponsibleAIPolicyViolation|result of our safety system"
    r"|flagged as potentially violating",
    re.IGNORECASE,
)
"""Words of a content filter, for where a proxy has replaced its code."""
_REPEATING = frozenset({"input", "ctx", "body", "request", "messages", "prompt", "revised_prompt"})
"""Keys under which services repeat what they were asked."""
_MOST_PARTS = 2000
"""Of a document, in which keys are looked for."""
_SAYING = ("error", "message", "msg", "detail", "errors", "error_description", "description", "title", "faultstring")
"""Keys under which an error has its words, or another error inside."""
_CUT_SAYING = re.compile(r'"(?:message|msg|detail)"\s*:\s*"((?:[^"\\]|\\.)+)')
_MARKUP = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)

type Verdict = dict[str, dict[str, Any]]
"""A content filter's categories: whether each `filtered`, and where it says so `detected` and `severity`."""


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason that a response gives in place of an answer, without what it repeats of the request."""

    status: int
    code: str | None
    param: str | None
    message: str
    """Empty where there are no words."""
    codes: frozenset[str]
    """All codes and types in it, as `letters`."""
    categories: Verdict
    request_id: str | None
    is_page: bool = False
    """HTML: the words are those of something in front of the model."""

    @property
    def filtered(self) -> bool:
        """Whether a content filter stopped the call."""
        named = bool(self.codes & _FILTERED) or _FILTERED_WORDS.search(self.message) is not None
        return named or any(category["filtered"] for category in self.categories.values())

    @property
    def where(self) -> str:
        """For example "HTTP 403, code PermissionDenied, request id 1b0e7f0c"."""
        code = f", code {self.code}" if self.code not in (None, str(self.status)) else ""
        return f"HTTP {self.status}{code}" + (f", request id {self.request_id}" if self.request_id else "")

    @property
    def words(self) -> str:
        """A sentence with the service's words, and with what identifies the call."""
        return f'It says: "{self.message}" ({self.where}).' if self.message else f"It gives no reason ({self.where})."

    @property
    def details(self) -> dict[str, Any]:
        """For a result's `error.details`."""
        return {"status": self.status, "code": self.code, "service_message": self.message or None}


def reason_in(status: int, headers: Mapping[str, str], body: bytes, question: Question | None) -> Reason:
    """Read a response's `body`. `headers` are case-insensitive or in lower case. What it repeats of the `question` is
    left out.
    """
    text = decoded(body[:MOST_PARSED_BYTES]).strip()
    document = _parsed(text)
    if document is None and text.startswith("<"):
        return replace(reason_of(_words_of_page(text), status, headers, question), is_page=True)
    return reason_of(text if document is None else document, status, headers, question)


def decoded(body: bytes) -> str:
    """`body` as text, in the encoding that its first bytes show."""
    return body.decode(json.detect_encoding(body), errors="replace")


def reason_of(document: Any, status: int, headers: Mapping[str, str], question: Question | None) -> Reason:
    """Read `document`: JSON of any shape, or plain text."""
    private = (question.instructions, question.system_prompt) if question else ()

    def named(key: str) -> str | None:
        return shown(quoted(_named(document, key), private), 100) or None

    code = named("code")
    return Reason(
        status=status,
        code=(named("type") if code == str(status) else code) or named("type") or code,
        param=named("param"),
        message=quoted(_words_of(document), private),
        codes=frozenset(_codes(document)),
        categories=verdict_in(document),
        request_id=request_id_in(headers),
    )


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """The id by which the service's support finds the call."""
    return next((shown(headers[name], 200) for name in _REQUEST_IDS if headers.get(name)), None)


def verdict_in(document: Any) -> Verdict:
    """The content filter's categories anywhere in `document`."""
    found: Verdict = {}
    for key, results in _pairs(document):
        if "contentfilterresult" in letters(key) and isinstance(results, dict):
            found |= {shown(name, 60): said for name, category in results.items() if (said := _category(category))}
    return found


def _category(category: Any) -> dict[str, Any]:
    """The words for one category. Lists are those of custom blocklists, an entry for each."""
    parts = [part for part in (category if isinstance(category, list) else [category]) if isinstance(part, dict)]
    said: dict[str, Any] = {}
    for part in parts:
        said |= {"detected": part["detected"]} if isinstance(part.get("detected"), bool) else {}
        said |= {"severity": shown(part["severity"], 20)} if isinstance(part.get("severity"), str) else {}
    if said or any("filtered" in part for part in parts):
        said["filtered"] = any(part.get("filtered") is True for part in parts)
    return said


# ---- Documents of any shape ------------------------------------------------------------------------------------------


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _unwrapped(value: Any) -> Any:
    """The document in a text: proxies put their backend's into their own."""
    return _parsed(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value


def _pairs(document: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values anywhere in `document`, the outer ones first, but not in what it repeats of the request."""
    nodes = [document]
    for node in nodes:
        if isinstance(node, dict):
            for key, value in node.items():
                if key not in _REPEATING:
                    yield key, value
                    nodes.append(_unwrapped(value))
        elif isinstance(node, list):
            nodes += node[:100]
        if len(nodes) > _MOST_PARTS:
            return


def _codes(document: Any) -> Iterator[str]:
    return (letters(value) for key, value in _pairs(document) if key in ("code", "type") and isinstance(value, str))


def _named(document: Any, key: str) -> str:
    """The value that goes by `key` in an error, or beside it."""
    error = document.get("error") if isinstance(document, dict) else None
    values = (node.get(key) for node in (error, document) if isinstance(node, dict))
    return next((str(value) for value in values if _is_word(value) and value != ""), "")


def _is_word(value: Any) -> bool:
    """Whether `value` reads the same in JSON and in Python."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _words_of(node: Any, depth: int = 0) -> str:
    """An error's message for people."""
    if depth > 5:
        return ""
    if isinstance(node, str):
        inner = _unwrapped(node)
        if isinstance(inner, dict | list) and (words := _words_of(inner, depth + 1)):
            return words
        cut = _CUT_SAYING.search(node) if inner is None else None
        return cut.group(1) if cut else node
    if isinstance(node, list):
        return "; ".join(filter(None, (_words_of(part, depth + 1) for part in node[:3])))
    if not isinstance(node, dict):
        return ""
    words = next(filter(None, (_words_of(node[key], depth + 1) for key in _SAYING if node.get(key))), "")
    place, metadata = node.get("loc"), node.get("metadata")
    if isinstance(place, list):  # FastAPI's: where in the request
        words = f"{'.'.join(map(str, filter(_is_word, place)))}: {words}"
    behind = _words_of(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""  # OpenRouter's
    return f"{words}: {behind}" if behind else words


def _words_of_page(text: str) -> str:
    title = _TITLE.search(text)
    body = " ".join(_MARKUP.sub(" ", text[:16_384]).split())
    return body or (title.group(1) if title else "")
