"""Roles: the least that works, each on one resource, never on a group, and never Owner or Contributor."""

import re
from dataclasses import dataclass

from support.bicep_source import Declaration
from support.person import ROOT
from support.templates import NAMES, TEMPLATES, resources, source

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "storageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "storageBlobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "storageBlobDataReader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "storageQueueDataMessageSender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "monitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "cognitiveServicesOpenAiUser": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
}
FILES = ("modules/roles.bicep", "modules/openai-access.bicep")


@dataclass(frozen=True, slots=True)
class Grant:
    who: str
    on: str
    roles: tuple[str, ...]
    kind: str = "ServicePrincipal"
    """The principal's kind: given it, Azure does not look up an identity that is too new to be known everywhere."""
    condition: str | None = None


ASKED_FOR = {"kind": "userPrincipalType", "condition": "(!empty(userPrincipalId))"}
GRANTS = {
    "appOnHostStorage": Grant(
        "appPrincipalId",
        "hostStorage",
        ("storageBlobDataOwner", "storageQueueDataContributor", "storageTableDataContributor"),
    ),
    "appOnDataStorage": Grant("appPrincipalId", "dataStorage", ("storageBlobDataOwner", "storageQueueDataContributor")),
    "appOnApplicationInsights": Grant("appPrincipalId", "applicationInsights", ("monitoringMetricsPublisher",)),
    "access": Grant("appPrincipalId", "account", ("cognitiveServicesOpenAiUser",)),
    "eventGridOnDeadLetters": Grant("eventGridPrincipalId", "deadLetters", ("storageBlobDataContributor",)),
    "eventGridOnRequests": Grant("eventGridPrincipalId", "requests", ("storageQueueDataMessageSender",)),
    "userOnImages": Grant("userPrincipalId", "images", ("storageBlobDataContributor",), **ASKED_FOR),
    "userOnResults": Grant("userPrincipalId", "results", ("storageBlobDataReader",), **ASKED_FOR),
    "userOnState": Grant("userPrincipalId", "state", ("storageBlobDataReader",), **ASKED_FOR),
    "userOnRequests": Grant("userPrincipalId", "requests", ("storageQueueDataMessageSender",), **ASKED_FOR),
}
SCOPES = {
    "hostStorage": "hostStorageName",
    "dataStorage": "dataStorageName",
    "images": "inputContainer",
    "results": "outputContainer",
    "state": "stateContainer",
    "deadLetters": "deadLetterContainer",
    "requests": "requestsQueue",
    "applicationInsights": "applicationInsightsName",
    "account": "accountName",
}


def assignments(name: str) -> list[Declaration]:
    return TEMPLATES[name].created("Microsoft.Authorization/roleAssignments")


def role(name: str, assignment: Declaration) -> str:
    """The expression for the role: a variable, or the variable of a loop."""
    definition = assignment.body["properties"]["roleDefinitionId"]
    found = re.fullmatch(r"subscriptionResourceId\('Microsoft.Authorization/roleDefinitions', (\w+)\)", definition)
    assert found, name
    return found[1]


def grant(name: str, assignment: Declaration) -> Grant:
    of = role(name, assignment)
    looped = re.search(rf"resource {assignment.symbol} .*\[\n +for {of} in (\w+):", source(name))
    roles = TEMPLATES[name].variables[looped[1]] if looped else [of]
    properties = assignment.body["properties"]
    return Grant(
        properties["principalId"],
        assignment.body["scope"],
        tuple(roles),
        properties["principalType"],
        assignment.condition,
    )


def test_only_the_listed_roles_are_granted() -> None:
    assert {each.symbol: grant(name, each) for name in FILES for each in assignments(name)} == GRANTS
    assert len(list(resources("Microsoft.Authorization/roleAssignments"))) == len(GRANTS), "none elsewhere"


def test_roles_are_those_and_no_others() -> None:
    variables = [TEMPLATES[name].variables for name in FILES]
    assert {role: value for each in variables for role, value in each.items() if isinstance(value, str)} == ROLES
    everywhere = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "".join(map(source, NAMES)))
    assert set(everywhere) == set(ROLES.values())


def test_an_assignment_has_the_same_name_every_time_and_none_has_anothers() -> None:
    """Or a second deployment would fail: an assignment is there already, under another name."""
    for name in FILES:
        for each in assignments(name):
            who = each.body["properties"]["principalId"]
            assert each.body["name"] == f"guid({each.body['scope']}.id, {who}, {role(name, each)})"


def test_the_checklist_names_what_there_is_on_the_data_account() -> None:
    """docs/deploy.md, with what `az role assignment list` shows."""
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (expected,) = re.findall(r"^\| 2 \| `az role assignment list --all .*\| (the app on .*) \|$", page, re.MULTILINE)
    names = {
        "storageBlobDataOwner": "Storage Blob Data Owner",
        "storageBlobDataContributor": "Storage Blob Data Contributor",
        "storageBlobDataReader": "Storage Blob Data Reader",
        "storageQueueDataContributor": "Storage Queue Data Contributor",
        "storageQueueDataMessageSender": "Storage Queue Data Message Sender",
    }
    resources_vars = TEMPLATES["resources.bicep"].variables
    places = {
        "dataStorage": "the app on the account",
        "images": "images",
        "results": "results",
        "state": str(resources_vars["stateContainer"]),
        "deadLetters": str(resources_vars["deadLetterContainer"]),
        "requests": str(resources_vars["requestsQueue"]),
    }
    granted = [each for each in GRANTS.values() if each.on in places]
    assert set(re.findall(r"\*([^*]+)\*", expected)) == {names[role] for each in granted for role in each.roles}
    assert not [each for each in granted if places[each.on] not in expected]


def test_each_scope_is_the_resource_that_its_name_says() -> None:
    existing = [each for name in FILES for each in TEMPLATES[name].resources if each.existing]
    assert {each.symbol: each.body["name"] for each in existing if each.symbol in SCOPES} == SCOPES
    assert {each.on for each in GRANTS.values()} == set(SCOPES)
