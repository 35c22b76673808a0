"""Files on disk, in a folder that is gone when the model ends."""

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Self

from localcloud.model.batches import refusals
from localcloud.model.batches.facts import BatchLimits, StoredFile
from localcloud.model.errors import RefusedError


class Files:
    """The files of the resource. Use as a context manager."""

    def __init__(self) -> None:
        self.limits = BatchLimits()
        self._files: dict[str, StoredFile] = {}

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="blobsight-model-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._files.clear()
        self._folder.cleanup()

    def __len__(self) -> int:
        return len(self._files)

    def path(self, identifier: str) -> Path:
        return Path(self._folder.name) / identifier

    async def receive(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Write an upload as it comes; give the id and the size. Raises RefusedError when it is too large.

        The write is not done in a thread: it goes to the system's cache, a chunk at a time.
        """
        identifier, size = f"file-{secrets.token_hex(16)}", 0
        path = self.path(identifier)
        try:
            with path.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    self._require_size(size)
                    file.write(chunk)
        except BaseException:
            path.unlink()
            raise
        return identifier, size

    def _require_size(self, size: int) -> None:
        if size > self.limits.file_bytes:
            raise RefusedError(refusals.file_too_large())

    def discard(self, identifier: str) -> None:
        """Forget what was received and is not to be kept."""
        self.path(identifier).unlink(missing_ok=True)

    def require_place(self, *, expiring: bool) -> None:
        """Raises RefusedError when the resource holds no more files."""
        if len(self._files) >= self.limits.all_files:
            raise RefusedError(refusals.too_many_files(self.limits.all_files, expiring=True))
        lasting = sum(file.expires_at is None for file in self._files.values())
        if not expiring and lasting >= self.limits.files:
            raise RefusedError(refusals.too_many_files(self.limits.files, expiring=False))

    def keep(  # noqa: PLR0913 - the parts of one description
        self, identifier: str, *, name: str, purpose: str, size: int, expires_after: int | None, pending: float = 0.0
    ) -> StoredFile:
        now = time.time()
        file = StoredFile(
            id=identifier,
            name=name,
            purpose=purpose,
            size=size,
            created_at=int(now),
            expires_at=None if expires_after is None else int(now) + expires_after,
            processed_at=now + pending,
        )
        self._files[identifier] = file
        return file

    def get(self, identifier: str) -> StoredFile:
        """Raises RefusedError."""
        file = self._files.get(identifier)
        if file is None:
            raise RefusedError(refusals.file_missing(identifier))
        return file

    def open(self, identifier: str) -> BinaryIO:
        return self.path(self.get(identifier).id).open("rb")

    def delete(self, identifier: str) -> None:
        """Raises RefusedError. Batches that read the file go on."""
        self.get(identifier)
        del self._files[identifier]
        self.discard(identifier)

    def all(self) -> list[StoredFile]:
        """Newest first."""
        return list(reversed(self._files.values()))


class Output:
    """A file that a batch writes line by line, and that the resource has when it is published."""

    def __init__(self, files: Files, batch_id: str, kind: str, expires_after: int | None) -> None:
        self._files = files
        self._name = f"{batch_id}_{kind}.jsonl"
        self._expires_after = expires_after
        self._identifier = f"file-{secrets.token_hex(16)}"
        self._file = files.path(self._identifier).open("wb")
        self._is_published = False

    @property
    def size(self) -> int:
        return self._file.tell()

    def write(self, line: bytes) -> None:
        self._file.write(line)

    def publish(self) -> str:
        """The id of the file."""
        size = self.size
        self._file.close()
        self._is_published = True
        self._files.keep(
            self._identifier, name=self._name, purpose="batch_output", size=size, expires_after=self._expires_after
        )
        return self._identifier

    def close(self) -> None:
        """Leave nothing behind that was not published."""
        self._file.close()
        if not self._is_published:
            self._files.discard(self._identifier)
