"""Messages on the request queue: deferred work, re-analyses, redrives, and Event Grid's own events. Pure.

Our own message is a JSON object, version 1:

    {"version": 1, "container": "images", "name": "a/b.jpg",
     "attempt": 2, "since": "2026-03-01T12:00:00Z", "timed_out": 0,     work that was deferred
     "instructions": "What is this?", "options": {"detail": "high"},    a re-analysis, asked differently
     "rerun_failed": true,                                              a failed result does not count as done,
     "rerun_of": "0x8DE…"}                                              but only the one with this ETag: so that what
                                                                        is queued twice is run again once

    {"version": 1, "redrive": ["retries_exhausted", "crashed"]}         all that failed so, once the cause is fixed

Everything but `version`, `container` and `name` may be left out. An Event Grid event (`BlobCreated`, the Event Grid or
the CloudEvents schema, one or an array) asks for the analysis of its blob, so a subscription can deliver straight to
the queue and needs no webhook key.
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ErrorCode, Failure
from pipeline.instructions.options import Options
from pipeline.names import is_blob_name

BLOB_CREATED = "Microsoft.Storage.BlobCreated"


class InvalidRequest(Failure):
    """The message is none of the above; the message says what is wrong with it."""


def _blob_name(name: str) -> str:
    if not is_blob_name(name):
        raise ValueError("it is not a blob's name")
    return name


class Request(BaseModel):
    """One piece of work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    container: str = Field(min_length=1)
    name: Annotated[str, AfterValidator(_blob_name)]
    attempt: int = Field(1, ge=1)
    """Which try this is."""
    since: AwareDatetime | None = None
    """When the first try failed; for work that was queued or deferred and not tried yet, when that was."""
    timed_out: int = Field(0, ge=0)
    """Tries whose call timed out while calls for other images were answered."""
    instructions: str | None = None
    options: Options = Options()
    rerun_failed: bool = False
    rerun_of: str | None = None
    """With `rerun_failed`: the ETag of the failed result that is meant. Another one, written since, counts as done."""

    def again(self, *, since: datetime, attempt: int, timed_out: int) -> Self:
        """The next try of the same work."""
        return self.model_copy(update={"attempt": attempt, "since": since, "timed_out": timed_out})

    def to_message(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Redrive(BaseModel):
    """Run again all that failed with one of these error codes: what an operator sends once the cause is fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    redrive: list[ErrorCode] = Field(min_length=1)
    token: str | None = None
    """Where to go on, in a message that we sent ourselves."""

    def to_message(self) -> str:
        return self.model_dump_json(exclude_none=True)


def parse_message(text: str) -> list[Request | Redrive]:
    """The work that a queue message asks for; none for an event of another kind.

    Raises:
        InvalidRequest: it can't be understood.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the message is not JSON ({error})") from None
    if isinstance(content, list):
        return [request for event in content for request in _of_event(event)]
    if isinstance(content, dict) and ("eventType" in content or "specversion" in content):
        return _of_event(content)
    if isinstance(content, dict) and "redrive" in content:
        return [_validated(Redrive, content)]
    return [_validated(Request, content)]


def _validated[T: BaseModel](kind: type[T], content: Any) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # A key may be anything that JSON can escape, even what no result could hold.
        where = ".".join(ascii(part)[1:-1] if isinstance(part, str) else str(part) for part in problem["loc"])
        raise InvalidRequest(f"the message is not a request: {where or 'message'}: {problem['msg']}") from None


def _of_event(event: Any) -> list[Request | Redrive]:
    if not isinstance(event, dict):
        raise InvalidRequest("the message is an array of something else than events")
    if event.get("eventType", event.get("type")) != BLOB_CREATED:
        return []
    container, name = _blob_of_subject(event.get("subject"))
    return [_validated(Request, {"container": container, "name": name})]


def _blob_of_subject(subject: object) -> tuple[str, str]:
    """Container and name in `/blobServices/default/containers/images/blobs/a/b.jpg`.

    The event's url holds them too, but a '#' in a name is not always encoded there.
    """
    _, found, rest = str(subject).partition("/containers/")
    container, between, name = rest.partition("/blobs/")
    if not (found and between and container and name):
        raise InvalidRequest(f"the event's subject names no blob: {subject!r}")
    return container, name
