"""Check the person's rights on the storage account, by operations that leave no trace."""

from datetime import UTC, datetime

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
from blobsight.doctor.findings import Finding, Patient, Verdict, failed, ok, skipped
from blobsight.rates import rates
from blobsight.terminal import counted
from blobsight.waiting import waiting_images

_NEW_ROLE = "A new role takes effect within ten minutes."
_IMPOSSIBLE_ETAG = '"0x0"'
_NO_UPLOAD = "._blobsight-doctor"
"""Named like a junk file: even if it were written, the app would not analyze it."""
DEAD_LETTERS = "dead-letters"
"""Default name of the container; the app's setting is DEAD_LETTER_CONTAINER."""
_NOTHING = "[]"
"""An empty array of events, which the app ignores."""


async def reached(patient: Patient) -> Finding:
    """Check that there is a sign-in and that the account answers at all. Without that, no other check makes sense."""
    account = patient.account
    if account.credential is not None:
        await account.credential.get_token(STORAGE_SCOPE)
    try:
        await account.blobs.get_account_information()
    except ClientAuthenticationError:
        raise
    except HttpResponseError:
        pass  # an answer; rights are checked below
    signed_in = ", and you are signed in" if account.credential is not None else ""
    return ok(f"{account.blobs.primary_hostname} answers{signed_in}")


async def read_images(patient: Patient) -> Finding:
    return await _read(patient, patient.account.images, "Storage Blob Data Contributor")


async def read_results(patient: Patient) -> Finding:
    return await _read(patient, patient.account.results, "Storage Blob Data Reader")


async def read_state(patient: Patient) -> Finding:
    """Check the right to read the state container. Only the app needs it, but `show` and `retry --missing` use it."""
    found = await _read(patient, patient.account.state, "Storage Blob Data Reader")
    if found.seen.startswith("you may not"):
        return skipped(f"{found.seen}; only the app needs to", found.cure)
    return found


async def _read(
    patient: Patient, container: ContainerClient, role: str, *, option: str = "--images and --results"
) -> Finding:
    try:
        await anext(aiter(container.list_blob_names(results_per_page=1)), None)
    except ResourceNotFoundError:
        return failed(
            f"the account has no container '{container.container_name}'",
            f"Create it (docs/deploy.md), or name yours with {option}.",
        )
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(f"you may not list '{container.container_name}' ({code(error)})", _role(patient, role))
    return ok(f"you may list '{container.container_name}'")


async def write_images(patient: Patient) -> Finding:
    return await _write(patient, patient.account.images)


async def trials(patient: Patient) -> Finding:
    """Check the container of trials, which `try` and `evaluate` need: that it is there, and the rights on it."""
    container = patient.account.trials
    found = await _read(patient, container, "Storage Blob Data Contributor", option="--trials")
    if found.verdict is Verdict.OK:
        found = await _write(patient, container)
    if found.seen.startswith("you may not"):
        return skipped(f"{found.seen}; only `try` and `evaluate` need to", found.cure)
    return found if found.verdict is not Verdict.OK else ok(f"you may list and write to '{container.container_name}'")


async def _write(patient: Patient, container: ContainerClient) -> Finding:
    """Check the right to write, by a write whose condition can't be met. Only with the right is that the reason."""
    try:
        await container.upload_blob(
            _NO_UPLOAD, b"", overwrite=True, etag=_IMPOSSIBLE_ETAG, match_condition=MatchConditions.IfNotModified
        )
    except ResourceModifiedError:
        return ok(f"you may write to '{container.container_name}'")
    except ResourceNotFoundError:
        return failed(f"the account has no container '{container.container_name}'", "See 'images: read'.")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(
            f"you may not write to '{container.container_name}' ({code(error)})",
            _role(patient, "Storage Blob Data Contributor"),
        )
    return ok(f"you may write to '{container.container_name}'")


