"""The app does all its work with the roles that the templates give it, and each of them is needed.

The running app and its host meet a doorkeeper that goes by the template's grants, with roles of our own where there are
some: what no grant allows is refused as Azure refuses it.
"""

import base64
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from support.batch_shop import QUICK, batch_shop
from support.fire import impatient_app
from support.grants import custom_roles, of_the_app
from support.person import Echo, Person, blob_created
from support.pictures import picture

from localcloud.app_storage import StorageRefusal, StorageRequest, StorageWatch
from localcloud.certificates import Certificates
from localcloud.cloud import LocalCloud
from localcloud.model import Dropped, Throttled
from localcloud.model.batches import BATCH_ROLE_MISSING, BatchRequest
from localcloud.model.batches.script import Fault
from pipeline.batches.shard import LONGEST_BATCH
from pipeline.job.public import PublicRequest
from pipeline.job.race import Outcome

REFUSED = StorageRefusal(403, "AuthorizationPermissionMismatch", "This request is not authorized.")

NEEDED: Mapping[str, Mapping[str, str]] = {
    "images": {"blobs/read": "each image, what people wrote about it, and the listing that reconcile compares"},
    "instructions": {"blobs/read": "sidecars, folder files and schemas"},
    "results": {
        "blobs/read": "whether there is a result already, and an earlier answer to the same question",
        "blobs/write": "the result",
    },
    "trials": {
        "blobs/read": "an image that a trial asks about, and whether the same was asked before",
        "blobs/write": "the answer of a trial",
    },
    "pipeline-state": {
        "blobs/read": "an answer that was kept, marks of what waits, tokens of the day, how far reconcile is",
        "blobs/write": "claims, marks and notes",
        "blobs/delete": "claims and marks of work that is done",
    },
    "dead-letters": {"blobs/read": "events that Event Grid gave up on"},
    "analysis-requests": {
        "queues/read": "whether the queue can be reached, for the hook after a deployment",
        "messages/process/action": "the host takes a message",
        "messages/delete": "the host deletes one that is done",
        "messages/write": "the host puts a failed message back, and renews one that takes long",
    },
    "analysis-requests-poison": {
        "messages/process/action": "the host takes a message",
        "messages/delete": "the host deletes one that is done",
        "messages/write": "the host moves a message here that failed five times",
    },
    "deferred-work": {
        "queues/read": "how many messages wait, before reconcile adds any",
        "messages/process/action": "the host takes a message",
        "messages/delete": "the host deletes one that is done",
        "messages/write": "the app defers work; the host as above",
    },
    "deferred-work-poison": {
        "messages/process/action": "the host takes a message",
        "messages/delete": "the host deletes one that is done",
        "messages/write": "the host moves a message here that failed five times",
    },
    "webjobs-blobtrigger-poison": {
        "messages/process/action": "the host takes a message",
        "messages/delete": "the host deletes one that is done",
        "messages/write": "the host moves an upload here that failed five times",
    },
}
"""By container and queue what the app's identity does there."""
SPARE = {
    "queues/read": "the real host asks whether its queue exists; the local one does not",
    "messages/read": "Azure's scale controller looks at what waits, with the app's identity",
    "queues/write": "comes with the only one of Azure's roles that allows messages/write",
    "queues/delete": "comes with the only one of Azure's roles that allows messages/write",
}
"""What the roles on queues allow and no call here needs, and why they allow it."""


NEEDED_FOR_BATCHES: Mapping[str, str] = {
    "upload_file": "files/write",
    "read_file": "files/read",
    "delete_file": "files/delete",
    "create_batch": "batch-jobs/write",
    "list_batches": "batches/read",
    "get_batch": "batches/read",
    "cancel_batch": "batches/cancel/action",
}
"""By what the app asks of the service, the right that it needs. Microsoft's list of data actions does not say it so."""


class Doorkeeper(StorageWatch):
    """Goes by the grants, and notes what each was needed for.

    Attributes:
        closed: a queue on which the app can't put messages for now.
    """

    def __init__(self, grants: Mapping[str, frozenset[str]]) -> None:
        self._grants = grants
        self.used: defaultdict[str, set[str]] = defaultdict(set)
        self.refused: list[str] = []
        self.closed = ""

    def refuse(self, request: StorageRequest) -> StorageRefusal | None:
        place, operation = request.container, _operation(request)
        if operation not in self._grants.get(place, ()):
            self.refused.append(f"{request.method} {place}/{request.blob}: {operation}")
            return REFUSED
        self.used[place].add(operation)
        if request.method == "POST" and place == self.closed and request.caller is not None:
            return REFUSED
        return None

    def ended(self, request: StorageRequest, status: int | None, *, refused: bool) -> None:
        pass


