"""The app's telemetry: its contents, and what it never holds.

One run of everything, at the most talkative log level, with what production exports through: the worker library's own
set-up of Azure Monitor, with an Entra token, into an ingestion endpoint of ours.
"""

import asyncio
import base64
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueServiceClient
from inline_snapshot import snapshot
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.person import ROOT, People, Person

from localcloud.certificates import Certificates
from localcloud.cloud import DATA_KEY
from localcloud.event_grid import WebHook
from localcloud.functions_host.process import FunctionsHostProcess
from localcloud.identity import CLIENT_ID
from localcloud.model import (
    DEPLOYMENT_NOT_FOUND,
    INSUFFICIENT_QUOTA,
    RETIRED,
    ROLE_MISSING,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    AnswerFiltered,
    Behaviour,
    Changed,
    Dropped,
    Garbled,
    Hang,
    PromptFiltered,
    Refusal,
    Throttled,
    Verbatim,
)
from pipeline.errors import ErrorCode, OperatorFailure, PermanentFailure, RetryableFailure
from pipeline.job.public import Allowed, parse_public
from pipeline.job.requests import Redrive
from pipeline.model.azure_openai import UNREADABLE_TRIES
from pipeline.model.question import Reply
from pipeline.model.refusals import QuotaUsedUp
from pipeline.model.replies import UnreadableAnswer
from pipeline.model.spans import calling_model
from pipeline.pacing.gauges import watch
from pipeline.pacing.governor import Governor
from pipeline.pacing.lane import Lane
from pipeline.storage.facts import ClaimedElsewhere
from pipeline.telemetry import DeliveryRecord, analyzing, error_type

CANARY = "kanarienvogel"
"""In every text that belongs to a user; nothing else has reason to contain it."""
KEY = "InstrumentationKey=00000000-0000-0000-0000-000000000001"


# --- the run


