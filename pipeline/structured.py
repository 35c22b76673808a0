"""Structured answers: a JSON Schema to ask the model for, and the check that its answer meets it.

The service takes part of JSON Schema only, and its strict mode, in which it cannot answer otherwise, still less. So a
schema is sent in one of two ways:

* strict, in a form that the service takes: objects closed, every property required (one that may be left out may be
  null instead), choices as `anyOf`. What is only a check of values (`minimum`, `pattern`, `format`, …) is not sent; the
  model reads it in the description;
* otherwise as guidance, as it was written, with `strict: false`.

Either way the answer is then checked against the schema as it was written, all of it, so that the way it was sent
decides how often a model fails, never what counts as an answer.

Strict mode's rules, as documented:
    Types string, number, integer, boolean, object, array, enum, anyOf; a root that is an object and no anyOf; all
    properties required, optional ones emulated by a union with null; `additionalProperties: false` always; at most 100
    properties and five levels; no minLength, maxLength, pattern, format, minimum, maximum, multipleOf,
    patternProperties, unevaluatedProperties, propertyNames, minProperties, maxProperties, unevaluatedItems, contains,
    minContains, maxContains, minItems, maxItems, uniqueItems; `$defs` and recursion by `$ref` work.
        learn.microsoft.com/azure/ai-foundry/openai/how-to/structured-outputs ("Supported schemas and limitations")
    No allOf, not, dependentRequired, dependentSchemas, if, then, else. The limits there are 5,000 properties, ten levels,
    1,000 enum values and 120,000 characters of names and values now; Azure's page has the older, lower ones.
        developers.openai.com/api/docs/guides/structured-outputs ("Supported schemas")
    500 enum values, 15,000 characters of names and values, 7,500 characters in an enum of more than 250 strings: the
    limits of OpenAI's page when its others were those that Azure's page still has.
        docs.snaplogic.com/snaps/snaps-machine-learning/sp-azure-openai-llm/azure-openai-structured-outputs.html
Not documented, but answered with 400:
    oneOf ("is not permitted"), keywords beside a `$ref` ("$ref cannot have keywords"): openai-agents-python#1884,
    langchainjs#11384; objects in an anyOf whose first properties have the same name: openai-python#2193.
Of two limits the lower one is taken: above it the schema goes as guidance, which works wherever it is.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

MAX_SCHEMA_CHARACTERS = 64 * 1024
MAX_SCHEMA_NESTING = 64
"""Of its JSON; a level of the answer takes two or three."""
MAX_IN_PLACE = 32
"""Schemas within schemas (`$ref`, anyOf, …) that look at the same value; with `MAX_ANSWER_NESTING` it bounds the
validator's stack."""
MAX_UNFOLDED = 20_000
"""Schemas, once every `$ref` is replaced by what it stands for, recursion left alone."""

MAX_ANSWER_CHARACTERS = 2_000_000
"""128,000 tokens, the most that a current model answers, are about 500,000."""
MAX_ANSWER_NESTING = 64
MAX_CHECKS = 100_000_000
"""A check takes some 20 to 50 ns."""
MAX_EXPLAINED_CHECKS = 1_000_000
"""Finding out what failed where costs microseconds for each check, and doubles with each level of some recursions."""
MAX_PROBLEMS = 10
MAX_PROBLEM_CHARACTERS = 300

STRICT_PROPERTIES = 100
STRICT_LEVELS = 5
STRICT_ENUM_VALUES = 500
STRICT_NAMES_AND_VALUES = 15_000
STRICT_LONG_ENUM = 250
STRICT_LONG_ENUM_CHARACTERS = 7_500

type Schema = dict[str, Any]
type Pointer = tuple[str, ...]

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_BELOW = (
    "additionalProperties", "unevaluatedProperties", "propertyNames",
    "items", "additionalItems", "unevaluatedItems", "contains",
)  # fmt: skip
_BELOW_LISTS = ("items", "prefixItems")
_BELOW_MAPS = ("properties", "patternProperties")
_ASIDE_MAPS = ("$defs", "definitions")

_ONLY_CHECKS = (
    "format", "pattern", "minLength", "maxLength",
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf",
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains",
    "minProperties", "maxProperties", "propertyNames", "dependentRequired",
)  # fmt: skip
"""A value that breaks one of these still has the right shape."""
_SHAPES = ("type", "enum", "const", "properties", "required", "additionalProperties", "items")
_NOT_IN_STRICT = (
    "not", "if", "then", "else", "patternProperties", "dependentSchemas", "dependencies", "prefixItems",
    "additionalItems",
)  # fmt: skip


