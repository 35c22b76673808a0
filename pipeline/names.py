"""Names of blobs: which uploads are images to analyze, and where the result of each one lies."""

import hashlib
import re

MAX_BLOB_NAME = 1024
"""Longest blob name, in UTF-16 code units: the service counts characters as .NET does.
https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata"""

RESULT_SUFFIX = ".json"

# What desktops leave behind in folders that people upload whole.
_LITTER = re.compile(r"(\.DS_Store|Thumbs\.db|desktop\.ini|\._.*)", re.IGNORECASE | re.DOTALL)
_INSTRUCTION_FILE = re.compile(
    r".*(\.instructions\.(md|txt|json)|\.schema\.json)|_instructions\.(md|txt|json)", re.DOTALL
)
_DIGEST_LENGTH = 64  # SHA-256 in hexadecimal
_SHORT_STEM = re.compile(rf".*~[0-9a-f]{{{_DIGEST_LENGTH}}}", re.DOTALL)


def wants_result(name: str) -> bool:
    """Whether the upload `name` gets a result: everything does but instruction files, schemas and desktop litter."""
    leaf = name.rpartition("/")[2]
    return not (_LITTER.fullmatch(leaf) or _INSTRUCTION_FILE.fullmatch(leaf))


def result_name(image_name: str) -> str:
    """The name of the result of `image_name`, different for every image name.

    It is the whole image name and `.json`. Where that would be longer than Azure allows, it is the first
    part of the name, `~`, the SHA-256 of the whole name, and `.json`, 1,024 characters or a little less. A
    name that already looks like such a short form is shortened too, so nobody can aim at another's result.
    """
    plain = image_name + RESULT_SUFFIX
    stem_limit = MAX_BLOB_NAME - len(RESULT_SUFFIX)
    fits = _utf16_length(plain) <= MAX_BLOB_NAME
    if fits and not (_utf16_length(image_name) > stem_limit - 2 and _SHORT_STEM.fullmatch(image_name)):
        return plain
    digest = hashlib.sha256(image_name.encode("utf-8", "surrogatepass")).hexdigest()
    kept = _cut_utf16(image_name, stem_limit - 1 - _DIGEST_LENGTH)
    return f"{kept}~{digest}{RESULT_SUFFIX}"


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _cut_utf16(text: str, length: int) -> str:
    """The longest start of `text` within `length` UTF-16 code units that splits no character."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * length].decode("utf-16-le", "ignore")
