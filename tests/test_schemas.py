"""A schema is asked for in the service's terms, and an answer counts only if it meets the schema as it was written."""

import json
import math
import re
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from pipeline.schemas import AnswerMismatch, AnswerSchema, InvalidSchema

RECEIPT = json.loads((Path(__file__).parents[1] / "samples" / "receipt.schema.json").read_text(encoding="utf-8"))
RECEIPT_ANSWER = {
    "vendor": "Café Nord",
    "date": "2026-03-14",
    "currency": "EUR",
    "lines": [{"description": "Flat white", "quantity": 2, "amount": 7.8}, {"description": "Bun", "amount": 3.1}],
    "total": 10.9,
}

type Json = dict[str, Any]


# ---- The service's rules, from its documentation ---------------------------------------------------------------------

ALLOWED_KEYS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "$ref", "$defs",
    "title", "description",
}  # fmt: skip


def assert_the_service_takes(schema: Json) -> None:
    """The documented rules of strict mode, and the undocumented ones that are known."""
    assert schema["type"] == "object"
    assert "anyOf" not in schema
    nodes = list(nodes_of(schema))
    assert sum(len(node.get("properties", {})) for node in nodes) <= 100
    assert sum(len(node.get("enum", [])) for node in nodes) <= 500
    for node in nodes:
        assert node.keys() <= ALLOWED_KEYS
        assert node.keys() & {"type", "anyOf", "$ref"}
        if "$ref" in node:
            assert node.keys() == {"$ref"}
            assert node["$ref"] == "#" or node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        types = node.get("type", [])
        if "object" in types:
            assert types == "object"
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
        if "array" in types:
            assert types == "array"
            assert "items" in node
        firsts = [next(iter(part["properties"]), None) for part in node.get("anyOf", []) if "properties" in part]
        assert len(firsts) == len(set(firsts))
    assert levels_of(schema) <= 5


def nodes_of(schema: Json) -> list[Json]:
    parts = [*schema.get("$defs", {}).values(), *below(schema), *schema.get("anyOf", [])]
    return [schema, *(node for part in parts for node in nodes_of(part))]


def below(schema: Json) -> list[Json]:
    return [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]


def levels_of(schema: Json) -> int:
    return max(
        [0, *(1 + levels_of(part) for part in below(schema)), *(levels_of(part) for part in schema.get("anyOf", []))]
    )


def sent(schema: AnswerSchema) -> Json:
    wanted: Json = schema.response_format["json_schema"]
    assert schema.response_format == {"type": "json_schema", "json_schema": wanted}
    assert wanted.keys() == {"name", "strict", "schema"}
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wanted["name"])
    assert wanted["strict"] is schema.strict
    return dict(wanted["schema"])


def accepts(schema: Json, value: Any) -> bool:
    return jsonschema_rs.validator_for(schema, offline=True).is_valid(value)


# ---- Schemas with answers --------------------------------------------------------------------------------------------

NAMES = st.text("abcXYZ_äß 1.$/~", min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "integer": st.integers(-(10**12), 10**12),
    "number": st.floats(-1e300, 1e300) | st.integers(-1000, 1000),
    "boolean": st.booleans(),
}
CHECKS: st.SearchStrategy[Json] = st.sampled_from(
    [{}, {"minLength": 0}, {"maxItems": 99}, {"minimum": -1e308}, {"pattern": ""}, {"description": "What it says."}]
)
type Described = tuple[Json, st.SearchStrategy[tuple[Any, Any]]]
"""A schema, and answers to it: as the schema has them, and as strict mode has them."""


