"""Writes the pages of docs/ that are generated from the code; tests/test_docs.py holds them up to date."""

import ast
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


import click  # noqa: E402 - after the path
from annotated_types import Ge, Le  # noqa: E402
from pydantic import AliasChoices, BaseModel  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

from blobsight.cli import blobsight  # noqa: E402
from pipeline import result  # noqa: E402
from pipeline.settings import DEFAULT_SYSTEM_PROMPT, Listed, ModelUrl, PollSeconds, ServiceUrl, Settings, StorageName  # noqa: E402

SETTINGS_HEAD = """# Settings

Generated from `pipeline/settings.py` by `make docs`.

The app reads its settings once, from the environment (in Azure: the function app's settings). A missing or wrong one
stops the start with one message that names every bad key. An empty value counts as unset. None of them is a secret.
"""

SETTINGS_TABLE_HEAD = """
| setting | default | allowed | what it does | example |
| --- | --- | --- | --- | --- |
"""


def settings_page() -> str:
    return SETTINGS_HEAD + "".join(_group(group) for group in reversed(Settings.__bases__))


def _group(group: type[BaseModel]) -> str:
    heading, _, text = " ".join((group.__doc__ or "").split()).partition(".")
    about = _docstrings(group)
    rows = "".join(_row(field, about.get(name, "")) for name, field in group.model_fields.items())
    return f"\n## {heading}\n{text and f'\n{text.strip()}\n'}{SETTINGS_TABLE_HEAD}{rows}"


def _docstrings(group: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a group's settings, by their names."""
    tree = next(node for node in ast.walk(ast.parse(inspect.getsource(group))) if isinstance(node, ast.ClassDef))
    return {
        setting.target.id: docstring.value.value
        for setting, docstring in pairwise(tree.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(docstring, ast.Expr)
        and isinstance(docstring.value, ast.Constant)
        and isinstance(docstring.value.value, str)
    }


def _row(field: FieldInfo, docstring: str) -> str:
    choices = field.validation_alias
    names = choices.choices if isinstance(choices, AliasChoices) else [field.alias]
    default = "**required**" if field.is_required() else "" if field.default is None else f"`{_shown(field.default)}`"
    about = " ".join(docstring.split())
    cells = [" or ".join(f"`{n}`" for n in names), default, _allowed(field), about, f"`{(field.examples or [''])[0]}`"]
    return f"| {' | '.join(cells)} |\n"


def _allowed(field: FieldInfo) -> str:
    """The values that `Settings` takes, as far as its types say; nothing for any text."""
    if text := _ALLOWED_TEXTS.get(str(field.annotation)):
        return text
    parts = get_args(field.annotation) if get_origin(field.annotation) in {Union, UnionType} else (field.annotation,)
    kind = next(part for part in parts if part is not NoneType)
    if get_origin(kind) is Listed:
        return "some of " + ", ".join(f"`{value}`" for value in get_args(get_args(kind)[0].__value__))
    kind = getattr(kind, "__value__", kind)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if kind is bool:
        return "`true`, `false`"
    if kind is int or kind is float:
        bounds = {type(bound): bound for bound in field.metadata}
        low, high = bounds.get(Ge), bounds.get(Le)
        least = f"{low.ge:,}" if low else "1" if kind is int else "above 0"
        return f"{least} to {high.le:,}" if high else f"{least} or more"
    return ""


_ALLOWED_TEXTS = {
    str(ServiceUrl): "an `https://` address; `http://` only of this machine",
    str(ModelUrl): "an `https://` address without a path, or with `/openai/v1`; `http://` only of this machine",
    str(StorageName | None): "3 to 63 lowercase letters, digits and single hyphens",
    str(StorageName): "3 to 63 lowercase letters, digits and single hyphens",
    str(PollSeconds): "a part of a minute, such as 20, or whole minutes that are a part of an hour, such as 300",
}


def _shown(default: object) -> str:
    if default == DEFAULT_SYSTEM_PROMPT:
        return f"{DEFAULT_SYSTEM_PROMPT[:40]}…"
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


COMMANDS_HEAD = """# Commands

Generated from the commands' own help by `make docs`. How they are used: [command-line.md](command-line.md).
"""


def commands_page() -> str:
    group = click.Context(blobsight, info_name="blobsight", **blobsight.context_settings)
    return COMMANDS_HEAD + "".join(_help(context) for context in _with_commands(group))


def _with_commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from _with_commands(click.Context(command, context, name))


def _help(context: click.Context) -> str:
    context.terminal_width = 100
    return f"\n## {context.command_path}\n\n```\n{context.command.get_help(context)}\n```\n"


FLOORS = (
    *("app", "composition"),
    *("triggers", "upkeep", "batches", "job", "model", "pacing", "storage"),
    "result",
    *("instructions", "documents", "images", "schemas"),
    *("telemetry", "settings", "names", "junk", "errors", "unpacking", "one_line"),
)
"""The rooms of `pipeline`, packages and modules, the top floor first."""


def architecture_page() -> str:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = page.partition("<!-- rooms -->\n")
    _, _, after = rest.partition("<!-- end of rooms -->\n")
    rows: list[str] = []
    for room in FLOORS:
        folder = ROOT / "pipeline" / room
        if folder.is_dir():
            rows.append(f"| **`{room}/`** | **{_first_line(folder / '__init__.py')}** |\n")
            rows += [_module(path) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        else:
            rows.append(_module(folder.with_suffix(".py")))
    table = "| in `pipeline/` | what it knows |\n| --- | --- |\n" + "".join(rows)
    return f"{before}<!-- rooms -->\n{table}<!-- end of rooms -->\n{after}"


def _module(path: Path) -> str:
    return f"| `{path.relative_to(ROOT / 'pipeline')}` | {_first_line(path)} |\n"


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


PAGES = {
    "architecture.md": architecture_page,
    "commands.md": commands_page,
    "result.schema.json": result.json_schema,
    "settings.md": settings_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
