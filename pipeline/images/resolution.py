"""The resolution at which a model looks at an image: what is larger, it gets scaled down. Pure.

Source: https://developers.openai.com/api/docs/guides/images-vision, "Model sizing behavior" and "Calculating costs".
"""

import math
from dataclasses import dataclass

PATCH = 32
"""Pixels on each side of the squares that newer models count."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """At most `side` pixels on the longer side and, where that counts, `patches` to cover the image."""

    side: int
    patches: int | None = None

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """The size at which the model sees a picture of that size."""
        factor = min(1, self.side / max(width, height))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        return size if self.patches is None else within(self.patches, *size)

    def holds(self, width: int, height: int) -> bool:
        """Whether the model sees a picture of that size as it is."""
        return self.fitted(width, height) == (width, height)


STANDARD = Resolution(2048)
"""With any other detail than `original`. Azure OpenAI, "Use vision-enabled chat models"."""
ORIGINAL = Resolution(6000, 10_000)
"""With detail `original`: what gpt-5.4 and gpt-5.5 look at. The models of gpt-5.6 have no such limit; for them it is
ours, so that no image costs more than 10,000 patches."""


def of_detail(detail: str) -> Resolution:
    """The resolution that a `detail` is worth."""
    return ORIGINAL if detail == "original" else STANDARD


def patches(width: int, height: int) -> int:
    """Patches that cover an image of that size."""
    return math.ceil(width / PATCH) * math.ceil(height / PATCH)


def within(budget: int, width: int, height: int) -> tuple[int, int]:
    """The size, scaled down until `budget` patches cover it; the arithmetic is the guide's."""
    if patches(width, height) <= budget:
        return width, height
    shrink = math.sqrt(PATCH**2 * budget / (width * height))
    across, down = width * shrink / PATCH, height * shrink / PATCH
    shrink *= min(math.floor(across) / across, math.floor(down) / down)
    return max(1, int(width * shrink)), max(1, int(height * shrink))