def twice(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return values.map(lambda value: (value, value))


@st.composite
def described_values(draw: st.DrawFn, depth: int = 0) -> Described:  # noqa: PLR0911 - one for each kind
    flat, deep = ["scalar", "enum", "nullable"], ["object", "array", "nullable object", "union"]
    kinds = flat + (deep if depth < 2 else [])
    checks: Json = draw(CHECKS)
    match draw(st.sampled_from(kinds)):
        case "object":
            return draw(described_objects(depth + 1))
        case "nullable object":
            schema, answers = draw(described_objects(depth + 1))
            return {"oneOf": [schema, {"type": "null"}]} | checks, answers | st.just((None, None))
        case "array":
            schema, answers = draw(described_values(depth + 1))
            several = st.lists(answers, max_size=3).map(lambda all_: ([a for a, _ in all_], [b for _, b in all_]))
            return {"type": "array", "items": schema} | checks, several
        case "enum":
            values = draw(st.lists(TEXTS | st.integers(-9, 9), min_size=1, max_size=4, unique_by=repr))
            return {"enum": values} | checks, twice(st.sampled_from(values))
        case "nullable":
            kind = draw(st.sampled_from(sorted(SCALARS)))
            return {"type": [kind, "null"]} | checks, twice(SCALARS[kind] | st.none())
        case "union":
            schema, answers = draw(described_objects(depth + 1))
            return {"anyOf": [{"type": "string"}, schema]}, answers | twice(TEXTS)
        case _:
            kind = draw(st.sampled_from(sorted(SCALARS)))
            return {"type": kind} | checks, twice(SCALARS[kind])


@st.composite
def described_objects(draw: st.DrawFn, depth: int = 0) -> Described:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    parts = {name: draw(described_values(depth)) for name in names}
    optional = draw(st.sets(st.sampled_from(names)))
    schema = {
        "type": "object",
        "properties": {name: part for name, (part, _) in parts.items()},
        "required": [name for name in names if name not in optional],
    } | draw(st.sampled_from([{}, {"additionalProperties": False}]))

    @st.composite
    def answers(draw: st.DrawFn) -> tuple[Json, Json]:
        written: Json = {}
        filled: Json = {}
        for name, (part, values) in parts.items():
            # Where null is an answer of its own, it can't stand for a missing one.
            nullable = accepts(part, None)
            if name in optional and not nullable and draw(st.booleans()):
                filled[name] = None
            else:
                written[name], filled[name] = draw(values)
        return written, filled

    return schema, answers()


@st.composite
def schemas_with_answers(draw: st.DrawFn) -> tuple[Json, Json, Json]:
    schema, answers = draw(described_objects())
    return schema, *draw(answers)


@examples(100)
@given(schemas_with_answers())
def test_an_answer_in_strict_form_comes_back_as_the_schema_has_it(case: tuple[Json, Json, Json]) -> None:
    """A property that may be left out is null in strict mode, and gone again afterwards."""
    definition, written, filled = case
    schema = AnswerSchema.of(definition)
    if schema.strict:
        assert_the_service_takes(sent(schema))
        assert accepts(sent(schema), filled)
        assert schema.check(json.dumps(filled)) == written
    else:
        assert re.search("levels|properties", schema.loosened or "")
    assert schema.check(json.dumps(written)) == written


KEYWORDS = [
    "type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "$ref", "$defs",
    "additionalProperties", "patternProperties", "pattern", "format", "minimum", "title", "description", "$schema",
    "$id", "dependencies", "definitions", "prefixItems", "unevaluatedProperties", "contains", "default", "$dynamicRef",
    "x",
]  # fmt: skip
SCALAR_JSON = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["object", "array", "string", "null", "#", "#/$defs/x", "#/x", "#/properties/x/items/0", "date"])
    | st.text(max_size=4)
)
ANY_JSON = st.recursive(
    SCALAR_JSON | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS) | st.text(max_size=2), inner, max_size=4)
        | st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(st.just("x"), inner)})
    ),
    max_leaves=12,
)
LIKE_SCHEMAS = st.recursive(
    st.sampled_from([{"type": "string"}, {"$ref": "#/$defs/x"}, {"$ref": "#"}, {"const": 1}, True, {}, {"type": []}]),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["object", "null"], ["string"], "strng"]),
            "properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
            "required": st.lists(st.sampled_from("xyz"), unique=True, max_size=2),
            "items": inner,
            "enum": st.lists(SCALAR_JSON, min_size=1, max_size=3),
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "$ref": st.sampled_from(["#", "#/$defs/x", "#/$defs/y", "#/properties/x", "#/x", "other.json", "#x"]),
            "$defs": st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
            "x": inner,
            "additionalProperties": inner | st.just(False),
            "description": st.just("d"),
            "minLength": st.integers(-1, 2),
            "pattern": st.sampled_from(["a", "(?=a)", "("]),
            "not": inner,
        },
    ),
    max_leaves=10,
)
OBJECTS = LIKE_SCHEMAS.map(lambda schema: {"type": "object"} | schema if isinstance(schema, dict) else schema)


def outcome(definition: Any, text: str) -> Any:
    """The answer, or how it or the schema is refused; any other exception is a failed test."""
    try:
        schema = AnswerSchema.of(definition)
    except InvalidSchema as error:
        return error
    if schema.strict:
        assert_the_service_takes(sent(schema))
    assert sent(schema)["type"] == "object"
    try:
        return schema.check(text)
    except AnswerMismatch as error:
        return error


