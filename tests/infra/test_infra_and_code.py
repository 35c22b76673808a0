"""What the templates set up is what the code, the hooks and the local cloud count on."""

import ast
import re
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from bicep_source import Template, read, union
from person import ROOT
from pydantic import AliasChoices

from localcloud.cloud import COMPLETING_CALLS, CONTAINERS, QUEUES
from pipeline.settings import Settings
from pipeline.telemetry import Attempt

BICEP = ROOT / "infra" / "bicep"
MAIN = read(BICEP / "main.bicep")
RESOURCES = read(BICEP / "resources.bicep")
SUBSCRIPTION = read(BICEP / "event-subscription.bicep")
FUNCTION_APP = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))
HOOKS = ["postdeploy.sh", "postdeploy.ps1"]

SETTINGS = {
    "INPUT_CONTAINER": "inputContainer",
    "OUTPUT_CONTAINER": "outputContainer",
    "STATE_CONTAINER": "stateContainer",
    "REQUESTS_QUEUE": "requestsQueue",
    "DataStorage__blobServiceUri": "dataStorage.outputs.blobEndpoint",
    "DataStorage__queueServiceUri": "dataStorage.outputs.queueEndpoint",
    "DataStorage__credential": "managedidentity",
    "DataStorage__clientId": "identityClientId",
    "AZURE_CLIENT_ID": "identityClientId",
    "AZURE_OPENAI_ENDPOINT": "openAiAccess.outputs.endpoint",
    "AZURE_OPENAI_DEPLOYMENT": "modelDeploymentName",
    "PROCESS_IMAGE_ENABLED": "processImageEnabled ? 'true' : 'false'",
    "IMAGE_MEMORY_BYTES": "string(instanceMemoryMB * 262144)",
}
"""The pipeline's own, and where their values come from."""
PLATFORM = {
    "AzureWebJobsStorage__accountName": "hostStorageName",
    "AzureWebJobsStorage__credential": "managedidentity",
    "AzureWebJobsStorage__clientId": "identityClientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "applicationInsightsConnectionString",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD;ClientId=${identityClientId}",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
    "PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME": "pipeline",
    "AzureFunctionsJobHost__telemetryMode": "OpenTelemetry",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "azure_sdk,httpx2,requests,urllib,urllib3",
}
"""What the host, the worker and its exporter read. No plain AzureWebJobsStorage, even an empty one: it would win over
the identity. No FUNCTIONS_WORKER_RUNTIME: Flex Consumption refuses it."""


def triggers(kind: str) -> dict[str, dict[str, Any]]:
    """The functions with this trigger, and the trigger's literal arguments."""
    return {
        function.name: {
            keyword.arg: keyword.value.value
            for keyword in decorator.keywords
            if keyword.arg and isinstance(keyword.value, ast.Constant)
        }
        for function in ast.walk(FUNCTION_APP)
        if isinstance(function, ast.AsyncFunctionDef)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == kind
    }


def app_settings() -> dict[str, str]:
    """All settings of the function app. Those of somebody else's choice can change advice, and none of the others."""
    (app,) = (module for module in RESOURCES.modules if module.symbol == "app")
    advice, theirs, ours = union(app.body["params"]["pipelineSettings"])
    all_theirs, platform = union(read(BICEP / "modules" / "function-app.bicep").resource("settings")["properties"])
    assert (theirs, all_theirs) == ("pipelineSettings", "pipelineSettings")
    return dict(advice | ours | platform)


def variables_read() -> dict[str, bool]:
    """Each environment variable of the pipeline, and whether it is required. An alias of the 2024 tutorial is none."""
    return {
        str(alias.choices[0] if isinstance(alias := field.validation_alias, AliasChoices) else field.alias): (
            field.is_required()
        )
        for field in Settings.model_fields.values()
    }


def test_the_webhook_is_the_blob_triggers() -> None:
    (name,) = triggers("blob_trigger")
    assert SUBSCRIPTION.variables["webhook"].endswith(f"/runtime/webhooks/blobs?functionName=Host.Functions.{name}")


def test_instances_that_are_always_ready_are_those_that_events_go_to() -> None:
    (app,) = (module for module in RESOURCES.modules if module.symbol == "app")
    group = app.body["params"]["alwaysReadyFor"]
    assert group == "eventDelivery == 'webhook' ? 'blob' : 'function:analyze_request'"
    assert triggers("queue_trigger")["analyze_request"]["queue_name"] == "%REQUESTS_QUEUE%"


def test_triggers_use_the_connection_that_is_set() -> None:
    connections = {
        arguments["connection"] for kind in ("blob_trigger", "queue_trigger") for arguments in triggers(kind).values()
    }
    assert connections == {"DataStorage"}


