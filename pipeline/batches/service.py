"""Files and batches of an Azure OpenAI resource, through its v1 endpoint."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx2
from azure.core.exceptions import AzureError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from pipeline.batches.status import BatchStatus, word
from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.model.reasons import Reason, reason_in

logger = logging.getLogger(__name__)

ENDPOINT = "/chat/completions"
"""Of a batch, as Azure's guide creates it; of its lines it is another, see `pipeline.model.request_body.LINE_URL`.
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch"""
KEPT_SECONDS = 14 * 24 * 3600
"""How long the service keeps a file that the app could not delete: the shortest time that it takes. With it, a resource
may have 10,000 input files in place of 500. https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits"""
UPLOAD_SECONDS = 600.0
"""An input file has 200 MB."""
MOST_LINE_BYTES = 16 * 1024 * 1024
"""Of an answer. A million tokens, more than any model writes, take a quarter."""
MOST_LISTED = 20
"""Pages of the list of batches that are searched for one: 2,000 batches, the newest first."""


class Refused(RetryableFailure):
    """The service refuses what it is asked now; `code` is its own word."""

    def __init__(self, message: str, code: str | None, status: int) -> None:
        super().__init__(message, status=status)
        self.code = code


class FileGone(Refused):
    """There is no such file, or no such batch, any more; or no such service."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to upload, made while it is sent."""

    name: str
    size: int
    content: Callable[[], AsyncIterator[bytes]]


