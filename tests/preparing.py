"""An image made ready for the model, step by step as the app does it."""

from pipeline.images import (
    ImageLimits,
    Inspection,
    PreparedImage,
    Unclear,
    as_stored,
    convert,
    inspect,
    inspect_by_decoder,
)

LIMITS = ImageLimits()


def inspected(data: bytes, limits: ImageLimits = LIMITS) -> Inspection:
    try:
        return inspect(data, limits)
    except Unclear as unclear:
        return inspect_by_decoder(data, unclear, limits)


def prepare(data: bytes, limits: ImageLimits = LIMITS) -> PreparedImage:
    inspection = inspected(data, limits)
    return as_stored(data, inspection) if inspection.sendable else convert(data, inspection, limits)
