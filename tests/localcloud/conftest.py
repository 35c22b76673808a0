"""The local cloud's own parts, started once for all of its tests."""

from collections.abc import AsyncIterator

import pytest

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.identity import IdentityEndpoint

DATA_ACCOUNT = "devstoreaccount1"
HOST_ACCOUNT = "hoststorage"
ACCOUNT_KEYS = {
    # The emulator's documented key, the same everywhere.
    DATA_ACCOUNT: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    HOST_ACCOUNT: "aG9zdHN0b3JhZ2U=",
}


@pytest.fixture(scope="session")
def account_keys() -> dict[str, str]:
    return ACCOUNT_KEYS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.load_or_create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
async def azurite(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> AsyncIterator[Azurite]:
    directory = tmp_path_factory.mktemp("azurite")
    async with Azurite(directory, certificates, ACCOUNT_KEYS, in_memory=True) as emulator:
        yield emulator


@pytest.fixture(scope="session")
async def identity() -> AsyncIterator[IdentityEndpoint]:
    async with IdentityEndpoint() as endpoint:
        yield endpoint
