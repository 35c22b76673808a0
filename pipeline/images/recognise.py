"""What a file is, by its content: never by its name or its Content-Type, which people and programs get wrong.

The formats we open are a short list on purpose: every decoder is attack surface, and the obscure ones are the
least looked after. What is not on it is named, so that the message can say what to do. The signatures are our own
table because each needs its own advice, and because of the two libraries that name files, one has had no
release since 2022 and the other calls a plain ZIP a Word document and a file of zeros an embroidery design.
"""

import re

from pipeline.errors import ErrorCode, PermanentFailure

_ACCEPTED = "JPEG, PNG, WEBP, GIF, HEIC, AVIF, TIFF or BMP"
_SAVE_AS_PICTURE = "Save it as PNG or JPEG and upload that."
_EXPORT_PAGE = "Export the page you are asking about as PNG and upload that."
_TAKE_FRAME = "Save the frame you are asking about as PNG or JPEG and upload that."
_UNPACK = "Unpack it and upload the images in it."
_NO_PICTURE = f"Upload the image itself, as {_ACCEPTED}."

# ISO base media files name their kind at offset 8: https://mp4ra.org/registered-types/brands
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS = frozenset({b"mif1", b"msf1"})  # any codec: the compatible brands tell which

# The sizes of the header that follows a bitmap's file header, from OS/2 1.x to BITMAPV5HEADER.
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)

# (offset, bytes there, what it is, what to do). The first that fits wins.
_NO_IMAGES: tuple[tuple[int, bytes, str, str], ...] = (
    (8, b"CR\x02", "a camera's raw file (CR2)", _SAVE_AS_PICTURE),
    (0, b"%PDF-", "a PDF document", _EXPORT_PAGE),
    (0, b"%!PS", "a PostScript file", _EXPORT_PAGE),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Office document (Word, Excel, PowerPoint or Outlook)",
        _EXPORT_PAGE,
    ),
    (0, b"{\\rtf", "a rich text document (RTF)", _EXPORT_PAGE),
    (0, b"8BPS", "a Photoshop document (PSD)", _SAVE_AS_PICTURE),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)", _SAVE_AS_PICTURE),
    (0, b"\x00\x00\x02\x00", "a cursor (CUR)", _SAVE_AS_PICTURE),
    (0, b"icns", "an icon (ICNS)", _SAVE_AS_PICTURE),
    (0, b"\xff\x0a", "a JPEG XL image", _SAVE_AS_PICTURE),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", _SAVE_AS_PICTURE),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 image", _SAVE_AS_PICTURE),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _SAVE_AS_PICTURE),
    (0, b"DDS ", "a DirectDraw texture (DDS)", _SAVE_AS_PICTURE),
    (0, b"v/1\x01", "an OpenEXR image", _SAVE_AS_PICTURE),
    (0, b"qoif", "a QOI image", _SAVE_AS_PICTURE),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)", _SAVE_AS_PICTURE),
    (0, b"IIU\x00", "a camera's raw file (RW2)", _SAVE_AS_PICTURE),
    (0, b"IIRO", "a camera's raw file (ORF)", _SAVE_AS_PICTURE),
    (0, b"IIRS", "a camera's raw file (ORF)", _SAVE_AS_PICTURE),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", _TAKE_FRAME),
    (0, b"FLV\x01", "a Flash video", _TAKE_FRAME),
    (0, b"\x00\x00\x01\xba", "an MPEG video", _TAKE_FRAME),
    (0, b"\x00\x00\x01\xb3", "an MPEG video", _TAKE_FRAME),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file", _TAKE_FRAME),
    (0, b"ID3", "an MP3 sound file", _NO_PICTURE),
    (0, b"OggS", "an Ogg sound or video file", _NO_PICTURE),
    (0, b"fLaC", "a FLAC sound file", _NO_PICTURE),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x7fELF", "a program (ELF)", _NO_PICTURE),
    (0, b"MZ", "a Windows program", _NO_PICTURE),
    (0, b"SQLite format 3\x00", "an SQLite database", _NO_PICTURE),
    (8, b"WAVE", "a WAV sound file", _NO_PICTURE),
    (8, b"AVI ", "a video (AVI)", _TAKE_FRAME),
    (4, b"ftypcrx", "a camera's raw file (CR3)", _SAVE_AS_PICTURE),
    (4, b"ftypM4A", "a sound file (M4A)", _NO_PICTURE),
    (4, b"ftyp", "a video (MP4, MOV or a relative)", _TAKE_FRAME),
    (4, b"moov", "a video (MOV)", _TAKE_FRAME),
    (257, b"ustar", "a tar archive", _UNPACK),
    (128, b"DICM", "a medical image (DICOM)", _SAVE_AS_PICTURE),
)


