"""Pasted JSON Schemas: understood where it is clear what is meant, named where it is not."""

from typing import Any

from pipeline.one_line import short
from pipeline.schemas.wording import compact

_STRUCTURE = frozenset(
    (
        "type", "properties", "required", "additionalProperties", "patternProperties", "items", "enum", "const",
        "anyOf", "oneOf", "allOf", "not", "if", "$ref", "$defs", "definitions",
    )
)  # fmt: skip
"""Keywords that make a schema of an object; titles, descriptions and the like do not."""
_WRAPPERS = ("response_format", "text", "format", "json_schema", "schema", "function", "parameters", "input_schema",
             "inputSchema")  # fmt: skip
"""Where requests and tools keep a schema: `response_format.json_schema.schema` and `function.parameters` (chat
completions), `text.format.schema` (responses), `input_schema` (Anthropic), `inputSchema` (MCP)."""
_WRAPPER_TYPES = (None, "json_schema", "function")
_PYDANTICS_DECIMAL = "^(?!^[-+.]*$)"
"""Where the pattern of a Decimal begins, with a look-ahead, in what pydantic 2.12 and 2.13 generate."""
_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)$"


def unwrapped(definition: Any) -> Any:
    """The schema inside what APIs wrap around one, with the wrapper's name and description where it has none."""
    while isinstance(definition, dict) and definition.get("type") in _WRAPPER_TYPES:
        wrapper = next((key for key in _WRAPPERS if isinstance(definition.get(key), dict)), None)
        others = [part for key, part in definition.items() if key != wrapper]
        if wrapper is None or definition.keys() & (_STRUCTURE - {"type"}) or any(map(_is_schema, others)):
            break  # a schema, or properties of which one is called like a wrapper
        inner = definition[wrapper]
        if inner.get("type") not in (*_WRAPPER_TYPES, "object"):
            break
        said = {"title": definition.get("name"), "description": definition.get("description")}
        definition = inner | {key: text for key, text in said.items() if isinstance(text, str) and key not in inner}
    return definition


def _is_schema(part: Any) -> bool:
    return isinstance(part, dict) and bool(part.keys() & _STRUCTURE)


def translate(schema: dict[str, Any]) -> None:
    """Say what OpenAPI and pydantic say in ways of their own so that it can be checked, in place.

    Ids go: all `$ref`s are taken from the root, as those who write them next to generated ids mean them.
    """
    for key in ("id", "$id"):
        if isinstance(schema.get(key), str):
            del schema[key]
    if str(schema.get("pattern")).startswith(_PYDANTICS_DECIMAL):
        schema["pattern"] = _DECIMAL
    if schema.pop("nullable", None) is not True:
        return
    kind = schema.get("type")
    if kind is None:
        aside = {key: schema.pop(key) for key in ("$schema", "title", "description") if key in schema}
        choice = {"anyOf": [dict(schema), {"type": "null"}]}
        schema.clear()
        schema.update(aside | choice)
        return
    schema["type"] = list(dict.fromkeys([*([kind] if isinstance(kind, str) else kind), "null"]))
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]


def not_an_object(root: dict[str, Any]) -> str:
    """Say why `root` can't be the schema of an answer, and what to write instead."""
    structure = root.keys() & _STRUCTURE
    if root.keys() & {"openapi", "components"}:
        return 'this is an OpenAPI document: add "$ref": "#/components/schemas/<name>" to say which of its schemas'
    if structure and structure <= {"$defs", "definitions"}:
        key = min(structure)
        name = short(next(iter(root[key]), "<name>"))
        return f'it only defines schemas: add "$ref": "#/{key}/{name}" to say which of them the answer has'
    parts = {
        key: part
        for key, part in root.items()
        if not key.startswith("$") and not (key in ("title", "description") and isinstance(part, str))
    }
    if structure or not parts:
        return (
            "the answer must be an object: write"
            ' {"type": "object", "properties": {"answer": …}, "required": ["answer"]} around what you have'
        )
    name, part = next(iter(parts.items()))
    name = short(compact(name))
    if all(map(_is_schema, parts.values())):
        return f'these are properties: write {{"type": "object", "properties": {{{name}: …}}}} around them'
    return (
        "this is an example of an answer, not a schema: describe it, as in"
        f' {{"type": "object", "properties": {{{name}: {{"type": "{_type_of(part)}"}}, …}}}}'
    )


def _type_of(value: Any) -> str:
    """The type that an example's `value` stands for."""
    names = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "string")
