"""Read stored results, written by this or another version of Blobsight, or by another program."""

import json
from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAliasType, Union, cast, get_args, get_origin

from azure.storage.blob.aio import ContainerClient
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model

from blobsight.reading import Content, UnreadableError, read_blob
from blobsight.terminal import shortened
from pipeline.result import SCHEMA_VERSION, Result
from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

MAX_RESULT_BYTES = 16 * 1024 * 1024
"""Bytes, stored and unpacked: several times what the longest answer needs."""


async def read_result(container: ContainerClient, name: str) -> Mapping[str, Any]:
    """Read and parse the result blob `name`; see `parse_result`.

    Raises:
        UnreadableError: it is not a result.
        AzureError: as the SDK gives it.
    """
    return parse_result(await read_stored(container, name))


async def read_stored(container: ContainerClient, name: str) -> Content:
    """Read the result blob `name`, without parsing it.

    Raises:
        UnreadableError: it is too large for a result.
        AzureError: as the SDK gives it.
    """
    return await read_blob(container, name, most=MAX_RESULT_BYTES)


def parse_result(content: Content) -> Mapping[str, Any]:
    """Parse a result. Each field has its type, or is null, or missing if an older version wrote it.

    `status` is always there, and with it `answer.text`, or `error.code` and `error.message`.

    Raises:
        UnreadableError: it is not a result.
    """
    try:
        result = json.loads(_unpacked(content), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else shortened(str(error))
        remark = f", and its Content-Encoding is '{shortened(content.encoding, 40)}'" if content.encoding else ""
        raise UnreadableError(f"it is not valid JSON ({why}){remark}") from error
    match result:
        case {"status": "succeeded", "source": dict(), "answer": {"text": str()}}:
            pass
        case {"status": "failed", "source": dict(), "error": {"code": str(), "message": str()}}:
            pass
        case _:
            raise UnreadableError("it is JSON, but not a Blobsight result")
    if result.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise UnreadableError("it is in a result format that this program does not know: install the newest version")
    try:
        _as_read(Result).model_validate(result)
    except (ValidationError, RecursionError) as error:
        raise UnreadableError(f"it is not a valid Blobsight result: {_first(error)}") from error
    return cast("Mapping[str, Any]", result)


def _unpacked(content: Content) -> bytes:
    if not is_packed(content.data):
        return content.data
    try:
        return unpacked(content.data, MAX_RESULT_BYTES)
    except TooLarge:
        raise UnreadableError(
            f"it is compressed, and larger than the {MAX_RESULT_BYTES:,} bytes that are read"
        ) from None
    except Broken as error:
        raise UnreadableError(f"it is compressed, and can't be unpacked: {error}") from None


def _finite(text: str) -> float:
    """Parse a fraction. One beyond the range of a float would become infinite, which JSON does not have."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{shortened(text, 20)} is not a number in JSON")
    return value


_SHOULD_BE = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "int_type": "a whole number",
    "list_type": "an array",
    "model_type": "an object",
    "string_type": "text",
    "value_error": "a time",
}


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    wrong = error.errors(include_url=False, include_input=False)[0]
    path = shortened(".".join(map(str, wrong["loc"])))
    return f"'{path}' should be {_SHOULD_BE.get(wrong['type'], 'something else')}"


def _moment(text: str) -> str:
    if not MINYEAR < datetime.fromisoformat(text).year < MAXYEAR:  # no time in some time zones
        raise ValueError("not a time")
    return text


@cache
def _as_read(section: type[BaseModel]) -> type[BaseModel]:
    """A model of the section in which fields may be missing and others added."""
    fields: dict[str, Any] = {
        name: (_type_read(field.annotation), None) for name, field in section.model_fields.items()
    }
    return create_model(section.__name__, __config__=ConfigDict(strict=True, extra="ignore"), **fields)


def _type_read(declared: Any) -> Any:
    """The JSON type of one field, or null. An enumeration becomes text: a newer version may have more members."""
    while isinstance(declared, TypeAliasType):
        declared = declared.__value__
    match get_origin(declared), get_args(declared):
        case (origin, (inner, *_)) if origin is Annotated:
            read = _type_read(inner)
        case (origin, members) if origin in (Union, UnionType):
            (inner,) = (member for member in members if member is not NoneType)
            read = _type_read(inner)
        case (origin, (first, *_)) if origin is Literal:
            read = type(first)
        case (origin, (inner,)) if origin is list:
            read = list[_type_read(inner)]  # type: ignore[misc] # known when this runs
        case _:
            read = _single(declared) if isinstance(declared, type) else declared
    return read | None


def _single(declared: type) -> Any:
    if issubclass(declared, BaseModel):
        return _as_read(declared)
    if issubclass(declared, Enum):
        return str
    if issubclass(declared, datetime):
        return Annotated[str, AfterValidator(_moment)]
    return declared
