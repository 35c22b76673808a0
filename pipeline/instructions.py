"""What to ask about an image: the first source that has text wins."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.metadata_text import UndecodableText, decode_base64, decode_text

BUILT_IN = "Describe this image."


class Origin(StrEnum):
    """Which source the instructions came from, in order of precedence."""

    REQUEST = "request"
    METADATA = "metadata"
    SIDECAR = "sidecar"
    FOLDER = "folder"
    SETTING = "setting"
    BUILT_IN = "builtin"


@dataclass(frozen=True, slots=True)
class Instructions:
    """What to ask. `origin_name` is the metadata key, file or setting that holds the text, if there is one."""

    text: str
    origin: Origin
    origin_name: str | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest())


def resolve(*, request: str | None, metadata: Mapping[str, str], default: str | None) -> Instructions:
    """The instructions for one image.

    Args:
        request: the text of the request itself (a re-analysis, the HTTP parameter).
        metadata: the image blob's metadata, as the service returned it.
        default: the setting DEFAULT_INSTRUCTIONS.

    Raises:
        PermanentFailure: `invalid_instructions`, when a source that has text can't be understood. The next
            source is not asked then: the person meant this one.
    """
    if request and request.strip():
        return Instructions(request.strip(), Origin.REQUEST)
    if found := _from_metadata(metadata):
        return found
    if default and default.strip():
        return Instructions(default.strip(), Origin.SETTING, "DEFAULT_INSTRUCTIONS")
    return Instructions(BUILT_IN, Origin.BUILT_IN)


def _from_metadata(metadata: Mapping[str, str]) -> Instructions | None:
    # Azure keeps the case of metadata names but compares them without it.
    values = {key.lower(): value for key, value in metadata.items()}
    for key, decode in (("instructions_b64", decode_base64), ("instructions", decode_text)):
        try:
            text = decode(values.get(key, "")).strip()
        except UndecodableText as error:
            message = f"The blob's metadata '{key}' can't be read: {error}."
            raise PermanentFailure(ErrorCode.INVALID_INSTRUCTIONS, message, {"metadata": key}) from None
        if text:
            return Instructions(text, Origin.METADATA, key)
    return None
