"""The hardened profile: one switch, and what it closes. docs/trust.md says what each part costs."""

import re
from typing import Any

from support.bicep_source import Expression
from support.person import ROOT
from support.templates import TEMPLATES, module, resources, source

RESOURCES = TEMPLATES["resources.bicep"]


def settings_of_diagnostics() -> dict[str, tuple[str, list[str]]]:
    """By the module and symbol: what is logged about what."""
    found = {}
    for name, template in TEMPLATES.items():
        for each in template.created("Microsoft.Insights/diagnosticSettings"):
            logs = each.body["properties"]["logs"]
            given: list[Any] = template.variables[logs] if isinstance(logs, Expression) else logs
            found[f"{name}:{each.symbol}"] = (
                str(each.body["scope"]),
                [log.get("category") or log["categoryGroup"] for log in given],
            )
    return found


def test_it_is_off_unless_asked_for() -> None:
    for name in ("hardened", "customRoles"):
        assert TEMPLATES["main.bicep"].parameters[name].default is False
    assert TEMPLATES["main.bicep"].parameters["immutableDays"].default == 0
    assert TEMPLATES["main.bicep"].parameters["monthlyBudget"].default == 0


def test_it_includes_the_private_network_and_delivery_by_queue() -> None:
    assert RESOURCES.variables["isolated"] == "hardened || networkIsolation"
    assert RESOURCES.variables["delivery"] == "hardened ? 'queue' : eventDelivery"
    text = re.sub(r"^@description.*", "", source("resources.bicep"), flags=re.MULTILINE)
    for parameter, effective in (("networkIsolation", "isolated"), ("eventDelivery", "delivery")):
        (declared, used) = re.findall(rf"^.*\b{parameter}\b(?!:).*$", text, re.MULTILINE)
        assert declared.startswith(f"param {parameter} ")
        assert used.startswith(f"var {effective} = "), "nothing goes by the parameter alone"


def test_it_logs_who_did_what_apart_from_the_apps_own_logs() -> None:
    assert module("audit").condition == "(hardened)"
    assert settings_of_diagnostics() == {
        "modules/event-grid.bicep:deliveryFailures": ("topic", ["DeliveryFailures"]),
        "modules/audit.bicep:ofBlobs": ("dataBlobs", ["StorageRead", "StorageWrite", "StorageDelete"]),
        "modules/audit.bicep:ofQueues": ("dataQueues", ["StorageWrite", "StorageDelete"]),
        "modules/audit.bicep:ofPackages": ("codeBlobs", ["StorageWrite", "StorageDelete"]),
        "modules/audit.bicep:ofApp": ("app", ["allLogs"]),
        "modules/audit.bicep:ofModel": ("openAi", ["Audit", "RequestResponse"]),
    }
    (workspace,) = TEMPLATES["modules/audit.bicep"].created("Microsoft.OperationalInsights/workspaces")
    assert "workspaceCapping" not in workspace.body["properties"], "an audit log that stops is none"


def test_somebody_is_told() -> None:
    assert module("alerts").condition == "(hardened || alertsEnabled)"
    email = " ".join(module("alerts").body["params"]["email"].split())
    assert re.fullmatch(r"hardened && empty\(alertEmail\) \? fail\('.*BLOBSIGHT_ALERT_EMAIL.*'\) : alertEmail", email)


def test_a_budget_needs_an_address_and_a_month() -> None:
    assert module("budget").condition == "(monthlyBudget > 0)"
    given = module("budget").body["params"]
    for parameter, variable in (("email", "BLOBSIGHT_ALERT_EMAIL"), ("startDate", "BLOBSIGHT_BUDGET_FROM")):
        assert f"({variable})" in given[parameter]
        assert "fail('" in given[parameter]
    (budget,) = resources("Microsoft.Consumption/budgets")
    properties = budget.body["properties"]
    assert (properties["category"], properties["timeGrain"], properties["amount"]) == ("Cost", "Monthly", "amount")
    assert properties["timePeriod"] == {"startDate": "startDate"}
    thresholds = re.findall(r"threshold: (\d+)\s+thresholdType: '(\w+)'", source("modules/budget.bicep"))
    assert thresholds == [("80", "Actual"), ("100", "Actual"), ("100", "Forecasted")]


