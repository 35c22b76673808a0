"""One piece of work, and the app's own messages on the deferred queue. Pure.

A JSON object, version 1, that only the app writes; what others may ask for is `pipeline.job.public`:

    {"version": 1, "container": "images", "name": "a/b.jpg",
     "attempt": 2, "since": "2026-03-01T12:00:00Z", "timed_out": 0,     the state of work that was deferred
     "flex": {"since": "2026-03-01T…", "until": "2026-03-01T…"},        and its wait for capacity at flex
     "instructions": "What is this?", "options": {"detail": "high"},    a re-analysis, asked differently
     "trial": "1f6c0ab2",                                               a trial's, whose result lies apart
     "rerun_failed": true,                                              a failed result does not count as done,
     "rerun_of": "0x8DE…"}                                              but only the one with this ETag: so that what
                                                                        is queued twice is run again once

    {"version": 1, "redrive": ["retries_exhausted", "crashed"],         all that failed so, once the cause is fixed
     "token": "…"}                                                      and where to go on
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ErrorCode, Failure
from pipeline.instructions.options import Options
from pipeline.names import is_blob_name

MESSAGE_BYTES = 48 * 1024
"""Bytes that a message can hold: 64 KiB as Base64.
https://learn.microsoft.com/azure/storage/queues/scalability-targets"""


class InvalidRequest(Failure):
    """The message is not what its queue is for; this one's message says what is wrong with it."""


def _blob_name(name: str) -> str:
    if not is_blob_name(name):
        raise ValueError("it is not a blob's name")
    return name


type BlobName = Annotated[str, AfterValidator(_blob_name)]


type TrialId = Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z-]{0,62}$")]
"""The id of a question that is tried: part of the names of its results."""


class FlexWait(BaseModel):
    """A wait for capacity at the tier flex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: AwareDatetime
    """When flex first refused the work."""
    until: AwareDatetime
    """When its patience is over."""


class Request(BaseModel):
    """One piece of work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    container: str = Field(min_length=1)
    name: BlobName
    attempt: int = Field(1, ge=1)
    """Which try this is."""
    since: AwareDatetime | None = None
    """When the first try failed; for work that was queued or deferred and not tried yet, when that was."""
    timed_out: int = Field(0, ge=0)
    """Tries whose call timed out while calls for other images were answered."""
    flex: FlexWait | None = None
    instructions: str | None = None
    options: Options = Options()
    trial: TrialId | None = None
    rerun_failed: bool = False
    rerun_of: str | None = None
    """With `rerun_failed`: the ETag of the failed result that is meant. Another one, written since, counts as done."""

    @property
    def is_of_an_upload(self) -> bool:
        """Whether it is about what was dropped: a trial's leaves no mark, and nobody looks for its lost events."""
        return self.trial is None

    def again(self, *, since: datetime, attempt: int, timed_out: int, flex: FlexWait | None = None) -> Self:
        """The next try of the same work."""
        return self.model_copy(update={"attempt": attempt, "since": since, "timed_out": timed_out, "flex": flex})

    def to_message(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Redrive(BaseModel):
    """Run again all that failed with one of these error codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    redrive: list[ErrorCode] = Field(min_length=1)
    token: str | None = None
    """Where to go on."""

    def to_message(self) -> str:
        return self.model_dump_json(exclude_none=True)


def parse_deferred(text: str) -> Request | Redrive:
    """The work that a message on the deferred queue holds.

    Raises:
        InvalidRequest: the app did not write it.
    """
    content = loaded(text)
    if isinstance(content, dict) and "redrive" in content:
        return validated(Redrive, content)
    return validated(Request, content)


def loaded(text: str) -> Any:
    """The JSON in a message.

    Raises:
        InvalidRequest: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the message is not JSON ({error})") from None


def validated[T: BaseModel](kind: type[T], content: Any) -> T:
    """The message as a `kind`.

    Raises:
        InvalidRequest: it is not one; the message names the first field that is wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # A key may be anything that JSON can escape, even what no result could hold.
        where = ".".join(ascii(part)[1:-1] if isinstance(part, str) else str(part) for part in problem["loc"])
        raise InvalidRequest(f"the message is not a request: {where or 'message'}: {problem['msg']}") from None
