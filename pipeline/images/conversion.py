"""Decoding and encoding anew what the service does not take as it is. The only module that imports Pillow.

What the model should see is what a person sees who opens the file: upright, in its colours, transparency on a
background that shows it. Steps are ordered so that as little as possible happens at full size.

Thread-safe: each call works on its own image. Pillow's process-wide state is set once, here, at import.
"""

import io
import math
import re
import threading
import warnings
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

from PIL import Image, ImageChops, ImageCms, ImageStat

from pipeline.errors import PermanentFailure, RetryableFailure
from pipeline.images.bare import MAX_PROFILE_BYTES, bare
from pipeline.images.cost import draft
from pipeline.images.facts import (
    SERVICE_MAX_BYTES,
    Header,
    ImageFacts,
    ImageLimits,
    Inspection,
    PreparedImage,
    SentFormat,
)
from pipeline.images.headers import NO_END, VEILED, ended_jpegs, exif_orientation, jpeg_passes
from pipeline.images.inspection import (
    IN_FRONT,
    Unclear,
    judged,
    refusal,
    refusal_of_rare,
    taken_by_service,
    too_many_passes,
)
from pipeline.images.recognise import unsupported
from pipeline.images.resolution import Resolution

# Our own limit is checked before anything is decoded, for every format; Pillow's would warn below it or refuse
# what an operator has allowed.
Image.MAX_IMAGE_PIXELS = None
# Remarks on odd metadata, which we don't use. They would go to stderr, which does not say which image it was.
warnings.filterwarnings("ignore", module=r"PIL\.")

_HEIC_LOCK = threading.Lock()

# Format → (Pillow's name, its plugin). Importing the one needed spares 40 others, and `formats=` allows no other.
_PLUGINS = {
    "jpeg": ("JPEG", "PIL.JpegImagePlugin"),
    "png": ("PNG", "PIL.PngImagePlugin"),
    "gif": ("GIF", "PIL.GifImagePlugin"),
    "webp": ("WEBP", "PIL.WebPImagePlugin"),
    "bmp": ("BMP", "PIL.BmpImagePlugin"),
    "tiff": ("TIFF", "PIL.TiffImagePlugin"),
    "jpeg2000": ("JPEG2000", "PIL.Jpeg2KImagePlugin"),
    "psd": ("PSD", "PIL.PsdImagePlugin"),
    "avif": ("AVIF", "PIL.AvifImagePlugin"),
    "heic": ("HEIF", "pillow_heif"),
}

_COLOR_MAP = 320  # tag of a TIFF: all reds, then all greens, then all blues

# What brings an image upright, by EXIF orientation: Exif 3.0, table 6.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Each pass of a progressive JPEG goes over the whole image, and costs a few bytes to ask for: 100 passes are ten times
# what programs write.
_MAX_PASSES = 100
# Passes times pixels bound the time, at up to 2 ns for each. Programs write up to 12 passes: with so many, an image of
# any size that MAX_IMAGE_PIXELS allows is taken.
_USUAL_PASSES = 12
_MIN_PASS_PIXELS = 2_000_000_000

# Frames are drawn onto those before them: frame 1,000 of a screen recording is a second of work.
_MOST_FRAME_PIXELS = 4_000_000_000

# Above it, a JPEG of the same picture would be smaller but no harder to see: text stays legible at 90.
_JPEG_QUALITY = 90
# Photographs and scans stay below a tenth, screenshots and drawings are well above a half.
_FLAT_SHARE = 0.4
_LOSSY_FORMATS = frozenset({"jpeg", "jpeg2000", "heic", "avif"})
_ANIMATED = frozenset({"gif", "png", "webp", "avif", "heic"})

# In what a decoder says of a file: objects and their addresses, numbers in hexadecimal, paths.
_INTERNAL = re.compile(r"<[^>]*>|\b0x[0-9a-fA-F]+\b|(?:/[\w.+-]+){2,}")
_MAX_CAUSE = 200

_WHITE, _DARK_GREY = (255, 255, 255), (64, 64, 64)
_NEARLY_WHITE = 225


def inspect_by_decoder(data: bytes, unclear: Unclear, limits: ImageLimits) -> Inspection:
    """See `pipeline.images.inspect_by_decoder`."""
    kind = unclear.kind
    image = _open(kind, data, data, unclear.problem)
    header = Header(
        *image.size,
        orientation=_orientation_by_decoder(image),
        obstacle="only the decoder can read its header",
        channels=1 if image.mode in {"1", "L"} else 4,
        # The worst: no colour is subsampled, and all are kept.
        planes_bytes=6 * image.width * image.height if kind == "jpeg" else 0,
    )
    return judged(kind, header, data, limits)


