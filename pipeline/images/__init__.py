"""Images: from a blob's bytes to the bytes that the model gets. Pure: no network, no settings, no files.

    try:
        inspection = inspect(data, limits)                  header only: microseconds, fit for the event loop
    except Unclear as unclear:
        inspection = inspect_by_decoder(data, unclear, …)   what our readers can't read: call it in a thread
    if inspection.sendable:
        image = as_stored(data, inspection)                 the same bytes object
    else:
        image = convert(data, inspection, limits)           CPU work: call it in a thread

recognise.py     which format a file is, by its content, and where the picture begins; signatures.py has the formats
other_files.py   what a file that is not an image seems to be, mishaps.py what happened to a picture on its way
headers.py       size, orientation and completeness of each format, read without decoding; tiff.py of that one
cost.py          what a conversion takes of memory
inspection.py    `inspect`: the limits, and whether the service takes the image as it is
conversion.py    `convert`: everything else, decoded, turned upright, scaled and encoded anew
bare.py          what the decoder gets of a file, rare.py what it refuses though it is not damaged

Anything wrong with the image is a `PermanentFailure`. Pillow is imported by the first conversion: an instance that
only passes images on never loads it.
"""

from pipeline.images.facts import SERVICE_MAX_BYTES, ImageFacts, ImageLimits, Inspection, PreparedImage
from pipeline.images.inspection import Unclear, as_stored, inspect, inspect_page, too_many_bytes

__all__ = [
    "ImageFacts",
    "ImageLimits",
    "Inspection",
    "PreparedImage",
    "Unclear",
    "as_stored",
    "convert",
    "inspect",
    "inspect_by_decoder",
    "inspect_page",
    "number_of_frames",
    "too_many_bytes",
]


def inspect_by_decoder(data: bytes, unclear: Unclear, limits: ImageLimits) -> Inspection:
    """As `inspect`, from what the decoder reads in the header: it knows of more oddities. Nothing is decoded yet.

    Raises:
        PermanentFailure: corrupt_image, unsupported_image or image_too_large.
        RetryableFailure: this instance had no memory left for it.
    """
    from pipeline.images import conversion  # noqa: PLC0415 - Pillow costs 25 ms, and most images need no conversion

    return conversion.inspect_by_decoder(data, unclear, limits)


def number_of_frames(data: bytes, inspection: Inspection) -> int:
    """How many frames an animation has, or pictures an image sequence; 1 for any other image. Nothing is decoded."""
    from pipeline.images import conversion  # noqa: PLC0415 - likewise

    return conversion.number_of_frames(data, inspection)


def convert(
    data: bytes, inspection: Inspection, limits: ImageLimits, frame: int = 1, most_bytes: int = SERVICE_MAX_BYTES
) -> PreparedImage:
    """Decode, turn upright, scale down and encode anew: for what the service does not take as it is.

    What the service turns out to take after all, because some of it can be seen, comes back as stored. Of an animation
    the `frame` of that number, from 1: there must be as many. What has more than `most_bytes` is encoded as JPEG, and
    smaller.

    Raises:
        PermanentFailure: corrupt_image, unsupported_image or image_too_large.
        RetryableFailure: this instance had no memory left for it.
        ValueError: it does not fit into `most_bytes`.
    """
    from pipeline.images import conversion  # noqa: PLC0415 - likewise

    return conversion.convert(data, inspection, limits, frame, most_bytes)
