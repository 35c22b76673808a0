"""Files on this machine: what can't be read is named, and the rest is found. With folders that really can't be read."""

import ctypes
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.person import Person
from support.pictures import picture
from support.terminal import blobsight

from blobsight.local_files import LeftOut, LocalFile, find_files

NOBODY = 65534
NO_RIGHT = "it can't be read: you lack the permission"


def found_by(*paths: str, stdin: str = "", follow_links: bool = False) -> tuple[set[str], dict[str, str]]:
    """Names of the files, and why others are left out, by their paths."""
    found = list(find_files(paths, io.StringIO(stdin), follow_links=follow_links))
    names = {file.name for file in found if isinstance(file, LocalFile)}
    return names, {left.path: left.reason for left in found if isinstance(left, LeftOut)}


def without_rights[T](work: Callable[[], T]) -> T:
    """The return value of `work`, run by a user who owns nothing: for root, no folder is closed.

    Linux keeps the user for files by thread, and a thread of root's that gives it up loses root's rights to files.
    """
    if os.geteuid() != 0:
        return work()
    work()  # import its modules first: the other user may not read them
    results: list[T] = []

    def as_nobody() -> None:
        ctypes.CDLL(None).setfsuid(NOBODY)
        results.append(work())

    thread = threading.Thread(target=as_nobody)
    thread.start()
    thread.join()
    return results[0]


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that everyone may read, with `open/a.png`, `closed/b.png`, and `deep/closed/sub/c.png`."""
    folder = Path(tempfile.mkdtemp())  # pytest's own is closed to others already
    folder.chmod(0o755)
    for name in ("open/a.png", "closed/b.png", "deep/closed/sub/c.png"):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    for name in ("closed", "deep/closed"):
        (folder / name).chmod(0)
    yield folder
    for name in ("closed", "deep/closed"):
        (folder / name).chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root sees everything here")
@pytest.mark.parametrize(
    ("pattern", "names", "unreadable"),
    [
        ("", {"open/a.png"}, {"closed", "deep/closed"}),
        ("**", {"open/a.png"}, {"closed", "deep/closed"}),
        ("**/*.png", {"open/a.png"}, {"closed", "deep/closed"}),
        ("*/*.png", {"open/a.png"}, {"closed"}),
        ("*/a.png", {"open/a.png"}, {"closed/a.png"}),
        ("*/closed/sub/*.png", set(), {"closed/closed", "deep/closed/sub"}),
        ("closed/*.png", set(), {"closed"}),
        ("deep/closed/sub/*.png", set(), {"deep/closed/sub"}),
        ("closed/b.png", set(), {"closed/b.png"}),
        ("open/*.png", {"a.png"}, set()),
    ],
)
def test_folders_that_can_not_be_read_are_named(
    closed: Path, pattern: str, names: set[str], unreadable: set[str]
) -> None:
    found, left_out = without_rights(lambda: found_by(str(closed / pattern)))
    assert found == names
    assert left_out == {str(closed / path): NO_RIGHT for path in unreadable}


def test_a_folder_whose_path_has_become_too_long_is_named(tmp_path: Path) -> None:
    """As left by a copy that goes into folders step by step; its path is too long to open."""
    (tmp_path / "a.png").write_bytes(b"x")
    part, here = "x" * 250, os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(part, dir_fd=here)
        here, above = os.open(part, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("b.png", os.O_CREAT, dir_fd=here))
    os.close(here)
    try:
        for pattern in ("", "**/*.png"):
            names, left_out = found_by(str(tmp_path / pattern))
            assert names == {"a.png"}
            ((path, reason),) = left_out.items()
            assert (len(path) > 4000, reason) == (True, "it can't be read (File name too long)")
    finally:
        shutil.rmtree(tmp_path)  # which goes step by step, too


def test_links_and_special_files_are_named_and_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "itself.png").symlink_to("itself.png")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "nowhere.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    for pattern in ("", "*.png", "**/*.png"):
        names, left_out = found_by(str(tmp_path / pattern))
        assert names == {"a.png"}, pattern
        left_out.pop(str(tmp_path / "round"), None)
        assert {Path(path).name: reason for path, reason in left_out.items()} == {
            "itself.png": "it can't be read (Too many levels of symbolic links)",
            "nowhere.png": "it does not exist",
            "pipe.png": "it is not a regular file",
        }, pattern
    names, left_out = found_by(str(tmp_path / "itself.png" / "*.png"), str(tmp_path / "a.png" / "*"))
    assert names == set()
    assert list(left_out.values()) == [
        "it can't be read (Too many levels of symbolic links)",
        "no file matches it",
    ]


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with links of all kinds out of it, and some that stay."""
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    for name in ("secret.png", "deep/secret.png"):
        (tmp_path / "mine" / name).write_bytes(b"x")
    folder = tmp_path / "theirs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"x")
    (folder / "sub" / "b.png").write_bytes(b"x")
    (folder / "inside.png").symlink_to("sub/../a.png")
    (folder / "sub" / "up.png").symlink_to(folder / "a.png")
    for name, target in {
        "absolute.png": str(tmp_path / "mine" / "secret.png"),
        "relative.png": "../mine/secret.png",
        "chain.png": "sub/link.png",
        "sub/link.png": "../../mine/secret.png",
        "folder": "../mine",
        "sub/folder": str(tmp_path / "mine" / "deep"),
        "above": "..",
        "gone.png": "../nowhere/at/all.png",
        "_instructions.md": "/etc/passwd",
        "proc.png": "/proc/self/environ",
        "@eaDir": "/",
    }.items():
        (folder / name).symlink_to(target)
    return folder