def test_the_queues_that_functions_wait_at_are_there() -> None:
    """The host makes missing ones, but an event that is delivered by queue must not come too early."""
    requests = RESOURCES.variables["requestsQueue"]
    (account,) = read(BICEP / "modules" / "storage-data.bicep").modules
    made = {str(name).strip("'").replace("${requestsQueue}", requests) for name in account.body["params"]["queues"]}
    made = {requests if name == "requestsQueue" else name for name in made}
    waited_at = {
        each["queue_name"].replace("%REQUESTS_QUEUE%", requests) for each in triggers("queue_trigger").values()
    }
    assert made == waited_at == set(QUEUES)


def test_containers_are_those_of_the_local_cloud_and_one_for_dead_letters() -> None:
    (account,) = read(BICEP / "modules" / "storage-data.bicep").modules
    values = {**{name: p.default for name, p in RESOURCES.parameters.items()}, **RESOURCES.variables}
    assert [values[name] for name in account.body["params"]["containers"]] == [*CONTAINERS, "dead-letters"]


def test_events_are_filtered_as_in_the_local_cloud() -> None:
    event_filter = SUBSCRIPTION.resource("uploads")["properties"]["filter"]
    assert event_filter["includedEventTypes"] == ["Microsoft.Storage.BlobCreated"]
    assert event_filter["subjectBeginsWith"] == "/blobServices/default/containers/${inputContainer}/blobs/"
    assert event_filter["advancedFilters"] == [
        {"operatorType": "StringIn", "key": "data.api", "values": list(COMPLETING_CALLS)}
    ]


def test_the_app_gets_these_settings_and_no_others() -> None:
    assert app_settings() == SETTINGS | PLATFORM


def test_every_required_variable_is_set_and_every_one_set_is_read() -> None:
    read_by_code = variables_read()
    assert {name for name, required in read_by_code.items() if required} <= set(SETTINGS) <= set(read_by_code)


def test_settings_that_the_templates_give_start_the_app() -> None:
    values = dict.fromkeys(SETTINGS, "managedidentity") | {
        "DataStorage__blobServiceUri": "https://stdata.blob.core.windows.net/",
        "DataStorage__queueServiceUri": "https://stdata.queue.core.windows.net/",
        "AZURE_OPENAI_ENDPOINT": "https://oai-blobsight.openai.azure.com/",
        "INPUT_CONTAINER": RESOURCES.parameters["inputContainer"].default,
        "OUTPUT_CONTAINER": RESOURCES.parameters["outputContainer"].default,
        "STATE_CONTAINER": RESOURCES.variables["stateContainer"],
        "REQUESTS_QUEUE": RESOURCES.variables["requestsQueue"],
        "PROCESS_IMAGE_ENABLED": "false",
        "IMAGE_MEMORY_BYTES": str(512 * 262144),
    }
    assert not Settings.from_environment(values).process_image_enabled


def test_process_image_is_off_unless_asked_for() -> None:
    assert MAIN.parameters["processImageEnabled"].default is False
    assert bicepparam()["processImageEnabled"] == "bool(readEnvironmentVariable('PROCESS_IMAGE_ENABLED', 'false'))"


