"""Dependencies go one way: function_app, use cases, pure core; adapters at the rim."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from person import ROOT

NETWORK = {"azure", "openai", "httpx2", "aiohttp", "requests"}
ADAPTERS = {
    *("app", "claims", "dead_letters", "http_api", "listing", "model", "readiness", "requests", "storage"),
    *("storage_errors", "upkeep", "waiting"),
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