def _operation(request: StorageRequest) -> str:
    """What the request needs to be allowed.

    https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#permissions-for-calling-data-operations
    """
    if request.container not in {each for each in NEEDED if "messages/write" in NEEDED[each]}:
        of_blobs = {"GET": "blobs/read", "HEAD": "blobs/read", "PUT": "blobs/write", "DELETE": "blobs/delete"}
        return of_blobs[request.method] if request.blob or request.method == "GET" else "the container itself"
    if not request.blob:
        return "queues/read" if request.method in {"GET", "HEAD"} else "the queue itself"
    of_messages = {"POST": "write", "PUT": "write", "GET": "process/action", "DELETE": "delete"}
    return f"messages/{of_messages[request.method]}"


@pytest.fixture(scope="module")
def keeper() -> Doorkeeper:
    return Doorkeeper(of_the_app(custom=True))


@pytest.fixture(scope="module")
async def watched(
    tmp_path_factory: pytest.TempPathFactory, local_cloud: type[LocalCloud], keeper: Doorkeeper
) -> AsyncIterator[tuple[Person, QueueServiceClient]]:
    directory = tmp_path_factory.mktemp("watched")
    settings = {
        "INSTRUCTIONS_CONTAINER": "instructions",
        "TOKENS_PER_DAY": "1000000",
        "LOCAL_HOST_RESTART_SECONDS": "0.1",
    }
    cloud = local_cloud(
        directory=directory,
        app=impatient_app(directory / "app", deliveries=1),
        log=directory / "functions.log",
        brain=Echo(),
        settings=settings,
        storage_watch=keeper,
    )
    async with (
        cloud,
        BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs,
        QueueServiceClient.from_connection_string(cloud.front.connection_string) as queues,
    ):
        for container in ("instructions", "dead-letters"):
            with suppress(ResourceExistsError):
                await blobs.create_container(container)
        person = Person(cloud, blobs, directory / "functions.log")
        cloud.model.script.policy = person.behave
        yield person, queues


async def test_all_work_is_done_with_the_roles_there_are_and_each_is_needed(
    watched: tuple[Person, QueueServiceClient], keeper: Doorkeeper
) -> None:
    person, queues = watched
    await person.blobs.get_blob_client("instructions", "desk/_instructions.md").upload_blob(b"Which desk?")
    await person.drop("desk/a.png", picture())
    assert (await person.result("desk/a.png"))["instructions"]["text"] == "Which desk?"
    await a_trial(person, queues)
    await an_upload_that_the_host_gives_up_on(person, keeper)
    await messages_that_the_host_gives_up_on(person, queues, keeper)
    await a_dead_letter(person)
    assert keeper.refused == []
    assert keeper.used == {place: set(operations) for place, operations in NEEDED.items()}


async def an_upload_that_the_host_gives_up_on(person: Person, keeper: Doorkeeper) -> None:
    """It has to wait, and the queue can't be reached: the function fails, and the host moves its message."""
    person.scripts["When?"].append(Throttled(retry_after=120))
    keeper.closed = "deferred-work"
    await person.drop("later.png", picture(), {"instructions": "When?"})
    await person.logged("goes to webjobs-blobtrigger-poison")
    keeper.closed = ""
    await person.logged("later.png: given up by the host, and queued again")


async def messages_that_the_host_gives_up_on(person: Person, queues: QueueServiceClient, keeper: Doorkeeper) -> None:
    """One is not the app's; the other can't be split, since the queue can't be reached."""
    await send(queues, "deferred-work", "not a message of the app's")
    await person.logged("a message on one of the app's own queues was refused")
    keeper.closed = "deferred-work"
    await send(queues, "analysis-requests", json.dumps([blob_created("split/a.png"), blob_created("split/b.png")]))
    await person.logged("goes to analysis-requests-poison")
    keeper.closed = ""
    await person.logged("split/b.png: given up by the host, and queued again")


async def send(queues: QueueServiceClient, queue: str, message: str) -> None:
    await queues.get_queue_client(queue).send_message(base64.b64encode(message.encode()).decode())


