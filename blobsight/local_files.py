"""Find files on this machine, and name the blob of each.

A file in a folder is named by its path below that folder, a glob's match by its path below the part without wildcards,
a single file by its own name, and a file in a list on stdin by its path as it is written there.
"""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TextIO

import click

from blobsight.terminal import Unknown
from pipeline.instructions.misnamed import misnamed
from pipeline.junk import has_image_ending, is_junk, placeholder_of
from pipeline.names import MAX_BLOB_NAME, is_blob_name, is_instruction_file

links_option = click.option(
    "--follow-links", is_flag=True, help="Follow links that lead out of the folder they are found in, too."
)

STDIN = "-"
HIDDEN = "hidden"
JUNK = "junk"
_RECALLED = 0x40000 | 0x400000  # FILE_ATTRIBUTE_RECALL_ON_OPEN, FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS
_DATALESS = 0x40000000  # SF_DATALESS


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file. `size` is its bytes when it was found."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A path that is not sent, and why. `problem`: it should have been sent, so the uploader has to act."""

    path: str
    reason: str
    problem: bool = True
    code: str | None = None
    """The service's own name of the error, if the service refused."""
    files: int = 1
    """Number of files, more than one for a folder."""
    cloud: str | None = None
    """The cloud service that has the file, if this is only a placeholder."""

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "error": Unknown(self.reason, self.code).to_json()}


def find_files(
    paths: Sequence[str], stdin: TextIO, prefix: str = "", *, follow_links: bool = False
) -> Iterator[LocalFile | LeftOut]:
    """Yield every file that `paths` mean, each name once, in a stable order; and each path that can't be sent.

    Links are followed, each folder once, as long as they stay in the folder that was named; the folder may be another
    person's, and its links lead to any file of the caller's. Hidden and junk files and folders are left out.

    Args:
        paths: files, folders, globs (for shells that expand none), or `-`.
        stdin: a list of paths for `-`, one a line, or separated by NUL characters.
        prefix: goes before every name.
        follow_links: wherever they lead.
    """
    named: dict[str, Path] = {}
    for path, name in _candidates(paths, stdin, follow_links=follow_links):
        if isinstance(path, LeftOut):
            yield path
            continue
        found = _looked_at(path, prefix + name)
        if isinstance(found, LocalFile):
            other = named.setdefault(found.name, path)
            if other is not path:
                if other == path:  # given twice
                    continue
                found = LeftOut(
                    str(path), f"its name would be '{found.name}', like that of {other}: upload them separately"
                )
        yield found


def _candidates(paths: Sequence[str], stdin: TextIO, *, follow_links: bool) -> Iterator[tuple[Path | LeftOut, str]]:
    for given in paths:
        path = Path(given)
        if given == STDIN:
            for listed, name in _listed(stdin):
                yield listed if follow_links else _staying_in(_path_of(listed).parent, listed), name
        elif os.path.isdir(path):  # noqa: PTH112 - `Path.is_dir` raises where it can't find out
            for file in _below(path, follow_links=follow_links):
                yield file, "" if isinstance(file, LeftOut) else file.relative_to(path).as_posix()
        elif not os.path.lexists(path) and glob.has_magic(given):
            start = _start_of(given)
            for match, name in _matching(given, start):
                yield match if follow_links else _staying_in(start, match), name
        else:  # it may be a shell that has found it, for a glob
            yield path if follow_links else _staying_in(path.parent, path), path.name


def _staying_in(folder: Path, found: Path | LeftOut) -> Path | LeftOut:
    """`found`, left out if it is, or lies behind, a link that leads out of `folder`."""
    if isinstance(found, LeftOut):
        return found
    # Not `Path.resolve`, which raises for a link to itself.
    target = os.path.realpath(found)
    if Path(target).is_relative_to(os.path.realpath(folder)):
        return found
    return LeftOut(
        str(found), f"it is a link out of '{folder}', to '{target}': give --follow-links if that is to be sent"
    )


