"""Dependencies go one way, down the floors of `pipeline`; SDKs are known at the rim alone."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from generate_docs import FLOORS
from support.examples import some_of
from support.person import ROOT

from pipeline import errors

PACKAGES = ("pipeline", "blobsight", "localcloud")


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it, but not those it names for type checkers only."""
    for_checkers = {
        inner
        for node in nodes(path)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import) and node not in for_checkers:
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node not in for_checkers:
            found.add(node.module)
    return found


def modules(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts]


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("pipeline", {"blobsight", "localcloud"}),
        ("localcloud", {"pipeline", "blobsight"}),
        ("blobsight", {"localcloud", "function_app"}),
    ],
)
def test_packages_keep_apart(package: str, others: set[str]) -> None:
    for path in modules(package):
        assert not {name.split(".")[0] for name in imports(path)} & others, path


SDKS = {
    "composition": {"azure.core", "azure.functions", "azure.identity", "azure.storage", "openai", "httpx2", "aiohttp"},
    "triggers": {"azure.functions"},
    "batches": {"azure.core", "azure.storage", "openai", "httpx2", "aiohttp"},
    "upkeep": {"azure.core", "azure.storage", "aiohttp"},
    "model": {"azure.core", "openai", "httpx2", "aiohttp"},
    "storage": {"azure.core", "azure.storage", "aiohttp"},
}
"""SDKs that a room may load; a room that is not listed loads none."""
KINDS = {"azure.core", "azure.functions", "azure.identity", "azure.storage", "openai", "httpx2", "aiohttp"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")


def test_every_room_has_its_floor_and_imports_only_those_below() -> None:
    assert {room_of(path) for path in modules("pipeline")} == {*FLOORS, "__init__"}
    for path in modules("pipeline"):
        for name in imports(path):
            package, _, rest = name.partition(".")
            room, here = rest.partition(".")[0], room_of(path)
            if package == "pipeline" and room and room != here:
                assert FLOORS.index(room) > FLOORS.index(here), f"{path} imports {name}"


def loaded_after(*rooms: str) -> dict[str, set[str]]:
    """The SDKs that a fresh interpreter has loaded after each of the rooms, which it imports in this order."""
    names = {
        room: [
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for path in modules("pipeline")
            if room_of(path) == room
        ]
        for room in rooms
    }
    program = (
        "import sys, importlib\n"
        f"for room, names in {names}.items():\n"
        "    for name in names: importlib.import_module(name)\n"
        "    print(room, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {room: set(loaded) & KINDS for room, *loaded in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("room", some_of([room for room, sdks in SDKS.items() if sdks < KINDS]))
def test_a_room_loads_only_the_sdk_that_it_is_about(room: str) -> None:
    assert loaded_after(room)[room] <= SDKS[room]


def test_the_other_rooms_load_no_sdk() -> None:
    """All in one interpreter: the first that has loaded one is to blame."""
    rooms = [room for room in FLOORS[1:] if room not in SDKS]
    assert loaded_after(*rooms) == {room: set() for room in rooms}


def test_every_download_asks_for_the_bytes_as_they_are_stored() -> None:
    """Content-Encoding is its uploader's remark: obeyed, a wrong one breaks the download, and a right one unpacks
    before any limit is looked at. No download may leave that to the SDK, whose default is to obey.
    """
    for path in [ROOT / "function_app.py", *(path for name in PACKAGES for path in modules(name))]:
        named = {node for node in nodes(path) if isinstance(node, ast.Attribute) and node.attr == "download_blob"}
        stored = {call.func for call in nodes(path) if isinstance(call, ast.Call) and asks_for_stored(call)}
        assert named <= stored, [f"{path}:{node.lineno}" for node in named - stored]


def asks_for_stored(call: ast.Call) -> bool:
    """Whether it passes `decompress=False`, in so many words."""
    return any(
        argument.arg == "decompress" and isinstance(argument.value, ast.Constant) and argument.value.value is False
        for argument in call.keywords
    )


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("await blob.download_blob(decompress=False)", True),
        ("await blob.download_blob()", False),
        ("await blob.download_blob(decompress=True)", False),
        ("await blob.download_blob(decompress=not None)", False),
        ("await blob.download_blob(**options)", False),
    ],
)
def test_the_rule_finds_downloads_that_decode(code: str, *, passes: bool) -> None:
    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert asks_for_stored(call) is passes


def test_names_of_blobs_are_made_printable_in_log_lines() -> None:
    """A line break in a name would forge a line, an escape sequence would reach a terminal."""
    bare = [
        f"{path.relative_to(ROOT)}:{argument.lineno}"
        for path in modules("pipeline")
        for call in nodes(path)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "logger"
        for argument in call.args[1:]
        if (isinstance(argument, ast.Attribute) and argument.attr in ("name", "container", "_target"))
        or (isinstance(argument, ast.Name) and argument.id in ("name", "container", "blob"))
    ]
    assert bare == []


def test_the_tool_reads_blobs_in_one_place() -> None:
    """So that limits, Content-Encoding and answers that make no sense are dealt with once."""
    knowing = {path.name for path in modules("blobsight") if "download_blob" in path.read_text(encoding="utf-8")}
    assert knowing == {"reading.py"}


def test_no_test_module_imports_another() -> None:
    """Shared helpers are in tests/support."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        named = set(
            re.findall(r"\btest_\w+", path.read_text(encoding="utf-8"))
        )  # most name none: no need to parse them
        assert not (tests & named and tests & imports(path)), path


def test_the_tree_of_failures_is_whole() -> None:
    """As `pipeline.errors` draws it."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules("pipeline")]
    for name in names:
        importlib.import_module(name.removesuffix(".__init__"))

    def below(kind: type[errors.Failure]) -> Iterator[str]:
        for child in kind.__subclasses__():
            yield child.__name__
            yield from below(child)

    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(below(errors.Failure))
