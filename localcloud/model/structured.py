"""Build a value of the shape of a JSON Schema from what was found in a picture: the stand-in's structured output.

Understood: what the app sends in strict mode (type, properties, items, enum, anyOf, $ref), and what guidance mostly
consists of (required, const, oneOf, allOf). Bounds, patterns and formats are not looked at: strict mode has none of
them, and a value that was only made up to fit would hide that nothing was found. The app checks each answer anyway.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeIs

from localcloud.model.pixels import Facts
from localcloud.model.printed import currency_in, date_in, goods
from localcloud.model.reading import Row

type Schema = Mapping[str, Any]

MAX_DEPTH = 24
DEEP = 8
"""From this depth on, optional properties are left out, so that recursive schemas end."""

TIME = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")
NUMBER = re.compile(r"-?\d+(?:[.,]\d{3})*(?:[.,]\d+)?")

NAMES_OF_THE_PLACE = frozenset(
    {"vendor", "merchant", "store", "shop", "seller", "supplier", "company", "brand", "title"}
)
WHOLE_TEXT = frozenset({"text", "transcript", "transcription", "content", "ocr"})
LINES_OF_A_BILL = frozenset({"lines", "items", "positions", "articles", "goods", "products"})
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
            if found := _of_a_kind(words, "  ".join(row)):
                return found
            if words & {"currency", "date"}:  # whatever else stands there is none
                return _of_a_kind(words, self.text)
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
        return _of_a_kind(words, self.text)

    def several(self, name: str) -> list[str]:
        """The strings for an array of that name."""
        words = _words(name)
        if words & {"colours", "colors"}:
            return [colour for fact in self.facts for colour in fact.colours]
        if words & ({"lines", "texts", "words"} | WHOLE_TEXT):
            return ["  ".join(row) for row in self.rows]
        found = self.about(name)
        return [found] if found else []


def fill(schema: Schema, found: Findings) -> Any:
    """A value of the shape of the schema. Raises CannotAnswerError."""
    return _Filler(schema, found).value(schema, "", 0)


def _words(name: str) -> set[str]:
    """The words of a property's name or a label: camelCase, snake_case and plain text alike."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[^\W_]+", spaced.casefold()))


def _of_a_kind(words: set[str], text: str) -> str | None:
    """The first date, time or currency in `text`, if the words ask for one."""
    if "currency" in words and (found := currency_in(text)):
        return found
    if "date" in words and (found := date_in(text)):
        return found
    time = TIME.search(text) if "time" in words else None
    return time[0] if time else None


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

    def value(self, schema: Any, name: str, depth: int) -> Any:  # noqa: C901, PLR0911 - one case for each kind
        if depth > MAX_DEPTH:
            raise CannotAnswerError(f"No value can meet the schema of '{name}'.")
        schema = self._resolved(schema if _is_object(schema) else {})
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"], name)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: part for key, part in schema.items() if key not in ("anyOf", "oneOf")}
            return self._first([_merged(rest, option) for option in filter(_is_object, options)], name, depth)
        kinds = schema.get("type") or _implied_type(schema)
        if isinstance(kinds, list):
            return self._first([{**schema, "type": kind} for kind in kinds], name, depth)
        match kinds:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._found.about(name) or ""
            case "integer" | "number":
                return self._number(name, whole=kinds == "integer")
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
                for part in filter(_is_object, parts):
                    schema = _merged(schema, self._resolved(part))
            else:
                return schema
        raise CannotAnswerError("The schema refers to itself without end.")

    def _first(self, options: list[Schema], name: str, depth: int) -> Any:
        """Null if that is allowed and nothing was found; else the first option that can be met."""
        types = {kind for option in options for kind in _types(option)}
        if "null" in types and (depth >= DEEP or self._nothing_for(types - {"null"}, name)):
            return None
        for option in sorted(options, key=lambda option: option.get("type") == "null"):
            try:
                return self.value(option, name, depth + 1)
            except CannotAnswerError:
                continue
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
        for name in required:
            if name not in properties:
                result[name] = self._found.about(name)
        return result

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        items = schema.get("items")
        items = self._resolved(items) if _is_object(items) else {}
        if items.get("type") == "string" and not items.keys() & {"enum", "const"}:
            return list(dict.fromkeys(self._found.several(name)))
        if items.get("type") == "object" and _words(name) & LINES_OF_A_BILL:
            bought = goods(self._found.rows)
            return [_Filler(self._root, Findings(rows, (), "")).value(items, name, depth + 1) for rows in bought]
        return []

    def _number(self, name: str, *, whole: bool) -> float | int:
        said = NUMBER.findall(self._found.about(name) or "")
        value = _amount(said[-1]) if said else 0
        if value == int(value):
            return int(value)
        return 0 if whole else value


def _is_object(schema: Any) -> TypeIs[Schema]:
    """Not true, false, or a list of schemas, which are for guidance that has nothing to find."""
    return isinstance(schema, Mapping)


def _merged(base: Schema, extra: Schema) -> Schema:
    merged = {**base, **extra}
    if "properties" in base and "properties" in extra:
        merged["properties"] = {**base["properties"], **extra["properties"]}
    if "required" in base and "required" in extra:
        merged["required"] = [*base["required"], *extra["required"]]
    return merged


def _implied_type(schema: Schema) -> str:
    """The type of a schema without `type`."""
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


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


def _types(schema: Schema) -> list[Any]:
    """The types that `schema` allows; [None] where it says none."""
    kinds = schema.get("type")
    return kinds if isinstance(kinds, list) else [kinds]