def recognise(data: bytes) -> str:
    """The image format of `data`: "jpeg", "png", "gif", "webp", "bmp", "tiff", "heic" or "avif".

    Raises:
        PermanentFailure: unsupported_image, naming what the file seems to be.
    """
    if kind := _image_kind(data):
        return kind
    raise unsupported(*_described(data))


def unsupported(what: str, advice: str = _SAVE_AS_PICTURE) -> PermanentFailure:
    """The failure of a file that seems to be `what`, for example "a PDF document"."""
    return PermanentFailure(
        ErrorCode.UNSUPPORTED_IMAGE,
        f"The file is no image we can send to the model: it seems to be {what}. {advice}",
        {"seems_to_be": what},
    )


def _image_kind(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if data[4:8] == b"ftyp":
        return _heif_kind(data)
    kind = next((kind for signature, kind in _IMAGES if data.startswith(signature)), None)
    return None if kind == "tiff" and data[8:11] == b"CR\x02" else kind


def _heif_kind(data: bytes) -> str | None:
    major = data[8:12]
    if major in _AVIF_BRANDS:
        return "avif"
    if major in _HEIC_BRANDS:
        return "heic"
    if major in _HEIF_BRANDS:
        end = min(int.from_bytes(data[:4]), 256)
        compatible = {data[at : at + 4] for at in range(16, end, 4)}
        return "avif" if compatible & _AVIF_BRANDS else "heic"
    return None


def _described(data: bytes) -> tuple[str, str]:
    """What a file that is no image seems to be, and what to do about it."""
    for offset, signature, what, advice in _NO_IMAGES:
        if data.startswith(signature, offset):
            return what, advice
    if data.startswith(b"PK\x03\x04"):
        return _zip_kind(data)
    if not data[:4096].strip(b"\0"):
        return "nothing but zero bytes", "The upload or the program that saved it failed: upload it again."
    return _text_kind(data) or ("of no kind we know", _NO_PICTURE)


def _zip_kind(data: bytes) -> tuple[str, str]:
    # The names of a ZIP's members stand before each member and in the directory at the end.
    names = data[:4096] + data[-16384:]
    for folder, what in (
        (b"word/", "a Word document"),
        (b"xl/", "an Excel workbook"),
        (b"ppt/", "a PowerPoint presentation"),
        (b"mimetypeapplication/vnd.oasis", "an OpenDocument file"),
        (b"mimetypeapplication/epub", "an e-book (EPUB)"),
    ):
        if folder in names:
            return what, _EXPORT_PAGE
    return "a ZIP archive", _UNPACK


def _text_kind(data: bytes) -> tuple[str, str] | None:
    head = data[:1024]
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    # Cutting at 1,024 bytes may cut a character: ignoring errors in the last three bytes is all that needs.
    text = head[:-3].decode(encoding, errors="replace") if len(data) > len(head) else head.decode(encoding, "replace")
    if "\N{REPLACEMENT CHARACTER}" in text or re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text):
        return None
    start = text.lstrip().lower()
    if re.search(r"<svg[\s>]", start):
        return "an SVG drawing", "Export it as PNG and upload that."
    if start.startswith(("<!doctype html", "<html")):
        hint = "Often that is an error page saved in the image's place. "
        return "an HTML page", hint + _NO_PICTURE
    if start.startswith(("{", "[")):
        return "JSON text", _NO_PICTURE
    if start.startswith("<?xml"):
        return "an XML document", _NO_PICTURE
    return "plain text", _NO_PICTURE