class InvalidSchema(ValueError):
    """The schema can't be used; the message says where in it, as a JSON pointer, and what to write instead."""

    def __init__(self, where: Pointer, problem: str) -> None:
        self.pointer = _text_of(where)
        super().__init__(f"The schema can't be used: {f'at {self.pointer}: ' if where else ''}{problem}.")


class AnswerMismatch(Exception):
    """The answer is not what the schema asks for.

    `problems` has at most `MAX_PROBLEMS` entries: `path`, a JSON pointer into the answer, and `problem`.
    """

    def __init__(self, problems: Sequence[dict[str, str]]) -> None:
        self.problems = list(problems)
        first = problems[0]
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        at = f"at {first['path']}: " if first["path"] else ""
        super().__init__(f"The model's answer does not meet the schema: {at}{first['problem']}{more}.")


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """What an answer must look like. Made by `of`; equal to another one if asking for it is the same request."""

    digest: str
    """SHA-256, hexadecimal. The order of keys counts: the service answers in the order of `properties`."""
    response_format: Mapping[str, Any] = field(compare=False, repr=False)
    """The member of that name in a chat completion request."""
    loosened: str | None = field(compare=False)
    """Why the service is not held to the schema (`strict: false`); None when it is."""
    _validator: "Validator" = field(compare=False, repr=False)
    _cost: Callable[[int | None], int] = field(compare=False, repr=False)
    _shapes: Mapping[str, "_Shape"] = field(compare=False, repr=False)

    @classmethod
    def of(cls, definition: Any) -> Self:
        """The schema in `definition`, a parsed JSON or YAML document.

        Raises:
            InvalidSchema: it is no JSON Schema, or one that can be neither asked for nor checked.
        """
        budget = _Budget(MAX_SCHEMA_CHARACTERS)
        root = _plain(definition, (), budget)
        if not isinstance(root, dict):
            raise InvalidSchema((), 'it must be a JSON object: write {"type": "object", "properties": {…}}')
        _check_meta_schema(root)
        document = _Document(root)
        validator = _compile(root)
        where, target = document.root_object()
        try:
            strict = _Strict(document, where, target)
            schema, shapes, loosened = strict.schema, strict.shapes, None
        except _NotStrictError as reason:
            schema, shapes, loosened = _guidance(root, target), {}, str(reason)
        return cls(
            digest=hashlib.sha256(_compact(root).encode()).hexdigest(),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": _name(root), "strict": loosened is None, "schema": schema},
            },
            loosened=loosened,
            _validator=validator,
            _cost=document.cost,
            _shapes=shapes,
        )

    @property
    def strict(self) -> bool:
        """Whether the service is held to the schema."""
        return self.loosened is None

    def check(self, text: str) -> Any:
        """The value in the model's `text`; nulls that only stand for a property left out are gone.

        Raises:
            AnswerMismatch: the text is no JSON, or its value does not meet the schema as it was written.
        """
        value = _parse(text if self.strict else _without_fence(text))
        size, levels = _measure(value)
        if self._cost(None) * size > MAX_CHECKS:
            raise _mismatch(f"it is too large to be checked against this schema ({size} values)")
        for candidate in (_restore(value, self._shapes["#"], self._shapes), value) if self.strict else (value,):
            if self._validator.is_valid(candidate):
                return candidate
        # The problems of the value without stand-in nulls: theirs are none.
        candidate = _restore(value, self._shapes["#"], self._shapes) if self.strict else value
        if self._cost(levels) * size > MAX_EXPLAINED_CHECKS:
            raise _mismatch("it does not match (it is too large, or the schema too recursive, to say where)")
        raise AnswerMismatch(list(islice(_problems(self._validator.iter_errors(candidate)), MAX_PROBLEMS)))


# ---- The schema as data ----------------------------------------------------------------------------------------------


