"""A stand-in for storage whose listings are ready: the emulator would take minutes to be filled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from localcloud.cloud import DATA_KEY

PAGE = 5000


@asynccontextmanager
async def listings(blobs: int, gate: asyncio.Event | None = None) -> AsyncIterator[str]:
    """Serve the listings of so many images and results, every one with its own, and nothing else.

    Yields the account's connection string. With `gate`, every page waits for it.
    """
    pages = {
        (kind, start): _page(kind, start, blobs) for kind in ("images", "results") for start in range(0, blobs, PAGE)
    }

    async def listed(request: web.Request) -> web.Response:
        if gate is not None:
            await gate.wait()
        page = pages[request.match_info["container"], int(request.query.get("marker") or 0)]
        return web.Response(body=page, content_type="application/xml")

    app = web.Application()
    app.router.add_get("/account/{container}", listed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/account"
    try:
        yield f"AccountName=account;AccountKey={DATA_KEY};BlobEndpoint={url};QueueEndpoint={url};"
    finally:
        await runner.cleanup()


def _page(kind: str, start: int, blobs: int) -> bytes:
    """Build the entry as Azure writes it, with all properties of a block blob."""
    entries = "".join(_entry(kind, number) for number in range(start, min(start + PAGE, blobs)))
    following = start + PAGE if start + PAGE < blobs else ""
    return (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{kind}"><Blobs>{entries}</Blobs>'
        f"<NextMarker>{following}</NextMarker></EnumerationResults>"
    ).encode()


def _entry(kind: str, number: int) -> str:
    name, etag = f"2026/03/14/camera-{number:09}.jpg", f"0x{number:015X}"
    metadata = ""
    if kind == "results":
        name += ".json"
        metadata = (
            f"<Metadata><status>succeeded</status><sourceetag>{etag}</sourceetag><workkey>{number:064x}</workkey>"
            "<sourcemodified>2026-03-14T09:26:53+00:00</sourcemodified><origin>metadata</origin></Metadata>"
        )
    return (
        f"<Blob><Name>{name}</Name><Properties><Creation-Time>Sat, 14 Mar 2026 09:26:53 GMT</Creation-Time>"
        f"<Last-Modified>Sat, 14 Mar 2026 09:26:53 GMT</Last-Modified><Etag>{etag}</Etag><Content-Length>143238"
        "</Content-Length><Content-Type>image/jpeg</Content-Type><Content-Encoding /><Content-Language />"
        "<Content-CRC64 /><Content-MD5>1B2M2Y8AsgTpgAmY7PhCfg==</Content-MD5><Cache-Control />"
        "<Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true"
        "</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        f"<ServerEncrypted>true</ServerEncrypted></Properties>{metadata}<OrMetadata /></Blob>"
    )
