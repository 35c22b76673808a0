"""A schema in the terms of the service's strict mode, whose rules `pipeline.schemas` lists."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.one_line import short
from pipeline.schemas.document import COMBINATIONS, SHAPES, Document, Schema, has_type, types_of, values_of
from pipeline.schemas.stand_ins import Properties, branches, referred
from pipeline.schemas.wording import Pointer, compact, pointer_text

MAX_PROPERTIES = 100
MAX_LEVELS = 5
MAX_ENUM_VALUES = 500
MAX_NAMES_AND_VALUES = 15_000

_ONLY_CHECKS = (
    "format", "pattern", "minLength", "maxLength",
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf",
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains",
    "minProperties", "maxProperties", "propertyNames", "dependentRequired",
)  # fmt: skip
"""A value that breaks one of these still has the right shape."""
_INEXPRESSIBLE = ("allOf", "not", "if", "patternProperties", "dependentSchemas", "dependencies", "prefixItems")


class NotStrict(Exception):
    """Strict mode can't say what the schema says; the message says why."""

    def __init__(self, where: Pointer, reason: str) -> None:
        super().__init__(f"{f'at {pointer_text(where)}: ' if where else ''}{reason}")


class StrictForm:
    """`schema`, which the service takes. What stands for the properties of its objects are `Properties`.

    Raises:
        NotStrict: there is no such form.
    """

    schema: Schema

    def __init__(self, document: Document) -> None:
        where, target = document.root_object()
        self._document = document
        self._names: dict[Pointer, str] = {(): "#", where: "#"}
        self._taken: set[str] = set()
        self._waiting: list[Pointer] = []
        definitions: dict[str, Schema] = {}
        root = self._adapt(target | {"type": "object"}, where)
        if root.get("type") != "object":
            raise NotStrict((), "the root is a choice")
        while self._waiting:
            to = self._waiting.pop()
            adapted = self._adapt(document.at(to), to)
            definitions[self._names[to]] = {"anyOf": [adapted]} if "$ref" in adapted else adapted
        self.schema = root | ({"$defs": definitions} if definitions else {})
        self._check_choices()
        self._check_sizes()
        self._check_levels()

    def _adapt(self, schema: Any, where: Pointer) -> Schema:
        if not isinstance(schema, dict):
            raise NotStrict(where, f"it allows {'anything' if schema else 'nothing'}")
        schema = _without_single_all_of(schema)
        for key in _INEXPRESSIBLE:
            if key in schema:
                raise NotStrict((*where, key), f"strict mode has no {key}")
        combined = [key for key in ("$ref", "anyOf", "oneOf") if key in schema]
        if len(combined) > 1 or (combined and any(key in schema for key in SHAPES)):
            raise NotStrict((*where, combined[0]), f"strict mode has no {combined[0]} together with other keywords")
        match combined:
            case ["$ref"]:
                name = self._name_of(self._document.target(schema))
                adapted: Schema = {"$ref": "#" if name == "#" else f"#/$defs/{name}"}
            case [choice]:
                # That not two branches of a oneOf match is left to the check of the answer.
                parts = enumerate(schema[choice])
                adapted = {"anyOf": [self._adapt(part, (*where, choice, str(index))) for index, part in parts]}
            case _:
                adapted = self._typed(schema, where)
        return _described(adapted, schema)

    def _name_of(self, to: Pointer) -> str:
        """The name under `$defs` of what is there."""
        if to not in self._names:
            name = re.sub(r"[^a-zA-Z0-9_-]+", "_", to[-1])[:48] or "definition"
            while name in self._taken:
                name = f"{name}_{len(self._names)}"
            self._taken.add(name)
            self._names[to] = name
            self._waiting.append(to)
        return self._names[to]

    def _typed(self, schema: Schema, where: Pointer) -> Schema:
        types, values = types_of(schema), values_of(schema)
        if types is None:
            raise NotStrict(where, "it does not say which type")
        if values is not None:
            return _listed(types, values, where)
        parts: list[Schema] = []
        if "object" in types:
            parts.append(self._object(schema, where))
        if "array" in types:
            parts.append(self._array(schema, where))
        if scalars := [kind for kind in types if kind not in ("object", "array")]:
            parts.append({"type": _one_or_list(scalars)})
        return parts[0] if len(parts) == 1 else {"anyOf": parts}

    def _object(self, schema: Schema, where: Pointer) -> Schema:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        others = schema.get("additionalProperties")
        if isinstance(others, dict) or others is True or (others is None and not properties):
            raise NotStrict(where, "it allows properties that it does not list")
        if missing := [name for name in required if name not in properties]:
            raise NotStrict(where, f"it requires {short(compact(missing[0]))}, which is not in its properties")
        adapted: dict[str, Schema] = {}
        absent = set()
        for name, part in properties.items():
            adapted[name] = self._adapt(part, (*where, "properties", name))
            if name not in required and not self._allows_null(part):
                adapted[name] = _or_null(adapted[name])
                absent.add(name)
        return {
            "type": "object",
            "properties": Properties(adapted, required, absent),
            "required": list(adapted),
            "additionalProperties": False,
        }

    def _array(self, schema: Schema, where: Pointer) -> Schema:
        if not isinstance(schema.get("items"), dict):
            raise NotStrict(where, "it does not say what its items are")
        return {"type": "array", "items": self._adapt(schema["items"], (*where, "items"))}

    def _allows_null(self, schema: Any) -> bool:
        if not isinstance(schema, dict):
            return False
        if "$ref" in schema:
            return self._allows_null(self._document.at(self._document.target(schema)))
        if parts := [part for key in COMBINATIONS for part in schema.get(key, ())]:
            return any(self._allows_null(part) for part in parts)
        values = values_of(schema)
        return "null" in (types_of(schema) or ()) and (values is None or None in values)

    def _check_choices(self) -> None:
        for schema in _every(self.schema):
            if "anyOf" in schema:
                objects = [part["properties"] for part in branches(schema, self.schema) if "properties" in part]
                firsts = [next(iter(properties), None) for properties in objects]
                if len(set(firsts)) < len(firsts):
                    raise NotStrict((), f"two of its objects begin with the same property, {short(compact(firsts[0]))}")

    def _check_sizes(self) -> None:
        properties, values, characters = 0, 0, sum(map(len, self.schema.get("$defs", ())))
        for schema in _every(self.schema):
            names, listed = schema.get("properties", {}), schema.get("enum", [])
            properties += len(names)
            values += len(listed)
            characters += sum(map(len, names)) + sum(len(value) for value in listed if isinstance(value, str))
        for count, limit, what in (
            (properties, MAX_PROPERTIES, "properties"),
            (values, MAX_ENUM_VALUES, "enum values"),
            (characters, MAX_NAMES_AND_VALUES, "characters of names and values"),
        ):
            if count > limit:
                raise NotStrict((), f"it has {count} {what}, and strict mode takes {limit}")

    def _check_levels(self) -> None:
        """Every step to a property or to items counts, a leaf's too: how the service counts is not documented."""
        seen: set[tuple[int, int]] = set()
        stack: list[tuple[Schema, int, frozenset[str]]] = [(self.schema, 0, frozenset("#"))]
        while stack:
            schema, level, above = stack.pop()
            if level > MAX_LEVELS:
                raise NotStrict((), f"it is nested deeper than the {MAX_LEVELS} levels that strict mode takes")
            if (id(schema), level) in seen:
                continue
            seen.add((id(schema), level))
            name = schema.get("$ref")
            if name and name not in above:
                stack.append((referred(schema, self.schema), level, above | {name}))
            stack += [(part, level + 1, above) for part in _below(schema)]
            stack += [(part, level, above) for part in schema.get("anyOf", ())]


