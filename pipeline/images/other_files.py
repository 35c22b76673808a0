"""Files that are not images we open: what each seems to be, and what to do about it.

The signatures are our own table because each needs its own advice, and because of the two libraries that name files,
one has had no release since 2022 and the other calls a plain ZIP a Word document and a file of zeros an embroidery
design.
"""

import re
import struct

from pipeline.images.mishaps import is_binary, posted_form, ruined, text_of, written_as_text

SAVE_AS_PICTURE = "Save it as PNG or JPEG and upload that."
NO_DECODER = f"This app has no decoder for it. {SAVE_AS_PICTURE}"
NO_PICTURE = "Upload the image itself, as JPEG, PNG, WEBP, GIF, HEIC, AVIF, TIFF or BMP."
_EXPORT_PAGE = "Export it as PDF, or the page you are asking about as PNG, and upload that."
_EXPORT_DRAWING = "Export it as PDF or PNG and upload that."
_TAKE_FRAME = "Save the frame you are asking about as PNG or JPEG and upload that."
_UNPACK = "Unpack it and upload the images in it."
_FOLLOW = "Open it, save the image it leads to, and upload that."
_DAMAGED = "Something on its way cut or changed it: upload it again."
_ERROR_PAGE = f"Often that is an error page saved in the image's place. {NO_PICTURE}"

