"""All templates of infra/bicep, read."""

from collections.abc import Iterator

from support.bicep_source import Declaration, read
from support.person import ROOT

BICEP = ROOT / "infra" / "bicep"
FILES = sorted(BICEP.rglob("*.bicep"))
NAMES = [path.relative_to(BICEP).as_posix() for path in FILES]
TEMPLATES = {name: read(path) for name, path in zip(NAMES, FILES, strict=True)}


def source(name: str) -> str:
    text: str = (BICEP / name).read_text(encoding="utf-8")
    return text


def resources(kind: str) -> Iterator[Declaration]:
    """The resources of this type, in all templates."""
    return (each for template in TEMPLATES.values() for each in template.created(kind))


def module(symbol: str) -> Declaration:
    """The module of resources.bicep with this symbol."""
    (found,) = (each for each in TEMPLATES["resources.bicep"].modules if each.symbol == symbol)
    return found
