"""Instruction files with nearly the right name, put right before anything is sent.

On this machine the files beside tell what was meant, which a name alone does not: `b.instructions.txt` lies beside
`b.jpg`. What remains in doubt is asked first, since the images would be paid with another question.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from unicodedata import normalize

from blobsight.local_files import LeftOut, LocalFile
from pipeline.instructions.files import MAX_FILE_BYTES, InvalidFile, parse_file, unpacked_file
from pipeline.instructions.misnamed import Misnamed, misnamed
from pipeline.junk import has_image_ending
from pipeline.names import folder_files, folders_of, image_of_sidecar, is_instruction_file


@dataclass(slots=True)
class Named:
    """The files of a run, instruction files under the names that count."""

    files: list[LocalFile] = field(default_factory=list)
    renamed: list[tuple[LocalFile, str]] = field(default_factory=list)
    """Some as they are here, and the names under which they are among `files`."""
    left_out: list[LeftOut] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    """Sentences for the person, about each whose right name can't be told. They are among `files` as they are."""
    of_no_image: list[str] = field(default_factory=list)
    """Those of `files` that belong to an image which is not among them, and hardly in the container."""


def rightly_named(files: Sequence[LocalFile]) -> Named:
    """The same files, with the right names for instruction files where they can be told."""
    images = _Images(files)
    named = Named()
    claims: dict[str, list[tuple[LocalFile, str]]] = defaultdict(list)
    for file in files:
        right, doubt = _right_name(file.name, images)
        if doubt:
            named.in_doubt.append(f"{file.path} {doubt}")
        if is_instruction_file(right):
            claims[_stem(right)].append((file, right))  # their endings only say which of them goes before the others
        else:
            named.files.append(file)
    for claimants in claims.values():
        _settle(claimants, named)
    named.of_no_image = [file.name for file in named.files if images.is_missed(file.name)]
    return named


def malformed(files: Sequence[LocalFile]) -> list[str]:
    """Sentences for the person, about each instruction file that the app could not use."""
    problems = []
    for file in files:
        if is_instruction_file(file.name) and not file.name.endswith(".schema.json"):
            try:
                with file.path.open("rb") as content:
                    parse_file(file.name, unpacked_file(content.read(MAX_FILE_BYTES + 1)))
            except InvalidFile as error:
                problems.append(f"{file.path}: {error}.")
            except OSError:
                continue  # which is said where it is sent
    return problems


def _settle(claimants: Sequence[tuple[LocalFile, str]], named: Named) -> None:
    """Choose between files for the same image or folder, each with the name that it should have."""
    counting = [file for file, right in claimants if file.name == right]
    near_misses = [(file, right) for file, right in claimants if file.name != right]
    named.files += counting
    if counting:
        reason = f"'{_leaf(counting[0].name)}' is there, too, and counts"
        named.left_out += [LeftOut(str(file.path), reason, problem=False) for file, _ in near_misses]
    elif len(near_misses) > 1:
        paths = " and ".join(str(file.path) for file, _ in near_misses)
        named.in_doubt.append(f"{paths} are nearly called '{_leaf(near_misses[0][1])}': keep one of them.")
        named.files += [file for file, _ in near_misses]
    else:
        named.renamed += near_misses
        named.files += [replace(file, name=right) for file, right in near_misses]


def _right_name(name: str, images: "_Images") -> tuple[str, str | None]:
    """The name that counts, and what is in doubt about it."""
    meant = misnamed(name)
    image = meant.image if meant else image_of_sidecar(name)
    if image is not None:
        return _sidecar(name, image, meant, images)
    if meant is None or not (meant.is_certain or images.may_be_asked_by(name)):
        return name, None
    if not meant.is_text:
        return name, f"is no plain text: save what it says as '{_leaf(meant.right)}', or call it something else."
    if not meant.is_certain:
        return name, (
            f"has nearly the name of an instruction file: call it '{_leaf(meant.right)}' if it says what to ask about"
            " the images of its folder, and something else if not."
        )
    return meant.right, None


def _sidecar(name: str, image: str, meant: Misnamed | None, images: "_Images") -> tuple[str, str | None]:
    ending = (meant.right if meant else name).removeprefix(image)
    found = images.like(image)
    if meant and not (meant.is_certain or found):
        return name, None
    if meant and not meant.is_text:
        return name, f"is no plain text: save what it says as '{_leaf((found or [image])[0])}{ending}'."
    if len(found) > 1:
        which = " or ".join(f"'{_leaf(one)}{ending}'" for one in found)
        return name, f"may be meant for {len(found)} images: call it {which}."
    return f"{found[0] if found else image}{ending}", None


class _Images:
    """The names of a run's images, to be found by names that are nearly theirs."""

    def __init__(self, files: Sequence[LocalFile]) -> None:
        self._files = files
        self._names: set[str] = set()
        self._alike: dict[str, list[str]] = defaultdict(list)
        self._same_stem: dict[str, list[str]] = defaultdict(list)
        # Only those that have an instruction file beside them.
        folders = {_folder(file.name) for file in files if misnamed(file.name) or image_of_sidecar(file.name)}
        for name in (file.name for file in files if _folder(file.name) in folders and _is_image(file.name)):
            self._names.add(name)
            self._alike[_key(name)].append(name)
            if has_image_ending(name):
                self._same_stem[_key(_stem(name))].append(name)

    def like(self, image: str) -> list[str]:
        """Those that `image` may mean: itself, or in other capitals or another Unicode form, or with an ending."""
        if image in self._names:
            return [image]
        return self._alike.get(_key(image)) or self._same_stem.get(_key(image), [])

    def is_missed(self, name: str) -> bool:
        """Whether `name` is the instruction file of an image that is not here, and looks to be called otherwise."""
        image = image_of_sidecar(name)
        if image is None or image in self._names:
            return False
        return not has_image_ending(image) or _key(_stem(image)) in self._same_stem

    def may_be_asked_by(self, file: str) -> bool:
        """Whether an instruction file in place of `file` would count for any, and none for their folder is there."""
        folder = _folder(file)
        return folder in self._folders_with_images and folder not in self._folders_with_files

    @cached_property
    def _folders_with_images(self) -> set[str]:
        return {folder for file in self._files if _is_image(file.name) for folder in folders_of(file.name)}

    @cached_property
    def _folders_with_files(self) -> set[str]:
        return {_folder(file.name) for file in self._files if file.name in folder_files(_folder(file.name))}


def _is_image(name: str) -> bool:
    return not is_instruction_file(name) and misnamed(name) is None


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]


def is_same_text(one: str, other: str) -> bool:
    """Whether two names look alike, however their letters are encoded."""
    return normalize("NFC", one) == normalize("NFC", other)


def _leaf(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(image: str) -> str:
    return image.rpartition(".")[0]


def _key(name: str) -> str:
    return normalize("NFC", name).casefold()
