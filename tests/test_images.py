"""The model gets the same bytes where the service takes them, otherwise the picture that a person would see."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from struct import pack
from typing import TYPE_CHECKING, cast

import pytest
from PIL import Image, ImageCms
from support.damaged_images import bombs, drawing, encoded, exif, photo, samples
from support.documents import psd
from support.examples import some_of
from support.preparing import LIMITS, assert_alike, failure, opened, prepare

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import ImageFacts, ImageLimits, PreparedImage, as_stored, inspect

if TYPE_CHECKING:
    from pipeline.images.facts import SentFormat

# Two colours apart by this much still look the same: JPEG's loss, and that of the colour conversions.


# ── Sent as they are ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "jpeg",
        "jpeg progressive",
        "jpeg grey",
        "jpeg restarts",
        "jpeg thumbnail",
        "png",
        "png palette",
        "png 1",
        "gif",
        "gif interlaced",
        "webp",
        "webp lossless",
    ],
)
def test_an_accepted_image_is_sent_as_the_same_bytes_object(name: str) -> None:
    data = samples()[name]
    prepared = prepare(data)
    assert prepared.data is data
    assert prepared == PreparedImage(data, cast("SentFormat", name.split(maxsplit=1)[0]), 240, 180, transformed=False)
    assert prepared.media_type == f"image/{prepared.format}"


def test_passing_images_on_never_loads_pillow() -> None:
    """It costs 25 ms and 10 MB at a cold start, and most uploads are ordinary JPEGs."""
    code = (
        "import sys; from pipeline.images import *; data = sys.stdin.buffer.read(); "
        "assert as_stored(data, inspect(data, ImageLimits())).data is data; "
        "sys.exit('PIL' in sys.modules or 'pillow_heif' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], input=samples()["jpeg"], check=False, capture_output=True)
    assert (child.returncode, child.stderr) == (0, b"")


def test_a_motion_photo_is_sent_with_the_video_behind_it() -> None:
    data = samples()["jpeg"] + b"\0\0\0\x18ftypmp42" + b"\xff\xd8\xff" * 5_000
    assert prepare(data).data is data


def test_images_that_cannot_be_sent_are_not_passed_through() -> None:
    data = samples()["jpeg cmyk"]
    with pytest.raises(ValueError, match="CMYK"):
        as_stored(data, inspect(data, LIMITS))


# ── Converted ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_every_image_arrives_upright(kind: str, orientation: int) -> None:
    """The red corner of the scene is top left, whichever way the camera was held."""
    scene = Image.new("RGB", (96, 64), "white")
    scene.paste("red", (0, 0, 32, 32))
    held = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene.transpose(held[orientation]) if orientation > 1 else scene
    options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif(orientation)}
    prepared = prepare(encoded(stored, kind, **options))
    assert (prepared.width, prepared.height) == (96, 64)
    assert_alike(prepared, scene)


@pytest.mark.parametrize("kind", some_of(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]))
def test_a_large_image_is_scaled_to_what_the_model_sees(kind: str) -> None:
    scene = photo(3000, 2000)
    data = encoded(scene, kind)
    assert inspect(data, LIMITS).facts == ImageFacts(kind.lower(), 3000, 2000, pages=1 if kind == "TIFF" else None)
    prepared = prepare(data)
    assert (prepared.width, prepared.height, prepared.transformed) == (2048, 1365, True)
    assert_alike(prepared, scene)


def jp2(*boxes: tuple[bytes, bytes], extended: bool = False) -> bytes:
    """A JP2 file of these boxes."""
    written = b"\0\0\0\x0cjP  \r\n\x87\n"
    for kind, content in boxes:
        if extended:
            written += pack(">I4sQ", 1, kind, len(content) + 16) + content
        else:
            written += pack(">I4s", len(content) + 8, kind) + content
    return written


@pytest.mark.parametrize("extended", [False, True])
def test_the_codestream_of_a_jp2_file_is_found_behind_its_boxes(*, extended: bool) -> None:
    scene = photo(300, 200)
    stream = encoded(scene, "JPEG2000", no_jp2=True)
    data = jp2((b"ftyp", b"jp2 \0\0\0\0jp2 "), (b"jp2h", b"whatever"), (b"jp2c", stream), extended=extended)
    assert inspect(data, LIMITS).facts == ImageFacts("jpeg2000", 300, 200)


@pytest.mark.parametrize(
    "data",
    [
        jp2((b"ftyp", b"jp2 "), (b"jp2c", b"no codestream")),
        jp2((b"ftyp", b"jp2 ")) + bytes(8),
        b"\xff\x4f\xff\x51" + pack(">HH8IH", 47, 0, 900, 900, 0, 0, 0, 900, 0, 0, 3),
    ],
    ids=["no codestream", "a box without a size", "tiles without a width"],
)
def test_a_jpeg_2000_without_a_picture_is_damaged(data: bytes) -> None:
    assert failure(data).code == "corrupt_image"


def test_a_photoshop_document_that_says_nothing_of_its_composite_has_one() -> None:
    scene = photo(300, 200)
    data = psd(scene)
    assert_alike(prepare(data.replace(b"8BIM\x04\x21", b"8BIM\x04\x22")), scene)
    assert_alike(prepare(data.replace(b"8BIM", b"8BIX")), scene)


def test_of_a_photoshop_document_the_composite_is_sent() -> None:
    scene = photo(300, 200)
    data = psd(scene)
    assert inspect(data, LIMITS).facts == ImageFacts("psd", 300, 200)
    assert_alike(prepare(data), scene)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (psd(photo(30, 20), composite=False), "of layers only. Save it with"),
        (psd(photo(30, 20), version=2), r"a large Photoshop document \(PSB\)"),
        (psd(photo(30, 20), depth=16), "of an unusual kind"),
        (psd(photo(30, 20), mode=7), "of an unusual kind"),
        (b"\xff\x4f\xff\x51" + pack(">HH8IH", 47, 0, 900, 900, 0, 0, 1, 1, 0, 0, 3), "an unusual structure"),
    ],
    ids=["layers", "large", "deep", "multichannel", "a million tiles"],
)
def test_what_no_decoder_here_draws_is_named(data: bytes, what: str) -> None:
    with pytest.raises(PermanentFailure, match=what) as failed:
        inspect(data, LIMITS)
    assert failed.value.code == "unsupported_image"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("png animated", (160, 120)),
        ("gif animated", (160, 120)),
        ("webp animated", (160, 120)),
        ("avif animated", (160, 120)),
        ("tiff pages", (240, 180)),
    ],
)
def test_of_an_animation_or_document_the_first_picture_is_sent(name: str, size: tuple[int, int]) -> None:
    prepared = prepare(samples()[name])
    assert ((prepared.width, prepared.height), prepared.transformed) == (size, True)
    assert_alike(prepared, photo(*size, seed=7 if name == "tiff pages" else 0), tolerance=30)


@pytest.mark.parametrize(
    "name",
    ["bmp", "tiff", "tiff lzw", "tiff jpeg", "tiff big", "tiff cmyk", "tiff lab", "heic", "avif", "jpeg cmyk"],
)
def test_other_formats_and_colours_arrive_as_the_same_picture(name: str) -> None:
    prepared = prepare(samples()[name])
    assert (prepared.format, prepared.transformed) == ("jpeg", True)
    if name != "tiff lab":
        assert_alike(prepared, photo(240, 180), tolerance=20)


def test_cmyk_goes_through_its_profile_and_a_damaged_profile_does_no_harm() -> None:
    scene = photo(240, 180).convert("CMYK")
    data = encoded(scene, "JPEG", icc_profile=bytes(16) + b"CMYK" + bytes(500))
    assert_alike(prepare(data), scene.convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [1, 255, 4095, 65535])
def test_sixteen_bits_are_scaled_not_clipped(kind: str, top: int) -> None:
    """A ramp from black to white stays one, also if it fills only the bits of a sensor or of a mask."""
    ramp = [round(column / 255 * top) for column in range(256)] * 16
    deep = Image.frombytes("I;16", (256, 16), b"".join(value.to_bytes(2, "little") for value in ramp))
    seen = opened(prepare(encoded(deep, kind))).convert("L")
    for column in (0, 50, 100, 200, 255):
        expected = 255 * round(column / 255 * top) / top
        assert abs(seen.getpixel((column, 8)) - expected) <= 4  # type: ignore[operator] # one channel: a number


def test_measurements_are_stretched_to_what_can_be_seen() -> None:
    heights = Image.linear_gradient("L").convert("F").point(lambda value: value * 10 - 900)
    assert opened(prepare(encoded(heights, "TIFF"))).convert("L").getextrema() == (0, 255)


def test_measurements_that_are_no_numbers_are_refused() -> None:
    data = encoded(Image.new("F", (20, 20), float("nan")), "TIFF")
    assert failure(data).code == ErrorCode.UNSUPPORTED_IMAGE


@pytest.mark.parametrize(("ink", "background"), [("black", 255), ("white", 64)])
def test_transparency_goes_onto_a_background_that_shows_the_picture(ink: str, background: int) -> None:
    logo = Image.new("RGBA", (3000, 1000), (0, 0, 0, 0))
    logo.paste(ink, (500, 300, 2500, 700))
    seen = opened(prepare(encoded(logo, "PNG"))).convert("L")
    assert seen.getpixel((5, 5)) == background
    assert seen.getpixel((1024, 340)) == (0 if ink == "black" else 255)


def test_the_same_image_always_gives_the_same_bytes() -> None:
    data = samples()["tiff lab"]
    assert prepare(data) == prepare(data)
    assert "icc_profile" not in opened(prepare(data)).info, "a profile made here would hold the time of day"


@pytest.mark.parametrize("kind", some_of(["BMP", "TIFF", "PNG"]))
def test_png_for_drawings_and_jpeg_for_photographs(kind: str) -> None:
    assert prepare(encoded(drawing(2400, 1200), kind)).format == "png"
    assert prepare(encoded(photo(2400, 1200), kind)).format == "jpeg"


def test_a_photograph_is_never_blown_up_into_a_png() -> None:
    """A decoded JPEG has JPEG's traces already, however flat it looks."""
    assert prepare(encoded(drawing(2400, 1200), "JPEG")).format == "jpeg"


