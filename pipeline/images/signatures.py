"""The first bytes of the image formats that we open."""

# ISO base media files name their kind at offset 8: https://mp4ra.org/registered-types/brands
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
# Any codec: the compatible brands tell which, or else the decoder.
_HEIF_BRANDS = frozenset(
    {
        b"mif1",
        b"mif2",
        b"mif3",
        b"msf1",
        b"miaf",
        b"MiHA",
        b"MiHB",
        b"MiHE",
        b"1pic",
        b"jpeg",
        b"jpgs",
        b"j2ki",
        b"j2is",
        b"avci",
        b"avcs",
        b"vvic",
        b"vvis",
        b"evbi",
        b"evbs",
    }
)
_BRANDS_BYTES = 256

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
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"8BPS", "psd"),
)
_RAW_IN_TIFF = b"CR\x02"


def image_kind(data: bytes) -> str | None:
    """The format whose signature `data` begins with; None if it is none that we open."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if data[4:8] == b"ftyp":
        return _heif_kind(data)
    kind = next((kind for signature, kind in _IMAGES if data.startswith(signature)), None)
    return None if kind == "tiff" and data[8:11] == _RAW_IN_TIFF else kind


def _heif_kind(data: bytes) -> str | None:
    end = min(int.from_bytes(data[:4]), _BRANDS_BYTES)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if brands[0] not in _AVIF_BRANDS | _HEIC_BRANDS | _HEIF_BRANDS:
        # A video may call itself compatible with what its cover picture is.
        return None
    first = next((brand for brand in brands if brand in _AVIF_BRANDS | _HEIC_BRANDS), None)
    return "avif" if first in _AVIF_BRANDS else "heic"
