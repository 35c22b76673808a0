"""The templates set up what the code, the hooks and the local cloud count on."""

import ast
import re
import tomllib
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from support.bicep_source import Template, read, union
from support.person import ROOT

from localcloud.cloud import COMPLETING_CALLS, CONTAINERS, QUEUES
from pipeline.settings import Settings

BICEP = ROOT / "infra" / "bicep"
MAIN = read(BICEP / "main.bicep")
RESOURCES = read(BICEP / "resources.bicep")
SUBSCRIPTION = read(BICEP / "event-subscription.bicep")
FUNCTION_APP = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))
HOOKS = [f"{name}.{shell}" for name in ("predeploy", "postdeploy") for shell in ("sh", "ps1")]

SETTINGS = {
    "INPUT_CONTAINER": "inputContainer",
    "OUTPUT_CONTAINER": "outputContainer",
    "TRIALS_CONTAINER": "trialsContainer",
    "STATE_CONTAINER": "stateContainer",
    "DEAD_LETTER_CONTAINER": "deadLetterContainer",
    "REQUESTS_QUEUE": "requestsQueue",
    "DEFERRED_QUEUE": "deferredQueue",
    "DataStorage__blobServiceUri": "dataStorage.outputs.blobEndpoint",
    "DataStorage__queueServiceUri": "dataStorage.outputs.queueEndpoint",
    "DataStorage__credential": "managedidentity",
    "DataStorage__clientId": "identityClientId",
    "AZURE_CLIENT_ID": "identityClientId",
    "AZURE_OPENAI_ENDPOINT": "openAiAccess.outputs.endpoint",
    "AZURE_OPENAI_DEPLOYMENT": "modelDeploymentName",
    "AZURE_OPENAI_MODEL": "openAiIsNew ? modelName : ''",
    "PROCESS_IMAGE_ENABLED": "processImageEnabled ? 'true' : 'false'",
    "IMAGE_MEMORY_BYTES": "string(instanceMemoryMB * (instanceMemoryMB > 512 ? 262144 : 131072))",
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
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": str(Settings.model_fields["max_image_bytes"].default),
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "azure_sdk,httpx2,requests,urllib,urllib3",
}
"""Settings of the host, the worker and its exporter. No plain AzureWebJobsStorage, even an empty one: it would win over
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
    """All settings of the function app. Settings of other components can change, ours can't."""
    (app,) = (module for module in RESOURCES.modules if module.symbol == "app")
    advice, theirs, instructions, batches, ours = union(app.body["params"]["pipelineSettings"])
    all_theirs, platform = union(read(BICEP / "modules" / "function-app.bicep").resource("settings")["properties"])
    assert (theirs, all_theirs) == ("pipelineSettings", "pipelineSettings")
    assert " ".join(instructions.split()) == (
        "empty(instructionsContainer) ? {} : { INSTRUCTIONS_CONTAINER: instructionsContainer }"
    )
    assert " ".join(batches.split()) == "batches ? { BATCH_DEPLOYMENT: batchDeploymentName } : {}"
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
    assert group == "delivery == 'webhook' ? 'blob' : 'function:analyze_request'"
    assert triggers("queue_trigger")["analyze_request"]["queue_name"] == "%REQUESTS_QUEUE%"


def test_triggers_use_the_connection_that_is_set() -> None:
    connections = {
        arguments["connection"] for kind in ("blob_trigger", "queue_trigger") for arguments in triggers(kind).values()
    }
    assert connections == {"DataStorage"}


def test_the_queues_that_functions_wait_at_are_there() -> None:
    """The host makes missing ones, but an event that is delivered by queue must not come too early."""
    made = {str(name) for name in RESOURCES.variables["queues"]}
    waited_at = {each["queue_name"] for each in triggers("queue_trigger").values()}
    for setting, variable in (("REQUESTS_QUEUE", "requestsQueue"), ("DEFERRED_QUEUE", "deferredQueue")):
        queue = str(RESOURCES.variables[variable])
        made = {queue if name == variable else name.replace(f"${{{variable}}}", queue) for name in made}
        waited_at = {name.replace(f"%{setting}%", queue) for name in waited_at}
    assert made == waited_at == set(QUEUES)
    (data,) = (each for each in RESOURCES.modules if each.symbol == "dataStorage")
    (account,) = read(BICEP / "modules" / "storage-data.bicep").modules
    assert (data.body["params"]["queues"], account.body["params"]["queues"]) == ("queues", "queues")


