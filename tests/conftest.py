"""The whole local cloud, once for all tests: real emulator, real worker, real tokens over real TLS; and its parts."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob.aio import ContainerClient
from playwright.async_api import Browser
from support.browser import browser_path
from support.host_cloud import Cloud, Parts, own_cloud
from support.person import People, Person, somebody

from bench.chromium import chromium
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.cloud import DATA_ACCOUNT, DATA_KEY, HOST_ACCOUNT, LocalCloud
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import IdentityEndpoint


@pytest.fixture(scope="session")
async def person(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with somebody(tmp_path_factory.mktemp("cloud")) as person:
        yield person


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium(browser_path()) as browser:
        yield browser


@pytest.fixture
async def containers(person: Person) -> AsyncIterator[tuple[ContainerClient, ContainerClient]]:
    """Of images and results, where nobody is at work."""
    name = f"idle-{uuid4().hex[:8]}"
    images, results = (person.blobs.get_container_client(f"{name}-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()
    yield images, results
    await images.delete_container()
    await results.delete_container()


# Local clouds, hosts and programs of a test's own. They come as fixtures, so that the tests which start any are known.


@pytest.fixture(scope="session")
def people() -> People:
    """Start local clouds with a person in front of each: `people(directory, settings)`, a context manager."""
    return somebody


@pytest.fixture(scope="session")
def local_cloud() -> type[LocalCloud]:
    return LocalCloud


@pytest.fixture(scope="session")
def functions_host() -> type[FunctionsHostProcess]:
    return FunctionsHostProcess


@pytest.fixture(scope="session")
def program() -> Callable[..., list[str]]:
    """The command of one of the project's programs, such as `program("localcloud", "demo")`."""
    return lambda *arguments: [sys.executable, "-m", *arguments]


STARTS_A_CLOUD = {"person", "people", "local_cloud", "functions_host", "program", "azurite", "parts"}
"""Fixtures that start an emulator, a functions host or a program of the project, or let a test start one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the tests that start a local cloud")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        slow = [item for item in items if STARTS_A_CLOUD & set(getattr(item, "fixturenames", ()))]
        items[:] = [item for item in items if item not in set(slow)]
        config.hook.pytest_deselected(items=slow)


# The parts by themselves, for the tests of the local cloud.


@pytest.fixture(scope="session")
def account_keys() -> dict[str, str]:
    return {DATA_ACCOUNT: DATA_KEY, HOST_ACCOUNT: "aG9zdHN0b3JhZ2U="}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.load_or_create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
async def azurite(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, account_keys: dict[str, str]
) -> AsyncIterator[Azurite]:
    directory = tmp_path_factory.mktemp("azurite")
    async with Azurite(directory, certificates, account_keys, in_memory=True) as emulator:
        yield emulator


@pytest.fixture(scope="session")
async def identity() -> AsyncIterator[IdentityEndpoint]:
    async with IdentityEndpoint() as endpoint:
        yield endpoint


# A functions host: of the test's own, or one that tests of a module share, which then do it no harm.


@pytest.fixture(scope="session")
def parts(
    azurite: Azurite, account_keys: dict[str, str], identity: IdentityEndpoint, certificates: Certificates
) -> Parts:
    return Parts(azurite, account_keys, identity, certificates)


@pytest.fixture
async def cloud(parts: Parts, tmp_path: Path) -> AsyncIterator[Cloud]:
    async with own_cloud(parts, tmp_path) as cloud:
        yield cloud


@pytest.fixture(scope="module")
async def running(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Cloud, FunctionsHostProcess]]:
    async with own_cloud(parts, tmp_path_factory.mktemp("running")) as cloud, cloud.host() as host:
        yield cloud, host