# (offset, bytes there, what it is, what to do). The first that fits wins.
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (8, b"CR\x02", "a camera's raw file (CR2)", SAVE_AS_PICTURE),
    (6, b"HEAPCCDR", "a camera's raw file (CRW)", SAVE_AS_PICTURE),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)", SAVE_AS_PICTURE),
    (0, b"IIU\x00", "a camera's raw file (RW2)", SAVE_AS_PICTURE),
    (0, b"IIRO", "a camera's raw file (ORF)", SAVE_AS_PICTURE),
    (0, b"IIRS", "a camera's raw file (ORF)", SAVE_AS_PICTURE),
    (0, b"MMOR", "a camera's raw file (ORF)", SAVE_AS_PICTURE),
    (0, b"FOVb", "a camera's raw file (X3F)", SAVE_AS_PICTURE),
    (0, b"\0MRM", "a camera's raw file (MRW)", SAVE_AS_PICTURE),
    (0, b"%PDF-", "a PDF document", _EXPORT_PAGE),
    (0, b"\xc5\xd0\xd3\xc6", "an Encapsulated PostScript drawing (EPS)", _EXPORT_DRAWING),
    (0, b"%!PS-Adobe-3.0 EPSF", "an Encapsulated PostScript drawing (EPS)", _EXPORT_DRAWING),
    (0, b"%!PS-Adobe-2.0 EPSF", "an Encapsulated PostScript drawing (EPS)", _EXPORT_DRAWING),
    (0, b"%!PS", "a PostScript file", _EXPORT_PAGE),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Office document (Word, Excel, PowerPoint or Outlook)",
        _EXPORT_PAGE,
    ),
    (0, b"{\\rtf", "a rich text document (RTF)", _EXPORT_PAGE),
    (0, b"AT&TFORM", "a scanned document (DjVu)", _EXPORT_PAGE),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "a OneNote section", _EXPORT_PAGE),
    (40, b" EMF", "an Enhanced Metafile drawing (EMF)", _EXPORT_DRAWING),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows Metafile drawing (WMF)", _EXPORT_DRAWING),
    (0, b"\x01\0\x09\0\0\x03", "a Windows Metafile drawing (WMF)", _EXPORT_DRAWING),
    (0, b"gimp xcf", "a GIMP picture (XCF)", SAVE_AS_PICTURE),
    (0, b"\x06\x06\xed\xf5\xd8\x1d\x46\xe5", "an InDesign document", _EXPORT_PAGE),
    (0, b"\xff\x0a", "a JPEG XL image", SAVE_AS_PICTURE),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", SAVE_AS_PICTURE),
    (0, b"II\xbc\x01", "a JPEG XR image", SAVE_AS_PICTURE),
    (0, b"\x97JB2\r\n\x1a\n", "a JBIG2 image", SAVE_AS_PICTURE),
    (0, b"\x8aMNG\r\n\x1a\n", "an animation (MNG)", _TAKE_FRAME),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG image", SAVE_AS_PICTURE),
    (0, b"BPG\xfb", "a BPG image", SAVE_AS_PICTURE),
    (0, b"FLIF", "a FLIF image", SAVE_AS_PICTURE),
    (0, b"DDS ", "a DirectDraw texture (DDS)", SAVE_AS_PICTURE),
    (0, b"v/1\x01", "an OpenEXR image", SAVE_AS_PICTURE),
    (0, b"#?RADIANCE", "a Radiance image (HDR)", SAVE_AS_PICTURE),
    (0, b"#?RGBE", "a Radiance image (HDR)", SAVE_AS_PICTURE),
    (4, b"\x11\xaf", "an Autodesk animation (FLI)", _TAKE_FRAME),
    (4, b"\x12\xaf", "an Autodesk animation (FLC)", _TAKE_FRAME),
    (0, b"BLP1", "a game's texture (BLP)", SAVE_AS_PICTURE),
    (0, b"BLP2", "a game's texture (BLP)", SAVE_AS_PICTURE),
    (0, b"\xabKTX ", "a texture (KTX)", SAVE_AS_PICTURE),
    (0, b"\xb1\x68\xde\x3a", "a fax of several pages (DCX)", _EXPORT_PAGE),
    (0, b"\x89HDF\r\n\x1a\n", "a table of measurements (HDF5)", NO_PICTURE),
    (0, b"qoif", "a QOI image", SAVE_AS_PICTURE),
    (0, b"farbfeld", "a farbfeld image", SAVE_AS_PICTURE),
    (0, b"SIMPLE  =", "a FITS image", SAVE_AS_PICTURE),
    (0, b"\x01\xda\x00", "a Silicon Graphics image (SGI)", SAVE_AS_PICTURE),
    (0, b"\x01\xda\x01", "a Silicon Graphics image (SGI)", SAVE_AS_PICTURE),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image", SAVE_AS_PICTURE),
    (8, b"ILBM", "an Amiga image (ILBM)", SAVE_AS_PICTURE),
    (0, b"/* XPM */", "an X pixmap (XPM)", SAVE_AS_PICTURE),
    (0, b"icns", "an icon (ICNS)", SAVE_AS_PICTURE),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", _TAKE_FRAME),
    (0, b"FLV\x01", "a Flash video", _TAKE_FRAME),
    (0, b"\x00\x00\x01\xba", "an MPEG video", _TAKE_FRAME),
    (0, b"\x00\x00\x01\xb3", "an MPEG video", _TAKE_FRAME),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file", _TAKE_FRAME),
    (0, b"ID3", "an MP3 sound file", NO_PICTURE),
    (0, b"OggS", "an Ogg sound or video file", NO_PICTURE),
    (0, b"fLaC", "a FLAC sound file", NO_PICTURE),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x7fELF", "a program (ELF)", NO_PICTURE),
    (0, b"MZ", "a Windows program", NO_PICTURE),
    (0, b"SQLite format 3\x00", "an SQLite database", NO_PICTURE),
    (0, b"PAR1", "a Parquet table", NO_PICTURE),
    (0, b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut (.lnk)", _FOLLOW),
    (0, b"bplist00", "an Apple property list, such as a placeholder or a link", _FOLLOW),
    (0, b"book\0\0\0\0mark", "a Mac alias", _FOLLOW),
    (0, b"\0\x05\x16\x07", "a Mac's metadata file (AppleDouble, ._…)", NO_PICTURE),
    (0, b"\0\x05\x16\0", "a Mac's file with its metadata around it (AppleSingle)", NO_PICTURE),
    (8, b"WAVE", "a WAV sound file", NO_PICTURE),
    (8, b"AVI ", "a video (AVI)", _TAKE_FRAME),
    (4, b"ftypcrx", "a camera's raw file (CR3)", SAVE_AS_PICTURE),
    (4, b"ftypjxl", "a JPEG XL image", SAVE_AS_PICTURE),
    (4, b"ftypjp2", "a JPEG 2000 image", SAVE_AS_PICTURE),
    (4, b"ftypjpx", "a JPEG 2000 image", SAVE_AS_PICTURE),
    (4, b"ftypM4A", "a sound file (M4A)", NO_PICTURE),
    (4, b"ftyp", "a video (MP4, MOV or a relative)", _TAKE_FRAME),
    (4, b"moov", "a video (MOV)", _TAKE_FRAME),
    (4, b"mdat", "a video (MOV)", _TAKE_FRAME),
    (257, b"ustar", "a tar archive", _UNPACK),
    (128, b"DICM", "a medical image (DICOM)", SAVE_AS_PICTURE),
)