def test_containers_are_those_of_the_local_cloud_and_one_for_dead_letters() -> None:
    (account,) = read(BICEP / "modules" / "storage-data.bicep").modules
    values = {**{name: p.default for name, p in RESOURCES.parameters.items()}, **RESOURCES.variables}
    (always,) = re.findall(r"\[([^]]+)\]", account.body["params"]["containers"])
    assert [values[name] for name in always.split()] == [*CONTAINERS, "dead-letters"]


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
        "TRIALS_CONTAINER": RESOURCES.parameters["trialsContainer"].default,
        "STATE_CONTAINER": RESOURCES.variables["stateContainer"],
        "DEAD_LETTER_CONTAINER": RESOURCES.variables["deadLetterContainer"],
        "REQUESTS_QUEUE": RESOURCES.variables["requestsQueue"],
        "DEFERRED_QUEUE": RESOURCES.variables["deferredQueue"],
        "PROCESS_IMAGE_ENABLED": "false",
        "IMAGE_MEMORY_BYTES": str(512 * 131072),
    }
    assert not Settings.from_environment(values).process_image_enabled


def test_process_image_is_off_unless_asked_for() -> None:
    assert MAIN.parameters["processImageEnabled"].default is False
    assert bicepparam()["processImageEnabled"] == f"bool({unless_set('PROCESS_IMAGE_ENABLED', 'false')})"


