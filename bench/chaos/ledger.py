"""A record of every storage request of the app's processes, as seen by the proxy before the emulator."""

import base64
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from localcloud.app_storage import StorageRefusal, StorageRequest

IMAGES, RESULTS, STATE = "images", "results", "pipeline-state"
DEFERRED, MESSAGES = "deferred-work", "messages"
"""The app's own queue, as operations name it: container and blob."""
SHARDS = "batches/shards/"

_REQUEST_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The stand-in model's id of a request. Results and kept answers hold it."""
_BATCH_IDS = re.compile(rb"(?:file-|batch_)[0-9a-f]{32}")
"""The stand-in's ids of files and batches. Shards hold them."""
_MESSAGE = re.compile(rb"<MessageText>(.*?)</MessageText>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Operation:
    """One request. Times are seconds since 1970."""

    at: float
    """When it ended."""
    worker: str | None
    """The id of the process that made it; None for the functions host."""
    method: str
    container: str
    blob: str
    status: int | None
    """None: the emulator was away and gave no answer, though it may have done what it was asked."""
    refused: bool = False
    """By a fault, not by the emulator."""
    owner: str | None = None
    """Of a claim: which run holds it; None when it is let go of, or only keeps an answer."""
    holds: frozenset[str] = frozenset()
    """Of a blob that was written: the ids of the model's answers in it; of a shard, those of its files and its batch.
    Of a message: the upload that it is about."""

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "DELETE")

    @property
    def releases(self) -> bool:
        """Of an operation on a claim: whether its run let go of it."""
        return self.method == "DELETE" or (self.method == "PUT" and self.owner is None)

    @property
    def done(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


type Refusing = Callable[[StorageRequest, "Ledger"], StorageRefusal | None]


@dataclass(slots=True)
class Ledger:
    """A `localcloud.app_storage.StorageWatch` that keeps everything."""

    operations: list[Operation] = field(default_factory=list)
    refusing: Refusing | None = None
    """The requests that are refused at the moment."""
    _on: defaultdict[tuple[str, str], list[Operation]] = field(default_factory=lambda: defaultdict(list))
    _stored: dict[str, float] = field(default_factory=dict)

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        return self.refusing(request, self) if self.refusing is not None else None

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        owner = request.headers.get("x-ms-meta-owner")
        if request.container == DEFERRED:
            found = _uploads(request.body)
        else:
            ids = _BATCH_IDS if request.blob.startswith(SHARDS) else _REQUEST_ID
            found = ids.findall(request.body)
        self.add(
            Operation(
                at=time.time(),
                worker=request.caller,
                method=request.method,
                container=request.container,
                blob=request.blob,
                status=status,
                refused=refused,
                owner=owner,
                holds=frozenset(each.decode() for each in found),
            )
        )

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self._on[operation.container, operation.blob].append(operation)
        if operation.done:
            for answer in operation.holds:
                self._stored.setdefault(answer, operation.at)

    def on(self, container: str, blob: str) -> Iterable[Operation]:
        """The operations on one blob, in the order in which they ended."""
        return self._on.get((container, blob), ())

    def stored_at(self, answer: str) -> float | None:
        """When the model's answer with this request id was first safe in a blob; None if it never was."""
        return self._stored.get(answer)

    def exists(self, container: str, blob: str) -> bool:
        """Whether the app has written this blob and not deleted it since."""
        last = next((done for done in reversed(self._on.get((container, blob), [])) if done.done and done.writes), None)
        return last is not None and last.method == "PUT"


def _uploads(body: bytes) -> list[bytes]:
    """The upload that a message, as it is put on the queue, is about."""
    try:
        return [json.loads(base64.b64decode(text))["name"].encode() for text in _MESSAGE.findall(body)]
    except (ValueError, KeyError, TypeError):  # a redrive or a stranger's
        return []
