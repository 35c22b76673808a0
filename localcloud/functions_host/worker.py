"""The worker process: drives the Python worker library that production uses, for one function app.

Started by the host as `python -m localcloud.functions_host.worker --app DIR --channel FD`. It talks to the host over a
socket of its own, so that nothing the app prints can disturb the protocol; stdin is a lifeline that ends with the host.

It runs uvloop, as the platform's worker does, and like that one it is killed at its end: nothing is cancelled, no
`atexit` runs, and unwritten data of the app is lost. A function that raises CancelledError gets no response, since the
library catches Exception only: its host waits until functionTimeout. SystemExit ends the worker.

    host -> worker   {"kind": "invoke", "id", "function_id", "parameter", "type", "value", "metadata", "traceparent"}
                     + body
    worker -> host   once: {"kind": "indexed", "functions": [...]} or {"kind": "failed", "message", "stack_trace"}
                     {"kind": "result", "id", "message": null | str, "stack_trace", "return": null | {...}} + body
"""

import argparse
import asyncio
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import azure_functions_runtime as runtime
import uvloop

from localcloud.functions_host import frames, messages

_HOST = "127.0.0.1"


async def index(app: Path) -> list[messages.RpcFunctionMetadata]:
    """Imports the app and lists its functions, by the three requests that the platform sends at start.

    On the platform, an app that can't be imported still starts: asked for its functions, the library answers with
    success and none, and the host runs nothing. Here both cases end the start with an error that says what is wrong.

    Raises:
        IndexingError: the app could not be imported, or has a faulty or no function.
    """
    response = await runtime.worker_init_request(
        _request(messages.StreamingMessage(worker_init_request=messages.WorkerInitRequest(str(app))))
    )
    _check(response.result)
    response = await runtime.functions_metadata_request(_request(messages.StreamingMessage()))
    _check(response.result)
    functions: list[messages.RpcFunctionMetadata] = response.function_metadata_results or []
    if not functions:
        script = app / os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
        reason = "defines no functions" if script.exists() else "does not exist"
        raise IndexingError(messages.RpcException(f"no functions found: {script} {reason}"))
    for function in functions:
        load = messages.StreamingMessage(function_load_request=messages.FunctionLoadRequest(function.function_id))
        _check((await runtime.function_load_request(_request(load))).result)
    return functions


class IndexingError(Exception):
    def __init__(self, exception: messages.RpcException) -> None:
        super().__init__(exception.message)
        self.exception = exception


def _check(result: messages.StatusResult) -> None:
    if result.status != messages.StatusResult.Success:
        raise IndexingError(result.exception or messages.RpcException("the worker library gave no reason"))


def _request(message: messages.StreamingMessage) -> messages.WorkerRequest:
    return messages.WorkerRequest(message, {"protos": messages, "host": _HOST})


def _typed_data(type_: str, value: Any, body: bytes) -> messages.TypedData:
    match type_:
        case "bytes":
            return messages.TypedData(bytes=body)
        case "http":
            # An empty TypedData is an absent body; None would break the library.
            content = messages.TypedData(bytes=body) if body else messages.TypedData()
            return messages.TypedData(http=messages.RpcHttp(**value, body=content))
        case "model_binding_data":
            return messages.TypedData(model_binding_data=messages.ModelBindingData(**value, content=body))
        case "string":
            return messages.TypedData(string=value)
        case "json":
            return messages.TypedData(json=value)
        case _:
            raise ValueError(f"unknown type of input: {type_}")


def _returned(value: messages.TypedData | None) -> tuple[dict[str, Any] | None, bytes]:
    """Convert a function's return value to (JSON, body). Only HTTP functions return something here."""
    if value is None:
        return None, b""
    if value.http is not None:
        http = value.http
        cookies = [cookie.header() for cookie in http.cookies or ()]
        body = http.body.bytes if http.body.bytes is not None else (http.body.string or "").encode()
        return {"status": int(http.status_code), "headers": http.headers, "cookies": cookies}, body
    # The platform's answer to a bare str, bytes or JSON.
    if value.bytes is not None:
        return {"status": 200, "headers": {"content-type": "application/octet-stream"}, "cookies": []}, value.bytes
    if value.json is not None:
        return {"status": 200, "headers": {"content-type": "application/json"}, "cookies": []}, value.json.encode()
    text = value.string or ""
    return {"status": 200, "headers": {"content-type": "text/plain; charset=utf-8"}, "cookies": []}, text.encode()