@examples(150)
@given(ANY_JSON | LIKE_SCHEMAS | OBJECTS, st.none() | ANY_JSON | st.text())
def test_any_value_is_a_schema_or_invalid_and_any_text_an_answer_or_a_mismatch(definition: Any, answer: Any) -> None:
    match outcome(definition, answer if isinstance(answer, str) else json.dumps(answer)):
        case InvalidSchema() as error:
            assert str(error)
        case AnswerMismatch() as error:
            assert 1 <= len(error.problems) <= 10
            assert all(problem.keys() == {"path", "problem"} for problem in error.problems)
        case value:
            # An id moves what the references below it are relative to; here it does not.
            assert accepts(definition, value) or '"$id"' in json.dumps(definition)


# ---- The ready example -----------------------------------------------------------------------------------------------


def test_the_receipt_example_is_asked_for_in_strict_mode() -> None:
    schema = AnswerSchema.of(RECEIPT)
    assert schema.loosened is None
    assert_the_service_takes(sent(schema))
    assert schema.response_format["json_schema"]["name"] == "Receipt"
    assert list(sent(schema)["properties"]) == ["vendor", "date", "currency", "lines", "total"]
    assert sent(schema)["properties"]["date"] == {
        "type": ["string", "null"],
        "description": "Day of the purchase, e.g. 2026-03-14. (Constraints: format date)",
    }


def test_an_answer_to_the_receipt_example_comes_back_without_stand_in_nulls() -> None:
    filled = RECEIPT_ANSWER | {
        "currency": None,
        "lines": [{"description": "Bun", "quantity": None, "amount": 3.1}],
    }
    assert AnswerSchema.of(RECEIPT).check(json.dumps(RECEIPT_ANSWER)) == RECEIPT_ANSWER
    assert AnswerSchema.of(RECEIPT).check(json.dumps(filled)) == {
        "vendor": "Café Nord",
        "date": "2026-03-14",
        "lines": [{"description": "Bun", "amount": 3.1}],
        "total": 10.9,
    }


def test_a_mismatch_says_what_is_wrong_where() -> None:
    answer = RECEIPT_ANSWER | {"date": "14.3.2026", "currency": "euro", "total": None, "lines": [{"amount": "1"}]}
    with pytest.raises(AnswerMismatch) as caught:
        AnswerSchema.of(RECEIPT).check(json.dumps(answer))
    assert {problem["path"] for problem in caught.value.problems} == {
        "/date", "/currency", "/total", "/lines/0", "/lines/0/amount",
    }  # fmt: skip
    assert str(caught.value) == (
        'The model\'s answer does not meet the schema: at /date: "14.3.2026" is not a "date", and 4 more.'
    )


# ---- What is sent ----------------------------------------------------------------------------------------------------


def an_object(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("written", "adapted"),
    [
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "enum": ["a", 1]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "minLength": 3}, {"type": "string", "description": "Constraints: minLength 3"}),
        ({"type": "string", "default": "x", "examples": ["y"]}, {"type": "string"}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"allOf": [{"type": "string"}], "description": "d"}, {"type": "string", "description": "d"}),
        (
            {"properties": {"a": {"type": "string", "enum": ["x"]}}},
            {
                "type": "object",
                "properties": {"a": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}},
                "required": ["a"],
                "additionalProperties": False,
            },
        ),
        (
            {"type": "array", "items": {"type": "integer"}, "additionalItems": True},
            {"type": "array", "items": {"type": "integer"}},
        ),
        (
            {"type": ["array", "null"], "items": {"type": "integer"}},
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        ),
    ],
)
def test_a_property_is_put_in_strict_modes_terms(written: Json, adapted: Json) -> None:
    schema = AnswerSchema.of(an_object(p=written))
    assert schema.loosened is None
    assert sent(schema)["properties"]["p"] == adapted
    assert_the_service_takes(sent(schema))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({}, "at /properties/p: it does not say which type"),
        (True, "at /properties/p: it allows anything"),
        ({"type": "object"}, "at /properties/p: it allows properties that it does not list"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "at /properties/p: it allows properties that it does not list",
        ),
        ({"type": "object", "patternProperties": {}}, "at /properties/p/patternProperties: strict mode has no"),
        ({"type": "string", "not": {"const": "a"}}, "at /properties/p/not: strict mode has no not"),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "at /properties/p/allOf: strict mode has no allOf"),
        ({"if": {"type": "string"}, "then": {"minLength": 1}}, "at /properties/p/if: strict mode has no if"),
        ({"type": "array"}, "at /properties/p: it does not say what its items are"),
        ({"enum": [{"a": 1}]}, "at /properties/p: strict mode lists texts"),
        ({"type": "string", "anyOf": [{"minLength": 1}]}, "at /properties/p/anyOf: strict mode has no anyOf together"),
        (
            {"anyOf": [an_object(kind={"const": "a"}), an_object(kind={"const": "b"})]},
            'two of its objects begin with the same property, "kind"',
        ),
        (an_object(**{f"p{i}": {"type": "string"} for i in range(100)}), "it has 101 properties"),
        ({"enum": [str(i) for i in range(501)]}, "it has 501 enum values"),
        (an_object(a=an_object(b=an_object(c=an_object(d=an_object(e={"type": "null"}))))), "deeper than the 5 levels"),
    ],
)
def test_a_schema_beyond_strict_mode_goes_as_guidance_with_the_reason(written: Any, reason: str) -> None:
    definition = an_object(p=written)
    schema = AnswerSchema.of(definition)
    assert not schema.strict
    assert reason in (schema.loosened or "")
    assert sent(schema) == definition