def file_in(folder: Path, name: str, *, follow_links: bool = False) -> LocalFile | LeftOut:
    """The file `name` in `folder`, where another person's list names it; or why it can't be sent.

    Args:
        folder: in which it has to be.
        name: a path below it, with `/`.
        follow_links: wherever they lead.
    """
    path = PurePath(name)
    if path.anchor or ".." in path.parts or "\0" in name or not is_blob_name(name):
        return LeftOut(name, f"it is not the name of a file in '{folder}'")
    found = folder / path if follow_links else _staying_in(folder, folder / path)
    return found if isinstance(found, LeftOut) else _looked_at(found, name)


def _listed(stdin: TextIO) -> Iterator[tuple[Path | LeftOut, str]]:
    text = stdin.read().removeprefix("\ufeff")
    separator = "\0" if "\0" in text else "\n"  # names may hold other line separators
    for entry in text.split(separator):
        line = entry.rstrip("\r\n")
        if not line.strip():
            continue
        path, name = Path(line), name_in_list(Path(line))
        if name is None:
            yield LeftOut(line, "a path with '..' can't be a blob's name: list it from the folder above"), ""
        elif os.path.isdir(path):  # noqa: PTH112 - likewise
            yield LeftOut(line, "a list on stdin holds files; give a folder as an argument"), ""
        else:
            yield path, name


def name_in_list(path: PurePath) -> str | None:
    """The path as written, without a drive or leading slash; None if it contains '..'."""
    name = path.relative_to(path.anchor)
    return None if ".." in name.parts else name.as_posix()


def _start_of(pattern: str) -> Path:
    """The part of a glob without wildcards."""
    parts = Path(pattern).parts
    return Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])


def _matching(pattern: str, start: Path) -> Iterator[tuple[Path | LeftOut, str]]:
    matches = sorted(set(_at(start, Path(pattern).parts[len(start.parts) :])), key=_path_of)
    found = [match for match in matches if not _is_hidden(_below_start(match, start))]
    if not found:
        yield LeftOut(pattern, "no file matches it"), ""
    for one in found:
        yield one, "" if isinstance(one, LeftOut) else _below_start(one, start)


def _below_start(found: Path | LeftOut, start: Path) -> str:
    path = _path_of(found)
    return "" if path == start else path.relative_to(start).as_posix()


def _path_of(found: Path | LeftOut) -> Path:
    return Path(found.path) if isinstance(found, LeftOut) else found


def _matches(folder: Path, parts: Sequence[str]) -> Iterator[Path | LeftOut]:
    """Yield the paths below `folder` that match the parts of a glob, some repeatedly; and folders that can't be read.

    `Path.glob` skips unreadable folders silently. As there, `**` does not follow links.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest or ("*",))
        for entry in _entries(folder):
            if isinstance(entry, LeftOut):
                yield entry
            elif _is_folder(entry) and not _is_link(entry):
                yield from _matches(folder / entry.name, parts)
    elif glob.has_magic(part):
        for entry in _entries(folder):
            if isinstance(entry, LeftOut):
                yield entry
            elif fnmatch(entry.name, part) and _is_folder(entry) is bool(rest):
                yield from _matches(folder / entry.name, rest) if rest else [folder / entry.name]
    else:
        yield from _at(folder / part, rest)


def _at(path: Path, rest: Sequence[str]) -> Iterator[Path | LeftOut]:
    """Yield the matches below a `path` without wildcards."""
    match _is_a_folder(path):
        case LeftOut() as problem:
            yield problem
        case True if rest:
            yield from _matches(path, rest)
        case False if not rest and os.path.lexists(path):
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]] | list[LeftOut]:
    """List `folder`, sorted by name; or say why it can't be read."""
    try:
        with os.scandir(folder) as scanned:
            return sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        return [LeftOut(str(folder), _said(error))]


def _is_a_folder(path: Path) -> bool | LeftOut:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return LeftOut(str(path), _said(error))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder that can be opened; a link to itself, for example, can't."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    """Whether it is left out because it is hidden, and is neither junk nor a misnamed instruction file."""
    is_hidden = name.startswith(".") or "/." in name
    return is_hidden and not is_junk(name) and misnamed(name) is None


def _is_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or entry.is_junction()


