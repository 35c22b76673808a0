"""The workflows, as far as they can be tried without GitHub: the check of the templates by the real compiler."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_model import MODEL
from support.person import ROOT
from support.templates import NAMES

WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").iterdir()}
CHECK = ROOT / ".github" / "bicep" / "check.sh"
FAKE_BICEP = r"""#!/bin/sh
{ printf '%s' "$*"; env | grep -E '^(AZURE|BLOBSIGHT|PROCESS)_' | sort | sed 's/^/ /' | tr -d '\n'; echo; } >>"$CALLS"
[ "$1" != "${COMPLAINS:-}" ] || echo "main.bicep(1,1) : Warning some-rule: ..." >&2
[ "$1" != "${FAILS:-}" ] || exit 1
[ "$1" != format ] || [ -z "${FORMATS:-}" ] || echo >>"$2"
"""


def run(tmp_path: Path, **over: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The output of the check with a fake compiler, and its calls of that compiler."""
    bicep, calls = tmp_path / "bicep", tmp_path / "calls"
    bicep.write_text(FAKE_BICEP, encoding="utf-8")
    bicep.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **over}
    environment |= {"BICEP": str(bicep), "CALLS": str(calls)}
    done = subprocess.run(["sh", str(CHECK)], env=environment, capture_output=True, text=True, check=False)
    return done, calls.read_text(encoding="utf-8").splitlines()


def test_every_template_is_compiled_and_every_variant_resolved(tmp_path: Path) -> None:
    done, calls = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {call.split()[1] for call in calls if call.startswith("build ")} == set(NAMES)
    assert {call.split()[1] for call in calls if call.startswith("lint ")} == set(NAMES)
    assert {call.split()[1] for call in calls if call.startswith("format ")} == {*NAMES, "main.bicepparam"}
    variants = [call for call in calls if call.startswith("snapshot ")]
    assert len(variants) == len([call for call in calls if call.startswith("build-params ")]) > 5
    for value in (
        "AZURE_EVENT_DELIVERY=queue",
        "BLOBSIGHT_NETWORK_ISOLATION=true",
        "AZURE_OPENAI_EXISTING_NAME=theirs",
    ):
        assert any(value in variant for variant in variants), value


def test_one_variant_leaves_every_variable_empty(tmp_path: Path) -> None:
    text = (ROOT / "infra" / "bicep" / "main.bicepparam").read_text(encoding="utf-8")
    names = set(re.findall(r"readEnvironmentVariable\('(\w+)', ''\)", text))
    _, calls = run(tmp_path)
    assert any(set(re.findall(r" (\w+)=(?= |$)", call)) == names for call in calls if call.startswith("snapshot "))


@pytest.mark.parametrize("command", ["build", "lint", "build-params", "snapshot", "format"])
@pytest.mark.parametrize("how", ["COMPLAINS", "FAILS"])
def test_any_complaint_is_a_failure(tmp_path: Path, command: str, how: str) -> None:
    done, _ = run(tmp_path, **{how: command})
    assert done.returncode == 1
    assert ("some-rule" in done.stderr) is (how == "COMPLAINS")


def test_a_template_that_is_not_formatted_fails_the_check(tmp_path: Path) -> None:
    done, _ = run(tmp_path, FORMATS="yes")
    assert done.returncode == 1
    assert "event-subscription.bicep: not as 'bicep format' writes it" in done.stderr


def steps(name: str) -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_the_model_is_checked_every_week_and_not_in_every_clone() -> None:
    """Nobody's unchanged clone may turn red by the calendar."""
    workflow = yaml.safe_load(WORKFLOWS["model.yml"].read_text(encoding="utf-8"))
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", workflow[True]["schedule"][0]["cron"])
    assert "python tools/check_model.py" in [step.get("run") for step in steps("model.yml")]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "check_model" not in makefile
    assert MODEL.exists()


def test_the_template_is_validated_in_the_container_that_people_open() -> None:
    (action,) = (step for step in steps("azure-dev-validation.yml") if "template-validation" in step.get("uses", ""))
    assert action["env"]["AZURE_PRINCIPAL_TYPE"] == "ServicePrincipal"
    assert "useDevContainer" not in action["with"], "the default: yes"
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert ":3.13-" in container["image"]
    assert {name.rpartition("/")[2].partition(":")[0] for name in container["features"]} == {
        "azure-cli",
        "azd",
        "powershell",
    }


def test_every_action_is_pinned_by_its_commit() -> None:
    """Someone who takes over an action can move its tag; the version next to the commit is for people."""
    for path in WORKFLOWS.values():
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line), f"{path.name}: {line.strip()}"
