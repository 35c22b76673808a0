"""One process of the app: its settings, and the clients that live as long as it does."""

import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pipeline.one_line import blob_label
from pipeline.settings import Settings
from pipeline.triggers.invocation import uncancelled

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import BlobServiceClient
    from azure.storage.queue.aio import QueueServiceClient

    from pipeline.job.analysis import Analyzer
    from pipeline.job.answering import VisionModel
    from pipeline.pacing.governor import Governor
    from pipeline.pacing.rates import DailyTokens
    from pipeline.triggers.messages import Messages
    from pipeline.triggers.poison import Poison
    from pipeline.upkeep.readiness import Readiness
    from pipeline.upkeep.reconcile import Reconciler

# At import, since with telemetry an exporter is at work long before the first invocation. At the level that the
# platform records, each of its transmissions is a line, which it transmits, and so on every second; the SDKs log each
# request, its URL included, and each token. Pillow, at the level that one switches to when something is wrong, logs
# what people wrote into an image's tags.
for _chatty in (
    "azure.core.pipeline.policies.http_logging_policy",
    "azure.identity",
    "azure.monitor.opentelemetry.exporter",
    "httpx2",
    "PIL",
):
    logging.getLogger(_chatty).setLevel(logging.WARNING)

PATIENCE_SECONDS = 30
"""How long an image waits for memory, and then in memory for its turn at the model; one that would wait longer goes
back to the queue."""


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: at the app's start, which fails with it.
    """
    return Settings.from_environment(os.environ)


@dataclass(frozen=True, slots=True)
class App:
    """The parts that the functions call."""

    analyzer: "Analyzer"
    messages: "Messages"
    poison: "Poison"
    reconciler: "Reconciler"
    readiness: "Readiness"


@cache
def app() -> App:
    """The one app of this process, with one credential and one client for each service.

    It is built by the first invocation, on the event loop that runs them all: its imports take the better
    part of a second, and a cold start of Azure Functions has to index the app long before that.
    """
    from pipeline.images.allocator import return_freed_memory
    from pipeline.job.analysis import Analyzer
    from pipeline.job.last_resort import LastResort
    from pipeline.job.public import Allowed
    from pipeline.pacing.gauges import watch
    from pipeline.pacing.governor import Governor
    from pipeline.pacing.rates import DailyTokens
    from pipeline.storage.claims import Claims
    from pipeline.storage.marks import QueuedMarks
    from pipeline.storage.notes import Notes
    from pipeline.storage.queue import MessageQueue
    from pipeline.storage.results import Results
    from pipeline.storage.spending import Spending
    from pipeline.storage.uploads import Uploads
    from pipeline.triggers.deliveries import Deliveries
    from pipeline.triggers.messages import Messages
    from pipeline.triggers.poison import Poison
    from pipeline.upkeep.readiness import Readiness
    from pipeline.upkeep.reconcile import Reconciler
    from pipeline.upkeep.redrive import Redriver

    return_freed_memory()
    config = settings()
    credential, blobs, queues = _clients(config)
    uploads, results = Uploads(blobs, config.input_container), Results(blobs, config.output_container)
    deferred, requests = MessageQueue(queues, config.deferred_queue), MessageQueue(queues, config.requests_queue)
    marks = QueuedMarks(blobs, config.state_container)
    governor = Governor(most_in_flight=config.max_concurrency, patience=PATIENCE_SECONDS)
    watch(governor)
    tokens = None
    if config.tokens_per_day is not None:
        tokens = DailyTokens(config.tokens_per_day, Spending(blobs, config.state_container))
    model = _model(config, credential, governor, tokens)
    claims = Claims(blobs, config.state_container, config.claim_seconds)
    instructions = config.instructions_container
    analyzer = Analyzer(
        config,
        uploads,
        results,
        claims,
        model,
        instruction_files=Uploads(blobs, instructions) if instructions else None,
        patience=PATIENCE_SECONDS,
    )
    last_resort = LastResort(config.openai_deployment, uploads, results, claims)
    deliveries = Deliveries(
        analyzer,
        last_resort,
        deferred,
        marks,
        governor,
        deployments=config.deployments,
        retry_for=config.retry_for_seconds,
        tokens=tokens,
    )
    images = config.input_container
    allowed = Allowed(questions=config.questions_by_message, redrives=config.requests_may_redrive)
    redriver = Redriver(blobs, results, deferred, marks, images=images)
    return App(
        analyzer,
        Messages(deliveries, last_resort, redriver, deferred, images=images, allowed=allowed),
        Poison(deliveries, last_resort, deferred, images=images, allowed=allowed),
        Reconciler(
            blobs,
            results,
            deferred,
            requests,
            marks,
            images=images,
            state=config.state_container,
            dead_letters=config.dead_letter_container,
        ),
        Readiness(Notes(blobs, config.state_container), uploads, results, deferred, requests),
    )


def _model(
    config: Settings, credential: "AsyncTokenCredential", governor: "Governor", tokens: "DailyTokens | None"
) -> "VisionModel":
    """The model of the app's deployments, held to the day's `tokens`."""
    from azure.identity.aio import get_bearer_token_provider

    from pipeline.job.rationed import RationedModel
    from pipeline.model.azure_openai import TOKEN_SCOPE, AzureOpenAIModel

    provider = get_bearer_token_provider(credential, TOKEN_SCOPE)
    model = AzureOpenAIModel(config.openai_endpoint, provider, config.model_timeout_seconds, governor)
    return RationedModel(model, tokens) if tokens else model


def _clients(config: Settings) -> "tuple[AsyncTokenCredential, BlobServiceClient, QueueServiceClient]":
    """The app's identity, and one client for each storage service."""
    from urllib.request import getproxies

    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry
    from azure.storage.queue.aio import QueueServiceClient

    from pipeline.storage.facts import first_read_bytes

    credential = (
        ManagedIdentityCredential(client_id=config.identity_client_id)
        if config.storage_credential
        else DefaultAzureCredential()
    )
    # The default waits 15 s before its first retry, with an image in memory.
    retry_policy = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3)
    # With these, a .netrc file is looked for before each request, in a thread. Only a proxy needs them.
    use_env_settings = bool(getproxies())
    blobs = BlobServiceClient(
        config.blob_service_uri,
        credential,
        max_single_get_size=first_read_bytes(config.image_memory_bytes, config.max_concurrency),
        retry_policy=retry_policy,
        permit_redirects=False,
        transport=AioHttpTransport(use_env_settings=use_env_settings),
    )
    queues = QueueServiceClient(
        config.queue_service_uri,
        credential,
        retry_policy=retry_policy,
        permit_redirects=False,
        transport=AioHttpTransport(use_env_settings=use_env_settings),
    )
    return credential, blobs, queues