async def _invoke(head: dict[str, Any], body: bytes, writer: asyncio.StreamWriter) -> None:
    parameter = messages.ParameterBinding(head["parameter"], _typed_data(head["type"], head["value"], body))
    metadata = {name: messages.TypedData(**value) for name, value in head["metadata"].items()}
    trace = messages.RpcTraceContext(trace_parent=head["traceparent"])
    invocation = messages.InvocationRequest(head["id"], head["function_id"], [parameter], metadata, trace)
    response: messages.InvocationResponse = await runtime.invocation_request(
        _request(messages.StreamingMessage(invocation_request=invocation))
    )
    returned, content = None, b""
    exception = response.result.exception
    if response.result.status == messages.StatusResult.Success:
        returned, content = _returned(response.return_value)
    elif exception is None:
        exception = messages.RpcException("the function failed without a reason")
    result = {
        "kind": "result",
        "id": response.invocation_id,
        "message": exception.message if exception else None,
        "stack_trace": exception.stack_trace if exception else "",
        "return": returned,
    }
    writer.write(frames.encode(result, content))
    await writer.drain()


async def serve(app: Path, channel: socket.socket) -> None:
    """Index the app and run its functions until the host is gone."""
    reader, writer = await asyncio.open_connection(sock=channel)
    runtime.start_threadpool_executor()
    try:
        functions = await index(app)
    except IndexingError as error:
        failure = {"kind": "failed", "message": error.exception.message, "stack_trace": error.exception.stack_trace}
        writer.write(frames.encode(failure))
        await writer.drain()
        return
    facts = [
        {
            "name": function.name,
            "id": function.function_id,
            "bindings": function.raw_bindings,
            "retry": function.retry_options is not None,
        }
        for function in functions
    ]
    writer.write(frames.encode({"kind": "indexed", "functions": facts}))
    await writer.drain()

    running: set[asyncio.Task[None]] = set()
    while (frame := await frames.read(reader)) is not None:
        task = asyncio.create_task(_invoke(*frame, writer))
        running.add(task)
        task.add_done_callback(running.discard)
    os._exit(1)  # the host is gone


def _die_with_the_host() -> None:
    """End this process when stdin ends, also while the app's code is busy: only the host holds this pipe."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--app", type=Path, required=True)
    parser.add_argument("--channel", type=int, required=True, help="file descriptor of the socket to the host")
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args()

    threading.Thread(target=_die_with_the_host, name="lifeline", daemon=True).start()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(logging.Formatter(f"%(asctime)s worker {os.getpid()} %(levelname)s %(name)s: %(message)s"))
    if not arguments.debug:
        log.addFilter(_is_the_apps)
    # The platform's worker logs the same; reducing it is up to the app.
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.INFO, handlers=[log])

    if "IDENTITY_HEADER" in os.environ:  # names this process to localcloud.identity
        os.environ["IDENTITY_HEADER"] += f".{os.getpid()}"
    channel = socket.socket(fileno=arguments.channel)
    channel.set_inheritable(False)  # a process that the app starts must not keep it open
    app: Path = arguments.app
    # `-m` put the directory of this package's root first, so that this module was found; the app expects its
    # own there.
    sys.path[0] = str(app)
    os.chdir(app)
    asyncio.run(serve(app, channel), loop_factory=uvloop.new_event_loop)


def _is_the_apps(record: logging.LogRecord) -> bool:
    """Whether it is not the worker library's own line, one for each invocation. The platform hides those, too."""
    return not record.name.startswith("azure.functions")


if __name__ == "__main__":
    main()
