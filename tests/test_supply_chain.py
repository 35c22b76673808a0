"""What is installed, here, in CI and in Azure's remote build, is what was pinned."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from support.person import ROOT

LOCKED = sorted(ROOT.glob("requirements*.txt"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def requirements(path: Path) -> list[str]:
    """Each requirement with its continuation lines, without comments and options."""
    text = re.sub(r"^\s*#.*\n|^--.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def write_wheel(folder: Path, name: str, version: str) -> Path:
    """Write a wheel that pip takes."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return wheel


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_everything_is_pinned_with_its_hashes(path: Path) -> None:
    """One hash makes pip demand one of each. Oryx, which builds in Azure, passes it the file and no option."""
    found = requirements(path)
    assert len(found) >= 20
    for requirement in found:
        assert re.match(r"[\w.\[\]-]+==[\w.+!]+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-ci.txt"])
def test_what_is_deployed_or_looks_after_it_runs_no_packages_setup(name: str) -> None:
    """Building a source distribution runs its code, and installs what it builds with: of any version, unhashed."""
    assert "\n--only-binary :all:\n" in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("digest", ["right", "wrong"])
def test_pip_refuses_another_file_of_the_same_version_and_is_told_so_by_the_file_alone(
    tmp_path: Path, digest: str
) -> None:
    wheel = write_wheel(tmp_path, "thing", "1.0")
    expected = hashlib.sha256(wheel.read_bytes() if digest == "right" else b"").hexdigest()
    locked = tmp_path / "requirements.txt"
    locked.write_text(f"--only-binary :all:\nthing==1.0 \\\n    --hash=sha256:{expected}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--isolated", "install", "--target", "packages"),
            *("--no-index", "--find-links", str(tmp_path), "-r", "requirements.txt"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is (digest == "right"), done.stderr
    assert ("DO NOT MATCH" in done.stderr) is (digest == "wrong")


@pytest.mark.parametrize("served", ["another file", "another version", "a source distribution"])
def test_a_build_of_what_is_deployed_takes_nothing_from_an_index_that_was_taken_over(
    tmp_path: Path, served: str
) -> None:
    """The real requirements, and pip as Azure's remote build calls it; each package of the index runs code."""
    packages = [re.match(r"([\w.-]+?)(?:\[.*\])?==(\S+)", each) for each in requirements(ROOT / "requirements.txt")]
    index, target = tmp_path / "index", tmp_path / "packages"
    index.mkdir()
    for package in packages:
        assert package
        name, version = re.sub(r"[-_.]+", "_", package[1]).lower(), package[2]
        if served == "a source distribution":
            with tarfile.open(index / f"{name}-{version}.tar.gz", "w:gz") as archive:
                setup = b"from pathlib import Path; Path(__file__).parent.joinpath('ran').touch()"
                entry = tarfile.TarInfo(f"{name}-{version}/setup.py")
                entry.size = len(setup)
                archive.addfile(entry, io.BytesIO(setup))
        else:
            write_wheel(index, name, version if served == "another file" else "9999.0")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--isolated", "install", "--target", str(target)),
            *("--no-index", "--find-links", str(index), "-r", str(ROOT / "requirements.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    problem = "DO NOT MATCH THE HASHES" if served == "another file" else "No matching distribution found"
    assert problem in done.stderr, done.stderr
    assert not target.exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_installs_nothing_of_any_version(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(pip|pipx|uv|npm|npx)\s+(install|add|tool|exec)\b|\buvx\b|curl[^\n]*\|\s*(ba)?sh", text)
    for line in re.findall(r"az bicep install.*", text):
        assert re.search(r"--version v\d+\.\d+\.\d+$", line)


def test_what_is_pinned_is_audited_every_week_and_not_in_every_clone() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8"))
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", workflow[True]["schedule"][0]["cron"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (audit,) = re.findall(r"^audit: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert {path.name for path in LOCKED} == set(re.findall(r"requirements[\w-]*\.txt", audit))
    assert "npm" in audit
    (check,) = re.findall(r"^check: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "audit" not in check.replace("auditor", "")


def test_a_release_has_its_bill_of_materials() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    attested = [step["with"]["subject-path"] for step in job["steps"] if "attest" in step.get("uses", "")]
    published = [step["run"] for step in job["steps"] if "gh release create" in step.get("run", "")]
    assert [".cdx.json" in text for text in attested + published] == [True, True]
