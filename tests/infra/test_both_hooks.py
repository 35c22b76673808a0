"""The hook is written twice, for two shells, and does the same in both. What it does is tested where it can run."""

import re
from collections.abc import Iterator

import pytest
import tree_sitter_powershell
from person import ROOT
from tree_sitter import Language, Node, Parser

SH = (ROOT / "infra" / "hooks" / "postdeploy.sh").read_text(encoding="utf-8")
POWERSHELL = (ROOT / "infra" / "hooks" / "postdeploy.ps1").read_text(encoding="utf-8")

_PARSER = Parser(Language(tree_sitter_powershell.language()))


def problems(source: str) -> list[str]:
    """Where `source` is no PowerShell."""

    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    nodes = walk(_PARSER.parse(source.encode()).root_node)
    return [f"line {node.start_point.row + 1}" for node in nodes if node.is_error or node.is_missing]


def plain(script: str) -> str:
    """Without what is one shell's own: comments, quotes, continued lines, and how variables are written."""
    text = re.sub(r"^#.*\n", "", script, flags=re.MULTILINE)
    text = re.sub(r" [\\`]\n\s*", " ", text)
    return re.sub(r"\$\{?(?:env:)?(\w+)\}?", r"$\1", text).translate(str.maketrans("", "", "'\"`\\"))


def azure_calls(script: str) -> list[tuple[str, frozenset[str]]]:
    """Each call of the Azure CLI: its command, and its options with their values."""
    called = re.findall(
        r"\baz (account show|rest|deployment group create|resource show|resource delete)( .*)", plain(script)
    )
    return [(name, frozenset(re.findall(r"--[\w-]+ [^\s(;)]+|\b\w+=\$\w+", rest))) for name, rest in called]


def test_the_powershell_hook_is_powershell() -> None:
    assert problems(POWERSHELL) == []
    assert POWERSHELL.isascii(), "Windows reads a script without a byte-order mark in a code page of its own"


@pytest.mark.parametrize("loses", ["}", "{", "'webhook'", "(Test-Key)"])
def test_a_hook_that_loses_something_is_no_powershell(loses: str) -> None:
    assert problems(POWERSHELL.replace(loses, loses[1:], 1))


def test_both_call_azure_in_the_same_way() -> None:
    assert [name for name, _ in azure_calls(SH)] == [
        "account show",
        "rest",
        "deployment group create",
        "resource show",
        "resource delete",
    ]
    assert azure_calls(POWERSHELL) == azure_calls(SH)


def test_both_read_the_same_variables() -> None:
    variables = [set(re.findall(r"\b(?:AZURE|BLOBSIGHT)_[A-Z_]+\b", script)) for script in (SH, POWERSHELL)]
    assert variables[0] == variables[1]


def test_both_fail_with_the_same_words() -> None:
    said = [re.findall(r"\b(?:fail|Stop-Hook) (.+?)\s*$", plain(s), flags=re.MULTILINE) for s in (SH, POWERSHELL)]
    assert len(said[0]) == 7
    assert said[0] == said[1]
