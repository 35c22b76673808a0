"""Each alert goes off for what it is about and for nothing else: its query is run on rows as they are written.

The pipeline's rows come through the exporter that the deployed app uses. The Functions host's are written by hand, as
its exporter writes them; an operator compares them with real ones after a deployment (docs/deploy.md).
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import duckdb
import duckdb_kql
import pytest
from azure.monitor.opentelemetry.exporter.export.logs._exporter import _convert_log_to_envelope
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from support.batch_shop import batch_shop
from support.person import ROOT, Person
from support.templates import TEMPLATES, module, resources, source

from localcloud.certificates import Certificates
from localcloud.model import UNAVAILABLE
from localcloud.model.batches import BATCH_ROLE_MISSING, TOKEN_LIMIT, TOKEN_LIMIT_AT_ONCE, BatchError, Course
from pipeline.errors import RetryableFailure
from pipeline.one_line import blob_label
from pipeline.pacing.rates import OverDailyTokens, OverRate, OverReanalyses
from pipeline.telemetry import DeliveryRecord, error_type

ALERTS = TEMPLATES["modules/alerts.bicep"]
LOG_ALERTS = [*ALERTS.variables["logAlerts"], *ALERTS.variables["batchAlerts"]]
QUERIES = {alert["name"]: ALERTS.variables[alert["query"]].strip("'") for alert in LOG_ALERTS}
STOPPED = "An unhandled exception has occurred. Host is shutting down."
TRICKY = f"failed crashed/{STOPPED}/error_code=crashed OverDailyTokens.jpg"
"""A name of a file that holds every word that an alert could look for."""
FAILURE = 3
"""Application Insights' severity of an error."""


