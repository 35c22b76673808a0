"""A variant as an instruction file, so that a folder is asked what was tried."""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from blobsight.account import Place, service_code
from blobsight.reading import properties_of
from blobsight.running import run
from blobsight.terminal import Trouble, one_line
from blobsight.trials.variants import Variant
from blobsight.whole_files import replacing
from pipeline.instructions.files import InvalidFile, parse_file

NAME = "_instructions.md"
OTHERS = ("_instructions.txt", "_instructions.json")
"""They count beside `NAME`, so a folder may have none of them."""
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
"""What JSON may hold as it is, and YAML has to escape."""


def instruction_file(variant: Variant) -> bytes:
    """The content of `_instructions.md` that asks exactly what the variant asks.

    Raises:
        Trouble: no such file can.
    """
    options = variant.options.model_dump(by_alias=True, exclude_none=True)
    text = variant.instructions or ""
    front = "".join(f"{name}: {_value(value)}\n" for name, value in options.items())
    # A text alone needs no fences, unless it begins like options, or like a web page.
    forms = [f"{text}\n"] * (not options) + [f"---\n{front}---\n{text}\n"]
    problem = "it would be read as another one"
    for form in forms:
        data = form.encode()
        try:
            back = parse_file(NAME, data)
        except InvalidFile as error:
            problem = str(error)
        else:
            if (back.text or None, back.options) == (variant.instructions, variant.options):
                return data
    raise Trouble(f"The question can't be written as an instruction file: {problem}.")


def _value(value: object) -> str:
    """JSON that is YAML, too; what has members goes on lines of its own, indented."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) else None)
    escaped = _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return escaped.replace("\n", "\n  ")


# Where it goes.


def into_folder(folder: Path, data: bytes, what: str, *, yes: bool) -> str | None:
    """Write the file, and return its path; None if the person does not want it replaced."""
    if not folder.is_dir():
        raise Trouble(f"There is no folder '{folder}': create it first.")
    _require_alone(str(folder), [other for other in OTHERS if (folder / other).exists()])
    path = folder / NAME
    with _written(str(path)):
        if os.path.lexists(path):
            _require_own(path)
            if path.read_bytes() == data:
                return str(path)
            if not _may_replace(str(path), what, yes=yes):
                return None
        with replacing(path) as partial:
            partial.write_bytes(data)
    return str(path)


def _require_own(path: Path) -> None:
    """Check that writing `path` changes no other file: the folder may be another person's, with a link in it."""
    if path.is_symlink() or not path.is_file():
        what = f"a link to '{os.path.realpath(path)}'" if path.is_symlink() else "not a regular file"
        raise Trouble(f"{one_line(str(path))} is {one_line(what)}: remove it first.")


@contextmanager
def _written(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble(f"{path} can't be written: {error.strerror or error}.") from error


def _require_alone(where: str, others: Sequence[str]) -> None:
    if others:
        raise Trouble(
            f"'{one_line(where)}' has {' and '.join(others)}, whose options would count as well: remove"
            f" {'it' if len(others) == 1 else 'them'} first."
        )


def _may_replace(path: str, what: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Trouble(f"There is a {one_line(path)} already: give --yes to replace it.")
    return click.confirm(f"Replace {one_line(path)} by {what}?", err=True)


def into_container(  # noqa: PLR0913 - where, and what
    place: Place, container: str, prefix: str, data: bytes, what: str, *, yes: bool
) -> str | None:
    """Write the blob, and return where; None if the person does not want it replaced."""
    folder = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    path = f"{container}/{folder}{NAME}"
    etag = run(_there(place, container, folder))
    if etag and not _may_replace(path, what, yes=yes):
        return None
    run(_put(place, container, f"{folder}{NAME}", data, etag))
    return path


async def _there(place: Place, container: str, folder: str) -> str | None:
    """The ETag of the file that is there."""
    async with place.opened() as account:
        client = account.blobs.get_container_client(container)
        try:
            others = [other for other in OTHERS if await properties_of(client, folder + other)]
            found = await properties_of(client, folder + NAME)
        except ResourceNotFoundError as error:
            raise Trouble(f"The account has no container '{container}'.", service_code(error)) from error
    _require_alone(f"{container}/{folder}", others)
    return found.etag if found else None


async def _put(place: Place, container: str, name: str, data: bytes, etag: str | None) -> None:
    async with place.opened() as account:
        client = account.blobs.get_container_client(container)
        condition: dict[str, Any] = (
            {"etag": etag, "match_condition": MatchConditions.IfNotModified}
            if etag
            else {"match_condition": MatchConditions.IfMissing}
        )
        try:
            await client.upload_blob(name, data, overwrite=True, **condition)
        except (ResourceExistsError, ResourceModifiedError) as error:
            raise Trouble(f"Another program has written {container}/{name} meanwhile: run it again.") from error
