"""Listing a container, a page of up to 5,000 blobs for each request."""

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from azure.core.exceptions import DecodeError, ResourceNotFoundError
from azure.core.pipeline.policies import ContentDecodePolicy
from azure.storage.blob.aio import ContainerClient

from pipeline.errors import RetryableFailure
from pipeline.names import is_blob_name, stands_for_folder
from pipeline.storage.errors import translated
from pipeline.storage.facts import ContainerMissing, ListedBlob, OddEntry, Page, TokenRefused

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from azure.core.async_paging import AsyncPageIterator
    from azure.core.pipeline import PipelineResponse

logger = logging.getLogger(__name__)

PAGE_SIZE = 5000
"""The most that Azure lists at a time. https://learn.microsoft.com/rest/api/storageservices/list-blobs"""


class ContainerListing:
    """A container of Azure Blob Storage, as the app lists it. One operation per page."""

    def __init__(self, client: ContainerClient, *, metadata: bool, page_size: int = PAGE_SIZE) -> None:
        self._client = client
        self._metadata = metadata
        self._page_size = page_size

    @property
    def name(self) -> str:
        return str(self._client.container_name)

    async def pages(self) -> AsyncIterator[Page]:
        """All pages, from the first.

        Raises:
            RetryableFailure: the listing can't be gone through now.
        """
        token: str | None = None
        while True:
            try:
                page = await self.page(token)
            except TokenRefused as refusal:
                raise RetryableFailure(f"The listing of {self.name} can't be continued: {refusal}.") from refusal
            yield page
            if page.next_token is None:
                return
            token = page.next_token

    async def page(self, token: str | None) -> Page:
        """The page that `token` leads to, None being the first.

        Raises:
            TokenRefused: start from the beginning.
            RetryableFailure: the same call may succeed later.
        """
        try:
            with translated(f"listing {self.name}"):
                try:
                    page = await list_page(self._client, token, metadata=self._metadata, page_size=self._page_size)
                except ResourceNotFoundError as error:
                    raise ContainerMissing(self.name) from error
        except RetryableFailure as failure:
            # Azure answers 400 to a token that it can't use, and changes in the container may make one so.
            # https://github.com/Azure/azure-sdk-for-net/issues/48166
            if token is not None and failure.status == 400:
                raise TokenRefused(failure.message) from failure
            raise
        if page.odd:
            logger.warning(
                "listing %s: %d entries can't be understood and are left out, the first is %s: %s",
                *(self.name, len(page.odd), ascii(page.odd[0].name[:200]), page.odd[0].why),
            )
        return page


async def listed(
    container: ContainerClient, *, metadata: bool, prefix: str | None = None, page_size: int = PAGE_SIZE
) -> AsyncIterator[Page]:
    """The pages of `container`, of the names that start with `prefix`, one after the other.

    Raises:
        AzureError: as the SDK gives it.
    """
    token: str | None = None
    while True:
        page = await list_page(container, token, metadata=metadata, prefix=prefix, page_size=page_size)
        yield page
        token = page.next_token
        if token is None:
            return


async def list_page(
    container: ContainerClient,
    token: str | None,
    *,
    metadata: bool,
    prefix: str | None = None,
    page_size: int = PAGE_SIZE,
) -> Page:
    """The page of `container` that `token` leads to, None being the first; of the names that start with `prefix`.

    The SDK's `list_blobs` makes objects of everything that Azure lists of a blob: a second per page, in which the
    event loop stands still. Its `list_blob_names` leaves the response as XML, and what we need is in there: a
    tenth of the time. Blobs that only mark folders are not in it: a page that is listed without metadata and holds
    empty blobs costs up to ten requests more.

    Raises:
        AzureError: as the SDK gives it.
    """
    page = await _page(container, token, metadata=metadata, prefix=prefix, page_size=page_size)
    blobs = [blob for blob in page.blobs if not _is_folder(blob)]
    if not metadata and (empty := {blob.name for blob in blobs if blob.size == 0}):
        folders = await _folders_among(empty, container, token, prefix, page_size)
        blobs = [blob for blob in blobs if blob.name not in folders]
    return replace(page, blobs=blobs)


async def _folders_among(
    empty: set[str], container: ContainerClient, token: str | None, prefix: str | None, page_size: int
) -> set[str]:
    """Those of the `empty` blobs of a page that only mark folders, by their metadata.

    Rare: hardly anything else that is uploaded is empty. A tenth of the page for each request, since the metadata of a
    blob may have 8 KiB.
    """
    folders: set[str] = set()
    for _ in range(10):
        page = await _page(container, token, metadata=True, prefix=prefix, page_size=max(page_size // 10, 1))
        empty = empty.difference(blob.name for blob in page.blobs)
        folders.update(blob.name for blob in page.blobs if _is_folder(blob))
        token = page.next_token
        if not empty or token is None:
            break
    return folders


def _is_folder(blob: ListedBlob) -> bool:
    return stands_for_folder(blob.name, blob.size, blob.metadata)


async def _page(
    container: ContainerClient, token: str | None, *, metadata: bool, prefix: str | None, page_size: int
) -> Page:
    """A page, with what only marks folders."""
    responses: deque[PipelineResponse[Any, Any]] = deque(maxlen=1)  # retries come before the one that counts
    listing = container.list_blob_names(
        name_starts_with=prefix or None,
        include=["metadata"] if metadata else None,
        results_per_page=page_size,
        raw_response_hook=responses.append,
    )
    pages = cast("AsyncPageIterator[str]", listing.by_page(token))
    with understood():
        await anext(pages)
        xml = responses[0].context[ContentDecodePolicy.CONTEXT_NAME]
        # Accounts with a hierarchical namespace list folders of their own, too.
        found = xml.find("Blobs").iterfind("Blob")
        entries = [_entry(blob) for blob in found if blob.findtext("Properties/ResourceType") != "directory"]
        xml.clear()  # the SDK's objects refer to each other: until the next collection, megabytes would stay
    blobs = [entry for entry in entries if isinstance(entry, ListedBlob)]
    return Page(blobs, pages.continuation_token, tuple(entry for entry in entries if isinstance(entry, OddEntry)))


@contextmanager
def understood() -> Iterator[None]:
    """Make an AzureError of what the SDK stumbles over in an answer that is not the service's as documented."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(f"the answer is not as Blob Storage gives it ({type(error).__name__})") from error


def _entry(blob: "Element") -> ListedBlob | OddEntry:
    name, properties, metadata = blob.find("Name"), blob.find("Properties"), blob.find("Metadata")
    text = (name.text or "") if name is not None else ""
    if name is not None and name.get("Encoded") == "true":  # names that XML has no characters for
        text = unquote(text)
    if not is_blob_name(text):
        return OddEntry(text, "no blob can have this name")
    etag = properties.findtext("Etag", "").strip('"') if properties is not None else ""
    if properties is None or not etag:
        return OddEntry(text, "the listing does not give its ETag")
    try:
        return ListedBlob(
            name=text,
            etag=etag,
            last_modified=_moment(properties.findtext("Last-Modified", "")),
            metadata={item.tag.lower(): item.text or "" for item in metadata} if metadata is not None else {},
            size=int(properties.findtext("Content-Length") or 0),
            md5=properties.findtext("Content-MD5") or None,
        )
    except ValueError:
        return OddEntry(text, "the listing does not give its size or its last change")


@lru_cache(maxsize=1024)  # blobs next to each other are often of the same second, and this is most of a listing's time
def _moment(text: str) -> datetime:
    """A moment as HTTP writes it.

    Raises:
        ValueError: it is something else.
    """
    moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
