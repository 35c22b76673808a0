"""Tokens that instances spent on a day, which each notes for all others."""

from azure.storage.blob.aio import BlobServiceClient

from pipeline.storage.errors import translated
from pipeline.storage.listing import listed

PREFIX = "spent/"
"""Then the day in UTC, "2026-03-14", and the instance. In the state container."""


class Spending:
    """The notes of all instances: empty blobs with the numbers in their metadata, so that one listing adds them up."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    async def write(self, day: str, instance: str, tokens: int, limit: int) -> None:
        """Note that this `instance` has spent `tokens` on that `day`. One storage request.

        Raises:
            RetryableFailure: it can't be noted now.
        """
        name = f"{PREFIX}{day}/{instance}"
        with translated(f"writing {name}"):
            said = {"tokens": str(tokens), "limit": str(limit)}
            await self._container.upload_blob(name, b"", overwrite=True, metadata=said)

    async def total(self, day: str) -> tuple[int, int | None]:
        """Tokens that all instances together have spent, and the limit they go by; None where there is no note.

        One storage request for 5,000 instances.

        Raises:
            RetryableFailure: the notes can't be read now.
        """
        total, limit = 0, None
        with translated(f"listing {PREFIX}{day}"):
            async for page in listed(self._container, metadata=True, prefix=f"{PREFIX}{day}/"):
                for blob in page.blobs:
                    total += _number(blob.metadata.get("tokens"))
                    limit = max(limit or 0, _number(blob.metadata.get("limit")))
        return total, limit


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else 0
