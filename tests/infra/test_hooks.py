"""The hooks around a deployment, with a fake Azure CLI."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.person import ROOT

ENVIRONMENT = {
    "AZURE_ENV_NAME": "test",
    "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000001",
    "AZURE_RESOURCE_GROUP": "rg-test",
    "AZURE_FUNCTION_APP_NAME": "func-test",
    "AZURE_STORAGE_ACCOUNT_NAME": "stdatatest",
    "AZURE_EVENT_GRID_TOPIC_NAME": "evgt-test",
    "AZURE_EVENT_DELIVERY": "webhook",
    "BLOBSIGHT_INPUT_CONTAINER": "images",
    "BLOBSIGHT_OUTPUT_CONTAINER": "results",
    "BLOBSIGHT_STATE_CONTAINER": "pipeline-state",
    "BLOBSIGHT_REQUESTS_QUEUE": "analysis-requests",
    "BLOBSIGHT_DEAD_LETTER_CONTAINER": "dead-letters",
    "BLOBSIGHT_DEPLOYED_AT": "2026-11-27T10:00:00",
    "BLOBSIGHT_HOOK_ATTEMPTS": "4",
    "BLOBSIGHT_HOOK_PAUSE_SECONDS": "0",
}

# Like the real one where the hooks look: --query is applied, errors are worded as the Azure CLI words them.
FAKE_AZ = r"""#!/bin/sh
printf '%s\n' "$*" >>"$FAKE/calls"
again() { # how often "$1" was called, this time included
    printf x >>"$FAKE/count-$1"
    wc -c <"$FAKE/count-$1" | tr -d " "
}
[ -z "${FAKE_WARNS:-}" ] || echo 'WARNING: Unable to check the version of the CLI.' >&2
not_found() { echo "ERROR: (ResourceNotFound) The Resource was not found." >&2; exit 3; }
case "$1 $2" in
"account show") [ -z "${FAKE_NOT_LOGGED_IN:-}" ] || { echo "Please run 'az login'" >&2; exit 1; } ;;
"rest --method")
    case "$*" in
    *"--url /subscriptions/"*"/functions?api-version"*) echo "${FAKE_FUNCTIONS:-0}" ;;
    *listkeys*)
        times=$(again rest)
        [ "$times" -gt "${FAKE_UNREACHABLE:-0}" ] || { echo 'ERROR: Bad Gateway' >&2; exit 1; }
        case "$*" in
        *contains*) [ "$times" -gt "${FAKE_KEY_AFTER:-0}" ] && echo true || echo false ;;
        *) echo '{"systemKeys": {"blobs_extension": "THE-KEY"}}' ;;
        esac ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
    esac ;;
"storage blob")
    case "$3" in
    list)
        [ "$(again list)" -gt "${FAKE_ROLES_AFTER:-0}" ] && exit 0
        echo "ERROR: You do not have the required permissions needed to perform this operation." >&2; exit 1 ;;
    download)
        times=$(again download)
        if [ -n "${FAKE_HIDDEN:-}" ]; then echo "ERROR: $FAKE_HIDDEN" >&2; exit 1; fi
        if [ "$times" -le "${FAKE_RECORD_AFTER:-0}" ]; then
            printf 'ERROR: The specified blob does not exist.\nErrorCode:BlobNotFound\n' >&2; exit 3
        fi
        while [ "$1" != --file ]; do shift; done
        if [ "$times" -le "${FAKE_READY_AFTER:-0}" ]; then printf '%s' "$FAKE_EARLIER" >"$2"; else
            printf '%s' "${FAKE_RECORD:-$READY}" >"$2"
        fi ;;
    esac ;;
"deployment group")
    [ "$(again deployment)" -gt "${FAKE_DEPLOYMENTS_FAIL:-0}" ] ||
        { echo 'ERROR: Webhook validation handshake failed' >&2; exit 1; } ;;
"resource show")
    case " ${FAKE_SUBSCRIPTIONS:-} " in
    *" $(expr "$4" : '.*analyze-image-\(.*\)') "*) ;;
    *) [ -z "${FAKE_ODD:-}" ] || { echo "ERROR: $FAKE_ODD" >&2; exit 1; }; not_found ;;
    esac ;;