def test_a_colour_profile_goes_along() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(photo(2400, 300), "JPEG", icc_profile=profile, exif=exif(1), comment=b"taken at 52.5, 13.4")
    seen = opened(prepare(data))
    assert seen.info["icc_profile"] == profile
    assert not seen.getexif()
    assert "comment" not in seen.info


def test_threads_do_not_disturb_each_other() -> None:
    files = [data for data in samples().values() if not inspect(data, LIMITS).sendable] * 3
    alone = [prepare(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(prepare, files)) == alone


# ── Refused ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_file_is_an_empty_blob() -> None:
    assert failure(b"").code == ErrorCode.EMPTY_BLOB


def test_a_camera_raw_file_in_tiffs_clothes_is_refused_rather_than_its_thumbnail_sent() -> None:
    raw = encoded(photo(160, 120), "TIFF", tiffinfo={50706: (1, 4, 0, 0)})
    refused = failure(raw)
    assert (refused.code, "camera's raw file" in refused.message) == (ErrorCode.UNSUPPORTED_IMAGE, True)


def test_the_limits_are_the_operators() -> None:
    data = samples()["png"]
    assert failure(data, replace(LIMITS, max_bytes=len(data) - 1)).code == ErrorCode.IMAGE_TOO_LARGE
    assert failure(data, replace(LIMITS, max_pixels=240 * 180 - 1)).code == ErrorCode.IMAGE_TOO_LARGE
    assert inspect(data, ImageLimits(len(data), 240 * 180)).sendable


@pytest.mark.parametrize("name", list(bombs()))
def test_a_bomb_fails_with_its_code_before_it_goes_off(name: str) -> None:
    made, code = bombs()[name]
    assert failure(made()).code == code


def test_a_message_says_what_is_wrong_and_what_to_do() -> None:
    assert (
        failure(samples()["jpeg"][:-1_000]).message
        == "The JPEG image is damaged: it is cut off, and some of the picture is missing. "
        "Save it again in the program it comes from and upload that."
    )
    cut = failure(samples()["png"][:-1_000])
    assert (
        cut.message == "The PNG image is damaged: it cannot be decoded. "
        "Save it again in the program it comes from and upload that."
    )
    details = cut.details
    assert details is not None
    assert details["format"] == "png"
    assert "truncated" in details["cause"]
