"""The templates are Bicep, fit together, and open no door that needs a key."""

import json
import re
from pathlib import Path

import pytest
from support.bicep_source import Expression, Template, needless_dependencies, problems, read
from support.person import ROOT
from support.templates import BICEP, NAMES, TEMPLATES, resources, source

API_VERSIONS = {
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Authorization/roleDefinitions": "2022-04-01",
    "Microsoft.CognitiveServices/accounts": "2025-06-01",
    "Microsoft.CognitiveServices/accounts/deployments": "2025-06-01",
    "Microsoft.Consumption/budgets": "2024-08-01",
    "Microsoft.EventGrid/systemTopics": "2025-02-15",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": "2025-02-15",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",  # the newest that has logs
    "Microsoft.Insights/metricAlerts": "2026-01-01",
    "Microsoft.Insights/scheduledQueryRules": "2026-03-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2024-11-30",
    "Microsoft.Network/networkSecurityGroups": "2025-07-01",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "2024-06-01",
    "Microsoft.Network/privateEndpoints": "2025-07-01",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": "2025-07-01",
    "Microsoft.Network/virtualNetworks": "2025-07-01",
    "Microsoft.OperationalInsights/workspaces": "2025-02-01",
    "Microsoft.Resources/resourceGroups": "2025-04-01",
    "Microsoft.Storage/storageAccounts": "2025-08-01",
    "Microsoft.Storage/storageAccounts/blobServices": "2025-08-01",
    "Microsoft.Storage/storageAccounts/blobServices/containers": "2025-08-01",
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": "2025-08-01",
    "Microsoft.Storage/storageAccounts/managementPolicies": "2025-08-01",
    "Microsoft.Storage/storageAccounts/queueServices": "2025-08-01",
    "Microsoft.Storage/storageAccounts/queueServices/queues": "2025-08-01",
    "Microsoft.Web/serverfarms": "2025-03-01",
    "Microsoft.Web/sites": "2025-03-01",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "2025-03-01",
    "Microsoft.Web/sites/config": "2025-03-01",
}
"""Versions whose properties, required ones and values were looked up in Azure's own type definitions
(https://github.com/Azure/bicep-types-az). A new one has to be looked up first."""


@pytest.mark.parametrize(
    "broken",
    [
        "param name string = ",
        "resource a 'Microsoft.Web/sites@2024-11-01' = {\n  name: 'x'\n",
        "var a = { b: 'c'\nvar d = 1",
        "output a string = 'unfinished",
    ],
)
def test_the_reader_refuses_text_that_is_not_bicep(broken: str, tmp_path: Path) -> None:
    assert problems(broken)
    path = tmp_path / "broken.bicep"
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(SyntaxError):
        read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_that_loses_a_brace_is_refused(name: str) -> None:
    text = source(name)
    assert problems(text[: text.rindex("}")] + text[text.rindex("}") + 1 :])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name: str) -> None:
    for parameter, declared in TEMPLATES[name].parameters.items():
        assert declared.decorators.get("description"), parameter


@pytest.mark.parametrize("name", NAMES)
def test_versions_of_resource_types_are_the_chosen_ones(name: str) -> None:
    for resource in TEMPLATES[name].resources:
        kind, _, version = resource.source.partition("@")
        assert API_VERSIONS[kind] == version, resource.symbol


@pytest.mark.parametrize("name", NAMES)
def test_modules_get_the_parameters_that_they_declare(name: str) -> None:
    """As the compiler checks first: no parameter too many, none missing, and outputs that exist."""
    folder = Path(name).parent
    modules: dict[str, Template] = {}
    for module in TEMPLATES[name].modules:
        target = TEMPLATES[str(folder / module.source)]
        given = set(module.body["params"])
        required = {key for key, declared in target.parameters.items() if declared.default is None}
        assert given <= set(target.parameters), module.symbol
        assert required <= given, module.symbol
        modules[module.symbol] = target
    for symbol, output in re.findall(r"\b(\w+)\.outputs\.(\w+)", source(name)):
        assert output in modules[symbol].outputs, f"{symbol}.outputs.{output}"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_and_variable_is_used(name: str) -> None:
    for symbol in (*TEMPLATES[name].parameters, *TEMPLATES[name].variables):
        assert len(re.findall(rf"\bin {symbol}:|\b{symbol}\b(?!:)", source(name))) > 1, symbol


@pytest.mark.parametrize("name", NAMES)
def test_no_dependency_is_declared_twice(name: str) -> None:
    """The compiler's rule no-unnecessary-dependson, which was an error once and stopped every deployment."""
    assert needless_dependencies(source(name)) == []


def test_a_needless_dependency_is_found_through_variables_and_modules() -> None:
    again = source("resources.bicep").replace("    roles\n    network\n", "    roles\n    hostStorage\n    openAi\n")
    assert needless_dependencies(again) == ["app: hostStorage"], "openAi is reached by another dependsOn only"
    through = source("resources.bicep").replace(
        "    userPrincipalType: userPrincipalType\n  }\n",
        "    userPrincipalType: '1'\n  }\n  dependsOn: [\n    monitoring\n  ]\n",
    )
    assert needless_dependencies(through) == ["roles: monitoring"]
    variable = "resource a 'A/a@1' = {}\nvar b = a.id\nresource c 'A/a@1' = { x: b\n dependsOn: [\na\n] }"
    assert needless_dependencies(variable) == ["c: a"]
    loop = "resource a 'A/a@1' = [for x in y: {}]\nresource c 'A/a@1' = { x: a[0].id\n dependsOn: [\na\n] }"
    assert needless_dependencies(loop) == []


