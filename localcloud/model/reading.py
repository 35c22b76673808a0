"""The text in a picture, by OCR: PP-OCRv6 through rapidocr, whose wheel brings the weights."""

import math
import statistics
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
"""The weights in rapidocr's wheel. Named by path, so that it has no reason to look for others on the network."""

MAX_SIDE = 4096
"""Pixels on the long side that a picture is read at; OCR itself works on at most 2,000."""

type Row = tuple[str, ...]
"""The texts on one line of the picture, from left to right."""


class ReaderMissingError(Exception):
    """Text reading is not installed."""


class Reader(Protocol):
    def read(self, image: bytes) -> tuple[Row, ...]:
        """The rows of text in an encoded image, from top to bottom. Raises ReaderMissingError."""


class OcrReader:
    """Loads its models at the first picture (half a second), once; reads one picture at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ocr: Any = None

    def read(self, image: bytes) -> tuple[Row, ...]:
        with self._lock:
            ocr = self._ocr = self._ocr or _load()
            import numpy as np  # noqa: PLC0415 - comes with rapidocr, as optional as that

            with Image.open(BytesIO(image)) as picture:
                picture.thumbnail((MAX_SIDE, MAX_SIDE))
                blue_green_red = np.asarray(picture.convert("RGB"))[:, :, ::-1]
            found = ocr(blue_green_red)
        if found.boxes is None or found.txts is None:
            return ()
        return arrange(
            [
                Word(text, *(tuple(map(float, corner)) for corner in box))
                for text, box in zip(found.txts, found.boxes, strict=True)
            ]
        )


def _load() -> Any:
    try:
        import rapidocr  # noqa: PLC0415 - large, and installed for the demo only
    except ModuleNotFoundError as error:
        raise ReaderMissingError from error
    folder = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={"Global.log_level": "error"}
        | {f"{task}.model_path": str(folder / name) for task, name in MODELS.items()}
    )


type Point = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of text and its corners in pixels, clockwise from the top left."""

    text: str
    top_left: Point
    top_right: Point
    bottom_right: Point
    bottom_left: Point

    @property
    def width(self) -> float:
        return math.dist(self.top_left, self.top_right)

    @property
    def height(self) -> float:
        return math.dist(self.top_left, self.bottom_left)

    @property
    def slope(self) -> float:
        """Radians that the text leans by."""
        return math.atan2(self.top_right[1] - self.top_left[1], self.top_right[0] - self.top_left[0])

    @property
    def middle(self) -> Point:
        corners = (self.top_left, self.top_right, self.bottom_right, self.bottom_left)
        return (sum(x for x, _ in corners) / 4, sum(y for _, y in corners) / 4)


def arrange(words: list[Word]) -> tuple[Row, ...]:
    """Words into rows: a photographed page leans, so each is placed by its distance along and across the lean."""
    if not words:
        return ()
    sideways = sum(word.height > word.width * 1.5 for word in words) * 2 > len(words)
    # Text on its side is taken to read upwards, the way most phones store it when held sideways.
    lean = -math.pi / 2 if sideways else statistics.median(word.slope for word in words)
    tall = statistics.median(min(word.height, word.width) for word in words)
    placed = sorted(
        (
            word.middle[1] * math.cos(lean) - word.middle[0] * math.sin(lean),
            word.middle[0] * math.cos(lean) + word.middle[1] * math.sin(lean),
            word.text.strip(),
        )
        for word in words
    )
    rows: list[list[tuple[float, str]]] = []
    last = -math.inf
    for across, along, text in placed:
        if across - last > tall * 0.6:
            rows.append([])
            last = across
        rows[-1].append((along, text))
    return tuple(tuple(text for _, text in sorted(row)) for row in rows)