def bicepparam() -> dict[str, str]:
    """Each parameter's value, on one line."""
    text = (BICEP / "main.bicepparam").read_text(encoding="utf-8").replace("\n  ", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("//")]
    assert lines.pop(0) == "using './main.bicep'"
    pairs = [re.fullmatch(r"param (\w+) = (.+)", line) for line in lines]
    return {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else pytest.fail(f"unreadable: {lines}")


def unless_set(variable: str, default: str) -> str:
    """`default` where the variable is not set or is empty: int('') and the like would refuse the whole deployment."""
    if not default:
        return f"readEnvironmentVariable('{variable}', '')"
    return f"readEnvironmentVariable('{variable}', '') == '' ? '{default}' : readEnvironmentVariable('{variable}', '')"


def test_the_parameter_file_fits_the_parameters() -> None:
    given = bicepparam()
    assert set(given) == set(MAIN.parameters)
    wrap = {"string": "{}", "int": "int({})", "bool": "bool({})", "{ *: string }": "json({})", "string[]": "json({})"}
    for name, value in given.items():
        declared = MAIN.parameters[name]
        if declared.default is None or name == "resourceGroupName":
            continue
        default = {True: "true", False: "false"}.get(declared.default) if declared.type == "bool" else None
        default = default or {"{ *: string }": "{}", "string[]": "[]"}.get(declared.type) or str(declared.default)
        variable = re.search(r"readEnvironmentVariable\('(\w+)'", value)
        assert variable, name
        assert value == wrap[declared.type].format(unless_set(variable[1], default)), name


def test_computed_parameters_have_no_list_of_allowed_values() -> None:
    """The compiler takes int(), bool() and json() for any value of their type: no list takes that (BCP033)."""
    computed = [name for name, value in bicepparam().items() if re.match(r"(?:int|bool|json)\(", value)]
    assert len(computed) > 10
    assert not [name for name in computed if "allowed" in MAIN.parameters[name].decorators]
    assert "allowed" in RESOURCES.parameters["instanceMemoryMB"].decorators, "it is still checked"


def test_variables_of_the_parameter_file_are_in_the_documentation() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    names = re.findall(r"readEnvironmentVariable\('(\w+)'", (BICEP / "main.bicepparam").read_text(encoding="utf-8"))
    assert not [name for name in names if f"`{name}`" not in page]


def test_every_documented_variable_is_set_somewhere() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\$((?:AZURE|BLOBSIGHT)_[A-Z_]+)", page))
    assert used - {"AZURE_LOCATION", "AZURE_SUBSCRIPTION_ID"} <= set(MAIN.outputs)
    assert len(re.findall(r"export .*AZURE_LOCATION=|export AZURE_SUBSCRIPTION_ID=", page)) == 2
    (by_hand,) = re.findall(r"event-subscription\.bicep --parameters \\\n(.+?)```", page, re.DOTALL)
    required = {name for name, declared in SUBSCRIPTION.parameters.items() if declared.default is None}
    assert required <= set(re.findall(r"(\w+)=\$", by_hand)) <= set(SUBSCRIPTION.parameters)


def test_an_output_that_comes_back_as_a_parameter_means_the_same() -> None:
    """Outputs stay in azd's environment, which the parameter file reads the next time.

    Each is the very parameter that its variable sets: a value that came from elsewhere would change the parameters, and
    azd, which compares them, would set everything up a second time.
    """
    shared = {
        "AZURE_EVENT_DELIVERY": "eventDelivery",
        "AZURE_LOCATION": "location",
        "AZURE_OPENAI_DEPLOYMENT": "modelDeploymentName",
        "AZURE_RESOURCE_GROUP": "group.name",
        "BLOBSIGHT_INPUT_CONTAINER": "inputContainer",
        "BLOBSIGHT_OUTPUT_CONTAINER": "outputContainer",
        "BLOBSIGHT_TRIALS_CONTAINER": "trialsContainer",
    }
    sets = {
        variable: name
        for name, value in bicepparam().items()
        for variable in re.findall(r"readEnvironmentVariable\('(\w+)'", value)
        if name != "resourceGroupName" or variable == "AZURE_RESOURCE_GROUP"
    }
    # One more with the hardened profile, which delivers by queue whatever the parameter said the first time.
    assert RESOURCES.variables["delivery"] == "hardened ? 'queue' : eventDelivery"
    outputs = {**MAIN.outputs, **RESOURCES.outputs}
    assert outputs["AZURE_EVENT_DELIVERY"] == "delivery"
    outputs["AZURE_EVENT_DELIVERY"] = "eventDelivery"
    assert {name: outputs[name] for name in set(sets) & set(MAIN.outputs)} == shared
    (group,) = MAIN.created("Microsoft.Resources/resourceGroups")
    came_from = shared | {"AZURE_RESOURCE_GROUP": group.body["name"]}
    assert came_from == {name: sets[name] for name in shared}


def test_the_group_template_has_the_same_parameters() -> None:
    def described(template: Template) -> dict[str, Any]:
        return {
            name: (p.type, p.decorators["description"], p.decorators.get("allowed"), p.default)
            for name, p in template.parameters.items()
            if name not in {"location", "resourceGroupName"}
        }

    main, group = described(MAIN), described(RESOURCES)
    assert main.pop("instanceMemoryMB")[1] == group.pop("instanceMemoryMB")[1]
    assert main == group
    choices = {name for name, declared in MAIN.parameters.items() if "allowed" in declared.decorators}
    assert choices == {"userPrincipalType", "eventDelivery", "storageSku", "modelSku", "batchSku"}
    (module,) = MAIN.modules
    assert module.body["params"] == {name: name for name in RESOURCES.parameters}
    assert set(MAIN.outputs) - set(RESOURCES.outputs) == {"AZURE_LOCATION", "AZURE_TENANT_ID", "AZURE_RESOURCE_GROUP"}


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_use_what_the_templates_put_out(hook: str) -> None:
    text = (ROOT / "infra" / "hooks" / hook).read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:AZURE|BLOBSIGHT)_[A-Z_]+\b", text))
    own = {"BLOBSIGHT_HOOK_ATTEMPTS", "BLOBSIGHT_HOOK_PAUSE_SECONDS", "BLOBSIGHT_DEPLOYED_AT"}
    azds = {"AZURE_SUBSCRIPTION_ID", "AZURE_ENV_NAME"}
    assert used - own - azds <= set(MAIN.outputs)


@pytest.mark.parametrize("hook", [name for name in HOOKS if name.startswith("post")])
def test_the_hook_gives_the_subscription_its_parameters(hook: str) -> None:
    text = (ROOT / "infra" / "hooks" / hook).read_text(encoding="utf-8")
    assert set(re.findall(r"\b([a-z]\w+)=[\"$]", text)) >= set(SUBSCRIPTION.parameters)
    assert re.search(r"/eventSubscriptions.*/analyze-image-\$", text, re.DOTALL)
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
