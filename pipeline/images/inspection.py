"""Whether an image can be sent as it is, by its header: microseconds, nothing is decoded."""

import struct
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeGuard

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images.cost import conversion_bytes
from pipeline.images.facts import (
    SERVICE_MAX_BYTES,
    Header,
    ImageFacts,
    ImageLimits,
    Inspection,
    PreparedImage,
    SentFormat,
)
from pipeline.images.headers import (
    NO_END,
    Missing,
    Unreadable,
    read_bmp,
    read_gif,
    read_heif,
    read_jpeg,
    read_png,
    read_webp,
)
from pipeline.images.mishaps import ruined_inside
from pipeline.images.more_headers import read_jpeg2000, read_psd
from pipeline.images.other_files import NO_DECODER
from pipeline.images.rare import rare
from pipeline.images.recognise import find_picture, unknown, unsupported
from pipeline.images.resolution import Resolution
from pipeline.images.tiff import read_tiff

IN_FRONT = "something stands in front of it"
"""The obstacle of an image that could be sent but for that."""

# Below this, nothing a model could make out is left of the shorter side once the longer one fits the service.
_MIN_SCALED_SIDE = 8

_UPLOAD_AGAIN = "Save it again in the program it comes from and upload that."

_READERS: Mapping[str, Callable[[bytes], Header]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "gif": read_gif,
    "webp": read_webp,
    "bmp": read_bmp,
    "tiff": read_tiff,
    "jpeg2000": read_jpeg2000,
    "psd": read_psd,
    "heic": read_heif,
    "avif": read_heif,
}


class Unclear(PermanentFailure):
    """The image seems damaged, but the decoder has the last word: see `pipeline.images.inspect_by_decoder`."""

    def __init__(self, kind: str, problem: str) -> None:
        failure = _corrupt(kind, problem)
        super().__init__(failure.code, failure.message, failure.details)
        self.kind = kind
        self.problem = problem


def inspect(data: bytes, limits: ImageLimits) -> Inspection:
    """Inspect an image: its facts, and whether it can be sent as it is.

    Raises:
        Unclear: its header can't be read here; the decoder may know better.
        PermanentFailure: empty_blob, image_too_large, unsupported_image, or corrupt_image.
    """
    if not data:
        raise PermanentFailure(
            ErrorCode.EMPTY_BLOB, "The file is empty (0 bytes): the upload may have been interrupted. Upload it again."
        )
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    kind, start = find_picture(data)
    picture = data[start:] if start else data
    try:
        header = _READERS[kind](picture)
    except Missing as exc:
        raise refusal(kind, str(exc), picture) from exc
    except (Unreadable, IndexError, OverflowError, struct.error) as exc:
        if start:
            raise unknown(data) from exc
        # Overflow: an offset of 64 bits that no memory has.
        raise Unclear(kind, str(exc) if isinstance(exc, Unreadable) else "it ends within its header") from exc
    return judged(kind, header, picture, limits, start)


def inspect_page(data: bytes, limits: ImageLimits, number: int) -> Inspection:
    """Inspect the page `number` of a TIFF that `inspect` has found to have as many.

    Raises:
        PermanentFailure: image_too_large, unsupported_image or corrupt_image.
    """
    try:
        return judged("tiff", read_tiff(data, number), data, limits)
    except (Unreadable, IndexError, OverflowError, struct.error) as exc:
        raise refusal("tiff", f"page {number:,} can't be read", data) from exc


def judged(kind: str, header: Header, data: bytes, limits: ImageLimits, start: int = 0) -> Inspection:
    """Judge a picture by its header.

    Raises:
        PermanentFailure: image_too_large; corrupt_image or unsupported_image for a size of zero.
    """
    facts = ImageFacts(kind, header.width, header.height, header.pages)
    check_size(facts, limits, data)
    obstacle = _obstacle(facts, header, len(data), limits.seen) or (IN_FRONT if start else None)
    is_copied = kind == "png" or start or header.directory is not None or header.obstacle == NO_END
    copied = len(data) if is_copied else 0
    inspection = Inspection(facts, header, obstacle, conversion_bytes(kind, header, copied, limits.seen), start)
    if obstacle and obstacle != IN_FRONT:
        _check_cost(inspection, limits, data)
    return inspection


def as_stored(data: bytes, inspection: Inspection) -> PreparedImage:
    """A sendable image: the blob's own bytes, not a copy."""
    facts = inspection.facts
    if not inspection.sendable or not taken_by_service(facts.format):
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


