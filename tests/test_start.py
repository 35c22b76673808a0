"""The app starts with what it needs, and says in one message what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from azurefunctions.extensions.base import Datum
from support.person import ROOT, Person

from localcloud.functions_host.errors import HostError
from localcloud.functions_host.process import FunctionsHostProcess
from pipeline.triggers.blob_binding import BlobName, BlobNameConverter


async def test_wrong_settings_fail_the_start_with_one_message(person: Person, tmp_path: Path) -> None:
    settings = person.cloud.app_settings() | {"AZURE_OPENAI_ENDPOINT": "nonsense", "MAX_OUTPUT_TOKENS": "-1"}
    del settings["DataStorage__queueServiceUri"]
    with pytest.raises(HostError) as caught:
        async with FunctionsHostProcess(ROOT, settings, log=tmp_path / "log"):
            pass
    message = str(caught.value)
    assert all(
        key in message for key in ("AZURE_OPENAI_ENDPOINT", "MAX_OUTPUT_TOKENS", "DataStorage__queueServiceUri")
    ), message
    assert "Traceback" not in message


async def test_process_image_is_off_unless_switched_on(person: Person, tmp_path: Path) -> None:
    settings = person.cloud.app_settings()
    del settings["PROCESS_IMAGE_ENABLED"]
    async with FunctionsHostProcess(ROOT, settings, log=tmp_path / "log") as host:
        assert "process_image" not in host.functions


def test_indexing_loads_no_sdk() -> None:
    """A cold start has to index the app in seconds: importing function_app loads no SDK, and nothing that decodes."""
    late = ("openai", "azure.core", "azure.identity", "azure.storage", "opentelemetry", "PIL")
    program = f"import sys, function_app; print([m for m in {late} if m in sys.modules])"
    environment = {
        "DataStorage__blobServiceUri": "https://a",
        "DataStorage__queueServiceUri": "https://a",
        "AZURE_OPENAI_ENDPOINT": "https://a",
        "AZURE_OPENAI_DEPLOYMENT": "a",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_host_that_sends_no_blob_name_gets_an_error_that_says_so() -> None:
    """Bytes would be an image that the binding did not ask the host for."""
    with pytest.raises(ValueError, match="The host sent bytes instead of a blob's name"):
        BlobNameConverter.decode(Datum(b"\xff\xd8", "bytes"), trigger_metadata={}, pytype=BlobName)
