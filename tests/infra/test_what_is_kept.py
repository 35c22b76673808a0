"""Deleted and overwritten blobs can be restored for a while, and nothing is kept, and paid for, for ever."""

import re
from datetime import timedelta
from typing import Any

from support.templates import TEMPLATES, module, resources

from pipeline.batches.shard import LONGEST_BATCH, LONGEST_UNSENT, MOST_BATCHES, SHOWN_FOR
from pipeline.storage import lines, shards

DATA = TEMPLATES["modules/storage-data.bicep"]


def rules(name: str) -> dict[str, tuple[tuple[str, ...] | str, dict[str, Any]]]:
    """Lifecycle rules: where they apply, and after how many days they delete what."""
    return {
        rule["name"]: (
            where if isinstance(where := rule["definition"]["filters"]["prefixMatch"], str) else tuple(where),
            {what: next(iter(action["delete"].values())) for what, action in rule["definition"]["actions"].items()},
        )
        for rule in DATA.variables[name]
    }


def test_deleted_and_overwritten_blobs_can_be_restored() -> None:
    (blobs,) = resources("Microsoft.Storage/storageAccounts/blobServices")
    for what in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert blobs.body["properties"][what] == {"enabled": True, "days": "softDeleteDays"}
    versioning = {
        name: TEMPLATES[f"modules/{name}.bicep"].modules[0].body["params"]["versioning"]
        for name in ("storage-data", "storage-host", "storage-code")
    }
    assert versioning == {"storage-data": True, "storage-host": False, "storage-code": False}


def test_every_container_loses_its_old_versions() -> None:
    """A deleted blob leaves a version behind, so a rule that deletes blobs has to delete versions, too."""
    assert rules("standingRules") == {
        "old-versions": ("oldVersionsOf", {"version": "versionDays"}),
        "pipeline-state": (("${stateContainer}/",), {"baseBlob": 90, "version": 1}),
        "batches": (("${stateContainer}/batches/",), {"baseBlob": 14, "version": 1}),
        "dead-letters": (("${deadLetterContainer}/",), {"baseBlob": 90, "version": 1}),
    }
    assert " ".join(DATA.variables["oldVersionsOf"].split()) == (
        "[ for container in concat([inputContainer, outputContainer, trialsContainer], operatorsContainers):"
        " '${container}/' ]"
    )
    (account,) = DATA.modules
    containers = re.findall(r"\w+", account.body["params"]["containers"].removeprefix("concat"))
    assert containers == [
        "inputContainer",
        "outputContainer",
        "stateContainer",
        "trialsContainer",
        "deadLetterContainer",
        "operatorsContainers",
    ]


def test_nothing_of_a_batch_is_deleted_while_it_is_needed() -> None:
    """A question waits and is sent anew, up to so many times; a shard is shown for a while after that."""
    _, days = rules("standingRules")["batches"]
    longest = MOST_BATCHES * (LONGEST_UNSENT + LONGEST_BATCH) + SHOWN_FOR
    assert timedelta(days=days["baseBlob"]) > longest
    for prefix in (lines.PREFIX, shards.PREFIX, shards.SEND_NOW):
        assert prefix.startswith("batches/")


def test_results_can_be_made_immutable_for_a_while() -> None:
    """Each overwritten one stays as a version: for as long as the policy says, nobody deletes or changes it."""
    (policy,) = resources("Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies")
    assert (policy.condition, policy.body["parent"]) == ("(immutableDays > 0)", "results")
    assert policy.body["properties"] == {"immutabilityPeriodSinceCreationInDays": "immutableDays"}
    assert DATA.resource("results")["name"] == "outputContainer"
    (account,) = DATA.modules
    assert account.body["params"]["immutableContainers"] == "immutableDays > 0 ? [outputContainer] : []"
    (containers,) = resources("Microsoft.Storage/storageAccounts/blobServices/containers")
    assert "contains(immutableContainers, container)" in containers.body["properties"]["immutableStorageWithVersioning"]


def test_images_results_and_trials_stay_unless_asked_for() -> None:
    """Trials hold copies of images: when those have to go, so do the copies."""
    assert rules("retentionRules") == {
        "images-and-results": (
            ("${inputContainer}/", "${outputContainer}/", "${trialsContainer}/"),
            {"baseBlob": "keepDays"},
        )
    }
    policy = DATA.resource("lifecycle")["properties"]["policy"]
    assert policy["rules"] == "concat(standingRules, keepDays > 0 ? retentionRules : [])"
    assert module("dataStorage").body["params"]["keepDays"] == "keepDays"
    assert TEMPLATES["main.bicep"].parameters["keepDays"].default == 0
