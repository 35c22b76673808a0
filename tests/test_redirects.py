"""Stored bytes go to the storage account, and to no address that a response names."""

import ast
import asyncio

import pytest
from azure.core.exceptions import HttpResponseError
from support.person import ROOT

from blobsight.account import Place

CLIENTS = {"BlobServiceClient", "QueueServiceClient"}


@pytest.mark.parametrize("status", [307, 308])
async def test_the_command_follows_no_redirect_of_storage(status: int) -> None:
    met: list[str] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append((await reader.readuntil(b"\r\n")).decode())
        writer.write(
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {origin}/elsewhere\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        place = Place(
            account=None,
            connection_string=f"AccountName=a;AccountKey=aaaa;BlobEndpoint={origin}/a;QueueEndpoint={origin}/a",
            queue_endpoint=None,
            images="images",
            results="results",
            state="pipeline-state",
            requests="analysis-requests",
        )
        async with place.opened() as account:
            assert account.queues is not None
            with pytest.raises(HttpResponseError):
                await account.images.get_blob_client("a.png").upload_blob(b"private", overwrite=True)
            with pytest.raises(HttpResponseError):
                await account.queues.get_queue_client("requests").send_message("private")
    assert [line.split()[1].split("?")[0] for line in met] == ["/a/images/a.png", "/a/requests/messages"]


def test_the_apps_clients_follow_no_redirect_either() -> None:
    tree = ast.parse((ROOT / "pipeline" / "composition.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS
    ]
    assert len(calls) == len(CLIENTS)
    for call in calls:
        assert "permit_redirects=False" in [ast.unparse(keyword) for keyword in call.keywords]
