"""The documentation agrees with the code."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from generate_docs import PAGES
from support.person import ROOT

from pipeline.settings import Settings


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run make docs"


def test_the_tests_that_contributors_are_shown_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?((?:[a-z]+/)?test_[\w*]+\.py)`", text)
    assert len(named) > 40
    assert [name for name in named if not list((ROOT / "tests").glob(name))] == []


def test_the_example_settings_are_enough_to_start() -> None:
    """local.settings.example.json, as Core Tools puts it into the environment."""
    values = json.loads((ROOT / "local.settings.example.json").read_text(encoding="utf-8"))["Values"]
    assert Settings.from_environment(values).process_image_enabled


def test_only_the_deployed_code_is_deployed(tmp_path: Path) -> None:
    """.funcignore has .gitignore's grammar, so git can say what it leaves."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    # What building and deploying by hand leave behind is not deployed, either.
    listed += ["app.zip", "blobsight.egg-info/PKG-INFO", ".venv/bin/python", "pipeline/__pycache__/app.cpython-313.pyc"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    ignored = subprocess.run(
        ["git", "-c", f"core.excludesFile={ROOT / '.funcignore'}", "check-ignore", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="\n".join(filter(None, listed)),
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\n")
    left = set(listed) - set(ignored)
    deployed = {name for name in left if name and not (name.startswith("pipeline/") and name.endswith(".py"))}
    assert deployed == {"function_app.py", "host.json", "requirements.txt"}
