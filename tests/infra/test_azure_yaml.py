"""azure.yaml is what azd understands, and points at what is there.

The schema here says what azd's own says of the keys that azure.yaml uses, and forbids all others: azd's lets most
unknown keys pass, misspelt ones too. It was read in Azure/azure-dev, schemas/v1.0/azure.yaml.json, at 00cddf71; the
workflow infra.yml checks against the one that is published now.
"""

import re
from typing import Any

import jsonschema
import pytest
import yaml
from support.bicep_source import read
from support.person import ROOT

from pipeline import __version__

SCRIPT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["shell", "run"],
    "properties": {
        "shell": {"enum": ["sh", "pwsh"]},
        "run": {"type": "string"},
        "continueOnError": {"type": "boolean"},
        "interactive": {"type": "boolean"},
    },
}
HOOK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["posix", "windows"],
    "properties": {"posix": SCRIPT, "windows": SCRIPT},
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "metadata", "requiredVersions", "infra", "services", "hooks"],
    "properties": {
        "name": {"type": "string", "minLength": 2, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "required": ["template"],
            "properties": {"template": {"type": "string"}},
        },
        "requiredVersions": {
            "type": "object",
            "additionalProperties": False,
            "required": ["azd"],
            "properties": {"azd": {"type": "string"}},
        },
        "infra": {
            "type": "object",
            "additionalProperties": False,
            "required": ["provider", "path", "module"],
            "properties": {
                "provider": {"const": "bicep"},
                "path": {"type": "string"},
                "module": {"type": "string"},
            },
        },
        "services": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["host", "project", "language"],
                "properties": {
                    "host": {"const": "function"},
                    "project": {"type": "string"},
                    "language": {"enum": ["py", "python"]},
                    "remoteBuild": {"type": "boolean"},
                },
            },
        },
        "hooks": {
            "type": "object",
            "additionalProperties": False,
            "required": ["predeploy", "postdeploy"],
            "properties": {"predeploy": HOOK, "postdeploy": HOOK},
        },
    },
}


@pytest.fixture
def project() -> Any:
    return yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))


def test_azure_yaml_meets_the_schema_of_azd(project: Any) -> None:
    jsonschema.validate(project, SCHEMA)


@pytest.mark.parametrize(
    "mistake",
    [
        {"hook": {}},
        {"name": "Blob Sight"},
        {"infra": {"provider": "bicep", "path": "infra/bicep", "modul": "main"}},
        {"services": {"pipeline": {"project": ".", "host": "functions", "language": "python"}}},
        {"services": {"pipeline": {"host": "function", "language": "python"}}},
        {"requiredVersions": {"az": ">= 1.0.0"}},
        {"hooks": {"preDeploy": {}, "postdeploy": {}}},
        {"hooks": {"predeploy": {}, "postdeploy": {"posix": {"shell": "bash", "run": "a"}}}},
    ],
    ids=str,
)
def test_a_mistake_in_azure_yaml_is_found(project: Any, mistake: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**project, **mistake}, SCHEMA)


def test_azure_yaml_points_at_existing_files(project: Any) -> None:
    infra = ROOT / project["infra"]["path"]
    for ending in ("bicep", "bicepparam"):
        assert (infra / f"{project['infra']['module']}.{ending}").is_file()
    for name, hook in project["hooks"].items():
        for system, ending in (("posix", "sh"), ("windows", "ps1")):
            assert hook[system]["run"] == f"infra/hooks/{name}.{ending}"
            assert (ROOT / hook[system]["run"]).is_file()
    ((name, service),) = project["services"].items()
    assert (ROOT / service["project"] / "host.json").is_file()
    (app,) = (module for module in read(infra / "resources.bicep").modules if module.symbol == "app")
    assert app.body["params"]["serviceName"] == name, "azd finds the function app by this tag"


def test_a_failing_hook_fails_the_deployment(project: Any) -> None:
    for hook in project["hooks"].values():
        for script in hook.values():
            assert not script.get("continueOnError")


def test_output_of_hooks_is_shown(project: Any) -> None:
    """In `azd up`, azd throws away the output of a hook that is not interactive: it seems to hang for minutes."""
    scripts = [script for hook in project["hooks"].values() for script in hook.values()]
    assert [script["interactive"] for script in scripts] == [True] * 4


def test_no_hook_waits_for_an_answer(project: Any) -> None:
    """An interactive hook has the terminal's input: one that asked something would hold a pipeline for ever."""
    for hook in project["hooks"].values():
        for script in hook.values():
            text = (ROOT / script["run"]).read_text(encoding="utf-8")
            assert not re.search(r"^\s*read |Read-Host|ReadLine", text, re.MULTILINE)


def test_the_templates_version_is_the_projects(project: Any) -> None:
    assert project["metadata"]["template"] == f"blobsight@{__version__}"
