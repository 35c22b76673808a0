"""Files on this machine, and what each is called as a blob.

A folder's files are called by their path below it, a glob's by their path below its part without wildcards, a single
file by its own name, and a file in a list on stdin by its path as it stands there.
"""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TextIO

from blobsight.terminal import Unknown
from pipeline.instructions.misnamed import misnamed
from pipeline.junk import has_image_ending, is_junk, placeholder_of
from pipeline.names import MAX_BLOB_NAME, is_blob_name, is_instruction_file

STDIN = "-"
HIDDEN = "hidden"
JUNK = "junk"
_RECALLED = 0x40000 | 0x400000  # FILE_ATTRIBUTE_RECALL_ON_OPEN, FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS
_DATALESS = 0x40000000  # SF_DATALESS


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file. `size` is in bytes, as it was when it was found."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not sent, and why. `problem`: it should have been, so somebody has to do something about it."""

    path: str
    reason: str
    problem: bool = True
    code: str | None = None
    """The service's own name of it, if it was the service that refused."""
    files: int = 1
    """How many, where it is a folder."""
    cloud: str | None = None
    """The service that has the file, of which there is only a placeholder here."""

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "error": Unknown(self.reason, self.code).to_json()}


def find_files(paths: Sequence[str], stdin: TextIO, prefix: str = "") -> Iterator[LocalFile | LeftOut]:
    """Every file that `paths` mean, each name once, in a stable order; and what can't be sent.

    Symbolic links are followed, but never round in circles. Hidden and junk files and folders are left out.

    Args:
        paths: files, folders, globs (for shells that expand none), or `-`.
        stdin: a list of paths for `-`, one a line, or separated by NUL characters.
        prefix: goes before every name.
    """
    named: dict[str, Path] = {}
    for path, name in _candidates(paths, stdin):
        if isinstance(path, LeftOut):
            yield path
            continue
        found = _looked_at(path, prefix + name)
        if isinstance(found, LocalFile):
            other = named.setdefault(found.name, path)
            if other is not path:
                if other == path:  # meant twice
                    continue
                found = LeftOut(str(path), f"it would be called '{found.name}' like {other}: upload them apart")
        yield found


def _candidates(paths: Sequence[str], stdin: TextIO) -> Iterator[tuple[Path | LeftOut, str]]:
    for given in paths:
        path = Path(given)
        if given == STDIN:
            yield from _listed(stdin)
        elif os.path.isdir(path):  # noqa: PTH112 - `Path.is_dir` raises what it can't find out
            for file in _below(path):
                yield file, "" if isinstance(file, LeftOut) else file.relative_to(path).as_posix()
        elif not os.path.lexists(path) and glob.has_magic(given):
            yield from _matching(given)
        else:
            yield path, path.name


def _listed(stdin: TextIO) -> Iterator[tuple[Path | LeftOut, str]]:
    text = stdin.read().removeprefix("\ufeff")
    separator = "\0" if "\0" in text else "\n"  # names may hold whatever else ends a line elsewhere
    for entry in text.split(separator):
        line = entry.rstrip("\r\n")
        if not line.strip():
            continue
        path, name = Path(line), name_in_list(Path(line))
        if name is None:
            yield LeftOut(line, "a path with '..' in it makes no blob name: start from a folder above"), ""
        elif os.path.isdir(path):  # noqa: PTH112 - likewise
            yield LeftOut(line, "a list on stdin holds files; give a folder as an argument"), ""
        else:
            yield path, name


def name_in_list(path: PurePath) -> str | None:
    """The path as it stands, without a drive or a leading slash; None when it has no such form."""
    name = path.relative_to(path.anchor)
    return None if ".." in name.parts else name.as_posix()


def _matching(pattern: str) -> Iterator[tuple[Path | LeftOut, str]]:
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    start = Path(*parts[:fixed])
    matches = sorted(set(_at(start, parts[fixed:])), key=_path_of)
    found = [match for match in matches if not _is_hidden(_below_start(match, start))]
    if not found:
        yield LeftOut(pattern, "it matches no file"), ""
    for one in found:
        yield one, "" if isinstance(one, LeftOut) else _below_start(one, start)


