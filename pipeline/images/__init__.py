"""What the pipeline does with a blob's bytes before the model sees them. Pure: no network, no settings, no files.

    inspection = inspect(data, limits)                      header only: microseconds, fit for the event loop
    if inspection.sendable:
        image = as_stored(data, inspection)                 the same bytes object
    else:
        image = convert(data, inspection, limits)           CPU work: call it in a thread

recognise.py   what a file is, by its content; what a file that is no image seems to be
headers.py     size, orientation and completeness of each format, read without decoding
inspection.py  `inspect`: the limits, and whether the service takes the image as it is
conversion.py  `convert`: everything else, decoded, turned upright, scaled and encoded anew

Anything wrong with the image is a `PermanentFailure`. Pillow is imported by the first conversion: an instance that
only passes images on never loads it.
"""

from pipeline.images.facts import ImageFacts, ImageLimits, Inspection, PreparedImage
from pipeline.images.inspection import as_stored, inspect, too_many_bytes

__all__ = [
    "ImageFacts",
    "ImageLimits",
    "Inspection",
    "PreparedImage",
    "as_stored",
    "convert",
    "inspect",
    "too_many_bytes",
]


def convert(data: bytes, inspection: Inspection, limits: ImageLimits) -> PreparedImage:
    """Decode, turn upright, scale down and encode anew: for what the service does not take as it is.

    Raises:
        PermanentFailure: corrupt_image, unsupported_image or image_too_large.
        RetryableFailure: this instance had no memory left for it.
    """
    from pipeline.images import conversion  # noqa: PLC0415 - Pillow costs 25 ms, and most images need no conversion

    return conversion.convert(data, inspection, limits)
