"""An invitation lets somebody create images, and nothing else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from azure.storage.blob.aio import BlobServiceClient
from click.testing import CliRunner
from support.guarded_storage import guarded
from support.person import Person
from support.pictures import picture
from support.terminal import blobsight
from support.workshop import Identity

from blobsight import cli
from blobsight.account import Account, Place
from blobsight.invite import invitation
from blobsight.terminal import Trouble
from localcloud.cloud import DATA_ACCOUNT

UPLOAD = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2024-11-04"}


@pytest.fixture
async def http(person: Person) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=person.cloud.certificates.client_context())
    async with aiohttp.ClientSession(connector=connector, headers={"x-ms-version": "2024-11-04"}) as session:
        yield session


def of(url: str, name: str, query: str = "") -> str:
    """The address of one blob, from that of the container."""
    address, _, sas = url.partition("?")
    return f"{address}/{name}?{query}{sas}"


def in_azure(person: Person) -> Place:
    """The account by its address, as one is named in Azure."""
    return Place(
        account=person.cloud.azurite.blob_url(DATA_ACCOUNT),
        connection_string=None,
        queue_endpoint=None,
        images="images",
        results="results",
        state="pipeline-state",
        requests="analysis-requests",
    )


async def test_images_are_created_with_it_and_analyzed(person: Person, http: aiohttp.ClientSession) -> None:
    """As the page shows it, for somebody who has curl and no sign-in."""
    ran = await blobsight(person, "invite", "--for", "2h")
    (url,) = ran.out.split()
    async with http.put(of(url, "invited/a.png"), data=picture(), headers=UPLOAD) as put:
        assert put.status == 201
    assert (await person.result("invited/a.png"))["status"] == "succeeded"
    assert "curl" in ran.talk


@pytest.mark.parametrize(
    ("method", "query"),
    [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("PUT", ""), ("PUT", "comp=metadata&"), ("GET", "list")],
)
async def test_nothing_else_can_be_done_with_it(
    person: Person, http: aiohttp.ClientSession, method: str, query: str
) -> None:
    await person.drop("victims/a.png", picture())
    await person.result("victims/a.png")
    url = (await blobsight(person, "invite", "--json")).json()["url"]
    there = f"{url}&restype=container&comp=list" if query == "list" else of(url, "victims/a.png", query)
    body = picture() if (method, query) == ("PUT", "") else None
    async with http.request(method, there, data=body, headers=UPLOAD if body else {}) as answer:
        assert answer.status in {403, 409}, await answer.text()


async def test_no_other_container_takes_it(person: Person, http: aiohttp.ClientSession) -> None:
    url = (await blobsight(person, "invite", "--json")).json()["url"]
    there = of(url.replace("/images?", "/results?"), "forged.json")
    async with http.put(there, data=b"{}", headers=UPLOAD) as answer:
        assert answer.status == 403


async def test_one_for_a_name_is_for_no_other(person: Person, http: aiohttp.ClientSession) -> None:
    url = (await blobsight(person, "invite", "one/only this.png", "--json")).json()["url"]
    async with http.put(url, data=picture(), headers=UPLOAD) as put:
        assert put.status == 201
    async with http.put(url.replace("only%20this", "another"), data=picture(), headers=UPLOAD) as other:
        assert other.status == 403


async def test_it_is_signed_as_the_caller_where_there_is_a_sign_in(person: Person, http: aiohttp.ClientSession) -> None:
    """No account key: storage itself gives the caller a key for the time, and no role of the caller's is exceeded."""
    place = in_azure(person)
    identity: Any = Identity(person.cloud)
    bundle = str(person.cloud.certificates.bundle)
    async with BlobServiceClient(str(place.blob_url), identity, connection_verify=bundle) as blobs:
        expires = datetime.now(UTC) + timedelta(hours=1)
        url = await invitation(Account(place, blobs, None, identity), None, expires)
    said = parse_qs(urlsplit(url).query)
    assert (said["sp"], said["sr"], said["spr"]) == (["c"], ["c"], ["https"])
    assert {"skoid", "sktid", "ske"} <= set(said), "of a user delegation key"
    async with http.put(of(url, "invited/b.png"), data=picture(), headers=UPLOAD) as put:
        assert put.status == 201
    async with http.get(of(url, "invited/b.png")) as got:
        assert got.status == 403


async def test_without_the_role_it_says_which(person: Person) -> None:
    place = in_azure(person)
    identity: Any = Identity(person.cloud)
    async with (
        guarded(person, lambda method, _path: method == "POST") as door,
        BlobServiceClient.from_connection_string(door, retry_total=0) as blobs,
    ):
        with pytest.raises(Trouble, match="Storage Blob Delegator"):
            await invitation(Account(place, blobs, None, identity), None, datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize("time", ["8d", "169h", "0h", "1w", "forever", "-1d", "1.5h", "99999999d"])
def test_a_time_that_storage_would_refuse_is_refused_here(time: str) -> None:
    done = CliRunner().invoke(cli.blobsight, ["invite", "--local", "--for", time])
    assert (done.exit_code, "at most 7d" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["../results/a.json", "a/./b.png", ""])
def test_a_name_that_no_blob_has_is_refused(name: str) -> None:
    done = CliRunner().invoke(cli.blobsight, ["invite", "--local", name])
    assert (done.exit_code, "can't have this name" in done.stderr) == (2, True)
