"""The parts of a release: a wheel with one package of its own, and the package as it is deployed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from make_dist import notes
from support.person import ROOT

from pipeline import __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = directory.iterdir()
    return zipfile.ZipFile(path)


def test_the_wheel_has_one_package(wheel: zipfile.ZipFile) -> None:
    """A top-level `pipeline` would overwrite, or be overwritten by, any other project's."""
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"blobsight", f"blobsight-{__version__}.dist-info"}
    shipped = {name.removeprefix("blobsight/_vendored/") for name in wheel.namelist() if "_vendored" in name}
    tracked = subprocess.run(["git", "ls-files", "pipeline"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert shipped == set(tracked.stdout.splitlines())


def test_the_pages_and_their_libraries_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """With the licence of each library beside it."""
    single = ["blobsight/results/answers.html", "blobsight/evaluate/evaluation.html", "blobsight/pages/base.css"]
    listed = ["git", "ls-files", "blobsight/gallery/static", *single]
    tracked = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)
    files = set(tracked.stdout.splitlines())
    assert {"blobsight/gallery/static/index.html", *single} <= files
    assert files <= set(wheel.namelist())
    vendor = "blobsight/gallery/static/vendor/"
    libraries = {name.removeprefix(vendor).partition("/")[0] for name in files if name.startswith(vendor)}
    assert len(libraries) == 4
    assert {f"{vendor}{library}/LICENSE" for library in libraries} <= files


def test_the_installed_command_uses_its_own_parts_of_the_app(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    (tmp_path / "elsewhere" / "pipeline").mkdir(parents=True)
    (tmp_path / "elsewhere" / "pipeline" / "__init__.py").write_text("raise SystemExit('another project')")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'site')!r}, {str(tmp_path / 'elsewhere')!r}]\n"
        "import blobsight.cli, pipeline; print(pipeline.__file__)\n"
        "sys.argv = ['blobsight', '--version']; blobsight.cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    where, version = done.stdout.splitlines()
    assert Path(where) == tmp_path / "site" / "blobsight" / "_vendored" / "pipeline" / "__init__.py"
    assert __version__ in version


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n- A.\n\n## [0.1.0] - 2026-11-01\n\n- B.\n"
    assert [notes(changelog, version) for version in ("0.2.0", "0.1.0", "0.3.0")] == ["- A.\n", "- B.\n", None]


def test_a_tag_that_names_another_version_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "tools/make_dist.py", "v99.0.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "v99.0.0 does not name the version" in done.stderr