def test_the_root_of_guidance_is_a_plain_object() -> None:
    """The service refuses choices there in any mode; they become text, and are still checked."""
    definition = {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}]}
    schema = AnswerSchema.of({"$schema": "https://json-schema.org/draft/2020-12/schema"} | definition)
    assert sent(schema) == {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "description": 'Must also meet: {"anyOf":[{"required":["a"]}]}',
    }
    with pytest.raises(AnswerMismatch):
        schema.check('{"b": 1}')


def test_definitions_are_sent_under_names_the_service_takes_and_only_if_used() -> None:
    definition = an_object(
        buyer={"$ref": "#/definitions/Größe 1", "description": "Who pays."},
        seller={"$ref": "#/definitions/alias"},
    ) | {
        "definitions": {
            "Größe 1": an_object(name={"type": "string"}) | {"description": "A party."},
            "alias": {"$ref": "#/definitions/Gr%C3%B6%C3%9Fe%201"},
            "unused": {"not": {}},
        }
    }
    schema = AnswerSchema.of(definition)
    party = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    assert schema.loosened is None
    assert sent(schema)["properties"] == {
        "buyer": {"anyOf": [{"$ref": "#/$defs/Gr_e_1"}], "description": "Who pays."},
        "seller": {"$ref": "#/$defs/alias"},
    }
    assert sent(schema)["$defs"] == {
        "Gr_e_1": party | {"description": "A party."},
        "alias": {"anyOf": [{"$ref": "#/$defs/Gr_e_1"}]},
    }


def test_recursive_schemas_are_strict_and_lose_their_stand_in_nulls_at_every_level() -> None:
    tree = an_object(name={"type": "string"}) | {"title": "Tree"}
    tree["properties"] |= {"children": {"type": "array", "items": {"$ref": "#"}}, "next": {"$ref": "#"}}
    schema = AnswerSchema.of(tree)
    assert_the_service_takes(sent(schema))
    answer = {"name": "a", "children": [{"name": "b", "children": None, "next": None}], "next": None}
    assert schema.check(json.dumps(answer)) == {"name": "a", "children": [{"name": "b"}]}


def test_a_root_that_is_another_name_for_a_definition_is_sent_as_that_definition() -> None:
    schema = AnswerSchema.of({"$ref": "#/$defs/Node", "$defs": {"Node": an_object(next={"$ref": "#/$defs/Node"})}})
    assert sent(schema) == {
        "type": "object",
        "properties": {"next": {"$ref": "#"}},
        "required": ["next"],
        "additionalProperties": False,
    }


def test_in_a_choice_the_meant_branch_decides_which_nulls_are_removed() -> None:
    branches = [
        {"type": "object", "properties": {"a": {"type": "string"}, "x": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "string"}, "x": {"type": ["string", "null"]}}},
    ]
    schema = AnswerSchema.of(an_object(p={"anyOf": branches}))
    assert schema.strict
    assert schema.check('{"p": {"a": "1", "x": null}}') == {"p": {"a": "1"}}
    assert schema.check('{"p": {"b": "1", "x": null}}') == {"p": {"b": "1", "x": None}}


def test_the_digest_is_of_the_meaning_not_of_the_spelling_and_counts_the_order() -> None:
    """The service answers in the order of the properties, so another order is another request."""
    one, other = {"type": "string"}, {"type": "number"}
    digest = AnswerSchema.of(an_object(a=one, b=other)).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest == AnswerSchema.of(json.loads(json.dumps(an_object(a=one, b=other), indent=8))).digest
    assert digest != AnswerSchema.of(an_object(b=other, a=one)).digest
    assert digest != AnswerSchema.of(an_object(a=one, b=one)).digest


