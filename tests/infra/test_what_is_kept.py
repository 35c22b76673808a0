"""Deleted and overwritten blobs can be restored for a while, and nothing is kept, and paid for, for ever."""

from typing import Any

from support.templates import TEMPLATES, module, resources

DATA = TEMPLATES["modules/storage-data.bicep"]


def rules(name: str) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """Lifecycle rules: where they apply, and after how many days they delete what."""
    return {
        rule["name"]: (
            tuple(rule["definition"]["filters"]["prefixMatch"]),
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
        for name in ("storage-data", "storage-host")
    }
    assert versioning == {"storage-data": True, "storage-host": False}


def test_every_container_loses_its_old_versions() -> None:
    """A deleted blob leaves a version behind, so a rule that deletes blobs has to delete versions, too."""
    assert rules("standingRules") == {
        "old-versions": (("${inputContainer}/", "${outputContainer}/"), {"version": "versionDays"}),
        "pipeline-state": (("${stateContainer}/",), {"baseBlob": 90, "version": 1}),
        "dead-letters": (("${deadLetterContainer}/",), {"baseBlob": 90, "version": 1}),
    }
    (account,) = DATA.modules
    covered = {prefix for where, _ in rules("standingRules").values() for prefix in where}
    assert covered == {f"${{{name}}}/" for name in account.body["params"]["containers"]}


def test_images_and_results_stay_unless_asked_for() -> None:
    assert rules("retentionRules") == {
        "images-and-results": (("${inputContainer}/", "${outputContainer}/"), {"baseBlob": "keepDays"})
    }
    policy = DATA.resource("lifecycle")["properties"]["policy"]
    assert policy["rules"] == "concat(standingRules, keepDays > 0 ? retentionRules : [])"
    assert module("dataStorage").body["params"]["keepDays"] == "keepDays"
    assert TEMPLATES["main.bicep"].parameters["keepDays"].default == 0
