"""A JSON Schema whose every part is known to be one, with what leads where in it."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from pipeline.one_line import short
from pipeline.schemas.pasted import not_an_object, translate
from pipeline.schemas.plain import MAX_SCHEMA_NESTING, InvalidSchema
from pipeline.schemas.wording import Pointer, compact

MAX_IN_PLACE = 32
"""Schemas within schemas (`$ref`, anyOf, …) that look at the same value: with the nesting of answers it bounds the
validator's stack."""

type Schema = dict[str, Any]

DIALECTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
)
"""Values of "$schema", with a # at the end or without. The first one is meant when it is left out."""
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
SHAPES = ("type", "enum", "const", "properties", "required", "additionalProperties", "items")
"""Keywords each of which describes a value on its own."""
COMBINATIONS = ("allOf", "anyOf", "oneOf")

_UNSUPPORTED = {
    "$dynamicRef": "$ref",
    "$recursiveRef": "$ref",
    # The validator looks at what is below them again for each level: 18 levels take seconds.
    "unevaluatedProperties": "additionalProperties",
    "unevaluatedItems": "items",
}
"""And what to write instead."""

# Where schemas are in a schema, and how many levels deeper in the answer they look; None: only when referred to.
_SINGLE = {
    "not": 0, "if": 0, "then": 0, "else": 0,
    "items": 1, "additionalItems": 1, "contains": 1, "additionalProperties": 1, "propertyNames": 1,
}  # fmt: skip
_LISTS = dict.fromkeys(COMBINATIONS, 0) | {"items": 1, "prefixItems": 1}
_MAPS = {
    "dependentSchemas": 0, "dependencies": 0,
    "properties": 1, "patternProperties": 1,
    "$defs": None, "definitions": None,
}  # fmt: skip


class Document:
    """A schema as a person wrote it, understood and checked.

    Raises:
        InvalidSchema: it is not a JSON Schema, or one that answers can't be checked against.
    """

    root: Schema

    def __init__(self, root: Any) -> None:
        """Of what `plain` made; it is changed in place, so that it says what is meant."""
        if not isinstance(root, dict):
            raise InvalidSchema((), 'it must be a JSON object: write {"type": "object", "properties": {…}}')
        self.root = root
        # Of any other dialect the validator would try to download the meta-schema.
        if str(root.get("$schema", DIALECTS[0])).removesuffix("#") not in DIALECTS:
            raise InvalidSchema(("$schema",), f'it is not known here: leave it out, or write "{DIALECTS[0]}"')
        _check_meta_schema(root, ())
        self.targets: set[Pointer] = set()
        """Where its `$ref`s lead."""
        self._steps: dict[Pointer, list[tuple[Pointer, int]]] = {}
        waiting: list[Pointer] = [()]
        while waiting:
            where = waiting.pop()
            if where not in self._steps:
                self._steps[where] = []
                waiting += self._parts_at(where)
        self._check_in_place()

    def schemas(self) -> Iterator[tuple[Pointer, Any]]:
        """Every schema in it, with its place."""
        return ((where, self.at(where)) for where in self._steps)

    def at(self, where: Pointer) -> Any:
        value: Any = self.root
        for token in where:
            value = value[int(token)] if isinstance(value, list) else value[token]
        return value

    def target(self, schema: Schema) -> Pointer:
        """Where the `$ref` of `schema` leads."""
        tokens = unquote(schema["$ref"].removeprefix("#")).split("/")[1:]
        return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)

    def root_object(self) -> tuple[Pointer, Schema]:
        """The schema of the answer as a whole: the root, or what the root is another name for."""
        where: Pointer = ()
        schema: Any = self.root
        while isinstance(schema, dict) and "$ref" in schema and not any(key in schema for key in SHAPES):
            where = self.target(schema)
            schema = self.at(where)
        if not isinstance(schema, dict) or "object" not in (types_of(schema) or ()):
            raise InvalidSchema((), not_an_object(self.root))
        return where, schema

    def unfolded(self, weigh: Callable[[Any], int], levels: int | None = None) -> int:
        """The weight of all schemas that look at an answer of so many levels, each as often as `$ref`s lead to it.

        Without `levels` recursion is not followed: the validator remembers what it found out about recursive schemas,
        but not when it is to explain.
        """
        weights: dict[tuple[Pointer, int | None], int] = {}
        stack: list[tuple[Pointer, int | None, bool]] = [((), levels, False)]
        while stack:
            where, left, weighed_below = stack.pop()
            below = [
                (to, None if left is None else left - step)
                for to, step in self._steps[where]
                if left is None or left >= step
            ]
            if weighed_below:
                weights[where, left] += sum(weights[key] for key in below)
            elif (where, left) not in weights:
                weights[where, left] = weigh(self.at(where))  # for those below that lead back here
                stack.append((where, left, True))
                stack += [(*key, False) for key in below]
        return weights[(), levels]

    def _parts_at(self, where: Pointer) -> Iterator[Pointer]:
        schema = self.at(where)
        if not isinstance(schema, dict):
            return
        for key, instead in _UNSUPPORTED.items():
            if key in schema:
                raise InvalidSchema((*where, key), f'"{key}" is not supported: write "{instead}"')
        translate(schema)
        for path, step in _parts(schema):
            if step is not None:
                self._steps[where].append(((*where, *path), step))
            yield (*where, *path)
        if "$ref" in schema:
            to = self._checked_target(where, schema)
            self._steps[where].append((to, 0))
            yield to

    def _checked_target(self, where: Pointer, schema: Schema) -> Pointer:
        where = (*where, "$ref")
        reference = schema["$ref"]
        written = short(compact(reference))
        if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
            raise InvalidSchema(
                where, f'{written} leads elsewhere: copy what is there under "$defs" and write "#/$defs/<name>"'
            )
        schema["$ref"] = quote(reference, safe="#/%!$&'()*+,;=:@?")
        to = self.target(schema)
        try:
            found = self.at(to)
        except (KeyError, IndexError, ValueError, TypeError):
            found = None
        self.targets.add(to)
        if len(to) > MAX_SCHEMA_NESTING or not isinstance(found, dict | bool):
            raise InvalidSchema(where, f"there is no schema at {written}: define it there, or correct the name")
        if to not in self._steps and isinstance(found, dict):
            # The meta-schema of the whole does not look into places that no keyword gives a meaning.
            _check_meta_schema(found | {"$schema": self.root.get("$schema", DIALECTS[0])}, to)
        return to

    def _check_in_place(self) -> None:
        """No schema may lead back to itself, or too far, without looking deeper into the answer."""
        heights: dict[Pointer, int] = {}

        def height(where: Pointer, above: tuple[Pointer, ...]) -> int:
            if where in above:
                raise InvalidSchema(
                    where, "it refers to itself without going a level deeper: put that under a property"
                )
            if len(above) + heights.get(where, 1) > MAX_IN_PLACE:
                raise InvalidSchema(where, f"more than {MAX_IN_PLACE} schemas stand for one value: use fewer $refs")
            if where not in heights:
                below = [to for to, step in self._steps[where] if step == 0]
                heights[where] = 1 + max((height(to, (*above, where)) for to in below), default=0)
            return heights[where]

        for where in self._steps:
            height(where, ())


