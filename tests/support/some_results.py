"""Results as the pipeline writes them, for tests that need many of them and no pipeline."""

from datetime import UTC, datetime
from typing import Any

from azure.storage.blob.aio import ContainerClient

from pipeline.names import result_name
from pipeline.result import Result

MOMENT = datetime(2026, 3, 14, 9, 30, 15, 250_000, tzinfo=UTC)


def result_of(name: str | None, **changes: Any) -> Result:
    """A succeeded result of the image `name`; `changes` by field, for a section only what differs in it."""
    document: dict[str, Any] = {
        "status": "succeeded",
        "created_at": MOMENT,
        "pipeline_version": "0.1.0",
        "work_key": "key",
        "attempts": 1,
        "source": {
            "container": "images",
            "name": name,
            "url": f"https://account.blob.core.windows.net/images/{name}",
            "etag": "0x1",
            "last_modified": MOMENT,
            "size_bytes": 1234,
            "content_type": "image/png",
            "format": "png",
            "width": 1024,
            "height": 1024,
        },
        "instructions": {"text": "Describe this image.", "origin": "builtin", "origin_name": None, "sha256": "0"},
        "image_sent": {
            "format": "png",
            "width": 1024,
            "height": 1024,
            "size_bytes": 1234,
            "transformed": False,
            "detail": "high",
        },
        "answer": {"text": "An image.", "data": None, "finish_reason": "stop", "truncated": False},
        "model": {"deployment": "vision", "model": "gpt-5.1-2025-11-13", "request_id": "id"},
        "usage": {"input_tokens": 700, "output_tokens": 50, "reasoning_tokens": 0, "cached_tokens": 0},
        "timings_ms": {"download": 1, "prepare": 2, "model": 3, "total": 6},
        "error": None,
    }
    for field, change in changes.items():
        document[field] = document[field] | change if isinstance(document[field], dict) and change else change
    return Result.model_validate(document)


def failed(name: str | None, code: str = "corrupt_image") -> Result:
    error = {"code": code, "message": "It is damaged.", "details": {"format": "png"}}
    unused = dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"))
    return result_of(name, status="failed", answer=None, usage=unused, error=error)


async def put_result(container: ContainerClient, name: str, result: Result, **metadata: str) -> None:
    """As the result of the image `name`."""
    stored = {"status": result.status} | metadata
    await container.upload_blob(result_name(name), result.to_json(), metadata=stored, overwrite=True)