def _below(folder: Path, *, follow_links: bool) -> Iterator[Path | LeftOut]:
    """Yield the files in `folder` and all folders below it."""
    seen: set[tuple[int, int]] = set()
    todo = [folder]
    while todo:
        current = todo.pop()
        try:
            identity = _identity(current)
            if identity in seen:  # by its identity, not its name: links may form a loop
                yield LeftOut(str(current), "a link to a folder that is included already", problem=False)
                continue
            seen.add(identity)
        except OSError as error:
            yield LeftOut(str(current), _said(error))
            continue
        folders: list[os.DirEntry[str]] = []
        for entry in _entries(current):
            if isinstance(entry, LeftOut):
                yield entry
                continue
            path = current / entry.name
            name = path.relative_to(folder).as_posix()
            staying = _staying_in(folder, path) if _is_link(entry) and not follow_links else path
            if _is_folder(entry) and is_junk(f"{name}/"):
                yield from _junk_folder(path)
            elif _is_hidden(name):
                yield LeftOut(str(path), HIDDEN, problem=False)
            elif isinstance(staying, LeftOut):
                yield staying
            elif _is_folder(entry):
                folders.append(entry)
            else:
                yield path
        # Last in, first out; links come after the folders that they may lead to.
        todo += [current / folder.name for folder in sorted(folders, key=_is_link)[::-1]]


def _junk_folder(folder: Path) -> Iterator[LeftOut]:
    is_link = folder.is_symlink() or folder.is_junction()  # which may lead to the root of this machine
    files = 1 if is_link else sum(len(names) for _, _, names in os.walk(folder))  # unreadable ones don't matter here
    if files:
        yield LeftOut(str(folder), JUNK, problem=False, files=files)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _looked_at(path: Path, name: str) -> LocalFile | LeftOut:
    if cloud := _missing_from(path.name):
        return LeftOut(str(path), f"it is in {cloud} only: download it first", cloud=cloud)
    if is_junk(name):
        return LeftOut(str(path), JUNK, problem=False)
    try:
        found = path.stat()
    except OSError as error:
        return LeftOut(str(path), _said(error))
    if not stat.S_ISREG(found.st_mode):
        return LeftOut(str(path), "it is not a regular file")
    if not is_blob_name(name):
        return LeftOut(str(path), _unusable(name))
    return LocalFile(path, name, found.st_size)


def _missing_from(leaf: str) -> str | None:
    """The cloud service that has the file behind the placeholder `leaf`, if that file would be sent."""
    service, original = placeholder_of(leaf) or ("", "")
    is_folder = leaf.lower().endswith(".cloudf")
    return service if is_folder or has_image_ending(original) or is_instruction_file(original) else None


def _unusable(name: str) -> str:
    length = len(name.encode("utf-16-le", "surrogatepass")) // 2
    if length > MAX_BLOB_NAME:
        return f"its name would have {length:,} characters, and Azure allows {MAX_BLOB_NAME:,}: shorten it"
    return "its name can't be a blob's (it is not UTF-8, or has '.' or '..' as a folder): rename it"


def _said(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "it does not exist"
        case PermissionError():
            return "it can't be read: you lack the permission"
        case _:
            return f"it can't be read ({error.strerror or error})"


def why_unreadable(path: Path, error: OSError) -> str:
    """Explain why a file that exists could not be read."""
    try:
        is_online = is_online_only(path.stat())
    except OSError:
        is_online = False
    if is_online:
        return f"it is in the cloud only and can't be downloaded now ({error.strerror or error}): download it first"
    return f"it can't be read ({error.strerror or error})"


def is_online_only(found: object) -> bool:
    """Whether this `os.stat_result` is of a file that reading would download, as of OneDrive, iCloud or Dropbox.

    https://learn.microsoft.com/windows/win32/fileio/file-attribute-constants, sys/stat.h of macOS
    """
    on_windows = getattr(found, "st_file_attributes", 0) & (stat.FILE_ATTRIBUTE_OFFLINE | _RECALLED)
    return bool(on_windows or getattr(found, "st_flags", 0) & _DATALESS)
