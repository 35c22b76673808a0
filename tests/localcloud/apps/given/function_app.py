"""A function app that writes down what the host hands to the worker: bytes, types and trigger metadata."""

import json
import os
from pathlib import Path
from typing import Any

import azure.functions as func
from azure.functions.queue import QueueMessageInConverter
from azurefunctions.extensions.base import InConverter, SdkType

app = func.FunctionApp()


def record(kind: str, data: Any, trigger_metadata: Any) -> None:
    content = data.value.content if data.type == "model_binding_data" else data.value
    facts = {
        "name": kind,
        "at": 0,
        "type": data.type,
        "content": repr(content),
        "metadata": {name: [datum.type, datum.value] for name, datum in trigger_metadata.items()},
    }
    path = Path(os.environ["RECORDS"]) / f"given-{kind}"
    path.with_suffix(".part").write_text(json.dumps(facts), encoding="utf-8")
    path.with_suffix(".part").rename(path.with_suffix(".json"))


class Given(SdkType):
    pass


class GivenConverter(InConverter, binding="blob", trigger="blobTrigger"):
    @classmethod
    def check_input_type_annotation(cls, pytype: type) -> bool:
        return issubclass(pytype, Given)

    @classmethod
    def decode(cls, data: Any, *, trigger_metadata: Any, pytype: type) -> Given:  # noqa: ARG003 - the library's form
        record("blob", data, trigger_metadata)
        return Given()


_decode = QueueMessageInConverter.decode


def _recorded(data: Any, *, trigger_metadata: Any) -> Any:
    record("queue", data, trigger_metadata)
    return _decode(data, trigger_metadata=trigger_metadata)


QueueMessageInConverter.decode = _recorded


@app.blob_trigger(
    arg_name="given",
    path="%INPUT_CONTAINER%/{folder}/{name}.{ending}",
    connection="DataStorage",
    source=func.BlobSource.EVENT_GRID,
)
async def on_blob(given: Given) -> None:
    pass


@app.queue_trigger(arg_name="message", queue_name="%ORDERS_QUEUE%", connection="DataStorage")
async def on_message(message: func.QueueMessage) -> None:
    pass
