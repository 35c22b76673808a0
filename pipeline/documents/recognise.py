"""Which files are documents, by their content. Pure, and all that an image pays for documents."""

from pipeline.images.signatures import image_kind

MAGIC = b"%PDF-"
MAGIC_WITHIN = 1024
"""Bytes from the start in which readers look for it. ISO 32000-1, implementation note 13 of its predecessor."""


def is_pdf(data: bytes) -> bool:
    """Whether the file is a PDF, as readers recognise one."""
    return data.startswith(MAGIC) or (MAGIC in data[:MAGIC_WITHIN] and image_kind(data) is None)