def test_no_linter_rule_stops_a_deployment() -> None:
    """A bicepconfig.json counts wherever the templates are compiled, by later compilers, too. CI has one of its own."""
    for config in (*BICEP.rglob("bicepconfig.json"), ROOT / "infra" / "bicepconfig.json", ROOT / "bicepconfig.json"):
        if config.exists():
            rules = json.loads(config.read_text(encoding="utf-8"))["analyzers"]["core"]["rules"]
            assert not [name for name, rule in rules.items() if rule.get("level") == "error"], config


@pytest.mark.parametrize("name", NAMES)
def test_types_say_what_is_in_an_object_or_an_array(name: str) -> None:
    """The compiler's rule use-user-defined-types."""
    vague = {parameter: p.type for parameter, p in TEMPLATES[name].parameters.items() if p.type in {"object", "array"}}
    assert not vague


def test_every_module_is_used() -> None:
    used = {
        str(Path(name).parent / module.source) for name, template in TEMPLATES.items() for module in template.modules
    }
    assert {name for name in NAMES if name.startswith("modules/")} <= used


def test_storage_takes_no_keys() -> None:
    (account,) = resources("Microsoft.Storage/storageAccounts")
    properties = account.body["properties"]
    assert properties["allowSharedKeyAccess"] is False
    assert properties["defaultToOAuthAuthentication"] is True
    assert properties["allowBlobPublicAccess"] is False
    assert properties["allowCrossTenantReplication"] is False
    assert properties["isLocalUserEnabled"] is False
    assert properties["supportsHttpsTrafficOnly"] is True
    assert properties["minimumTlsVersion"] == "TLS1_2"
    (containers,) = resources("Microsoft.Storage/storageAccounts/blobServices/containers")
    assert containers.body["properties"]["publicAccess"] == "None"


def test_azure_openai_takes_tokens_only() -> None:
    (account,) = resources("Microsoft.CognitiveServices/accounts")
    assert account.body["properties"]["disableLocalAuth"] is True
    assert account.body["properties"]["customSubDomainName"]


def test_telemetry_takes_tokens_only() -> None:
    (component,) = resources("Microsoft.Insights/components")
    assert component.body["properties"]["DisableLocalAuth"] is True
    for workspace in resources("Microsoft.OperationalInsights/workspaces"):
        assert workspace.body["properties"]["features"]["disableLocalAuth"] is True


def test_the_plan_is_flex_consumption() -> None:
    (plan,) = resources("Microsoft.Web/serverfarms")
    assert plan.body["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    assert plan.body["properties"] == {"reserved": True}, "Linux"


def test_the_function_app_is_https_only_and_has_no_password() -> None:
    (app,) = resources("Microsoft.Web/sites")
    properties = app.body["properties"]
    assert properties["httpsOnly"] is True
    assert properties["siteConfig"]["minTlsVersion"] == properties["siteConfig"]["scmMinTlsVersion"] == "1.2"
    assert app.body["identity"] == {
        "type": "UserAssigned",
        "userAssignedIdentities": {"${identityId}": {}, "${deploymentIdentityId}": {}},
    }
    assert properties["functionAppConfig"]["deployment"]["storage"] == {
        "type": "blobContainer",
        "value": "deploymentContainerUrl",
        "authentication": {
            "type": "UserAssignedIdentity",
            "userAssignedIdentityResourceId": "deploymentIdentityId",
        },
    }
    doors = resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {door.body["name"]: door.body["properties"]["allow"] for door in doors} == {"scm": False}


def test_one_key_is_read_and_it_goes_nowhere_else() -> None:
    reading = re.compile(r"\blist(?:Keys|AccountSas|ServiceSas|Secrets|Credentials)?\(", re.IGNORECASE)
    assert {name: len(found) for name in NAMES if (found := reading.findall(source(name)))} == {
        "event-subscription.bicep": 1
    }
    assert not TEMPLATES["event-subscription.bicep"].outputs
    key = TEMPLATES["event-subscription.bicep"].variables["webhookDestination"]["properties"]["endpointUrl"]
    assert isinstance(key, Expression)
    assert key.split("?")[0].strip() == "eventDelivery == 'webhook'", "delivery by queue reads no key"


@pytest.mark.parametrize("name", ["main.bicep", "resources.bicep"])
def test_outputs_are_named_as_azd_wants_them_and_hold_no_secret(name: str) -> None:
    for output, value in TEMPLATES[name].outputs.items():
        assert re.fullmatch(r"(AZURE|BLOBSIGHT)_[A-Z_]+", output)
        assert not re.search("key|secret|password|sas|connectionstring", f"{output} {value}", re.IGNORECASE)


def test_parameters_hold_no_secret() -> None:
    for name in ("main.bicep", "resources.bicep", "event-subscription.bicep"):
        for parameter in TEMPLATES[name].parameters:
            assert not re.search("key|secret|password|connection", parameter, re.IGNORECASE)
