"""The parts of one process, put together: clients that live as long as it does, and what works with them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential, get_bearer_token_provider
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry
from azure.storage.queue.aio import QueueServiceClient

from pipeline.batches.batches import Batches
from pipeline.batches.collecting import Collector
from pipeline.batches.service import BatchService
from pipeline.images.allocator import return_freed_memory
from pipeline.job.analysis import Analyzer
from pipeline.job.answering import VisionModel
from pipeline.job.batched import BatchLane
from pipeline.job.last_resort import LastResort
from pipeline.job.places import Place, Places
from pipeline.job.public import Allowed
from pipeline.job.rationed import RationedModel
from pipeline.model.azure_openai import TOKEN_SCOPE, AzureOpenAIModel
from pipeline.pacing.gauges import watch
from pipeline.pacing.governor import Governor
from pipeline.pacing.rates import DailyTokens
from pipeline.settings import Settings
from pipeline.storage.claims import Claims
from pipeline.storage.facts import first_read_bytes
from pipeline.storage.lines import Lines
from pipeline.storage.marks import QueuedMarks
from pipeline.storage.notes import Notes
from pipeline.storage.queue import MessageQueue
from pipeline.storage.results import Results
from pipeline.storage.shards import Shards
from pipeline.storage.spending import Spending
from pipeline.storage.uploads import Uploads
from pipeline.triggers.deliveries import Deliveries
from pipeline.triggers.lanes import Lanes
from pipeline.triggers.messages import Messages
from pipeline.triggers.poison import Poison
from pipeline.upkeep.readiness import Readiness
from pipeline.upkeep.reconcile import Reconciler
from pipeline.upkeep.redrive import Redriver

PATIENCE_SECONDS = 30
"""How long an image waits for memory, and then in memory for its turn at the model; one that would wait longer goes
back to the queue."""
REREAD_POLLS = 5
"""Polls for which a batch's file is read again where lines of it can't be read."""
LINE_BLOCK_BYTES = 4 * 1024 * 1024
"""Of a blob that is written in several requests: a line of a batch may have 43 MB."""


@dataclass(frozen=True, slots=True)
class App:
    """The parts that the functions call."""

    analyzer: Analyzer
    messages: Messages
    poison: Poison
    reconciler: Reconciler
    readiness: Readiness
    batches: Batches


class _Stores:
    """What is in storage."""

    def __init__(self, config: Settings, blobs: BlobServiceClient, queues: QueueServiceClient) -> None:
        state, instructions = config.state_container, config.instructions_container
        self.blobs = blobs
        self.uploads = Uploads(blobs, config.input_container)
        self.instructions = Uploads(blobs, instructions) if instructions else None
        self.results = Results(blobs, config.output_container)
        trials = config.trials_container
        self.places = Places(
            Place(self.uploads, self.results), trials=Place(Uploads(blobs, trials), Results(blobs, trials))
        )
        self.claims = Claims(blobs, state, config.claim_seconds)
        self.marks = QueuedMarks(blobs, state)
        self.lines = Lines(blobs, state)
        self.shards = Shards(blobs, state)
        self.notes = Notes(blobs, state)
        self.spending = Spending(blobs, state)
        self.deferred = MessageQueue(queues, config.deferred_queue)
        self.requests = MessageQueue(queues, config.requests_queue)


def composed(config: Settings) -> App:
    """The app. To be called on the event loop on which it runs."""
    return_freed_memory()
    credential, blobs, queues = _clients(config)
    stores = _Stores(config, blobs, queues)
    token = get_bearer_token_provider(credential, TOKEN_SCOPE)
    governor = Governor(most_in_flight=config.max_concurrency, patience=PATIENCE_SECONDS)
    watch(governor)
    tokens = DailyTokens(config.tokens_per_day, stores.spending) if config.tokens_per_day is not None else None
    analyzer = _analyzer(config, stores, _model(config, token, governor, tokens), tokens)
    last_resort = LastResort(config.openai_deployment, stores.places, stores.claims)
    deliveries = Deliveries(
        analyzer,
        last_resort,
        stores.deferred,
        stores.marks,
        governor,
        lanes=Lanes.of(config),
        retry_for=config.retry_for_seconds,
        tokens=tokens,
    )
    allowed = Allowed(questions=config.questions_by_message, redrives=config.requests_may_redrive)
    redriver = Redriver(blobs, stores.results, stores.deferred, stores.marks, images=config.input_container)
    return App(
        analyzer,
        Messages(deliveries, last_resort, redriver, stores.deferred, places=stores.places, allowed=allowed),
        Poison(deliveries, last_resort, stores.deferred, places=stores.places, allowed=allowed),
        _reconciler(config, stores),
        Readiness(config, stores.notes, stores.uploads, stores.results, stores.deferred, stores.requests),
        _batches(config, stores, token, tokens),
    )


def _analyzer(config: Settings, stores: _Stores, model: VisionModel, tokens: DailyTokens | None) -> Analyzer:
    return Analyzer(
        config,
        stores.places,
        stores.claims,
        model,
        batch_lane=BatchLane(
            model, stores.lines, config.batch_deployment, tokens, host=urlsplit(config.openai_endpoint).hostname
        ),
        instruction_files=stores.instructions,
        patience=PATIENCE_SECONDS,
    )


def _model(
    config: Settings, token: Callable[[], Awaitable[str]], governor: Governor, tokens: DailyTokens | None
) -> VisionModel:
    """The model of the app's deployments, held to the day's `tokens`."""
    model = AzureOpenAIModel(config.openai_endpoint, token, config.model_timeout_seconds, governor)
    return RationedModel(model, tokens) if tokens else model


def _reconciler(config: Settings, stores: _Stores) -> Reconciler:
    return Reconciler(
        stores.blobs,
        stores.results,
        stores.deferred,
        stores.requests,
        stores.marks,
        images=config.input_container,
        state=config.state_container,
        dead_letters=config.dead_letter_container,
    )


def _batches(
    config: Settings, stores: _Stores, token: Callable[[], Awaitable[str]], tokens: DailyTokens | None
) -> Batches:
    timeout = max(10.0, float(config.batch_poll_seconds))
    service = BatchService(config.openai_endpoint, token, timeout)
    return Batches(
        service=service,
        tokens=tokens,
        lines=stores.lines,
        shards=stores.shards,
        collector=Collector(
            service,
            stores.lines,
            stores.claims,
            stores.deferred,
            stores.marks,
            reread_for=REREAD_POLLS * config.batch_poll_seconds,
        ),
        wait=config.batch_wait_seconds,
        poll=config.batch_poll_seconds,
        lost_after=1.5 * timeout,
    )


def _clients(config: Settings) -> tuple[AsyncTokenCredential, BlobServiceClient, QueueServiceClient]:
    """The app's identity, and one client for each storage service."""
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
        max_single_put_size=LINE_BLOCK_BYTES,
        max_block_size=LINE_BLOCK_BYTES,
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
