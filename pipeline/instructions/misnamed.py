"""Near misses of instruction files' names: in capitals, with an ending too many, one letter short.

The app looks only for the right ones, so such a file would not count, and its images would be asked something else. All
these names end as texts do, or in the word itself: no image is among them.
"""

import re
from dataclasses import dataclass
from unicodedata import category, normalize

from pipeline.junk import has_image_ending
from pipeline.names import is_instruction_file

_WORD = re.compile("instruction", re.IGNORECASE)
_NEARLY = re.compile(r"(?<![a-z])[a-z]{9,13}(?![a-z])", re.IGNORECASE)
"""A word that may be the right one with a mistake."""
_COPY = r"(?:copy|kopie|copie|copia|kopia|c[oó]pia|kopi)"
# "(1)" is a browser's, "Copy" Explorer's and Finder's. Windows hides the ending, so that a second one is typed.
_REST = re.compile(
    rf"s?(?:\s*\(\d+\)|\s+\d+|[\s_-]*v\d+|(?:\s*-)?[\s_]+{_COPY}(?:\s*\(?\d+\)?)?|\s*\({_COPY}\))?\s*"
    r"(?P<endings>(?:\.+\s*(?:md|markdown|txt|text|json|docx?|odt|rtf|html?|ya?ml|rst|pdf|bak|old|orig))*)\s*",
    re.IGNORECASE,
)
_ENDINGS = {"md": ".md", "markdown": ".md", "txt": ".txt", "text": ".txt", "json": ".json"}
_BACKUPS = frozenset({"bak", "old", "orig"})
"""Endings that say nothing of what is in the file."""
_IMAGE_LAST = re.compile(r"_?instructions?[\s._-](?P<image>.+?)\.(?P<ending>md|markdown|txt|text|json)", re.IGNORECASE)
_SCHEMA = re.compile(r"(?P<stem>.*?)\.schema(?:\s*\(\d+\))?\s*(?:\.+json)+(?:\.+te?xt)?\s*", re.IGNORECASE | re.DOTALL)
_MARKS = "._- \t"
_TWINS = {"jpg": "jpeg", "jpeg": "jpg", "tif": "tiff", "tiff": "tif", "heic": "heif", "heif": "heic"}


@dataclass(frozen=True, slots=True)
class Misnamed:
    """The kind of file that was probably meant."""

    right: str
    """The name that it should have."""
    image: str | None
    """The image that it is meant for; None where it is meant for a folder."""
    is_text: bool
    """Whether it only needs the name. A Word document has to be saved as text, too."""
    is_certain: bool
    """Not so of `instructions.txt`, which anything may come with, `my_instructions.txt`, and a folder's backup."""


def misnamed(name: str) -> Misnamed | None:
    """The right name for the upload `name`, if it is nearly that of an instruction file; None for all others."""
    if is_instruction_file(name):
        return None
    folder, slash, leaf = name.rpartition("/")
    folder += slash
    written = dict.fromkeys((leaf, _folded(leaf)))
    return next(
        (meant for one in written if (meant := _of_schema_or_turned_round(folder, one) or _meant(folder, one))), None
    )


def _of_schema_or_turned_round(folder: str, leaf: str) -> Misnamed | None:
    if schema := _SCHEMA.fullmatch(leaf):
        return Misnamed(f"{folder}{schema['stem']}.schema.json", None, is_text=True, is_certain=True)
    if (last := _IMAGE_LAST.fullmatch(leaf)) and has_image_ending(last["image"]):
        image, ending = folder + last["image"].lstrip(_MARKS), _ENDINGS[last["ending"].lower()]
        return Misnamed(f"{image}.instructions{ending}", image, is_text=True, is_certain=True)
    return None


def _meant(folder: str, leaf: str) -> Misnamed | None:
    is_exact, spans = _spans(leaf)
    if not spans:
        return None
    start, end = spans[-1]
    before, rest = leaf[:start].lstrip(), _REST.fullmatch(leaf, end)
    if rest is None:
        return None
    image = before.rstrip(_MARKS)
    mark = before[len(image) :].strip()
    if not _folded(image).strip(_MARKS):  # only marks, in other forms or with something invisible
        image, mark = "", _folded(before).strip()
    written = re.findall(r"\w+", rest["endings"].lower())
    endings = [ending for ending in written if ending not in _BACKUPS]
    is_certain = has_image_ending(image) or mark.startswith("." if image else (".", "_"))
    if not is_certain and (not is_exact or "pdf" in endings or not endings):
        return None
    if not endings and image and not has_image_ending(image):
        return None  # names of images may have no ending, too
    known = [_ENDINGS[ending] for ending in endings if ending in _ENDINGS]
    return Misnamed(
        right=f"{folder}{f'{image}.' if image else '_'}instructions{known[0] if known else '.txt'}",
        image=f"{folder}{image}" if image else None,
        is_text=len(known) == len(endings),
        is_certain=is_certain and (image != "" or endings == written),
    )


def _spans(leaf: str) -> tuple[bool, list[tuple[int, int]]]:
    """Whether `leaf` holds the word as it is written, and where it does, or nearly so."""
    if words := [found.span() for found in _WORD.finditer(leaf)]:
        return True, words
    nearly = (found for found in _NEARLY.finditer(leaf) if _is_one_mistake(found.group().lower()))
    return False, [found.span() for found in nearly]


def _is_one_mistake(word: str) -> bool:
    """Whether one letter is missing, added or wrong in `word`, or two have changed places."""
    for right in ("instruction", "instructions"):
        same = next((n for n, pair in enumerate(zip(word, right, strict=False)) if pair[0] != pair[1]), len(right))
        one, other = word[same:], right[same:]
        if one[1:] in (other, other[1:]) or one == other[1:] or (one[:2] == other[1::-1] and one[2:] == other[2:]):
            return True
    return False


def _folded(text: str) -> str:
    """`text` in the usual forms of its characters, without the invisible ones."""
    return "".join(c for c in normalize("NFKC", text) if category(c) != "Cf")


def usual_form(image: str) -> str:
    """`image` with its last part as most systems write accented letters, in one character each (NFC)."""
    folder, slash, leaf = image.rpartition("/")
    return f"{folder}{slash}{normalize('NFC', leaf)}"


def other_forms(image: str) -> list[str]:
    """The names that look like `image` and are others to storage: macOS writes `ö` in two characters (NFD)."""
    folder, slash, leaf = image.rpartition("/")
    forms = (usual_form(image), f"{folder}{slash}{normalize('NFD', leaf)}")
    return [form for form in dict.fromkeys(forms) if form != image]


def other_writings(image: str) -> list[str]:
    """The names that people also give `image`: in other capitals, `.jpeg` for `.jpg`. At most 14."""
    folder, slash, leaf = image.rpartition("/")
    stem, _, ending = leaf.rpartition(".")
    endings = dict.fromkeys(
        (ending, *(form for one in (ending, _TWINS.get(ending.lower())) if one for form in (one.lower(), one.upper())))
    )
    stems = dict.fromkeys((stem, stem.lower(), stem.upper(), stem.capitalize()))
    forms = [f"{one}.{end}" for end in endings for one in stems]
    return [f"{folder}{slash}{form}" for form in forms if form != leaf]
