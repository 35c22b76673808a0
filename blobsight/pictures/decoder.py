"""A process that makes thumbnails: `python -m blobsight.pictures.decoder`.

Images are hostile until proven otherwise, and decoders are where that would tell. So they are decoded here, in a
process that knows no account and no token, has a ceiling on its memory, and may be ended at any moment. It answers
requests on stdin, as `blobsight.pictures.wire` says, until stdin is closed.
"""

import io
import sys
from contextlib import suppress

from PIL import Image, ImageOps

from blobsight.pictures.wire import ANSWER, MOST_BYTES, REQUEST
from pipeline.errors import PermanentFailure
from pipeline.images import ImageLimits, Unclear, convert, inspect, inspect_by_decoder
from pipeline.images.facts import Inspection
from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

LIMITS = ImageLimits(max_bytes=MOST_BYTES, max_pixels=250_000_000, max_conversion_bytes=1024 * 1024 * 1024)
MEMORY_BYTES = 3 * 1024 * 1024 * 1024
"""Ceiling on the process's address space, where the system has one: a conversion, its file, and the interpreter."""
QUALITY = 82


def picture(data: bytes, longest: int) -> bytes:
    """The image in `data`, upright, as WEBP of at most `longest` pixels a side.

    Raises:
        PermanentFailure: it is not an image, or one that can't be decoded.
    """
    if is_packed(data):
        data = unpacked(data, MOST_BYTES)
    try:
        inspection = inspect(data, LIMITS)
    except Unclear as unclear:
        inspection = inspect_by_decoder(data, unclear, LIMITS)
    image = _opened(data, inspection, longest)
    image.thumbnail((longest, longest))
    target = io.BytesIO()
    _on_white(image).save(target, "WEBP", quality=QUALITY, method=2)
    return target.getvalue()


def _opened(data: bytes, inspection: Inspection, longest: int) -> Image.Image:
    """The picture, decoded at a fraction of its size where its format allows that."""
    kind = inspection.facts.format
    if inspection.sendable or (kind == "jpeg" and inspection.header.obstacle is None and not inspection.start):
        image = Image.open(io.BytesIO(data), formats=[kind.upper()])
        if image.mode in ("RGB", "L", "P", "RGBA", "LA"):
            image.draft("RGB", (2 * longest, 2 * longest))
            return ImageOps.exif_transpose(image)
    prepared = convert(data, inspection, LIMITS)
    return Image.open(io.BytesIO(prepared.data), formats=[prepared.format.upper()])


def _on_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return canvas


def main() -> None:
    """Answer requests until stdin is closed."""
    _bound_memory()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(REQUEST.size):
        longest, size = REQUEST.unpack(header)
        done, content = _answered(requests.read(size), longest)
        answers.write(ANSWER.pack(done, len(content)) + content)
        answers.flush()


def _answered(data: bytes, longest: int) -> tuple[bool, bytes]:
    try:
        return True, picture(data, longest)
    except PermanentFailure as failure:
        return False, failure.message.encode("utf-8", "replace")
    except (TooLarge, Broken):
        return False, b"The file is compressed, and can't be unpacked."
    except MemoryError:
        return False, b"The image takes too much memory to decode."
    except Exception:  # noqa: BLE001 - decoders raise whatever their parsing trips over
        return False, b"The image can't be decoded."


def _bound_memory() -> None:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))


if __name__ == "__main__":
    main()
