"""The storage account with images and results, and the sign-in to it.

An account is named in one of three ways:

    --account NAME or ADDRESS     in Azure, as whom `az login` (or the machine's managed identity) signed in
    --local                       the cloud that `make up` runs on this machine
    --connection-string TEXT      for example for the emulator on other ports

The environment can name it once: BLOBSIGHT_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING. The variables that
`azd env get-values` prints are understood too.
"""

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate
from urllib.parse import urlsplit

import click
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.storage.blob.aio import BlobServiceClient, ContainerClient, ExponentialRetry
from azure.storage.queue.aio import QueueServiceClient

from blobsight.hosts import STORAGE, require_trusted
from blobsight.terminal import Trouble, Unknown, shortened
from pipeline.errors import RetryableFailure
from pipeline.storage.queue import MessageQueue

EMULATOR = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
)
"""The meaning of UseDevelopmentStorage=true, a short form that this SDK does not know. The key is a published one.
https://learn.microsoft.com/azure/storage/common/storage-connect-azurite"""

FIRST_READ_BYTES = 4 * 1024 * 1024
"""Bytes that the first request of a download reads. It also returns the size, so a blob that is too large is read no
further. Nearly every result fits."""

STORAGE_SCOPE = "https://storage.azure.com/.default"
NOT_SIGNED_IN = "You are not signed in to Azure: run `az login`, or give --local for the local cloud."
ACCOUNT_VARIABLES = ("BLOBSIGHT_ACCOUNT", "AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ACCOUNT")
CONNECTION_STRING_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"

_NAME = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An account by name, and the containers and queues in it that Blobsight uses."""

    account: str | None
    """Its name, or the address of its blob service; None with a connection string."""
    connection_string: str | None
    queue_endpoint: str | None
    images: str
    results: str
    state: str
    requests: str
    deferred: str = "deferred-work"
    """The app's own queue, which is only counted."""
    trials: str = "trials"
    trusted_hosts: tuple[str, ...] = ()
    """Hosts that get the sign-in's token though they are not Azure's."""

    @property
    def blob_url(self) -> str | None:
        """The address of the blob service; None with a connection string, which holds it."""
        if self.account is None:
            return None
        return f"https://{self.account}.blob.core.windows.net" if _NAME.fullmatch(self.account) else self.account

    @property
    def queue_url(self) -> str | None:
        """The address of the queue service; None if it is neither given nor follows from the account's."""
        if self.queue_endpoint is not None or self.blob_url is None:
            return self.queue_endpoint
        url = urlsplit(self.blob_url)
        name, dot, rest = url.netloc.partition(".blob.")
        return f"{url.scheme}://{name}.queue.{rest}" if dot else None

    @asynccontextmanager
    async def opened(self, *, sign_in: bool = True) -> AsyncIterator["Account"]:
        """Open the account, with clients that live as long as the context.

        Args:
            sign_in: get a token first. Without a sign-in that fails at once, where the clients would retry for long.

        Raises:
            Trouble: an error of the account or its storage inside the context, explained to the person.
        """
        with explained(self):
            async with AsyncExitStack() as stack:
                account = await self._open(stack)
                if sign_in and account.credential is not None:
                    await account.credential.get_token(STORAGE_SCOPE)
                yield account

    @property
    def is_here(self) -> bool:
        """Whether the account is on this machine."""
        return "://127.0.0.1" in (self.connection_string or self.account or "")

    async def _open(self, stack: AsyncExitStack) -> "Account":
        # The default waits 15 s before its first retry. On this machine a closed port stays closed: no retry.
        connects = 0 if self.is_here else 3
        retry_policy = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, retry_connect=connects)
        options: dict[str, Any] = {"retry_policy": retry_policy, "permit_redirects": False}
        of_blobs: dict[str, Any] = {"max_single_get_size": FIRST_READ_BYTES, "max_chunk_get_size": FIRST_READ_BYTES}
        credential: AsyncTokenCredential | None = None
        queues: QueueServiceClient | None
        if self.connection_string is not None:
            try:
                blobs = BlobServiceClient.from_connection_string(self.connection_string, **options, **of_blobs)
                queues = QueueServiceClient.from_connection_string(self.connection_string, **options)
            except ValueError:  # the SDK's message may repeat the key
                raise Trouble(
                    "That is not a storage connection string. It should look like"
                    " AccountName=…;AccountKey=…;BlobEndpoint=…."
                ) from None
        else:
            # It takes a fifth of a second, which a connection string does without.
            from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

            credential = await stack.enter_async_context(DefaultAzureCredential())
            blobs = BlobServiceClient(str(self.blob_url), credential, **options, **of_blobs)
            queues = QueueServiceClient(self.queue_url, credential, **options) if self.queue_url else None
        await stack.enter_async_context(blobs)
        if queues is not None:
            await stack.enter_async_context(queues)
        return Account(self, blobs, queues, credential)


