"""The options that say what to ask, and their form as blob metadata."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, get_args

import click

from pipeline.instructions.files import InvalidFile, parse_file
from pipeline.instructions.metadata_text import decode_text
from pipeline.instructions.options import NAMES, Options
from pipeline.instructions.plain_text import visible_text
from pipeline.settings import MOST_OUTPUT_TOKENS, Detail, ServiceTier

MAX_METADATA_BYTES = 8 * 1024
"""Limit on all names and values of one blob together.
https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources"""


ASKING_KEYS = frozenset({"instructions", "instructions_b64", *NAMES})
"""The metadata keys that say what to ask."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller's question: its text, or None, and its options, which may all be empty."""

    text: str | None
    options: Options

    def __bool__(self) -> bool:
        return self.text is not None or self.options != Options()

    @property
    def is_another_question(self) -> bool:
        """Whether this changes what is asked, and not only how its answer is bought."""
        options = self.options.model_copy(update=dict.fromkeys(("service_tier", "tier_fallback", "flex_patience")))
        return self.text is not None or options != Options()

    def metadata(self) -> dict[str, str]:
        """Return the question as blob metadata: ASCII, so that it survives HTTP, and decoded by the pipeline unchanged.

        Raises:
            click.UsageError: it is too long for metadata, or an option is not ASCII.
        """
        given = self.options.model_dump(by_alias=True, exclude_none=True)
        metadata = {key: str(value).strip() for key, value in given.items()}
        for key, value in metadata.items():
            if not (value.isascii() and value.isprintable()):
                raise click.UsageError(
                    f"--{key.replace('_', '-')} {value!r} is not ASCII, and blob metadata is. Put it into the folder's"
                    " _instructions.md, as an option."
                )
        if self.text is not None:
            metadata |= _text_metadata(self.text)
        size = sum(len(key) + len(value) for key, value in metadata.items())
        if size > MAX_METADATA_BYTES:
            raise click.UsageError(
                f"The instructions take {size:,} bytes as metadata, and a blob's metadata holds {MAX_METADATA_BYTES:,}."
                " Put them into the folder as _instructions.md and upload that along with the images."
            )
        return metadata


def asking_options[**P, R](command: Callable[Concatenate[Asked, P], R]) -> Callable[P, R]:
    """Give a command the options that say what to ask. They reach it as an `Asked`, its first argument."""

    @wraps(command)
    def with_asked(*args: P.args, **options: P.kwargs) -> R:
        own = {name: value for name, value in options.items() if name not in ASKING_OPTIONS}
        return command(asked_as({name: options[name] for name in ASKING_OPTIONS}), *args, **own)  # type: ignore[arg-type] # by name

    given: Callable[P, R] = with_asked
    for option in reversed(_OPTIONS):
        given = option(given)
    return given


ASKING_OPTIONS = (
    "instructions",
    "instructions_file",
    "detail",
    "max_output_tokens",
    "reasoning_effort",
    "deployment",
    "service_tier",
    "schema",
)
_OPTIONS = (
    click.option("-i", "--instructions", metavar="TEXT", help="What to ask about each image."),
    click.option(
        "--instructions-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The same from a file: .md or .txt with optional front matter, or .json.",
    ),
    click.option("--detail", type=click.Choice(get_args(Detail.__value__)), help="How closely the model looks."),
    click.option("--max-output-tokens", type=click.IntRange(1, MOST_OUTPUT_TOKENS), help="Longest answer, in tokens."),
    click.option(
        "--reasoning-effort",
        type=click.Choice(["none", "minimal", "low", "medium", "high", "xhigh"]),
        help="How long the model may think.",
    ),
    click.option("--deployment", help="Deployment that answers.  [default: the app's]"),
    click.option(
        "--service-tier",
        type=click.Choice(get_args(ServiceTier.__value__)),
        help="How answers are bought: flex and batch cost half and take longer.",
    ),
    click.option("--schema", metavar="NAME", help="Blob in the input container with the JSON Schema of the answer."),
)


def asked_as(given: dict[str, Any]) -> Asked:
    """Return the question that options ask, by their names; each may be None.

    Raises:
        click.UsageError: they contradict each other, or one is wrong.
    """
    text, file = given.pop("instructions"), given.pop("instructions_file")
    options = Options.model_validate(given)
    if text is not None and file is not None:
        raise click.UsageError("--instructions and --instructions-file both say what to ask: give one of them.")
    if file is not None:
        try:
            parsed = parse_file(file.name, file.read_bytes())
        except InvalidFile as error:
            raise click.BadParameter(f"{file}: {error}.", param_hint="--instructions-file") from error
        except OSError as error:
            raise click.BadParameter(f"{file}: {error.strerror}.", param_hint="--instructions-file") from error
        if isinstance(parsed.options.schema_, dict):
            raise click.BadParameter(
                f"{file} holds a schema, and metadata can't. Put the file into the folder as _instructions.md and"
                " upload that along with the images.",
                param_hint="--instructions-file",
            )
        text, options = parsed.text or None, options.over(parsed.options)
    if text is not None and not (text := visible_text(text)):
        raise click.BadParameter("it is empty: give a question.", param_hint="--instructions")
    return Asked(text, options)


def _text_metadata(text: str) -> dict[str, str]:
    """The text as it is where the pipeline reads it back unchanged, otherwise in Base64."""
    plain = text.isascii() and text.isprintable() and decode_text(text) == text
    if plain:
        return {"instructions": text}
    return {"instructions_b64": base64.b64encode(text.encode()).decode()}
