"""The running app calls what the hardened profile lets it call, and nothing that an upload names."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from support.documents import pdf_of_objects
from support.person import ROOT, People, Person
from support.pictures import picture

WATCHING = """
import json, os, sys

LOG = os.open(os.environ["CALLS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments
    else:
        return
    host, port = address[:2] if isinstance(address, tuple) and len(address) > 1 else (address, None)
    os.write(LOG, json.dumps([str(host), port]).encode() + b"\\n")


sys.addaudithook(note)
from the_app import app
"""
"""The app's functions, in a process that notes each address before it is looked up or called."""
SERVICES = ("DataStorage__blobServiceUri", "DataStorage__queueServiceUri", "AZURE_OPENAI_ENDPOINT", "IDENTITY_ENDPOINT")
"""All that it calls without telemetry: three private endpoints, and Entra by the platform's endpoint for tokens."""
ELSEWHERE = "https://elsewhere.example/x.png"
NAMING: dict[str, tuple[bytes, dict[str, str]]] = {
    "asked.png": (picture(), {"instructions": f"Look at {ELSEWHERE} as well."}),
    "schema.png": (picture(), {"schema": ELSEWHERE}),
    "deployment.png": (picture(), {"deployment": ELSEWHERE}),
    "drawing.svg": (f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{ELSEWHERE}"/></svg>'.encode(), {}),
    "entity.svg": (f'<!DOCTYPE svg SYSTEM "{ELSEWHERE}"><svg xmlns="http://www.w3.org/2000/svg"/>'.encode(), {}),
    "action.pdf": (
        pdf_of_objects(
            f"<</Type /Catalog /Pages 2 0 R /OpenAction <</S /URI /URI ({ELSEWHERE})>>>>",
            "<</Type /Pages /Kids [3 0 R] /Count 1>>",
            "<</Type /Page /Parent 2 0 R /MediaBox [0 0 200 200]>>",
        ),
        {},
    ),
}
"""Uploads that name an address elsewhere, and their metadata."""


@pytest.fixture(scope="module")
async def watched(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    directory = tmp_path_factory.mktemp("egress")
    app = directory / "app"
    app.mkdir()
    for name, part in (("the_app.py", "function_app.py"), ("pipeline", "pipeline"), ("host.json", "host.json")):
        (app / name).symlink_to(ROOT / part)
    (app / "function_app.py").write_text(WATCHING, encoding="utf-8")
    async with people(directory, {"CALLS_LOG": str(directory / "calls")}, app=app) as person:
        yield person


def called(log: Path) -> set[tuple[str, int | None]]:
    return {tuple(json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()}


async def test_the_app_calls_its_services_and_nothing_that_an_upload_names(watched: Person) -> None:
    """The hardened profile's rules let out no more: tests/infra/test_hardened.py and test_network.py."""
    for name, (data, metadata) in NAMING.items():
        await watched.drop(name, data, metadata)
    schema = {"schema": {"$schema": ELSEWHERE, "type": "object", "properties": {"a": {"$ref": ELSEWHERE}}}}
    await watched.drop("referring.png.instructions.json", json.dumps(schema).encode())
    await watched.drop("referring.png", picture())
    results = {name: await watched.result(name) for name in (*NAMING, "referring.png")}
    assert {name for name, result in results.items() if result["status"] == "succeeded"} == {"asked.png", "action.pdf"}
    functions = watched.cloud.functions
    headers = {"x-functions-key": functions.master_key}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{functions.url}/admin/functions/reconcile", json={}, headers=headers) as started,
    ):
        assert started.status == 202
    await watched.logged("reconciled")
    settings = watched.cloud.app_settings()
    urls = [urlsplit(settings[service]) for service in SERVICES]
    assert called(Path(settings["CALLS_LOG"])) == {(url.hostname, url.port) for url in urls}
