"""Correct instruction files with nearly the right name, before anything is sent.

The other files in the folder show what was meant: `b.instructions.txt` lies next to `b.jpg`. A file whose meaning
remains in doubt stops the upload, since the images would otherwise be paid for with another question.
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
    """The files of a run, with instruction files under the names that count."""

    files: list[LocalFile] = field(default_factory=list)
    renamed: list[tuple[LocalFile, str]] = field(default_factory=list)
    """Renamed files as they are on this machine, each with its name in `files`."""
    left_out: list[LeftOut] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    """One sentence for the person about each file whose right name is not clear. Those are in `files` unchanged."""
    of_no_image: list[str] = field(default_factory=list)
    """Those of `files` that belong to an image which is not among them, and probably not in the container."""


def rightly_named(files: Sequence[LocalFile]) -> Named:
    """Give instruction files their right names, where those are clear."""
    images = _Images(files)
    named = Named()
    claims: dict[str, list[tuple[LocalFile, str]]] = defaultdict(list)
    for file in files:
        right, doubt = _right_name(file.name, images)
        if doubt:
            named.in_doubt.append(f"{file.path} {doubt}")
        if is_instruction_file(right):
            claims[_stem(right)].append((file, right))  # among them, the ending decides precedence
        else:
            named.files.append(file)
    for claimants in claims.values():
        _settle(claimants, named)
    named.of_no_image = [file.name for file in named.files if images.is_missed(file.name)]
    return named


def malformed(files: Sequence[LocalFile]) -> list[str]:
    """Sentences for the person about instruction files that the app could not use."""
    problems = []
    for file in files:
        if is_instruction_file(file.name) and not file.name.endswith(".schema.json"):
            try:
                with file.path.open("rb") as content:
                    parse_file(file.name, unpacked_file(content.read(MAX_FILE_BYTES + 1)))
            except InvalidFile as error:
                problems.append(f"{file.path}: {error}.")
            except OSError:
                continue  # reported when it is sent
    return problems


def _settle(claimants: Sequence[tuple[LocalFile, str]], named: Named) -> None:
    """Choose between files for the same image or folder. `claimants` pairs each with its right name."""
    counting = [file for file, right in claimants if file.name == right]
    near_misses = [(file, right) for file, right in claimants if file.name != right]
    named.files += counting
    if counting:
        reason = f"'{_leaf(counting[0].name)}' exists too, and counts"
        named.left_out += [LeftOut(str(file.path), reason, problem=False) for file, _ in near_misses]
    elif len(near_misses) > 1:
        paths = " and ".join(str(file.path) for file, _ in near_misses)
        named.in_doubt.append(f"{paths} both nearly have the name '{_leaf(near_misses[0][1])}': keep one of them.")
        named.files += [file for file, _ in near_misses]
    else:
        named.renamed += near_misses
        named.files += [replace(file, name=right) for file, right in near_misses]


def _right_name(name: str, images: "_Images") -> tuple[str, str | None]:
    """Return the name that counts, and a sentence if that is in doubt."""
    meant = misnamed(name)
    image = meant.image if meant else image_of_sidecar(name)
    if image is not None:
        return _sidecar(name, image, meant, images)
    if meant is None or not (meant.is_certain or images.may_be_asked_by(name)):
        return name, None
    if not meant.is_text:
        return (
            name,
            f"is not plain text: save its text as '{_leaf(meant.right)}', or rename it if it holds no instructions.",
        )
    if not meant.is_certain:
        return name, (
            f"nearly has the name of an instruction file: call it '{_leaf(meant.right)}' if it says what to ask about"
            " the images of its folder; otherwise give it another name."
        )
    return meant.right, None


def _sidecar(name: str, image: str, meant: Misnamed | None, images: "_Images") -> tuple[str, str | None]:
    ending = (meant.right if meant else name).removeprefix(image)
    found = images.like(image)
    if meant and not (meant.is_certain or found):
        return name, None
    if meant and not meant.is_text:
        return name, f"is not plain text: save its text as '{_leaf((found or [image])[0])}{ending}'."
    if len(found) > 1:
        which = " or ".join(f"'{_leaf(one)}{ending}'" for one in found)
        return name, f"may be meant for {len(found)} images: call it {which}."
    return f"{found[0] if found else image}{ending}", None


class _Images:
    """Finds the images of a run by names that are nearly theirs."""

    def __init__(self, files: Sequence[LocalFile]) -> None:
        self._files = files
        self._names: set[str] = set()
        self._alike: dict[str, list[str]] = defaultdict(list)
        self._same_stem: dict[str, list[str]] = defaultdict(list)
        # Only images in folders with an instruction file matter.
        folders = {_folder(file.name) for file in files if misnamed(file.name) or image_of_sidecar(file.name)}
        for name in (file.name for file in files if _folder(file.name) in folders and _is_image(file.name)):
            self._names.add(name)
            self._alike[_key(name)].append(name)
            if has_image_ending(name):
                self._same_stem[_key(_stem(name))].append(name)

    def like(self, image: str) -> list[str]:
        """Images that `image` may mean: the same name, in other capitals or Unicode form, or without its ending."""
        if image in self._names:
            return [image]
        return self._alike.get(_key(image)) or self._same_stem.get(_key(image), [])

    def is_missed(self, name: str) -> bool:
        """Whether `name` is the instruction file of an image that is not here, and is probably misnamed."""
        image = image_of_sidecar(name)
        if image is None or image in self._names:
            return False
        return not has_image_ending(image) or _key(_stem(image)) in self._same_stem

    def may_be_asked_by(self, file: str) -> bool:
        """Whether an instruction file in place of `file` would apply to images, and their folder has none."""
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
    """Whether two names are the same text, in any Unicode form."""
    return normalize("NFC", one) == normalize("NFC", other)


def _leaf(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(image: str) -> str:
    return image.rpartition(".")[0]


def _key(name: str) -> str:
    return normalize("NFC", name).casefold()
