"""Containers that hold any number of blobs, as far as listings show: the emulator would take minutes to get them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

PAGE = 5000
START = datetime(2026, 11, 1, tzinfo=UTC)


class Late(web.Response):
    """A response that waits until it may go."""

    def __init__(self, gate: asyncio.Event, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type] # they are a Response's
        self._gate = gate

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        await self._gate.wait()
        return await super().prepare(request)


@dataclass
class Listings:
    """Answers listings of the input container with `count` images, and of the result container with their results."""

    count: int
    name: Callable[[int, int], str] = "folder-{0:02}/IMG_{1:06}.jpg".format
    answered: bool = True
    gate: asyncio.Event | None = None
    """Pages but the first of each container come when it is set."""
    asked: int = 0
    """Listings that were answered."""
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = sorted(self.name(number % 40, number) for number in range(self.count))

    def __call__(self, request: web.BaseRequest) -> web.StreamResponse | None:
        query = parse_qs(urlsplit(request.raw_path).query)
        container = request.path.rpartition("/")[2]
        if query.get("comp") != ["list"] or container not in ("images", "results"):
            return None
        self.asked += 1
        start = int(query.get("marker", ["0"])[0])
        size = int(query.get("maxresults", [str(PAGE)])[0])
        is_result = container == "results"
        names = self.names[start : start + size] if self.answered or not is_result else []
        is_last = not names or start + size >= self.count
        entries = "".join(self._entry(start + at, name, is_result=is_result) for at, name in enumerate(names))
        marker = "" if is_last else str(start + size)
        text = (
            '<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>'
            f"{entries}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        )
        if self.gate and start:
            return Late(self.gate, text=text, content_type="application/xml")
        return web.Response(text=text, content_type="application/xml")

    def _entry(self, number: int, name: str, *, is_result: bool) -> str:
        when = format_datetime(START + timedelta(seconds=number), usegmt=True)
        etag, size = f"0x8D{number + 1:012X}", 100_000
        metadata = ""
        if is_result:
            status = "failed" if number % 50 == 0 else "succeeded"
            code = "<errorcode>corrupt_image</errorcode>" if status == "failed" else ""
            metadata = (
                f"<Metadata><status>{status}</status>{code}<sourceetag>{etag}</sourceetag>"
                f"<inputtokens>{number % 3000}</inputtokens><outputtokens>7</outputtokens></Metadata>"
            )
            etag, name = f"0x8E{number + 1:012X}", f"{name}.json"
        return (
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{when}</Last-Modified><Etag>{etag}</Etag>"
            f"<Content-Length>{size}</Content-Length><BlobType>BlockBlob</BlobType></Properties>{metadata}</Blob>"
        )
