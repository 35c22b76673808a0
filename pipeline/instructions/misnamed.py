"""Near misses of instruction files' names: in capitals, with an ending too many, one letter short.

The app looks only for the right ones, so such a file would not count, and its images would be asked something else. All
these names end as texts do, or in the word itself: no image is among them.
"""

import re
from dataclasses import dataclass
from unicodedata import normalize

from pipeline.junk import has_image_ending
from pipeline.names import image_of_sidecar, is_instruction_file

_WORD = re.compile("instruction", re.IGNORECASE)
# "(1)" is a browser's, "Copy" Explorer's and Finder's. Windows hides the ending, so that a second one is typed.
_REST = re.compile(
    r"s?(?:\s*\(\d+\)|(?:\s*-)?\s+copy(?:\s*\(?\d+\)?)?)?\s*"
    r"(?P<endings>(?:\.+\s*(?:md|markdown|txt|text|json|docx?|odt|rtf|html?|ya?ml))*)\s*",
    re.IGNORECASE,
)
_ENDINGS = {"md": ".md", "markdown": ".md", "txt": ".txt", "text": ".txt", "json": ".json"}


@dataclass(frozen=True, slots=True)
class Misnamed:
    """What a file was probably meant to be."""

    right: str
    """The name that it should have."""
    image: str | None
    """The image that it is meant for; None where it is meant for a folder."""
    is_text: bool
    """Whether it only needs the name. A Word document has to be saved as text, too."""
    is_certain: bool
    """Not so of `instructions.txt`, which anything may come with, and of `my_instructions.txt`."""


def misnamed(name: str) -> Misnamed | None:
    """What the upload `name` should be called, if it is nearly called like an instruction file; None for all others."""
    folder, slash, leaf = name.rpartition("/")
    words = list(_WORD.finditer(leaf))
    if not words or is_instruction_file(name):
        return None
    before, rest = leaf[: words[-1].start()].lstrip(), _REST.fullmatch(leaf, words[-1].end())
    if rest is None:
        return None
    image = before.rstrip("._- \t")
    mark = before[len(image) :].strip()
    endings = re.findall(r"\w+", rest["endings"].lower())
    is_certain = has_image_ending(image) or mark.startswith("." if image else (".", "_"))
    if not endings and (not is_certain or (image and not has_image_ending(image))):
        return None  # names of images may have no ending, too
    known = [_ENDINGS[ending] for ending in endings if ending in _ENDINGS]
    return Misnamed(
        right=f"{folder}{slash}{f'{image}.' if image else '_'}instructions{known[0] if known else '.txt'}",
        image=f"{folder}{slash}{image}" if image else None,
        is_text=len(known) == len(endings),
        is_certain=is_certain,
    )


def may_be_of_no_image(name: str) -> bool:
    """Whether the upload `name` is a sidecar that ends in a failed result of its own unless its image is there."""
    image = image_of_sidecar(name)
    return image is not None and not (has_image_ending(image) and image.isascii())


def usual_form(image: str) -> str:
    """`image` with its last part as most systems write accented letters, in one character each (NFC)."""
    folder, slash, leaf = image.rpartition("/")
    return f"{folder}{slash}{normalize('NFC', leaf)}"


def other_forms(image: str) -> list[str]:
    """The names that look like `image` and are others to storage: macOS writes `ö` in two characters (NFD)."""
    folder, slash, leaf = image.rpartition("/")
    forms = (usual_form(image), f"{folder}{slash}{normalize('NFD', leaf)}")
    return [form for form in dict.fromkeys(forms) if form != image]
