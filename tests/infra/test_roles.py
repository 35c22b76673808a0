"""Roles: the least that works, each on one resource, never on a group, and never Owner or Contributor."""

import re

from support.grants import FILES, ROLES, Grant, assignments, custom_roles, grant, role
from support.person import ROOT
from support.templates import NAMES, TEMPLATES, module, resources, source

from pipeline.batches.service import _failure
from pipeline.model.reasons import reason_in

NAMES_OF_ROLES = {
    "storageBlobDataOwner": "Storage Blob Data Owner",
    "storageBlobDataContributor": "Storage Blob Data Contributor",
    "storageBlobDataReader": "Storage Blob Data Reader",
    "storageQueueDataContributor": "Storage Queue Data Contributor",
    "storageQueueDataMessageSender": "Storage Queue Data Message Sender",
    "storageTableDataContributor": "Storage Table Data Contributor",
    "monitoringMetricsPublisher": "Monitoring Metrics Publisher",
    "cognitiveServicesOpenAiUser": "Cognitive Services OpenAI User",
    "cognitiveServicesOpenAiContributor": "Cognitive Services OpenAI Contributor",
}
ASKED_FOR = {"kind": "userPrincipalType", "condition": "(!empty(userPrincipalId))"}
GRANTS = {
    "appOnHostStorage": Grant(
        "appPrincipalId",
        "hostStorage",
        ("storageBlobDataOwner", "storageQueueDataContributor", "storageTableDataContributor"),
    ),
    "deploymentOnPackages": Grant("deploymentPrincipalId", "packages", ("storageBlobDataContributor",)),
    "appOnImages": Grant("appPrincipalId", "images", ("storageBlobDataReader",)),
    "appOnInstructions": Grant(
        "appPrincipalId", "instructions", ("storageBlobDataReader",), condition="(!empty(instructionsContainer))"
    ),
    "appOnDeadLetters": Grant("appPrincipalId", "deadLetters", ("storageBlobDataReader",)),
    "appOnResults": Grant("appPrincipalId", "results", ("storageBlobDataContributor",)),
    "appOnTrials": Grant("appPrincipalId", "trials", ("storageBlobDataContributor",)),
    "appOnState": Grant("appPrincipalId", "state", ("storageBlobDataContributor",)),
    "appOnQueue": Grant("appPrincipalId", "queue", ("storageQueueDataContributor",)),
    "appOnApplicationInsights": Grant("appPrincipalId", "applicationInsights", ("monitoringMetricsPublisher",)),
    "access": Grant("appPrincipalId", "account", ("cognitiveServicesOpenAiUser",)),
    "batchAccess": Grant("appPrincipalId", "account", ("cognitiveServicesOpenAiContributor",), condition="(batches)"),
    "eventGridOnDeadLetters": Grant("eventGridPrincipalId", "deadLetters", ("storageBlobDataContributor",)),
    "eventGridOnRequests": Grant("eventGridPrincipalId", "requests", ("storageQueueDataMessageSender",)),
    "userOnImages": Grant("userPrincipalId", "images", ("storageBlobDataContributor",), **ASKED_FOR),
    "userOnResults": Grant("userPrincipalId", "results", ("storageBlobDataReader",), **ASKED_FOR),
    "userOnTrials": Grant("userPrincipalId", "trials", ("storageBlobDataContributor",), **ASKED_FOR),
    "userOnState": Grant("userPrincipalId", "state", ("storageBlobDataReader",), **ASKED_FOR),
    "userOnRequests": Grant("userPrincipalId", "requests", ("storageQueueDataMessageSender",), **ASKED_FOR),
    "userOnInstructions": Grant(
        "userPrincipalId",
        "instructions",
        ("storageBlobDataContributor",),
        "userPrincipalType",
        "(!empty(userPrincipalId) && !empty(instructionsContainer))",
    ),
}
SCOPES = {
    "hostStorage": "hostStorageName",
    "packages": "deploymentContainer",
    "images": "inputContainer",
    "results": "outputContainer",
    "trials": "trialsContainer",
    "state": "stateContainer",
    "deadLetters": "deadLetterContainer",
    "requests": "requestsQueue",
    "queue": "queueName",
    "instructions": "empty(instructionsContainer) ? 'none' : instructionsContainer",
    "applicationInsights": "applicationInsightsName",
    "account": "accountName",
}


def test_grants_are_those_and_no_others() -> None:
    assert {each.symbol: grant(name, each) for name in FILES for each in assignments(name)} == GRANTS
    assert len(list(resources("Microsoft.Authorization/roleAssignments"))) == len(GRANTS), "none elsewhere"


