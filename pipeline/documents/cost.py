"""Memory that drawing a page takes, estimated from the sizes of its images before anything is decoded. Pure.

PDFium leaves out an image for which it finds no memory, and says nothing of it. So a page is drawn only where this
estimate fits. Measured with A4 scanned at 300, 600 and 1,200 dpi, black and white and in colour: the least limit under
which each is drawn whole.
"""

from collections.abc import Iterable

_ALWAYS_BYTES = 60_000_000
"""The interpreter and its libraries' data, a page as it is drawn, and its encoding."""
_USUAL_PIXELS, _DRAWN_BYTES_PER_PIXEL = 2048 * 2048, 9
"""What is drawn larger takes more."""
_HUGE_BYTES = 60_000_000
"""What is larger is not kept once it is drawn: kHugeImageSize.
https://pdfium.googlesource.com/pdfium/+/refs/heads/main/core/fpdfapi/page/cpdf_pageimagecache.cpp"""
_KEPT_BYTES = 100_000_000
"""Of the images of a page that are kept for being drawn again: m_dwLimitCacheSize."""
_BY_LINES = frozenset({"DCTDecode", "CCITTFaxDecode"})
"""Decoded while they are drawn, line by line, if they are huge."""
_BITS = {"CCITTFaxDecode": 1, "JBIG2Decode": 1, "JPXDecode": 128}
"""Of a pixel, decoded; JPEG 2000 has a number of 32 bits for each channel."""
_USUAL_BITS = 32

type Picture = tuple[int, int, str]
"""Width, height, and the last of its filters, by PDF's names."""


def drawing_bytes(pictures: Iterable[Picture], drawn_width: int, drawn_height: int) -> int:
    """Estimate the peak of drawing a page with these images, at that size in pixels, beside the document."""
    largest = kept = narrowed = 0
    for width, height, filter_ in pictures:
        bits = _BITS.get(filter_, _USUAL_BITS)
        decoded = width * height * bits // 8
        # It is scaled in one direction after the other.
        narrowed = max(narrowed, drawn_width * height * (1 if bits == 1 else 3))
        if decoded < _HUGE_BYTES:
            kept += decoded
        elif filter_ not in _BY_LINES:
            largest = max(largest, decoded)
    larger = max(0, drawn_width * drawn_height - _USUAL_PIXELS) * _DRAWN_BYTES_PER_PIXEL
    return _ALWAYS_BYTES + larger + min(kept, _KEPT_BYTES + _HUGE_BYTES) + largest + narrowed