def number_of_frames(data: bytes, inspection: Inspection) -> int:
    """See `pipeline.images.number_of_frames`."""
    kind = inspection.facts.format
    if kind not in _ANIMATED:  # a Photoshop document has layers, which are no pictures of their own
        return 1
    try:
        image = _open(kind, data[inspection.start :], data, "it cannot be decoded")
        return int(getattr(image, "n_frames", 1))
    except (PermanentFailure, RetryableFailure):
        raise
    except Exception as exc:
        raise refusal(kind, "its frames can't be counted", data, _cause(exc)) from exc


def convert(
    data: bytes, inspection: Inspection, limits: ImageLimits, frame: int = 1, most_bytes: int = SERVICE_MAX_BYTES
) -> PreparedImage:
    """See `pipeline.images.convert`."""
    facts = inspection.facts
    stored = data
    data = data[inspection.start :]
    if inspection.obstacle == IN_FRONT and taken_by_service(facts.format):
        return PreparedImage(data, facts.format, facts.width, facts.height, transformed=True)
    image = _decoded(data, inspection, limits, frame)
    if inspection.obstacle == VEILED and taken_by_service(facts.format) and image.mode == "RGBA":
        return PreparedImage(stored, facts.format, facts.width, facts.height, transformed=False)
    profile = image.info.get("icc_profile") if image.mode == "RGB" else None
    picture = _opaque(_scaled(image, limits.seen))
    if (upright := _UPRIGHT.get(_orientation(image, inspection))) is not None:  # one of them is 0
        picture = picture.transpose(upright)
    kind: SentFormat = "png" if facts.format not in _LOSSY_FORMATS and _is_flat(picture) else "jpeg"
    best = _encode(picture, kind, profile)
    if len(best) > most_bytes:
        return _smaller(picture, most_bytes)
    return PreparedImage(best, kind, picture.width, picture.height, transformed=True)


_LESS = ((90, 1.0), (75, 1.0), (75, 0.7), (60, 0.5))
"""Quality of a JPEG, and the share of its sides, that is tried one after the other where an image has to be small."""


def encoded(picture: Image.Image, *, most_bytes: int) -> PreparedImage:
    """A picture in mode L or RGB, encoded for the model: lossless where it is flat and that fits, else as JPEG.

    Raises:
        ValueError: it does not fit even so.
    """
    if _is_flat(picture):
        data = _encode(picture, "png", None)
        if len(data) <= most_bytes:
            return PreparedImage(data, "png", picture.width, picture.height, transformed=True)
    return _smaller(picture, most_bytes)


def _smaller(picture: Image.Image, most_bytes: int) -> PreparedImage:
    for quality, share in _LESS:
        size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
        smaller = picture if share == 1 else picture.resize(size, Image.Resampling.BICUBIC)
        target = io.BytesIO()
        smaller.save(target, "JPEG", quality=quality)
        if target.tell() <= most_bytes:
            return PreparedImage(target.getvalue(), "jpeg", smaller.width, smaller.height, transformed=True)
    raise ValueError(f"it does not fit into {most_bytes:,} bytes")


