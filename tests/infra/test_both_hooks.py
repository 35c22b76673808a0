"""Each hook is written twice, for two shells, and does the same in both. What it does is tested where it can run."""

import re
from collections.abc import Iterator

import pytest
import tree_sitter_powershell
from support.person import ROOT
from tree_sitter import Language, Node, Parser

HOOKS = ROOT / "infra" / "hooks"
NAMES = ["predeploy", "postdeploy"]
SH = {name: (HOOKS / f"{name}.sh").read_text(encoding="utf-8") for name in NAMES}
POWERSHELL = {name: (HOOKS / f"{name}.ps1").read_text(encoding="utf-8") for name in NAMES}

_PARSER = Parser(Language(tree_sitter_powershell.language()))


def problems(source: str) -> list[str]:
    """Where `source` is not PowerShell."""

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
        r"\baz (account show|rest|storage blob \w+|deployment group create|resource show|resource delete)( .*)",
        plain(script),
    )
    return sorted(
        (name, frozenset(re.findall(r"--[\w-]+ [^\s(;)|]+|\b\w+=\$\w+", re.sub(r"\$Delivery\b", "$1", rest))))
        for name, rest in called
    )


def test_all_hooks_are_written_twice() -> None:
    assert {path.name for path in HOOKS.iterdir()} == {f"{name}.{ending}" for name in NAMES for ending in ("sh", "ps1")}


@pytest.mark.parametrize("name", NAMES)
def test_the_powershell_hook_is_powershell(name: str) -> None:
    assert problems(POWERSHELL[name]) == []
    assert POWERSHELL[name].isascii(), "Windows reads a script without a byte-order mark in a code page of its own"


@pytest.mark.parametrize("loses", ["}", "{", "'webhook'", "(Test-Key)"])
def test_a_hook_that_loses_a_character_is_not_powershell(loses: str) -> None:
    assert problems(POWERSHELL["postdeploy"].replace(loses, loses[1:], 1))


@pytest.mark.parametrize("name", NAMES)
def test_both_shells_make_the_same_azure_calls(name: str) -> None:
    assert len(azure_calls(SH[name])) == {"predeploy": 3, "postdeploy": 6}[name]
    assert azure_calls(POWERSHELL[name]) == azure_calls(SH[name])


@pytest.mark.parametrize("name", NAMES)
def test_both_read_the_same_variables(name: str) -> None:
    variables = [set(re.findall(r"\b(?:AZURE|BLOBSIGHT)_[A-Z_]+\b", script[name])) for script in (SH, POWERSHELL)]
    assert variables[0] == variables[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_says_how_long_they_wait(name: str) -> None:
    """docs/deploy.md: five minutes before the code is deployed, ten for its start, twenty for its roles."""
    looks = re.search(r"BLOBSIGHT_HOOK_ATTEMPTS:-(\d+)", SH[name])
    pause = re.search(r"BLOBSIGHT_HOOK_PAUSE_SECONDS:-(\d+)", SH[name])
    assert looks
    assert pause
    for value in (looks[1], pause[1]):
        assert f"}} else {{ {value} }}" in POWERSHELL[name]
    minutes = int(looks[1]) * int(pause[1]) / 60
    assert minutes == {"predeploy": 5, "postdeploy": 10}[name]
    assert int(pause[1]) == 10
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert "a line every ten seconds" in page
    assert (
        "at most five minutes before the code is deployed, and after it up to ten for the app's start and twenty"
        in page
    )


_SAYING = re.compile(
    r"""(?:\b(?:fail|echo|Stop-Hook|Write-Host|Write-Warning)\ |Error\.WriteLine\(|\bwhy\ ?=\ ?)
        (["'])(?P<words>.*)\1""",
    re.VERBOSE,
)


def said(script: str) -> set[str]:
    """The messages for people, without a shell's variables and quotes."""
    lines = (_SAYING.search(line) for line in script.splitlines())
    return {re.sub(r"env:|script:|[\\`${}()]", "", line["words"]) for line in lines if line}


@pytest.mark.parametrize("name", NAMES)
def test_both_shells_print_the_same_messages(name: str) -> None:
    sh, powershell = said(SH[name]), said(POWERSHELL[name])
    computed = {words for words in sh | powershell if words.startswith(("error: ", "the app reports: "))}
    assert sh - computed == powershell - computed
    assert len(sh) > 7
