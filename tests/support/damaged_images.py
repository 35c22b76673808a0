"""Damaged images of every format, and a run of `pipeline.images` over them.

    python tests/support/damaged_images.py --seconds 300 --seed 1

Files are made from intact samples by cutting, flipping, overwriting and splicing, the same ones for the same seed. They
are tried in child processes with a memory limit, so that a decoder that segfaults, hangs or eats memory is a
finding and not the end of the run. Exit code 1 if there was one.
"""

import argparse
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pillow_heif
from PIL import Image, ImageDraw

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.errors import PermanentFailure, RetryableFailure
from support.preparing import prepare

# Of address space, which is always more than what is used: the decoders' threads reserve theirs.
MEMORY_LIMIT_BYTES = 3 * 1024**3
# No file may keep a child longer than this.
HANG_SECONDS = 30.0

_BATCH = 400


# ── Intact images ────────────────────────────────────────────────────────────────────────────────────────────────


def photo(width: int, height: int, seed: int = 7) -> Image.Image:
    """Soft shapes with a little noise, in RGB: what JPEG is for."""
    noise = random.Random(seed).randbytes((width // 8 + 1) * (height // 8 + 1) * 3)  # noqa: S311 - pictures, no secrets
    small = Image.frombytes("RGB", (width // 8 + 1, height // 8 + 1), noise)
    return small.resize((width, height), Image.Resampling.BICUBIC)


def drawing(width: int, height: int) -> Image.Image:
    """Lines and text in few colours, in RGB: what PNG is for."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 8, height // 8, width // 2, height // 2), fill="navy")
    for row in range(0, height, 24):
        draw.text((8, row), f"Total {row}.00 EUR", fill="black")
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as a file of Pillow's format `kind`."""
    if kind == "HEIF":
        options = {"enc_params": {"preset": "ultrafast"}} | options  # a fifth of the default's time
        if "HEIF" not in Image.SAVE:
            pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def jpeg_with_thumbnail(image: Image.Image) -> bytes:
    """A JPEG whose header holds another one, with an end marker of its own, as cameras write them."""
    thumbnail = encoded(image.resize((64, 48)), "JPEG")
    segment = b"JFXX\0\x10" + thumbnail
    intact = encoded(image, "JPEG")
    return intact[:2] + b"\xff\xe0" + (len(segment) + 2).to_bytes(2) + segment + intact[2:]


@cache
def samples() -> dict[str, bytes]:
    """Intact images by name. The name begins with the format."""
    rgb, flat, large = photo(240, 180), drawing(240, 180), photo(2400, 300)
    grey, rgba = rgb.convert("L"), rgb.copy()
    rgba.putalpha(grey)
    palette = flat.quantize(16)
    deep = Image.frombytes("I;16", (120, 90), random.Random(3).randbytes(120 * 90 * 2))  # noqa: S311 - pictures
    frames = [photo(160, 120, seed) for seed in range(3)]
    lab = Image.merge("LAB", [band.resize((120, 90)) for band in rgb.split()])
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 100}
    return {
        "jpeg": encoded(rgb, "JPEG"),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg grey": encoded(grey, "JPEG"),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg turned": encoded(rgb, "JPEG", exif=exif(6)),
        "jpeg restarts": encoded(rgb, "JPEG", restart_marker_rows=1),
        "jpeg thumbnail": jpeg_with_thumbnail(rgb),
        "jpeg large": encoded(large, "JPEG"),
        "png": encoded(flat, "PNG"),
        "png palette": encoded(palette, "PNG", transparency=0),
        "png rgba large": encoded(rgba.resize((2100, 100)), "PNG"),
        "png 16": encoded(deep, "PNG"),
        "png turned": encoded(flat, "PNG", exif=exif(8)),
        "png animated": encoded(frames[0], "PNG", **animated),
        "png 1": encoded(flat.convert("1"), "PNG"),
        "gif": encoded(palette, "GIF"),
        "gif animated": encoded(frames[0].quantize(32), "GIF", **animated),
        "gif interlaced": encoded(palette, "GIF", interlace=1, transparency=0),
        "webp": encoded(rgb, "WEBP"),
        "webp lossless": encoded(rgba, "WEBP", lossless=True),
        "webp animated": encoded(frames[0], "WEBP", **animated),
        "webp turned": encoded(rgb, "WEBP", exif=exif(3)),
        "bmp": encoded(rgb, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "tiff": encoded(rgb, "TIFF"),
        "tiff lzw": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff g4": encoded(flat.convert("1"), "TIFF", compression="group4"),
        "tiff packbits": encoded(palette, "TIFF", compression="packbits"),
        "tiff 16": encoded(deep, "TIFF"),
        "tiff 16 big-endian": encoded(Image.frombytes("I;16B", (120, 90), deep.tobytes()), "TIFF"),
        "tiff float": encoded(grey.convert("F"), "TIFF"),
        "tiff cmyk": encoded(rgb.convert("CMYK"), "TIFF"),
        "tiff lab": encoded(lab, "TIFF"),
        "tiff pages": encoded(rgb, "TIFF", save_all=True, append_images=frames),
        "tiff big": encoded(rgb, "TIFF", big_tiff=True),
        "tiff turned": encoded(rgb, "TIFF", tiffinfo={274: 6}),
        "heic": encoded(rgb, "HEIF"),
        "heic alpha": encoded(rgba, "HEIF"),
        "heic grid": encoded(large, "HEIF", tile_size=512),
        "avif": encoded(rgb, "AVIF", speed=10),
        "avif alpha": encoded(rgba, "AVIF", speed=10),
        "avif turned": encoded(rgb, "AVIF", speed=10, exif=exif(6)),
        "avif animated": encoded(frames[0], "AVIF", speed=10, **animated),
    }


# ── Damage ───────────────────────────────────────────────────────────────────────────────────────────────────────

_LIES = (0, 1, 2, 255, 2048, 8000, 20_000, 65_535, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """(how, the damaged file)."""
    how, damage = chance.choice(_DAMAGES)
    return how, damage(data, chance)


def _cut(data: bytes, chance: random.Random) -> bytes:
    # Everywhere, and more often where headers and ends are.
    near = chance.randrange(min(len(data), 64))
    return data[: chance.choice((chance.randrange(len(data)), near, len(data) - near))]


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    reach = chance.choice((len(data), min(len(data), 600)))
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _lie(data: bytes, chance: random.Random) -> bytes:
    """A length, a count, an offset or a size that says something else."""
    width = chance.choice((2, 4))
    value = (chance.choice(_LIES) & (256**width - 1)).to_bytes(width, chance.choice(("big", "little")))
    at = chance.randrange(min(len(data), 400))
    return _checksummed(data[:at] + value + data[at + width :])


def _blank(data: bytes, chance: random.Random) -> bytes:
    at, end = _stretch(data, chance)
    return data[:at] + bytes(end - at) + data[end:]


def _remove(data: bytes, chance: random.Random) -> bytes:
    at, end = _stretch(data, chance)
    return data[:at] + data[end:]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    at, end = _stretch(data, chance)
    return data[:at] + data[at:end] * chance.choice((2, 4, 50)) + data[end:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at, end = _stretch(data, chance)
    return data[:at] + chance.randbytes(end - at) + data[at:]


def _splice(data: bytes, chance: random.Random) -> bytes:
    other = chance.choice(list(samples().values()))
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


_DAMAGES: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("cut", _cut),
    ("bits flipped", _flip),
    ("bits flipped", _flip),
    ("a lie", _lie),
    ("a lie", _lie),
    ("blanked", _blank),
    ("bytes removed", _remove),
    ("bytes repeated", _repeat),
    ("bytes inserted", _insert),
    ("spliced with another", _splice),
)


def _stretch(data: bytes, chance: random.Random) -> tuple[int, int]:
    at = chance.randrange(len(data))
    return at, min(at + chance.choice((1, 4, 64, 1024)), len(data))


def _checksummed(data: bytes) -> bytes:
    """With a PNG header's checksum made right again: a lie that decoders believe."""
    if data.startswith(b"\x89PNG") and len(data) > 33:
        return data[:29] + zlib.crc32(data[12:29]).to_bytes(4) + data[33:]
    return data


def damaged_images(seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, file), without end."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    names = sorted(samples())
    while True:
        name = chance.choice(names)
        data, hows = samples()[name], []
        for _ in range(chance.choice((1, 1, 1, 2))):
            how, data = damaged(data or b"\0", chance)
            hows.append(how)
        yield f"{name}: {', '.join(hows)}", data


# ── Bombs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png_of(width: int, height: int, chunks: bytes = b"") -> bytes:
    """A grey PNG that states any size, with any chunks before its pixels, of which there are none."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def webp_of(width: int, height: int) -> bytes:
    """A lossless WEBP of one colour and any size: each of its five codes has one symbol, which takes no bits."""
    bits = 0x2F | (width - 1) << 8 | (height - 1) << 22
    codes = 0
    for n in range(5):
        codes |= 1 << 3 + 4 * n  # not transformed, no cache, no groups; then simple, one symbol, of one bit, zero
    stream = (bits | codes << 40).to_bytes(10, "little")
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiff_of(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A TIFF of (tag, type, count, value) entries."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + tail


def many_passes(width: int, height: int, passes: int) -> bytes:
    """A progressive JPEG whose last pass comes again and again: a few bytes each, a walk over the image each."""
    intact = encoded(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = intact.rindex(b"\xff\xda")
    return intact[:last] + intact[last:-2] * passes + b"\xff\xd9"


def png_of_zeros(kind: bytes, before: bytes) -> bytes:
    """A PNG with 50 MB of zeros in a chunk."""
    return png_of(3_000, 3_000, chunks=png_chunk(kind, before + zlib.compress(bytes(50_000_000), 9)))


def bombs() -> dict[str, tuple[Callable[[], bytes], str]]:
    """What makes files that hurt, and the error code each file has to end with."""
    size = [(256, 4, 1, 100), (257, 4, 1, 100)]
    gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    jpeg = samples()["jpeg"]
    frame = jpeg.index(b"\xff\xc0") + 5
    bmp = samples()["bmp"]
    return {
        "png of 100,000 x 100,000": (lambda: png_of(100_000, 100_000), "image_too_large"),
        "png of 15,900 x 15,900, just over the limit": (lambda: png_of(15_900, 15_900), "image_too_large"),
        "png of 0 x 0": (lambda: png_of(0, 0), "corrupt_image"),
        "png of 1 x 10,000,000": (lambda: png_of(1, 10_000_000), "image_too_large"),
        "png of 8,900 x 8,900 with no pixels": (lambda: png_of(8_900, 8_900), "corrupt_image"),
        "webp of 16,383 x 16,383 in 30 bytes": (lambda: webp_of(16_383, 16_383), "image_too_large"),
        "webp of 8,900 x 8,900 in 30 bytes": (lambda: webp_of(8_900, 8_900), "image_too_large"),
        "png with a text of 50 MB": (lambda: png_of_zeros(b"zTXt", b"Comment\0\0"), "corrupt_image"),
        "png with a profile of 50 MB": (lambda: png_of_zeros(b"iCCP", b"icc\0\0"), "corrupt_image"),
        "png with 600 blocks of EXIF": (
            lambda: png_of(8_900, 8_900, chunks=png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(65_500)) * 600),
            "corrupt_image",
        ),
        "png with a million chunks": (
            lambda: png_of(9, 9, chunks=png_chunk(b"teXt", b"") * 1_000_000),
            "corrupt_image",
        ),
        "gif of 65,535 x 65,535 with one pixel": (lambda: gif, "image_too_large"),
        "jpeg of 65,500 x 65,500": (lambda: jpeg[:frame] + b"\xff\xdc" * 2 + jpeg[frame + 4 :], "image_too_large"),
        "jpeg of 0 x 0": (lambda: jpeg[:frame] + bytes(4) + jpeg[frame + 4 :], "corrupt_image"),
        "jpeg of 40 MB of fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 40_000_000, "unsupported_image"),
        "jpeg with 40 MB between its segments": (
            lambda: jpeg[:20] + bytes(40_000_000) + jpeg[20:],
            "unsupported_image",
        ),
        "base64 of 40 MB": (lambda: b"/9j/4AAQ" + b"A" * 40_000_000, "unsupported_image"),
        "JSON of 40 MB": (lambda: b'{"a": "' + b'\\/"' * 13_000_000, "unsupported_image"),
        "numbers of 40 MB": (lambda: b"[" + b"1, 1, 1, 1,  , " * 2_700_000, "unsupported_image"),
        "jpeg of 5,000 passes": (lambda: many_passes(4_000, 4_000, 5_000), "unsupported_image"),
        "bmp of 2,147,483,647 x 2": (lambda: bmp[:18] + struct.pack("<ii", 2**31 - 1, 2) + bmp[26:], "image_too_large"),
        "bmp of 8,900 x 8,900 with little behind it": (
            lambda: bmp[:18] + struct.pack("<ii", 8_900, 8_900) + bmp[26:],
            "corrupt_image",
        ),
        "tiff whose 10,000 tags each claim 20 MB": (
            lambda: tiff_of([*size, *((1_000 + n, 7, 20_000_000, 8) for n in range(10_000))], bytes(20_000_000)),
            "unsupported_image",
        ),
        "tiff whose 4,000 tags each claim 20 MB": (
            lambda: tiff_of([*size, *((1_000 + n, 7, 20_000_000, 8) for n in range(4_000))], bytes(20_000_000)),
            "corrupt_image",
        ),
        "tiff of 5,000,000 strips": (
            lambda: tiff_of([*size, (273, 4, 5_000_000, 8), (279, 4, 5_000_000, 8)], bytes(40_000_000)),
            "unsupported_image",
        ),
        "tiff of one picture drawn 60,000 times": (
            lambda: tiff_of(
                [(256, 4, 1, 6_000), (257, 4, 1, 6_000), (278, 4, 1, 3_000), (273, 4, 60_000, 8)], bytes(36_000_000)
            ),
            "unsupported_image",
        ),
        "tiff of a tile of 46,000 x 46,000": (
            lambda: tiff_of([*size, (322, 4, 1, 46_000), (323, 4, 1, 46_000), (324, 4, 1, 8)], bytes(1_000)),
            "unsupported_image",
        ),
        "gif with a million remarks": (
            lambda: b"GIF89a\x09\0\x09\0\0\0\0" + b"!\xfe\0" * 1_000_000,
            "unsupported_image",
        ),
        "tiff of 65,535 tags": (lambda: tiff_of([(1, 4, 1, 1)] * 65_535), "unsupported_image"),
        "big tiff whose directory is far away": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 24, "corrupt_image"),
        "tiff whose directory is itself": (lambda: b"II*\0\0\0\0\0", "corrupt_image"),
        "heic of boxes in boxes": (lambda: samples()["heic"][:16] + b"\0\0\0\x08free" * 1_000_000, "corrupt_image"),
    }


# ── The run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def outcome(data: bytes) -> str:
    """How preparing the file ended. Anything but a `Failure` is raised."""
    try:
        return "converted" if prepare(data).transformed else "sent as it is"
    except PermanentFailure as failure:
        return failure.code.value
    except RetryableFailure:
        return "out of memory"


@dataclass
class Report:
    """The outcome of a run. `findings` are crashes, hangs, unforeseen exceptions and files that ran out of memory."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    peak_bytes: int = 0
    idle_bytes: int = 0

    @property
    def tried(self) -> int:
        return self.outcomes.total()

    def __str__(self) -> str:
        lines = [f"files tried   {self.tried:,}"]
        lines += [f"  {name:20} {count:8,}" for name, count in self.outcomes.most_common()]
        lines += [
            f"findings      {len(self.findings)}",
            f"slowest file  {self.slowest[0]:.2f} s ({self.slowest[1]})",
            f"peak memory   {self.peak_bytes / 1e6:,.0f} MB; {self.idle_bytes / 1e6:,.0f} MB before the first file",
        ]
        return "\n".join(lines) + "\n"

    def add(self, line: dict[str, Any]) -> None:
        self.outcomes[line["outcome"]] += 1
        self.slowest = max(self.slowest, (line["seconds"], line["name"]))
        self.peak_bytes = max(self.peak_bytes, line["peak_bytes"])
        if line["outcome"].startswith(("raised", "out of memory")):
            self.findings.append(f"{line['name']}: {line['outcome']}")


def run(seconds: float, seed: int) -> Report:
    """Try damaged files in child processes, for about `seconds`."""
    report = Report()
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        _run_child(report, seed, left)
        seed += 1
    return report


def _run_child(report: Report, seed: int, seconds: float) -> None:
    command = [sys.executable, __file__, "--child", "--seed", str(seed), "--seconds", str(seconds)]
    with tempfile.TemporaryFile("w+") as lines, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=lines, stderr=errors, start_new_session=True)
        try:
            code = child.wait(seconds + HANG_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            child.kill()
            child.wait()
        lines.seek(0)
        tried = [json.loads(line) for line in lines if line.endswith("\n")]
        errors.seek(0)
        said = errors.read()[-2000:]
    for line in tried:
        if "idle_bytes" in line:
            report.idle_bytes = max(report.idle_bytes, line["idle_bytes"])
        else:
            report.add(line)
    if code != 0:
        files = len(tried) - 1
        name = next(islice(damaged_images(seed), max(files, 0), None))[0]
        what = "hung" if code is None else f"ended its process with {code}"
        report.findings.append(f"file {files} of seed {seed} ({name}) {what}\n{said}")


def _child(seed: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    warnings.simplefilter("ignore")
    samples()
    _say(json.dumps({"idle_bytes": _peak_bytes()}))
    ends = time.monotonic() + seconds
    for name, data in islice(damaged_images(seed), _BATCH):
        began = time.perf_counter()
        try:
            ended = outcome(data)
        except Exception as exc:  # noqa: BLE001 - the finding this run is for
            ended = f"raised {type(exc).__name__}: {exc}"
        line = {"name": name, "outcome": ended, "seconds": time.perf_counter() - began, "peak_bytes": _peak_bytes()}
        _say(json.dumps(line))
        if time.monotonic() > ends:
            return


def _say(line: str) -> None:
    # At once: the last line before a crash names the file.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB


def main() -> int:
    parser = argparse.ArgumentParser(description="Try damaged images on the pipeline, in child processes.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the first batch's seed; the next ones count up (default: 1)"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.seed, arguments.seconds)
        return 0
    with suppress(OSError):
        os.nice(10)
    report = run(arguments.seconds, arguments.seed)
    sys.stdout.write(str(report))
    for finding in report.findings:
        sys.stderr.write(f"{finding}\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
