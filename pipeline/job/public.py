"""Messages on the request queue, where others ask for work: by an image's name, or with Event Grid's own events. Pure.

A JSON object, version 1:

    {"version": 1, "container": "images", "name": "a/b.jpg",
     "rerun_of": "0x8DE…",                                              the ETag of the failed result to replace
     "instructions": "What is this?", "options": {"detail": "high"},    another question, where REQUESTS_MAY_ASK
     "trial": "1f6c0ab2"}                                               likewise: a trial, whose result lies apart

    {"version": 1, "redrive": ["retries_exhausted", "crashed"]}         all that failed so, where REQUESTS_MAY_REDRIVE

Everything but `container` and `name` may be left out. An Event Grid event (`BlobCreated`, the Event Grid or the
CloudEvents schema, one or an array) asks for the analysis of its blob, so a subscription can deliver straight to the
queue and needs no webhook key.

The sender says nothing about the state of the work. Versions with a single queue deferred their work onto this one, and
their command line wrote the same form: the state in such a message is left unread, and its work begins anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError

from pipeline.errors import ErrorCode
from pipeline.instructions.options import Options
from pipeline.job.requests import (
    MESSAGE_BYTES,
    BlobName,
    InvalidRequest,
    Redrive,
    Request,
    TrialId,
    loaded,
    parse_deferred,
    validated,
)
from pipeline.one_line import short

BLOB_CREATED = "Microsoft.Storage.BlobCreated"

MOST_BYTES = MESSAGE_BYTES - 256
"""Bytes of a request's work when it is new: once deferred it says more, and still has to fit into a message."""

_UNREAD = {"attempt", "since", "timed_out", "token"}
"""The state of work, as versions with a single queue wrote it."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What others may ask for besides the analysis of an image."""

    questions: bool = True
    redrives: bool = False


class PublicRequest(BaseModel):
    """The analysis of one image, asked for by another program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    container: str = Field(min_length=1)
    name: BlobName
    instructions: str | None = None
    options: Options = Options()
    trial: TrialId | None = None
    """The result goes to this trial's place (`pipeline.job.places`), and the image may lie there, too."""
    rerun_of: str | None = None
    """The ETag of the failed result to replace. Another one, written since, counts as done."""

    @property
    def asks(self) -> bool:
        """Whether it has a question of its own, or has one asked once more, in a trial."""
        return self.instructions is not None or self.options != Options() or self.trial is not None

    def work(self) -> Request:
        """The work that is asked for, before its first try."""
        return Request(
            container=self.container,
            name=self.name,
            instructions=self.instructions,
            options=self.options,
            trial=self.trial,
            rerun_failed=self.rerun_of is not None,
            rerun_of=self.rerun_of,
        )

    @property
    def work_bytes(self) -> int:
        """Bytes of the work as a message of the app's own, which may be `MOST_BYTES`."""
        return len(self.work().to_message().encode())

    def to_message(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


class PublicRedrive(BaseModel):
    """Run again all that failed with one of these error codes, asked for by another program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    redrive: list[ErrorCode] = Field(min_length=1)

    def work(self) -> Redrive:
        return Redrive(redrive=self.redrive)


def parse_public(text: str, allowed: Allowed) -> list[Request | Redrive]:
    """The work that a message on the request queue asks for, each piece once; none for events of other kinds.

    Raises:
        InvalidRequest: it can't be understood, or is not allowed.
    """
    content = loaded(text)
    if isinstance(content, list) or (isinstance(content, dict) and _is_event(content)):
        return list(_of_events(content))
    if isinstance(content, dict) and "redrive" in content:
        asked = validated(PublicRedrive, _without_state(content))
        if not allowed.redrives:
            raise InvalidRequest("it asks for a redrive, and REQUESTS_MAY_REDRIVE is not set to true")
        return [asked.work()]
    request = validated(PublicRequest, _without_state(content))
    if request.asks and not allowed.questions:
        raise InvalidRequest(
            "it has instructions or options of its own or is a trial's, which REQUESTS_MAY_ASK or INSTRUCTION_SOURCES"
            " does not allow"
        )
    return [_deferrable(request)]


def uploads_in_events(text: str) -> list[Request]:
    """The uploads that an event, or an array of them, tells of, each once; none for events of other kinds.

    Raises:
        InvalidRequest: it is not that.
    """
    content = loaded(text)
    if not isinstance(content, list | dict):
        raise InvalidRequest("the message is not an event")
    return list(_of_events(content))


def _deferrable(request: PublicRequest) -> Request:
    """The work that `request` asks for, which can wait as a message of the app's own, and comes back as it was.

    Else its deliveries would fail wherever it had to wait.
    """
    work = request.work()
    try:
        comes_back = parse_deferred(work.to_message()) == work
    except (PydanticSerializationError, InvalidRequest):
        comes_back = False
    if not comes_back:
        raise InvalidRequest("it holds what JSON can't: half a character, NaN, an infinite number, or endless nesting")
    if request.work_bytes > MOST_BYTES:
        raise InvalidRequest(f"it takes {request.work_bytes:,} bytes, and a request may take {MOST_BYTES:,}")
    return work


def _without_state(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    fields = {name: value for name, value in content.items() if name not in _UNREAD}
    if fields.pop("rerun_failed", False) and fields.get("rerun_of") is None:
        raise InvalidRequest("rerun_failed is not enough: rerun_of has to be the ETag of the failed result to replace")
    return fields


def _is_event(content: Mapping[str, Any]) -> bool:
    return "eventType" in content or "specversion" in content


def _of_events(content: Any) -> Iterator[Request]:
    seen: set[tuple[str, str]] = set()
    for event in content if isinstance(content, list) else [content]:
        upload = _upload(event)
        if upload is not None and (blob := (upload.container, upload.name)) not in seen:
            seen.add(blob)
            yield upload


def _upload(event: Any) -> Request | None:
    if not (isinstance(event, dict) and _is_event(event)):
        raise InvalidRequest("the message is an array of something else than events")
    if event.get("eventType", event.get("type")) != BLOB_CREATED:
        return None
    container, name = _blob_of_subject(event.get("subject"))
    return validated(PublicRequest, {"container": container, "name": name}).work()


def _blob_of_subject(subject: object) -> tuple[str, str]:
    """Container and name in `/blobServices/default/containers/images/blobs/a/b.jpg`.

    The event's url holds them too, but a '#' in a name is not always encoded there.
    """
    _, found, rest = str(subject).partition("/containers/")
    container, between, name = rest.partition("/blobs/")
    if not (found and between and container and name):
        raise InvalidRequest(f"the event's subject names no blob: {short(repr(subject))}")
    return container, name
