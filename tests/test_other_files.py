"""A file that is not a picture is named for what it is, or for what happened to the picture, with what to do."""

import base64
import gzip
import io
import json
import quopri
import random
import struct
import zipfile
from email.message import EmailMessage
from urllib.parse import quote

import pytest
from support.damaged_images import drawing, encoded, samples
from support.preparing import failure

from pipeline.errors import ErrorCode

JPEG, PNG, GIF, WEBP, HEIC = (samples()[kind] for kind in ("jpeg", "png", "gif", "webp", "heic"))
BASE64 = base64.b64encode(JPEG).decode()
SCENE = drawing(64, 48)


def _zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "…" * 500)
    return target.getvalue()


def named(data: bytes) -> str:
    """The kind of file that the failure names."""
    refused = failure(data)
    assert refused.code == ErrorCode.UNSUPPORTED_IMAGE
    assert refused.details is not None
    what = refused.details["seems_to_be"]
    assert f"it seems to be {what}. " in refused.message
    assert any(cure in refused.message for cure in ("pload", "ave it")), "says what to do"
    return str(what)


SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'

# ── Other kinds of files ─────────────────────────────────────────────────────────────────────────────────────────

WEBLOC = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>URL</key><string>https://example.com</string></dict></plist>
"""

FILES = [
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    (_zipped("a.jpg"), "a ZIP archive"),
    (_zipped("[Content_Types].xml", "word/document.xml"), "a Word document"),
    (_zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
    (gzip.compress(JPEG), "a gzip archive"),
    (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video (MP4, MOV or a relative)"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video (MP4, MOV or a relative)"),
    (b"\0\0\0\x1cftypisom\0\0\2\0isommp41mif1", "a video (MP4, MOV or a relative)"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file (CR3)"),
    (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "a camera's raw file (CR2)"),
    (b"II\x1a\0\0\0HEAPCCDR" + bytes(50), "a camera's raw file (CRW)"),
    (b"IIRO\x08\0\0\0" + bytes(50), "a camera's raw file (ORF)"),
    (b"FUJIFILMCCD-RAW 0201" + bytes(50), "a camera's raw file (RAF)"),
    (b"FOVb\0\0\2\0" + bytes(50), "a camera's raw file (X3F)"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV sound file"),
    (b"RIFF\x24\0\0\0AVI LIST", "a video (AVI)"),
    (b"ID3\x03\0\0\0\0\0\x7fAPIC\0\0\0\x50\0\0\0image/jpeg\0" + JPEG, "an MP3 sound file"),
    (b"\x7fELF\2\1\1" + bytes(50), "a program (ELF)"),
    (b"MZ\x90\0" + bytes(50), "a Windows program"),
    (b"\xff\x0a\xfa\x1f" + bytes(50), "a JPEG XL image"),
    (b"II\xbc\x01" + bytes(50), "a JPEG XR image"),
    (b"\xc5\xd0\xd3\xc6\x1e\0\0\0" + bytes(50), "an Encapsulated PostScript drawing (EPS)"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "an Encapsulated PostScript drawing (EPS)"),
    (b"\1\0\0\0" + bytes(36) + b" EMF\0\0\1\0" + bytes(50), "an Enhanced Metafile drawing (EMF)"),
    (b"\xd7\xcd\xc6\x9a\0\0" + bytes(50), "a Windows Metafile drawing (WMF)"),
    (encoded(SCENE, "TGA"), "a Targa image (TGA)"),
    (encoded(SCENE, "TGA", compression="tga_rle"), "a Targa image (TGA)"),
    (encoded(SCENE.quantize(16), "TGA")[:-26], "a Targa image (TGA)"),
    (encoded(SCENE.convert("L"), "TGA")[:-26], "a Targa image (TGA)"),
    (encoded(SCENE, "PCX"), "a PC Paintbrush image (PCX)"),
    (encoded(SCENE, "PPM"), "a portable pixmap (PBM, PGM or PPM)"),
    (b"P3\n# plain\n2 1\n255\n255 0 0  0 0 255\n", "a portable pixmap (PBM, PGM or PPM)"),
    (encoded(SCENE, "DIB"), "a bitmap without its file header (DIB)"),
    (encoded(SCENE, "ICO", sizes=[(32, 32)]), "an icon (ICO)"),
    (b"\0\0\2\0" + encoded(SCENE, "ICO", sizes=[(32, 32)])[4:], "a cursor (CUR)"),
    (encoded(SCENE, "DDS"), "a DirectDraw texture (DDS)"),
    (encoded(SCENE, "SGI"), "a Silicon Graphics image (SGI)"),
    (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0" + bytes(60), "a Windows shortcut (.lnk)"),
    (b"[InternetShortcut]\r\nURL=https://example.com/a.jpg\r\n", "an internet shortcut (.url)"),
    (WEBLOC, "an internet shortcut (.webloc)"),
    (b"bplist00\xd1\1\2SURL_" + bytes(30), "an Apple property list, such as a placeholder or a link"),
    (b"https://example.com/a.jpg\n", "a web address"),
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n",
        "a Git LFS pointer in place of the file",
    ),
    (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(50), "a Mac's metadata file (AppleDouble, ._…)"),
    (b"\xef\xbb\xbf\r\n%PDF-1.4\n%\xe2\xe3", "a PDF document"),
    (b"Not an image, for all its name says.\n", "plain text"),
    ("Grüße, 写真, ".encode() * 200, "plain text"),
    ("Kein Bild".encode("utf-16"), "plain text"),
    (b"BMW is a maker of cars", "plain text"),
    (b"1, 2, 3, 4, 5, 6, 7, 8, 9, 10\n" * 50, "plain text"),
    (b"0123456789abcdef" * 20, "plain text"),
    (b"\xef\xbb\xbf<!DOCTYPE html><title>404</title>", "an HTML page"),
    (b"\r\n<html><body>Sign in", "an HTML page"),
    (b"<br />\n<b>Fatal error</b>: Allowed memory size exhausted", "an HTML page"),
    (b'{"error": "not found"}', "JSON text"),
    (b'{"data": "bm90IGFuIGltYWdlIGF0IGFsbCwganVzdCB0ZXh0"}', "JSON text"),
    (SVG, "an SVG drawing"),
    (b'<?xml version="1.0"?><note><to>you</to></note>', "an XML document"),
    (
        b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server',
        "an error message of a storage service (AuthenticationFailed)",
    ),
    (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does',
        "an error message of a storage service (NoSuchKey)",
    ),
    (bytes(5_000), "nothing but zero bytes"),
    (b"\xff\xd8", "what is left of a JPEG image"),
    (b"\x89QNG" + PNG[4:], "a PNG image whose first bytes are damaged"),
    (bytes(range(128, 256)), "of no kind we know"),
]


@pytest.mark.parametrize(("data", "what"), FILES, ids=[f"{n} {what}" for n, (_, what) in enumerate(FILES)])
def test_a_file_that_is_not_an_image_is_named(data: bytes, what: str) -> None:
    assert named(data) == what


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (SVG, "an SVG drawing. Export it as PDF or PNG and upload that."),
        (b"\xef\xbb\xbf<!-- Inkscape -->\n" + SVG, "an SVG drawing. Export it as PDF or PNG and upload that."),
        (b"\xff\x0a\xfa\x1f" + bytes(50), "a JPEG XL image. Save it as PNG or JPEG and upload that."),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "a JPEG XL image. Save it as PNG or JPEG and upload that."),
    ],
)
def test_what_is_not_opened_on_purpose_is_told_what_to_do(data: bytes, said: str) -> None:
    """docs/decisions/0011-no-svg-no-jpeg-xl.md."""
    refused = failure(data)
    assert (refused.code, said in refused.message) == (ErrorCode.UNSUPPORTED_IMAGE, True), refused.message


# ── Written as text on the way ───────────────────────────────────────────────────────────────────────────────────


def _mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "The photo"
    message.set_content("Here it is.")
    message.add_attachment(JPEG, maintype="image", subtype="jpeg", filename="photo.jpg")
    return message.as_bytes()


def _in_json(value: object) -> bytes:
    return json.dumps(value).encode()


AS_TEXT = {
    "base64": (BASE64.encode(), "a JPEG image encoded as base64"),
    "base64 in lines": (base64.encodebytes(JPEG), "a JPEG image encoded as base64"),
    "base64 in lines of Windows": (
        base64.encodebytes(PNG).replace(b"\n", b"\r\n"),
        "a PNG image encoded as base64",
    ),
    "base64 for URLs": (base64.urlsafe_b64encode(JPEG).rstrip(b"="), "a JPEG image encoded as base64"),
    "base64 with a byte order mark": (b"\xef\xbb\xbf" + BASE64.encode(), "a JPEG image encoded as base64"),
    "base64 in UTF-16": (BASE64.encode("utf-16"), "a JPEG image encoded as base64"),
    "base64 in quotes": (_in_json(BASE64), "a JPEG image encoded as base64"),
    "base64 in a web form": (b"image=" + BASE64.replace("/", "%2F").encode(), "a JPEG image encoded as base64"),
    "base64 in XML": (f"<?xml version='1.0'?><doc><img>{BASE64}</img>".encode(), "a JPEG image encoded as base64"),
    "base64 of a GIF": (base64.b64encode(GIF), "a GIF image encoded as base64"),
    "base64 of a WEBP": (base64.b64encode(WEBP), "a WEBP image encoded as base64"),
    "base64 of a HEIC": (base64.b64encode(HEIC), "a HEIC image encoded as base64"),
    "base64 of a PDF": (base64.b64encode(b"%PDF-1.7 " * 20), "a PDF document encoded as base64"),
    "a mail": (_mail(), "a JPEG image encoded as base64"),
    "data URL": (b"data:image/jpeg;base64," + BASE64.encode(), "a JPEG image as a data URL (base64)"),
    "data URL in JSON": (
        _in_json({"image_url": {"url": f"data:image/jpeg;base64,{BASE64}"}}),
        "a JPEG image as a data URL (base64), in JSON under 'url'",
    ),
    "flow": (
        _in_json({"$content-type": "image/jpeg", "$content": BASE64}),
        "a JPEG image encoded as base64, in JSON under '$content'",
    ),
    "flow, the other way round": (
        _in_json({"$content": BASE64, "$content-type": "image/jpeg"}),
        "a JPEG image encoded as base64, in JSON under '$content'",
    ),
    "connector": (
        _in_json({"name": "a.jpg", "contentBytes": BASE64}),
        "a JPEG image encoded as base64, in JSON under 'contentBytes'",
    ),
    "PHP's JSON": (
        b'{"image": "' + BASE64.replace("/", "\\/").encode() + b'"}',
        "a JPEG image encoded as base64, in JSON under 'image'",
    ),
    "JSON list": (_in_json([BASE64]), "a JPEG image encoded as base64, in JSON"),
    "JSON after a long beginning": (
        _in_json({"id": 7, "note": "word " * 2_000, "file": BASE64}),
        "a JPEG image encoded as base64, in JSON under 'file'",
    ),
    "hexadecimal": (JPEG.hex().encode(), "a JPEG image written as hexadecimal digits"),
    "SQL": (b"0x" + PNG.hex().upper().encode(), "a PNG image written as hexadecimal digits"),
    "PostgreSQL": (b"\\x" + PNG.hex().encode(), "a PNG image written as hexadecimal digits"),
    "spaced": (JPEG.hex(" ").encode(), "a JPEG image written as hexadecimal digits"),
    "xxd": (
        b"00000000: ffd8 ffe0 0010 4a46 4946 0001 0100 0001  ......JFIF\n",
        "a JPEG image written as hexadecimal digits",
    ),
    "hexdump": (
        b"00000000  89 50 4e 47 0d 0a 1a 0a  00 00 00 0d 49 48 44 52\n",
        "a PNG image written as hexadecimal digits",
    ),
    "Node's buffer": (_in_json({"type": "Buffer", "data": list(JPEG)}), "a JPEG image written as a list of numbers"),
    "numbers": (", ".join(map(str, PNG)).encode(), "a PNG image written as a list of numbers"),
    "Java's bytes": (
        _in_json([byte - 256 if byte > 127 else byte for byte in JPEG]),
        "a JPEG image written as a list of numbers",
    ),
    "Python's bytes": (repr(JPEG).encode(), "a JPEG image written as an escaped string"),
    "Python's bytes of a PNG": (repr(PNG).encode(), "a PNG image written as an escaped string"),
    "a JavaScript array": (
        _in_json({str(n): byte for n, byte in enumerate(JPEG)}),
        "a JPEG image written as a list of numbers",
    ),
    "escapes in JSON": (_in_json({"body": JPEG.decode("latin-1")}), "a JPEG image written as an escaped string"),
    "bytes in Python's dict": (repr({"image": PNG}).encode(), "a PNG image written as an escaped string"),
    "percent escapes": (quote(PNG).encode(), "a PNG image written as percent escapes, as in a URL"),
    "data URL without base64": (
        b"data:image/jpeg," + quote(JPEG).encode(),
        "a JPEG image written as percent escapes, as in a URL",
    ),
    "quoted-printable": (quopri.encodestring(JPEG), "a JPEG image written as quoted-printable text"),
    "uuencode": (b"begin 644 a.jpg\nM_]C_X  02D9)1@ ! 0   0 !  #_VP!#  @&!@<&!0@'!P<)\n", "a uuencoded file"),
    "form": (
        b'------WebKitFormBoundary7MA4\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + JPEG + b"\r\n------WebKitFormBoundary7MA4--\r\n",
        "a web form (multipart/form-data) with the file in it",
    ),
    "form with its type first": (
        b"--4f1c\r\nContent-Type: image/png\r\nContent-Disposition: form-data; name=file\r\n\r\n"
        + PNG
        + b"\r\n--4f1c--",
        "a web form (multipart/form-data) with the file in it",
    ),
    "mail's part": (
        b"--4f1c\r\nContent-Type: image/png\r\n\r\n" + PNG + b"\r\n--4f1c--\r\n",
        "a MIME message with the file in it",
    ),
}


@pytest.mark.parametrize("case", AS_TEXT)
def test_a_picture_that_was_written_as_text_is_named_so(case: str) -> None:
    data, what = AS_TEXT[case]
    assert named(data) == what


def test_the_advice_is_for_the_program_that_sends() -> None:
    assert "base64ToBinary" in failure(BASE64.encode()).message
    assert "Upload the bytes of that file, without the lines around it" in failure(AS_TEXT["form"][0]).message


# ── Ruined: taken for text on the way ────────────────────────────────────────────────────────────────────────────

PROGRESSIVE_WITH_EXIF = encoded(SCENE, "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "heic", "avif", "tiff lzw", "bmp"])
def test_a_picture_that_went_through_a_text_decoder_is_named_so(kind: str) -> None:
    """Each byte that is not UTF-8 has become U+FFFD."""
    ruined = samples()[kind].decode("utf-8", "replace").encode()
    name = kind.split(maxsplit=1)[0].upper()
    assert f"{name} image that a program on its way treated as text" in named(ruined)


@pytest.mark.parametrize("taken_for", ["latin-1", "cp1252", "cp1251", "cp437", "mac_roman"])
@pytest.mark.parametrize("written_as", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_picture_decoded_as_any_text_is_named_so(kind: str, taken_for: str, written_as: str) -> None:
    text = samples()[kind].decode(taken_for, "replace")
    assert named(text.encode(written_as)) == f"a {kind.upper()} image that a program on its way treated as text"


def test_a_picture_with_bytes_dropped_or_put_into_json_is_named_too() -> None:
    assert named(JPEG.decode("utf-8", "ignore").encode()) == "a JPEG image that a program on its way treated as text"
    assert named(PNG.decode("ascii", "ignore").encode()) == "a PNG image that a program on its way treated as text"
    lost = json.dumps({"body": JPEG.decode("utf-8", "replace")}, ensure_ascii=False)
    assert named(lost.encode()) == "a file, perhaps an image, that a program on its way treated as text"


def test_a_jpeg_with_another_beginning_that_became_text_is_named_too() -> None:
    ruined = PROGRESSIVE_WITH_EXIF.decode("utf-8", "replace").encode()
    assert named(ruined) == "a JPEG image that a program on its way treated as text"
    assert named(JPEG.decode("ascii", "replace").replace("\ufffd", "?").encode()) == (
        "a JPEG image that a program on its way treated as text"
    )


LINE_ENDS = {
    "to Unix": ((b"\r\n", b"\n"),),
    "to Windows": ((b"\n", b"\r\n"),),
    "to Unix and back": ((b"\r\n", b"\n"), (b"\n", b"\r\n")),
    "to an old Mac": ((b"\n", b"\r"),),
    "from an old Mac": ((b"\r", b"\n"),),
}


@pytest.mark.parametrize("how", LINE_ENDS)
def test_line_ends_that_were_converted_are_named(how: str) -> None:
    ruined = PNG
    for old, new in LINE_ENDS[how]:
        ruined = ruined.replace(old, new)
    assert named(ruined) == "a PNG image whose line ends were converted, as if it were text"


def test_converted_line_ends_are_named_in_other_formats_too() -> None:
    noise = random.Random(1).randbytes(60_000)  # noqa: S311 - a picture, not a secret
    webp = b"RIFF" + struct.pack("<I", 60_012) + b"WEBPVP8 " + struct.pack("<I", 60_000) + noise
    what = named(webp.replace(b"\n", b"\r\n"))
    assert what == "a WEBP image whose line ends were converted, as if it were text"


def test_a_damaged_picture_is_not_called_text() -> None:
    for kind in ("jpeg", "png", "gif", "webp", "heic"):
        data = samples()[kind]
        assert failure(data[: len(data) // 2]).code == ErrorCode.CORRUPT_IMAGE
