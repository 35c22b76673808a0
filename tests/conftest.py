"""The whole local cloud, once for all tests: real emulator, real worker, real tokens over real TLS; and its parts."""

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from azure.storage.blob.aio import ContainerClient
from hypothesis import settings
from playwright.async_api import Browser
from support.examples import FEWER
from support.host_cloud import Cloud, Parts, own_cloud
from support.person import People, Person, a_person

from bench.chromium import IS_PROVIDED, browser_path, chromium
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.cloud import DATA_ACCOUNT, DATA_KEY, HOST_ACCOUNT, LocalCloud
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import IdentityEndpoint

# A shell that runs the tests in its background has told them to ignore Ctrl-C, and the programs that they start inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
async def person(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with a_person(tmp_path_factory.mktemp("cloud")) as person:
        yield person


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium. Where there is none the test is skipped; where the set-up brings one, it fails."""
    path = browser_path()
    if path is None and IS_PROVIDED:
        pytest.fail("There is no browser: run `sh tools/setup.sh requirements-dev.txt`, which installs one here.")
    if path is None:
        pytest.skip("no Chromium is installed, and its package is for Linux on x86-64 only")
    async with chromium(path) as browser:
        yield browser


@pytest.fixture
async def containers(person: Person) -> AsyncIterator[tuple[ContainerClient, ContainerClient]]:
    """Containers of images and results, with no app running on them."""
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
    return a_person


@pytest.fixture(scope="session")
def local_cloud() -> type[LocalCloud]:
    return LocalCloud


@pytest.fixture(scope="session")
def functions_host() -> type[FunctionsHostProcess]:
    return FunctionsHostProcess


@pytest.fixture(scope="session")
def emulator() -> type[Azurite]:
    return Azurite


@pytest.fixture(scope="session")
def program() -> Callable[..., list[str]]:
    """The command of one of the project's programs, such as `program("localcloud", "demo")`."""
    return lambda *arguments: [sys.executable, "-m", *arguments]


STARTS_A_CLOUD = {"person", "people", "local_cloud", "functions_host", "program", "emulator", "azurite", "parts"}
"""Fixtures that start an emulator, a functions host or a program of the project, or let a test start one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="no test that starts a local cloud, and fewer examples")
    parser.addoption("--damaged", type=int, default=20, help="damaged PDFs to draw (default: 20)")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One worker more than there are processors: tests of the local cloud wait for a third of their time."""
    return None if config.getoption("--quick") else (os.process_cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        settings.load_profile(FEWER)


def pytest_collection(session: pytest.Session) -> None:  # noqa: ARG001 - a hook's parameter
    """What is imported and collected stays until the end: nothing of it is worth looking for garbage in."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:  # noqa: ARG001 - a hook's parameter
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        slow = [item for item in items if STARTS_A_CLOUD & set(getattr(item, "fixturenames", ()))]
        items[:] = [item for item in items if item not in set(slow)]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries in place pass hundredths of seconds instead of seconds."""
    from pipeline.pacing.waits import wait_in_place  # noqa: PLC0415 - coverage begins when this file has been imported

    def wait(attempt: int, retry_after: float | None, rng: Random) -> float | None:
        seconds = wait_in_place(attempt, retry_after, rng)
        return None if seconds is None else seconds / 100

    monkeypatch.setattr("pipeline.model.azure_openai.wait_in_place", wait)


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
