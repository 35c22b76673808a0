"""Names of blobs: which uploads are images to analyze, and where each result lies."""

import hashlib
import re
from collections.abc import Mapping

from pipeline.junk import is_junk

MAX_BLOB_NAME = 1024
"""Longest blob name, in UTF-16 code units: the service counts characters as .NET does.
https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata"""

RESULT_SUFFIX = ".json"
EXPECTED_SUFFIX = ".expected.json"
"""Of the file beside an image that holds the answer which is expected (`blobsight evaluate`)."""

_ENDINGS = (".md", ".txt", ".json")
_SIDECAR = re.compile(r"(?P<image>(?:.*/)?[^/]+)\.instructions\.(md|txt|json)", re.DOTALL)
_INSTRUCTING = re.compile(
    r"[^/]+\.instructions\.(md|txt|json)|_instructions\.(md|txt|json)|[^/]*\.schema\.json|[^/]+\.expected\.json",
    re.DOTALL,
)
_DIGEST_LENGTH = 64  # SHA-256 in hexadecimal
_FOLDER_KEYS = frozenset({"hdi_isfolder", "is_directory"})
_SHORT_STEM = re.compile(rf".*~[0-9a-f]{{{_DIGEST_LENGTH}}}", re.DOTALL)


def is_blob_name(name: str) -> bool:
    """Whether a blob can have this name: not '../elsewhere', nor anything that can't stand in an address."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < _utf16_length(name) <= MAX_BLOB_NAME and not {".", ".."} & set(name.split("/"))


def wants_result(name: str) -> bool:
    """Whether the upload `name` gets a result: everything does but instruction files, schemas and junk files."""
    return not (is_instruction_file(name) or is_junk(name))


def is_instruction_file(name: str) -> bool:
    """Whether the upload `name` is about others: instruction files, schemas, and expected answers to compare with."""
    return _INSTRUCTING.fullmatch(name.rpartition("/")[2]) is not None


def stands_for_folder(name: str, size: int, metadata: Mapping[str, str]) -> bool:
    """Whether a blob of `size` bytes only marks a folder, as tools do where containers have none.

    opendal ends the name with a slash; pyarrow and rclone do that and set metadata; Hadoop, AzCopy and accounts with a
    hierarchical namespace set metadata alone. Some write it in capitals: https://github.com/fsspec/adlfs/issues/440
    """
    marked = any(key.lower() in _FOLDER_KEYS and value.lower() == "true" for key, value in metadata.items())
    return size == 0 and (marked or name.endswith("/"))


def image_of_sidecar(name: str) -> str | None:
    """The image that the upload `name` instructs, if that is what it does."""
    match = _SIDECAR.fullmatch(name)
    return match["image"] if match else None


def sidecars(image_name: str) -> list[str]:
    """The instruction files of this one image that there may be, in order of precedence."""
    names = [f"{image_name}.instructions{ending}" for ending in _ENDINGS]
    return [name for name in names if _utf16_length(name) <= MAX_BLOB_NAME]


def folders_of(image_name: str) -> list[str]:
    """The folder of an image and all above it, nearest first, each with its slash; the container's root is ''."""
    parts = image_name.split("/")[:-1]
    return ["".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts), -1, -1)]


def folder_files(folder: str) -> list[str]:
    """The instruction files that there may be for all images in `folder` and below, in order of precedence."""
    names = [f"{folder}_instructions{ending}" for ending in _ENDINGS]
    return [name for name in names if _utf16_length(name) <= MAX_BLOB_NAME]


def schema_blob(name: str) -> str:
    """The blob that people mean by the schema `name`: its ending may be left out."""
    return name if name.endswith(".schema.json") else f"{name}.schema.json"


def result_name(image_name: str) -> str:
    """The name of the result of `image_name`, different for every image name.

    It is the whole image name and `.json`. Where that would be longer than Azure allows, it is the first
    part of the name, `~`, the SHA-256 of the whole name, and `.json`, 1,024 characters or a little less. A
    name that already looks like such a short form is shortened too, so no name can be aimed at another's result.
    """
    plain = image_name + RESULT_SUFFIX
    stem_limit = MAX_BLOB_NAME - len(RESULT_SUFFIX)
    fits = _utf16_length(plain) <= MAX_BLOB_NAME
    if fits and not (_utf16_length(image_name) > stem_limit - 2 and _SHORT_STEM.fullmatch(image_name)):
        return plain
    digest = hashlib.sha256(image_name.encode("utf-8", "surrogatepass")).hexdigest()
    kept = _cut_utf16(image_name, stem_limit - 1 - _DIGEST_LENGTH)
    return f"{kept}~{digest}{RESULT_SUFFIX}"


def image_of_result(name: str) -> str | None:
    """The image whose result is called `name`; None for the short form, which does not say."""
    image = name.removesuffix(RESULT_SUFFIX)
    return image if result_name(image) == name else None


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _cut_utf16(text: str, length: int) -> str:
    """The longest start of `text` within `length` UTF-16 code units that splits no character."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * length].decode("utf-16-le", "ignore")
