"""A conversion holds no more memory than its estimate says: what bounds an instance is measured, not believed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import pytest
from PIL import Image
from support.conversion_peak import peak_and_estimate
from support.damaged_images import encoded
from support.documents import psd
from support.examples import some_of
from support.odd_images import large_jpeg
from support.process_memory import CLEAR_REFS

from pipeline.images.resolution import ORIGINAL

SMALLER = (0, 0, 3_600, 2_400)

pytestmark = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux says what a process held at its peak")


@cache
def _grey() -> Image.Image:
    return Image.linear_gradient("L").resize((5_000, 4_000))


@cache
def _scene() -> Image.Image:
    grey = _grey()
    return Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM), grey))


@cache
def _with_alpha() -> Image.Image:
    return Image.merge("RGBA", (*_scene().split(), _grey()))


KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: large_jpeg(12_000, 9_000),
    "jpeg that is not reduced": lambda: encoded(_scene().crop((0, 0, 3_800, 3_800)), "JPEG"),
    "jpeg without its end": lambda: encoded(_scene().crop((0, 0, 3_800, 3_800)), "JPEG")[:-2],
    "jpeg progressive": lambda: encoded(_scene(), "JPEG", progressive=True),
    "jpeg progressive, all colours": lambda: encoded(_scene(), "JPEG", progressive=True, subsampling=0),
    "png": lambda: encoded(_scene(), "PNG", compress_level=1),
    "png with alpha": lambda: encoded(_with_alpha(), "PNG", compress_level=1),
    "png grey": lambda: encoded(_grey(), "PNG", compress_level=1),
    "gif": lambda: encoded(_grey().convert("P"), "GIF", transparency=0),
    "bmp": lambda: encoded(_scene().crop((0, 0, 5_000, 3_000)), "BMP"),
    "tiff in one strip": lambda: encoded(_scene(), "TIFF", compression="tiff_lzw", strip_size=2**30),
    "tiff with alpha": lambda: encoded(_with_alpha(), "TIFF", compression="packbits"),
    "tiff of numbers": lambda: encoded(_grey().crop((0, 0, 4_000, 3_000)).convert("F"), "TIFF"),
    "tiff bilevel": lambda: encoded(_grey().convert("1"), "TIFF", compression="group4"),
    # These take long to encode, so they are smaller: their estimates were measured by hand at 48 megapixels.
    "heic with alpha": lambda: encoded(_with_alpha().crop((0, 0, 2_400, 1_800)), "HEIF", quality=10),
    "avif": lambda: encoded(_scene().crop(SMALLER), "AVIF", speed=10, quality=20, subsampling="4:4:4"),
    "jpeg2000": lambda: encoded(_scene().crop(SMALLER), "JPEG2000", irreversible=True),
    "psd": lambda: psd(_scene()),
    "webp": lambda: encoded(_scene(), "WEBP", method=0),
    "webp lossless with alpha": lambda: encoded(_with_alpha(), "WEBP", lossless=True, method=0, quality=0),
}


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """A process for each measurement, forked from one that has imported what they need and converted nothing."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["support.conversion_peak"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        yield pool


@pytest.mark.parametrize("kind", some_of(list(KINDS)))
def test_the_peak_stays_below_the_estimate(kind: str, processes: ProcessPoolExecutor) -> None:
    peak, estimate = processes.submit(peak_and_estimate, KINDS[kind]()).result()
    assert peak < estimate
    assert peak > estimate / 8, "an estimate that is far too high keeps images away that could be converted"


@pytest.mark.parametrize("kind", some_of(["jpeg progressive, all colours", "gif"]))
def test_the_peak_stays_below_the_estimate_where_a_larger_image_is_sent(
    kind: str, processes: ProcessPoolExecutor
) -> None:
    """With detail original. The two that come nearest to their estimates."""
    peak, estimate = processes.submit(peak_and_estimate, KINDS[kind](), ORIGINAL).result()
    assert peak < estimate
