"""A deployment's values reach a person's shell as they are, and none of them runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples
from support.person import ROOT

LINE = f'eval "$({sys.executable} {ROOT / "tools" / "exports.py"} < values.json)"'
NOTHING = st.characters(codec="utf-8", exclude_characters="\0")  # which no environment can hold


def in_a_shell(folder: Path, values: dict[str, Any]) -> dict[str, str]:
    """The environment after `LINE`."""
    (folder / "values.json").write_text(json.dumps(values), encoding="utf-8")
    done = subprocess.run(
        ["sh", "-c", f"{LINE}; env -0"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
    )
    assert [path.name for path in folder.iterdir()] == ["values.json"], "nothing ran"
    return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shell")


@examples(100)  # each starts a process, however long that takes
@given(value=st.text(NOTHING))
@example(value="$(touch ran)")
@example(value="`touch ran`")
@example(value="'; touch ran; '")
@example(value='"\ntouch ran\n')
def test_a_value_arrives_as_it_is(folder: Path, value: str) -> None:
    assert in_a_shell(folder, {"AZURE_ENV_NAME": value})["AZURE_ENV_NAME"] == value


def test_outputs_of_a_deployment_do_too(folder: Path) -> None:
    outputs = {
        "azurE_RESOURCE_GROUP": {"type": "String", "value": "rg $(touch ran)"}
    }  # as Resource Manager writes them
    assert in_a_shell(folder, outputs)["AZURE_RESOURCE_GROUP"] == "rg $(touch ran)"


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "PYTHONPATH", "ENV", "AZURE_X;touch ran", "AZURE_$(touch ran)"])
def test_no_other_name_is_set(folder: Path, name: str) -> None:
    found = in_a_shell(folder, {name: "evil"})
    assert "evil" not in found.values()


def test_people_are_told_of_no_other_way() -> None:
    """The output of azd has quotation marks around values, in which a shell runs $(…)."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("infra/hooks/*"),
        *ROOT.glob("blobsight/**/*.py"),
    ]
    for page in (*pages, ROOT / "Makefile"):
        if page.is_file():
            text = page.read_text(encoding="utf-8")
            assert 'eval "$(azd env get-values)' not in text, page
            assert text.count("azd env get-values |") == 0, page
            assert text.count('eval "$(') == text.count("| python3 tools/exports.py)"), page
