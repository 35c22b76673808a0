"""Duck types in the shape of the worker library's protobuf messages.

azure-functions-runtime gets this module as `request.properties["protos"]` and only ever uses the names and fields
below; so no gRPC and no protobuf are needed. Field names are the library's. Types that it never reads are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar


@dataclass(slots=True)
class RpcException:
    message: str = ""
    stack_trace: str = ""
    source: str = ""


@dataclass(slots=True)
class StatusResult:
    Failure: ClassVar[int] = 0
    Success: ClassVar[int] = 1
    status: int
    exception: RpcException | None = None


@dataclass(slots=True)
class WorkerMetadata:
    runtime_name: str
    runtime_version: str
    worker_version: str
    worker_bitness: str
    custom_properties: dict[str, str]


@dataclass(slots=True)
class WorkerInitResponse:
    capabilities: dict[str, str]
    worker_metadata: WorkerMetadata
    result: StatusResult


@dataclass(slots=True)
class BindingInfo:
    undefined: ClassVar[int] = 0
    out: ClassVar[int] = 1
    inout: ClassVar[int] = 2
    type: str
    data_type: int | None
    direction: int


@dataclass(slots=True)
class RpcRetryOptions:
    max_retry_count: int
    retry_strategy: str
    delay_interval: Any = None
    minimum_interval: Any = None
    maximum_interval: Any = None


@dataclass(slots=True)
class RpcFunctionMetadata:
    name: str
    function_id: str
    managed_dependency_enabled: bool
    directory: str
    script_file: str
    entry_point: str
    is_proxy: bool
    language: str
    bindings: dict[str, BindingInfo]
    raw_bindings: list[str]
    """Each binding as JSON text, in the form of function.json."""
    retry_options: RpcRetryOptions | None
    properties: dict[str, str]


@dataclass(slots=True)
class FunctionMetadataResponse:
    use_default_metadata_indexing: bool
    function_metadata_results: list[RpcFunctionMetadata] | None
    result: StatusResult


@dataclass(slots=True)
class FunctionLoadResponse:
    function_id: str
    result: StatusResult


@dataclass(slots=True)
class ModelBindingData:
    """The place of a blob, for the SDK types; `content` is JSON."""

    version: str
    source: str
    content_type: str
    content: bytes


@dataclass(slots=True)
class NullableString:
    value: str


@dataclass(slots=True)
class NullableBool:
    value: bool


@dataclass(slots=True)
class NullableDouble:
    value: float


@dataclass(slots=True)
class Timestamp:
    seconds: int


@dataclass(slots=True)
class NullableTimestamp:
    value: Timestamp


class SameSite:
    Lax = "Lax"
    Strict = "Strict"
    ExplicitNone = "None"


setattr(SameSite, "None", "")  # the protobuf enum has a member of that name, which is a keyword of the language


@dataclass(slots=True)
class RpcHttpCookie:
    SameSite: ClassVar[type[SameSite]] = SameSite
    name: str
    value: str
    domain: NullableString | None = None
    path: NullableString | None = None
    expires: NullableTimestamp | None = None
    secure: NullableBool | None = None
    http_only: NullableBool | None = None
    same_site: str = ""
    max_age: NullableDouble | None = None

    def header(self) -> str:
        """The value of the Set-Cookie header."""
        parts = [f"{self.name}={self.value}"]
        if self.domain and self.domain.value:
            parts.append(f"Domain={self.domain.value}")
        if self.path and self.path.value:
            parts.append(f"Path={self.path.value}")
        if self.expires:
            moment = datetime.fromtimestamp(self.expires.value.seconds, UTC)
            parts.append(f"Expires={moment:%a, %d %b %Y %H:%M:%S} GMT")
        if self.max_age:
            parts.append(f"Max-Age={self.max_age.value:.0f}")
        if self.secure and self.secure.value:
            parts.append("Secure")
        if self.http_only and self.http_only.value:
            parts.append("HttpOnly")
        if self.same_site:
            parts.append(f"SameSite={self.same_site}")
        return "; ".join(parts)


@dataclass(slots=True)
class RpcHttp:
    """A request (method to body) or a response (status_code, headers, body, cookies)."""

    method: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: TypedData = field(default_factory=lambda: TypedData())  # noqa: PLW0108 - it is defined further below
    status_code: str = "200"
    cookies: list[RpcHttpCookie] | None = None
    enable_content_negotiation: bool = False


@dataclass(slots=True)
class TypedData:
    """A protobuf `oneof`: the first field that is set is the value."""

    string: str | None = None
    json: str | None = None
    # These two hide the built-ins of their names, as they do in the protobuf class.
    bytes: bytes | None = None
    http: RpcHttp | None = None
    int: int | None = None
    double: float | None = None
    model_binding_data: ModelBindingData | None = None

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        for name in self.__slots__:
            if getattr(self, name) is not None:
                return name
        return None


@dataclass(slots=True)
class ParameterBinding:
    name: str
    data: TypedData

    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"  # the other choice is shared memory, which this host does not offer


@dataclass(slots=True)
class RpcTraceContext:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RetryContext:
    retry_count: int = 0
    max_retry_count: int = 0
    exception: RpcException = field(default_factory=RpcException)


@dataclass(slots=True)
class InvocationResponse:
    invocation_id: str
    result: StatusResult
    return_value: TypedData | None = None
    output_data: list[ParameterBinding] = field(default_factory=list)


# Requests: what the library reads of them.


@dataclass(slots=True)
class WorkerInitRequest:
    function_app_directory: str
    capabilities: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class FunctionLoadRequest:
    function_id: str


@dataclass(slots=True)
class InvocationRequest:
    invocation_id: str
    function_id: str
    input_data: list[ParameterBinding]
    trigger_metadata: dict[str, TypedData] | None = None
    trace_context: RpcTraceContext = field(default_factory=RpcTraceContext)
    retry_context: RetryContext = field(default_factory=RetryContext)


@dataclass(slots=True)
class StreamingMessage:
    """The envelope's inside: exactly one of these is set."""

    worker_init_request: WorkerInitRequest | None = None
    function_load_request: FunctionLoadRequest | None = None
    invocation_request: InvocationRequest | None = None


@dataclass(slots=True)
class WorkerRequest:
    """The argument of each entry point of the worker library."""

    request: StreamingMessage
    properties: dict[str, Any]
