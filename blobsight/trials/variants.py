"""Variants: the questions of a trial, each a combination of what a command's options list."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from itertools import product
from pathlib import Path
from typing import Any, Concatenate, get_args, override

import click
from pydantic import BaseModel, ConfigDict

from blobsight.terminal import Trouble, one_line, shortened
from pipeline.instructions.files import MAX_FILE_BYTES, InvalidFile, parse_file, parse_json
from pipeline.instructions.options import Options
from pipeline.instructions.plain_text import visible_text
from pipeline.names import schema_blob
from pipeline.schemas import AnswerSchema, InvalidSchema
from pipeline.settings import MOST_OUTPUT_TOKENS, Detail, ReasoningEffort, ServiceTier

MOST_VARIANTS = 16
"""More can't be compared side by side."""
_ID_DIGITS = 16
_LABEL = 40
"""Characters of instructions that stand for them."""


class Variant(BaseModel):
    """One question. `label` is for people: what sets it apart from the others."""

    model_config = ConfigDict(frozen=True)

    label: str
    instructions: str | None = None
    """None: what the app asks by itself."""
    options: Options = Options()
    settings: dict[str, str | int] = {}
    """What the app adds by its settings: with others it is another question."""

    @cached_property
    def id(self) -> str:
        """The same for the same question: 16 hexadecimal digits. The order of a schema's properties counts."""
        options = self.settings | self.options.model_dump(by_alias=True, exclude_none=True)
        question = {"instructions": self.instructions, "options": dict(sorted(options.items()))}
        return hashlib.sha256(json.dumps(question, separators=(",", ":")).encode()).hexdigest()[:_ID_DIGITS]


def chosen_variant(variants: Sequence[Variant], given: str | None) -> Variant:
    """The variant that a person means: by its number from 1, its label, or the start of its id.

    Raises:
        Trouble: none or several are meant.
    """
    if given is None and len(variants) == 1:
        return variants[0]
    found = [
        variant
        for number, variant in enumerate(variants, 1)
        if given is not None
        and (given in (str(number), variant.label) or (len(given) >= 4 and variant.id.startswith(given)))
    ]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{number} {shortened(variant.label, 60)}" for number, variant in enumerate(variants, 1))
    wrong = "Several variants are meant" if found else "There is no such variant"
    raise Trouble(
        f"{'Which variant?' if given is None else f'{wrong}: {shortened(given, 60)!r}.'} Give --variant with the number"
        f" of one: {listed}."
    )


class Deployment(click.ParamType[str]):
    """The name of a deployment."""

    name = "name"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail(f"'{one_line(value)}' is not UTF-8: correct it.", param, ctx)
        if not value:
            self.fail("it is empty: give a name.", param, ctx)
        return str(value)


class _Several(click.ParamType[Any]):
    """Values separated by commas."""

    def __init__(self, each: click.ParamType[Any]) -> None:
        self._each = each
        self.name = each.name

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            self.fail(f"{value!r} has an empty entry: write values such as a,b.", param, ctx)
        return tuple(self._each.convert(part, param, ctx) for part in parts)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("-i", "--instructions", "texts", multiple=True, metavar="TEXT", help="What to ask; can be repeated."),
    click.option(
        "--instructions-file",
        "files",
        multiple=True,
        metavar="FILE",
        type=_FILE,
        help="The same from a file, .md or .txt with optional front matter or .json; can be repeated.",
    ),
    click.option("--schema", metavar="FILE", type=_FILE, help="File with the JSON Schema of the answer."),
    click.option("--deployment", type=_Several(Deployment()), metavar="NAME,…", help="Deployments that answer."),
    click.option(
        "--detail",
        type=_Several(click.Choice(get_args(Detail.__value__))),
        metavar="low,high,…",
        help="How closely the model looks.",
    ),
    click.option(
        "--reasoning-effort",
        type=_Several(click.Choice(get_args(ReasoningEffort.__value__))),
        metavar="low,high,…",
        help="How long the model may think.",
    ),
    click.option(
        "--max-output-tokens",
        type=_Several(click.IntRange(1, MOST_OUTPUT_TOKENS)),
        metavar="N,…",
        help="Longest answer, in tokens.",
    ),
    click.option(
        "--service-tier",
        type=_Several(click.Choice(get_args(ServiceTier.__value__))),
        metavar="default,flex,…",
        help="How answers are bought.",
    ),
)
_LISTS = ("deployment", "detail", "reasoning_effort", "max_output_tokens", "service_tier")
_NAMES = ("texts", "files", "schema", *_LISTS)
_SAID = {
    "deployment": "{}",
    "detail": "detail {}",
    "reasoning_effort": "effort {}",
    "max_output_tokens": "{} tokens",
    "service_tier": "tier {}",
}
"""An option's value in a label."""


def variant_options[**P, R](command: Callable[Concatenate[tuple[Variant, ...], P], R]) -> Callable[P, R]:
    """Give a command the options that list variants. They reach it as a tuple of `Variant`, its first argument."""

    @wraps(command)
    def with_variants(*args: P.args, **options: P.kwargs) -> R:
        own = {name: value for name, value in options.items() if name not in _NAMES}
        return command(variants_given({name: options[name] for name in _NAMES}), *args, **own)  # type: ignore[arg-type] # by name

    given: Callable[P, R] = with_variants
    for option in reversed(_OPTIONS):
        given = option(given)
    return given


