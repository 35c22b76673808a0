"""The result JSON, version 1: what downstream systems read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError, WithJsonSchema
from pydantic_core import PydanticSerializationError

from pipeline.errors import REFUSED_TIER, ErrorCode
from pipeline.instructions import Origin
from pipeline.settings import Detail

SCHEMA_VERSION: Literal[1] = 1


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


type Timestamp = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

PAID_FAILURES = frozenset(
    {ErrorCode.CONTENT_FILTERED, ErrorCode.MODEL_REFUSED, ErrorCode.EMPTY_ANSWER, ErrorCode.INVALID_ANSWER}
)
"""Failures that the model was paid for: asked again, it would say the same. A person may have them run again."""


MOST_REUSED_BYTES = 16 * 1024 * 1024
"""Of a stored result that is read for its answer. A million tokens, more than any model writes, take a quarter."""


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,  # null is written, so readers may count on the field
    )


class Source(_Section):
    """The uploaded blob, as it was when it was analyzed. For an image that came by HTTP, what names a blob is null."""

    container: str | None
    name: str | None
    url: str | None
    etag: str | None
    """The blob's ETag without quotation marks, as container listings show it."""
    last_modified: Timestamp | None
    size_bytes: int | None
    content_type: str | None
    """What the uploader declared; `format` is what the content is."""
    sha256: str | None = None
    """Of the bytes as stored, hexadecimal; null when they were not read."""
    format: str | None = None
    """Type by content: jpeg, png, …; null when it is not an image."""
    width: int | None = None
    """Pixels, as stored, before any rotation."""
    height: int | None = None
    pages: int | None = None
    """Pages of a PDF or TIFF, frames of an animation or pictures of an image sequence; null for other files. Which of
    them were looked at: `pages_sent`."""


class InstructionsUsed(_Section):
    """What was asked. Null when the instructions can't be read."""

    text: str | None = None
    origin: Origin | None = None
    """Which source won."""
    origin_name: str | None = None
    """The metadata key, file or setting that held the text."""
    sha256: str | None = None
    """Of the text in UTF-8, hexadecimal."""


class ImageSent(_Section):
    """The image as the model got it. Null when none was sent, or more than one: see `pages_sent`."""

    format: str | None = None
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None
    transformed: bool | None = None
    """False: the uploaded bytes themselves were sent."""
    detail: Detail | None = None


class PageSent(_Section):
    """A page as the model got it; of an image without pages, the image."""

    number: int
    """From 1."""
    format: str
    width: int
    height: int
    size_bytes: int
    transformed: bool
    """False: the uploaded bytes themselves were sent."""


class Usage(_Section):
    """Tokens as the service counted them, null when nothing was paid."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    """Reasoning included."""
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class ResultError(_Section):
    code: ErrorCode
    message: str
    """For the person who dropped the file: what is wrong and what to do."""
    details: dict[str, Any] | None
    """What a program may want to know beyond the message."""


class PageAnswer(_Section):
    """The answer about one page, with the option `per_page`."""

    number: int
    text: str | None
    data: Any = None
    finish_reason: str | None
    truncated: bool
    request_id: str | None
    service_tier: str | None = None
    usage: Usage
    error: ResultError | None


class Answer(_Section):
    text: str
    """With the option `per_page`, those of all pages, with an empty line between them."""
    data: Any = None
    """The parsed object when a JSON Schema was asked for."""
    finish_reason: str | None
    """As the model gave it: stop, length, …"""
    truncated: bool
    """The answer hit the ceiling on output tokens and ends early."""
    reused_from: str | None = None
    """The ETag of the earlier version that this answer was paid for: the same bytes, asked the same question. Null when
    the model was asked for this version."""
    pages: list[PageAnswer] | None = None
    """With the option `per_page`: the answer about each page. `data` and `finish_reason` are there then."""


class ModelUsed(_Section):
    deployment: str
    """The deployment that was asked."""
    model: str | None = None
    """The model and version that really answered."""
    service_tier: str | None = None
    """The tier that it was answered at, as the service says: default, flex, … Null where it doesn't, or where calls for
    one result were answered at different tiers."""
    endpoint: str | None = None
    """The host that was asked; null when it did not answer."""
    request_id: str | None = None
    """The service's id of the call, for support requests."""


class TimingsMs(_Section):
    """Milliseconds; null for a step that was not reached."""

    download: int | None = None
    prepare: int | None = None
    model: int | None = None
    total: int


