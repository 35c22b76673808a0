"""Build a value that meets a JSON Schema from what was found in a picture: the stand-in's structured output.

Understood: what the service's structured outputs allow (type, properties, required, items, enum, const, anyOf, $ref,
format, pattern, the bounds of numbers, strings and arrays) and oneOf, allOf. A schema that this cannot meet ends in
CannotAnswerError, never in a value that does not fit.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.model.pixels import Facts
from localcloud.model.reading import Row

type Schema = Mapping[str, Any]

MAX_DEPTH = 24
DEEP = 8
"""From this depth on, optional properties are left out, so that recursive schemas end."""

DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
TIME = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")
NUMBER = re.compile(r"-?\d+(?:[.,]\d{3})*(?:[.,]\d+)?")
CURRENCY = re.compile(r"\b(?:EUR|USD|GBP|NOK|SEK|DKK|CHF|JPY|CNY|INR|CAD|AUD|PLN|CZK|BRL)\b|[€$£¥₹]")

MADE_UP = {
    "date-time": "1970-01-01T00:00:00Z",
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "nobody@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "uri": "https://example.org/",
}
"""Placeholder values for formats that an empty string does not meet."""

NAMES_OF_THE_PLACE = frozenset(
    {"vendor", "merchant", "store", "shop", "seller", "supplier", "company", "brand", "title"}
)
WHOLE_TEXT = frozenset({"text", "transcript", "transcription", "content", "ocr"})
IN_WORDS = frozenset({"description", "summary", "caption", "notes", "note", "comment"})


class CannotAnswerError(Exception):
    """No answer is possible in the requested form; the message says why."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Texts that were read, facts that were measured, and the sentence on who did it."""

    rows: tuple[Row, ...]
    facts: tuple[Facts, ...]
    remark: str

    @property
    def text(self) -> str:
        return "\n".join("  ".join(row) for row in self.rows)

    def about(self, name: str) -> str | None:
        """Find the text under a label that shares a word with a property's name; the most words win."""
        words = _words(name)
        if not words:
            return None
        scored = [(len(words & _words(" ".join(row))), -index) for index, row in enumerate(self.rows)]
        best, index = max(scored, default=(0, 0))
        if best:
            row = self.rows[-index]
            if len(row) > 1 and words & _words(row[0]):
                return " ".join(row[1:])
            return _after_label(next(cell for cell in row if words & _words(cell)), words)
        return self._by_meaning(words)

    def _by_meaning(self, words: set[str]) -> str | None:
        if words & NAMES_OF_THE_PLACE and self.rows:
            return " ".join(self.rows[0])
        if words & WHOLE_TEXT:
            return self.text
        if words & IN_WORDS:
            return " ".join([*(fact.sentence() for fact in self.facts), self.remark])
        if self.facts and words <= {"width", "height", "format"} and len(words) == 1:
            return str(getattr(self.facts[0], *words))
        for word, pattern in (("currency", CURRENCY), ("date", DATE), ("time", TIME)):
            found = pattern.search(self.text) if word in words else None
            if found:
                return found[0]
        return None

    def several(self, name: str) -> list[str]:
        """The strings for an array of that name."""
        words = _words(name)
        if words & {"colours", "colors"}:
            return [colour for fact in self.facts for colour in fact.colours]
        if words & ({"lines", "texts", "words"} | WHOLE_TEXT):
            return ["  ".join(row) for row in self.rows]
        found = self.about(name)
        return [found] if found else []


def fill(schema: Schema | bool, found: Findings) -> Any:  # noqa: FBT001 - true and false are JSON Schemas
    """A value for the schema. Raises CannotAnswerError."""
    root = schema if isinstance(schema, Mapping) else {}
    return _Filler(root, found).value(schema, "", 0)


