"""Write a file as a whole: under its own name is the new one or the previous, never a part."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import click


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, which replaces it if the context ends without an error.

    Raises:
        OSError: the folder can't be written to.
    """
    path = path.resolve()  # a symbolic link stays one
    partial = path.with_name(f".blobsight-{secrets.token_hex(8)}.part")
    try:
        partial.touch(exist_ok=False)
        yield partial
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def spool(path: Path) -> IO[str]:
    """A temporary file for text, beside `path`."""
    return TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="\n", dir=path.parent)


def check_output(path: Path, endings: Sequence[str]) -> None:
    """Check that a file can be written as `path`, before any work.

    Raises:
        click.BadParameter: it has none of the `endings`, or no file can be there.
    """
    if path.suffix.lower() not in endings:
        raise click.BadParameter(f"'{path}' has no known format: end it in one of {', '.join(endings)}.")
    try:
        exists = path.exists()
    except OSError as error:
        raise click.BadParameter(f"'{path}' can't be a file's name ({error.strerror}): give another.") from error
    if path.is_dir():
        raise click.BadParameter(f"'{path}' is a folder: give the name of a file in it.")
    if exists and not path.is_file():
        raise click.BadParameter(f"'{path}' is not a regular file: leave out -o to write to a pipe.")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder '{path.absolute().parent}' does not exist: create it first.")