class ApplicationInsights:
    """The ingestion endpoint: takes telemetry items from clients with a token for it.

    https://learn.microsoft.com/azure/azure-monitor/app/azure-ad-authentication
    """

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self.items: list[dict[str, Any]] = []
        self.tokens: set[str] = set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v2.1/track", self._track)
        app.router.add_post("/QuickPulseService.svc/ping", self._ping)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._certificates.server_context())
        await site.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def settings(self) -> dict[str, str]:
        """The settings of infra/bicep, with short times."""
        url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"
        return {
            "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
            "APPLICATIONINSIGHTS_CONNECTION_STRING": f"{KEY};IngestionEndpoint={url};LiveEndpoint={url}",
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": f"Authorization=AAD;ClientId={CLIENT_ID}",
            "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
            "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }

    async def _track(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return web.Response(status=401)
        self.tokens.add(token)
        items = await request.json()
        self.items.extend(items)
        return web.json_response({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []})

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(headers={"x-ms-qps-subscribed": "false"})  # no one looks at live metrics

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [item["data"]["baseData"] for item in self.items if item["data"]["baseType"] == kind]


@dataclass
class Run:
    """The telemetry that was sent meanwhile."""

    log: str
    insights: ApplicationInsights
    secrets: dict[str, str]
    idle: list[str]
    """The telemetry of an idle instance."""


def telling_picture() -> bytes:
    notes = PngInfo()
    notes.add_text("Comment", CANARY)
    buffer = BytesIO()
    Image.effect_noise((64, 48), 80).save(buffer, "PNG", pnginfo=notes)
    return buffer.getvalue()


def telling_scan() -> bytes:
    description = 270  # a TIFF tag
    buffer = BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "TIFF", tiffinfo={description: CANARY})
    return buffer.getvalue()


def prompt(of: str) -> str:
    return f"What kind of {CANARY} is this? ({of})"


def repeating(of: str, status: int = 400) -> Verbatim:
    """A refusal that repeats what was asked, as many do: whole, in capitals, cut and escaped."""
    asked = prompt(of)
    words = f"Invalid prompt {asked!r} (system: You like a {CANARY.upper()}.), near {json.dumps(asked[:30])}"
    return Verbatim(status, json.dumps({"error": {"message": words, "code": "bad", "param": asked}}).encode())


PICTURE = telling_picture()
BEHAVIOURS: dict[str, tuple[Behaviour, ...]] = {
    "answered": (Answer(f"An answer with a {CANARY}."),),
    "throttled": (Throttled(retry_after_ms=100), Throttled(), Answer()),
    "unavailable": (UNAVAILABLE, Answer()),
    "hanging": (Hang(), Answer()),
    "dropped": (Dropped(), Dropped(midway=True), Answer()),
    "garbled": (Garbled(json.dumps({"choices": CANARY}).encode()), Garbled(CANARY.encode()), Answer()),
    "refused": (Refusal(f"I won't describe a {CANARY}."),),
    "prompt filtered": (PromptFiltered(),),
    "answer filtered": (AnswerFiltered(text=CANARY),),
    "repeated": (repeating("repeated"),),
    "repeated in a 200": (repeating("repeated in a 200", status=200),) * UNREADABLE_TRIES,
    "not a completion": (Garbled(json.dumps({"message": {"content": CANARY}}).encode()),) * UNREADABLE_TRIES,
    "thought of": (Changed(lambda answer: answer | {"choices": [{"message": {"reasoning_content": CANARY}}]}),),
}
OPERATORS = {
    "account": INSUFFICIENT_QUOTA,
    "role": ROLE_MISSING,
    "token": UNAUTHORIZED,
    "deployment": DEPLOYMENT_NOT_FOUND,
    "retired": RETIRED,
}


async def everything(person: Person, host: FunctionsHostProcess) -> None:
    """Each way for an upload to end, with a canary in every text that belongs to a user."""
    metadata = {"note": CANARY}
    for what, behaviours in BEHAVIOURS.items():
        person.scripts[prompt(what)] = deque(behaviours)
        if what != "throttled":  # which slows the others
            await person.drop(f"{what}.png", PICTURE, {"instructions": prompt(what)} | metadata)
    for what, behaviour in OPERATORS.items():
        person.scripts[prompt(what)] = deque([behaviour] * 9)
        await person.drop(f"{what}.png", PICTURE, {"instructions": prompt(what)} | metadata)
    await person.drop("corrupt.png", PICTURE[:200], {"instructions": prompt("corrupt")} | metadata)
    await person.drop("text.jpg", CANARY.encode(), metadata)
    await person.drop("sidecar.png.instructions.md", f"---\ndetail: low\n---\n{prompt('sidecar')}".encode())
    await person.drop("sidecar.png", PICTURE, metadata)
    await person.drop("folder/_instructions.txt", prompt("folder").encode())
    await person.drop("folder/a.png", PICTURE, metadata)
    await person.drop("malformed.png.instructions.md", f"---\n{CANARY}: [\n---\n{CANARY}".encode())
    await person.drop("malformed.png", PICTURE, metadata)
    schema = {"type": "object", "properties": {CANARY: {"type": "integer"}}, "required": [CANARY]}
    asked = {"instructions": prompt("schema"), "schema": schema}
    person.scripts[prompt("schema")] = deque([Answer(json.dumps({CANARY: CANARY}))] * 2)
    await person.drop("schema.png.instructions.json", json.dumps(asked).encode())
    await person.drop("schema.png", PICTURE, metadata)
    await person.drop("default.png", PICTURE, metadata)
    await person.drop("scan.tiff", telling_scan(), metadata)

    ended = BEHAVIOURS.keys() - {"throttled", "hanging"}
    names = [*(f"{what}.png" for what in ended), "corrupt.png", "text.jpg", "sidecar.png", "folder/a.png"]
    await asyncio.gather(
        *(person.result(name) for name in [*names, "malformed.png", "schema.png", "default.png", "scan.tiff"]),
        *(person.logged(f"images/{what}.png: deferred") for what in [*OPERATORS, "hanging"]),
    )
    await messages(person)
    await over_http(host)
    await person.drop("answered.png", PICTURE, {"instructions": prompt("again")})  # overwritten
    await person.blobs.get_blob_client("images", "answered.png").delete_blob()
    await person.logged("images/answered.png: gone", "images/answered.png: succeeded")
    await person.drop("throttled.png", PICTURE, {"instructions": prompt("throttled")} | metadata)
    await person.result("throttled.png")


async def messages(person: Person) -> None:
    async with QueueServiceClient.from_connection_string(person.cloud.front.connection_string) as queues:
        for queue in ("analysis-requests", "analysis-requests-poison", "deferred-work-poison"):
            client = queues.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
            for message in (
                json.dumps({"version": 1, "container": "images", "instructions": prompt("malformed")}),
                f'{{"version": 1, "instructions": "{CANARY}',
                json.dumps({"container": "images", "name": "sidecar.png", "instructions": prompt("request")}),
            ):
                await client.send_message(message)
    await person.logged("a request was refused")
    await person.logged("a message on one of the app's own queues was refused")
    await person.logged("images/sidecar.png: succeeded", "images/sidecar.png: already done")


async def over_http(host: FunctionsHostProcess) -> None:
    """By hand: no HTTP client sends what the second one does."""
    url = urlsplit(host.url)
    for query in (f"instructions={CANARY}", f"instructions={CANARY}-\xe4"):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        head = (
            f"POST /api/process_image?{query}&code={host.function_key} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: close\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + PICTURE)
        await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="module")
async def run(
    tmp_path_factory: pytest.TempPathFactory, people: People, functions_host: type[FunctionsHostProcess]
) -> AsyncIterator[Run]:
    directory = tmp_path_factory.mktemp("observed")
    certificates = Certificates.load_or_create(directory / "certificates")
    async with ApplicationInsights(certificates) as insights:
        telling = {"DEFAULT_INSTRUCTIONS": prompt("default"), "SYSTEM_PROMPT": f"You like a {CANARY}."}
        # Without batches, whose timer runs every two seconds here.
        settings = insights.settings | telling | {"TMPDIR": str(directory), "BATCH_DEPLOYMENT": ""}
        async with people(directory, settings) as person:
            idle = await idle_lines(insights)
            await person.cloud.functions.stop()
            log = directory / "debug.log"
            debugged = Person(person.cloud, person.blobs, log, patience=60)
            person.cloud.model.script.policy = debugged.behave
            async with functions_host(ROOT, person.cloud.app_settings(), log=log, debug=True) as host:
                await person.cloud.events.subscribe(
                    "debugged",
                    WebHook(host.webhook_url("analyze_image")),
                    subject_begins_with="/blobServices/default/containers/images/blobs/",
                )
                await everything(debugged, host)
                await exported(insights, "blobsight.outcomes")
                for error in ("TimeoutError", "429"):
                    await exported(insights, "gen_ai.client.operation.duration", error)
            secrets = {
                "master key": host.master_key,
                "function key": host.function_key,
                "blobs_extension key": host.blobs_extension_key,
                "identity header": person.cloud.identity.environment()["IDENTITY_HEADER"],
                "account key": DATA_KEY,
                "image": base64.b64encode(PICTURE)[:60].decode(),
            }
            for token in insights.tokens:
                person.cloud.identity.verify(token, "https://monitor.azure.com")
        yield Run(person.log.read_text() + log.read_text(), insights, secrets, idle)


async def idle_lines(insights: ApplicationInsights) -> list[str]:
    """The messages exported while metrics are, several times over, after those of the start.

    Apart from those of the timer, whose time may come meanwhile.
    """

    async def exported(metrics: int) -> int:
        async with asyncio.timeout(30):
            while len(insights.of_type("MetricData")) < metrics or not any(
                "note_readiness, " in data["message"] for data in insights.of_type("MessageData")
            ):
                await asyncio.sleep(0.1)
        return len(insights.of_type("MessageData"))

    of_the_start = await exported(16)
    await exported(len(insights.of_type("MetricData")) + 32)
    messages = (data["message"] for data in insights.of_type("MessageData")[of_the_start:])
    return [message for message in messages if "note_readiness" not in message]


async def exported(insights: ApplicationInsights, metric: str, error: str | None = None) -> None:
    """Wait until `metric` has been exported, for errors of that type if one is given."""

    def is_that(data: dict[str, Any]) -> bool:
        return data["metrics"][0]["name"] == metric and error in (None, data["properties"].get("error.type"))

    async with asyncio.timeout(30):
        while not any(map(is_that, insights.of_type("MetricData"))):
            await asyncio.sleep(0.1)


# --- what is never sent


async def test_telemetry_holds_no_text_of_users(run: Run) -> None:
    """No prompt, answer, metadata, image byte, token or key in any log, span or metric, at any log level."""
    everything_told = {"log": run.log, "telemetry": json.dumps(run.insights.items, ensure_ascii=False)}
    shapes = {
        "a user's text": CANARY,
        "a token": r"Bearer (?!\*)|eyJ[\w-]{10,}",
        "an image's bytes": r"\\x89PNG",
        **{name: re.escape(value) for name, value in run.secrets.items()},
    }
    found = {
        f"{what} in the {where}": text[max(0, match.start() - 300) : match.end() + 100]
        for where, text in everything_told.items()
        for what, shape in shapes.items()
        if (match := re.search(shape, text))
    }
    assert not found


async def test_a_malformed_http_request_is_reported_without_its_query(run: Run) -> None:
    assert "a request is not HTTP" in run.log


# --- what is sent


async def test_an_idle_instance_sends_no_telemetry(run: Run) -> None:
    """No request of its telemetry is a line of telemetry."""
    assert run.idle == []


async def test_a_delivery_is_one_line_of_text(run: Run) -> None:
    lines = [line for line in run.log.splitlines() if " pipeline.analysis: images/" in line]
    ends = {
        re.sub(r"\d+ ms", "N ms", re.sub(r"work [0-9a-f]{8}", "work K", line.partition("pipeline.analysis: ")[2]))
        for line in lines
    }
    assert {
        "images/answered.png: succeeded in N ms, model N ms (attempt 1, work K)",
        "images/refused.png: failed model_refused in N ms, model N ms (attempt 1, work K)",
        "images/corrupt.png: failed corrupt_image in N ms (attempt 1, work K)",
        "images/malformed.png: failed invalid_instructions in N ms (attempt 1, work K)",
        "images/schema.png: failed invalid_answer in N ms, model N ms (attempt 1, work K)",
    } <= ends
    assert len([line for line in lines if "images/refused.png" in line]) == 1


async def test_a_failed_attempt_is_one_line_with_its_ids(run: Run) -> None:
    deferred = [line for line in run.log.splitlines() if "images/deployment.png: deferred" in line]
    [first] = [line for line in deferred if "attempt 1" in line]
    ids = r"HTTP 404, code DeploymentNotFound, request id \S+\)\. \(attempt 1, work [0-9a-f]{8}\)$"
    assert re.search(rf"WARNING pipeline\.deliveries: .* for \d+ s: .*{ids}", first)


async def test_a_delivery_has_its_fields_in_application_insights(run: Run) -> None:
    """As docs/operations.md queries them: `customDimensions` of `traces`."""
    [refused] = [data for data in run.insights.of_type("MessageData") if "refused.png: failed" in data["message"]]
    fields = refused["properties"]
    assert fields.pop("work_key")
    assert fields.pop("total_ms").isdecimal()
    assert fields.pop("model_ms").isdecimal()
    assert fields == {
        "container": "images",
        "blob": "refused.png",
        "attempt": "1",
        "outcome": "failed",
        "error_code": "model_refused",
        "service_tier": "default",
        "logger_name": "pipeline.analysis",
    }
    deferred = [data for data in run.insights.of_type("MessageData") if "deployment.png: deferred" in data["message"]]
    assert deferred[0]["severityLevel"] == 2
    assert deferred[0]["properties"].items() >= {"blob": "deployment.png", "error_type": "404"}.items()


async def test_metrics_reach_application_insights(run: Run) -> None:
    """As docs/operations.md queries them: `customMetrics`, with these dimensions."""
    sent = {
        (data["metrics"][0]["name"], key, data["properties"].get(key))
        for data in run.insights.of_type("MetricData")
        for key in ("outcome", "error.type", "gen_ai.token.type", "gen_ai.request.model")
    }
    assert {
        ("blobsight.outcomes", "outcome", "succeeded"),
        ("blobsight.outcomes", "error.type", "content_filtered"),
        ("blobsight.attempts.deferred", "error.type", "404"),
        ("gen_ai.client.operation.duration", "error.type", "429"),
        ("gen_ai.client.operation.duration", "error.type", "TimeoutError"),
        ("gen_ai.client.token.usage", "gen_ai.token.type", "output"),
        *(
            (f"blobsight.governor.{what}", "gen_ai.request.model", "vision")
            for what in ("limit", "in_flight", "paused")
        ),
    } <= sent


@pytest.mark.parametrize("blob", ["refused.png", "answer filtered.png", "thought of.png"])
async def test_a_model_call_belongs_to_its_delivery(run: Run, blob: str) -> None:
    """And has what it cost, though it brought no answer."""
    spans = [item for item in run.insights.items if item["data"]["baseType"] == "RemoteDependencyData"]
    [delivery] = [item for item in spans if item["data"]["baseData"]["properties"].get("blobsight.blob") == blob]
    [call] = [
        item["data"]["baseData"]
        for item in spans
        if item["tags"].get("ai.operation.parentId") == delivery["data"]["baseData"]["id"]
        and item["data"]["baseData"]["type"].startswith("GenAI")
    ]
    assert call["name"] == "chat vision"
    assert int(call["properties"]["gen_ai.usage.input_tokens"]) > 0
    assert call["properties"]["azure.service.request.id"]


# --- the parts


@dataclass(frozen=True)
class Collected:
    """The telemetry that an SDK in this process has received."""

    reader: InMemoryMetricReader
    exporter: InMemorySpanExporter

    def spans(self) -> list[ReadableSpan]:
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    async def points(self, metric: str) -> list[NumberDataPoint | HistogramDataPoint]:
        data = await asyncio.to_thread(self.reader.get_metrics_data)  # as an exporter does, from a thread of its own
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric_data in scope.metrics
            if metric_data.name == metric
            for point in metric_data.data.data_points
            if isinstance(point, NumberDataPoint | HistogramDataPoint)
        ]


