"""The hook that subscribes the pipeline to uploads, with an Azure CLI that behaves as it is told."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from person import ROOT

ENVIRONMENT = {
    "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000001",
    "AZURE_RESOURCE_GROUP": "rg-test",
    "AZURE_FUNCTION_APP_NAME": "func-test",
    "AZURE_STORAGE_ACCOUNT_NAME": "stdatatest",
    "AZURE_EVENT_GRID_TOPIC_NAME": "evgt-test",
    "AZURE_EVENT_DELIVERY": "webhook",
    "BLOBSIGHT_INPUT_CONTAINER": "images",
    "BLOBSIGHT_REQUESTS_QUEUE": "analysis-requests",
    "BLOBSIGHT_DEAD_LETTER_CONTAINER": "dead-letters",
    "BLOBSIGHT_HOOK_ATTEMPTS": "4",
    "BLOBSIGHT_HOOK_PAUSE_SECONDS": "0",
}

# Like the real one: the key is in the answer, and --query makes of it what the caller wants to know.
FAKE_AZ = r"""#!/bin/sh
printf '%s\n' "$*" >>"$FAKE/calls"
again() { # how often "$1" was called, this time included
    printf x >>"$FAKE/count-$1"
    wc -c <"$FAKE/count-$1" | tr -d " "
}
case "$1 $2" in
"account show") [ -z "${FAKE_NOT_LOGGED_IN:-}" ] || { echo "Please run 'az login'" >&2; exit 1; } ;;
"rest --method")
    times=$(again rest)
    [ "$times" -gt "${FAKE_UNREACHABLE:-0}" ] || { echo 'ERROR: Bad Gateway' >&2; exit 1; }
    case "$*" in
    *contains*) [ "$times" -gt "${FAKE_KEY_AFTER:-0}" ] && echo true || echo false ;;
    *) echo '{"systemKeys": {"blobs_extension": "THE-KEY"}}' ;;
    esac ;;
"deployment group")
    [ "$(again deployment)" -gt "${FAKE_DEPLOYMENTS_FAIL:-0}" ] ||
        { echo 'ERROR: Webhook validation handshake failed' >&2; exit 1; } ;;
"resource show") [ -n "${FAKE_OLD:-}" ] || { echo "ERROR: (ResourceNotFound) ${FAKE_ODD:-not found}" >&2; exit 3; } ;;
"resource delete") ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

HOOKS = [
    pytest.param(["sh", "postdeploy.sh"], id="sh"),
    pytest.param(
        ["pwsh", "-NoProfile", "-File", "postdeploy.ps1"],
        id="pwsh",
        marks=pytest.mark.skipif(not shutil.which("pwsh"), reason="PowerShell is not installed"),
    ),
]

type Hook = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=HOOKS)
def hook(request: pytest.FixtureRequest, tmp_path: Path) -> Hook:
    """Runs the hook with these variables over the usual ones; None unsets one."""
    fake = tmp_path / "bin" / "az"
    fake.parent.mkdir()
    fake.write_text(FAKE_AZ, encoding="utf-8")
    fake.chmod(0o755)
    *interpreter, script = request.param

    def run(**over: str | None) -> subprocess.CompletedProcess[str]:
        variables = {**ENVIRONMENT, **over}
        path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(tmp_path), "FAKE": str(tmp_path)}
        environment |= {name: value for name, value in variables.items() if value is not None}
        return subprocess.run(
            [*interpreter, ROOT / "infra" / "hooks" / script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def calls(tmp_path: Path, beginning: str = "") -> list[str]:
    log = tmp_path / "calls"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line for line in lines if line.startswith(beginning)]


def test_subscribes_once_the_key_is_there(hook: Hook, tmp_path: Path) -> None:
    """The key comes late: it waits, says so, and never sees the key itself."""
    done = hook(FAKE_KEY_AFTER="2")
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "rest")) == 3
    assert "Waiting for func-test to start: no webhook key yet (2 of 4)" in done.stdout
    (deployment,) = calls(tmp_path, "deployment group create")
    for part in (
        "--subscription 00000000-0000-0000-0000-000000000001",
        "--resource-group rg-test",
        "--template-file infra/bicep/event-subscription.bicep",
        "systemTopicName=evgt-test",
        "dataStorageName=stdatatest",
        "functionAppName=func-test",
        "eventDelivery=webhook",
        "inputContainer=images",
        "requestsQueue=analysis-requests",
        "deadLetterContainer=dead-letters",
    ):
        assert part in deployment
    assert "THE-KEY" not in done.stdout + done.stderr


def test_goes_on_when_azure_does_not_answer_at_first(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_UNREACHABLE="2")
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "deployment group create")) == 1


def test_a_key_that_never_comes_is_a_loud_failure(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_KEY_AFTER="99")
    assert done.returncode == 1
    assert len(calls(tmp_path, "rest")) == 4
    assert not calls(tmp_path, "deployment")
    assert "error: func-test has no webhook key (blobs_extension) after 4 looks" in done.stderr
    assert "NO EVENTS REACH IT YET" in done.stderr
    assert "azd hooks run postdeploy" in done.stderr


def test_the_failure_says_why_azure_could_not_be_asked(hook: Hook) -> None:
    done = hook(FAKE_UNREACHABLE="99")
    assert done.returncode == 1
    assert "Bad Gateway" in done.stderr


def test_a_deployment_that_fails_is_tried_again(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_DEPLOYMENTS_FAIL="2")
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "deployment group create")) == 3


def test_a_deployment_that_goes_on_failing_is_a_loud_failure(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_DEPLOYMENTS_FAIL="99")
    assert done.returncode == 1
    assert len(calls(tmp_path, "deployment group create")) == 3
    assert "Webhook validation handshake failed" in done.stderr
    assert "deploying infra/bicep/event-subscription.bicep failed 3 times" in done.stderr
    assert "NO EVENTS REACH IT YET" in done.stderr
    assert not calls(tmp_path, "resource delete"), "the old subscription stays until the new one is there"


def test_delivery_by_queue_needs_no_key(hook: Hook, tmp_path: Path) -> None:
    done = hook(AZURE_EVENT_DELIVERY="queue")
    assert done.returncode == 0, done.stderr
    assert not calls(tmp_path, "rest")
    (deployment,) = calls(tmp_path, "deployment group create")
    assert "eventDelivery=queue" in deployment


@pytest.mark.parametrize(("chosen", "other"), [("webhook", "queue"), ("queue", "webhook")])
def test_the_other_way_of_delivery_is_removed_afterwards(hook: Hook, tmp_path: Path, chosen: str, other: str) -> None:
    done = hook(AZURE_EVENT_DELIVERY=chosen, FAKE_OLD="yes")
    assert done.returncode == 0, done.stderr
    *_, shown, deleted = calls(tmp_path)
    assert shown.startswith("resource show")
    assert deleted.startswith("resource delete")
    assert f"/systemTopics/evgt-test/eventSubscriptions/analyze-image-{other} " in deleted


def test_a_missing_output_is_named(hook: Hook, tmp_path: Path) -> None:
    done = hook(AZURE_STORAGE_ACCOUNT_NAME=None)
    assert done.returncode == 1
    assert "error: AZURE_STORAGE_ACCOUNT_NAME is not set" in done.stderr
    assert not calls(tmp_path)


def test_whoever_is_not_signed_in_is_told_how(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_NOT_LOGGED_IN="yes")
    assert done.returncode == 1
    assert "az login" in done.stderr
    assert not calls(tmp_path, "deployment")