def _without_single_all_of(schema: Schema) -> Schema:
    """Generators write `allOf` with one member to put a description, or OpenAPI's `nullable`, next to a `$ref`."""
    match schema:
        case {"allOf": [dict() as only]} if not any(key in schema for key in (*SHAPES, "$ref", "anyOf", "oneOf")):
            return only | {key: value for key, value in schema.items() if key != "allOf"}
        case _:
            return schema


def _listed(types: list[str], values: list[Any], where: Pointer) -> Schema:
    values = [value for value in values if any(has_type(value, kind) for kind in types)]
    types = [kind for kind in types if any(has_type(value, kind) for value in values)]
    if not values:
        raise NotStrict(where, "it allows no value at all")
    if "object" in types or "array" in types:
        raise NotStrict(where, "strict mode lists texts, numbers, true, false and null only")
    return {"type": _one_or_list(types), "enum": values}


def _described(adapted: Schema, schema: Schema) -> Schema:
    """`adapted` with what `schema` says about itself, and with the checks that strict mode leaves out."""
    checks = ", ".join(
        f"{key} {schema[key] if key == 'format' else compact(schema[key])}" for key in _ONLY_CHECKS if key in schema
    )
    description = schema.get("description")
    if checks:
        description = with_note(description, f"Constraints: {checks}")
    texts: Schema = {"title": schema.get("title"), "description": description}
    said: Schema = {key: text for key, text in texts.items() if text is not None}
    if said and "$ref" in adapted:  # which can't have anything next to it, unlike a choice
        adapted = {"anyOf": [adapted]}
    return adapted | said


def with_note(description: str | None, note: str) -> str:
    return f"{description.rstrip()} ({note})" if description else note


def _or_null(adapted: Schema) -> Schema:
    kind = adapted.get("type")
    if kind is not None and kind not in ("object", "array") and "enum" not in adapted:
        return adapted | {"type": [*([kind] if isinstance(kind, str) else kind), "null"]}
    outer: Schema = {key: adapted[key] for key in ("title", "description") if key in adapted}
    inner = {key: value for key, value in adapted.items() if key not in outer}
    return {"anyOf": [*inner.get("anyOf", [inner]), {"type": "null"}], **outer}


def _one_or_list(types: list[str]) -> str | list[str]:
    return types[0] if len(types) == 1 else types


def _below(schema: Schema) -> list[Schema]:
    return [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]


def _every(schema: Schema) -> Iterator[Schema]:
    """All schemas in an adapted one, outermost first."""
    yield schema
    for part in (*schema.get("$defs", {}).values(), *_below(schema), *schema.get("anyOf", ())):
        yield from _every(part)
