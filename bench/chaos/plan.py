"""The plan of uploads and their expected results. Pure: the same for a seed."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from random import Random

from PIL import Image

FILTERED = "Let the filter stop"
"""Start of instructions that the model's content filter stops."""
REFUSED = "Decline"
"""Start of instructions that the model declines."""


class Kind(StrEnum):
    PLAIN = "plain"
    OVERWRITTEN = "overwritten"
    """Once or twice, while earlier versions are in flight or done."""
    DELETED = "deleted"
    SIDECAR_BEFORE = "sidecar before"
    SIDECAR_AFTER = "sidecar after"
    """Analyzed as it came, and again for the sidecar unless that was quicker."""
    FILTERED = "filtered"
    REFUSED = "refused"
    EMPTY = "empty"
    NO_IMAGE = "no image"
    TRUNCATED = "truncated"
    BAD_INSTRUCTIONS = "bad instructions"
    TOUCHED = "touched"
    """Its metadata are written again once it has its result: another ETag, the same bytes, the same question."""
    REUPLOADED = "uploaded again"
    """The same bytes with the same question, while the first upload waits, is in flight or is done."""
    MISENCODED = "misencoded"
    """A plain JPEG whose Content-Encoding says gzip."""


WEIGHTS = {
    Kind.PLAIN: 60,
    Kind.OVERWRITTEN: 12,
    Kind.DELETED: 6,
    Kind.SIDECAR_BEFORE: 4,
    Kind.SIDECAR_AFTER: 6,
    Kind.FILTERED: 2,
    Kind.REFUSED: 2,
    Kind.EMPTY: 2,
    Kind.NO_IMAGE: 2,
    Kind.TRUNCATED: 2,
    Kind.BAD_INSTRUCTIONS: 2,
    Kind.TOUCHED: 5,
    Kind.REUPLOADED: 5,
    Kind.MISENCODED: 3,
}
CODES = {
    Kind.FILTERED: "content_filtered",
    Kind.REFUSED: "model_refused",
    Kind.EMPTY: "empty_blob",
    Kind.NO_IMAGE: "unsupported_image",
    Kind.TRUNCATED: "corrupt_image",
    Kind.BAD_INSTRUCTIONS: "invalid_instructions",
}
"""Error codes of bad files; all others succeed."""

CHANGED_ONCE = (Kind.DELETED, Kind.SIDECAR_AFTER, Kind.TOUCHED, Kind.REUPLOADED)

FOLDERS = ("", "a/", "a-b/", "deep/er/", "größe/")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""The last is one that the model does not take: it is converted."""
LONGEST_PAUSE = 6.0
"""Seconds before an upload is changed again: some while it waits, some in mid-call, some when it is done."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image and its story."""

    number: int
    kind: Kind
    name: str
    pauses: tuple[float, ...]
    """Seconds before each change after the first upload."""

    @property
    def code(self) -> str | None:
        """The error code that its result must have; None: it must succeed."""
        return CODES.get(self.kind)

    @property
    def sidecar(self) -> str:
        return f"{self.name}.instructions.txt"

    def question(self, version: int) -> str:
        """The question about this version, in words unique to it."""
        verb = {Kind.FILTERED: FILTERED, Kind.REFUSED: REFUSED}.get(self.kind, "Describe")
        return f"{verb} item {self.number}, version {version}."

    def metadata(self, version: int) -> dict[str, str]:
        match self.kind:
            case Kind.SIDECAR_BEFORE | Kind.SIDECAR_AFTER:
                return {}
            case Kind.BAD_INSTRUCTIONS:
                return {"instructions_b64": f"no base64: {version}!"}
            case _:
                return {"instructions": self.question(version)}

    def content(self, version: int) -> bytes:
        """The bytes of this version, unique to it unless empty."""
        marker = f"{self.number}/{version}"
        match self.kind:
            case Kind.EMPTY:
                return b""
            case Kind.NO_IMAGE:
                return f"This is not an image but text, number {marker}.\n".encode() * 5
            case Kind.TRUNCATED:
                whole = _picture(marker, "JPEG", 128)
                return whole[: len(whole) // 2]
            case _:
                return _picture(marker, _format(self.number, self.kind), 16)


@dataclass(slots=True)
class Names:
    """Finds the image of a call: by its question, or by the picture's digest if that is the built-in one."""

    by_number: Mapping[int, str]
    _by_digest: dict[str, str] = field(default_factory=dict)
    _digests: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, image: str, data: bytes) -> None:
        """Learn the bytes of a version that is about to be uploaded."""
        digest = hashlib.sha256(data).hexdigest()
        self._by_digest[digest] = image
        self._digests[image].append(digest)

    def of(self, question: str, digest: str) -> str:
        """The image's name."""
        found = re.search(r" item (\d+), version \d+\.$", question)
        return self.by_number[int(found[1])] if found else self._by_digest[digest]

    def digests(self, image: str) -> Sequence[str]:
        """SHA-256 of each version of `image`."""
        return self._digests[image]


def items(uploads: int, seed: int) -> Iterator[Item]:
    rng = Random(f"{seed}/plan")  # noqa: S311 - repeatable on purpose
    for number, kind in enumerate(rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=uploads)):
        changes = {Kind.OVERWRITTEN: rng.choice((1, 1, 2))}.get(kind, 1 if kind in CHANGED_ONCE else 0)
        ending = _format(number, kind).lower()
        yield Item(
            number=number,
            kind=kind,
            name=f"{rng.choice(FOLDERS)}item {number:05}.{ending}",
            pauses=tuple(rng.uniform(0, LONGEST_PAUSE) for _ in range(changes)),
        )


def _format(number: int, kind: Kind) -> str:
    if kind is Kind.MISENCODED:
        return "JPEG"
    # What is asked the built-in question is recognized by its digest, so it is not converted.
    return FORMATS[number % (len(FORMATS) - (kind is Kind.SIDECAR_AFTER))]


def _picture(marker: str, kind: str, side: int) -> bytes:
    noise = hashlib.shake_256(marker.encode()).digest(side * side * 3)
    buffer = BytesIO()
    Image.frombytes("RGB", (side, side), noise).save(buffer, kind)
    return buffer.getvalue()
