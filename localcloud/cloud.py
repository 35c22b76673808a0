"""The whole cloud: starts its parts in the order of their dependencies, set up as infra/bicep sets up Azure."""

import base64
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from localcloud.app_storage import AppStorage, StorageWatch
from localcloud.azurite import Azurite
from localcloud.certificates import Certificates
from localcloud.event_grid import Event, EventGrid, Fault, WebHook
from localcloud.front import StorageFront
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import IdentityEndpoint
from localcloud.model import SMALL, Brain, Deployment, LocalModel

DATA_ACCOUNT = "devstoreaccount1"
DATA_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key of `UseDevelopmentStorage=true`, published with the emulator.
https://learn.microsoft.com/azure/storage/common/storage-connect-azurite"""

HOST_ACCOUNT = "hoststorage"
DEPLOYMENT = "vision"
SMALL_DEPLOYMENT = "vision-small"  # another model, which reads less
BATCH_DEPLOYMENT = "vision-batch"  # takes batches only, as the other one takes none
CONTAINERS = ("images", "results", "pipeline-state", "trials")
QUEUES = (
    "analysis-requests",
    "analysis-requests-poison",
    "deferred-work",
    "deferred-work-poison",
    "webjobs-blobtrigger-poison",
)

# Event Grid raises several events for a blob that is uploaded in pieces; these calls complete one.
COMPLETING_CALLS = ("PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose")


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1; 0 is any free one."""

    blob: int = 0
    queue: int = 0
    functions: int = 0


@dataclass(slots=True, kw_only=True)
class LocalCloud:
    """Everything, alive inside `async with`.

    Attributes:
        directory: for certificates and the emulator's data unless it is `in_memory`.
        app: the folder that holds function_app.py and host.json.
        log: the functions host's log file; None is this process's stderr.
        settings: app settings that override the ones below; None removes one.
        brain: answers questions about pictures; None is the one that reads their text.
        upstream: base URL of an OpenAI-compatible server that answers instead.
        event_faults: faults in the delivery of events; None is without faults.
        storage_watch: sees, and may refuse, the app's requests to its data account; None is without a proxy.
    """

    directory: Path
    app: Path
    log: Path | None = None
    in_memory: bool = True
    ports: Ports = Ports()
    settings: Mapping[str, str | None] = field(default_factory=dict)
    brain: Brain | None = None
    upstream: str | None = None
    event_faults: Callable[[Event], Fault] | None = None
    storage_watch: StorageWatch | None = None

    certificates: Certificates = field(init=False)
    identity: IdentityEndpoint = field(init=False)
    azurite: Azurite = field(init=False)
    model: LocalModel = field(init=False)
    front: StorageFront = field(init=False)
    events: EventGrid = field(init=False)
    functions: FunctionsHostProcess = field(init=False)
    _watched: dict[str, str] = field(init=False, default_factory=dict)
    """Settings that make the app bypass the watch."""
    _stack: AsyncExitStack = field(init=False, default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        for folder in (self.directory, *([self.log.parent] if self.log else [])):
            folder.mkdir(parents=True, exist_ok=True)
        self.certificates = Certificates.load_or_create(self.directory / "certificates")
        self.identity = await stack.enter_async_context(IdentityEndpoint())
        accounts = {DATA_ACCOUNT: DATA_KEY, HOST_ACCOUNT: base64.b64encode(secrets.token_bytes(64)).decode()}
        self.azurite = await stack.enter_async_context(
            Azurite(self.directory / "azurite", self.certificates, accounts, in_memory=self.in_memory)
        )
        if self.storage_watch is not None:
            for service, target in (("blob", self.azurite.blob_url), ("queue", self.azurite.queue_url)):
                proxy = AppStorage(target(DATA_ACCOUNT), self.certificates, self.identity, self.storage_watch)
                self._watched[f"DataStorage__{service}ServiceUri"] = (await stack.enter_async_context(proxy)).url
        self.model = await stack.enter_async_context(
            LocalModel(
                self.certificates,
                verify=self._verify_model_token,
                brain=self.brain,
                upstream=self.upstream,
                deployments=(
                    DEPLOYMENT,
                    Deployment(SMALL_DEPLOYMENT, model=SMALL),
                    Deployment(BATCH_DEPLOYMENT, "GlobalBatch"),
                ),
            )
        )
        self.events = await stack.enter_async_context(EventGrid(faults=self.event_faults))
        self.front = await stack.enter_async_context(
            StorageFront(
                self.azurite.blob_url(DATA_ACCOUNT),
                self.azurite.queue_url(DATA_ACCOUNT),
                self.certificates,
                {DATA_ACCOUNT: DATA_KEY},
                self.events.publish,
                blob_port=self.ports.blob,
                queue_port=self.ports.queue,
            )
        )
        await self._create_containers_and_queues()
        self.functions = await stack.enter_async_context(
            FunctionsHostProcess(self.app, self.app_settings(), port=self.ports.functions, log=self.log)
        )
        await self.events.subscribe(
            "analyze-image",
            WebHook(self.functions.webhook_url("analyze_image")),
            subject_begins_with="/blobServices/default/containers/images/blobs/",
            included_event_types=("Microsoft.Storage.BlobCreated",),
            apis=COMPLETING_CALLS,
        )

    def _verify_model_token(self, token: str) -> dict[str, Any]:
        return self.identity.verify(token, "https://cognitiveservices.azure.com")

    def app_settings(self) -> dict[str, str]:
        """The function app's environment: addresses and an identity, but no key."""
        settings: dict[str, str | None] = {
            "FUNCTIONS_EXTENSION_VERSION": "~4",
            "INPUT_CONTAINER": "images",
            "OUTPUT_CONTAINER": "results",
            "TRIALS_CONTAINER": "trials",
            "STATE_CONTAINER": "pipeline-state",
            "REQUESTS_QUEUE": "analysis-requests",
            "DEFERRED_QUEUE": "deferred-work",
            "AZURE_CLIENT_ID": self.identity.client_id,
            "AZURE_OPENAI_ENDPOINT": self.model.endpoint,
            "AZURE_OPENAI_DEPLOYMENT": DEPLOYMENT,
            "ALLOWED_DEPLOYMENTS": f"{DEPLOYMENT},{SMALL_DEPLOYMENT}",
            "BATCH_DEPLOYMENT": BATCH_DEPLOYMENT,
            "BATCH_WAIT_SECONDS": "2",
            "BATCH_POLL_SECONDS": "2",
            # One bundle, two names: requests reads the first, the standard library's ssl the second.
            "REQUESTS_CA_BUNDLE": str(self.certificates.bundle),
            "SSL_CERT_FILE": str(self.certificates.bundle),
            **self.identity.environment(),
        }
        for connection, account in (("DataStorage", DATA_ACCOUNT), ("AzureWebJobsStorage", HOST_ACCOUNT)):
            settings |= {
                f"{connection}__blobServiceUri": self.azurite.blob_url(account),
                f"{connection}__queueServiceUri": self.azurite.queue_url(account),
                f"{connection}__credential": "managedidentity",
                f"{connection}__clientId": self.identity.client_id,
            }
        settings |= self._watched
        settings |= self.settings
        return {name: value for name, value in settings.items() if value is not None}

    async def _create_containers_and_queues(self) -> None:
        """Create what infra/bicep creates in Azure. The operator does this, with the account's key."""
        async with (
            BlobServiceClient.from_connection_string(self.front.connection_string) as blobs,
            QueueServiceClient.from_connection_string(self.front.connection_string) as queues,
        ):
            for container in CONTAINERS:
                with suppress(ResourceExistsError):
                    await blobs.create_container(container)
            for queue in QUEUES:
                with suppress(ResourceExistsError):
                    await queues.create_queue(queue)
