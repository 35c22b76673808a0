"""The multipart body of an upload: its file goes to disk as it comes, its fields are checked."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, web

from localcloud.model.batches import refusals
from localcloud.model.batches.facts import StoredFile
from localcloud.model.batches.files import Files
from localcloud.model.batches.requests import expiry
from localcloud.model.errors import RefusedError

CHUNK_BYTES = 256 * 1024


async def receive(request: web.Request, files: Files, *, pending: float) -> StoredFile:
    """Store an upload. pending: seconds until it can be used. Raises RefusedError, and leaves nothing then."""
    upload = _Upload()
    try:
        await upload.read(request, files)
        seconds = upload.expires_after()
        files.require_place(expiring=seconds is not None)
        return files.keep(
            upload.identifier,
            name=upload.name,
            purpose="batch",
            size=upload.size,
            expires_after=seconds,
            pending=pending,
        )
    except BaseException:
        if upload.identifier:
            files.discard(upload.identifier)
        raise


@dataclass(slots=True)
class _Upload:
    identifier: str = ""
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)

    async def read(self, request: web.Request, files: Files) -> None:
        if request.content_type != "multipart/form-data":
            raise RefusedError(refusals.no_file())
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name != "file":
                self.fields[part.name or ""] = await part.text()
            elif not part.headers.get("Content-Type"):
                raise RefusedError(refusals.no_content_type())
            else:
                self.name = part.filename or ""
                self.identifier, self.size = await files.receive(_chunks(part))

    def expires_after(self) -> int | None:
        """Seconds that the file is kept. Raises RefusedError, where anything in the upload is wrong."""
        if not self.identifier:
            raise RefusedError(refusals.no_file())
        purpose = self.fields.get("purpose", "")
        if purpose != "batch":
            raise RefusedError(refusals.wrong_purpose(purpose))
        return expiry(*(_nested(self.fields, "expires_after", key) for key in ("anchor", "seconds")))


def _nested(fields: Mapping[str, str], name: str, key: str) -> str | None:
    """A field inside another, as the SDK writes it, or as the guide does."""
    return fields.get(f"{name}[{key}]", fields.get(f"{name}.{key}"))


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK_BYTES):
        yield chunk
