"""Reads the Bicep templates as a security auditor: part of make check, or make check-infra alone.

The auditor is checkov, in a virtual environment of its own (.venv-checkov), since it pins what others need newer. It
ends well even when it could not read a file, so what it says is looked at here. Each finding is fixed, or is in
ACCEPTED with the reason.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "infra" / "bicep"
ENVIRONMENT = ROOT / ".venv-checkov"
CHECKOV = "checkov==3.3.30"

ACCEPTED: Mapping[str, str] = {
    "CKV_AZURE_35": "the storage firewall denies with networkIsolation; without it, Entra tokens are the door",
    "CKV_AZURE_59": "Event Grid dead-letters through the firewall as a trusted service; see storage-account.bicep",
    "CKV_AZURE_206": "redundancy is the parameter storageSku; local redundancy is the cheap default",
    "CKV_AZURE_238": "the Azure OpenAI account makes no calls, so it needs no identity",
    "CKV_AZURE_134": "public access to Azure OpenAI is off with networkIsolation; without it, tokens are the door",
    "CKV_AZURE_225": "a plan with always-ready instances can be zone redundant; the default has none",
    "CKV_AZURE_222": "Event Grid's webhook comes from outside, and asks for its key",
    "CKV_AZURE_17": "Event Grid's webhook brings no client certificate",
    "CKV_AZURE_212": "Flex Consumption has no number of instances: it scales to zero",
    "CKV_AZURE_213": "Flex Consumption has no health check: the platform replaces instances",
    "CKV_AZURE_78": "Flex Consumption has no FTP; its passwords are off anyway (basicPublishing)",
    # These take the resource of application settings for one of web settings.
    "CKV_AZURE_66": "not a setting of Flex Consumption",
    "CKV_AZURE_63": "not a setting of Flex Consumption",
    "CKV_AZURE_65": "not a setting of Flex Consumption",
    "CKV_AZURE_80": "it is no .NET app",
    "CKV_AZURE_13": "the webhook and the HTTP function ask for keys of their own",
    "CKV_AZURE_88": "nothing is kept on a file share",
}


def older(source: str) -> str:
    """The template in the Bicep that checkov reads: with the built-in types only, and each expression on one line."""
    source = re.sub(r"(?:^@description\(.*\)\n)?^type \w+ = \{\n(?:.*\n)*?\}\n", "", source, flags=re.MULTILINE)
    source = re.sub(r"\bfail\('.*'\)", "''", source)
    source = re.sub(r"\n +(?=[?:] )|(?<=[(,])\n +|\n *(?=\))", " ", source)
    source = re.sub(r"^(param \w+) \{ \*: \w+ \}", r"\1 object", source, flags=re.MULTILINE)
    return re.sub(r"^(param \w+) \w+\[\]", r"\1 array", source, flags=re.MULTILINE)


def complaints(report: Mapping[str, Any]) -> list[str]:
    """Complaints from checkov's JSON report: files it could not read, and checks that failed and are not accepted."""
    results, summary = report.get("results", {}), report.get("summary", report)
    found = [f"{name}: checkov can't read it" for name in results.get("parsing_errors", [])]
    if not found and summary.get("parsing_errors"):
        found.append(f"{summary['parsing_errors']} files that checkov can't read")
    if not summary.get("resource_count"):
        found.append("checkov saw no resource at all")
    failed = results.get("failed_checks", [])
    found += [
        f"{check['file_path']}: {check['resource']}: {check['check_name']} ({check['check_id']})"
        for check in failed
        if check["check_id"] not in ACCEPTED
    ]
    idle = set(ACCEPTED) - {check["check_id"] for check in failed}
    found += [f"{name} is accepted in tools/check_infra.py, but nothing fails it: remove it" for name in sorted(idle)]
    return found


def main() -> int:
    report = _checkov()
    for line in (found := complaints(report)):
        sys.stderr.write(f"{line}\n")
    if not found:
        summary = report["summary"]
        sys.stdout.write(f"checkov: {summary['resource_count']} resources, {summary['passed']} checks passed\n")
    return 1 if found else 0


def _checkov() -> Mapping[str, Any]:
    scripts = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin")
    stamp = ENVIRONMENT / "installed"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != CHECKOV:
        sys.stderr.write(f"Installing {CHECKOV} into {ENVIRONMENT.name} (about a minute, once) ...\n")
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip: list[str | Path] = [
            scripts / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            CHECKOV,
        ]
        if (code := subprocess.run(pip, check=False).returncode) != 0:
            raise SystemExit(f"error: installing {CHECKOV} failed (pip: {code}): is the package index reachable?")
        stamp.write_text(CHECKOV, encoding="utf-8")
    # Its own download of rules, and its exit code, are not wanted.
    options = ["--framework", "bicep", "--skip-download", "--soft-fail", "--compact", "--output", "json"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / TEMPLATES.name
        shutil.copytree(TEMPLATES, copy)
        for path in copy.rglob("*.bicep"):
            path.write_text(older(path.read_text(encoding="utf-8")), encoding="utf-8")
        ran = subprocess.run(
            [scripts / "python", scripts / "checkov", "--directory", copy, *options],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report: Mapping[str, Any] = json.loads(ran.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"error: checkov gave no report (exit code {ran.returncode}):\n{ran.stderr[-2000:]}") from None
    return report


if __name__ == "__main__":
    sys.exit(main())