def test_whoever_may_call_the_app_follows_from_the_delivery() -> None:
    params = module("app").body["params"]
    assert (params["inboundRestricted"], params["admitsEventGrid"]) == ("isolated", "delivery == 'webhook'")
    (app,) = resources("Microsoft.Web/sites")
    config = app.body["properties"]["siteConfig"]
    assert config["ipSecurityRestrictionsDefaultAction"] == "inboundRestricted ? 'Deny' : 'Allow'"
    assert config["ipSecurityRestrictions"] == (
        "inboundRestricted ? concat(admitsEventGrid ? eventGridRules : [], addressRules) : []"
    )
    (rule,) = TEMPLATES["modules/function-app.bicep"].variables["eventGridRules"]
    assert (rule["tag"], rule["ipAddress"], rule["action"]) == ("ServiceTag", "AzureEventGrid", "Allow")
    assert config["scmIpSecurityRestrictionsUseMain"] is False
    assert config["scmIpSecurityRestrictionsDefaultAction"] == (
        "inboundRestricted && !empty(allowedIpRanges) ? 'Deny' : 'Allow'"
    )


def test_the_app_calls_nothing_else() -> None:
    tags = " ".join(module("network").body["params"]["outboundTags"].split())
    theirs = "openAiIsNew ? [] : ['CognitiveServicesManagement']"
    assert tags == f"hardened ? concat(['AzureActiveDirectory', 'AzureMonitor'], {theirs}) : []"
    groups = {each.symbol: each.body["properties"]["securityRules"] for each in network_groups()}
    assert groups == {
        "securityGroup": [],
        "appSecurityGroup": "empty(outboundTags) ? [] : concat(outboundRules, nothingElse)",
    }
    (last,) = TEMPLATES["modules/network.bicep"].variables["nothingElse"]
    rule = last["properties"]
    assert (rule["access"], rule["direction"], rule["destinationAddressPrefix"], rule["priority"]) == (
        "Deny",
        "Outbound",
        "Internet",
        4096,
    )
    (network,) = resources("Microsoft.Network/virtualNetworks")
    subnets = {
        each["name"]: each["properties"]["networkSecurityGroup"] for each in network.body["properties"]["subnets"]
    }
    assert subnets == {"app": {"id": "appSecurityGroup.id"}, "private-endpoints": {"id": "securityGroup.id"}}


def network_groups() -> list[Any]:
    return list(resources("Microsoft.Network/networkSecurityGroups"))


def test_copies_stay_in_the_tenant() -> None:
    (account,) = resources("Microsoft.Storage/storageAccounts")
    assert account.body["properties"]["allowedCopyScope"] == "copiesWithinTenant ? 'AAD' : null"
    for symbol in ("hostStorage", "codeStorage", "dataStorage"):
        assert module(symbol).body["params"]["copiesWithinTenant"] == "hardened"
    for name in ("storage-host", "storage-code", "storage-data"):
        (nested,) = TEMPLATES[f"modules/{name}.bicep"].modules
        assert nested.body["params"]["copiesWithinTenant"] == "copiesWithinTenant"


def test_the_page_says_what_each_part_costs_and_what_the_plain_profile_leaves_open() -> None:
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    (profile,) = re.findall(r"^## The hardened profile$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    (table,) = re.findall(r"^\| part .*?\n\n", profile, re.MULTILINE | re.DOTALL)
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "private endpoints",
        "inbound",
        "egress",
        "queue delivery",
        "audit logs",
        "copy scope",
        "versions",
        "alerts",
    ]
    assert all(len(row) == 4 and row[3] for row in rows), "what, plain, hardened, cost"