class Tables:
    """The tables of Application Insights that the queries read, as far as they read them."""

    def __init__(self) -> None:
        self.database = duckdb.connect()
        self.database.execute("create table traces(message varchar, severityLevel int, customDimensions json)")
        self.database.execute("create table exceptions(outerMessage varchar, severityLevel int, customDimensions json)")
        self.database.execute("create table requests(name varchar, success varchar, customDimensions json)")
        self._exported = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(self._exported))
        self._handler = LoggingHandler(logger_provider=provider)

    def pipeline(
        self, logger: str, level: int, message: str, error: Exception | None = None, /, **fields: str | int
    ) -> None:
        """A line of the pipeline's own, with its `extra`."""
        record = {"name": logger, "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
        exc_info = (type(error), error, None) if error else None
        self.write(logging.makeLogRecord({**record, **fields, "exc_info": exc_info}))

    def write(self, record: logging.LogRecord) -> None:
        self._handler.emit(record)
        (exported,) = self._exported.get_finished_logs()
        self._exported.clear()
        data = _convert_log_to_envelope(exported).data
        assert data
        assert data.base_data
        line = data.base_data.as_dict()
        if data.base_type == "ExceptionData":
            self.host_exception(line["exceptions"][0]["message"], line["severityLevel"], **line["properties"])
        else:
            self.host_line(line["message"], line["severityLevel"], **line["properties"])

    def host_line(self, message: str, severity: int, **dimensions: str) -> None:
        self.database.execute("insert into traces values (?, ?, ?)", [message, severity, json.dumps(dimensions)])

    def host_exception(self, message: str, severity: int, **dimensions: str) -> None:
        self.database.execute("insert into exceptions values (?, ?, ?)", [message, severity, json.dumps(dimensions)])

    def request(self, name: str, *, success: bool, function: str | None = None) -> None:
        """A span of the host's: an invocation's has the function's name, a web request's has not."""
        dimensions = {"faas.name": function, "faas.trigger": "datasource"} if function else {"url.path": "/"}
        self.database.execute("insert into requests values (?, ?, ?)", [name, str(success), json.dumps(dimensions)])

    def found(self) -> dict[str, int]:
        """The rows that each alert's query finds."""
        return {name: len(duckdb_kql.query(self.database, query).fetchall()) for name, query in QUERIES.items()}


@pytest.fixture
def tables() -> Iterator[Tables]:
    made = Tables()
    yield made
    made.database.close()


def none_but(**found: int) -> dict[str, int]:
    return dict.fromkeys(QUERIES, 0) | {name.replace("_", "-"): count for name, count in found.items()}


def record(tables: Tables, name: str, outcome: str, code: str | None = None, trial: str | None = None) -> None:
    """The line about a delivery, as pipeline/job/analysis.py writes it."""
    attempt = DeliveryRecord("images", name, 1, trial, work_key="1f2e3d4c", outcome=outcome, error_code=code)
    tables.pipeline("pipeline.analysis", logging.INFO, str(attempt), None, **attempt.fields())


def test_a_crash_is_poison_and_a_failed_result(tables: Tables) -> None:
    record(tables, "a.jpg", "failed", "crashed")
    assert tables.found() == none_but(poison=1, failed_results=1)


def test_a_failed_result_is_counted(tables: Tables) -> None:
    record(tables, "a.jpg", "failed", "corrupt_image")
    record(tables, "b.jpg", "failed", "too_large")
    assert tables.found() == none_but(failed_results=2)


def test_what_fails_in_a_trial_is_seen_by_whoever_tries_and_a_crash_by_the_operator(tables: Tables) -> None:
    record(tables, "a.jpg", "failed", "model_refused", "1f6c0ab2d3e4f506")
    assert tables.found() == none_but()
    record(tables, "b.jpg", "failed", "crashed", "1f6c0ab2d3e4f506")
    assert tables.found() == none_but(poison=1)


def test_success_raises_no_alert_for_any_file_name(tables: Tables) -> None:
    record(tables, TRICKY, "succeeded")
    tables.pipeline("pipeline.deliveries", logging.WARNING, f"images/{TRICKY}: deferred", blob=TRICKY, error_type="429")
    tables.request(TRICKY, success=True, function="analyze_image")
    assert tables.found() == none_but()


def test_an_error_of_the_pipeline_does_not_count_as_a_stopped_host(tables: Tables) -> None:
    tables.pipeline("pipeline.deliveries", logging.ERROR, f"images/{TRICKY}: a defect", ValueError(TRICKY), blob=TRICKY)
    assert tables.found() == none_but()


def test_a_function_that_fails_is_counted(tables: Tables) -> None:
    for function in ("analyze_image", "analyze_request", "reconcile", "note_readiness"):
        tables.request(function, success=False, function=function)
        tables.request(function, success=True, function=function)
    assert tables.found() == none_but(failing_functions=4)


def test_bad_requests_from_outside_do_not_count_as_failing_functions(tables: Tables) -> None:
    """404 for unknown addresses, 401 for calls without a key: a stranger can cause thousands."""
    for name in ("GET /", "GET /.env", "POST /api/process_image", "POST", "POST /runtime/webhooks/blobs"):
        tables.request(name, success=False)
    assert tables.found() == none_but()


def test_a_failed_call_of_the_http_function_is_the_callers_problem(tables: Tables) -> None:
    tables.request("POST /api/process_image", success=False, function="process_image")
    assert tables.found() == none_but()


@pytest.mark.parametrize("words", [STOPPED, "A function timeout has occurred. Host is shutting down."])
@pytest.mark.parametrize("where", ["the exception's message", "a field", "a line", "the class that says it"])
def test_a_stopped_host_is_found_in_every_field_that_may_name_it(tables: Tables, where: str, words: str) -> None:
    """Its line comes with an exception; which column then holds the line is the exporter's choice."""
    if where == "a line":
        tables.host_line(words, FAILURE, CategoryName="Microsoft.Azure.WebJobs.Script.WebHostScriptHostService")
    elif where == "a field":
        tables.host_exception("This request is not authorized.", FAILURE, OriginalFormat=words)
    elif where == "the class that says it":
        category = "Microsoft.Azure.WebJobs.Script.WebHost.WebScriptHostExceptionHandler"
        tables.host_exception("This request is not authorized.", FAILURE, CategoryName=category)
    else:
        tables.host_exception(words, FAILURE, CategoryName="Microsoft.Azure.WebJobs")
    assert tables.found() == none_but(stopped_hosts=1)


@pytest.mark.parametrize("name", [TRICKY, STOPPED, f'", "OriginalFormat": "{STOPPED}'])
def test_no_files_name_stops_a_host(tables: Tables, name: str) -> None:
    """The host's own lines name files, too: in their text, in their exceptions and in their fields."""
    category = {"CategoryName": "Microsoft.Azure.WebJobs.Hosting"}
    said = f"Executed 'Functions.analyze_image' (Failed, Reason='New blob detected: images/{name}')"
    template = "Executed '{functionName}' (Failed, Reason='{reason}')"
    tables.host_line(said, FAILURE, **category, OriginalFormat=template, FormattedMessage=said, blob=name)
    tables.host_exception(f"No blob images/{name}", FAILURE, **category, OriginalFormat=template, blobName=name)
    assert tables.found() == none_but()


@pytest.mark.parametrize("rate", [OverDailyTokens, OverReanalyses])
def test_a_rate_that_is_used_up_is_an_alert(tables: Tables, rate: type[OverRate]) -> None:
    attempt = DeliveryRecord("images", "a.jpg", 1)
    fields = {**attempt.fields(), "error_type": error_type(rate("It waits.")), "delay_s": 3600}
    tables.pipeline("pipeline.deliveries", logging.WARNING, "images/a.jpg: deferred", None, **fields)
    assert tables.found() == none_but(rate_used_up=1)


def test_batches_are_watched_where_there_are_any() -> None:
    """A log alert is paid by the month."""
    assert "for alert in concat(logAlerts, batches ? batchAlerts : []):" in source("modules/alerts.bicep")
    assert module("alerts").body["params"]["batches"] == "batches"


def test_every_rate_has_its_alert() -> None:
    assert set(re.findall(r'"(Over\w+)"', QUERIES["rate-used-up"])) == {
        each.__name__ for each in OverRate.__subclasses__()
    }


@pytest.mark.timeout(120)
async def test_a_batch_that_the_operator_has_to_see_to_is_an_alert(
    tables: Tables, person: Person, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """The lines are the app's own. A queue of batches that is full empties itself, and so does an outage."""
    async with batch_shop(person, certificates) as shop:
        script = shop.model.batches.script
        script.add("create_batch", TOKEN_LIMIT_AT_ONCE, UNAVAILABLE, BATCH_ROLE_MISSING)
        script.plan(Course(fails=TOKEN_LIMIT), Course(fails=BatchError(code="model_not_found", message=TRICKY)))
        await shop.deliver(await shop.drop("a.png"))
        for _ in range(7):
            await shop.run(minutes=60)
            await shop.ended()
    lines = [line for line in caplog.records if line.name == "pipeline.batches" and line.levelno == logging.WARNING]
    assert [vars(line)["problem"] for line in lines] == ["quota", "passing", "operator", "quota", "operator"]
    for line in lines:
        tables.write(line)
    assert tables.found() == none_but(stuck_batches=2)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_no_query_looks_for_words_in_a_line(query: str) -> None:
    """An uploader's file name is in the line: it is compared whole, or not at all."""
    assert not re.search(r"\b(?:contains|has|has_any|has_all|matches|parse|search)\b", re.sub(r'".*?"', "", query))
    assert set(re.findall(r"\b(?:message|outerMessage) (\w+)", query)) <= {"in"}


def test_a_line_stays_short_whatever_an_uploader_writes(tables: Tables) -> None:
    """Of a gigabyte of logs a day, one delivery uses up some kilobytes: with the longest name and message there are."""
    name, container = "\U0001f600" * 512, "c" * 100_000
    fields = DeliveryRecord(container, name, 1, work_key="1f" * 32, error_code="crashed").fields()
    label = blob_label(container, name)
    failure = RetryableFailure("x" * 100_000)
    tables.pipeline("pipeline.deliveries", logging.WARNING, f"{label}: deferred: {failure.message}", None, **fields)
    (row,) = tables.database.execute("select message, customDimensions from traces").fetchall()
    assert sum(len(str(column).encode()) for column in row) < 10_000


def test_a_host_that_stops_as_it_should_raises_no_alert(tables: Tables) -> None:
    tables.host_line("Application is shutting down...", 1, CategoryName="Microsoft.Hosting.Lifetime")
    tables.host_line("Host is shutting down.", 1, CategoryName="Microsoft.Azure.WebJobs.Hosting")
    tables.host_exception("This request is not authorized.", FAILURE, CategoryName="Azure.Storage")
    assert tables.found() == none_but()


MINUTES = {"PT15M": 15, "PT1H": 60}
AGAIN_AFTER = 10
"""Minutes after which the host looks again at an upload that it could not look at, and stopped for."""
ENDS = 5
"""How often it does so before the upload moves to the queue."""


def rule() -> Mapping[str, Any]:
    properties: Mapping[str, Any] = ALERTS.resource("logs")["properties"]
    return properties


def goes_off(name: str, at: Iterable[int]) -> bool:
    """Whether the alert sees enough of what happens at these minutes, whenever it looks first."""
    (alert,) = (each for each in LOG_ALERTS if each["name"] == name)
    every, window = MINUTES[rule()["evaluationFrequency"]], MINUTES[alert["window"]]
    ends = range(0, 24 * 60, every)
    return all(
        any(sum(end + first - window < minute <= end + first for minute in at) > alert["threshold"] for end in ends)
        for first in range(every)
    )


def test_one_upload_that_stops_the_host_again_and_again_is_an_alert() -> None:
    assert goes_off("stopped-hosts", [60 + AGAIN_AFTER * n for n in range(ENDS)])
    assert goes_off("stopped-hosts", [60 + AGAIN_AFTER * n for n in range(3)]), "before the upload moves to the queue"
    assert not goes_off("stopped-hosts", [60]), "the host recovers from one stop"
    for page, words in (
        ("deploy.md", "looks again every ten minutes, and after five stops the upload is moved"),
        ("operations.md", "every ten minutes, up to five times"),
    ):
        assert words in " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


def test_one_image_that_crashes_is_an_alert() -> None:
    assert goes_off("poison", [60])


def test_every_alert_looks_at_each_minute() -> None:
    """A window that is shorter than the pause between two looks would miss what happens in between."""
    assert rule()["windowSize"] == "alert.window"
    for alert in LOG_ALERTS:
        assert MINUTES[alert["window"]] >= MINUTES[rule()["evaluationFrequency"]]


def test_thresholds_that_can_be_chosen_are_for_a_quarter_of_an_hour() -> None:
    """docs/deploy.md and the parameters' descriptions say so."""
    chosen = [alert for alert in LOG_ALERTS if isinstance(alert["threshold"], str)]
    assert [(alert["name"], alert["window"]) for alert in chosen] == [("failed-results", "PT15M")]
    for alert in resources("Microsoft.Insights/metricAlerts"):
        assert alert.body["properties"]["windowSize"] == "PT15M"


def test_every_alert_leads_to_where_the_cause_is_seen() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }
    metric_alerts = [each.body["properties"]["description"] for each in resources("Microsoft.Insights/metricAlerts")]
    described = [alert["description"] for alert in LOG_ALERTS] + metric_alerts
    assert len(described) == 8
    for text in described:
        (anchor,) = re.findall(r"docs/operations\.md#([\w-]+)$", text)
        assert anchor in anchors, text


def test_alerts_watch_metrics_that_exist() -> None:
    """As named in https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/metrics-index."""
    watched = {}
    for alert in resources("Microsoft.Insights/metricAlerts"):
        (criterion,) = alert.body["properties"]["criteria"]["allOf"]
        dimensions = {each["name"]: each["values"] for each in criterion.get("dimensions", [])}
        watched[criterion["metricNamespace"], criterion["metricName"]] = dimensions
    assert watched == {
        ("Microsoft.EventGrid/systemTopics", "DeadLetteredCount"): {},
        ("Microsoft.CognitiveServices/accounts", "AzureOpenAIRequests"): {
            "StatusCode": ["429"],
            "ModelDeploymentName": ["modelDeploymentName"],
        },
    }
