"""The app's way to its blobs, watched: who asked, what is refused, and how each request ended."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
)
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from bench.chaos.ledger import DEFERRED, MESSAGES, Ledger
from localcloud.app_storage import AUDIENCE, AppStorage, StorageRefusal, StorageRequest
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.identity import IdentityEndpoint
from pipeline.job.requests import Request
from pipeline.storage.queue import MessageQueue

ACCOUNT = "devstoreaccount1"


@dataclass
class Watch:
    refusal: StorageRefusal | None = None
    seen: list[tuple[str | None, str, str, bytes, int | None, bool]] = field(default_factory=list)

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        return self.refusal if request.method == "PUT" else None

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        self.seen.append((request.caller, request.method, request.blob, request.body, status, refused))


class Token:
    """A credential that has one token."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@asynccontextmanager
async def app(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint, watch: Watch, *, token: str | None = None
) -> AsyncIterator[BlobServiceClient]:
    async with (
        AppStorage(azurite.blob_url(ACCOUNT), certificates, identity, watch) as storage,
        BlobServiceClient(
            storage.url,
            Token(token or identity.token(AUDIENCE, caller="4711")),
            connection_verify=str(certificates.bundle),
            retry_total=0,
        ) as client,
    ):
        yield client


async def test_each_request_is_seen_with_its_caller_and_its_outcome(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    watch, name = Watch(), "größe/a b.json"
    async with app(azurite, certificates, identity, watch) as client:
        await client.create_container("watched")
        blob = client.get_blob_client("watched", name)
        await blob.upload_blob(b"content", metadata={"owner": "me"})
        with pytest.raises(ResourceExistsError):
            await blob.upload_blob(b"again")
        assert await (await blob.download_blob()).readall() == b"content"
    assert watch.seen == [
        ("4711", "PUT", "", b"", 201, False),
        ("4711", "PUT", name, b"content", 201, False),
        ("4711", "PUT", name, b"again", 409, False),
        ("4711", "GET", name, b"", 206, False),
    ]


async def test_a_message_is_seen_with_the_upload_that_it_is_about(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    """By `make chaos`, as the app's own queue client sends it."""
    ledger = Ledger()
    async with (
        AppStorage(azurite.queue_url(ACCOUNT), certificates, identity, ledger) as storage,
        QueueServiceClient(
            storage.url, Token(identity.token(AUDIENCE, caller="4711")), connection_verify=str(certificates.bundle)
        ) as queues,
    ):
        await queues.create_queue(DEFERRED)
        await MessageQueue(queues, DEFERRED).send(Request(container="images", name="größe/a.png"), 60)
    (sent,) = ledger.on(DEFERRED, MESSAGES)
    assert (sent.worker, sent.method, sent.done, sent.holds) == ("4711", "POST", True, frozenset({"größe/a.png"}))


async def test_a_refused_request_has_no_effect(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    watch = Watch()
    async with app(azurite, certificates, identity, watch) as client:
        await client.create_container("refusing")
        watch.refusal = StorageRefusal(409, "BlobImmutableDueToPolicy", "The blob is immutable due to a policy.")
        blob = client.get_blob_client("refusing", "a")
        with pytest.raises(HttpResponseError) as raised:
            await blob.upload_blob(b"content")
        assert raised.value.status_code == 409
        assert "BlobImmutableDueToPolicy" in raised.value.message
        assert watch.seen[-1] == ("4711", "PUT", "a", b"content", 409, True)
        assert not await blob.exists()


async def test_an_emulator_that_is_away_answers_nothing(
    emulator: type[Azurite], certificates: Certificates, identity: IdentityEndpoint, tmp_path: Path
) -> None:
    watch = Watch()
    async with (
        emulator(tmp_path, certificates, {ACCOUNT: "a2V5"}, in_memory=True) as azurite,
        app(azurite, certificates, identity, watch) as client,
    ):
        await client.create_container("away")
        await azurite.stop()
        with pytest.raises(AzureError, match="Server disconnected"):
            await client.get_blob_client("away", "a").upload_blob(b"content")
        assert watch.seen[-1] == ("4711", "PUT", "a", b"content", None, False)


async def test_an_expired_token_identifies_no_caller_and_the_emulator_refuses_it(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    watch = Watch()
    expired = identity.token(AUDIENCE, lifetime=-1, caller="4711")
    async with app(azurite, certificates, identity, watch, token=expired) as client:
        with pytest.raises(ClientAuthenticationError):
            await client.create_container("expired")
    assert watch.seen == [(None, "PUT", "", b"", 403, False)]
