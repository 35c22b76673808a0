"""One process of the app: its settings, and the clients that live as long as it does."""

import asyncio
import logging
import os
from functools import cache
from typing import TYPE_CHECKING

from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.analysis import Analyzer

logger = logging.getLogger(__name__)


class InvocationCancelled(Exception):
    """The invocation was cancelled.

    The worker catches only ordinary exceptions: a CancelledError would leave the host without a response, waiting
    for its time-out.
    """


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: at the app's start, which fails with it.
    """
    return Settings.from_environment(os.environ)


@cache
def analyzer() -> "Analyzer":
    """The one analyzer of this process, with one credential and one client for each service.

    It is built by the first invocation, on the event loop that runs them all: its imports take the better
    part of a second, and a cold start of Azure Functions has to index the app long before that.
    """
    from azure.identity.aio import (
        DefaultAzureCredential,
        ManagedIdentityCredential,
        get_bearer_token_provider,
    )
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

    from pipeline.analysis import Analyzer
    from pipeline.model import TOKEN_SCOPE, AzureOpenAIModel
    from pipeline.storage import FIRST_READ_BYTES, Results, Uploads

    # Both log every request, URLs included, at the level that the platform records.
    for chatty in ("azure.core.pipeline.policies.http_logging_policy", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    config = settings()
    credential = (
        ManagedIdentityCredential(client_id=config.identity_client_id)
        if config.storage_credential
        else DefaultAzureCredential()
    )
    storage = BlobServiceClient(
        config.blob_service_uri,
        credential,
        max_single_get_size=FIRST_READ_BYTES,
        # The default waits 15 s before its first retry, with an image in memory.
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3),
    )
    return Analyzer(
        config,
        Uploads(storage, config.input_container),
        Results(storage, config.output_container),
        AzureOpenAIModel(
            config.openai_endpoint,
            get_bearer_token_provider(credential, TOKEN_SCOPE),
            config.model_timeout_seconds,
        ),
    )


async def analyze_upload(container: str, name: str) -> None:
    """Bring an upload that an event told of to its result.

    Raises:
        RetryableFailure: the host delivers the event again.
        InvocationCancelled: likewise.
    """
    if container != settings().input_container:
        # A subscription without a subject filter sends every container's events, our own results' too.
        logger.warning(
            "Ignored an event of container %s: only uploads to %s are analyzed. Set the event subscription's"
            " subjectBeginsWith filter.",
            container,
            settings().input_container,
        )
        return
    try:
        await analyzer().analyze_upload(name)
    except asyncio.CancelledError:
        raise InvocationCancelled(f"{container}/{name}: cancelled before it was done") from None