"resource delete") ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


def record(**over: object) -> str:
    """The app's note once it has read images and written results: pipeline-state/readiness.json."""
    said = {
        "version": 1,
        "pipeline_version": "0.1.0",
        "checked_at": "2026-11-27T10:05:01Z",
        "read_input": True,
        "write_results": True,
        "queue": True,
        "problems": [],
    }
    return json.dumps(said | over)


type Hook = Callable[..., subprocess.CompletedProcess[str]]


def runner(tmp_path: Path, shell: str, name: str, *, azd: bool = True) -> Hook:
    """Runs a hook with these variables over the usual ones; None unsets one."""
    fake = tmp_path / "bin" / "az"
    fake.parent.mkdir()
    fake.write_text(FAKE_AZ, encoding="utf-8")
    fake.chmod(0o755)
    if azd:
        (fake.parent / "azd").write_text('#!/bin/sh\nprintf "azd %s\\n" "$*" >>"$FAKE/calls"\n', encoding="utf-8")
        (fake.parent / "azd").chmod(0o755)
    file = str(ROOT / "infra" / "hooks" / f"{name}.{'sh' if shell == 'sh' else 'ps1'}")
    command = ["sh", file] if shell == "sh" else ["pwsh", "-NoProfile", "-File", file]

    def run(**over: str | None) -> subprocess.CompletedProcess[str]:
        variables = {**ENVIRONMENT, **over}
        path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(tmp_path), "FAKE": str(tmp_path), "READY": record()}
        environment |= {key: value for key, value in variables.items() if value is not None}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


SHELLS = [
    "sh",
    pytest.param("pwsh", marks=pytest.mark.skipif(not shutil.which("pwsh"), reason="PowerShell is not installed")),
]


@pytest.fixture(params=SHELLS)
def hook(request: pytest.FixtureRequest, tmp_path: Path) -> Hook:
    """The hook after a deployment."""
    return runner(tmp_path, request.param, "postdeploy")


@pytest.fixture(params=SHELLS)
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Hook:
    """The hook before a deployment."""
    return runner(tmp_path, request.param, "predeploy")


def calls(tmp_path: Path, beginning: str = "") -> list[str]:
    log = tmp_path / "calls"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line for line in lines if line.startswith(beginning)]


def looks_for_the_key(tmp_path: Path) -> list[str]:
    return [line for line in calls(tmp_path, "rest") if "listkeys" in line]


def test_the_hook_subscribes_once_the_key_is_there(hook: Hook, tmp_path: Path) -> None:
    """The key comes late: it waits, says so, and never sees the key itself."""
    done = hook(FAKE_KEY_AFTER="2")
    assert done.returncode == 0, done.stderr
    assert len(looks_for_the_key(tmp_path)) == 3
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


@pytest.mark.parametrize("delivery", ["webhook", "queue"])
def test_a_warning_of_the_azure_cli_is_not_part_of_its_answer(hook: Hook, tmp_path: Path, delivery: str) -> None:
    """It prints some to stderr and succeeds: an extension that is out of date, a preview, another version of Python."""
    done = hook(FAKE_WARNS="yes", AZURE_EVENT_DELIVERY=delivery, FAKE_RECORD_AFTER="1")
    assert done.returncode == 0, done.stderr
    assert len(looks_for_the_key(tmp_path)) == (delivery == "webhook")
    assert len(calls(tmp_path, "storage blob download")) == 2
    assert len(calls(tmp_path, "deployment group create")) == 1


def test_a_warning_before_the_key_is_there_does_not_pass_for_it(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_WARNS="yes", FAKE_KEY_AFTER="2")
    assert done.returncode == 0, done.stderr
    assert len(looks_for_the_key(tmp_path)) == 3


def test_a_warning_before_code_was_deployed_is_not_taken_for_a_function(before: Hook, tmp_path: Path) -> None:
    assert before(FAKE_WARNS="yes").stdout.endswith("The new roles count.\n")
    (tmp_path / "calls").unlink()
    done = before(FAKE_WARNS="yes", FAKE_FUNCTIONS="7")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_hook_goes_on_when_azure_does_not_answer_at_first(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_UNREACHABLE="2")
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "deployment group create")) == 1


