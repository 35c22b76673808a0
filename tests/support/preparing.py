"""An image made ready for the model, step by step as the app does it."""

import io

import pytest
from PIL import Image, ImageChops, ImageStat

from pipeline.errors import PermanentFailure
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
ALIKE = 14


def inspected(data: bytes, limits: ImageLimits = LIMITS) -> Inspection:
    try:
        return inspect(data, limits)
    except Unclear as unclear:
        return inspect_by_decoder(data, unclear, limits)


def prepare(data: bytes, limits: ImageLimits = LIMITS) -> PreparedImage:
    inspection = inspected(data, limits)
    return as_stored(data, inspection) if inspection.sendable else convert(data, inspection, limits)


def failure(data: bytes, limits: ImageLimits = LIMITS) -> PermanentFailure:
    with pytest.raises(PermanentFailure) as raised:
        convert(data, inspected(data, limits), limits)
    return raised.value


def opened(prepared: PreparedImage) -> Image.Image:
    image = Image.open(io.BytesIO(prepared.data))
    assert image.format == prepared.format.upper()
    assert image.size == (prepared.width, prepared.height)
    return image


def assert_alike(prepared: PreparedImage, expected: Image.Image, tolerance: int = ALIKE) -> None:
    seen = opened(prepared).convert("RGB").resize((64, 64))
    difference = ImageStat.Stat(ImageChops.difference(seen, expected.convert("RGB").resize((64, 64))))
    assert max(difference.mean) < tolerance
