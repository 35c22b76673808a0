"""Write a file as a whole: under its own name is the new one or the previous, never a part."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


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