async def rates_left(patient: Patient) -> Finding:
    """Check that nothing waits since a rate of the operator's is used up."""
    found = await rates(patient.account, datetime.now(UTC), await waiting_images(patient.account))
    if found is None:
        return skipped("you may not read the app's notes; only the app needs to", "See 'state: read'.")
    said = " ".join(found.sentences())
    if found.waiting or (found.limit is not None and found.spent >= found.limit):
        return failed(said, "Wait, or raise the setting (docs/trust.md).")
    return ok(said or "nothing waits for a rate")


async def send_requests(patient: Patient) -> Finding:
    """Check the right to send, by a message that asks for nothing and expires within two seconds."""
    queues, name = patient.account.queues, patient.account.place.requests
    if queues is None:
        return skipped("the queue service's address is not known", "Give it with --queue-endpoint.")
    client = queues.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
    try:
        await client.send_message(_NOTHING, visibility_timeout=1, time_to_live=2)
    except ResourceNotFoundError:
        return failed(f"the account has no queue '{name}'", "Create it (docs/deploy.md), or name yours with --queue.")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return failed(
            f"you may not send to '{name}' ({code(error)}): `retry` will not work",
            _role(patient, "Storage Queue Data Message Sender"),
        )
    return ok(f"you may send to '{name}'")


async def waiting(patient: Patient) -> Finding:
    """Count the messages that wait: requests, and work that the app deferred."""
    place, found = patient.account.place, []
    for name in (place.requests, place.deferred):
        count = await _count(patient, name)
        if isinstance(count, Finding):
            return count
        found.append(f"{counted(count, 'message')} on '{name}'")
    return ok(" and ".join(found))


async def poison(patient: Patient) -> Finding:
    """Count the messages that used up their deliveries. The app empties these queues."""
    found = []
    place = patient.account.place
    for name in ("webjobs-blobtrigger-poison", f"{place.requests}-poison", f"{place.deferred}-poison"):
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
    return ok("no message used up its deliveries")


async def dead_letters(patient: Patient) -> Finding:
    """Count the events that Event Grid gave up on. The app queues their images, so this is for information only."""
    container = patient.account.blobs.get_container_client(DEAD_LETTERS)
    number, newest = 0, None
    try:
        async for blob in container.list_blobs():
            number += 1
            newest = max(newest or blob.last_modified, blob.last_modified)
    except ResourceNotFoundError:
        return ok(f"no container '{DEAD_LETTERS}', so Event Grid gave up no event")
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return skipped(
            f"you may not list '{DEAD_LETTERS}'; only the app needs to", _role(patient, "Storage Blob Data Reader")
        )
    if newest is None:
        return ok("Event Grid gave up no event")
    return ok(
        f"{counted(number, 'dead letter')}, the newest of {newest:%Y-%m-%d %H:%M} UTC: the app's timer queues their"
        " images"
    )


async def _count(patient: Patient, name: str) -> int | Finding:
    """Return about how many messages a queue holds, or why that is not known."""
    queues = patient.account.queues
    if queues is None:
        return skipped("the queue service's address is not known", "Give it with --queue-endpoint.")
    try:
        properties = await queues.get_queue_client(name).get_queue_properties()
    except ResourceNotFoundError:
        place = patient.account.place
        options = {place.requests: "--queue", place.deferred: "--deferred-queue"}
        if name in options:
            return failed(
                f"the account has no queue '{name}'",
                f"Create it (docs/deploy.md), or name yours with {options[name]}.",
            )
        return 0  # the host creates it with the first message
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        return skipped(f"you may not read '{name}'; only the app needs to", _role(patient, "Storage Queue Data Reader"))
    return properties.approximate_message_count or 0


def _role(patient: Patient, role: str) -> str:
    return (
        f"You need the role '{role}' on {patient.account_name} (docs/deploy.md). {_NEW_ROLE} If you have it, the"
        " account's firewall blocks you."
    )
