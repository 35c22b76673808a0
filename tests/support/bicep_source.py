"""A Bicep file as data, read with tree-sitter: Bicep's own compiler is a download that tests do without.

It reads declarations and literals. An expression stays the text it is.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))


class Expression(str):
    """A value that is computed; its source."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    type: str
    default: Any
    """None for none."""
    decorators: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A resource or a module, as many of it as its loop makes."""

    symbol: str
    source: str
    """A module's file; a resource's type, with its API version."""
    existing: bool
    condition: str | None
    body: Mapping[str, Any]

    @property
    def type(self) -> str:
        return self.source.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Template:
    scope: str
    parameters: Mapping[str, Parameter]
    variables: Mapping[str, Any]
    resources: tuple[Declaration, ...]
    modules: tuple[Declaration, ...]
    outputs: Mapping[str, Any]

    def resource(self, symbol: str) -> Mapping[str, Any]:
        return next(each.body for each in self.resources if each.symbol == symbol)

    def created(self, kind: str) -> list[Declaration]:
        return [each for each in self.resources if each.type == kind and not each.existing]


def problems(source: str) -> list[str]:
    """Where `source` is not Bicep; empty when it is."""
    return [
        f"line {node.start_point.row + 1}: {node.type} {_text(node)[:60]!r}"
        for node in _walk(_PARSER.parse(source.encode()).root_node)
        if node.is_error or node.is_missing
    ]


def read(path: Path) -> Template:
    """The template in the file `path`.

    Raises:
        SyntaxError: it is not Bicep.
    """
    source = path.read_text(encoding="utf-8")
    if found := problems(source):
        raise SyntaxError(f"{path}: {'; '.join(found)}")
    scope = "resourceGroup"
    parameters: dict[str, Parameter] = {}
    variables: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    declarations: dict[str, list[Declaration]] = {"resource_declaration": [], "module_declaration": []}
    decorators: dict[str, tuple[Any, ...]] = {}
    for node in _named(_PARSER.parse(source.encode()).root_node):
        parts = _named(node)
        match node.type:
            case "decorators":
                decorators = dict(map(_decorator, parts))
                continue
            case "target_scope_assignment":
                scope = str(_value(parts[-1]))
            case "parameter_declaration":
                default = _value(parts[2]) if len(parts) > 2 else None
                parameters[_text(parts[0])] = Parameter(_text(parts[1]), default, decorators)
            case "variable_declaration":
                variables[_text(parts[0])] = _value(parts[-1])
            case "output_declaration":
                outputs[_text(parts[0])] = _value(parts[-1])
            case "resource_declaration" | "module_declaration":
                declarations[node.type].append(_declaration(node))
        decorators = {}
    return Template(
        scope,
        parameters,
        variables,
        tuple(declarations["resource_declaration"]),
        tuple(declarations["module_declaration"]),
        outputs,
    )


def union(call: Expression) -> list[Any]:
    """The parts of a call of union: objects as such, everything else as it is written."""
    (declaration,) = _named(_PARSER.parse(f"var call = {call}".encode()).root_node)
    arguments = [node for node in _named(_named(_named(declaration)[-1])[-1]) if node.type != "comment"]
    return [_value(node) if node.type == "object" else _text(node) for node in arguments]


def needless_dependencies(source: str) -> list[str]:
    """Entries of dependsOn that follow from what a declaration uses anyway: Bicep's rule no-unnecessary-dependson.

    Like the rule it follows uses through variables and other declarations, and leaves loops alone.
    """
    kinds = {"variable_declaration", "resource_declaration", "module_declaration"}
    nodes = [node for node in _named(_PARSER.parse(source.encode()).root_node) if node.type in kinds]
    declared = {_text(_named(node)[0]): node for node in nodes}
    uses = {symbol: set(_uses(node)) & set(declared) - {symbol} for symbol, node in declared.items()}
    found = []
    for symbol, node in declared.items():
        reached: set[str] = set()
        ahead = uses[symbol]
        while ahead:
            reached |= ahead
            ahead = set().union(*(uses[each] for each in ahead)) - reached
        for each in _walk(node):
            if _is_depends_on(each):
                entries = [_text(entry) for entry in _named(_named(each)[1])]
                found += [
                    f"{symbol}: {entry}"
                    for entry in entries
                    if entry in reached and not any(part.type == "for_statement" for part in _named(declared[entry]))
                ]
    return found


def _is_depends_on(node: Node) -> bool:
    return node.type == "object_property" and _text(_named(node)[0]) == "dependsOn"


def _uses(node: Node) -> Iterator[str]:
    """The names that an expression stands on, those of its dependsOn left out."""
    if node.type == "identifier":
        yield _text(node)
    elif not _is_depends_on(node):
        for child in _named(node)[1:] if node.type == "object_property" else _named(node):
            yield from _uses(child)


def _declaration(node: Node) -> Declaration:
    symbol, source, body = _named(node)[:3]
    condition = None
    while body.type in {"for_statement", "if_statement", "array"}:
        if body.type == "if_statement":
            condition = _text(_named(body)[0])
        body = _named(body)[-1]
    existing = any(child.type == "existing" for child in node.children)
    return Declaration(_text(symbol), str(_value(source)), existing, condition, _value(body))


def _decorator(node: Node) -> tuple[str, tuple[Any, ...]]:
    call = _named(node)[0]
    function, *arguments = _named(call)
    return _text(function), tuple(_value(each) for group in arguments for each in _named(group))


def _value(node: Node) -> Any:
    match node.type:
        case "string":
            return _text(node).strip("'")
        case "number" | "boolean" | "null":
            return json.loads(_text(node))
        case "array":
            return [_value(each) for each in _named(node)]
        case "object":
            pairs = (_named(each) for each in _named(node))
            return {str(_value(pair[0])): _value(pair[-1]) for pair in pairs}
        case _:
            return Expression(_text(node))


def _named(node: Node) -> list[Node]:
    return [child for child in node.named_children if child.type not in {"comment", "diagnostic_comment"}]


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)
