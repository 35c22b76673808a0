"""The preparation of an image for the model, against the plain way with Pillow.

    python -m bench.prepare '{"way": "ours", "image": PATH}'

is one contender: it prepares one image in a process that has prepared nothing before, so that its peak of memory is
that image's.
"""

import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.measure import Row, Say, answer, contender, in_turns, row, used
from pipeline.images import ImageLimits, as_stored, convert, inspect
from pipeline.images.resolution import STANDARD

NAME = "prepare"
PLAIN = "plain Pillow"
LIMITS = ImageLimits()
"""The app's defaults."""
GOAL = "JPEG, 48 megapixels"
"""The case that has targets: a phone's largest photo."""
PASSES = 200
"""Times that an image which is sent as it is gets inspected: once is too short to measure."""


def run(repeats: int, quick: bool, say: Say) -> list[Row]:  # noqa: FBT001 - the interface of all benchmarks
    """Time and memory for each kind of image.

    Raises:
        ContenderError: one could not be prepared.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="blobsight-") as directory:
        path = Path(directory) / "image"
        for case, make in (QUICK_CASES if quick else CASES).items():
            say(f"{case}: making the image")
            path.write_bytes(make())
            say(case)
            figures = in_turns(repeats, ours=lambda: _figures("ours", path), plain=lambda: _figures("plain", path))
            rows += _rows(case, figures["ours"], figures["plain"])
    return rows


def _figures(way: str, path: Path) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = contender("bench.prepare", {"way": way, "image": str(path)})
    return figures


def _rows(case: str, ours: list[Mapping[str, Any]], plain: list[Mapping[str, Any]]) -> list[Row]:
    def both(key: str, factor: float) -> tuple[list[float], list[float]]:
        return [factor * one[key] for one in ours], [factor * one[key] for one in plain]

    goal = case == GOAL
    if not ours[0]["transformed"]:
        return [row(NAME, f"{case}, sent as it is", "µs", *both("wall", 1e6), baseline_name=PLAIN)]
    return [
        row(NAME, case, "ms", *both("wall", 1e3), baseline_name=PLAIN, at_most=1 / 3 if goal else None),
        row(NAME, case, "MB at peak", *both("peak", 1e-6), baseline_name=PLAIN, at_most=0.5 if goal else None),
    ]


def _photo(megapixels: float, kind: str, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        from bench import pictures  # noqa: PLC0415 - a contender must not have loaded Pillow before it is measured

        return pictures.encoded(pictures.photo(megapixels), kind, **options)

    return make


def _screenshot(width: int, height: int) -> Callable[[], bytes]:
    def make() -> bytes:
        from bench import pictures  # noqa: PLC0415 - likewise

        return pictures.encoded(pictures.screenshot(width, height), "PNG")

    return make


def _heic(megapixels: float) -> Callable[[], bytes]:
    def make() -> bytes:
        import pillow_heif  # noqa: PLC0415 - likewise

        pillow_heif.register_heif_opener()
        return _photo(megapixels, "HEIF", quality=60)()

    return make


CASES: Mapping[str, Callable[[], bytes]] = {
    "JPEG, 12 megapixels": _photo(12, "JPEG", quality=90),
    GOAL: _photo(48, "JPEG", quality=90),
    "PNG screenshot, 3840 x 2160": _screenshot(3840, 2160),
    "HEIC, 12 megapixels": _heic(12),
    "TIFF, 12 megapixels": _photo(12, "TIFF"),
    "JPEG, 3 megapixels": _photo(3, "JPEG", quality=90),
    "PNG screenshot, 1920 x 1080": _screenshot(1920, 1080),
}
QUICK_CASES: Mapping[str, Callable[[], bytes]] = {
    "JPEG, 5 megapixels": _photo(5, "JPEG", quality=90),
    "PNG screenshot, 2560 x 1440": _screenshot(2560, 1440),
    "HEIC, 1 megapixel": _heic(1),
    "JPEG, 1 megapixel": _photo(1, "JPEG", quality=90),
}


def _prepare(task: Mapping[str, str]) -> dict[str, Any]:
    """`wall` in seconds for one image, `peak` in bytes above what was held before, and whether it was `transformed`."""
    data = Path(task["image"]).read_bytes()
    way = _ours if task["way"] == "ours" else _plain
    with used() as first:
        transformed = way(data)
    if transformed:
        return {"wall": first.wall, "peak": first.peak, "transformed": True}
    with used() as more:
        for _ in range(PASSES):
            way(data)
    return {"wall": more.wall / PASSES, "peak": first.peak, "transformed": False}


def _ours(data: bytes) -> bool:
    inspection = inspect(data, LIMITS)
    if inspection.sendable:
        return as_stored(data, inspection).transformed
    return convert(data, inspection, LIMITS).transformed


def _plain(data: bytes) -> bool:
    from PIL import Image  # noqa: PLC0415 - its import is measured, as ours is

    if data[4:8] == b"ftyp":
        import pillow_heif  # noqa: PLC0415 - likewise

        pillow_heif.register_heif_opener()
    image: Image.Image = Image.open(BytesIO(data))
    image = image.convert("RGB")
    image.thumbnail((STANDARD.side, STANDARD.side))
    image.save(BytesIO(), "JPEG")
    return True


if __name__ == "__main__":
    answer(_prepare)