# (how it begins, what it is, what to do), where chance may play a part.
_LIKELY: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), what, advice)
    for pattern, what, advice in (
        (rb"\n[\x00\x02-\x05][\x00\x01][\x01\x02\x04\x08]", "a PC Paintbrush image (PCX)", SAVE_AS_PICTURE),
        (rb"[\x28\x6c\x7c]\0\0\0.{8}\x01\0", "a bitmap without its file header (DIB)", SAVE_AS_PICTURE),
        (rb"P[1-7fF]\s", "a portable pixmap (PBM, PGM or PPM)", SAVE_AS_PICTURE),
        (rb"BA[\x28\x5c]\0\0\0.{8}(?:CI|IC|BM|CP|PT)", "an icon of OS/2", SAVE_AS_PICTURE),
        (rb"\xff\xd8", "what is left of a JPEG image", _DAMAGED),
        (rb".{8,20}IHDR", "a PNG image whose first bytes are damaged", _DAMAGED),
    )
)

# (how a text begins, in lower case, what it is, what to do).
_TEXTS: tuple[tuple[str, str, str], ...] = (
    (
        "version https://git-lfs.github.com/spec/",
        "a Git LFS pointer in place of the file",
        "Run `git lfs pull` and upload the file that then is in its place.",
    ),
    ("[internetshortcut]", "an internet shortcut (.url)", _FOLLOW),
    ("[desktop entry]", "a desktop shortcut (.desktop)", _FOLLOW),
    ("%!ps", "a PostScript file", _EXPORT_PAGE),
    ("#define ", "an X bitmap (XBM) or a program's source", NO_PICTURE),
    ("begin 6", "a uuencoded file", "Decode it where it is sent, and upload the bytes."),
    ("=ybegin ", "a yEnc-encoded file", "Decode it where it is sent, and upload the bytes."),
    ("begin:vcard", "an address card (vCard)", NO_PICTURE),
    ("http://", "a web address", _FOLLOW),
    ("https://", "a web address", _FOLLOW),
)
_HTML = re.compile(r"<(?:!doctype html|(?:html|head|body|title|meta|script|center|table|div|h\d|br|p|b)[\s/>])")
_XML = re.compile(r"<(?:\?xml|[a-z][\w:.-]*[\s/>])")
_STORAGE_ERROR = re.compile(r"<error>\s*<code>\s*(\w{1,60})", re.IGNORECASE)
_TEXT_BYTES = 1024
# A byte order mark and line breaks. Pictures with them in front are found elsewhere.
_OFTEN_IN_FRONT = b"\xef\xbb\xbf\r\n"


def described(data: bytes) -> tuple[str, str] | None:
    """(what the file seems to be, what to do about it); None if nothing in it tells for certain."""
    begins = data[:_TEXT_BYTES].lstrip(_OFTEN_IN_FRONT)
    for offset, signature, what, advice in _SIGNATURES:
        if data.startswith(signature, offset) or (offset == 0 and begins.startswith(signature)):
            return what, advice
    if data.startswith(b"PK\x03\x04"):
        return _zip_kind(data)
    if icon := _icon(data):
        return icon, SAVE_AS_PICTURE
    if not data[:4096].strip(b"\0"):
        return "nothing but zero bytes", "The upload or the program that saved it failed: upload it again."
    return posted_form(data) or ruined(data) or _text_kind(data)