def _below_start(found: Path | LeftOut, start: Path) -> str:
    path = _path_of(found)
    return "" if path == start else path.relative_to(start).as_posix()


def _path_of(found: Path | LeftOut) -> Path:
    return Path(found.path) if isinstance(found, LeftOut) else found


def _matches(folder: Path, parts: Sequence[str]) -> Iterator[Path | LeftOut]:
    """What below `folder` matches the parts of a glob, some of it repeatedly; and folders that can't be read.

    `Path.glob` passes over those without a word. As there, `**` goes through no links.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest or ("*",))
        for entry in _entries(folder):
            if isinstance(entry, LeftOut):
                yield entry
            elif _is_folder(entry) and not entry.is_symlink():
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
    """What matches below a `path` that is written out."""
    match _is_a_folder(path):
        case LeftOut() as problem:
            yield problem
        case True if rest:
            yield from _matches(path, rest)
        case False if not rest and os.path.lexists(path):
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]] | list[LeftOut]:
    """What is in `folder`, by name; or that it can't be read."""
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
    """Whether it is one that can be looked into; a link to itself, say, can't be followed."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    """Whether it is left out as hidden, and not for another reason or put right."""
    is_hidden = name.startswith(".") or "/." in name
    return is_hidden and not is_junk(name) and misnamed(name) is None


def _below(folder: Path) -> Iterator[Path | LeftOut]:
    """The files in `folder` and all folders below it."""
    seen: set[tuple[int, int]] = set()
    todo = [folder]
    while todo:
        current = todo.pop()
        try:
            identity = _identity(current)
            if identity in seen:  # as it is, whatever it is called: links may go round in circles
                yield LeftOut(str(current), "a link to a folder that is gone through anyway", problem=False)
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
            if _is_folder(entry) and is_junk(f"{name}/"):
                yield from _junk_folder(path)
            elif _is_hidden(name):
                yield LeftOut(str(path), HIDDEN, problem=False)
            elif _is_folder(entry):
                folders.append(entry)
            else:
                yield path
        # Last in, first out; links behind what they may lead to.
        todo += [current / folder.name for folder in sorted(folders, key=os.DirEntry.is_symlink)[::-1]]


def _junk_folder(folder: Path) -> Iterator[LeftOut]:
    files = sum(len(names) for _, _, names in os.walk(folder))  # as far as it can be read: no matter
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
        return LeftOut(str(path), "it is no regular file")
    if not is_blob_name(name):
        return LeftOut(str(path), _unusable(name))
    return LocalFile(path, name, found.st_size)


def _missing_from(leaf: str) -> str | None:
    """The cloud service that has what the placeholder `leaf` stands for, if that would be sent."""
    service, original = placeholder_of(leaf) or ("", "")
    is_folder = leaf.lower().endswith(".cloudf")
    return service if is_folder or has_image_ending(original) or is_instruction_file(original) else None


def _unusable(name: str) -> str:
    length = len(name.encode("utf-16-le", "surrogatepass")) // 2
    if length > MAX_BLOB_NAME:
        return f"its name would have {length:,} characters, and Azure allows {MAX_BLOB_NAME:,}: shorten it"
    return "its name can't be a blob's (it is not in UTF-8, or holds '.' or '..' as a folder): rename it"


def _said(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "it can't be read: you lack the permission"
        case _:
            return f"it can't be read ({error.strerror or error})"


def why_unreadable(path: Path, error: OSError) -> str:
    """What to say of a file that was there and could not be read."""
    try:
        is_online = is_online_only(path.stat())
    except OSError:
        is_online = False
    if is_online:
        return f"it is in the cloud only and can't be downloaded now ({error.strerror or error}): download it first"
    return f"it can't be read ({error.strerror or error})"


def is_online_only(found: object) -> bool:
    """Whether the file of this `os.stat_result` is one of OneDrive, iCloud, Dropbox or the like that reading downloads.

    https://learn.microsoft.com/windows/win32/fileio/file-attribute-constants, sys/stat.h of macOS
    """
    on_windows = getattr(found, "st_file_attributes", 0) & (stat.FILE_ATTRIBUTE_OFFLINE | _RECALLED)
    return bool(on_windows or getattr(found, "st_flags", 0) & _DATALESS)
