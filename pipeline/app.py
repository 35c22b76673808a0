"""One process of the app: its settings, and what each trigger calls."""

import logging
import os
from functools import cache
from typing import TYPE_CHECKING

from pipeline.one_line import blob_label
from pipeline.settings import Settings
from pipeline.triggers.invocation import uncancelled

if TYPE_CHECKING:
    from pipeline.composition import App

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


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: at the app's start, which fails with it.
    """
    return Settings.from_environment(os.environ)


@cache
def app() -> "App":
    """The one app of this process, with one credential and one client for each service.

    It is put together by the first invocation, on the event loop that runs them all: its imports take the better
    part of a second, and a cold start of Azure Functions has to index the app long before that.
    """
    from pipeline.composition import composed

    return composed(settings())


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


async def run_batches() -> None:
    """Send what waits for a batch, and bring back what batches have answered.

    Raises:
        RetryableFailure, InvocationCancelled: the next run goes on.
    """
    with uncancelled("batches"):
        await app().batches.run()