def _words(name: str) -> set[str]:
    """The words of a property's name or a label: camelCase, snake_case and plain text alike."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[^\W_]+", spaced.casefold()))


def _after_label(cell: str, words: set[str]) -> str:
    """The cell without its label: 2026-03-14 of "Date 2026-03-14"; the whole cell when nothing follows."""
    parts = cell.split()
    while len(parts) > 1 and _words(parts[0]) & words:
        parts.pop(0)
    return " ".join(parts).lstrip(": ")


class _Filler:
    def __init__(self, root: Schema, found: Findings) -> None:
        self._root = root
        self._found = found

    def value(  # noqa: C901, PLR0911, PLR0912 - one case for each kind of schema
        self,
        schema: Schema | bool,  # noqa: FBT001 - as in fill
        name: str,
        depth: int,
    ) -> Any:
        if schema is False or depth > MAX_DEPTH:
            raise CannotAnswerError(f"No value can meet the schema of '{name}'.")
        if schema is True:
            return self._found.about(name)
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"], name)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                rest = {key: part for key, part in schema.items() if key != union}
                return self._first([_merged(rest, option) for option in schema[union]], name, depth)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._first([{**schema, "type": kind} for kind in kinds], name, depth)
        if kinds is None:
            kinds = _implied_type(schema)
        match kinds:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(schema, name)
            case "integer" | "number":
                return self._number(schema, name, whole=kinds == "integer")
            case "boolean":
                return self._yes_or_no(name) or False
            case _:
                return None

    def _resolved(self, schema: Schema) -> Schema:
        """Follows local references and folds allOf in."""
        for _ in range(MAX_DEPTH):
            if "$ref" in schema:
                reference = schema["$ref"]
                target: Any = self._root
                for step in str(reference).removeprefix("#").strip("/").split("/"):
                    key = step.replace("~1", "/").replace("~0", "~")
                    target = target.get(key) if isinstance(target, Mapping) and step else target
                if not str(reference).startswith("#") or not isinstance(target, Mapping):
                    raise CannotAnswerError(f"The schema's reference '{reference}' leads nowhere.")
                schema = _merged({key: part for key, part in schema.items() if key != "$ref"}, target)
            elif "allOf" in schema:
                parts = schema["allOf"]
                schema = {key: part for key, part in schema.items() if key != "allOf"}
                for part in parts:
                    schema = _merged(schema, self._resolved(part) if isinstance(part, Mapping) else part)
            else:
                return schema
        raise CannotAnswerError("The schema refers to itself without end.")

    def _first(self, options: list[Schema | bool], name: str, depth: int) -> Any:
        """Null if that is allowed and nothing was found; else the first option that can be met."""
        types = {kind for option in options for kind in _types(option)}
        if "null" in types and (depth >= DEEP or self._nothing_for(types - {"null"}, name)):
            return None
        ordered = sorted(options, key=lambda option: isinstance(option, Mapping) and option.get("type") == "null")
        for option in ordered:
            try:
                value = self.value(option, name, depth + 1)
            except CannotAnswerError:
                continue
            made_up = isinstance(value, str) and value in MADE_UP.values()
            return None if made_up and "null" in types else value
        raise CannotAnswerError(f"No value can meet the schema of '{name}'.")

    def _nothing_for(self, types: set[Any], name: str) -> bool:
        """Whether the picture has nothing for a property of these simple types."""
        if types == {"boolean"}:
            return self._yes_or_no(name) is None
        if types <= {"integer", "number"}:
            return not NUMBER.search(self._found.about(name) or "")
        return types <= {"string", "integer", "number", "boolean"} and not self._found.about(name)

    def _yes_or_no(self, name: str) -> bool | None:
        return {"yes": True, "true": True, "no": False, "false": False}.get((self._found.about(name) or "").casefold())

    def _choice(self, options: list[Any], name: str) -> Any:
        """The option that the text names; else null or "unknown" if there, else the first."""
        said = (self._found.about(name) or "").casefold() + "\n" + self._found.text.casefold()
        for option in options:
            if isinstance(option, str) and option and re.search(rf"\b{re.escape(option.casefold())}\b", said):
                return option
        for neutral in (None, "unknown", "Unknown", "other", "Other"):
            if neutral in options:
                return neutral
        return options[0]

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        result = {}
        for name, part in properties.items():
            if name in required:
                result[name] = self.value(part, name, depth + 1)
            elif depth < DEEP:
                try:
                    result[name] = self.value(part, name, depth + 1)
                except CannotAnswerError:
                    continue  # it was optional
        others = schema.get("additionalProperties", True)
        for name in required:
            if name not in properties:
                result[name] = self.value(others, name, depth + 1)
        return result

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", math.inf)
        first = list(schema.get("prefixItems", []))
        items = schema.get("items", True)
        result = [self.value(part, name, depth + 1) for part in first]
        plain = self._resolved(items) if isinstance(items, Mapping) else {}
        if plain.get("type") == "string" and not first and not plain.keys() & {"format", "enum", "const"}:
            for text in self._found.several(name):
                fitted = _fitted(text, plain)
                if fitted is not None and fitted not in result:
                    result.append(fitted)
        result = result[: int(min(most, len(result)))]
        while len(result) < least:
            result.append(self.value(items, name, depth + 1))
        if schema.get("uniqueItems") and len({repr(item) for item in result}) < len(result):
            raise CannotAnswerError(f"Nothing distinct enough was found for '{name}'.")
        return result

    def _string(self, schema: Schema, name: str) -> str:
        said = self._found.about(name) or ""
        finder = DATE if schema.get("format") == "date" else None
        made_up = MADE_UP.get(schema.get("format", ""))
        candidates = [said]
        if finder:
            candidates = [match[0] for match in finder.finditer(f"{said}\n{self._found.text}")]
        elif made_up is not None:
            candidates = [word for word in said.split() if schema.get("format") == "email" and "@" in word[1:-1]]
        elif "pattern" in schema:
            candidates += said.split() + [cell for row in self._found.rows for cell in row] + self._found.text.split()
        candidates += [made_up] if made_up is not None else ["", "-"]
        for candidate in candidates:
            fitted = _fitted(candidate, schema)
            if fitted is not None:
                return fitted
        raise CannotAnswerError(f"Nothing in the picture meets the schema of '{name}'.")

    def _number(self, schema: Schema, name: str, *, whole: bool) -> float | int:
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        over, under = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        step = schema.get("multipleOf", 1 if whole else None)
        said = NUMBER.findall(self._found.about(name) or "")
        candidates: list[float] = [_amount(said[-1])] if said else []
        candidates += [0, low, high, over + (step or 1), under - (step or 1), (low + high) / 2, (over + under) / 2]
        candidates += [(max(low, over) + min(high, under)) / 2]
        if step:
            candidates += [math.ceil(low / step) * step if math.isfinite(low) else 0]
            candidates += [(math.floor(over / step) + 1) * step if math.isfinite(over) else 0]
            candidates += [math.floor(high / step) * step if math.isfinite(high) else 0]
            candidates += [(math.ceil(under / step) - 1) * step if math.isfinite(under) else 0]
        for value in candidates:
            if not math.isfinite(value) or not low <= value <= high or not over < value < under:
                continue
            if whole and value != int(value):
                continue
            if step and value % step:
                continue
            return int(value) if value == int(value) else value
        raise CannotAnswerError(f"No number can meet the schema of '{name}'.")


def _merged(base: Schema, extra: Schema | bool) -> Schema:  # noqa: FBT001 - as in fill
    if not isinstance(extra, Mapping):
        return base if extra else {**base, "anyOf": []}
    merged = {**base, **extra}
    if "properties" in base and "properties" in extra:
        merged["properties"] = {**base["properties"], **extra["properties"]}
    if "required" in base and "required" in extra:
        merged["required"] = [*base["required"], *extra["required"]]
    return merged


def _implied_type(schema: Schema) -> str:
    """Guess the type of a schema without `type`; a string if nothing suggests another."""
    for kind, keywords in (
        ("object", ("properties", "required", "additionalProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(keyword in schema for keyword in keywords):
            return kind
    return "string"


def _fitted(text: str, schema: Schema) -> str | None:
    """The text within its bounds: cut when too long, padded when too short; None when a pattern does not take it."""
    text = text.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]
    pattern = schema.get("pattern")
    if pattern is not None:
        try:
            if not re.search(pattern, text):
                return None
        except re.error:  # a JavaScript pattern that Python cannot read: nothing can be promised about it
            return None
    return text


def _amount(number: str) -> float:
    """The value of "1,184", "1.184,50", "24,50" or "24.50".

    What follows the last mark is a fraction, unless it has three digits and the mark is the only kind.
    """
    marks = re.findall(r"[.,]", number)
    last = marks[-1] if marks else ""
    fraction = bool(marks) and (len(set(marks)) > 1 or len(number.rpartition(last)[2]) != 3)
    if not fraction:
        return float(re.sub(r"[.,]", "", number))
    whole, _, rest = number.rpartition(last)
    return float(re.sub(r"[.,]", "", whole) + "." + rest)


def _types(schema: Any) -> list[Any]:
    """The types that `schema` allows; [None] where it says none."""
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    return kinds if isinstance(kinds, list) else [kinds]
