"""Thumbnails: upright, small, of every format that is taken; and hostile files cost a process at most."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from io import BytesIO

import pillow_heif
import psutil
import pytest
from azure.storage.blob.aio import ContainerClient
from PIL import Image
from support.person import ROOT

from blobsight.pictures.decoder import picture
from blobsight.pictures.pictures import NoPictureError, Pictures
from blobsight.pictures.wire import MOST_BYTES
from pipeline.errors import PermanentFailure

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def landscape() -> Image.Image:
    """Red above, blue below, wider than high."""
    image = Image.new("RGB", (900, 600), "blue")
    image.paste("red", (0, 0, 900, 300))
    return image


def looked_at(data: bytes) -> tuple[str | None, tuple[int, int], str, str]:
    """Format, size, and the colours above and below."""
    image = Image.open(BytesIO(data))
    above, below = (strongest(image, part) for part in (0.25, 0.75))
    return image.format, image.size, above, below


def strongest(image: Image.Image, down: float) -> str:
    """The strongest of red, green and blue, so far down."""
    pixel = image.convert("RGB").getpixel((image.width // 2, int(image.height * down)))
    assert isinstance(pixel, tuple)
    return "rgb"[pixel.index(max(pixel))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_becomes_a_small_picture(kind: str) -> None:
    assert looked_at(picture(encoded(kind, landscape()), 300)) == ("WEBP", (300, 200), "r", "b")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_as_its_camera_says(orientation: int) -> None:
    """The pixels are stored so that turning them as EXIF says gives the landscape."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = landscape()
    image = image.transpose(stored[orientation]) if orientation in stored else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert looked_at(picture(encoded("JPEG", image, exif=exif), 300)) == ("WEBP", (300, 200), "r", "b")


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 40, 10))
    small = Image.open(BytesIO(picture(encoded("PNG", image), 40)))
    below = small.convert("RGB").getpixel((20, 30))
    assert isinstance(below, tuple)
    assert min(below) > 240


def bomb() -> bytes:
    """A PNG of a few bytes that says it has four thousand megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("data", [b"", b"<svg/>", bomb(), encoded("JPEG", landscape())[:400]])
def test_what_can_not_be_shown_says_why(data: bytes) -> None:
    with pytest.raises(PermanentFailure) as failure:
        picture(data, 300)
    assert failure.value.message


# Through the processes.


@pytest.fixture
async def pictures(
    containers: tuple[ContainerClient, ContainerClient],
) -> AsyncIterator[tuple[Pictures, ContainerClient]]:
    async with Pictures(containers[0]) as pictures:
        yield pictures, containers[0]


def decoders() -> list[psutil.Process]:
    alive = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE  # a fork of the command line that has ended
    ]
    return [child for child in alive if "blobsight.pictures.decoder" in child.cmdline()]


async def test_a_decoder_that_dies_takes_one_picture_with_it(pictures: tuple[Pictures, ContainerClient]) -> None:
    made, container = pictures
    for name in ("a.png", "b.png", "c.png"):
        await container.upload_blob(name, encoded("PNG", landscape()))
    assert (await made.thumbnail("a.png", "1", 1)).media_type == "image/webp"
    (process,) = decoders()
    process.kill()
    process.wait(10)
    with pytest.raises(NoPictureError, match="can't be decoded"):
        await made.thumbnail("b.png", "1", 1)
    assert (await made.thumbnail("c.png", "1", 1)).data
    assert len(decoders()) == 1


async def test_a_decoder_is_given_nothing_of_the_environment(
    pictures: tuple[Pictures, ContainerClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=secret")
    made, container = pictures
    await container.upload_blob("a.png", encoded("PNG", landscape()))
    await made.thumbnail("a.png", "1", 1)
    (process,) = decoders()
    assert "AZURE_STORAGE_CONNECTION_STRING" not in process.environ()


async def test_the_decoders_end_with_their_owner(containers: tuple[ContainerClient, ContainerClient]) -> None:
    container = containers[0]
    await container.upload_blob("a.png", encoded("PNG", landscape()))
    async with Pictures(container) as made:
        await asyncio.gather(*(made.thumbnail("a.png", str(version), 1) for version in range(8)))
        assert decoders()
    assert decoders() == []


async def test_what_was_made_is_kept_and_what_failed_too(pictures: tuple[Pictures, ContainerClient]) -> None:
    made, container = pictures
    await container.upload_blob("a.png", encoded("PNG", landscape()))
    await container.upload_blob("words.png", b"only words")
    first = await made.thumbnail("a.png", "1", 1)
    with pytest.raises(NoPictureError, match="seems to be"):
        await made.thumbnail("words.png", "1", 1)
    await container.delete_blob("a.png")
    await container.delete_blob("words.png")
    assert await made.thumbnail("a.png", "1", 1) is first
    with pytest.raises(NoPictureError, match="seems to be"):
        await made.thumbnail("words.png", "1", 1)


async def test_whole_images_are_the_blobs_own_bytes_where_browsers_know_them(
    pictures: tuple[Pictures, ContainerClient],
) -> None:
    made, container = pictures
    label = (ROOT / "samples" / "label.jpg").read_bytes()
    await container.upload_blob("misnamed.png", label)
    await container.upload_blob("photo.heic", encoded("HEIF", landscape()))
    whole = await made.whole("misnamed.png", len(label))
    assert (whole.data, whole.media_type) == (label, "image/jpeg")
    assert looked_at((await made.whole("photo.heic", 1)).data) == ("WEBP", (900, 600), "r", "b")


async def test_a_file_that_is_too_large_is_not_read(pictures: tuple[Pictures, ContainerClient]) -> None:
    made, container = pictures
    await container.upload_blob("large.png", encoded("PNG", landscape()) + b"\0" * MOST_BYTES)
    with pytest.raises(NoPictureError, match=r"more than the 67,108,864 that are read"):
        await made.thumbnail("large.png", "1", MOST_BYTES + 1)
