"""A storage account and a model that answer as quickly as they can, over TLS, in a process of their own.

    python -m bench.stand_in '{"certificate": …, "key": …, "image": PATH}'

prints its port and serves until its stdin ends. It does so little that a measurement against it is of the caller.

Blob Storage, as much of its REST API as an upload's way through the pipeline needs: every blob of the container
`images` exists and is the one image; blobs in other containers can be put (on condition that they are not there),
read and deleted, and their content is not kept. The model answers every question alike. `GET /counts` returns the
number of requests so far.
"""

import asyncio
import json
import ssl
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.measure import ROOT
from localcloud.certificates import Certificates
from localcloud.identity import IdentityEndpoint

ACCOUNT = "standin"
WRITTEN = "Tue, 24 Nov 2026 09:00:00 GMT"

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "stand-in",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "A picture of a bench. " * 20, "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 1100, "completion_tokens": 120, "total_tokens": 1220},
    }
).encode()


class _StandIn:
    def __init__(self, image: bytes) -> None:
        self._image = image
        self._blobs: dict[str, dict[str, str]] = {}
        self._written = 0
        self.counts: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path == "/counts":
            return web.json_response(self.counts)
        if path == "/openai/v1/chat/completions":
            self.counts["POST model"] += 1
            async for _ in request.content.iter_any():
                pass
            headers = {"x-request-id": "stand-in", "Content-Type": "application/json"}
            return web.Response(body=ANSWER, headers=headers)
        _, _, container, _ = path.split("/", 3)
        self.counts[f"{request.method} {container}"] += 1
        if container == "images":
            return self._uploaded(request, path)
        return await self._kept(request, path)

    def _uploaded(self, request: web.BaseRequest, path: str) -> web.Response:
        size = len(self._image)
        headers = {
            "Content-Type": "image/jpeg",
            "ETag": f'"0x{zlib.crc32(path.encode()):X}"',
            "Last-Modified": WRITTEN,
            "x-ms-blob-type": "BlockBlob",
            "x-ms-meta-instructions": "What is in this picture?",
        }
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(size)})
        first, _, last = request.headers["x-ms-range"].removeprefix("bytes=").partition("-")
        part = self._image[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{size}"
        return web.Response(status=206, body=part, headers=headers)

    async def _kept(self, request: web.BaseRequest, path: str) -> web.Response:
        if request.method == "PUT":
            await request.read()
            if path in self._blobs:
                return web.Response(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
            self._written += 1
            etag = f'"0x{self._written:X}"'
            metadata = {name: value for name, value in request.headers.items() if name.lower().startswith("x-ms-meta-")}
            self._blobs[path] = metadata | {"ETag": etag}
            return web.Response(status=201, headers={"ETag": etag, "Last-Modified": WRITTEN})
        found = self._blobs.get(path)
        if found is None:
            # Without a length the client would take the answer to a HEAD to end with the connection.
            return web.Response(status=404, headers={"x-ms-error-code": "BlobNotFound", "Content-Length": "0"})
        if request.method == "DELETE":
            del self._blobs[path]
            return web.Response(status=202)
        return web.Response(headers=found | {"Last-Modified": WRITTEN, "x-ms-blob-type": "BlockBlob"})


async def _serve(task: Mapping[str, str], image: bytes) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(task["certificate"], task["key"])
    runner = web.ServerRunner(web.Server(_StandIn(image).handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=1024)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Services:
    """Storage, model and identity, running."""

    settings: Mapping[str, str]
    """The function app's settings to reach them."""
    model_url: str
    certificates: Certificates

    async def counts(self) -> Counter[str]:
        """Return the number of requests to the stand-in, by `METHOD container`."""
        tls = self.certificates.client_context()
        async with aiohttp.ClientSession() as session, session.get(f"{self.model_url}/counts", ssl=tls) as response:
            return Counter(await response.json())


@asynccontextmanager
async def stand_in(directory: Path, image: bytes) -> AsyncIterator[Services]:
    """Run the stand-in as a child process, and an identity endpoint."""
    certificates = Certificates.load_or_create(directory / "certificates")
    await asyncio.to_thread((directory / "image").write_bytes, image)
    task = {
        "certificate": str(certificates.certificate),
        "key": str(certificates.key),
        "image": str(directory / "image"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.stand_in", json.dumps(task)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101 - likewise
    try:
        port = int(await process.stdout.readline())
        url = f"https://127.0.0.1:{port}"
        async with IdentityEndpoint() as identity:
            yield Services(_settings(url, identity, certificates), url, certificates)
    finally:
        process.stdin.close()
        await process.wait()


def _settings(url: str, identity: IdentityEndpoint, certificates: Certificates) -> dict[str, str]:
    return {
        "INPUT_CONTAINER": "images",
        "REQUESTS_QUEUE": "analysis-requests",
        "DEFERRED_QUEUE": "deferred-work",
        "DataStorage__blobServiceUri": f"{url}/{ACCOUNT}",
        "DataStorage__queueServiceUri": f"{url}/{ACCOUNT}",
        "DataStorage__credential": "managedidentity",
        "DataStorage__clientId": identity.client_id,
        "AZURE_CLIENT_ID": identity.client_id,
        "AZURE_OPENAI_ENDPOINT": url,
        "AZURE_OPENAI_DEPLOYMENT": "vision",
        "REQUESTS_CA_BUNDLE": str(certificates.bundle),
        "SSL_CERT_FILE": str(certificates.bundle),
        **identity.environment(),
    }


if __name__ == "__main__":
    _task: dict[str, str] = json.loads(sys.argv[1])
    asyncio.run(_serve(_task, Path(_task["image"]).read_bytes()))
