"""A function app for the host's own tests: does what a blob's name or a message says, and writes down what it saw.

Each run of a function adds a JSON file to the folder in the setting RECORDS, named <function>-<number>.json.
"""

import asyncio
import atexit
import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import azure.functions as func
from azurefunctions.extensions.bindings.blob import BlobClient

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
print("a line that the app prints")  # noqa: T201 - the host's protocol must not mind


def record(function: str, **facts: Any) -> None:
    path = Path(os.environ["RECORDS"]) / f"{function}-{uuid.uuid4()}"
    path.with_suffix(".part").write_text(json.dumps(facts | {"pid": os.getpid(), "at": time.time()}), encoding="utf-8")
    path.with_suffix(".part").rename(path.with_suffix(".json"))


atexit.register(lambda: record("end", name="atexit"))


async def obey(order: str) -> None:
    """The first word of a blob's name or message."""
    match order.partition("-")[0]:
        case "fail":
            raise RuntimeError(f"told to fail by {order}")
        case "exit":
            os._exit(3)
        case (
            "quit"
        ):  # the first time only: quitting each time uses up the attempts of the messages that run next to it, too
            quits = Path(os.environ["RECORDS"]) / f"{order}.quit"
            if not quits.exists():
                quits.touch()
                sys.exit(4)
        case "sleep":
            await asyncio.sleep(float(order.split("-")[1]))
        case "hang":
            try:
                await asyncio.Event().wait()
            finally:
                record("end", name=order)
        case "block":
            time.sleep(3600)  # noqa: ASYNC251 - the fault that is wanted
        case "cancel":
            raise asyncio.CancelledError
        case _:
            pass


@app.blob_trigger(
    arg_name="client", path="%INPUT_CONTAINER%/{name}", connection="DataStorage", source=func.BlobSource.EVENT_GRID
)
async def on_blob(client: BlobClient, context: func.Context) -> None:
    record(
        "on_blob",
        container=client.container_name,
        name=client.blob_name,
        trace=context.trace_context.trace_parent,
        loop=type(asyncio.get_running_loop()).__module__,
    )
    await obey(client.blob_name)


@app.queue_trigger(arg_name="message", queue_name="%ORDERS_QUEUE%", connection="DataStorage")
async def on_message(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    record(
        "on_message",
        text=text,
        id=message.id,
        dequeue_count=message.dequeue_count,
        pop_receipt=message.pop_receipt,
        times=[
            moment.isoformat() if moment else None
            for moment in (message.insertion_time, message.expiration_time, message.time_next_visible)
        ],
    )
    await obey(text)


@app.queue_trigger(
    arg_name="message", queue_name="%ORDERS_QUEUE%-bytes", connection="DataStorage", data_type=func.DataType.BINARY
)
async def on_bytes(message: func.QueueMessage) -> None:
    record("on_bytes", text=repr(message.get_body()), id=message.id, dequeue_count=message.dequeue_count)


@app.timer_trigger(arg_name="timer", schedule="%TICK%", run_on_startup=True)
def on_timer(timer: func.TimerRequest) -> None:
    record("on_timer", past_due=timer.past_due)


@app.route(route="echo/{who?}", methods=["POST"])
async def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    facts = {
        "method": req.method,
        "url": req.url,
        "who": req.route_params.get("who"),
        "params": dict(req.params),
        "agent": req.headers.get("user-agent"),
        "headers": sorted(dict(req.headers)),
        "trace": context.trace_context.trace_parent,
        "length": len(req.get_body()),
    }
    return func.HttpResponse(json.dumps(facts), status_code=201, mimetype="application/json", headers={"x-probe": "1"})


@app.route(route="shout/{times:int}", auth_level=func.AuthLevel.ANONYMOUS)
def shout(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse(req.get_body().upper() * int(req.route_params["times"]))
    response.headers.add("Set-Cookie", "seen=yes; Path=/; HttpOnly; Max-Age=60; SameSite=Lax")
    return response


@app.route(route="crash", auth_level=func.AuthLevel.ANONYMOUS)
async def crash(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError(f"{req.method} crashes")


@app.route(route="secret", auth_level=func.AuthLevel.ADMIN)
async def secret(req: func.HttpRequest) -> str:
    return f"hello {req.method}"