def bicepparam() -> dict[str, str]:
    text = (BICEP / "main.bicepparam").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("//")]
    assert lines.pop(0) == "using './main.bicep'"
    pairs = [re.fullmatch(r"param (\w+) = (.+)", line) for line in lines]
    return {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else pytest.fail(f"unreadable: {lines}")


def test_the_parameter_file_fits_the_parameters() -> None:
    given = bicepparam()
    assert set(given) == set(MAIN.parameters)
    wrap = {"string": "{}", "int": "int({})", "bool": "bool({})", "object": "json({})", "array": "json({})"}
    for name, value in given.items():
        declared = MAIN.parameters[name]
        if declared.default is None or name == "resourceGroupName":
            continue
        default = {"bool": str(declared.default).lower(), "object": "{}", "array": "[]"}.get(
            declared.type, str(declared.default)
        )
        variable = re.search(r"readEnvironmentVariable\('(\w+)'", value)
        assert variable, name
        assert value == wrap[declared.type].format(f"readEnvironmentVariable('{variable[1]}', '{default}')"), name


def test_variables_of_the_parameter_file_are_in_the_documentation() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    names = re.findall(r"readEnvironmentVariable\('(\w+)'", (BICEP / "main.bicepparam").read_text(encoding="utf-8"))
    assert not [name for name in names if f"`{name}`" not in page]


def test_variables_in_the_documentation_are_set_by_something() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\$((?:AZURE|BLOBSIGHT)_[A-Z_]+)", page))
    assert used - {"AZURE_LOCATION", "AZURE_SUBSCRIPTION_ID"} <= set(MAIN.outputs)
    assert len(re.findall(r"export .*AZURE_LOCATION=|export AZURE_SUBSCRIPTION_ID=", page)) == 2
    (by_hand,) = re.findall(r"event-subscription\.bicep --parameters \\\n(.+?)```", page, re.DOTALL)
    required = {name for name, declared in SUBSCRIPTION.parameters.items() if declared.default is None}
    assert required <= set(re.findall(r"(\w+)=\$", by_hand)) <= set(SUBSCRIPTION.parameters)


def test_an_output_that_comes_back_as_a_parameter_means_the_same() -> None:
    """Outputs stay in azd's environment, which the parameter file reads the next time."""
    shared = {
        "AZURE_EVENT_DELIVERY": "eventDelivery",
        "AZURE_EVENT_GRID_TOPIC_NAME": "topic.outputs.name",
        "AZURE_LOCATION": "location",
        "AZURE_OPENAI_DEPLOYMENT": "modelDeploymentName",
        "AZURE_RESOURCE_GROUP": "group.name",
        "BLOBSIGHT_INPUT_CONTAINER": "inputContainer",
        "BLOBSIGHT_OUTPUT_CONTAINER": "outputContainer",
    }
    read_back = set(re.findall(r"readEnvironmentVariable\('(\w+)'", " ".join(bicepparam().values())))
    outputs = {**MAIN.outputs, **RESOURCES.outputs}
    assert {name: outputs[name] for name in read_back & set(MAIN.outputs)} == shared


def test_the_group_template_has_the_same_parameters() -> None:
    def described(template: Template) -> dict[str, Any]:
        return {
            name: (p.type, p.decorators["description"], p.decorators.get("allowed"), p.default)
            for name, p in template.parameters.items()
            if name not in {"location", "resourceGroupName"}
        }

    assert described(MAIN) == described(RESOURCES)
    choices = {name for name, declared in MAIN.parameters.items() if "allowed" in declared.decorators}
    assert choices == {"userPrincipalType", "eventDelivery", "storageSku", "modelSku", "instanceMemoryMB"}
    (module,) = MAIN.modules
    assert module.body["params"] == {name: name for name in RESOURCES.parameters}
    assert set(MAIN.outputs) - set(RESOURCES.outputs) == {"AZURE_LOCATION", "AZURE_TENANT_ID", "AZURE_RESOURCE_GROUP"}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_use_what_the_templates_put_out(hook: str) -> None:
    text = (ROOT / "infra" / "hooks" / hook).read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:AZURE|BLOBSIGHT)_[A-Z_]+\b", text))
    own = {"BLOBSIGHT_HOOK_ATTEMPTS", "BLOBSIGHT_HOOK_PAUSE_SECONDS"}
    assert used - own - {"AZURE_SUBSCRIPTION_ID"} <= set(MAIN.outputs)  # azd itself knows the subscription
    assert set(re.findall(r"\b([a-z]\w+)=[\"$]", text)) >= set(SUBSCRIPTION.parameters)
    assert "/eventSubscriptions/analyze-image-$other" in text
    assert SUBSCRIPTION.resource("uploads")["name"] == "analyze-image-${eventDelivery}"


def test_the_hooks_defaults_are_the_subscriptions() -> None:
    values = {**{name: p.default for name, p in RESOURCES.parameters.items()}, **RESOURCES.variables}
    for name, declared in SUBSCRIPTION.parameters.items():
        if declared.default is not None:
            assert declared.default == values[name]


def test_python_is_one_version_everywhere() -> None:
    (app,) = (module for module in RESOURCES.modules if module.symbol == "app")
    version = app.body["params"]["pythonVersion"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == f">={version}"
    assert project["tool"]["mypy"]["python_version"] == version
    assert f"--python-version {version}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))
    assert version in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]


def test_the_model_is_not_retired() -> None:
    """From that day on: look up its retirement, and choose a newer one or set the new date."""
    ((details,),) = (MAIN.parameters["modelVersion"].decorators["metadata"],)
    assert datetime.now(UTC).date() < datetime.fromisoformat(details["retiresNotBefore"]).date(), (
        "see https://learn.microsoft.com/azure/ai-foundry/openai/concepts/model-retirements"
    )


def test_alerts_look_for_the_line_that_is_logged() -> None:
    alerts = read(BICEP / "modules" / "alerts.bicep").variables

    def matches(query: str, attempt: Attempt) -> bool:
        pattern = re.search(r"matches regex @'(.+)'", alerts[query])
        assert pattern
        return bool(re.search(pattern[1], str(attempt)))

    crashed = Attempt("images", "a.jpg", 6, work_key="1f2e3d4c", outcome="failed", error_code="crashed")
    failed = Attempt("images", "a.jpg", 1, work_key="1f2e3d4c", outcome="failed", error_code="corrupt_image")
    fine = Attempt("images", "failed/in.jpg", 1, work_key="1f2e3d4c", outcome="succeeded")
    assert [matches("poisonQuery", attempt) for attempt in (crashed, failed, fine)] == [True, False, False]
    assert [matches("failedResultsQuery", attempt) for attempt in (crashed, failed, fine)] == [True, True, False]
