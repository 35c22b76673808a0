"""A picture that every viewer opens is not called damaged, and what is sent of it is what a viewer shows."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat
from support.damaged_images import drawing, encoded, exif, photo, png_chunk, png_of, samples, tiff_of
from support.examples import examples
from support.odd_images import (
    Page,
    bmp_with_alpha,
    interlaced_png,
    large_jpeg,
    png_with_chunk,
    tiff_of_pages,
)
from support.preparing import assert_alike, failure, inspected, opened, prepare

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import (
    ImageFacts,
    ImageLimits,
    PreparedImage,
    Unclear,
    convert,
    inspect,
    inspect_by_decoder,
)

SCENE = photo(320, 240)
LARGE = photo(2400, 300)
LARGE_PNG = encoded(LARGE, "PNG")
AS_IT_SHOULD_BE = prepare(LARGE_PNG)
RED = (200, 30, 30)


# ── PNG: what is not pixels ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"zTXt", b"workflow\0\0" + zlib.compress(b'{"nodes": [1, 2, 3]} ' * 120_000)),
        (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(bytes(2_000_000))),
        (b"zTXt", b"Comment\0\7not deflate"),
        (b"iCCP", b"Printer\0\0" + zlib.compress(bytes(2_000_000))),
        (b"iCCP", b"Printer\0\0not deflate"),
        (b"pHYs", b"\0"),
        (b"cHRM", b"\0\0"),
        (b"sRGB", b""),
        (b"gAMA", b"\1"),
        (b"tRNS", b"\0"),
        (b"eXIf", b"II*\0\xff\xff\xff\xff"),
        (b"fcTL", b"\0"),
        (b"tIME", b""),
        (b"caBX", random.Random(1).randbytes(100_000)),  # noqa: S311 - a picture, not a secret
    ],
)
@pytest.mark.parametrize("checksum", [None, 4711], ids=["checksum right", "checksum wrong"])
def test_damage_outside_the_pixels_of_a_png_does_not_refuse_it(
    kind: bytes, content: bytes, checksum: int | None
) -> None:
    assert prepare(png_with_chunk(LARGE_PNG, kind, content, checksum=checksum)) == AS_IT_SHOULD_BE


@settings(examples(30), suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"cHRM", b"gAMA", b"sRGB", b"bKGD", b"hIST", b"sBIT"])
    | st.from_regex(rb"[a-z][A-Za-z][A-Z][a-z]", fullmatch=True).filter(lambda kind: kind not in {b"tRNS", b"eXIf"}),
    content=st.binary(max_size=300),
    wrong=st.booleans(),
)
def test_no_ancillary_chunk_changes_the_picture(*, kind: bytes, content: bytes, wrong: bool) -> None:
    assert prepare(png_with_chunk(LARGE_PNG, kind, content, checksum=7 if wrong else None)) == AS_IT_SHOULD_BE


def test_colours_transparency_and_profile_of_a_png_stay() -> None:
    profile = prepare(encoded(LARGE, "PNG", icc_profile=bytes(16) + b"RGB " + bytes(200)))
    assert opened(profile).info["icc_profile"] == bytes(16) + b"RGB " + bytes(200)
    palette = drawing(2400, 300).quantize(16)
    assert_alike(prepare(encoded(palette, "PNG")), palette.convert("RGB"))
    clear = encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert opened(prepare(clear)).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_many_small_pieces_of_pixels_are_one_picture() -> None:
    at = LARGE_PNG.index(b"IDAT") - 4
    length = int.from_bytes(LARGE_PNG[at : at + 4])
    pixels = LARGE_PNG[at + 8 : at + 8 + length] if LARGE_PNG.count(b"IDAT") == 1 else _pixels(LARGE_PNG)
    pieces = b"".join(png_chunk(b"IDAT", pixels[n : n + 16]) for n in range(0, len(pixels), 16))
    assert len(pieces) // 28 > 30_000
    assert prepare(LARGE_PNG[:at] + pieces + png_chunk(b"IEND", b"")) == AS_IT_SHOULD_BE


def _pixels(png: bytes) -> bytes:
    at, pixels = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        pixels += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    return pixels


# ── JPEG: what stands between the segments, and in front of any picture ──────────────────────────────────────────


@pytest.mark.parametrize("junk", [b"\0\0\x124", b"\xff\0", b"JUNK" * 200, b"\xff\xff\xff\0\xff\0", bytes(100_000)])
def test_junk_between_segments_is_skipped(junk: bytes) -> None:
    jpeg = encoded(SCENE, "JPEG", quality=90)
    behind_app0 = 4 + struct.unpack(">H", jpeg[4:6])[0]
    odd = jpeg[:behind_app0] + junk + jpeg[behind_app0:]
    assert inspect(odd, ImageLimits()).facts == ImageFacts("jpeg", 320, 240)
    assert_alike(prepare(odd), SCENE, tolerance=8)


FRONTS = {
    "a line break": b"\n",
    "line breaks": b"\r\n\r\n",
    "a byte order mark": b"\xef\xbb\xbf",
    "zeros": bytes(40),
    "headers": b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 4711\r\n\r\n",
    "a warning": b"<br />\n<b>Warning</b>:  Undefined variable $id in <b>/www/image.php</b> on line <b>7</b><br />\n",
    "a MacBinary header": (b"\0\x09photo.jpg".ljust(65, b"\0") + b"JPEGGKON").ljust(128, b"\0"),
    "something": random.Random(4).randbytes(1_000),  # noqa: S311 - a picture, not a secret
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
def test_a_picture_starts_where_its_signature_starts(kind: str, front: str) -> None:
    """A picture that the service takes is sent without the bytes in front of it, and without loss."""
    data = samples()[kind]
    assert prepare(FRONTS[front] + data) == PreparedImage(data, kind, 240, 180, transformed=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", ["bmp", "tiff", "heic", "avif", "png turned", "jpeg cmyk"])
def test_a_picture_to_convert_starts_where_its_signature_starts(kind: str, front: str) -> None:
    assert prepare(FRONTS[front] + samples()[kind]).data == prepare(samples()[kind]).data


def test_the_search_ends_soon() -> None:
    assert failure(random.Random(4).randbytes(1_100) + samples()["jpeg"]).code == ErrorCode.UNSUPPORTED_IMAGE  # noqa: S311


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_preview_in_a_file_of_another_kind_is_not_the_picture(kind: str) -> None:
    other = b"RAWFILE\x01" + bytes(range(128, 256)) + samples()[kind] + random.Random(4).randbytes(20_000)  # noqa: S311
    assert failure(other).code == ErrorCode.UNSUPPORTED_IMAGE


def test_a_text_about_image_formats_is_called_text() -> None:
    assert "plain text" in failure(b"A file that begins with GIF89a or BM is a picture.").message


# ── Alpha that is zero everywhere ────────────────────────────────────────────────────────────────────────────────


def _unseen(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(0)
    return image


VEILED: dict[str, Callable[[], bytes]] = {
    "bmp": lambda: bmp_with_alpha(_unseen(SCENE)),
    "png": lambda: encoded(_unseen(SCENE), "PNG"),
    "png large": lambda: encoded(_unseen(LARGE), "PNG"),
    "png grey": lambda: encoded(_unseen(SCENE).convert("LA"), "PNG"),
    "png palette": lambda: encoded(SCENE.quantize(64), "PNG", transparency=bytes(64)),
    "png interlaced": lambda: interlaced_png(333, 222, bytes((*RED, 0))),
    "tiff": lambda: encoded(_unseen(SCENE), "TIFF"),
    "tiff grey": lambda: encoded(_unseen(SCENE).convert("LA"), "TIFF"),
    "webp": lambda: encoded(_unseen(SCENE), "WEBP", exact=True),
    "webp lossless": lambda: encoded(_unseen(SCENE), "WEBP", lossless=True, exact=True),
    "webp large": lambda: encoded(_unseen(LARGE), "WEBP", lossless=True, exact=True),
    "heic": lambda: encoded(_unseen(SCENE), "HEIF"),
    "avif": lambda: encoded(_unseen(SCENE), "AVIF", speed=10),
}


@pytest.mark.parametrize("name", VEILED)
def test_alpha_that_is_zero_everywhere_is_ignored_as_in_viewers(name: str) -> None:
    prepared = prepare(VEILED[name]())
    expected = LARGE if "large" in name else SCENE
    if "palette" in name:
        expected = SCENE.quantize(64)
    if "interlaced" in name:
        expected = Image.new("RGB", (333, 222), RED)
    assert prepared.transformed
    assert_alike(prepared, expected.convert("L") if "grey" in name else expected)


@pytest.mark.parametrize("name", ["png", "png grey", "png interlaced", "webp", "webp lossless"])
def test_a_picture_with_a_transparent_margin_is_sent_as_it_is(name: str) -> None:
    """Only decoding distinguishes it from the others, and then the stored bytes go."""
    logo = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    logo.paste(RED, (100, 100, 200, 200))
    kind, _, how = name.partition(" ")
    data = encoded(logo.convert("LA") if how == "grey" else logo, kind.upper(), lossless=how == "lossless")
    if how == "interlaced":
        data = interlaced_png(64, 64, bytes((*RED, 1)))
    assert prepare(data).data is data


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_png_with_alpha_that_shows_at_once_is_not_decoded(mode: str) -> None:
    image = photo(320, 240).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").rotate(90).resize((320, 240)))
    assert inspect(encoded(image.convert(mode), "PNG"), ImageLimits()).sendable


# ── TIFF: pages, thumbnails ──────────────────────────────────────────────────────────────────────────────────────

PICTURE = Page(400, 300, RED)
THUMBNAIL = Page(50, 38, (0, 0, 255), [(254, 4, 1)])


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize(
    ("pages", "count"),
    [
        ((PICTURE,), 1),
        ((THUMBNAIL, PICTURE), 1),
        ((Page(50, 38, (0, 0, 255), [(255, 3, 2)]), PICTURE), 1),
        ((Page(400, 300, (0, 0, 255), [(254, 4, 4)]), PICTURE), 1),
        ((PICTURE, THUMBNAIL), 1),
        ((PICTURE, Page(300, 400, (0, 255, 0)), Page(500, 300, (0, 0, 255))), 3),
        ((THUMBNAIL, PICTURE, Page(50, 38, (0, 0, 255), [(254, 4, 3)]), Page(300, 400, (0, 255, 0))), 2),
        ((Page(400, 300, RED, [(254, 4, 2)]), Page(400, 300, (0, 255, 0), [(254, 4, 2)])), 2),
        ((THUMBNAIL, Page(400, 300, RED, [(254, 4, 1)])), 1),
    ],
)
def test_the_first_page_is_sent_and_thumbnails_are_not_pages(
    pages: tuple[Page, ...], count: int, order: str, *, big: bool
) -> None:
    data = tiff_of_pages(*pages, order=order, big=big)
    assert inspected(data).facts == ImageFacts("tiff", 400, 300, pages=count)
    prepared = prepare(data)
    assert (prepared.width, prepared.height) == (400, 300)
    assert_alike(prepared, Image.new("RGB", (400, 300), RED))


def test_pages_that_go_in_circles_or_break_off_are_counted_as_far_as_they_go() -> None:
    data = bytearray(tiff_of_pages(PICTURE, PICTURE))
    first = struct.unpack_from("<I", data, 4)[0]
    circle, broken = bytearray(data), bytearray(data)
    circle[-4:], broken[-4:] = struct.pack("<I", first), struct.pack("<I", 2**31)
    for odd in (circle, broken):
        assert inspected(bytes(odd)).facts.pages == 2
        assert prepare(bytes(odd)).width == 400


def test_a_thumbnail_is_not_sent_in_place_of_a_picture_that_is_not_there() -> None:
    data = tiff_of_pages(THUMBNAIL, PICTURE)
    assert failure(data[: len(data) - 40]).code == ErrorCode.CORRUPT_IMAGE
    cut = failure(data[:10_000])
    assert (cut.code, "before the page with its picture" in cut.message) == (ErrorCode.CORRUPT_IMAGE, True)


def test_a_thousand_pages_are_counted() -> None:
    data = tiff_of_pages(*[Page(2, 2)] * 1_000)
    assert inspected(data).facts.pages == 1_000


def test_a_palette_of_eight_bits_is_not_taken_for_black() -> None:
    """Some scanners write it where the format wants sixteen."""
    scan = drawing(320, 240).quantize(16)
    data = encoded(scan, "TIFF")
    reds = (scan.getpalette() or [])[::3]
    at = data.index(struct.pack(f"<{len(reds)}H", *(red * 256 for red in reds)))
    wide = struct.unpack_from("<768H", data, at)
    odd = data[:at] + struct.pack("<768H", *(value // 256 for value in wide)) + data[at + 2 * len(wide) :]
    assert_alike(prepare(odd), scan.convert("RGB"))


def test_formats_without_pages_have_none() -> None:
    assert {inspected(samples()[kind]).facts.pages for kind in ("jpeg", "png", "gif animated", "heic")} == {None}


# ── Kinds that no decoder here reads ─────────────────────────────────────────────────────────────────────────────


def _jpeg_with(offset: int, value: int) -> bytes:
    """A JPEG with another byte in its frame: 1 is the coding, 4 the bits."""
    jpeg = samples()["jpeg"]
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + offset] + bytes((value,)) + jpeg[frame + offset + 1 :]


def _heif_of(item: bytes) -> bytes:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    entry = box(b"infe", b"\2\0\0\0\0\1\0\0" + item + b"\0")
    size = box(b"iprp", box(b"ipco", box(b"ispe", bytes(4) + struct.pack(">II", 64, 48))))
    return box(b"ftyp", b"mif1\0\0\0\0mif1") + box(b"meta", bytes(4) + box(b"iinf", b"\0\0\0\0\0\1" + entry) + size)


def _tiff_with(*tags: tuple[int, int, int, int]) -> bytes:
    usual = {256: (256, 4, 1, 40), 257: (257, 4, 1, 30), 259: (259, 3, 1, 1), 262: (262, 3, 1, 1), 277: (277, 3, 1, 1)}
    usual |= {258: (258, 3, 1, 8), 273: (273, 4, 1, 300), 278: (278, 4, 1, 30), 279: (279, 4, 1, 1200)}
    entries = usual | {tag[0]: tag for tag in tags}
    return tiff_of([entries[tag] for tag in sorted(entries)]).ljust(300, b"\0") + bytes(9_600)


RARE = {
    "a JPEG with 12 bits per sample": _jpeg_with(4, 12),
    "a hierarchical JPEG": _jpeg_with(1, 0xC5),
    "a JPEG with 2 colour channels": _jpeg_with(9, 2),
    "a JPEG-LS image": b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xda\0\x08\1\1\0\0\0\0" + bytes(50),
    "a TIFF with JPEG 2000 inside": _tiff_with((259, 3, 1, 34712), (277, 3, 1, 1)),
    "a TIFF with LERC compression inside": _tiff_with((259, 3, 1, 34887)),
    "a TIFF with WEBP inside": _tiff_with((259, 3, 1, 50001)),
    "a TIFF with 32-bit floating-point samples": _tiff_with(
        (258, 3, 3, 280), (277, 3, 1, 3), (262, 3, 1, 2), (339, 3, 3, 290)
    )[:280]
    + struct.pack("<HHH", 32, 32, 32).ljust(10, b"\0")
    + struct.pack("<HHH", 3, 3, 3)
    + bytes(9_000),
    "a TIFF with separate colour planes of 16 bits": _tiff_with(
        (258, 3, 1, 16), (277, 3, 1, 3), (284, 3, 1, 2), (262, 3, 1, 2)
    ),
    "a TIFF with 24 bits per sample": _tiff_with((258, 3, 1, 24)),
    "a TIFF in the large, big-endian form (BigTIFF)": tiff_of_pages(PICTURE, order=">", big=True),
    "a PNG made for Apple's devices (CgBI)": b"\x89PNG\r\n\x1a\n"
    + png_chunk(b"CgBI", b"\x50\0\x20\2")
    + png_of(9, 9)[8:],
    "a BMP with a JPEG inside": samples()["bmp"][:28] + struct.pack("<HI", 0, 4) + samples()["bmp"][34:],
    "a BMP with 2 bits per pixel": samples()["bmp"][:28] + struct.pack("<H", 2) + samples()["bmp"][30:],
    "a BMP with an unusual layout of its colours": samples()["bmp"][:28]
    + struct.pack("<HI", 32, 3)
    + samples()["bmp"][34:54]
    + struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)
    + bytes(240 * 180 * 4),
    "a HEIF image with JPEG 2000 inside": _heif_of(b"j2k1"),
    "a HEIF image with H.266 (VVC) inside": _heif_of(b"vvc1"),
    "a HEIF image with uncompressed pixels inside": _heif_of(b"unci"),
}


@pytest.mark.parametrize("what", RARE)
def test_a_kind_that_no_decoder_here_reads_is_named_and_not_called_damaged(what: str) -> None:
    refused = failure(RARE[what])
    assert (refused.code, refused.details) == (ErrorCode.UNSUPPORTED_IMAGE, {"seems_to_be": what})
    assert f"it seems to be {what}. This app has no decoder for it. Save it as PNG or JPEG" in refused.message


def test_a_truncated_picture_of_a_usual_kind_is_damaged() -> None:
    for name in ("tiff lzw", "tiff jpeg", "heic", "avif", "jpeg progressive", "bmp"):
        data = samples()[name]
        assert failure(data[: len(data) // 2]).code == ErrorCode.CORRUPT_IMAGE, name


# ── Limits follow the cost ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (16_320, 12_240)])
def test_the_photos_of_phones_are_accepted_by_default(width: int, height: int) -> None:
    """108 and 200 megapixels, at an eighth or a quarter of which a JPEG decodes quickly and in little memory."""
    prepared = prepare(large_jpeg(width, height))
    assert prepared.transformed
    assert (prepared.width, prepared.height) in {(2048, 1536), (2040, 1530)}


def test_an_image_too_large_for_the_memory_is_refused_with_advice() -> None:
    small = ImageLimits(max_conversion_bytes=256 * 1024 * 1024)
    data = png_of(8_000, 6_000, png_chunk(b"tRNS", b"\0\0"))
    refused = failure(data, small)
    assert refused.code == ErrorCode.IMAGE_TOO_LARGE
    assert (
        "takes about 512 MB of memory, and the app has 268 MB for that. Save it smaller, or as JPEG" in refused.message
    )
    assert refused.details is not None
    assert refused.details["max_memory_bytes"] == 256 * 1024 * 1024
    assert failure(data).code == ErrorCode.CORRUPT_IMAGE, "by default it is decoded, and there is nothing in it"
    assert prepare(large_jpeg(8_000, 6_000), small).transformed


def test_orientation_and_odd_headers_go_together() -> None:
    scene = Image.new("RGB", (96, 64), "white")
    scene.paste("red", (0, 0, 32, 32))
    turned = encoded(scene.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif(6))
    behind = 4 + struct.unpack(">H", turned[4:6])[0]
    assert_alike(prepare(b"\n" + turned[:behind] + b"\0\0" + turned[behind:]), scene)


# ── The decoder's own reading ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", list(samples()))
def test_headers_that_only_the_decoder_reads_lead_to_the_same_picture(name: str) -> None:
    """For the case that ours can't: no file is known of which that is true and which can be decoded."""
    data, limits = samples()[name], ImageLimits()
    known = replace(inspect(data, limits), obstacle="it is odd")
    by_decoder = inspect_by_decoder(data, Unclear(known.facts.format, "it is odd"), limits)
    expected, seen = (opened(convert(data, inspection, limits)) for inspection in (known, by_decoder))
    assert seen.size == expected.size
    assert by_decoder.conversion_bytes >= known.conversion_bytes * 0.9
    difference = ImageStat.Stat(ImageChops.difference(seen.convert("RGB"), expected.convert("RGB")))
    assert max(difference.mean) < 1


# ── No internals ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_decoders_words_hold_no_addresses_or_names_of_classes() -> None:
    words = set()
    for data in samples().values():
        for cut in (0.2, 0.4, 0.6, 0.9):
            for broken in (data[: int(len(data) * cut)], data[: int(len(data) * cut)] + bytes(400)):
                try:
                    prepare(broken)
                except PermanentFailure as refused:
                    words |= {refused.message, *map(str, (refused.details or {}).values())}
    assert len(words) > 10
    for text in words:
        assert not any(internal in text for internal in ("0x", "<", "object at", "Error", "PIL", "/", "\n")), text


def test_an_image_that_the_decoder_can_not_explain_is_called_damaged_in_our_words() -> None:
    refused = failure(samples()["png"][:20])
    assert refused.message.startswith("The PNG image is damaged: it ends within its header.")
    assert refused.details == {"format": "png", "cause": "Truncated File Read"}