def too_many_passes(passes: int, facts: ImageFacts, most: int) -> PermanentFailure:
    """The failure of a progressive JPEG that takes too long to decode at its size."""
    return PermanentFailure(
        ErrorCode.IMAGE_TOO_LARGE,
        f"The image has {_shape(facts)} in a progressive JPEG of {passes:,} passes; at that size at most {most:,} are"
        ' accepted. Save it smaller, or without "progressive".',
        {"format": facts.format, "width": facts.width, "height": facts.height, "passes": passes, "max_passes": most},
    )


def check_size(facts: ImageFacts, limits: ImageLimits, data: bytes) -> None:
    """Before anything is decoded: a header may state any size it likes, and decoders believe it."""
    width, height = facts.width, facts.height
    if width < 1 or height < 1:
        raise refusal(facts.format, f"its header states a size of {_shape(facts)}", data)
    if width * height > limits.max_pixels:
        _refuse(
            data,
            facts,
            f"at most {limits.max_pixels:,} in all are accepted. Save it smaller: the model sees no more than"
            f" {limits.seen.side:,} on the longer side.",
            {"max_pixels": limits.max_pixels},
        )
    longer, shorter = max(width, height), min(width, height)
    if longer > limits.seen.side and shorter * limits.seen.side < longer * _MIN_SCALED_SIDE:
        _refuse(
            data,
            facts,
            f"it is too long and narrow. The model sees no more than {limits.seen.side:,} pixels on the longer side,"
            " and scaled to that nothing would be left of the shorter one. Cut it into pieces.",
            {},
        )


def _check_cost(inspection: Inspection, limits: ImageLimits, data: bytes) -> None:
    """Before anything is decoded: no conversion takes more memory than this instance may give it."""
    needed, most = inspection.conversion_bytes, limits.max_conversion_bytes
    if needed > most:
        kind = inspection.facts.format.upper()
        _refuse(
            data,
            inspection.facts,
            f"converting this {kind} takes about {needed / 1e6:,.0f} MB of memory, and the app has {most / 1e6:,.0f}"
            " MB for that. Save it smaller, or as JPEG, which takes least. The operator can raise IMAGE_MEMORY_BYTES.",
            {"memory_bytes": needed, "max_memory_bytes": most},
        )


def refusal(kind: str, problem: str, data: bytes, cause: str | None = None) -> PermanentFailure:
    """The failure of a file that its decoder refuses; `problem` completes "The image is damaged: …".

    It may be named for what happened to it on its way, if that shows.
    """
    happened = ruined_inside(kind, data)
    return unsupported(*happened) if happened else _corrupt(kind, problem, cause)


def refusal_of_rare(kind: str, data: bytes, directory: int | None) -> PermanentFailure | None:
    """The failure of a file of a kind that no decoder here reads; None if it is of a usual kind."""
    what = rare(kind, data, directory)
    return unsupported(what, NO_DECODER) if what else None


def taken_by_service(kind: str) -> TypeGuard[SentFormat]:
    """Whether the service takes images of that format."""
    return kind in {"jpeg", "png", "webp", "gif"}


def _corrupt(kind: str, problem: str, cause: str | None = None) -> PermanentFailure:
    return PermanentFailure(
        ErrorCode.CORRUPT_IMAGE,
        f"The {kind.upper()} image is damaged: {problem}. {_UPLOAD_AGAIN}",
        {"format": kind} | ({"cause": cause} if cause else {}),
    )


def _obstacle(facts: ImageFacts, header: Header, size: int, seen: Resolution) -> str | None:
    if not taken_by_service(facts.format):
        return f"the service takes no {facts.format.upper()}"
    if not seen.holds(facts.width, facts.height):
        return "larger than the model sees it"
    if header.orientation != 1:
        return "not upright"
    if size > SERVICE_MAX_BYTES:
        return f"above {SERVICE_MAX_BYTES} bytes"
    return header.obstacle


def _shape(facts: ImageFacts) -> str:
    return f"{facts.width:,} x {facts.height:,} pixels"


def _refuse(data: bytes, facts: ImageFacts, why: str, details: dict[str, object]) -> NoReturn:
    if happened := ruined_inside(facts.format, data):  # then the size is not the picture's
        raise unsupported(*happened)
    raise PermanentFailure(
        ErrorCode.IMAGE_TOO_LARGE,
        f"The image has {_shape(facts)}; {why}",
        {"format": facts.format, "width": facts.width, "height": facts.height} | details,
    )