def types_of(schema: Schema) -> list[str] | None:
    """The types that `schema` allows, as far as it says so itself. People leave out the obvious."""
    declared = schema.get("type")
    if declared is not None:
        return [declared] if isinstance(declared, str) else list(declared)
    values = values_of(schema)
    if values is not None:
        return list(dict.fromkeys(type_of(value) for value in values))
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema else None


def values_of(schema: Schema) -> list[Any] | None:
    """The values that `schema` lists, if it does."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


_TYPES_OF_VALUES: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def type_of(value: Any) -> str:
    return _TYPES_OF_VALUES[type(value)]


def has_type(value: Any, wanted: str) -> bool:
    kind = type_of(value)
    return (
        kind == wanted
        or (kind == "integer" and wanted == "number")
        or (kind == "number" and wanted == "integer" and value.is_integer())
    )


def _parts(schema: Schema) -> Iterator[tuple[Pointer, int | None]]:
    for key, value in schema.items():
        match value:
            case dict() | bool() if key in _SINGLE:
                yield (key,), _SINGLE[key]
            case dict() if key in _MAPS:
                # `dependencies` may hold lists of names, too.
                yield from (((key, name), _MAPS[key]) for name, part in value.items() if isinstance(part, dict | bool))
            case list() if key in _LISTS:
                yield from (((key, str(index)), _LISTS[key]) for index in range(len(value)))


def _check_meta_schema(schema: Schema, where: Pointer) -> None:
    import jsonschema_rs  # noqa: PLC0415 - most images are asked about without a schema

    try:
        jsonschema_rs.meta.validate(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise refusal(error, where) from None


def refusal(error: Exception, where: Pointer) -> InvalidSchema:
    """The validator's complaint about the schema at `where`, in words that say what to write instead."""
    where = (*where, *map(str, getattr(error, "instance_path", ())))
    problem = short(getattr(error, "message", str(error)).partition("\n")[0])
    match where:
        case (*_, "type"):
            problem += f": write one of {', '.join(TYPES)}, or a list of them"
        case (*_, "pattern") | (*_, "patternProperties", _):
            problem = (
                "it is too large, or not understood: write a simpler pattern, without look-around and back-references,"
                " with minLength and maxLength for lengths; or describe it in words"
            )
        case (*_, "exclusiveMinimum" | "exclusiveMaximum" as key):
            problem += f': write the number here, instead of "{key.removeprefix("exclusive").lower()}"'
        case (*_, "required"):
            problem += ': list the names of such properties, next to "properties"'
        case (*_, "$id"):
            problem += ": remove it"
        case _:
            problem = f"this is not a JSON Schema: {problem}"
    return InvalidSchema(where, problem)