@dataclass(frozen=True, slots=True)
class Account:
    """An open account."""

    place: Place
    blobs: BlobServiceClient
    queues: QueueServiceClient | None
    credential: AsyncTokenCredential | None
    """None with a connection string."""

    @property
    def images(self) -> ContainerClient:
        return self.blobs.get_container_client(self.place.images)

    @property
    def results(self) -> ContainerClient:
        return self.blobs.get_container_client(self.place.results)

    @property
    def state(self) -> ContainerClient:
        return self.blobs.get_container_client(self.place.state)

    @property
    def trials(self) -> ContainerClient:
        return self.blobs.get_container_client(self.place.trials)

    @property
    def requests(self) -> MessageQueue:
        """The app's request queue.

        Raises:
            Trouble: the address of the queue service is not known.
        """
        if self.queues is None:
            raise Trouble(
                f"The address of {self.place.account}'s queue service is not known: give it with --queue-endpoint."
            )
        return MessageQueue(self.queues, self.place.requests)


def account_options[**P, R](command: Callable[Concatenate[Place, P], R]) -> Callable[P, R]:
    """Give a command the options that name an account. They reach it as a `Place`, its first argument."""

    def with_place(*args: P.args, **options: P.kwargs) -> R:
        own, given = _apart(options)
        return command(_place(given), *args, **own)

    return _with_options(command, with_place)


def optional_account[**P, R](command: Callable[Concatenate[Place | None, P], R]) -> Callable[P, R]:
    """Give a command the same options where it can run without an account: it gets None when none is named."""

    def with_place(*args: P.args, **options: P.kwargs) -> R:
        own, given = _apart(options)
        place = _place(given) if _is_named(given) else None
        return command(place, *args, **own)

    return _with_options(command, with_place)


