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
COUNTED = "Count"
"""Start of instructions with a schema, which the first answer does not meet."""
SCHEMA_NAME = "count.schema.json"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PAGES = 3
"""Of a document whose pages are asked about one by one."""


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
    PAGES = "pages"
    """A document, each of whose pages is a question."""
    SCHEMA = "schema"
    """Its first answer does not meet the schema."""
    FALLBACK = "fallback"
    """Where no batch answers, the default lane is to be asked."""
    MOVED = "moved to the other lane"
    """Its metadata ask for the default lane while it is in a batch, or when it is done."""


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
BATCH_WEIGHTS = WEIGHTS | {Kind.PLAIN: 25, Kind.PAGES: 10, Kind.SCHEMA: 10, Kind.FALLBACK: 10, Kind.MOVED: 8}
"""Of what goes by batch."""
CODES = {
    Kind.FILTERED: "content_filtered",
    Kind.REFUSED: "model_refused",
    Kind.EMPTY: "empty_blob",
    Kind.NO_IMAGE: "unsupported_image",
    Kind.TRUNCATED: "corrupt_image",
    Kind.BAD_INSTRUCTIONS: "invalid_instructions",
}
"""Error codes of bad files; all others succeed."""

CHANGED_ONCE = (Kind.DELETED, Kind.SIDECAR_AFTER, Kind.TOUCHED, Kind.REUPLOADED, Kind.MOVED)

FOLDERS = ("", "a/", "a-b/", "deep/er/", "größe/")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""The last is one that the model does not take: it is converted."""
LONGEST_PAUSE = 6.0
"""Seconds before an upload is changed again: some while it waits, some in mid-call, some when it is done."""
LONGEST_BATCH_PAUSE = 15.0
"""The same for what goes by batch."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image and its story."""

    number: int
    kind: Kind
    name: str
    pauses: tuple[float, ...]
    """Seconds before each change after the first upload."""
    by_batch: bool = False

    @property
    def code(self) -> str | None:
        """The error code that its result must have; None: it must succeed."""
        return CODES.get(self.kind)

    @property
    def sidecar(self) -> str:
        return f"{self.name}.instructions.txt"

    def question(self, version: int) -> str:
        """The question about this version, in words unique to it."""
        verb = {Kind.FILTERED: FILTERED, Kind.REFUSED: REFUSED, Kind.SCHEMA: COUNTED}.get(self.kind, "Describe")
        return f"{verb} item {self.number}, version {version}."

    def metadata(self, version: int) -> dict[str, str]:
        options = {
            Kind.PAGES: {"per_page": "true"},
            Kind.SCHEMA: {"schema": SCHEMA_NAME},
            Kind.FALLBACK: {"tier_fallback": "default"},
        }.get(self.kind, {})
        return self._instructions(version) | options | ({"service_tier": "batch"} if self.by_batch else {})

    def _instructions(self, version: int) -> dict[str, str]:
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
            case Kind.PAGES:
                return _document(marker, PAGES)
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


def items(uploads: int, seed: int, by_batch: float = 0.0) -> Iterator[Item]:
    """The plan. `by_batch` is the part of it that goes by the batch lane."""
    rng, lanes = Random(f"{seed}/plan"), Random(f"{seed}/lanes")  # noqa: S311 - repeatable on purpose
    for number in range(uploads):
        is_by_batch = lanes.random() < by_batch
        weights = BATCH_WEIGHTS if is_by_batch else WEIGHTS
        kind = rng.choices(list(weights), list(weights.values()))[0]
        changes = {Kind.OVERWRITTEN: rng.choice((1, 1, 2))}.get(kind, 1 if kind in CHANGED_ONCE else 0)
        ending = "tiff" if kind is Kind.PAGES else _format(number, kind).lower()
        longest = LONGEST_BATCH_PAUSE if is_by_batch else LONGEST_PAUSE
        yield Item(
            number=number,
            kind=kind,
            name=f"{rng.choice(FOLDERS)}item {number:05}.{ending}",
            pauses=tuple(rng.uniform(0, longest) for _ in range(changes)),
            by_batch=is_by_batch,
        )


def _format(number: int, kind: Kind) -> str:
    if kind is Kind.MISENCODED:
        return "JPEG"
    # What is asked the built-in question is recognized by its digest, so it is not converted.
    return FORMATS[number % (len(FORMATS) - (kind is Kind.SIDECAR_AFTER))]


def _picture(marker: str, kind: str, side: int) -> bytes:
    buffer = BytesIO()
    _noise(marker, side).save(buffer, kind)
    return buffer.getvalue()


def _document(marker: str, pages: int) -> bytes:
    buffer = BytesIO()
    first, *rest = (_noise(f"{marker}/{page}", 16) for page in range(pages))
    first.save(buffer, "TIFF", save_all=True, append_images=rest)
    return buffer.getvalue()


def _noise(marker: str, side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), hashlib.shake_256(marker.encode()).digest(side * side * 3))
