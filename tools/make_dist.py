"""Write what a release consists of into dist/: the command line's wheel, the deployable package, what that is made of
(CycloneDX), the notes.

python tools/make_dist.py [vX.Y.Z]: with a tag, only if it names this version and CHANGELOG.md has a section for it.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline import __version__  # noqa: E402 - found by the line above

DEPLOYED = ("function_app.py", "host.json", "requirements.txt", "pipeline", "LICENSE")


def notes(changelog: str, version: str) -> str | None:
    """The changelog's section for `version`, without its heading; None when there is none."""
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() + "\n" if found else None


def bill_of_materials(path: Path) -> None:
    """Write what is deployed, from the pinned requirements: names, versions and hashes."""
    program = str(ROOT / ".venv-ci" / "bin" / "cyclonedx-py")
    project = ["--pyproject", "pyproject.toml", "--mc-type", "application"]
    output = ["--output-reproducible", "--output-file", str(path)]
    subprocess.run([program, "requirements", "requirements.txt", *project, *output], cwd=ROOT, check=True)


def main(tag: str | None) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    said = notes(changelog, __version__) or (None if tag else notes(changelog, "Unreleased"))
    if tag and tag != f"v{__version__}":
        sys.exit(f"error: the tag {tag} does not name the version in pipeline/__init__.py, {__version__}: correct one.")
    if said is None:
        sys.exit(f"error: CHANGELOG.md has no section [{__version__}]: rename [Unreleased] to it, with today's date.")
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    if changed.stdout:
        sys.exit("error: there are changes that are not committed: commit them, since a release is made of a commit.")
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for old in dist.iterdir():
        old.unlink()
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist)]
    subprocess.run(build, cwd=ROOT, check=True)
    package = dist / f"blobsight-app-{__version__}.zip"
    subprocess.run(
        ["git", "archive", "--format=zip", f"--output={package}", tag or "HEAD", *DEPLOYED], cwd=ROOT, check=True
    )
    bill_of_materials(dist / f"blobsight-app-{__version__}.cdx.json")
    (dist / "NOTES.md").write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
