"""The storage SDK's errors, translated into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)

from pipeline.errors import OperatorFailure, RetryableFailure
from pipeline.one_line import short
from pipeline.storage.facts import ContainerMissing

READER = "Storage Blob Data Reader"
"""The role for containers that the app only reads."""
MOST_OF_WHAT = 300
"""Characters of what was being done; a blob's name alone may have 1,024."""

_LOST_RACE = frozenset({"ConditionNotMet", "TargetConditionNotMet", "BlobAlreadyExists"})
_REFUSED_BY_STATE = {
    "LeaseIdMissing": "another client holds a lease on it: break the lease",
    "BlobImmutableDueToPolicy": "an immutability policy or a legal hold protects it: exempt the container, or wait",
    "BlobArchived": "it is in the archive tier: delete it, or set its tier to hot or cool",
    "ContainerBeingDeleted": "its container is being deleted: create it again in a minute",
}
"""Refusals of a conditional write other than a lost race, and what to do about each.
https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"""


def is_lost_race(error: HttpResponseError) -> bool:
    """Whether a conditional write was refused because the blob is not as the condition says.

    A lease and an immutability policy answer with the same statuses, 409 and 412.
    """
    return code_of(error) in _LOST_RACE


def require_container(error: ResourceNotFoundError, container: str) -> None:
    """Raise ContainerMissing if it was the container that is missing, not the blob."""
    if code_of(error) == "ContainerNotFound":
        raise ContainerMissing(container) from error


@contextmanager
def translated(what: str, role: str = "Storage Blob Data Contributor") -> Iterator[None]:
    """Raise the storage SDK's errors as ours; `what` says what was being done, `role` which role it takes."""
    what = short(what, MOST_OF_WHAT)
    try:
        yield
    except ClientAuthenticationError as error:
        raise OperatorFailure(
            f"The storage account refused the app's identity for {what}: give it the role '{role}' on the account"
            f" ({code_of(error)})."
        ) from error
    except HttpResponseError as error:
        code = code_of(error)
        if code.startswith("KeyVault"):
            raise OperatorFailure(
                f"Storage can't use its own encryption key for {what}: restore the account's access to the key in Key"
                f" Vault ({code}).",
                status=error.status_code,
            ) from error
        if error.status_code == 403:
            raise OperatorFailure(
                f"The app's identity may not do this: {what}. Give it the role '{role}' on the storage account, and"
                f" check the account's firewall ({code}).",
                status=403,
            ) from error
        if cure := _REFUSED_BY_STATE.get(code):
            raise OperatorFailure(f"Storage refuses {what}: {cure} ({code}).", status=error.status_code) from error
        raise RetryableFailure(f"Storage failed at {what} ({code}).", status=error.status_code) from error
    except AzureError as error:
        raise RetryableFailure(f"Storage can't be reached for {what} ({code_of(error)}).") from error


def code_of(error: AzureError) -> str:
    """The service's error code; where it gave none, the first line of the SDK's message."""
    code = getattr(error, "error_code", None)  # an enum's member, or text for codes that the SDK does not know
    code = getattr(code, "value", code)
    return str(code) if code else short(error.message.partition("\n")[0], MOST_OF_WHAT)