class BatchService:
    """The service's files and batches. One per process: it holds the connections.

    Args:
        endpoint: `https://<resource>.openai.azure.com`, with or without `/openai/v1`.
        token: gives a current bearer token; it is called for every request and caches.
        timeout: seconds for any request but an upload.
    """

    def __init__(self, endpoint: str, token: Callable[[], Awaitable[str]], timeout: float) -> None:
        self._timeout = timeout
        self._client = AsyncOpenAI(
            base_url=endpoint.removesuffix("/").removesuffix("/openai/v1") + "/openai/v1/",
            api_key=token,
            timeout=timeout,
            max_retries=0,  # the timer comes again
            http_client=DefaultAioHttpClient(event_hooks={"request": [_name_form]}, follow_redirects=False),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def upload(self, file: InputFile) -> str:
        """Upload an input file; its id. No more than a few megabytes of it are in memory.

        Raises:
            Refused, OperatorFailure, RetryableFailure: it is not there, or may not be.
        """
        form = _Form(file)
        headers = {"Content-Type": _FORM, "Content-Length": str(len(form))}
        document = await self._send(
            self._client.post(
                "/files", cast_to=httpx2.Response, content=form, options={"headers": headers, "timeout": UPLOAD_SECONDS}
            )
        )
        file_id = word(document.get("id"))
        if not file_id:
            raise RetryableFailure("The service took a file, and gave it no id.")
        return file_id

    async def create(self, file_id: str) -> BatchStatus:
        """Create a batch of the file.

        Raises:
            Refused: it is not created.
            OperatorFailure, RetryableFailure: it may have been.
        """
        request = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
        created = self._client.post("/batches", cast_to=httpx2.Response, body=request)
        # The SDK's time-out is for each phase of a request; this one must not outlive `lost_after` (steps.py).
        return _read(await self._send(created, self._timeout))

    async def find(self, file_id: str) -> BatchStatus | None:
        """The batch of the file, if there is one that was not refused.

        Raises:
            Refused, OperatorFailure, RetryableFailure: it can't be looked for now.
        """
        after: str | None = None
        for _ in range(MOST_LISTED):
            params = {"limit": "100", "after": after} if after else {"limit": "100"}
            page = await self._send(self._client.get("/batches", cast_to=httpx2.Response, options={"params": params}))
            listed = page.get("data")
            batches = (
                [status for each in listed if (status := BatchStatus.read(each))] if isinstance(listed, list) else []
            )
            for status in batches:
                if status.input_file_id == file_id and not status.may_be_taken_later:
                    return status
            if not page.get("has_more") or not batches:
                break
            after = batches[-1].id
        return None

    async def look(self, batch_id: str) -> BatchStatus | None:
        """The batch as it is now; None where it is gone.

        Raises:
            Refused, OperatorFailure, RetryableFailure: it can't be asked for now.
        """
        try:
            return _read(await self._send(self._client.get(f"/batches/{batch_id}", cast_to=httpx2.Response)))
        except FileGone:
            return None

    async def cancel(self, batch_id: str) -> None:
        """Have the batch cancelled, which takes up to ten minutes. What is answered by then is kept, and paid.

        Raises:
            OperatorFailure, RetryableFailure: it can't be cancelled now.
        """
        try:
            await self._send(self._client.post(f"/batches/{batch_id}/cancel", cast_to=httpx2.Response))
        except Refused as refusal:  # it has ended
            logger.info("A batch is not cancelled: %s", refusal)

    async def lines(self, file_id: str) -> AsyncIterator[bytes]:
        """The lines of an output or error file, as they come; but for those that are too long to be an answer.

        Raises:
            FileGone: there is no such file.
            Refused, OperatorFailure, RetryableFailure: it can't be read now.
        """
        rest, is_too_long = b"", False
        async with self._failures(), self._client.files.with_streaming_response.content(file_id) as response:
            if "html" in response.headers.get("Content-Type", "").lower():
                raise RetryableFailure("A web page came instead of a batch's file of answers: a proxy is in the way.")
            async for chunk in response.iter_bytes(64 * 1024):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line.strip() and not is_too_long:
                        yield line
                    is_too_long = False
                if len(rest) > MOST_LINE_BYTES:
                    rest, is_too_long = b"", True
                    logger.warning("A line of the file %s is too long to be an answer.", file_id)
        if rest.strip() and not is_too_long:
            yield rest

    async def delete_file(self, file_id: str) -> None:
        """Delete the file, if it is there.

        Raises:
            Refused, OperatorFailure, RetryableFailure: it can't be deleted now.
        """
        try:
            await self._send(self._client.delete(f"/files/{file_id}", cast_to=httpx2.Response))
        except FileGone:
            return

    async def _send(self, call: Awaitable[httpx2.Response], limit: float | None = None) -> dict[str, Any]:
        async with self._failures(), asyncio.timeout(limit):
            response = await call
        try:
            document = response.json()
        except ValueError:
            raise RetryableFailure("The model service's answer about a batch is not JSON.") from None
        return document if isinstance(document, dict) else {}

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        try:
            yield
        except APIStatusError as error:
            status = error.status_code
            await error.response.aread()
            raise _failure(reason_in(status, error.response.headers, error.response.content, None)) from None
        except (APIConnectionError, aiohttp.ClientError, httpx2.HTTPError, TimeoutError) as error:
            raise RetryableFailure(f"The connection to the model service failed ({type(error).__name__}).") from error
        except AzureError as error:
            raise RetryableFailure(f"The identity endpoint did not answer ({type(error).__name__}).") from error


def _failure(reason: Reason) -> Exception:
    status = reason.status
    if status == 404 and "deploymentnotfound" not in reason.codes:
        return FileGone(f"The service does not find what it is asked for. {reason.words}", reason.code, status)
    if status in (401, 403):
        return OperatorFailure(
            "The app's identity may not use batches: give it the role 'Blobsight batches', or"
            f" 'Cognitive Services OpenAI Contributor', on the Azure OpenAI resource. {reason.words}",
            status=status,
        )
    if 400 <= status < 500 and status not in (408, 429):
        return Refused(f"The service refuses what a batch needs. {reason.words}", reason.code, status)
    return RetryableFailure(f"The model service can't be asked about batches now. {reason.words}", status=status)


def _read(document: dict[str, Any]) -> BatchStatus:
    status = BatchStatus.read(document)
    if status is None:
        raise RetryableFailure("The service described a batch without an id.")
    return status


_BOUNDARY = "blobsight-input-file"
"""No line of JSON is like it."""
_FORM = "application/x-form"
"""Stands for a form that is made while it is sent: of a multipart form the SDK takes files alone, and whole."""


async def _name_form(request: httpx2.Request) -> None:
    if request.headers.get("Content-Type") == _FORM:
        request.headers["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"


class _Form:
    """The multipart form of an upload, as slices of bytes."""

    def __init__(self, file: InputFile) -> None:
        fields = {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": str(KEPT_SECONDS),
        }
        plain = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        self._head = (
            f'{plain}--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename={json.dumps(file.name)}\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        self._end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        self._file = file

    def __len__(self) -> int:
        return len(self._head) + self._file.size + len(self._end)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        async for chunk in self._file.content():
            yield chunk
        yield self._end
