"""What a person may do with the storage account: found out by doing it, and nothing of it leaves a trace."""

from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob.aio import ContainerClient
from azure.storage.queue import TextBase64EncodePolicy

from blobsight.account import STORAGE_SCOPE, code
from blobsight.doctor.findings import Finding, Patient, failed, ok, skipped
from blobsight.terminal import counted

_NEW_ROLE = "A new role takes up to ten minutes to count."
_IMPOSSIBLE_ETAG = '"0x0"'
_NO_UPLOAD = "._blobsight-doctor"
"""Named like a junk file: were it written after all, nobody would analyze it."""
DEAD_LETTERS = "dead-letters"
"""The container's default name: DEAD_LETTER_CONTAINER of the app's settings."""
_NOTHING = "[]"
"""To the app, an array of events without any."""


async def reached(patient: Patient) -> Finding:
    """Whether somebody is signed in and the account answers, whatever it answers: without that, nothing else counts."""
    account = patient.account
    if account.credential is not None:
        await account.credential.get_token(STORAGE_SCOPE)
    try:
        await account.blobs.get_account_information()
    except ClientAuthenticationError:
        raise
    except HttpResponseError:
        pass  # an answer, and rights are looked at below
    signed_in = ", and you are signed in" if account.credential is not None else ""
    return ok(f"{account.blobs.primary_hostname} answers{signed_in}")


async def read_images(patient: Patient) -> Finding:
    return await _read(patient, patient.account.images, "Storage Blob Data Contributor")


async def read_results(patient: Patient) -> Finding:
    return await _read(patient, patient.account.results, "Storage Blob Data Reader")


async def read_state(patient: Patient) -> Finding:
    """Only the app needs it; whoever may read it sees more in `show` and `retry --missing`."""
    found = await _read(patient, patient.account.state, "Storage Blob Data Reader")
    if found.seen.startswith("you may not"):
        return skipped(f"{found.seen}; only the app has to", found.cure)
    return found


async def _read(patient: Patient, container: ContainerClient, role: str) -> Finding:
    try:
        await anext(aiter(container.list_blob_names(results_per_page=1)), None)
    except ResourceNotFoundError:
        return failed(
            f"there is no container '{container.container_name}'",
            "Create it (docs/deploy.md), or name yours with --images and --results.",
        )
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(f"you may not list '{container.container_name}' ({code(error)})", _role(patient, role))
    return ok(f"you may list '{container.container_name}'")


async def write_images(patient: Patient) -> Finding:
    """A write on a condition that can't be met is refused as such only to those who may write."""
    container = patient.account.images
    try:
        await container.upload_blob(
            _NO_UPLOAD, b"", overwrite=True, etag=_IMPOSSIBLE_ETAG, match_condition=MatchConditions.IfNotModified
        )
    except ResourceModifiedError:
        return ok(f"you may write to '{container.container_name}'")
    except ResourceNotFoundError:
        return failed(f"there is no container '{container.container_name}'", "See 'images: read'.")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(
            f"you may not write to '{container.container_name}' ({code(error)})",
            _role(patient, "Storage Blob Data Contributor"),
        )
    return ok(f"you may write to '{container.container_name}'")


async def send_requests(patient: Patient) -> Finding:
    """A message that asks for nothing, and is gone within two seconds."""
    queues, name = patient.account.queues, patient.account.place.requests
    if queues is None:
        return skipped("the address of the queue service is not known", "Give it with --queue-endpoint.")
    client = queues.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
    try:
        await client.send_message(_NOTHING, visibility_timeout=1, time_to_live=2)
    except ResourceNotFoundError:
        return failed(f"there is no queue '{name}'", "Create it (docs/deploy.md), or name yours with --queue.")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(
            f"you may not send to '{name}' ({code(error)}): `retry` will not work",
            _role(patient, "Storage Queue Data Message Sender"),
        )
    return ok(f"you may send to '{name}'")


async def requests(patient: Patient) -> Finding:
    """How much waits."""
    name = patient.account.place.requests
    count = await _count(patient, name)
    return (
        count if isinstance(count, Finding) else ok(f"{counted(count, 'message')} on '{name}', those put off included")
    )


async def poison(patient: Patient) -> Finding:
    """What used up its deliveries. The app takes it from there, so these queues are empty."""
    found = []
    for name in ("webjobs-blobtrigger-poison", f"{patient.account.place.requests}-poison"):
        count = await _count(patient, name)
        if isinstance(count, Finding):
            return count
        if count:
            found.append(f"{counted(count, 'message')} on '{name}'")
    if found:
        return failed(
            ", ".join(found),
            'If they stay, the app can\'t handle them: docs/operations.md, "Poison messages and crashes".',
        )
    return ok("nothing used up its deliveries")


async def dead_letters(patient: Patient) -> Finding:
    """How many events Event Grid gave up on. The app queues their images, so they only tell how often that happens."""
    container = patient.account.blobs.get_container_client(DEAD_LETTERS)
    number, newest = 0, None
    try:
        async for blob in container.list_blobs():
            number += 1
            newest = max(newest or blob.last_modified, blob.last_modified)
    except ResourceNotFoundError:
        return ok(f"there is no container '{DEAD_LETTERS}', so no event was given up")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return skipped(
            f"you may not list '{DEAD_LETTERS}'; only the app has to", _role(patient, "Storage Blob Data Reader")
        )
    if newest is None:
        return ok("no event was given up")
    return ok(
        f"{counted(number, 'dead letter')}, the newest of {newest:%Y-%m-%d %H:%M} UTC: the app's timer queues their"
        " images"
    )


async def _count(patient: Patient, name: str) -> int | Finding:
    """How many messages a queue holds, about; or why that can't be told."""
    queues = patient.account.queues
    if queues is None:
        return skipped("the address of the queue service is not known", "Give it with --queue-endpoint.")
    try:
        properties = await queues.get_queue_client(name).get_queue_properties()
    except ResourceNotFoundError:
        if name == patient.account.place.requests:
            return failed(f"there is no queue '{name}'", "Create it (docs/deploy.md), or name yours with --queue.")
        return 0  # the host creates it with the first message
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return skipped(
            f"you may not look at '{name}'; only the app has to", _role(patient, "Storage Queue Data Reader")
        )
    return properties.approximate_message_count or 0


def _role(patient: Patient, role: str) -> str:
    return (
        f"You need the role '{role}' on {patient.account_name} (docs/deploy.md). {_NEW_ROLE} If you have it, the"
        " account's firewall keeps you out."
    )
