"""Identity-based connections to storage, and the host id. The host, like the app, gets no key."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, override

from azure.identity.aio import ManagedIdentityCredential
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry
from azure.storage.queue.aio import QueueServiceClient

from localcloud.functions_host.errors import HostError

HOST_CONNECTION = "AzureWebJobsStorage"
_HOST_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HOST_ID_LENGTH = 32


_RETRIES = 5


class Retries(ExponentialRetry):
    """The .NET SDK's retries, which the real host has: five, 0.8, 1.6, 3.2, 6.4 and 12.8 s apart.

    https://learn.microsoft.com/dotnet/api/azure.core.retryoptions
    """

    def __init__(self, seconds: float) -> None:
        """`seconds`: for all five waits together."""
        super().__init__(retry_total=_RETRIES, retry_connect=_RETRIES, retry_read=_RETRIES, retry_status=_RETRIES)
        self._first = seconds / (2**_RETRIES - 1)

    @override
    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        retry: int = settings["count"]  # from 1
        return math.ldexp(self._first, retry - 1)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's settings, e.g. those that start with `DataStorage__`."""

    name: str
    blob_uri: str | None
    queue_uri: str | None
    client_id: str | None

    @classmethod
    def resolve(cls, name: str, settings: Mapping[str, str], needs: tuple[Literal["blob", "queue"], ...]) -> Self:
        """Reads a connection.

        Raises:
            HostError: a setting is missing, or there is a connection string.
        """
        uris = {service: settings.get(f"{name}__{service}ServiceUri") for service in ("blob", "queue")}
        if name == HOST_CONNECTION and (account := settings.get(f"{name}__accountName")):
            uris = {service: uri or f"https://{account}.{service}.core.windows.net" for service, uri in uris.items()}
        problems = [
            f"connection '{name}': the app setting {name}__{service}ServiceUri is missing, "
            f"e.g. https://ACCOUNT.{service}.core.windows.net"
            for service in needs
            if not uris[service]
        ]
        if name in settings:
            # The platform accepts and prefers one; this product promises to use no keys.
            problems.append(f"connection '{name}': the app setting {name} holds a connection string; remove it")
        if problems:
            raise HostError(*problems)
        return cls(name, uris["blob"], uris["queue"], settings.get(f"{name}__clientId") or None)


class Storage:
    """The storage clients of all connections: one per account and service, one credential per identity."""

    def __init__(self, unreachable: float) -> None:
        """`unreachable`: seconds for which an unanswered request is retried."""
        self._unreachable = unreachable
        self._credentials: dict[str | None, ManagedIdentityCredential] = {}
        self._blobs: dict[Connection, BlobServiceClient] = {}
        self._queues: dict[Connection, QueueServiceClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for blobs in self._blobs.values():
            await blobs.close()
        for queues in self._queues.values():
            await queues.close()
        for credential in self._credentials.values():
            await credential.close()

    def blobs(self, connection: Connection) -> BlobServiceClient:
        if connection not in self._blobs:
            assert connection.blob_uri is not None  # noqa: S101 - resolve() was asked for it
            self._blobs[connection] = BlobServiceClient(
                connection.blob_uri, self._credential(connection), retry_policy=Retries(self._unreachable)
            )
        return self._blobs[connection]

    def queues(self, connection: Connection) -> QueueServiceClient:
        if connection not in self._queues:
            assert connection.queue_uri is not None  # noqa: S101 - resolve() was asked for it
            self._queues[connection] = QueueServiceClient(
                connection.queue_uri, self._credential(connection), retry_policy=Retries(self._unreachable)
            )
        return self._queues[connection]

    def _credential(self, connection: Connection) -> ManagedIdentityCredential:
        if connection.client_id not in self._credentials:
            self._credentials[connection.client_id] = ManagedIdentityCredential(client_id=connection.client_id)
        return self._credentials[connection.client_id]


def host_id(app: Path, settings: Mapping[str, str]) -> str:
    """The end of the internal queue's name: the setting AzureFunctionsWebHost__hostid, or made of the app's directory.

    At most 32 lowercase letters, digits and single dashes, as queue names want. It is made of the directory's name
    and eight digits of its path's hash: the same at each start, different for two clones.

    Raises:
        HostError: the setting is not of that form.
    """
    for key in ("AzureFunctionsWebHost__hostid", "AZUREFUNCTIONSWEBHOST__HOSTID"):
        if chosen := settings.get(key):
            if len(chosen) > _HOST_ID_LENGTH or not _HOST_ID.fullmatch(chosen):
                raise HostError(
                    f"the app setting {key} is {chosen!r}; it must be at most {_HOST_ID_LENGTH} lowercase "
                    "letters, digits and single dashes, e.g. blobsight-dev"
                )
            return chosen
    path = app.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", path.name.lower())[: _HOST_ID_LENGTH - 9].strip("-")
    return f"{name}-{digest}".lstrip("-")
