"""The whole local cloud, once for all tests: real emulator, real worker, real tokens over real TLS."""

from collections.abc import AsyncIterator

import pytest
from azure.storage.blob.aio import BlobServiceClient
from person import ROOT, Echo, Person

from localcloud.cloud import LocalCloud


@pytest.fixture(scope="session")
async def person(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    directory = tmp_path_factory.mktemp("cloud")
    log = directory / "functions.log"
    cloud = LocalCloud(
        directory=directory,
        app=ROOT,
        log=log,
        brain=Echo(),
        settings={
            "PROCESS_IMAGE_ENABLED": "true",
            "MODEL_TIMEOUT_SECONDS": "3",
            "CLAIM_SECONDS": "3",
            "MAX_IMAGE_BYTES": "3000000",
        },
    )
    async with cloud, BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs:
        somebody = Person(cloud, blobs, log)
        cloud.model.script.policy = somebody.behave
        yield somebody