@pytest.fixture
def collected(sdk: Collected) -> Collected:
    sdk.exporter.clear()  # of what other tests did
    return sdk


@pytest.fixture(scope="module")
def sdk() -> Collected:
    """The API takes one SDK for a process, for good; other tests don't depend on it."""
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    metrics.set_meter_provider(MeterProvider([reader]))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return Collected(reader, exporter)


REPLY = Reply(
    text=CANARY,
    finish_reason="stop",
    model="gpt-5.4-mini-2026-03-17",
    request_id="a-b-c",
    input_tokens=1200,
    output_tokens=34,
    reasoning_tokens=0,
    cached_tokens=1024,
)
ENDPOINT = "https://an-account.openai.azure.com"


async def test_a_model_call_follows_the_genai_conventions(collected: Collected) -> None:
    with calling_model(ENDPOINT, "conventions", max_output_tokens=4096, as_json=False) as replied:
        replied(REPLY)
    [span] = collected.spans()
    assert (span.name, span.kind, span.status.status_code.name) == ("chat conventions", trace.SpanKind.CLIENT, "UNSET")
    assert dict(span.attributes or {}) == snapshot(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.request.model": "conventions",
            "server.address": "an-account.openai.azure.com",
            "server.port": 443,
            "gen_ai.system": "azure.ai.openai",
            "gen_ai.request.max_tokens": 4096,
            "gen_ai.output.type": "text",
            "gen_ai.response.model": "gpt-5.4-mini-2026-03-17",
            "gen_ai.response.finish_reasons": ("stop",),
            "azure.service.request.id": "a-b-c",
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.output_tokens": 34,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "gen_ai.usage.cache_read.input_tokens": 1024,
        }
    )
    usage = [
        point for point in await collected.points("gen_ai.client.token.usage") if isinstance(point, HistogramDataPoint)
    ]
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "conventions",
        "gen_ai.response.model": "gpt-5.4-mini-2026-03-17",
        "server.address": "an-account.openai.azure.com",
        "server.port": 443,
    }
    assert [(point.sum, dict(point.attributes or {})) for point in usage] == [
        (1200, common | {"gen_ai.token.type": "input"}),
        (34, common | {"gen_ai.token.type": "output"}),
    ]
    assert list(usage[0].explicit_bounds) == snapshot(
        [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
    )
    [duration] = [
        point for point in await collected.points("gen_ai.client.operation.duration") if point.attributes == common
    ]
    assert isinstance(duration, HistogramDataPoint)
    assert list(duration.explicit_bounds) == snapshot(
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    )


async def test_a_failed_calls_span_has_the_kind_of_failure_and_not_its_text(collected: Collected) -> None:
    refusal = PermanentFailure(ErrorCode.MODEL_REFUSED, f"The model declined: no {CANARY}")
    with pytest.raises(PermanentFailure), calling_model(ENDPOINT, "a", max_output_tokens=1, as_json=True):
        raise refusal
    [span] = collected.spans()
    assert (span.attributes or {})["error.type"] == "model_refused"
    assert span.status.status_code is trace.StatusCode.ERROR
    assert CANARY not in span.to_json()


async def test_outcomes_are_counted_by_error_code(collected: Collected) -> None:
    for code in ("corrupt_image", "corrupt_image", None):
        attempt = DeliveryRecord("images", "a.jpg", 1)
        with analyzing(attempt):
            attempt.outcome, attempt.error_code = "failed" if code else "succeeded", code
    counted = {
        frozenset((point.attributes or {}).items()): point for point in await collected.points("blobsight.outcomes")
    }
    failed = counted[frozenset({("outcome", "failed"), ("error.type", "corrupt_image")})]
    assert isinstance(failed, NumberDataPoint)
    assert failed.value == 2


async def test_the_governor_can_be_watched_from_the_exporters_thread(collected: Collected) -> None:
    governor = Governor(most_in_flight=32, patience=1)
    watch(governor)
    by = {"gen_ai.request.model": "watched", "openai.request.service_tier": "default"}
    async with governor.turn(Lane("watched")):
        for name, value in {"limit": 2, "in_flight": 1, "waiting": 0, "paused": 0}.items():
            [point] = await collected.points(f"blobsight.governor.{name}")
            assert isinstance(point, NumberDataPoint)
            assert (point.value, dict(point.attributes or {})) == (value, by), name
        assert await collected.points("blobsight.governor.pace") == []  # the service has not throttled yet


def failed(failure: Exception, cause: Exception) -> Exception:
    failure.__cause__ = cause
    return failure


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermanentFailure(ErrorCode.CONTENT_FILTERED, ""), "content_filtered"),
        (RetryableFailure("", status=503), "503"),
        (OperatorFailure("", status=401), "401"),
        (QuotaUsedUp("", status=429), "QuotaUsedUp"),
        (UnreadableAnswer(""), "UnreadableAnswer"),
        (failed(OperatorFailure(""), ClientAuthenticationError("")), "ClientAuthenticationError"),
        (failed(ClaimedElsewhere(""), KeyError()), "ClaimedElsewhere"),
        (RetryableFailure(""), "RetryableFailure"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
def test_error_types_in_telemetry_are_few(error: BaseException, kind: str) -> None:
    assert error_type(error) == kind


# --- docs/operations.md

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


async def test_the_documented_queries_ask_for_fields_that_are_sent(run: Run) -> None:
    """Every field and metric in the page's queries is one that the app sends."""
    queries = "\n".join(re.findall(r"```kusto\n(.*?)```", PAGE, re.DOTALL))
    sent = [data["properties"] for data in run.insights.of_type("MessageData")]
    sent += [data["properties"] for data in run.insights.of_type("MetricData")]
    fields = {name for properties in sent for name in properties}
    asked = set(re.findall(r'customDimensions(?:\.(?=\w)|\[")([\w.]+)', queries))
    assert asked
    # The platform's host writes the first on its requests; the others are of shards that are stuck (test_alerts).
    assert asked <= fields | {"faas.name", "problem", "shard"}
    metric_names = {data["metrics"][0]["name"] for data in run.insights.of_type("MetricData")}
    named = set(re.findall(r'(?<!_)name == "([^"]+)"', queries))
    assert named
    assert named <= metric_names | {"blobsight.claims.taken_over"}  # no worker was killed


def test_the_documented_redrive_is_understood() -> None:
    [shown] = re.findall(r"printf '%s' '([^']+)'", PAGE)
    [redrive] = parse_public(shown, Allowed(redrives=True))
    assert isinstance(redrive, Redrive)
    assert set(redrive.redrive) == {ErrorCode.RETRIES_EXHAUSTED, ErrorCode.CRASHED}


def test_every_error_code_has_its_advice() -> None:
    assert {code for code in ErrorCode if f"`{code}`" in PAGE} == set(ErrorCode)


def test_every_symptom_leads_to_a_section() -> None:
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
