"""Kinds of the accepted formats that no decoder here reads: named, and not called damaged. Pure."""

from struct import error, unpack_from

from pipeline.images.headers import Unreadable, jpeg_header, jpeg_segments
from pipeline.images.tiff import rare_kind

_JPEG_LS = 0xF7
_JPEG_CODINGS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
}
_BMP_OLDEST_HEADER, _BMP_COMMON_HEADER = 12, 40
_BMP_INSIDE = {4: "a JPEG", 5: "a PNG"}
_BMP_BITS = frozenset({1, 4, 8, 16, 24, 32})
# Of red, green and blue, which Pillow knows.
_BMP_MASKS = frozenset(
    {
        (0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF0000, 0xFF00),
        (0xFF000000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000),
        (0, 0, 0),
        (0xF800, 0x7E0, 0x1F),
        (0x7C00, 0x3E0, 0x1F),
    }
)
# Item types of a HEIF file: https://mp4ra.org/registered-types/item-types.
_HEIF_CODINGS = {
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"vvc1": "H.266 (VVC)",
    b"evc1": "EVC",
    b"avc1": "H.264",
    b"unci": "uncompressed pixels",
    b"lhv1": "layered HEVC",
}
_HEIF_COMMON = (b"hvc1", b"av01")
_HEIF_HEADER_BYTES = 65_536


def rare(kind: str, data: bytes, directory: int | None = None) -> str | None:
    """Name a picture of format `kind` that its decoder refused, such as "a JPEG-LS image"; None if it is usual."""
    try:
        match kind:
            case "jpeg":
                return _rare_jpeg(data)
            case "png" if data[12:16] == b"CgBI":
                return "a PNG made for Apple's devices (CgBI)"
            case "bmp":
                return _rare_bmp(data)
            case "tiff":
                what = rare_kind(data, directory)
                return f"a TIFF {what}" if what else None
            case "heic" | "avif":
                return _rare_heif(data)
    except (Unreadable, IndexError, error):
        pass
    return None


def _rare_jpeg(data: bytes) -> str | None:
    if any(marker == _JPEG_LS for marker, _ in jpeg_segments(data)):
        return "a JPEG-LS image"
    frame = jpeg_header(data).frame
    if frame.precision != 8:
        return f"a JPEG with {frame.precision} bits per sample"
    if coding := _JPEG_CODINGS.get(frame.coding):
        return f"a {coding} JPEG"
    return f"a JPEG with {frame.components} colour channels" if frame.components not in {1, 3, 4} else None


def _rare_bmp(data: bytes) -> str | None:
    header_size, *_, bits, compression = unpack_from("<IiiHHI", data, 14)
    if header_size < _BMP_COMMON_HEADER:
        return "a BMP of an old kind (OS/2)" if header_size > _BMP_OLDEST_HEADER else None
    if inside := _BMP_INSIDE.get(compression):
        return f"a BMP with {inside} inside"
    if bits not in _BMP_BITS:
        return f"a BMP with {bits} bits per pixel"
    usual = compression in {0, 1, 2} or (compression == 3 and unpack_from("<III", data, 54) in _BMP_MASKS)
    return None if usual else "a BMP with an unusual layout of its colours"


def _rare_heif(data: bytes) -> str | None:
    header = data[:_HEIF_HEADER_BYTES]
    if any(b"infe" in header and coding in header for coding in _HEIF_COMMON):
        return None
    coding = next((name for item, name in _HEIF_CODINGS.items() if item in header), None)
    return f"a HEIF image with {coding} inside" if coding else None