@pytest.mark.parametrize(
    ("title", "name"),
    [("Kassenbon für März!", "Kassenbon_f_r_M_rz"), ("x" * 99, "x" * 64), ("領収書", "answer"), ("", "answer")],
)
def test_the_name_is_made_of_the_title(title: str, name: str) -> None:
    schema = AnswerSchema.of(RECEIPT | {"title": title})
    assert sent(schema)
    assert schema.response_format["json_schema"]["name"] == name


# ---- What people paste -----------------------------------------------------------------------------------------------

CAT = an_object(name={"type": "string"}) | {"title": "Cat"}
NAMED: Json = {"name": "pet", "strict": True, "schema": CAT}


@pytest.mark.parametrize(
    "pasted",
    [
        {"type": "json_schema", "json_schema": NAMED},
        NAMED,
        {"type": "json_schema", **NAMED},
        {"response_format": {"type": "json_schema", "json_schema": NAMED}},
        {"model": "gpt-5", "messages": [], "response_format": {"type": "json_schema", "json_schema": NAMED}},
        {"model": "gpt-5", "text": {"format": {"type": "json_schema", **NAMED}}},
        {"type": "function", "function": {"name": "pet", "parameters": CAT, "strict": True}},
        {"type": "function", "name": "pet", "parameters": CAT},
        {"name": "pet", "input_schema": CAT},
        {"name": "pet", "inputSchema": CAT},
    ],
)
def test_a_schema_in_the_wrapper_of_a_request_or_a_tool_is_that_schema(pasted: Json) -> None:
    assert AnswerSchema.of(pasted) == AnswerSchema.of(CAT)


def test_the_wrappers_name_and_description_are_kept_where_the_schema_has_none() -> None:
    schema = AnswerSchema.of(
        {"name": "pet", "description": "What it is.", "schema": an_object(name={"type": "string"})}
    )
    assert schema.response_format["json_schema"]["name"] == "pet"
    assert sent(schema)["description"] == "What it is."


@pytest.mark.parametrize(
    ("nullable", "meant"),
    [
        ({"type": "string"}, {"type": ["string", "null"]}),
        ({"type": "string", "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"$ref": "#/$defs/a"}, {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}),
        (
            {"allOf": [{"$ref": "#/$defs/a"}], "description": "d"},
            {"anyOf": [{"allOf": [{"$ref": "#/$defs/a"}]}, {"type": "null"}], "description": "d"},
        ),
    ],
)
def test_openapis_nullable_is_understood(nullable: Json, meant: Json) -> None:
    rest = {"$defs": {"a": {"type": "string"}}}
    schema = AnswerSchema.of(an_object(p=nullable | {"nullable": True}) | rest)
    written_out = AnswerSchema.of(an_object(p=meant) | rest)
    assert sent(schema) == sent(written_out)
    assert schema.strict
    assert schema.check('{"p": null}') == {"p": None}
    assert AnswerSchema.of(an_object(p=nullable | {"nullable": False}) | rest) == AnswerSchema.of(
        an_object(p=nullable) | rest
    )


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
        r"^(?!^[-+.]*$)[+-]?0*(?:\d{0,8}|(?=[\d.]{1,11}0*$)\d{0,8}\.\d{0,2}0*$)",
    ],
)
def test_pydantics_decimals_are_understood(pattern: str) -> None:
    schema = AnswerSchema.of(an_object(p={"anyOf": [{"type": "number"}, {"type": "string", "pattern": pattern}]}))
    for value in (1.5, "1.50", "-3", ".5", "3."):
        assert schema.check(json.dumps({"p": value})) == {"p": value}
    for value in ("", "-", ".", "1,5", "EUR 1"):
        with pytest.raises(AnswerMismatch):
            schema.check(json.dumps({"p": value}))


def test_a_property_may_be_called_like_what_is_understood() -> None:
    names = ("nullable", "schema", "parameters", "name", "format", "$id", "id", "components")
    definition = an_object(**{name: {"type": "boolean"} for name in names})
    assert sent(AnswerSchema.of(definition)) == definition | {"additionalProperties": False}


def test_a_document_of_openapi_is_understood_with_a_reference_to_the_schema_that_is_meant() -> None:
    schemas = {"Pet": an_object(tag={"$ref": "#/components/schemas/Tag"}, more={}), "Tag": {"type": "string"}}
    document = {"openapi": "3.0.3", "paths": {}, "components": {"schemas": schemas}}
    with pytest.raises(InvalidSchema, match=r'add "\$ref": "#/components/schemas/<name>"'):
        AnswerSchema.of(document)
    schema = AnswerSchema.of(document | {"$ref": "#/components/schemas/Pet"})
    assert sent(schema) == schemas["Pet"] | {"components": {"schemas": schemas}}
    assert schema.check('{"tag": "x", "more": 1}')