def _check_passes(data: bytes, facts: ImageFacts, limits: ImageLimits) -> None:
    passes, pixels = jpeg_passes(data), facts.width * facts.height
    if passes > _MAX_PASSES:
        raise unsupported(f"a progressive JPEG of {passes:,} passes, which takes too long to decode")
    most = max(_USUAL_PASSES * limits.max_pixels, _MIN_PASS_PIXELS)
    if passes > 1 and passes * pixels > most:
        raise too_many_passes(passes, facts, most // pixels)


def _decoded(data: bytes, inspection: Inspection, limits: ImageLimits, frame: int = 1) -> Image.Image:
    """A frame or page, in mode L, RGB, RGBA or CMYK; RGBA only if some of it can be seen."""
    facts, directory = inspection.facts, inspection.header.directory
    kind = facts.format
    if kind == "jpeg":
        _check_passes(data, facts, limits)
    try:
        if inspection.header.obstacle == NO_END:
            image = _loaded_jpeg_without_end(data, inspection.header, limits)
        else:
            whole = data if frame > 1 else bare(kind, data, directory)
            image = _loaded(kind, whole, data, inspection.header, limits, frame=frame)
        if kind == "tiff":
            _mend_palette(image)
        return _without_useless_alpha(_eight_bits(image))
    except (PermanentFailure, RetryableFailure):
        raise
    except MemoryError as exc:
        # Size is bounded before, so it is this instance that is short of memory, and another attempt may find more.
        raise RetryableFailure("There was not enough memory to convert the image.") from exc
    except Exception as exc:
        # Everything, because decoders raise whatever their parsing trips over: KeyError, zlib.error, SystemError, …
        rare = refusal_of_rare(kind, data, directory) if kind != "bmp" else None  # one that could be opened is usual
        raise rare or refusal(kind, "it cannot be decoded", data, _cause(exc)) from exc


def _loaded(  # noqa: PLR0913 - the picture, and what is known of it
    kind: str, bare_data: bytes, data: bytes, header: Header, limits: ImageLimits, *, frame: int = 1
) -> Image.Image:
    image = _open(kind, bare_data, data, "it cannot be decoded", header.directory)
    # Once more, for the decoder's own reading of the size: it is what it will allocate.
    judged(kind, replace(header, width=image.width, height=image.height), data, limits)
    image.draft(None, draft(*image.size, limits.seen))
    if frame > 1:
        if frame * image.width * image.height > _MOST_FRAME_PIXELS:
            raise unsupported(f"an animation of which frame {frame:,} takes too long to reach")
        image.seek(frame - 1)
    image.load()
    return image


def _loaded_jpeg_without_end(data: bytes, header: Header, limits: ImageLimits) -> Image.Image:
    """A JPEG of which no more than the end marker is missing: every viewer shows all of it.

    Raises:
        PermanentFailure: corrupt_image; some of the picture is missing.
    """
    image: Image.Image | None = None
    for ended in ended_jpegs(data):
        other = _loaded("jpeg", ended, data, header, limits)
        if image and _show_the_same(image, other):
            return image
        image = other
    raise refusal("jpeg", "it is cut off, and some of the picture is missing", data)


def _show_the_same(image: Image.Image, other: Image.Image) -> bool:
    # By strips, since there is no memory to spare for a third image.
    for top in range(0, image.height, 64):
        strip = (0, top, image.width, min(top + 64, image.height))
        if ImageChops.difference(image.crop(strip), other.crop(strip)).getbbox():
            return False
    return True


def _open(kind: str, bare_data: bytes, data: bytes, problem: str, directory: int | None = None) -> Image.Image:
    """The picture in `bare_data` as its decoder opens it: nothing is decoded yet.

    Raises:
        PermanentFailure: unsupported_image or corrupt_image; `problem` says what seems to be wrong with `data`.
    """
    name, plugin = _PLUGINS[kind]
    if kind == "heic":
        _register_heic()
    else:
        import_module(plugin)
    try:
        return Image.open(io.BytesIO(bare_data), formats=[name])
    except MemoryError as exc:
        raise RetryableFailure("There was not enough memory to open the image.") from exc
    except Exception as exc:
        raise refusal_of_rare(kind, data, directory) or refusal(kind, problem, data, _cause(exc)) from exc


def _cause(exc: Exception) -> str:
    """The decoder's words, fit for a result: no addresses, no objects, no paths."""
    if not isinstance(exc, OSError | SyntaxError | ValueError | EOFError):
        return "the decoder stopped"
    said = " ".join(_INTERNAL.sub("…", str(exc)).split())
    return "".join(character for character in said if character.isprintable())[:_MAX_CAUSE] or "the decoder stopped"


def _register_heic() -> None:
    with _HEIC_LOCK:
        if "HEIF" in Image.OPEN:
            return
        import pillow_heif  # noqa: PLC0415 - 26 MB of libraries that few images need

        # The picture itself and nothing else: a thumbnail may show something different.
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _mend_palette(image: Image.Image) -> None:
    """Some scanners write colours of 8 bits where a TIFF has 16, and Pillow makes black of them all."""
    colours: tuple[int, ...] = cast("Any", image).tag_v2.get(_COLOR_MAP, ())
    if image.mode == "P" and colours and max(colours) < 256:
        third = len(colours) // 3
        image.putpalette(bytes(value for n in range(third) for value in colours[n::third]))


def _eight_bits(image: Image.Image) -> Image.Image:
    match image.mode:
        case "L" | "RGB" if "transparency" not in image.info:
            return image
        case "RGBA" | "CMYK":
            return image
        case "I" | "F" | "I;16" | "I;16L" | "I;16B" | "I;16N":
            return _grey_of_deep(image)
        case "LAB":
            return _through_profiles(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
        case "1":
            return image.convert("L")
        case _:
            image = image.convert("LA") if image.mode == "La" else image
            return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _grey_of_deep(image: Image.Image) -> Image.Image:
    """One channel of 16 or 32 bits, scaled to 8: Pillow's own conversion clips, and a scan comes out all white."""
    if image.mode in {"I;16L", "I;16B", "I;16N"}:
        image = image.convert("I")  # the only one of these that `point` can scale, besides plain I;16
    low, high = cast("tuple[float, float]", image.getextrema())  # one channel: numbers, not pairs of them
    if not (math.isfinite(low) and math.isfinite(high)):
        raise unsupported("a table of measurements with values that are not numbers")
    if low >= 0:
        # Sensors fill 12 of 16 bits, masks are 0 or 1: the smallest usual range that holds all values is the one meant.
        low, high = 0, next((top for top in (1, 255, 4095, 65535) if high <= top), high)
    scale = 255 / ((high - low) or 1)
    return image.point(lambda value: value * scale - low * scale).convert("L")


def _without_useless_alpha(image: Image.Image) -> Image.Image:
    """Alpha that is zero everywhere is a mistake of the program that wrote it, and ignored, as in viewers."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def _scaled(image: Image.Image, seen: Resolution) -> Image.Image:
    size = seen.fitted(*image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _opaque(image: Image.Image) -> Image.Image:
    """In mode L or RGB. Transparency goes onto white, as where people look at such images, or grey if that hides it."""
    if image.mode == "CMYK":
        return _rgb_of_cmyk(image)
    if image.mode != "RGBA":
        return image
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    visible = ImageStat.Stat(image.convert("RGB").convert("L"), mask=alpha)
    hidden_by_white = bool(visible.count[0]) and visible.mean[0] > _NEARLY_WHITE
    canvas = Image.new("RGB", image.size, _DARK_GREY if hidden_by_white else _WHITE)
    canvas.paste(image, mask=alpha)
    return canvas


def _rgb_of_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile[16:20] == b"CMYK":
        try:
            return _through_profiles(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile: the plain formula's colours are duller, and right enough
    return image.convert("RGB")


def _through_profiles(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    # None is what it returns for inPlace.
    result = cast("Image.Image", ImageCms.profileToProfile(image, source, target, outputMode="RGB"))
    # sRGB needs no profile, and this one holds the time of day: the same image must give the same bytes.
    result.info = {}
    return result


def _orientation(image: Image.Image, inspection: Inspection) -> int:
    """EXIF's, where it is still to be applied: the decoders of HEIC and TIFF have done it."""
    if inspection.facts.format != "avif":
        return inspection.header.orientation
    return _orientation_by_decoder(image)  # Pillow writes the file's own rotation into it


def _orientation_by_decoder(image: Image.Image) -> int:
    block = image.info.get("exif")
    if not isinstance(block, bytes) or image.format in {"HEIF", "TIFF"}:
        return 1
    return exif_orientation(block.removeprefix(b"Exif\0\0"))


def _is_flat(image: Image.Image) -> bool:
    """Few-coloured by area: screenshots, drawings, text. PNG keeps those sharp, and small."""
    grey = image.convert("L")
    width, height = grey.size
    if width == 1:
        return True
    left, right = grey.crop((0, 0, width - 1, height)), grey.crop((1, 0, width, height))
    equal = ImageChops.difference(left, right).histogram()[0]
    return equal >= _FLAT_SHARE * (width - 1) * height


def _encode(image: Image.Image, kind: SentFormat, profile: object) -> bytes:
    # The profile goes along as it does in an image sent as it is. It must be of the picture's own kind.
    keep = isinstance(profile, bytes) and profile[16:20] == b"RGB " and len(profile) <= MAX_PROFILE_BYTES
    image.info = {"icc_profile": profile} if keep and image.mode == "RGB" else {}
    target = io.BytesIO()
    if kind == "png":
        # On a scaled screenshot level 1 is faster than the default, and even smaller.
        image.save(target, "PNG", compress_level=1)
    else:
        image.save(target, "JPEG", quality=_JPEG_QUALITY, icc_profile=image.info.get("icc_profile"))
    return target.getvalue()
