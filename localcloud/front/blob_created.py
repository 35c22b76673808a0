"""Find the requests to the Blob service that raise Microsoft.Storage.BlobCreated, and build the event.

The rules are from https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage and the product
team's answers in MicrosoftDocs/azure-docs#38958 and Azure/azure-sdk-for-js#21402. These raise it, or don't:

- Put Blob, Put Block List, and Copy Blob when the copy has completed, each with its name in `data.api`.
- A page or append blob when it is created (a Put Blob); pages and blocks written to it later raise nothing.
- Put Block, Append Block, Put Page, metadata, properties, tags, tier, lease, snapshot: nothing.
- Nothing in the containers `$logs` and `$blobchangefeed`.

Not documented: the `data.api` of Put Blob From URL. It is CopyBlob here, which every filter lets through.
"""

import datetime as dt
import itertools
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote

SILENT_CONTAINERS = frozenset({"$logs", "$blobchangefeed"})
TOPIC = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/localcloud"
    "/providers/Microsoft.Storage/storageAccounts/"
)

# Compared as text to order two events on one blob, so it has to grow over restarts too.
_sequence = itertools.count(time.time_ns())


@dataclass(frozen=True, slots=True)
class BlobWrite:
    """A request that, if it succeeds, creates or replaces a blob."""

    api: Literal["PutBlob", "PutBlockList", "CopyBlob"]
    account: str
    container: str
    blob: str
    client_request_id: str


@dataclass(frozen=True, slots=True)
class Content:
    """The blob's properties in an event."""

    length: int
    """Size in bytes."""
    content_type: str
    blob_type: str


def blob_write(method: str, target: str, headers: Mapping[str, str], account: str) -> BlobWrite | None:
    """Return the write that a request to `account` makes, or None if it can't create a blob.

    `target` is the request's raw one (`/account/container/blob?query`), `headers` ignore case.
    """
    path, _, query = target.partition("?")
    parts = path.split("/", 3)
    if method != "PUT" or len(parts) != 4 or parts[1] != account or not all(parts[2:]):
        return None
    container, blob = unquote(parts[2]), unquote(parts[3]).replace("\\", "/")  # as the service itself does
    if container in SILENT_CONTAINERS:
        return None
    operation = parse_qs(query).get("comp")
    api: Literal["PutBlob", "PutBlockList", "CopyBlob"]
    if operation == ["blocklist"]:
        api = "PutBlockList"
    elif operation is not None:
        return None
    elif "x-ms-copy-source" in headers:
        api = "CopyBlob"
    else:
        api = "PutBlob"
    return BlobWrite(api, account, container, blob, headers.get("x-ms-client-request-id", ""))


def created_blob(write: BlobWrite, status: int, headers: Mapping[str, str]) -> bool:
    """Whether the service's answer means that the blob exists: a copy may only have begun."""
    if write.api == "CopyBlob":
        return status in {201, 202} and headers.get("x-ms-copy-status", "success") == "success"
    return status == 201


def put_blob_content(headers: Mapping[str, str]) -> Content:
    """Read a blob's properties from its Put Blob request."""
    blob_type = headers.get("x-ms-blob-type", "BlockBlob")
    # A page blob is created empty, of the size given.
    length = headers.get("x-ms-blob-content-length") if blob_type == "PageBlob" else headers.get("Content-Length")
    content_type = headers.get("x-ms-blob-content-type") or headers.get("Content-Type")
    return Content(int(length or 0), content_type or "application/octet-stream", blob_type)


def blob_created(write: BlobWrite, content: Content, endpoint: str, answer: Mapping[str, str]) -> dict[str, Any]:
    """Build the event, in the Event Grid schema.

    `endpoint` is the account's blob endpoint, `answer` the service's response headers.

    `subject` holds the name as it is, `data.url` the name percent-encoded, as URL parsers need it: `BlobUriBuilder`
    in the Functions host, `BlobClient.from_blob_url` elsewhere. In Azure, names with `#` have been seen unencoded in
    the URL (Azure/azure-sdk-for-net#23634), so code should take the name from the subject.
    """
    return {
        "topic": f"{TOPIC}{write.account}",
        "subject": f"/blobServices/default/containers/{write.container}/blobs/{write.blob}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": str(uuid.uuid4()),
        "eventTime": dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z"),
        "dataVersion": "",
        "metadataVersion": "1",
        "data": {
            "api": write.api,
            "clientRequestId": write.client_request_id,
            "requestId": answer.get("x-ms-request-id", ""),
            # Without its quotes: the Functions host puts them back.
            "eTag": answer.get("ETag", "").strip('"'),
            "contentType": content.content_type,
            "contentLength": content.length,
            "blobType": content.blob_type,
            "url": f"{endpoint}/{write.container}/{quote(write.blob, safe='/~')}",
            "sequencer": f"{next(_sequence):032X}",
            "storageDiagnostics": {"batchId": str(uuid.uuid4())},
        },
    }
