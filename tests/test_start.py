"""The app starts with what it needs, and says in one message what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from azurefunctions.extensions.base import Datum
from support.documents import pdf, tiff
from support.person import ROOT, Person
from support.pictures import picture
from support.some_settings import ENOUGH

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


PREPARED = """
import asyncio, os, sys
from contextlib import AsyncExitStack
from pathlib import Path
from pipeline.job.memory import Budget, Content
from pipeline.job.preparing import Preparer
from pipeline.model.question import Question
from pipeline.settings import Settings

async def main():
    preparer = Preparer(Settings.from_environment(os.environ), Budget(2**30))
    for path in sys.argv[1:]:
        content = Content(Path(path).read_bytes(), AsyncExitStack())
        async with AsyncExitStack() as unpacking, AsyncExitStack() as holding:
            prepared = await preparer.prepare(content, Question("?", "vision", "", "auto", 100), unpacking, holding)
        print(prepared.failure, *[name for name in ("pipeline.documents.pdf", "pypdfium2") if name in sys.modules])

asyncio.run(main())
"""


def test_images_load_nothing_for_documents_and_no_worker_loads_pdfium(tmp_path: Path) -> None:
    """Sent as it is, converted, a page of a TIFF; and then a PDF, which is drawn elsewhere."""
    files = {
        "a.png": picture(),
        "b.jpg": picture("JPEG", (3000, 600)),
        "c.tif": tiff(["One", "Two"]),
        "d.pdf": pdf(["One"]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", PREPARED, *(tmp_path / name for name in files)],
        cwd=ROOT, env=os.environ | ENOUGH, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["None"] * 3 + ["None pipeline.documents.pdf"]


def test_a_host_that_sends_no_blob_name_gets_an_error_that_says_so() -> None:
    """Bytes would be an image that the binding did not ask the host for."""
    with pytest.raises(ValueError, match="The host sent bytes instead of a blob's name"):
        BlobNameConverter.decode(Datum(b"\xff\xd8", "bytes"), trigger_metadata={}, pytype=BlobName)
