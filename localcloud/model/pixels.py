"""Measure facts about a picture from its pixels."""

from collections import Counter
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageStat

EXIF_ORIENTATION = 0x0112

COLOURS = {
    "black": (15, 15, 18),
    "dark grey": (70, 70, 74),
    "grey": (128, 128, 128),
    "light grey": (200, 200, 200),
    "white": (248, 248, 248),
    "red": (205, 45, 45),
    "dark red": (115, 25, 28),
    "orange": (238, 135, 55),
    "brown": (112, 70, 42),
    "beige": (226, 208, 172),
    "yellow": (245, 215, 70),
    "green": (70, 150, 70),
    "dark green": (28, 66, 50),
    "turquoise": (60, 180, 175),
    "light blue": (150, 195, 230),
    "blue": (70, 120, 190),
    "dark blue": (32, 40, 96),
    "purple": (115, 65, 130),
    "pink": (235, 155, 175),
}
SAMPLE = 64
"""Pixels a side that colours are counted on."""
SHARE = 0.08
"""A colour below this share of the picture is not worth a word."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Measured facts about a picture. `colours` by share, the largest first."""

    format: str
    width: int
    height: int
    size_bytes: int
    colours: tuple[str, ...]
    brightness: str
    """dark, medium or bright"""
    turned: bool
    """EXIF asks for a turn or a flip that the pixels have not had."""

    @property
    def shape(self) -> str:
        if self.width == self.height:
            return "square"
        return "landscape" if self.width > self.height else "portrait"

    def sentence(self) -> str:
        colours = ", ".join(self.colours) or "many colours, none of them large"
        turned = " Its EXIF data ask for a rotation that the pixels have not had." if self.turned else ""
        return (
            f"{self.format.upper()}, {self.width} x {self.height} pixels ({self.shape}), {self.size_bytes:,} bytes; "
            f"{self.brightness} overall; mostly {colours}.{turned}"
        )


def measure(data: bytes) -> Facts:
    with Image.open(BytesIO(data)) as image:
        kind, (width, height) = (image.format or "unknown").lower(), image.size
        turned = image.getexif().get(EXIF_ORIENTATION, 1) not in (0, 1)
        image.draft("RGB", (SAMPLE * 2, SAMPLE * 2))
        small = image.convert("RGBA").resize((SAMPLE, SAMPLE), Image.Resampling.BOX)
    paper = Image.new("RGBA", small.size, "white")
    paper.alpha_composite(small)
    seen = paper.convert("RGB")
    light = ImageStat.Stat(seen.convert("L")).mean[0]
    shares: Counter[str] = Counter()
    for count, colour in seen.getcolors(SAMPLE * SAMPLE) or []:
        if isinstance(colour, tuple):
            shares[_name(colour)] += count
    return Facts(
        format=kind,
        width=width,
        height=height,
        size_bytes=len(data),
        colours=tuple(name for name, count in shares.most_common(4) if count >= SHARE * SAMPLE * SAMPLE),
        brightness="dark" if light < 85 else "bright" if light > 170 else "medium",
        turned=turned,
    )


def _name(colour: tuple[int, ...]) -> str:
    """The nearest named colour, by the "redmean" distance: cheap, and close to what the eye says."""

    def distance(name: str) -> float:
        other = COLOURS[name]
        red = (colour[0] + other[0]) / 2
        return (
            (2 + red / 256) * (colour[0] - other[0]) ** 2
            + 4 * (colour[1] - other[1]) ** 2
            + (2 + (255 - red) / 256) * (colour[2] - other[2]) ** 2
        )

    return min(COLOURS, key=distance)