class Result(_Section):
    """What became of one upload. Every field is always present, null where it does not apply."""

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Literal["succeeded", "failed"]
    created_at: Timestamp
    pipeline_version: str
    work_key: str
    """The same key means the same work: image, instructions, options that change the answer, and deployment."""
    attempts: int
    """Deliveries that were needed, from 1."""
    source: Source
    instructions: InstructionsUsed
    image_sent: ImageSent
    pages_sent: list[PageSent] = []
    """The pages that were sent, in order; of an image without pages, the image."""
    answer: Answer | None
    """Null when there is none."""
    model: ModelUsed
    usage: Usage
    timings_ms: TimingsMs
    error: ResultError | None
    """Null when succeeded."""

    @property
    def paid(self) -> bool:
        """Whether the model was paid for it, or may have been: a refusal by the content filter names no tokens.

        https://learn.microsoft.com/azure/ai-foundry/openai/how-to/manage-costs#http-error-response-code-and-billing-status
        """
        known = self.usage.input_tokens is not None or self.usage.output_tokens is not None or self.answer is not None
        return known or (self.error is not None and self.error.code in PAID_FAILURES)

    def to_json(self) -> bytes:
        """UTF-8, indented: people open these."""
        try:
            return self.model_dump_json(indent=2).encode()
        except PydanticSerializationError:  # half a surrogate pair, in a stranger's text, has no UTF-8
            return json.dumps(self.model_dump(), indent=2).encode()


def result_in(body: bytes) -> Result | None:
    """The result that a blob holds; None for anything else, such as what another program wrote."""
    try:
        return Result.model_validate_json(body)
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class ResultMetadata:
    """The result blob's metadata, which a listing shows without reading results."""

    status: str | None = None
    error_code: str | None = None
    source_etag: str | None = None
    source_modified: datetime | None = None
    source_sha256: str | None = None
    origin: str | None = None
    """Where its instructions came from."""
    work_key: str | None = None
    content_key: str | None = None
    """Equal for the same question about the same bytes, whatever the ETag."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    refused_tier: str | None = None
    """The service tier that an option asked for in vain. It is not part of the work key, so another one is new work."""
    reanalyzed: tuple[datetime, ...] = ()
    """When the model was asked again about the image, lately; kept where the operator limits that."""
    written: datetime | None = None
    """When the result was written, by the service's clock, where its metadata were changed since."""

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def paid(self) -> bool:
        """Whether the model was paid for it, and would say the same if it were asked again."""
        return self.status == "succeeded" or self.error_code in PAID_FAILURES

    @classmethod
    def of(cls, result: Result, content_key: str | None = None, reanalyzed: tuple[datetime, ...] = ()) -> Self:
        return cls(
            status=result.status,
            error_code=result.error.code.value if result.error else None,
            source_etag=result.source.etag,
            source_modified=result.source.last_modified,
            source_sha256=result.source.sha256,
            origin=result.instructions.origin,
            work_key=result.work_key,
            content_key=content_key,
            input_tokens=result.usage.input_tokens,
            output_tokens=result.usage.output_tokens,
            refused_tier=(result.error.details or {}).get(REFUSED_TIER) if result.error else None,
            reanalyzed=reanalyzed,
        )

    @classmethod
    def from_blob(cls, metadata: Mapping[str, str]) -> Self:
        """Read `metadata`. Keys may be in any case; values that another program wrote count as missing."""
        said = {key.lower(): value for key, value in metadata.items()}
        return cls(
            status=said.get("status"),
            error_code=said.get("errorcode"),
            source_etag=said.get("sourceetag"),
            source_modified=_moment(said.get("sourcemodified")),
            source_sha256=said.get("sourcesha256"),
            origin=said.get("origin"),
            work_key=said.get("workkey"),
            content_key=said.get("contentkey"),
            input_tokens=_count(said.get("inputtokens")),
            output_tokens=_count(said.get("outputtokens")),
            refused_tier=said.get("refusedtier"),
            reanalyzed=_moments(said.get("reanalyzed")),
            written=_moment(said.get("written")),
        )

    def to_blob(self) -> dict[str, str]:
        said = {
            "status": self.status,
            "errorcode": self.error_code,
            "sourceetag": self.source_etag,
            "sourcemodified": self.source_modified.isoformat() if self.source_modified else None,
            "sourcesha256": self.source_sha256,
            "origin": self.origin,
            "workkey": self.work_key,
            "contentkey": self.content_key,
            "inputtokens": self.input_tokens,
            "outputtokens": self.output_tokens,
            "refusedtier": self.refused_tier,
            "reanalyzed": ",".join(str(int(moment.timestamp())) for moment in self.reanalyzed) or None,
            "written": self.written.isoformat() if self.written else None,
        }
        return {key: str(value) for key, value in said.items() if value is not None}


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _moments(text: str | None) -> tuple[datetime, ...]:
    """Seconds since 1970, separated by commas."""
    seconds = (_count(part) for part in (text or "").split(","))
    return tuple(datetime.fromtimestamp(n, UTC) for n in seconds if n is not None and n < _YEAR_3000)


_YEAR_3000 = 32_503_680_000


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else None


def json_schema() -> str:
    """The published JSON Schema (docs/result.schema.json)."""
    schema = Result.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Blobsight result, version 1"}
    return json.dumps(head | {k: v for k, v in schema.items() if k != "title"}, indent=2, ensure_ascii=False) + "\n"
