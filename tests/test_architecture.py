"""Dependencies go one way: function_app, use cases, pure core; adapters at the rim."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from person import ROOT

PACKAGES = ("pipeline", "blobsight", "localcloud")
NETWORK = {"azure", "openai", "httpx2", "aiohttp", "requests"}
ADAPTERS = {
    *("app", "model", "storage", "triggers", "upkeep"),
}
"""The modules of `pipeline` that know an SDK."""


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, but not those it names for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


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


def test_only_adapters_know_an_sdk() -> None:
    knowing = {
        path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
        for path in modules("pipeline")
        if {name.split(".")[0] for name in imports(path)} & NETWORK
    }
    assert knowing == ADAPTERS


def test_the_core_does_not_know_who_calls_it() -> None:
    for path in modules("pipeline"):
        if path.name not in ("app.py", "http_api.py"):
            assert not {"pipeline.app", "function_app"} & set(imports(path)), path


def test_every_download_asks_for_the_bytes_as_they_are_stored() -> None:
    """Content-Encoding is its uploader's remark: obeyed, a wrong one breaks the download, and a right one unpacks
    before any limit is looked at. No download may leave that to the SDK, whose default is to obey.
    """
    for path in [ROOT / "function_app.py", *(path for name in PACKAGES for path in modules(name))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "download_blob"}
        stored = {call.func for call in ast.walk(tree) if isinstance(call, ast.Call) and asks_for_stored(call)}
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
def test_the_rule_tells_them_apart(code: str, *, passes: bool) -> None:
    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert asks_for_stored(call) is passes


def test_names_of_blobs_are_made_printable_in_log_lines() -> None:
    """A line break in a name would forge a line, an escape sequence would reach a terminal."""
    bare = [
        f"{path.relative_to(ROOT)}:{argument.lineno}"
        for path in modules("pipeline")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
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