async def handle_upload(container: str, name: str) -> None:
    """Handle one BlobCreated event.

    Raises:
        RetryableFailure: storage can't be reached; the host delivers the event again.
        InvocationCancelled: likewise.
    """
    with uncancelled(blob_label(container, name)):
        await app().messages.handle_upload(container, name)


async def handle_request(message: str) -> None:
    """Handle one message of the request queue.

    Raises:
        RetryableFailure, InvocationCancelled: as for `handle_upload`.
    """
    with uncancelled("a request"):
        await app().messages.handle_request(message)


async def handle_deferred(message: str) -> None:
    """Handle one message of the deferred queue.

    Raises:
        InvalidRequest: the app did not write it; the host will call it poison.
        RetryableFailure, InvocationCancelled: as for `handle_upload`.
    """
    with uncancelled("deferred work"):
        await app().messages.handle_deferred(message)


async def handle_poison_upload(message: str) -> None:
    """Take up an upload that the host gave up on.

    Raises:
        RetryableFailure, InvocationCancelled: it can't be queued now.
    """
    with uncancelled("a poison upload"):
        await app().poison.requeue_upload(message)


async def handle_poison_request(message: str) -> None:
    """Take up what a request asks for that the host gave up on.

    Raises:
        RetryableFailure, InvocationCancelled: it can't be queued now.
    """
    with uncancelled("a poison request"):
        await app().poison.requeue_request(message)


async def handle_poison_deferred(message: str) -> None:
    """Write the failed result of deferred work that used up its deliveries.

    Raises:
        RetryableFailure, InvocationCancelled: its result can't be written now.
    """
    with uncancelled("poison work"):
        await app().poison.record_crash(message)


async def reconcile() -> None:
    """Look for uploads whose events were lost.

    Raises:
        RetryableFailure, InvocationCancelled: the next run goes on.
    """
    with uncancelled("reconcile"):
        await app().reconciler.run()


async def note_readiness() -> None:
    """Note whether the app's identity can do what the app needs.

    Raises:
        RetryableFailure, InvocationCancelled: the note can't be written; the next run tries again.
    """
    with uncancelled("readiness"):
        await app().readiness.note()
