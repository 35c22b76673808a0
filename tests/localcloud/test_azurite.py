"""The storage emulator: token access over TLS, restarts, and errors a person can act on."""

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncBlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from localcloud.azurite import Azurite, AzuriteError
from localcloud.certificates import Certificates
from localcloud.identity import IdentityEndpoint

ACCOUNT = "devstoreaccount1"
KEYS = {ACCOUNT: "a2V5", "other": "b3RoZXI="}
STORAGE = "https://storage.azure.com"


class FixedToken:
    """A credential that has one token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)


def sync_client(azurite: Azurite, certificates: Certificates, token: str) -> BlobServiceClient:
    return BlobServiceClient(
        azurite.blob_url(ACCOUNT),
        credential=FixedToken(token),
        connection_verify=str(certificates.bundle),
        retry_total=0,
    )


async def test_a_token_of_the_managed_identity_opens_blobs_and_queues(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in identity.environment().items():
        monkeypatch.setenv(name, value)
    verify = str(certificates.bundle)
    async with (
        AsyncManagedIdentityCredential(client_id=identity.client_id) as credential,
        AsyncBlobServiceClient(azurite.blob_url(ACCOUNT), credential=credential, connection_verify=verify) as blobs,
        QueueServiceClient(azurite.queue_url(ACCOUNT), credential=credential, connection_verify=verify) as queues,
    ):
        await blobs.create_container("by-token")
        await blobs.get_blob_client("by-token", "a.txt").upload_blob(b"text")
        await queues.create_queue("by-token")
        await queues.get_queue_client("by-token").send_message("text")

    with sync_client(azurite, certificates, identity.token(STORAGE)) as client:
        assert client.get_blob_client("by-token", "a.txt").download_blob().readall() == b"text"


@pytest.mark.parametrize(
    ("audience", "lifetime"),
    [("https://cognitiveservices.azure.com", 3600), (STORAGE, -1)],
    ids=["another resource's", "expired"],
)
def test_a_wrong_token_is_refused(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint, audience: str, lifetime: int
) -> None:
    with (
        sync_client(azurite, certificates, identity.token(audience, lifetime=lifetime)) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.create_container("never")


def test_accounts_do_not_see_each_others_blobs(
    azurite: Azurite, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    host = BlobServiceClient(
        azurite.blob_url("hoststorage"),
        credential=FixedToken(identity.token(STORAGE)),
        connection_verify=str(certificates.bundle),
    )
    with sync_client(azurite, certificates, identity.token(STORAGE)) as data, host:
        data.create_container("only-in-data")

        assert "only-in-data" not in [container.name for container in host.list_containers()]

    with pytest.raises(AzuriteError, match="has no account 'nobody'"):
        azurite.blob_url("nobody")


async def test_a_restart_keeps_ports_and_data(
    emulator: type[Azurite], tmp_path: Path, certificates: Certificates, identity: IdentityEndpoint
) -> None:
    """The write just before it too, though the emulator saves its index only every 5 s."""
    async with emulator(tmp_path, certificates, KEYS, in_memory=False) as azurite:
        address, pid = azurite.blob_url(ACCOUNT), azurite.pid
        with sync_client(azurite, certificates, identity.token(STORAGE)) as client:
            client.create_container("images")
            client.get_blob_client("images", "a.jpg").upload_blob(b"picture")
            await azurite.restart()

            assert (azurite.blob_url(ACCOUNT), azurite.pid == pid) == (address, False)
            assert client.get_blob_client("images", "a.jpg").download_blob().readall() == b"picture"

    async with emulator(tmp_path, certificates, KEYS, in_memory=False) as azurite:
        with sync_client(azurite, certificates, identity.token(STORAGE)) as client:
            assert client.get_blob_client("images", "a.jpg").download_blob().readall() == b"picture"
        pid = azurite.pid
    assert not psutil.pid_exists(pid)


async def test_one_directory_serves_one_emulator(
    emulator: type[Azurite], tmp_path: Path, certificates: Certificates
) -> None:
    async with emulator(tmp_path, certificates, KEYS, in_memory=False):
        with pytest.raises(AzuriteError, match="Another storage emulator uses"):
            await emulator(tmp_path, certificates, KEYS, in_memory=False).__aenter__()


async def test_a_missing_emulator_is_named_with_the_command_that_installs_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    with pytest.raises(AzuriteError, match="`make demo` or `make test` installs it"):
        await Azurite(tmp_path, certificates, KEYS, in_memory=True, program=tmp_path / "azurite.js").__aenter__()


async def test_an_emulator_that_dies_at_its_start_shows_its_last_output(
    emulator: type[Azurite], tmp_path: Path, certificates: Certificates
) -> None:
    program = tmp_path / "azurite.js"
    program.write_text("console.error('no room on the disk'); process.exit(3)")

    with pytest.raises(AzuriteError, match=r"exit code 3\). Its output:\nno room on the disk"):
        await emulator(tmp_path, certificates, KEYS, in_memory=False, program=program).__aenter__()

    # The directory is free again.
    async with emulator(tmp_path, certificates, KEYS, in_memory=False):
        pass


async def test_an_emulator_that_dies_is_reported(
    emulator: type[Azurite], tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulator(tmp_path, certificates, KEYS, in_memory=True) as azurite:
        psutil.Process(azurite.pid).children()[0].kill()
        async with asyncio.timeout(10):
            while "ended unexpectedly" not in caplog.text:
                await asyncio.sleep(0.01)
