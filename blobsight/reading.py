"""One result, read and looked at: the container may hold anything."""

import json
from collections.abc import Mapping
from typing import Any, cast

from azure.storage.blob.aio import ContainerClient

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Several times what the longest answer needs."""


class NotAResultError(Exception):
    """The text says what is there instead."""


async def read_result(container: ContainerClient, name: str) -> Mapping[str, Any]:
    """The result blob `name`.

    Raises:
        NotAResultError: it is something else.
        ResourceNotFoundError: there is no such blob.
    """
    stream = await container.download_blob(name)
    if stream.size > MAX_RESULT_BYTES:
        raise NotAResultError(f"it is no result: {stream.size:,} bytes.")
    body = await stream.readall()
    try:
        result = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAResultError(f"it is no valid JSON ({error}).") from error
    match result:
        case {"status": "succeeded", "source": dict(), "answer": {"text": str()}}:
            return cast("Mapping[str, Any]", result)
        case {"status": "failed", "source": dict(), "error": {"code": str(), "message": str()}}:
            return cast("Mapping[str, Any]", result)
        case _:
            raise NotAResultError("it is JSON, but no result of Blobsight's.")