def test_roles_are_those_and_no_others() -> None:
    found = {role: value for name in FILES for role, value in TEMPLATES[name].variables.items() if role in ROLES}
    assert found == ROLES
    everywhere = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "".join(map(source, NAMES)))
    assert set(everywhere) == set(ROLES.values())


def test_roles_of_our_own_allow_this_and_are_given_instead_of_azures() -> None:
    assert custom_roles() == {
        "writerName": {"blobs/read", "blobs/write"},
        "keeperName": {"blobs/read", "blobs/write", "blobs/delete"},
        "callerName": {"deployments/chat/completions/action"},
        "senderName": {
            "batch-jobs/write",
            "batches/cancel/action",
            "batches/read",
            "files/delete",
            "files/read",
            "files/write",
        },
    }
    given = {
        each.symbol: grant(name, each, custom=True).roles
        for name in FILES
        for each in assignments(name)
        if grant(name, each, custom=True) != grant(name, each)
    }
    assert given == {
        "appOnResults": ("writerName",),
        "appOnTrials": ("writerName",),
        "appOnState": ("keeperName",),
        "access": ("callerName",),
        "batchAccess": ("senderName",),
    }
    # A role is there before it is given.
    waits = {
        "appOnResults": "resultWriter",
        "appOnTrials": "resultWriter",
        "appOnState": "noteKeeper",
        "access": "modelCaller",
        "batchAccess": "batchSender",
    }
    assert {
        each.symbol: each.body["dependsOn"] for name in FILES for each in assignments(name) if "dependsOn" in each.body
    } == {symbol: [of] for symbol, of in waits.items()}


def test_batches_are_off_unless_asked_for_and_go_with_their_role_and_setting() -> None:
    """With an account that was there before, too: its deployment is then its owner's to make."""
    for name in ("main.bicep", "resources.bicep"):
        assert TEMPLATES[name].parameters["batchDeploymentName"].default == ""
    assert TEMPLATES["resources.bicep"].variables["batches"] == "!empty(batchDeploymentName)"
    batch_sku = module("openAi").body["params"]["batchSku"]
    assert batch_sku == "empty(batchSku) ? batchSkuOfModel : batchSku"
    of_model = TEMPLATES["resources.bicep"].variables["batchSkuOfModel"]
    assert of_model == "modelSku == 'DataZoneStandard' ? 'DataZoneBatch' : 'GlobalBatch'", "no image leaves the zone"
    access = module("openAiAccess")
    assert (access.condition, access.body["params"]["batches"]) == (None, "batches")
    settings = " ".join(module("app").body["params"]["pipelineSettings"].split())
    assert "batches ? { BATCH_DEPLOYMENT: batchDeploymentName } : {}" in settings
    made = TEMPLATES["modules/openai.bicep"].resource("batchDeployment")
    of_the_account = TEMPLATES["modules/openai.bicep"].resource("modelDeployment")
    assert made["properties"] == of_the_account["properties"], "the same model"
    assert made["dependsOn"] == ["modelDeployment"], "an account makes one deployment after the other"


def test_the_messages_about_a_missing_role_name_the_templates_roles() -> None:
    sender = TEMPLATES["modules/openai-access.bicep"].resource("batchSender")["properties"]["roleName"]
    said = str(_failure(reason_in(401, {}, b"", None)))
    assert f"'{sender.removesuffix(' (${accountName})')}'" in said
    assert f"'{NAMES_OF_ROLES['cognitiveServicesOpenAiContributor']}'" in said


def test_the_app_cannot_write_the_code_that_it_runs() -> None:
    on_code = {each.who for each in GRANTS.values() if each.on == "packages"}
    assert on_code == {"deploymentPrincipalId"}
    (queues,) = (each for each in TEMPLATES["modules/roles.bicep"].modules if each.source == "app-on-queue.bicep")
    assert queues.body["params"]["storageName"] == "dataStorageName"


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
    resources_vars = TEMPLATES["resources.bicep"].variables
    places = {
        "queue": "each queue",
        "images": "images",
        "results": "results",
        "trials": "trials",
        "state": str(resources_vars["stateContainer"]),
        "deadLetters": str(resources_vars["deadLetterContainer"]),
        "requests": str(resources_vars["requestsQueue"]),
    }
    granted = [each for each in GRANTS.values() if each.on in places]
    assert set(re.findall(r"\*([^*]+)\*", expected)) == {
        NAMES_OF_ROLES[role] for each in granted for role in each.roles
    }
    assert not [each for each in granted if places[each.on] not in expected]


def test_each_scope_is_the_resource_that_its_name_says() -> None:
    existing = [each for name in FILES for each in TEMPLATES[name].resources if each.existing]
    assert {each.symbol: each.body["name"] for each in existing if each.symbol in SCOPES} == SCOPES
    assert {each.on for each in GRANTS.values()} == set(SCOPES)
