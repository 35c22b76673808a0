"""Schemas that are small to write and could be large or slow to compile, to check or to send; and what each costs.

python tests/hostile_schemas.py     a line of JSON for each
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.schemas import AnswerMismatch, AnswerSchema, InvalidSchema

type Json = dict[str, Any]

COPIES = 10
STRING: Json = {"type": "string"}


def an_object(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def rows(items: Any) -> Json:
    return an_object(a={"type": "array", "items": items})


def patterns(*patterns: str) -> Json:
    return an_object(**{f"p{n}": {"type": "string", "pattern": pattern} for n, pattern in enumerate(patterns)})


def chained(part: Json, levels: int, end: Json) -> Json:
    """Definitions of which each refers to the next in the place of the `$ref`s of `part`."""
    text = json.dumps(part)
    chain = {f"d{n}": json.loads(text.replace("NEXT", f"#/$defs/d{n + 1}")) for n in range(levels)}
    return an_object(p={"$ref": "#/$defs/d0"}) | {"$defs": chain | {f"d{levels}": end}}


def nested(part: Json, keyword: str, levels: int) -> Json:
    schema = part
    for _ in range(levels):
        schema = part | {keyword: [schema]}
    return {"type": "object"} | schema


LETTERS = "".join(f"[{chr(97 + n % 26)}{chr(65 + n * 7 % 26)}{n % 10}]" for n in range(700))
WIDE = an_object(**{f"c{n}": {"type": "integer"} for n in range(20)})
TREE = an_object(a={"$ref": "#/$defs/T"})
BRANCHES = {"anyOf": [TREE | {"minProperties": 1}, TREE | {"maxProperties": 9}, {"type": "null"}]}
HUGE = "0123456789" * 10

KINDS: dict[str, tuple[Json, Any]] = {
    # a schema, and an answer that is hard to check against it
    "repetitions": (patterns(*(f"[a-z]{{9000}}x{n}" for n in range(50))), {}),
    "repetitions that fit": (patterns(*(f"^[a-z]{{{n}}}x$" for n in range(99))), {"p90": "a" * 90 + "x"}),
    "repeated repetitions": (patterns("(((a{99}){99}){99}){99}"), {}),
    "repetitions of nothing": (patterns("(?:){4294967295}" * 50), {}),
    "classes": (patterns(r"\S" * 4000), {}),
    "Unicode classes": (patterns(r"\p{L}" * 700), {}),
    "classes in either case": (patterns("(?i)" + "[Ā-\U000fffff]" * 400), {}),
    "groups in one pass": (patterns(*(f"^({LETTERS[n * 5 : n * 5 + 90]})$" for n in range(39))), {}),
    "alternatives": (patterns("|".join(chr(0x4E00 + n) for n in range(1900))), {}),
    "a state for each bit": (patterns("^[01]*1[01]{3000}$"), {"p0": "01101000" * 40_000}),
    "optional repetitions": (patterns("(?:a?){900}a{900}"), {"p0": "a" * 300_000}),
    "a pattern many times": (
        an_object(p={"allOf": [{"$ref": "#/$defs/a"}] * 900}) | {"$defs": {"a": {"pattern": "^[01]*1[01]{99}$"}}},
        {"p": "01101000" * 40_000},
    ),
    "patterns of names": (
        {"type": "object", "patternProperties": {f"[a-z]{n}$": {} for n in range(400)}},
        {f"{n}{HUGE}": 1 for n in range(4000)},
    ),
    "empty schemas": ({"type": "object", "properties": {f"{n:x}": {} for n in range(4900)}}, {}),
    "choices": (an_object(a={"anyOf": [{} for _ in range(4900)]}), {"a": 1}),
    "items": (an_object(a={"prefixItems": [{}] * 4900}), {"a": [1] * 100_000}),
    "listed values": (rows({"enum": [[n] for n in range(2400)]}), {"a": [[2399]] * 20_000}),
    "names that depend": (
        rows({"dependentRequired": {f"{n:x}": [] for n in range(4900)}}),
        {"a": [{"x": 1}] * 20_000},
    ),
    "required names": (rows(WIDE), {"a": [{}] * 20_000}),
    "failing choices": (rows({"anyOf": [{"type": "integer", "minimum": n} for n in range(99)]}), {"a": ["x"] * 3000}),
    "long texts in choices": (
        rows({"anyOf": [{"type": "integer", "minimum": n} for n in range(99)]}),
        {"a": ["x" * 10_000] * 150},
    ),
    "tiny fractions": (rows({"multipleOf": 1e-300}), {"a": [1e300] * 100_000}),
    "references to one": (
        {"type": "object", "properties": {f"p{n}": {"$ref": "#/$defs/a"} for n in range(1600)}, "$defs": {"a": WIDE}},
        {f"p{n}": {} for n in range(1600)},
    ),
    "references that double": (chained({"anyOf": [{"$ref": "NEXT"}] * 2}, 13, STRING), {"p": 1}),
    "references that double by level": (chained(an_object(a={"$ref": "NEXT"}, b={"$ref": "NEXT"}), 13, STRING), {}),
    "references to each other": (
        an_object(a={"$ref": "#/$defs/0"})
        | {"$defs": {f"{n}": an_object(**{f"x{m}": {"$ref": f"#/$defs/{m}"} for m in range(20)}) for n in range(20)}},
        {"a": {}},
    ),
    "recursive choices": (
        TREE | {"$defs": {"T": BRANCHES}},
        json.loads('{"a":' * 60 + "5" + "}" * 60),
    ),
    "what is left over": (nested({"unevaluatedProperties": False}, "allOf", 20), {"a": 1}),
    "items that are left over": (an_object(a=nested({"unevaluatedItems": False}, "allOf", 20)), {"a": [1]}),
    "nested conditions": (
        an_object(a=json.loads('{"if": {"minLength": 1}, "then": ' * 29 + "{}" + "}" * 29)),
        {"a": "x"},
    ),
    "a long text referred to": (
        an_object(**{f"p{n}": {"$ref": "#/$defs/a", "description": "d"} for n in range(95)})
        | {"$defs": {"a": {"type": "object", "properties": {"q": STRING | {"description": "y" * 50_000}}}}},
        {},
    ),
    "long texts referred to by level": (
        chained(
            an_object(**{f"q{n}": {"$ref": "NEXT", "description": "d"} for n in range(19)}),
            3,
            STRING | {"description": "y" * 30_000},
        ),
        {},
    ),
    "unique": (rows({"type": "array", "uniqueItems": True}), {"a": [[[n] for n in range(300)] for _ in range(300)]}),
    "nullable": (
        {"type": "object", "properties": {f"p{n}": {"nullable": True, "anyOf": [STRING]} for n in range(900)}},
        {},
    ),
}


def costs() -> Iterator[Json]:
    """Seconds of processor time to make one and to check an answer, and the characters that are sent, of each kind.

    `COPIES` of a kind are held at the same time. `peak` is the most bytes that this process has held so far.
    """
    for kind, (definition, answer) in KINDS.items():
        text, answered = json.dumps(definition, ensure_ascii=False), json.dumps(answer)
        making, checking, made, said = [], [], [], ""
        for _ in range(COPIES):
            start = process_time()
            try:
                made.append(AnswerSchema.of(json.loads(text)))
            except InvalidSchema as error:
                said = str(error)
            making.append(process_time() - start)
        for schema in made[:2]:
            start = process_time()
            try:
                schema.check(answered)
            except AnswerMismatch as mismatch:
                said = str(mismatch)
            checking.append(process_time() - start)
        yield {
            "kind": kind,
            "written": len(text),
            "sent": len(json.dumps(made[0].response_format)) if made else 0,
            "making": min(making),
            "checking": min(checking, default=0),
            "peak": _peak(),
            "said": said,
        }


def _peak() -> int:
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    for line in ({"kind": "idle", "peak": _peak()}, *costs()):
        sys.stdout.write(json.dumps(line) + "\n")