class _Budget:
    """Counts what a document holds where it repeats itself too: YAML's anchors make much out of little."""

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._all = characters

    def spend(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise InvalidSchema((), f"it is larger than {self._all // 1024} KB: ask for less, or in several requests")


def _plain(value: Any, where: Pointer, budget: _Budget) -> Any:  # noqa: PLR0911 - one for each type
    """A copy of `value` made of JSON's own types only, small and flat enough for everything that follows."""
    if len(where) > MAX_SCHEMA_NESTING:
        raise InvalidSchema(where[:4], f"it is nested deeper than {MAX_SCHEMA_NESTING} levels: flatten it")
    match value:
        case None | bool():
            budget.spend(4)
            return value
        case int():
            # Beyond 64 bits JSON's readers disagree, and Python refuses to write numbers of 4,300 digits.
            if value.bit_length() > 64:
                raise InvalidSchema(where, "the number is too large: write one that fits into 64 bits")
            budget.spend(8)
            return int(value)
        case float():
            if not math.isfinite(value):
                raise InvalidSchema(where, f"{value} is no JSON number: write a finite one")
            budget.spend(8)
            return float(value)
        case str():
            budget.spend(len(value) + 3)
            return _encodable(str(value), where)
        case list():
            budget.spend(2)
            return [_plain(item, (*where, str(index)), budget) for index, item in enumerate(value)]
        case dict():
            budget.spend(2)
            plain: dict[str, Any] = {}
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidSchema(where, f'the key {_short(str(key))} is no text: write "{_short(str(key))}"')
                budget.spend(len(key) + 4)
                plain[_encodable(str(key), where)] = _plain(item, (*where, key), budget)
            return plain
        case _:
            problem = f"{_short(str(value))} is a {type(value).__name__}, which JSON has not: write it in quotes"
            raise InvalidSchema(where, problem)


def _encodable(text: str, where: Pointer) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidSchema(where, "a text holds half a surrogate pair: write the whole character") from None
    return text


def _check_meta_schema(root: Schema) -> None:
    import jsonschema_rs  # noqa: PLC0415 - most uploads ask for no schema

    try:
        jsonschema_rs.meta.validate(root)
    except jsonschema_rs.ValidationError as error:
        _raise_invalid(error)
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise InvalidSchema((), _short(str(error))) from None


def _compile(root: Schema) -> "Validator":
    import jsonschema_rs  # noqa: PLC0415 - see above

    try:
        return jsonschema_rs.validator_for(
            root,
            validate_formats=True,
            # This engine knows neither look-around nor back-references, so its time is linear in the text.
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
            offline=True,
        )
    except jsonschema_rs.ValidationError as error:
        _raise_invalid(error)
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise InvalidSchema((), _short(str(error))) from None


def _raise_invalid(error: "ValidationError") -> NoReturn:
    where = tuple(map(str, error.instance_path))
    problem = _short(error.message.partition("\n")[0])
    match where:
        case (*_, "type"):
            problem += f": write one of {', '.join(_TYPES)}, or a list of them"
        case (*_, "pattern") | (*_, "patternProperties", _):
            problem += ": write a regular expression without look-around and back-references, and not too large"
        case ("$schema",):
            problem += ': leave it out, or write "https://json-schema.org/draft/2020-12/schema"'
        case () if "meta-schema" in problem:
            where, problem = ("$schema",), f'{problem}: write "https://json-schema.org/draft/2020-12/schema"'
        case _:
            problem = f"this is no JSON Schema: {problem}"
    raise InvalidSchema(where, problem)


class _Document:
    """A schema's parts and what leads where."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self._steps: dict[Pointer, list[tuple[Pointer, int]]] = {}
        """From each schema to those in it: how many levels of the answer deeper they look."""
        self._costs: dict[int | None, int] = {}
        waiting: list[Pointer] = [()]
        while waiting:
            where = waiting.pop()
            if where not in self._steps:
                waiting += self._look_at(where, self.at(where))
        self._check_in_place()
        if self.cost(None) > MAX_UNFOLDED:
            raise InvalidSchema((), f"its $refs unfold to more than {MAX_UNFOLDED} schemas: use fewer")

    def at(self, where: Pointer) -> Any:
        value: Any = self.root
        for token in where:
            value = value[int(token)] if isinstance(value, list) else value[token]
        return value

    def target(self, schema: Schema) -> Pointer:
        """Where its `$ref` leads."""
        fragment = unquote(schema["$ref"].removeprefix("#"))
        return tuple(token.replace("~1", "/").replace("~0", "~") for token in fragment.split("/")[1:])

    def root_object(self) -> tuple[Pointer, Schema]:
        """The schema of the answer as a whole: the root, or what the root is another name for."""
        where: Pointer = ()
        schema = self.root
        while "$ref" in schema and not any(key in schema for key in _SHAPES):
            where = self.target(schema)
            schema = self.at(where)
            if not isinstance(schema, dict):
                break
        if not isinstance(schema, dict) or "object" not in (_types(schema) or ()):
            raise InvalidSchema(
                (),
                "the answer must be an object: write"
                ' {"type": "object", "properties": {"answer": …}, "required": ["answer"]} with what you have in place of …',
            )
        return where, schema

    def cost(self, levels: int | None) -> int:
        """How many schemas look at an answer of so many levels, at most; None: recursion not followed.

        The validator remembers what it knows of recursive schemas, but not when it explains.
        """
        if levels in self._costs:
            return self._costs[levels]
        counts: dict[tuple[Pointer, int | None], int] = {}
        stack: list[tuple[Pointer, int | None, bool]] = [((), levels, False)]
        while stack:
            where, left, ready = stack.pop()
            below = [
                (to, None if left is None else left - step)
                for to, step in self._steps[where]
                if left is None or left >= step
            ]
            if ready:
                counts[where, left] = 1 + sum(counts.get(key, 1) for key in below)
            elif (where, left) not in counts:
                counts[where, left] = 1
                stack.append((where, left, True))
                stack += [(*key, False) for key in below if key not in counts]
        return self._costs.setdefault(levels, counts[(), levels])

    def _look_at(self, where: Pointer, schema: Any) -> Iterator[Pointer]:
        steps = self._steps[where] = []
        if not isinstance(schema, dict):
            return
        for key in ("$dynamicRef", "$recursiveRef"):
            if key in schema:
                raise InvalidSchema((*where, key), f'use "$ref" instead of "{key}"')
        if where and isinstance(schema.get("$id", schema.get("id")), str):
            raise InvalidSchema(where, 'a schema inside a schema can\'t have an "$id" of its own: remove it')
        for path, step in _parts(schema):
            if step is not None:
                steps.append(((*where, *path), step))
            yield (*where, *path)
        if "$ref" in schema:
            to = self._resolved(where, schema)
            steps.append((to, 0))
            yield to

    def _resolved(self, where: Pointer, schema: Schema) -> Pointer:
        reference = schema["$ref"]
        if reference != "#" and not reference.startswith("#/"):
            raise InvalidSchema(
                (*where, "$ref"),
                f'{_short(json.dumps(reference))} leads out of the file: copy what it means under "$defs" and write'
                ' "#/$defs/<name>"',
            )
        to = self.target(schema)
        try:
            found = self.at(to)
        except (KeyError, IndexError, ValueError, TypeError):
            found = None
        if len(to) > MAX_SCHEMA_NESTING or not isinstance(found, (dict, bool)):
            raise InvalidSchema(
                (*where, "$ref"),
                f"there is no schema at {_short(json.dumps(reference))}: define it, or correct the name",
            )
        return to

    def _check_in_place(self) -> None:
        """No schema may lead back to itself, or too far, without looking deeper into the answer."""
        heights: dict[Pointer, int] = {}

        def height(where: Pointer, above: tuple[Pointer, ...]) -> int:
            if where in above:
                raise InvalidSchema(where, "it refers to itself without going a level deeper: put it under a property")
            if where not in heights:
                below = [to for to, step in self._steps[where] if step == 0]
                if len(above) > MAX_IN_PLACE:
                    raise InvalidSchema(where, f"more than {MAX_IN_PLACE} schemas stand for one value: use fewer $refs")
                heights[where] = 1 + max((height(to, (*above, where)) for to in below), default=0)
            if len(above) + heights[where] > MAX_IN_PLACE:
                raise InvalidSchema(where, f"more than {MAX_IN_PLACE} schemas stand for one value: use fewer $refs")
            return heights[where]

        for where in self._steps:
            height(where, ())


def _parts(schema: Schema) -> Iterator[tuple[Pointer, int | None]]:
    """The schemas in `schema`: where, and how much deeper in the answer they look; None: only when referred to."""
    for keys, step in ((_IN_PLACE, 0), (_BELOW, 1)):
        for key in keys:
            if isinstance(schema.get(key), (dict, bool)):
                yield (key,), step
    for keys, step in ((_IN_PLACE_LISTS, 0), (_BELOW_LISTS, 1)):
        for key in keys:
            if isinstance(schema.get(key), list):
                yield from (((key, str(index)), step) for index in range(len(schema[key])))
    maps: tuple[tuple[tuple[str, ...], int | None], ...] = ((_IN_PLACE_MAPS, 0), (_BELOW_MAPS, 1), (_ASIDE_MAPS, None))
    for names, depth in maps:
        for key in names:
            for name, part in (schema.get(key) or {}).items():
                if isinstance(part, (dict, bool)):  # `dependencies` may hold lists of names, too
                    yield (key, name), depth


def _types(schema: Schema) -> list[str] | None:
    """The types that `schema` allows, as far as it says so itself. People leave out the obvious."""
    declared = schema.get("type")
    if declared is not None:
        return [declared] if isinstance(declared, str) else list(declared)
    if "enum" in schema or "const" in schema:
        return list(dict.fromkeys(_type(value) for value in _values(schema) or ()))
    if "properties" in schema:
        return ["object"]
    if "items" in schema:
        return ["array"]
    return None


def _values(schema: Schema) -> list[Any] | None:
    """The values that `schema` lists, if it does."""
    if "const" in schema:
        return [schema["const"]] if "enum" not in schema or schema["const"] in schema["enum"] else []
    return schema.get("enum")


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _has_type(value: Any, wanted: str) -> bool:
    kind = _type(value)
    return (
        kind == wanted
        or (kind == "integer" and wanted == "number")
        or (kind == "number" and wanted == "integer" and value.is_integer())
    )


def _name(root: Schema) -> str:
    """The service wants ^[a-zA-Z0-9_-]{1,64}$."""
    title = root.get("title", "")
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", title).strip("_")[:64] or "answer"


def _guidance(root: Schema, target: Schema) -> Schema:
    """The schema for `strict: false`. The root has to be a plain object there, too; what else it says becomes text."""
    aside = {key: root[key] for key in _ASIDE_MAPS if key in root}
    schema = {key: value for key, value in (target | aside).items() if key not in ("$schema", "$id", "id")}
    combined = {key: schema.pop(key) for key in (*_IN_PLACE_LISTS, "not", "enum", "const", "$ref") if key in schema}
    if combined:
        schema["description"] = _with_note(schema.get("description"), f"Must also meet: {_compact(combined)}")
    return schema | {"type": "object"}


# ---- Strict mode -----------------------------------------------------------------------------------------------------


class _NotStrictError(Exception):
    def __init__(self, where: Pointer, reason: str) -> None:
        super().__init__(f"{f'at {_text_of(where)}: ' if where else ''}{reason}")


@dataclass(frozen=True, slots=True)
class _Scalar:
    types: tuple[str, ...]
    values: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Array:
    items: "_Shape"


@dataclass(frozen=True, slots=True)
class _Object:
    properties: Mapping[str, "_Shape"]
    required: frozenset[str]
    null_is_absent: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Choice:
    branches: tuple["_Shape", ...]


@dataclass(frozen=True, slots=True)
class _Reference:
    name: str


type _Shape = _Scalar | _Array | _Object | _Choice | _Reference
"""What of a schema decides where a null stands for nothing."""


class _Strict:
    """The schema in strict mode's terms. Raises _NotStrictError."""

    def __init__(self, document: _Document, where: Pointer, target: Schema) -> None:
        self._document = document
        self._names: dict[Pointer, str] = {(): "#", where: "#"}
        self._waiting: list[Pointer] = []
        self._choices: list[tuple[Pointer, _Choice]] = []
        self._definitions: dict[str, Schema] = {}
        self.shapes: dict[str, _Shape] = {}
        root, self.shapes["#"] = self._adapt(target | {"type": "object"}, where)
        if root.get("type") != "object":
            raise _NotStrictError((), "the root is a choice, not an object")
        while self._waiting:
            to = self._waiting.pop()
            name = self._names[to]
            self._definitions[name], self.shapes[name] = self._adapt(document.at(to), to)
        self._check_choices()
        self.schema = root | ({"$defs": self._definitions} if self._definitions else {})
        self._check_limits()
        for schema in (root, *self._definitions.values()):
            self._unfold_described(schema)

    def _adapt(self, schema: Any, where: Pointer) -> tuple[Schema, _Shape]:
        if not isinstance(schema, dict):
            raise _NotStrictError(where, f"it allows {'anything' if schema else 'nothing'}")
        schema = self._without_single_all_of(schema, where)
        for key in _NOT_IN_STRICT:
            if key in schema:
                raise _NotStrictError((*where, key), f"strict mode has no {key}")
        for key in ("unevaluatedProperties", "unevaluatedItems"):
            if schema.get(key, False) is not False:
                raise _NotStrictError((*where, key), f"strict mode has no {key}")
        combined = [key for key in ("$ref", "anyOf", "oneOf") if key in schema]
        if len(combined) > 1 or (combined and any(key in schema for key in _SHAPES)):
            raise _NotStrictError(
                (*where, combined[0]), f"strict mode has no {combined[0]} together with other keywords"
            )
        adapted: Schema
        shape: _Shape
        match combined:
            case ["$ref"]:
                shape = _Reference(self._name_of(self._document.target(schema)))
                adapted = {"$ref": "#" if shape.name == "#" else f"#/$defs/{shape.name}"}
            case [choice]:
                # Of a oneOf's branches exactly one must match: that is left to the check of the answer.
                parts = [self._adapt(part, (*where, choice, str(i))) for i, part in enumerate(schema[choice])]
                adapted = {"anyOf": [part for part, _ in parts]}
                shape = _Choice(tuple(shape for _, shape in parts))
                self._choices.append((where, shape))
            case _:
                adapted, shape = self._typed(schema, where)
        return _described(adapted, schema), shape

    def _without_single_all_of(self, schema: Schema, where: Pointer) -> Schema:
        """Generators write `allOf` with one member to put a description beside a `$ref`."""
        if "allOf" not in schema:
            return schema
        parts = schema["allOf"]
        others = [key for key in (*_SHAPES, "$ref", "anyOf", "oneOf") if key in schema]
        if len(parts) != 1 or others or not isinstance(parts[0], dict) or "allOf" in parts[0]:
            raise _NotStrictError((*where, "allOf"), "strict mode has no allOf")
        return parts[0] | {key: value for key, value in schema.items() if key != "allOf"}

    def _name_of(self, to: Pointer) -> str:
        """The name under `$defs` of what is there; through other names for it."""
        target = self._document.at(to)
        while isinstance(target, dict) and "$ref" in target and to not in self._names:
            to = self._document.target(target)
            target = self._document.at(to)
        if to not in self._names:
            stem = re.sub(r"[^a-zA-Z0-9_-]+", "_", to[-1])[:48] or "definition"
            name, number = stem, 2
            while name in self._names.values():
                name, number = f"{stem}_{number}", number + 1
            self._names[to] = name
            self._waiting.append(to)
        return self._names[to]

    def _typed(self, schema: Schema, where: Pointer) -> tuple[Schema, _Shape]:
        types = _types(schema)
        if types is None:
            raise _NotStrictError(where, "it does not say which type")
        values = _values(schema)
        if values is not None:
            return self._listed(types, values, where)
        parts: list[tuple[Schema, _Shape]] = []
        scalars = tuple(kind for kind in types if kind not in ("object", "array"))
        if "object" in types:
            parts.append(self._object(schema, where))
        if "array" in types:
            parts.append(self._array(schema, where))
        if scalars:
            parts.append(({"type": scalars[0] if len(scalars) == 1 else list(scalars)}, _Scalar(scalars)))
        if len(parts) == 1:
            return parts[0]
        return {"anyOf": [part for part, _ in parts]}, _Choice(tuple(shape for _, shape in parts))

    def _listed(self, types: list[str], values: list[Any], where: Pointer) -> tuple[Schema, _Shape]:
        values = [value for value in values if any(_has_type(value, kind) for kind in types)]
        types = [kind for kind in types if any(_has_type(value, kind) for value in values)]
        if not values:
            raise _NotStrictError(where, "it allows no value at all")
        if "object" in types or "array" in types:
            raise _NotStrictError(where, "strict mode lists texts, numbers, true, false and null only")
        adapted = {"type": types[0] if len(types) == 1 else types, "enum": values}
        return adapted, _Scalar(tuple(types), tuple(values))

    def _object(self, schema: Schema, where: Pointer) -> tuple[Schema, _Shape]:
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        required = schema.get("required", [])
        if isinstance(others, dict) or others is True or (others is None and not properties):
            raise _NotStrictError(where, "it allows properties that it does not list")
        if missing := [name for name in required if name not in properties]:
            raise _NotStrictError(where, f'it requires "{_short(missing[0])}", which is not in its properties')
        adapted: Schema = {}
        shapes: dict[str, _Shape] = {}
        absent = set()
        for name, part in properties.items():
            adapted[name], shapes[name] = self._adapt(part, (*where, "properties", name))
            if name not in required and not self._allows_null(part):
                adapted[name] = _or_null(adapted[name])
                absent.add(name)
        names = list(adapted)
        closed = {"type": "object", "properties": adapted, "required": names, "additionalProperties": False}
        return closed, _Object(shapes, frozenset(required), frozenset(absent))

    def _array(self, schema: Schema, where: Pointer) -> tuple[Schema, _Shape]:
        if not isinstance(schema.get("items"), dict):
            raise _NotStrictError(where, "it does not say what its items are")
        items, shape = self._adapt(schema["items"], (*where, "items"))
        return {"type": "array", "items": items}, _Array(shape)

    def _allows_null(self, schema: Schema) -> bool:
        if "$ref" in schema:
            schema = self._document.at(self._document.target(schema))
            return isinstance(schema, dict) and self._allows_null(schema)
        parts = [part for key in _IN_PLACE_LISTS for part in schema.get(key, ())]
        if parts:
            return any(isinstance(part, dict) and self._allows_null(part) for part in parts)
        values = _values(schema)
        return "null" in (_types(schema) or ()) and (values is None or None in values)

    def _check_choices(self) -> None:
        for where, choice in self._choices:
            first = [
                next(iter(shape.properties), None) for shape in self._branches(choice) if isinstance(shape, _Object)
            ]
            if twice := [name for name in first if first.count(name) > 1]:
                raise _NotStrictError(where, f'two of its objects begin with the same property, "{twice[0]}"')

    def _branches(self, shape: _Shape) -> Iterator[_Shape]:
        return _branches(shape, self.shapes)

    def _check_limits(self) -> None:
        properties, values, characters = 0, 0, sum(map(len, self._definitions))
        for schema in _every(self.schema):
            names, listed = schema.get("properties", {}), schema.get("enum", [])
            texts = [value for value in listed if isinstance(value, str)]
            length = sum(map(len, texts))
            properties += len(names)
            values += len(listed)
            characters += sum(map(len, names)) + length
            if len(texts) > STRICT_LONG_ENUM and length > STRICT_LONG_ENUM_CHARACTERS:
                raise _NotStrictError((), f"an enum of {len(texts)} texts has {length} characters")
        for count, limit, what in (
            (properties, STRICT_PROPERTIES, "properties"),
            (values, STRICT_ENUM_VALUES, "enum values"),
            (characters, STRICT_NAMES_AND_VALUES, "characters of names and values"),
        ):
            if count > limit:
                raise _NotStrictError((), f"it has {count} {what}, and strict mode takes {limit}")
        self._check_levels()

    def _check_levels(self) -> None:
        """Every step to a property or to items counts, a leaf's too: nobody documents how the service counts."""
        seen: set[tuple[int, int]] = set()
        stack: list[tuple[Schema, int, frozenset[str]]] = [(self.schema, 0, frozenset("#"))]
        while stack:
            schema, level, above = stack.pop()
            if (id(schema), level) in seen:
                continue
            seen.add((id(schema), level))
            if level > STRICT_LEVELS:
                raise _NotStrictError(
                    (), f"it is nested more than {STRICT_LEVELS} levels deep, and strict mode takes that"
                )
            name = schema.get("$ref", "").removeprefix("#/$defs/")
            if name and name not in above:
                stack.append((self._definitions[name], level, above | {name}))
            below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
            stack += [(part, level + 1, above) for part in below]
            stack += [(part, level, above) for part in schema.get("anyOf", ())]

    def _unfold_described(self, schema: Schema) -> None:
        """Put what it stands for in place of a `$ref` that has a description, as the OpenAI SDK does."""
        for part in _every(schema):
            if "$ref" in part and "description" in part:
                name, description = part.pop("$ref"), part.pop("description")
                target = self.schema if name == "#" else self._definitions[name.removeprefix("#/$defs/")]
                part.update({key: value for key, value in target.items() if key != "$defs"})
                part["description"] = description


def _described(adapted: Schema, schema: Schema) -> Schema:
    """`adapted` with what people and generators say about `schema`, and with the checks that strict mode leaves out."""
    checks = ", ".join(
        f"{key} {schema[key] if key == 'format' else _compact(schema[key])}" for key in _ONLY_CHECKS if key in schema
    )
    description = schema.get("description")
    if checks:
        description = _with_note(description, f"Constraints: {checks}")
    if "title" in schema and "$ref" not in adapted:
        adapted = {"title": schema["title"], **adapted}
    return adapted if description is None else {**adapted, "description": description}


def _with_note(description: str | None, note: str) -> str:
    return f"{description.rstrip()} ({note})" if description else note


def _or_null(adapted: Schema) -> Schema:
    """The same, or null."""
    kind = adapted.get("type")
    if kind is not None and kind not in ("object", "array") and "enum" not in adapted:
        return adapted | {"type": [*([kind] if isinstance(kind, str) else kind), "null"]}
    outer = {"description": adapted["description"]} if "description" in adapted else {}
    inner = {key: value for key, value in adapted.items() if key != "description"}
    return {"anyOf": [*(inner["anyOf"] if "anyOf" in inner else [inner]), {"type": "null"}], **outer}


def _every(schema: Schema) -> Iterator[Schema]:
    """All schemas in an adapted one, outermost first."""
    yield schema
    for part in (
        *schema.get("$defs", {}).values(),
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        *([schema["items"]] if "items" in schema else ()),
    ):
        yield from _every(part)


# ---- The answer ------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL | re.IGNORECASE)


def _without_fence(text: str) -> str:
    """The inside of ```json … ```, in which models like to wrap what nothing holds them to."""
    found = _FENCE.fullmatch(text) if len(text) <= MAX_ANSWER_CHARACTERS else None
    return found[1] if found else text


def _parse(text: str) -> Any:
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise _mismatch(f"it is longer than {MAX_ANSWER_CHARACTERS} characters")
    if not text.strip():
        raise _mismatch("it is empty")
    try:
        text.encode()
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite, parse_int=_readable
        )
    except json.JSONDecodeError as error:
        raise _mismatch(f"it is no JSON ({error.msg}, line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _mismatch(f"it is nested deeper than {MAX_ANSWER_NESTING} levels") from None
    except UnicodeEncodeError:
        raise _mismatch("it holds half a surrogate pair") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _mismatch(f"the property {_short(json.dumps(twice))} is there more than once")
    return value


def _no_number(text: str) -> NoReturn:
    raise _mismatch(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _mismatch(f"the number {_short(text)} is too large")
    return number


def _readable(text: str) -> int:
    # As many digits as the largest double has: no reader of the result makes anything of more.
    if len(text) > 309:
        raise _mismatch(f"the number {_short(text)} is too large")
    return int(text)


def _measure(value: Any) -> tuple[int, int]:
    """How many values there are in `value`, and how deep. Raises AnswerMismatch."""
    size, deepest = 0, 0
    stack = [(value, 0)]
    while stack:
        item, level = stack.pop()
        size, deepest = size + 1, max(deepest, level)
        if level > MAX_ANSWER_NESTING:
            raise _mismatch(f"it is nested deeper than {MAX_ANSWER_NESTING} levels")
        if isinstance(item, dict):
            for name in item:
                _check_text(name)
            stack += [(part, level + 1) for part in item.values()]
        elif isinstance(item, list):
            stack += [(part, level + 1) for part in item]
        elif isinstance(item, str):
            _check_text(item)
    return size, deepest


def _check_text(text: str) -> None:
    """An escape such as \\ud83d makes half a character, which can't be written in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _mismatch("it holds half a surrogate pair") from None


def _restore(value: Any, shape: _Shape, shapes: Mapping[str, _Shape]) -> Any:
    """`value` without the nulls that stand for properties left out."""
    for branch in _branches(shape, shapes):
        if not _fits(value, branch, shapes):
            continue
        if isinstance(branch, _Array):
            return [_restore(item, branch.items, shapes) for item in value]
        if isinstance(branch, _Object):
            return {
                name: _restore(part, branch.properties[name], shapes)
                for name, part in value.items()
                if part is not None or name not in branch.null_is_absent
            }
        return value
    return value


def _branches(shape: _Shape, shapes: Mapping[str, _Shape]) -> Iterator[_Shape]:
    """The shapes that `shape` is a choice of, or itself."""
    while isinstance(shape, _Reference):
        shape = shapes[shape.name]
    if isinstance(shape, _Choice):
        for branch in shape.branches:
            yield from _branches(branch, shapes)
    else:
        yield shape


def _fits(value: Any, shape: _Shape, shapes: Mapping[str, _Shape], *, closely: bool = True) -> bool:
    """Whether it is `shape` that `value` was written for; looks one level deep, so that a choice costs no more."""
    match shape:
        case _Scalar(types, values):
            return any(_has_type(value, kind) for kind in types) and (
                values is None or any(_type(value) == _type(one) and value == one for one in values)
            )
        case _Array():
            return isinstance(value, list)
        case _Object(properties, required, absent):
            return isinstance(value, dict) and (
                not closely
                or (
                    required <= value.keys() <= properties.keys()
                    and all(
                        (part is None and name in absent)
                        or any(_fits(part, one, shapes, closely=False) for one in _branches(properties[name], shapes))
                        for name, part in value.items()
                    )
                )
            )
        case _:
            raise AssertionError(shape)  # _branches gives no other


def _problems(errors: Iterator["ValidationError"]) -> Iterator[dict[str, str]]:
    for error in errors:
        branches = getattr(error.kind, "context", None)
        # A choice fails as a whole; what people want to know is what is wrong in the one that was meant.
        meant = [branch for branch in branches or () if not any(_is_shallow(one, error) for one in branch)]
        if len(meant) == 1 and meant[0]:
            yield from _problems(iter(meant[0]))
        else:
            path = _text_of(tuple(map(str, error.instance_path)))
            yield {"path": path, "problem": _short(error.message, MAX_PROBLEM_CHARACTERS)}


def _is_shallow(error: "ValidationError", outer: "ValidationError") -> bool:
    """Whether `error` says that the value as a whole is something else."""
    return error.kind.name in ("type", "const", "enum") and len(error.instance_path) <= len(outer.instance_path)


def _mismatch(problem: str) -> AnswerMismatch:
    return AnswerMismatch([{"path": "", "problem": problem}])


# ---- Words -----------------------------------------------------------------------------------------------------------


def _text_of(where: Pointer) -> str:
    return "".join(f"/{token.replace('~', '~0').replace('/', '~1')}" for token in where)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