def guessed(data: bytes) -> tuple[str, str] | None:
    """The same for formats without a signature: their headers are only likely ones."""
    if _is_targa(data):
        return "a Targa image (TGA)", SAVE_AS_PICTURE
    return next(((what, advice) for pattern, what, advice in _LIKELY if pattern.match(data)), None)


def _is_targa(data: bytes) -> bool:
    """Whether it ends as such, or its header's fields fit each other: https://en.wikipedia.org/wiki/Truevision_TGA."""
    if len(data) < 18:
        return False
    if data.endswith(b"TRUEVISION-XFILE.\0"):
        return True
    _, mapped, kind, _, entries, entry_bits = struct.unpack_from("<BBBHHB", data)
    width, height, bits = struct.unpack_from("<HHB", data, 12)
    if kind not in {1, 2, 3, 9, 10, 11} or not (width and height):
        return False
    if mapped == 1:
        return kind in {1, 9} and bits in {8, 16} and entries > 0 and entry_bits in {15, 16, 24, 32}
    return mapped == 0 and kind not in {1, 9} and bits in {8, 15, 16, 24, 32}


def _icon(data: bytes) -> str | None:
    """Icon or cursor. A Targa image may begin with the same four bytes, but not with a count of images after them."""
    if len(data) < 22:
        return None
    reserved, kind, count, *_, unused, _, _, size, offset = struct.unpack_from("<HHHBBBBHHII", data)
    if reserved or unused or not count or not size or offset < 6 + 16 * count:
        return None
    return {1: "an icon (ICO)", 2: "a cursor (CUR)"}.get(kind)


def _zip_kind(data: bytes) -> tuple[str, str]:
    # The names of a ZIP's members stand before each member and in the directory at the end.
    names = data[:4096] + data[-16384:]
    for folder, what in (
        (b"word/", "a Word document"),
        (b"xl/", "an Excel workbook"),
        (b"ppt/", "a PowerPoint presentation"),
        (b"mimetypeapplication/vnd.oasis", "an OpenDocument file"),
        (b"mimetypeapplication/epub", "an e-book (EPUB)"),
        (b"mimetypeapplication/x-krita", "a Krita picture"),
        (b"mimetypeimage/openraster", "an OpenRaster picture"),
    ):
        if folder in names:
            return what, _EXPORT_PAGE
    return "a ZIP archive", _UNPACK


def _text_kind(data: bytes) -> tuple[str, str] | None:
    text = text_of(data[:_TEXT_BYTES])
    if text is None or is_binary(text) or "\N{REPLACEMENT CHARACTER}" in text:
        return None
    start = text.lstrip().lower()
    return _markup(text, start) or written_as_text(data) or _plain(start)


def _markup(text: str, start: str) -> tuple[str, str] | None:
    if re.search(r"<svg[\s>]", start):
        return "an SVG drawing", _EXPORT_DRAWING
    if _HTML.match(start):
        return "an HTML page", _ERROR_PAGE
    if error := _STORAGE_ERROR.search(text):
        return f"an error message of a storage service ({error[1]})", f"A download failed on the way. {NO_PICTURE}"
    if "<plist" in start and "<key>url</key>" in start:
        return "an internet shortcut (.webloc)", _FOLLOW
    return None


def _plain(start: str) -> tuple[str, str]:
    if known := next(((what, advice) for begin, what, advice in _TEXTS if start.startswith(begin)), None):
        return known
    if re.match(r"p[1-7f]\s+(#[^\n]*\s)*\d+\s", start):
        return "a portable pixmap (PBM, PGM or PPM)", SAVE_AS_PICTURE
    if _XML.match(start):
        return "an XML document", NO_PICTURE
    return ("JSON text" if start.startswith(("{", "[")) else "plain text"), NO_PICTURE