@pytest.mark.parametrize("key", ["id", "$id"])
def test_ids_that_generators_write_change_no_reference(key: str) -> None:
    dialect = "http://json-schema.org/draft-04/schema#" if key == "id" else "http://json-schema.org/draft-07/schema#"
    referring = an_object(b={"$ref": "#/definitions/text"}) | {key: "http://x.org/part"}
    definition = an_object(a=referring) | {"definitions": {"text": {key: "/definitions/text", "type": "string"}}}
    schema = AnswerSchema.of(definition | {"$schema": dialect, key: "http://x.org/a"})
    assert schema.strict
    assert schema.check('{"a": {"b": "c"}}') == {"a": {"b": "c"}}
    with pytest.raises(AnswerMismatch):
        schema.check('{"a": {"b": 1}}')


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        (
            {"vendor": "Café Nord", "total": 10.9},
            'of an answer, not a schema: describe it, as in {"type": "object", "properties": {"vendor": {"type": "stri',
        ),
        ({"lines": [{"amount": 1}], "title": "x"}, '"properties": {"lines": {"type": "array"}, …}}'),
        ({"name": {"type": "string"}, "schema": {"type": "string"}}, 'properties: write {"type": "object"'),
        ({"function": CAT, "name": {"type": "string"}}, 'these are properties: write {"type": "object", "properties"'),
        ({"$defs": {"Cat": CAT}}, 'add "$ref": "#/$defs/Cat"'),
        ({"definitions": {"Cat": CAT}, "title": "x"}, 'add "$ref": "#/definitions/Cat"'),
        ({"name": "pet", "schema": {"type": "array", "items": CAT}}, "example of an answer"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "example of an answer"),
        ({"type": "OBJECT", "properties": {}}, "write one of array, boolean"),
    ],
)
def test_a_paste_that_is_not_an_objects_schema_is_named_for_what_it_is(pasted: Json, message: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        AnswerSchema.of(pasted)
    assert message in str(caught.value)


# ---- What is refused -------------------------------------------------------------------------------------------------


def nested(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def doubling(keyword: str, levels: int) -> Json:
    """A schema that unfolds to 2 ** levels."""
    chain = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return an_object(p={"$ref": "#/$defs/d0"}) | {"$defs": chain | {f"d{levels}": {"type": "string"}}}


ENDLESS: Json = {"type": "object"}
ENDLESS["properties"] = {"again": ENDLESS}
LAUGHS: Json = {"type": "string"}
for _ in range(20):
    LAUGHS = {"anyOf": [LAUGHS, LAUGHS]}


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("object", 'it must be a JSON object: write {"type": "object"'),
        (True, "it must be a JSON object"),
        ({}, 'the answer must be an object: write {"type": "object"'),
        ({"type": "array", "items": {}}, "the answer must be an object"),
        ({"anyOf": [{"type": "object"}]}, "the answer must be an object"),
        ({"type": "object", "properties": {"a": {"type": "strng"}}}, "at /properties/a/type: "),
        (
            {"type": "object", "properties": {"a": {"minLength": "x"}}},
            "at /properties/a/minLength: this is not a JSON Schema",
        ),
        ({"type": "object", "properties": {"a": {"pattern": "(?=a)"}}}, "at /properties/a/pattern: "),
        ({"type": "object", "properties": {"a": {"pattern": "(a{999}){999}"}}}, "write a simpler pattern"),
        ({"type": "object", "properties": {"a": {"pattern": "a?" * 2001}}}, "more than 4,000 characters"),
        ({"type": "object", "properties": {"a": {"pattern": r"\d" * 100}}}, "at /properties/a/pattern: the patterns"),
        ({"type": "object", "properties": {"a": {"pattern": "(?i)a"}}}, "write both cases, as in [Aa]"),
        ({"type": "object", "unevaluatedProperties": False}, 'write "additionalProperties"'),
        (an_object(a={"type": "number", "minimum": 0, "exclusiveMinimum": True}), 'instead of "minimum"'),
        (an_object(a={"type": "string", "required": True}), 'list the names of such properties, next to "properties"'),
        ({"type": "object", "properties": {"a/b": {"$ref": "http://x/y"}}}, "at /properties/a~1b/$ref: "),
        ({"type": "object", "properties": {"a": {"$ref": "#anchor"}}}, 'write "#/$defs/<name>"'),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/ä"}}}, 'there is no schema at "#/$defs/ä"'),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}, 'there is no schema at "#/$defs/x"'),
        ({"type": "object", "properties": {"a": {"$ref": "#/x"}}, "x": {"type": 5}}, "at /x/type: "),
        ({"type": "object", "properties": {"a": {"$dynamicRef": "#"}}}, 'write "$ref"'),
        ({"$ref": "#"}, "it refers to itself without going a level deeper"),
        (an_object(p={"anyOf": [{"$ref": "#/properties/p"}]}), "it refers to itself"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-03/schema#"}, "at /$schema: "),
        ({"type": "object", "$schema": 7}, "at /$schema: "),
        ({"type": "object", 1: {}}, 'the key 1 is a int: write it in quotes, "1"'),
        ({"type": "object", "const": date(2026, 1, 1)}, "at /const: 2026-01-01 is a date"),
        ({"type": "object", "minimum": math.nan}, "at /minimum: nan is not a JSON number"),
        ({"type": "object", "minimum": 10**5000}, "at /minimum: the number is too large"),
        ({"type": "object", "title": "\ud800"}, "at /title: a text holds half a surrogate pair"),
        ({"type": "object", "description": "x" * 70_000}, "it is larger than 64 KB"),
        (nested(40), "it is nested deeper than 64 levels"),
        (ENDLESS, "it is nested deeper than 64 levels"),
        (LAUGHS, "it holds more than 5,000 values"),
        (doubling("anyOf", 14), "may take more than 20,000 steps"),
        (an_object(**{"\x1b[2J" + "x" * 999: {"minLength": "x"}}), "at /properties/�[2Jxxx"),
        (doubling("allOf", 40), "more than 32 schemas stand for one value"),
    ],
)
def test_a_schema_that_can_not_be_used_is_refused_with_the_place_and_what_to_write(
    definition: Any, message: str
) -> None:
    start = perf_counter()
    with pytest.raises(InvalidSchema) as caught:
        AnswerSchema.of(definition)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
    assert perf_counter() - start < 5


ANYTHING = {"type": "object"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("Total: 3", "it is not JSON"),
        ('{"a": 1', "it is not JSON"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "is too large"),
        ('{"a": 1, "a": 2}', 'the property "a" is there more than once'),
        ('{"a": "\\ud83d"}', "it holds half a surrogate pair"),
        ('{"a": "\ud83d"}', "it holds half a surrogate pair"),
        ('{"a": ' + "[" * 100_000, "it is nested deeper than 64 levels"),
        ('{"a": ' + "[" * 80 + "]" * 80 + "}", "it is nested deeper than 64 levels"),
        ("[1]", "is not of type"),
        (" " * 2_000_001, "it is longer than"),
    ],
)
def test_an_answer_that_is_not_json_of_the_schema_is_a_mismatch(text: str, problem: str) -> None:
    with pytest.raises(AnswerMismatch) as caught:
        AnswerSchema.of(ANYTHING).check(text)
    assert problem in caught.value.problems[0]["problem"]
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '```\n{"a": 1}```\n', ' {"a": 1} '])
def test_a_fence_around_the_answer_is_removed_unless_the_schema_was_strict(text: str) -> None:
    assert AnswerSchema.of(ANYTHING).check(text) == {"a": 1}
    if "`" in text:
        with pytest.raises(AnswerMismatch):
            AnswerSchema.of(an_object(a={"type": "integer"})).check(text)