def test_a_key_that_never_comes_is_a_loud_failure(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_KEY_AFTER="99")
    assert done.returncode == 1
    assert len(looks_for_the_key(tmp_path)) == 4
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
    assert not looks_for_the_key(tmp_path)
    (deployment,) = calls(tmp_path, "deployment group create")
    assert "eventDelivery=queue" in deployment


@pytest.mark.parametrize(("chosen", "other"), [("webhook", "queue"), ("queue", "webhook")])
def test_the_other_way_of_delivery_is_removed_afterwards(hook: Hook, tmp_path: Path, chosen: str, other: str) -> None:
    done = hook(AZURE_EVENT_DELIVERY=chosen, FAKE_SUBSCRIPTIONS=other)
    assert done.returncode == 0, done.stderr
    assert not calls(tmp_path, "storage blob download"), "the app has read and written before"
    *_, shown, deleted = calls(tmp_path)
    assert shown.startswith("resource show")
    assert deleted.startswith("resource delete")
    assert f"/systemTopics/evgt-test/eventSubscriptions/analyze-image-{other} " in deleted


def test_a_missing_output_is_named(hook: Hook, tmp_path: Path) -> None:
    done = hook(AZURE_STORAGE_ACCOUNT_NAME=None)
    assert done.returncode == 1
    assert "error: AZURE_STORAGE_ACCOUNT_NAME is not set" in done.stderr
    assert not calls(tmp_path)


def test_a_person_who_is_not_signed_in_learns_how_to(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_NOT_LOGGED_IN="yes")
    assert done.returncode == 1
    assert "az login" in done.stderr
    assert not calls(tmp_path, "deployment")


def test_a_first_subscription_waits_for_the_apps_own_record(hook: Hook, tmp_path: Path) -> None:
    """An event that comes before the app may look at the upload stops its whole host."""
    done = hook(FAKE_RECORD_AFTER="2")
    assert done.returncode == 0, done.stderr
    assert "reads images and writes results: it has no record yet (2 of 8)" in done.stdout
    (*_, looked, shown) = [i for i, line in enumerate(calls(tmp_path)) if line.startswith(("storage", "deployment"))]
    assert calls(tmp_path)[looked].startswith("storage blob download")
    assert calls(tmp_path)[shown].startswith("deployment group create")
    assert "--auth-mode login" in calls(tmp_path)[looked]
    assert "--container-name pipeline-state --name readiness.json" in calls(tmp_path)[looked]


@pytest.mark.parametrize("delivery", ["webhook", "queue"])
def test_a_later_deployment_does_not_wait_for_the_record(hook: Hook, tmp_path: Path, delivery: str) -> None:
    done = hook(AZURE_EVENT_DELIVERY=delivery, FAKE_SUBSCRIPTIONS=delivery, FAKE_RECORD_AFTER="99")
    assert done.returncode == 0, done.stderr
    assert not calls(tmp_path, "storage")
    assert calls(tmp_path, "deployment group create")


def test_a_record_of_an_earlier_deployment_does_not_count(hook: Hook) -> None:
    done = hook(FAKE_READY_AFTER="1", FAKE_EARLIER=record(checked_at="2026-11-27T09:59:59Z"))
    assert done.returncode == 0, done.stderr
    assert "its record is older than this deployment (1 of 8)" in done.stdout