async def a_dead_letter(person: Person) -> None:
    letter = json.dumps([blob_created("desk/a.png")])
    await person.blobs.get_blob_client("dead-letters", "t/s/2026/1/1/1/1.json").upload_blob(letter)
    functions = person.cloud.functions
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{functions.url}/admin/functions/reconcile", json={}, headers={"x-functions-key": functions.master_key}
        ) as started,
    ):
        assert started.status == 202
    await person.logged("reconciled")


async def a_trial(person: Person, queues: QueueServiceClient) -> None:
    await person.blobs.get_blob_client("trials", "images/a.png").upload_blob(picture())
    asked = PublicRequest(container="trials", name="images/a.png", trial="a1", instructions="Which colour?")
    await send(queues, "analysis-requests", asked.to_message())
    answer = await person.result("answers/a1/trials/images/a.png", container="trials")
    assert answer["instructions"]["text"] == "Which colour?"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "images/desk/a.png"),
        ("PUT", "images/desk/a.png"),
        ("PUT", "images/desk/a.png?comp=metadata"),
        ("PUT", "instructions/_instructions.md"),
        ("DELETE", "results/desk/a.png.json"),
        ("DELETE", "dead-letters/t/s/2026/1/1/1/1.json"),
        ("DELETE", "results?restype=container"),
        ("PUT", "elsewhere?restype=container"),
        ("DELETE", "trials/images/a.png"),
        ("GET", "elsewhere/a.png"),
    ],
)
async def test_a_leaked_token_of_the_apps_does_nothing_else(
    watched: tuple[Person, QueueServiceClient], keeper: Doorkeeper, method: str, path: str
) -> None:
    """Used from elsewhere, as whoever took over the app would: against the same grants."""
    person, _ = watched
    cloud, before = person.cloud, len(keeper.refused)
    token = cloud.identity.token("https://storage.azure.com")
    headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2025-07-05", "x-ms-blob-type": "BlockBlob"}
    url, tls = cloud.app_settings()["DataStorage__blobServiceUri"], cloud.certificates.client_context()
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{url}/results/?restype=container&comp=list", ssl=tls) as allowed:
            assert allowed.status == 200
        async with http.request(method, f"{url}/{path}", ssl=tls) as refused:
            assert (refused.status, refused.headers["x-ms-error-code"]) == (403, REFUSED.code)
    assert len(keeper.refused) == before + 1
    del keeper.refused[before:]


def test_what_the_roles_allow_beyond_that_has_its_reason() -> None:
    """With roles of our own it is what Azure's role for queues allows too much; blobs have nothing to spare."""
    for place, allowed in of_the_app(custom=True).items():
        spare = allowed - set(NEEDED[place])
        assert spare <= set(SPARE), place
        assert not spare or "messages/write" in NEEDED[place]


def test_azures_own_roles_allow_all_that_ours_do() -> None:
    ours, azures = of_the_app(custom=True), of_the_app(custom=False)
    assert set(ours) == set(azures) == set(NEEDED)
    assert not [place for place in ours if not ours[place] <= azures[place]]
    assert {place: azures[place] - ours[place] for place in ours if azures[place] != ours[place]} == {
        "results": {"blobs/delete", "blobs/add/action", "blobs/move/action"},
        "trials": {"blobs/delete", "blobs/add/action", "blobs/move/action"},
        "pipeline-state": {"blobs/add/action", "blobs/move/action"},
    }


async def test_batches_are_sent_and_brought_back_with_the_role_for_them(
    person: Person, certificates: Certificates
) -> None:
    """Two batches: the answer to one's creation is lost, the other takes too long and is cancelled."""
    allowed = custom_roles()["senderName"]
    refused = []

    def doorkeeper(request: BatchRequest) -> Fault | None:
        if NEEDED_FOR_BATCHES[request.operation] in allowed:
            return None
        refused.append(request.operation)
        return BATCH_ROLE_MISSING

    async with batch_shop(person, certificates) as shop:
        script = shop.model.batches.script
        script.fault = doorkeeper
        script.add("create_batch", Dropped())
        assert await shop.through(await shop.drop("a.png")) == []
        assert await shop.deliver(*await shop.round()) == [Outcome.SUCCEEDED]
        script.plan(replace(QUICK, working=60))
        await shop.deliver(await shop.drop("b.png"))
        await shop.run(minutes=1)
        await shop.run(minutes=LONGEST_BATCH / timedelta(minutes=1) + 1)
        used = {NEEDED_FOR_BATCHES[name] for name in shop.operations}
    assert refused == []
    assert used == allowed