@pytest.mark.parametrize(
    ("constraint", "value"),
    [
        ({"type": "string", "format": "date"}, "2026-02-30"),
        ({"type": "string", "format": "date-time"}, "2026-02-03"),
        ({"type": "string", "format": "email"}, "nobody"),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "eur"),
        ({"type": "number", "minimum": 0}, -1),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [1, 1]),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 1),
    ],
)
def test_constraints_that_strict_mode_leaves_out_are_still_checked(constraint: Json, value: Any) -> None:
    schema = AnswerSchema.of(an_object(p=constraint))
    assert schema.strict
    with pytest.raises(AnswerMismatch) as caught:
        schema.check(json.dumps({"p": value}))
    assert caught.value.problems[0]["path"] == "/p"


def test_a_mismatch_in_a_choice_is_reported_for_the_branch_that_was_meant() -> None:
    schema = AnswerSchema.of(an_object(p={"anyOf": [an_object(a={"type": "string"}), {"type": "null"}]}))
    with pytest.raises(AnswerMismatch) as caught:
        schema.check('{"p": {"a": 1}}')
    assert caught.value.problems == [{"path": "/p/a", "problem": '1 is not of type "string"'}]


def test_at_most_ten_problems_are_reported_and_each_is_short() -> None:
    schema = AnswerSchema.of(an_object(p={"type": "array", "items": {"type": "integer"}}))
    with pytest.raises(AnswerMismatch) as caught:
        schema.check(json.dumps({"p": ["x" * 1000] * 1000} | {"y" * 1000: 1}))
    assert len(caught.value.problems) == 10
    assert len(str(caught.value)) < 1000
    assert all(len(problem["problem"]) <= 300 for problem in caught.value.problems)