def test_any_record_counts_where_the_time_of_the_deployment_was_not_kept(hook: Hook) -> None:
    done = hook(BLOBSIGHT_DEPLOYED_AT=None, FAKE_RECORD=record(checked_at="2026-11-27T09:59:59Z"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["read_input", "write_results", "queue"])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_hook_waits_for_missing_permissions_and_names_them(hook: Hook, what: str, indent: int | None) -> None:
    words = "images: the app's identity may not do this [403]"
    earlier = json.dumps(json.loads(record(**{what: False}, problems=[words])), indent=indent)
    done = hook(FAKE_READY_AFTER="2", FAKE_EARLIER=earlier)
    assert done.returncode == 0, done.stderr
    assert "images: the app's identity may not do this [403" in done.stdout
    assert "(2 of 8)" in done.stdout


def test_an_app_that_never_can_gets_no_events(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_RECORD=record(read_input=False, problems=["no role on images"]))
    assert done.returncode == 1
    assert "it reads 'images' and writes 'results': the app reports: " in done.stderr
    assert "no role on images" in done.stderr
    assert "azd hooks run postdeploy" in done.stderr
    assert not calls(tmp_path, "deployment")
    assert len(calls(tmp_path, "storage blob download")) == 8


def test_an_app_without_a_record_gets_no_events(hook: Hook, tmp_path: Path) -> None:
    done = hook(FAKE_RECORD_AFTER="99")
    assert done.returncode == 1
    assert "it has no record yet" in done.stderr
    assert not calls(tmp_path, "deployment")


@pytest.mark.parametrize(
    "refusal",
    [
        "The request may be blocked by network rules of storage account.",
        "You do not have the required permissions needed to perform this operation.",
    ],
)
def test_where_the_record_cannot_be_seen_it_waits_a_while_says_so_and_goes_on(
    hook: Hook, tmp_path: Path, refusal: str
) -> None:
    done = hook(FAKE_HIDDEN=refusal)
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "storage blob download")) == 4
    assert "could not be seen from here within 0 s" in done.stdout
    assert "azd hooks run postdeploy" in done.stdout
    assert calls(tmp_path, "deployment group create")


def test_an_unclear_answer_about_the_old_subscription_is_a_loud_failure(hook: Hook) -> None:
    done = hook(FAKE_ODD="Gateway Timeout")
    assert done.returncode == 1
    assert "Gateway Timeout" in done.stderr
    assert "whether an old subscription analyze-image-queue is left could not be found out" in done.stderr


def test_a_first_deployment_waits_until_roles_count(before: Hook, tmp_path: Path) -> None:
    done = before(FAKE_ROLES_AFTER="2", BLOBSIGHT_HOOK_ATTEMPTS="9")
    assert done.returncode == 0, done.stderr
    assert "Waiting for the new roles to count (2 of 9) ..." in done.stdout
    assert done.stdout.endswith("The new roles count.\n")
    looks = calls(tmp_path, "storage blob list")
    assert len(looks) == 2 + 3, "three times in a row, since one machine may know a role before the next"
    assert all("--auth-mode login --account-name stdatatest --container-name images" in look for look in looks)


def test_a_first_deployment_keeps_its_time_for_the_hook_after_it(before: Hook, tmp_path: Path) -> None:
    started = datetime.now(UTC)
    assert before().returncode == 0
    (kept,) = calls(tmp_path, "azd")
    match = re.fullmatch(r"azd env set BLOBSIGHT_DEPLOYED_AT (\S+) --environment test --no-prompt", kept)
    assert match
    time = datetime.fromisoformat(f"{match[1]}Z")
    assert timedelta(seconds=-1) <= time - started <= timedelta(minutes=1)


@pytest.mark.parametrize("shell", SHELLS)
def test_azd_need_not_be_there(tmp_path: Path, shell: str) -> None:
    done = runner(tmp_path, shell, "predeploy", azd=False)()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("The new roles count.\n")


def test_roles_that_never_count_do_not_hold_a_deployment_for_ever(before: Hook, tmp_path: Path) -> None:
    done = before(FAKE_ROLES_AFTER="99")
    assert done.returncode == 0, done.stderr
    assert len(calls(tmp_path, "storage blob list")) == 4
    assert "could not be seen from here within 0 s, so the deployment goes on" in done.stdout
    assert "run 'azd deploy' again" in done.stdout


def test_a_later_deployment_does_not_wait_for_roles(before: Hook, tmp_path: Path) -> None:
    done = before(FAKE_FUNCTIONS="7", FAKE_ROLES_AFTER="99")
    assert (done.returncode, done.stdout) == (0, "")
    assert not calls(tmp_path, "storage")
    assert not calls(tmp_path, "azd")


def test_a_missing_setting_or_login_is_named_before_anything_is_deployed(before: Hook) -> None:
    assert "AZURE_FUNCTION_APP_NAME is not set" in before(AZURE_FUNCTION_APP_NAME=None).stderr
    signed_out = before(FAKE_NOT_LOGGED_IN="yes")
    assert signed_out.returncode == 1
    assert "az login" in signed_out.stderr
    assert "Nothing has been deployed" in signed_out.stderr
