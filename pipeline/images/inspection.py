"""Whether an image can be sent as it is. Header only: microseconds, nothing is decoded."""

import struct
from typing import NoReturn, TypeGuard

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images.facts import (
    SERVICE_MAX_BYTES,
    SERVICE_MAX_SIDE,
    ImageFacts,
    ImageLimits,
    Inspection,
    PreparedImage,
    SentFormat,
)
from pipeline.images.headers import READERS, Damaged, Header
from pipeline.images.recognise import recognise

# Below this, nothing a model could make out is left of the shorter side once the longer one fits the service.
_MIN_SCALED_SIDE = 8

_UPLOAD_AGAIN = "Save it again in the program it comes from and upload that."


def inspect(data: bytes, limits: ImageLimits) -> Inspection:
    """What the image is and whether it can be sent as it is.

    Raises:
        PermanentFailure: empty_blob, image_too_large, unsupported_image, or corrupt_image where the header alone
            shows it.
    """
    if not data:
        raise PermanentFailure(
            ErrorCode.EMPTY_BLOB, "The file is empty (0 bytes): the upload may have been interrupted. Upload it again."
        )
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    kind = recognise(data)
    try:
        header = READERS[kind](data)
    except (IndexError, OverflowError, struct.error) as exc:
        # Overflow: an offset of 64 bits that no memory has.
        raise corrupt(kind, "it ends within its header") from exc
    except Damaged as exc:
        raise corrupt(kind, str(exc)) from exc
    facts = ImageFacts(kind, header.width, header.height)
    check_size(facts, limits)
    return Inspection(facts, header.orientation, _obstacle(facts, header, len(data)))


def as_stored(data: bytes, inspection: Inspection) -> PreparedImage:
    """A sendable image: the blob's own bytes, not a copy."""
    facts = inspection.facts
    if not inspection.sendable or not _taken_by_service(facts.format):
        raise ValueError(f"this {facts.format} image cannot be sent as it is: {inspection.obstacle}")
    return PreparedImage(data, facts.format, facts.width, facts.height, transformed=False)


def too_many_bytes(size: int, limits: ImageLimits) -> PermanentFailure:
    """The failure of a file of `size` bytes: also for callers that know the size before they have the bytes."""
    return PermanentFailure(
        ErrorCode.IMAGE_TOO_LARGE,
        f"The file has {size:,} bytes; at most {limits.max_bytes:,} are accepted. "
        "Save it smaller, for example as JPEG.",
        {"size_bytes": size, "max_bytes": limits.max_bytes},
    )


def check_size(facts: ImageFacts, limits: ImageLimits) -> None:
    """Before anything is decoded: a header may state any size it likes, and decoders believe it."""
    width, height = facts.width, facts.height
    shape = f"{width:,} x {height:,} pixels"
    details = {"format": facts.format, "width": width, "height": height}
    if width < 1 or height < 1:
        raise corrupt(facts.format, f"its header states a size of {shape}")
    if width * height > limits.max_pixels:
        _refuse(
            f"The image has {shape}; at most {limits.max_pixels:,} in all are accepted. Save it smaller: the model "
            f"sees no more than {SERVICE_MAX_SIDE:,} on the longer side.",
            details | {"max_pixels": limits.max_pixels},
        )
    longer, shorter = max(width, height), min(width, height)
    if longer > SERVICE_MAX_SIDE and shorter * SERVICE_MAX_SIDE < longer * _MIN_SCALED_SIDE:
        _refuse(
            f"The image has {shape}: too long and narrow. The model sees no more than {SERVICE_MAX_SIDE:,} pixels on "
            "the longer side, and scaled to that nothing would be left of the shorter one. Cut it into pieces.",
            details,
        )


def corrupt(kind: str, problem: str, cause: BaseException | None = None) -> PermanentFailure:
    """The failure of a damaged file of format `kind`; `problem` completes "damaged: …"."""
    details = {"format": kind} | ({"cause": f"{type(cause).__name__}: {cause}"[:300]} if cause else {})
    return PermanentFailure(
        ErrorCode.CORRUPT_IMAGE, f"The {kind.upper()} image is damaged: {problem}. {_UPLOAD_AGAIN}", details
    )


def _obstacle(facts: ImageFacts, header: Header, size: int) -> str | None:
    if not _taken_by_service(facts.format):
        return f"the service takes no {facts.format.upper()}"
    if header.obstacle:
        return header.obstacle
    if header.orientation != 1:
        return "not upright"
    if max(facts.width, facts.height) > SERVICE_MAX_SIDE:
        return f"longer side above {SERVICE_MAX_SIDE} px"
    if size > SERVICE_MAX_BYTES:
        return f"above {SERVICE_MAX_BYTES} bytes"
    return None


def _taken_by_service(kind: str) -> TypeGuard[SentFormat]:
    return kind in {"jpeg", "png", "webp", "gif"}


def _refuse(message: str, details: dict[str, object]) -> NoReturn:
    raise PermanentFailure(ErrorCode.IMAGE_TOO_LARGE, message, details)