INSIDE = {"a.png", "inside.png", "sub/b.png", "sub/up.png"}


def test_links_out_of_a_folder_are_named_and_not_followed(strangers: Path) -> None:
    names, left_out = found_by(str(strangers))
    assert names == INSIDE
    assert left_out.pop(str(strangers / "@eaDir")) == "junk", "and not counted: it is the whole machine"
    assert {Path(path).relative_to(strangers).as_posix() for path in left_out} == {
        *("absolute.png", "relative.png", "chain.png", "sub/link.png", "folder", "sub/folder", "above", "gone.png"),
        *("_instructions.md", "proc.png"),
    }
    for path, reason in left_out.items():
        target = os.path.realpath(path)
        assert reason == f"it is a link out of '{strangers}', to '{target}': give --follow-links if that is to be sent"


def test_links_are_followed_where_the_caller_says_so(strangers: Path) -> None:
    (strangers / "above").unlink()
    (strangers / "@eaDir").unlink()
    names, left_out = found_by(str(strangers), follow_links=True)
    assert names >= INSIDE | {"absolute.png", "chain.png", "folder/secret.png", "sub/folder/secret.png"}
    assert not any("--follow-links" in reason for reason in left_out.values())


@pytest.mark.parametrize(
    "pattern", ["*.png", "**/*.png", "*/*.png", "folder/*.png", "*/folder/*.png", "fold[e]r/deep/*"]
)
def test_nor_are_they_for_a_glob(strangers: Path, pattern: str) -> None:
    """Of ours, or of a shell, which names each of its finds; a folder that is named itself may be a link."""
    names, _ = found_by(str(strangers / pattern))
    if "/" not in pattern:
        names |= found_by(*map(str, strangers.glob(pattern)))[0]
    listed = {Path(name).name for name in names}
    assert ("secret.png" in listed) is (pattern == "folder/*.png"), "in a folder that the caller has named"
    assert listed - {"secret.png"} <= {Path(name).name for name in INSIDE}


def test_nor_are_they_for_a_list(strangers: Path) -> None:
    lines = "\n".join(
        str(strangers / name) for name in ("a.png", "inside.png", "absolute.png", "chain.png", "sub/link.png")
    )
    names, left_out = found_by("-", stdin=lines)
    assert {Path(name).name for name in names} == {"a.png", "inside.png"}
    assert len(left_out) == 3


def test_a_folder_that_is_named_may_be_a_link_itself(strangers: Path) -> None:
    shortcut = strangers.parent / "shortcut"
    shortcut.symlink_to(strangers)
    assert found_by(str(shortcut))[0] == INSIDE


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has junctions")
def test_a_junction_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "secret.png").write_bytes(b"x")
    (tmp_path / "theirs").mkdir()
    subprocess.run(["cmd", "/c", "mklink", "/J", tmp_path / "theirs" / "in", tmp_path / "mine"], check=True)
    assert found_by(str(tmp_path / "theirs"))[0] == set()


def test_files_that_vanish_during_the_scan_are_named(tmp_path: Path) -> None:
    """A file, a folder, and the folder that is being gone through."""
    for name in ("a/1.png", "b/2.png", "c/3.png", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_files([str(tmp_path)], io.StringIO())
    first = next(found)
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "c" / "3.png").unlink()
    rest = list(found)
    assert isinstance(first, LocalFile)
    assert [file.name for file in (first, *rest) if isinstance(file, LocalFile)] == ["d.png", "a/1.png"]
    assert [(Path(left.path).name, left.reason) for left in rest if isinstance(left, LeftOut)] == [
        ("b", "it does not exist")
    ]


@pytest.mark.parametrize("command", [["upload", "--dry-run"], ["estimate"]], ids=["upload", "estimate"])
async def test_a_name_in_another_code_page_is_one_files_problem(
    person: Person, tmp_path: Path, command: list[str]
) -> None:
    """`find` writes what the file system holds: such a name is one file's problem."""
    files = [tmp_path / "a.png", tmp_path / os.fsdecode(b"caf\xe9.png")]
    try:
        for path in files:
            path.write_bytes(picture())
    except OSError:
        pytest.skip("the file system takes no such names")
    ran = await blobsight(person, *command, "-", "--json", stdin="".join(f"{path}\n" for path in files))
    assert ran.status == 1
    output = ran.json()
    assert output.get("sent", output.get("images")) == 1
    (problem,) = output["problems"]
    assert (problem["path"], problem["error"]["message"]) == (
        str(files[1]),
        "its name can't be a blob's (it is not UTF-8, or has '.' or '..' as a folder): rename it",
    )


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "a.png", "b.png", ".hidden"]), min_size=1, max_size=3)


@given(
    st.lists(PARTS, max_size=8),
    st.lists(st.sampled_from(["*", "**", "a*", "?", "[ab]", "*.png", "a", "b.png"]), min_size=1, max_size=3),
)
def test_a_glob_finds_what_pathlib_finds(files: list[list[str]], pattern: list[str]) -> None:
    """Without hidden ones, and what it can read."""
    with tempfile.TemporaryDirectory() as folder:
        for parts in files:
            path = Path(folder, *parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
            except OSError:  # a file where a folder should be, or the other way round
                continue
        root = Path(folder)
        expected = {
            path.relative_to(root).as_posix()
            for path in root.glob("/".join(pattern), recurse_symlinks=False)
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
        }
        if not any(set("*?[") & set(part) for part in pattern):
            return
        fixed = next(number for number, part in enumerate(pattern) if set("*?[") & set(part))
        below = "".join(f"{part}/" for part in pattern[:fixed])
        names, _ = found_by(str(root.joinpath(*pattern)))
        assert {below + name for name in names} == expected