@dataclass(frozen=True, slots=True)
class Wording:
    """Instructions as a person gave them, with the options of their file."""

    label: str
    text: str | None
    options: Options = field(default_factory=Options)
    path: str = ""
    """Of its file, for a label where two files have the same name."""


def variants_given(given: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants that the options of a command list.

    Raises:
        click.UsageError: a file can't be used, two variants ask the same, or there are too many.
    """
    schema = _schema_in(given["schema"], "--schema") if given["schema"] else None
    wordings = [_of_text(text) for text in given["texts"]] + [_of_file(file, schema) for file in given["files"]]
    counts = Counter(wording.label for wording in wordings)
    wordings = [replace(one, label=one.path) if counts[one.label] > 1 and one.path else one for one in wordings]
    return variants_of(wordings, {name: given[name] or () for name in _LISTS}, schema)


def variants_of(
    wordings: Sequence[Wording], lists: Mapping[str, Sequence[Any]], schema: Mapping[str, Any] | None = None
) -> tuple[Variant, ...]:
    """Each wording with each combination of the values in `lists`, which are of options by their names.

    Raises:
        click.UsageError: two variants ask the same, or there are too many.
    """
    found: list[Variant] = []
    asked = list(wordings) or [Wording("", None)]
    for wording, *values in product(asked, *(lists[name] or (None,) for name in lists)):
        chosen = {name: value for name, value in zip(lists, values, strict=True) if value is not None}
        options = Options.model_validate(chosen | ({"schema": schema} if schema else {})).over(wording.options)
        told = [wording.label] if len(asked) > 1 else []
        told += [_SAID[name].format(value) for name, value in chosen.items() if len(lists[name]) > 1]
        label = ", ".join(told or [_SAID[name].format(value) for name, value in chosen.items()]) or "default"
        found.append(Variant(label=label, instructions=wording.text, options=options))
        if len(found) > MOST_VARIANTS:
            raise click.UsageError(f"These are more than {MOST_VARIANTS} variants: list fewer values.")
    return distinct(found)


def distinct(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The variants, each with a label of its own.

    Raises:
        click.UsageError: two of them ask the same.
    """
    found: dict[str, Variant] = {}
    labels: Counter[str] = Counter()
    for variant in variants:
        if same := found.get(variant.id):
            raise click.UsageError(f"Two variants ask the same, '{same.label}' and '{variant.label}': leave one out.")
        labels[variant.label] += 1
        alike = labels[variant.label]
        label = variant.label if alike == 1 else f"{variant.label} ({alike})"
        found[variant.id] = variant.model_copy(update={"label": label})  # which is no part of the id
    return tuple(found.values())


def _of_text(given: str) -> Wording:
    text = visible_text(given)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8: correct it.", param_hint="--instructions") from None
    if not text:
        raise click.BadParameter("it is empty: give a question.", param_hint="--instructions")
    return Wording(shortened(text, _LABEL), text)


def _of_file(file: Path, schema: Mapping[str, Any] | None) -> Wording:
    hint = "--instructions-file"
    try:
        parsed = parse_file(file.name, _start_of(file, hint))
    except InvalidFile as error:
        raise click.BadParameter(f"{file}: {error}.", param_hint=hint) from error
    options = parsed.options
    if isinstance(options.schema_, str) and schema is None:
        beside = file.parent / schema_blob(options.schema_)
        if not beside.is_file():
            raise click.BadParameter(
                f"{file} names the schema '{shortened(options.schema_, 60)}', which is not beside it: give the file"
                " with --schema.",
                param_hint=hint,
            )
        options = options.model_copy(update={"schema_": _schema_in(beside, hint)})
    elif isinstance(options.schema_, dict):
        _require_schema(options.schema_, file, hint)
    return Wording(shortened(file.name, _LABEL), parsed.text or None, options, one_line(str(file)))


def _start_of(file: Path, hint: str) -> bytes:
    """The bytes of a file, and if it is too large, one more than are read."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}.", param_hint=hint) from error


def _schema_in(file: Path, hint: str) -> dict[str, Any]:
    """The JSON Schema in a file, checked as the app checks it."""
    data = _start_of(file, hint)
    if len(data) > MAX_FILE_BYTES:
        raise click.BadParameter(f"{file} is larger than the {MAX_FILE_BYTES:,} bytes that are read.", param_hint=hint)
    try:
        definition = parse_json(data)
    except InvalidFile as error:
        raise click.BadParameter(f"{file}: {error}.", param_hint=hint) from error
    return _require_schema(definition, file, hint)


def _require_schema(definition: Any, file: Path, hint: str) -> dict[str, Any]:
    try:
        AnswerSchema.of(definition)
    except InvalidSchema as error:
        raise click.BadParameter(f"{file}: {error}", param_hint=hint) from error
    if not isinstance(definition, dict):
        raise click.BadParameter(f"{file} should hold an object: a JSON Schema.", param_hint=hint)
    return definition


def numbered(variants: Sequence[Variant]) -> Iterator[tuple[int, Variant]]:
    """The variants with the numbers that people see."""
    return enumerate(variants, 1)