def test_a_schema_that_doubles_the_work_with_every_level_is_checked_in_no_time() -> None:
    """Saying where it fails would take longer than the universe has; that it fails is said at once."""
    branch = an_object(a={"$ref": "#/$defs/T"})
    recursive = {"anyOf": [branch | {"minProperties": 1}, branch | {"maxProperties": 9}, {"type": "null"}]}
    schema = AnswerSchema.of(an_object(a={"$ref": "#/$defs/T"}) | {"$defs": {"T": recursive}})
    text = '{"a":' * 60 + "5" + "}" * 60
    start = perf_counter()
    with pytest.raises(AnswerMismatch, match="too recursive"):
        schema.check(text)
    assert perf_counter() - start < 5
    assert schema.check(text.replace("5", "null"))


def test_the_worst_answers_take_bounded_time() -> None:
    start = perf_counter()
    schema = AnswerSchema.of(an_object(p={"type": "array", "items": {"type": "string", "pattern": "^(a+)+$"}}))
    with pytest.raises(AnswerMismatch):
        schema.check(json.dumps({"p": ["a" * 100_000 + "!"] * 10}))
    with pytest.raises(AnswerMismatch):
        schema.check(json.dumps({"p": [1] * 400_000}))
    with pytest.raises(AnswerMismatch):
        schema.check("{" + ",".join(f'"{i % 99_999}":1' for i in range(100_000)) + "}")
    assert perf_counter() - start < 20


def test_no_schema_takes_much_time_or_memory_however_it_is_written() -> None:
    """In a process of its own, with answers that are as hard to check; ten of each are held at the same time."""
    program = [sys.executable, "-m", "support.hostile_schemas"]
    ran = subprocess.run(program, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    idle, *costs = map(json.loads, ran.stdout.splitlines())
    assert {cost["kind"] for cost in costs if max(cost["making"], cost["checking"]) > 1} == set()
    assert {cost["kind"] for cost in costs if cost["sent"] > 200_000} == set()
    assert costs[-1]["peak"] - idle["peak"] < 70_000_000


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", "2026-03-14"),
        (r"^(\+\d{1,3}[ -]?)?\(?\d{2,5}\)?([ -]?\d{2,4}){2,4}$", "+47 22 12 34 56"),
        (r"^[\p{L}\p{M}' -]+$", "Žofie Nováková"),
        (r"^.{1,255}$", "é" * 255),
        (r"^[A-Z]{2}\d{2}([ ]?[A-Z0-9]{4}){2,7}[ ]?[A-Z0-9]{1,4}$", "NO93 8601 1117 9471 0000 12"),
    ],
)
def test_patterns_as_people_write_them_are_checked_next_to_whole_pages_of_text(pattern: str, text: str) -> None:
    schema = AnswerSchema.of(an_object(p={"type": "string", "pattern": pattern}, page={"type": "string"}))
    page = "Lorem ipsum " * 700
    assert schema.check(json.dumps({"p": text, "page": page}))
    with pytest.raises(AnswerMismatch):
        schema.check(json.dumps({"p": "\n" * 300, "page": page}))


@pytest.mark.parametrize("keyword", ["$schema", "$id", "$ref"])
@pytest.mark.parametrize("place", ["root", "property", "definition"])
def test_nothing_is_ever_fetched(keyword: str, place: str) -> None:
    """The validator is not Python, so the network guard of these tests would not see it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        part = {keyword: f"http://127.0.0.1:{server.getsockname()[1]}/schema"}
        match place:
            case "root":
                definition = an_object(a={"type": "string"}) | part
            case "property":
                definition = an_object(a=part)
            case _:
                definition = an_object(a={"$ref": "#/x"}) | {"x": {"type": "string"} | part}
        outcome(definition, '{"a": "b"}')
        with pytest.raises(BlockingIOError):
            server.accept()


def test_importing_it_does_not_load_the_validator() -> None:
    """Most images are asked about without a schema, and an app has 30 seconds to start."""
    program = "import sys, pipeline.schemas; sys.exit('jsonschema_rs' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