def _apart(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into (the command's own, those that name an account)."""
    own = {name: value for name, value in options.items() if name not in _NAMES}
    return own, {name: options[name] for name in _NAMES}


def _with_options[**P, R](command: Callable[..., R], given: Callable[P, R]) -> Callable[P, R]:
    given = wraps(command)(given)
    for option in reversed(_OPTIONS):
        given = option(given)
    return given


_NAMES = (
    "account",
    "connection_string",
    "local",
    "trusted_hosts",
    "queue_endpoint",
    "images",
    "results",
    "state",
    "requests",
    "deferred",
    "trials",
)
_OPTIONS = (
    click.option("-a", "--account", help="Storage account in Azure: its name or the address of its blob service."),
    click.option("--connection-string", help="Instead of an account, for an emulator."),
    click.option("--local", is_flag=True, help="The cloud that `make up` runs on this machine."),
    click.option(
        "--trust-host",
        "trusted_hosts",
        multiple=True,
        metavar="HOST",
        envvar="BLOBSIGHT_TRUST_HOST",
        help="Send your sign-in's token to this host too, which is not one of Azure's.",
    ),
    click.option(
        "--queue-endpoint",
        envvar="AZURE_STORAGE_QUEUE_ENDPOINT",
        help="Address of the queue service, where it does not follow from the account's.",
    ),
    click.option(
        "--images",
        envvar=["BLOBSIGHT_INPUT_CONTAINER", "INPUT_CONTAINER"],
        default="images",
        show_default=True,
        help="Container where images are dropped.",
    ),
    click.option(
        "--results",
        envvar=["BLOBSIGHT_OUTPUT_CONTAINER", "OUTPUT_CONTAINER"],
        default="results",
        show_default=True,
        help="Container where results appear.",
    ),
    click.option("--state", envvar="STATE_CONTAINER", default="pipeline-state", hidden=True),
    click.option(
        "--queue",
        "requests",
        envvar=["BLOBSIGHT_REQUESTS_QUEUE", "REQUESTS_QUEUE"],
        default="analysis-requests",
        hidden=True,
    ),
    click.option(
        "--deferred-queue",
        "deferred",
        envvar=["BLOBSIGHT_DEFERRED_QUEUE", "DEFERRED_QUEUE"],
        default="deferred-work",
        hidden=True,
    ),
    click.option("--trials", envvar=["BLOBSIGHT_TRIALS_CONTAINER", "TRIALS_CONTAINER"], default="trials", hidden=True),
)


def _place(given: Mapping[str, Any]) -> Place:
    account, connection_string, local = (given[name] for name in _NAMES[:3])
    named = [account is not None, connection_string is not None, local]
    if sum(named) > 1:
        raise click.UsageError("--account, --connection-string and --local name different accounts: give one of them.")
    if not any(named):
        account, connection_string = _from_environment(os.environ)
    if local:
        connection_string = EMULATOR
    if connection_string is not None and connection_string.strip().rstrip(";") == "UseDevelopmentStorage=true":
        connection_string = EMULATOR
    if account is not None:
        account = _checked(account)
    names = {name: given[name] for name in _NAMES[3:]}
    place = Place(account=account, connection_string=connection_string, **names)
    if account is not None:
        for url, option in ((place.blob_url, "--account"), (place.queue_url, "--queue-endpoint")):
            require_trusted(url or "", STORAGE, place.trusted_hosts, option)
    return place


def _is_named(given: Mapping[str, Any]) -> bool:
    named = any(given[name] for name in _NAMES[:3])
    return named or any(os.environ.get(name, "").strip() for name in (*ACCOUNT_VARIABLES, CONNECTION_STRING_VARIABLE))


def _from_environment(environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    accounts = {name: value for name in ACCOUNT_VARIABLES if (value := environment.get(name, "").strip())}
    connection_string = environment.get(CONNECTION_STRING_VARIABLE, "").strip()
    if accounts and connection_string:
        raise click.UsageError(
            f"{next(iter(accounts))} and {CONNECTION_STRING_VARIABLE} are both set and may name two accounts: unset"
            " one of them, or give --account, --connection-string or --local."
        )
    if not accounts and not connection_string:
        raise click.UsageError(
            "No storage account is named. Give --account NAME for one in Azure, or --local for the cloud that"
            " `make up` runs on this machine; or set BLOBSIGHT_ACCOUNT."
        )
    return next(iter(accounts.values()), None), connection_string or None


def _checked(account: str) -> str:
    """Return the account's name or address, checked to hold no secret."""
    if _NAME.fullmatch(account):
        return account
    try:
        url = urlsplit(account)
        local = url.hostname in ("127.0.0.1", "localhost")
        good = bool(url.hostname) and (url.scheme == "https" or (url.scheme == "http" and local))
    except ValueError:
        good = False
    if not good or url.query or url.fragment or url.username or url.password:
        # The value may be a pasted secret: don't repeat it.
        raise click.BadParameter(
            "that is not a storage account. Give its name, 3 to 24 lowercase letters and digits, or an address such as"
            " https://myaccount.blob.core.windows.net, without a key or a SAS.",
            param_hint="--account",
        )
    return account.rstrip("/")


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turn the storage SDK's errors into a `Trouble` that explains them to the person."""
    try:
        try:
            yield
        except ExceptionGroup as group:  # of concurrent tasks, which fail for the same reason
            error = _first(group)
            raise error from error.__cause__
    except (AzureError, RetryableFailure) as error:
        cause = of_the_sdk(error)
        if cause is None:
            raise Trouble(str(error)) from error
        raise Trouble(_explanation(cause, place), service_code(cause)) from error


def of_the_sdk(error: AzureError | RetryableFailure) -> AzureError | None:
    """The SDK's error behind `error`, if any. The pipeline's own message on it is about the app's identity."""
    cause = error.__cause__ if isinstance(error, RetryableFailure) else error
    return cause if isinstance(cause, AzureError) else None


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _explanation(error: AzureError, place: Place) -> str:  # noqa: PLR0911 - one for each meaning
    from azure.identity import CredentialUnavailableError  # noqa: PLC0415 - as above

    where = place.account or ("the emulator" if place.is_here else "the account")
    match error:
        case CredentialUnavailableError():
            return NOT_SIGNED_IN
        case ClientAuthenticationError(status_code=None):  # no service answered: no sign-in gave a token
            return NOT_SIGNED_IN
        case ClientAuthenticationError():
            return (
                f"{where} does not accept your sign-in ({code(error)}). Run `az login` with an account of its tenant,"
                " or, with a connection string, check its key."
            )
        case ResourceNotFoundError() if code(error) == "ContainerNotFound":
            return (
                f"{where} has no container '{place.images}' or '{place.results}': create them (docs/deploy.md), or"
                " name yours with --images and --results."
            )
        case ResourceNotFoundError() if code(error) == "QueueNotFound":
            return f"{where} has no queue '{place.requests}': create it (docs/deploy.md), or name yours with --queue."
        case HttpResponseError(status_code=403):
            return (
                f"{where} does not let you do this ({code(error)}). You need the role 'Storage Blob Data Contributor',"
                " and to queue requests 'Storage Queue Data Message Sender'; a new role takes effect within ten"
                " minutes. If you have the roles, the account's firewall blocks you."
            )
        case HttpResponseError():
            return f"{where} answered with an error: {code(error)}. Try again."
        case ServiceRequestError():
            hint = "Is `make up` running?" if place.is_here else "Check its name and that this machine is online."
            return f"{where} can't be reached ({_first_line(error)}). {hint}"
        case _:
            return f"{where}: the connection failed ({_first_line(error)}). Try again."


_CURES = {
    "BlobArchived": (
        "it is in the archive tier and can't be read: set its tier to Hot or Cool, wait until it is rehydrated (up to"
        " 15 hours), and run this again"
    ),
    "BlobBeingRehydrated": "it is being rehydrated from the archive tier (up to 15 hours): run this again afterwards",
    "BlobUsesCustomerSpecifiedEncryption": (
        "it is encrypted with a key that only its uploader has: have it uploaded again without one"
    ),
    "BlobImmutableDueToPolicy": "an immutability policy or a legal hold protects it: exempt the container, or wait",
    "LeaseIdMissing": "another program holds a lease on it: break the lease, and run this again",
    "BlobNotFound": "it has been deleted meanwhile",
}
"""Refusals of one blob, and what to do about each.
https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"""


def about_blob(error: AzureError | RetryableFailure, doing: str = "read") -> Unknown:
    """Explain to the person why one blob could not be `doing` ("read", "sent", …)."""
    cause = of_the_sdk(error)
    if cause is None:
        return Unknown(str(error))
    named, status = service_code(cause), getattr(cause, "status_code", None)
    if named in _CURES:
        reason = _CURES[named]
    elif isinstance(cause, ResourceNotFoundError):  # the answer to a HEAD may name no code
        reason = _CURES["BlobNotFound"]
    elif status == 403:
        reason = f"you have no role that allows it to be {doing} ({code(cause)})"
    elif may_affect_all(cause):
        reason = f"it could not be {doing} ({code(cause)}): run this again"
    else:
        reason = f"the service does not allow it to be {doing} ({code(cause)})"
    return Unknown(reason, named)


def affects_all(error: AzureError) -> bool:
    """Whether a failure at one blob means that all others fail too."""
    if isinstance(error, ClientAuthenticationError):
        return getattr(error, "status_code", None) in (None, 401)
    return service_code(error) in (
        "AccountIsDisabled",
        "ContainerBeingDeleted",
        "ContainerNotFound",
        "QueueBeingDeleted",
        "QueueNotFound",
    )


def may_affect_all(error: AzureError) -> bool:
    """Whether other blobs may fail too: a missing right, no connection, a service that is busy or broken."""
    status = getattr(error, "status_code", None)
    return isinstance(error, ClientAuthenticationError) or status is None or status in (403, 408, 429) or status >= 500


def service_code(error: AzureError) -> str | None:
    """The service's own name of an error, if it gave one."""
    named = getattr(error, "error_code", None)  # an enum's member, or text for codes that the SDK does not know
    named = getattr(named, "value", named)
    return str(named) if named else None


def code(error: AzureError) -> str:
    """The service's name of an error, or what was said of it."""
    return service_code(error) or _first_line(error)


def _first_line(error: BaseException) -> str:
    return shortened(str(error).partition("\n")[0]) or type(error).__name__
