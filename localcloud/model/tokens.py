"""A simple estimate of a request's tokens, good enough to fill `usage` and to drain a quota."""

import math

BYTES_PER_TOKEN = 4
"""English text in the tokenizers of the GPT family, roughly. Counted in UTF-8 bytes, so other scripts cost more, as
they do there."""

# How the service counts an image for GPT-5 (images guide, "Calculating costs"): a base, and a charge for each tile of
# 512 pixels after fitting the image into 2048x2048 and then its short side into 768. `low` pays the base alone, and the
# model sees the image within 512x512.
IMAGE_BASE_TOKENS = 70
IMAGE_TILE_TOKENS = 140
TILE = 512
LOW_SIDE = 512
LONG_SIDE = 2048
# With `original`, squares of 32 pixels after fitting the image into 6000x6000 and then 10,000 of them.
PATCH = 32
MOST_PATCHES = 10_000
ORIGINAL_SIDE = 6000
SHORT_SIDE = 768


def text_tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def image_tokens(width: int, height: int, detail: str) -> int:
    """Tokens for an image of that size in pixels. detail: low, high, auto or original."""
    if detail == "low":
        return IMAGE_BASE_TOKENS
    if detail == "original":
        scale = min(1.0, ORIGINAL_SIDE / max(width, height))
        return min(MOST_PATCHES, math.ceil(width * scale / PATCH) * math.ceil(height * scale / PATCH))
    scale = min(1.0, LONG_SIDE / max(width, height))
    scale *= min(1.0, SHORT_SIDE / (min(width, height) * scale))
    tiles = math.ceil(round(width * scale) / TILE) * math.ceil(round(height * scale) / TILE)
    return IMAGE_BASE_TOKENS + max(1, tiles) * IMAGE_TILE_TOKENS


def cut(text: str, tokens: int) -> str:
    """The beginning of the text that fits into that many tokens; never half a character."""
    return text.encode()[: tokens * BYTES_PER_TOKEN].decode(errors="ignore")
