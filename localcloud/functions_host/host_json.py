"""host.json: the parts that this host acts on, with the platform's defaults, checked."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from localcloud.functions_host.errors import HostError

_TIME_SPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2}(?:\.\d+)?)")


def _time_span(value: object) -> object:
    if not isinstance(value, str) or not (match := _TIME_SPAN.fullmatch(value)):
        raise ValueError('must be a time span such as "00:05:00" (hours:minutes:seconds)')
    return timedelta(**{unit: float(number or 0) for unit, number in match.groupdict().items()})


TimeSpan = Annotated[timedelta, BeforeValidator(_time_span)]


class _Section(BaseModel):
    # Unknown keys are errors here, though the platform ignores them: in these sections they can only be
    # slips.
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class Queues(_Section):
    """`extensions.queues`; defaults and limits of the Storage Queues extension 5.x."""

    batch_size: int = Field(default=16, ge=1, le=32)
    new_batch_threshold: int | None = Field(default=None, ge=0)
    max_dequeue_count: int = Field(default=5, ge=1)
    visibility_timeout: TimeSpan = timedelta(0)
    max_polling_interval: TimeSpan = timedelta(minutes=1)
    message_encoding: Literal["base64", "none"] = "base64"

    @property
    def threshold(self) -> int:
        """Fetch again when no more than this many messages are being processed. Default: that of an instance
        with one vCPU.
        """
        return self.batch_size // 2 if self.new_batch_threshold is None else self.new_batch_threshold


class Blobs(_Section):
    """`extensions.blobs`; defaults of the Storage Blobs extension 5.x. The parallelism is shared by all blob
    functions of the app.
    """

    max_degree_of_parallelism: int = Field(default_factory=lambda: 8 * (os.cpu_count() or 1), ge=1)
    poison_blob_threshold: int = Field(default=5, ge=1)


class Http(BaseModel):
    """`extensions.http`; its limits on load are not acted on."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)
    route_prefix: str = "api"


class _Extensions(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    queues: Queues = Queues()
    blobs: Blobs = Field(default_factory=Blobs)
    http: Http = Http()


class HostJson(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)
    version: Literal["2.0"]
    function_timeout: TimeSpan | Literal["-1"] = timedelta(minutes=30)
    """The default is that of Flex Consumption; "-1" is unbounded."""
    extensions: _Extensions = Field(default_factory=_Extensions)

    @property
    def timeout_seconds(self) -> float | None:
        return None if isinstance(self.function_timeout, str) else self.function_timeout.total_seconds()


def load(app: Path) -> HostJson:
    """Reads `app`/host.json.

    Raises:
        HostError: it is missing or wrong; one problem for each wrong key.
    """
    path = app / "host.json"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise HostError(f'{path} is missing; the least that it must hold is {{"version": "2.0"}}') from None
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return HostJson.model_validate_json(text)
    except ValidationError as error:
        raise HostError(
            *(
                f"{path}: {'.'.join(map(str, problem['loc'])) or 'the file'}: "
                f"{problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors()
            )
        ) from error
