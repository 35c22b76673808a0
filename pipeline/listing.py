"""Listing a container, a page of up to 5,000 blobs for each request."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.policies import ContentDecodePolicy
from azure.storage.blob.aio import ContainerClient

from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.storage_errors import translated

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from azure.core.async_paging import AsyncPageIterator
    from azure.core.pipeline import PipelineResponse

PAGE_SIZE = 5000
"""The most that Azure lists at a time. https://learn.microsoft.com/rest/api/storageservices/list-blobs"""


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """What a listing tells of a blob. `metadata` is empty when it was not asked for; its keys are lower-case."""

    name: str
    etag: str
    last_modified: datetime
    metadata: Mapping[str, str]
    size: int = 0
    """Bytes."""
    md5: str | None = None
    """Of the content, in Base64. The service works it out for what is uploaded in one piece; otherwise the uploader may
    have said it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, possibly empty; `next_token` is None at the end."""

    blobs: Sequence[ListedBlob]
    next_token: str | None


class TokenRefused(Exception):
    """The service does not continue a listing from this token any more."""


class ContainerListing:
    """A container of Azure Blob Storage, as the app lists it. One operation per page."""

    def __init__(self, client: ContainerClient, *, metadata: bool, page_size: int = PAGE_SIZE) -> None:
        self._client = client
        self._metadata = metadata
        self._page_size = page_size

    @property
    def name(self) -> str:
        return str(self._client.container_name)

    async def page(self, token: str | None) -> Page:
        """The page that `token` leads to, None being the first.

        Raises:
            TokenRefused: start from the beginning.
            RetryableFailure: the same call may succeed later.
        """
        try:
            with translated(f"listing {self.name}", "Storage Blob Data Owner"):
                try:
                    return await list_page(self._client, token, metadata=self._metadata, page_size=self._page_size)
                except ResourceNotFoundError as error:
                    raise OperatorFailure(
                        f"The container '{self.name}' does not exist: create it, or name one that does in the app's"
                        " settings."
                    ) from error
        except RetryableFailure as failure:
            # Azure answers 400 to a token that it can't use, and changes in the container may make one so.
            # https://github.com/Azure/azure-sdk-for-net/issues/48166
            if token is not None and failure.status == 400:
                raise TokenRefused(failure.message) from failure
            raise


async def list_page(
    container: ContainerClient,
    token: str | None,
    *,
    metadata: bool,
    prefix: str | None = None,
    page_size: int = PAGE_SIZE,
) -> Page:
    """The page of `container` that `token` leads to, None being the first; of the names that start with `prefix`.

    The SDK's `list_blobs` makes objects of everything that Azure tells of a blob: a second per page, in which the
    event loop stands still. Its `list_blob_names` leaves the response as XML, and what we need is in there: a
    tenth of the time.

    Raises:
        AzureError: as the SDK gives it.
    """
    responses: deque[PipelineResponse[Any, Any]] = deque(maxlen=1)  # retries come before the one that counts
    listing = container.list_blob_names(
        name_starts_with=prefix or None,
        include=["metadata"] if metadata else None,
        results_per_page=page_size,
        raw_response_hook=responses.append,
    )
    pages = cast("AsyncPageIterator[str]", listing.by_page(token))
    await anext(pages)
    xml = responses[0].context[ContentDecodePolicy.CONTEXT_NAME]
    return Page(
        [_listed(blob) for blob in xml.iterfind("Blobs/Blob") if not _is_folder(blob)], pages.continuation_token
    )


def _is_folder(blob: "Element") -> bool:
    """Accounts with a hierarchical namespace list what stands for a folder, too."""
    listed_as = blob.findtext("Properties/ResourceType")
    return listed_as == "directory" or blob.findtext("Metadata/hdi_isfolder") == "true"


def _listed(blob: "Element") -> ListedBlob:
    name = blob.find("Name")
    properties = blob.find("Properties")
    assert name is not None and properties is not None  # noqa: S101, PT018 - the service's own format
    text, metadata = name.text or "", blob.find("Metadata")
    return ListedBlob(
        # So the service writes names that XML has no characters for.
        name=unquote(text) if name.get("Encoded") == "true" else text,
        etag=properties.findtext("Etag", "").strip('"'),
        last_modified=_moment(properties.findtext("Last-Modified", "")),
        metadata={item.tag.lower(): item.text or "" for item in metadata} if metadata is not None else {},
        size=int(properties.findtext("Content-Length", "0")),
        md5=properties.findtext("Content-MD5") or None,
    )


@lru_cache(maxsize=1024)  # blobs next to each other are often of the same second, and this is most of a listing's time
def _moment(text: str) -> datetime:
    return parsedate_to_datetime(text)
