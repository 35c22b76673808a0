"""The image format of a file, by its content: its name and its Content-Type are often wrong.

The formats we open are a short list on purpose: every decoder is attack surface, and the obscure ones are the
least looked after. What is not on it is named, so that the message can say what to do: see `other_files`.
"""

import re

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.images import other_files
from pipeline.images.signatures import image_kind

# Bytes in front of a picture: a line break, a byte order mark, a web server's headers or warnings, a MacBinary header.
_MAX_IN_FRONT = 1024
_STARTS = re.compile(
    rb"(?=\xff\xd8\xff[\xc0-\xcf\xdb\xdd\xe0-\xef\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM"
    rb"|\0\0..ftyp)",
    re.DOTALL,
)
# A picture that is found further in goes on to the end of the file: otherwise it is the preview of another format.
_ENDS = {"jpeg": b"\xff\xd9", "png": b"IEND", "gif": b";"}
_MAX_BEHIND = 1024


def find_picture(data: bytes) -> tuple[str, int]:
    """The format of the picture in `data`, and the offset at which it begins, nearly always 0.

    The format is "jpeg", "png", "gif", "webp", "bmp", "tiff", "jpeg2000", "psd", "heic" or "avif".

    Raises:
        PermanentFailure: unsupported_image, naming what the file seems to be.
    """
    if kind := image_kind(data):
        return kind, 0
    if what := other_files.described(data):
        raise unsupported(*what)
    return _further_in(data) or _refuse_unknown(data)


def unsupported(what: str, advice: str = other_files.SAVE_AS_PICTURE) -> PermanentFailure:
    """The failure of a file that seems to be `what`, for example "a PDF document"."""
    return PermanentFailure(
        ErrorCode.UNSUPPORTED_IMAGE,
        f"The file is not an image we can send to the model: it seems to be {what}. {advice}",
        {"seems_to_be": what},
    )


def unknown(data: bytes) -> PermanentFailure:
    """The failure of a file that is not recognized."""
    return unsupported(*(other_files.guessed(data) or ("of no kind we know", other_files.NO_PICTURE)))


def _refuse_unknown(data: bytes) -> tuple[str, int]:
    raise unknown(data)


def _further_in(data: bytes) -> tuple[str, int] | None:
    for found in _STARTS.finditer(data, 0, _MAX_IN_FRONT + 16):
        at = found.start()
        kind = image_kind(data[at : at + 256])
        if kind and data.rfind(_ENDS.get(kind, b""), -_MAX_BEHIND) >= 0:
            return kind, at
    return None
