"""`blobsight doctor`: check everything that the pipeline needs, a line each, and say how to fix what is wrong."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import click
from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from blobsight.account import Place, account_options, explained
from blobsight.doctor import azure_checks, storage_checks, tiers
from blobsight.doctor.findings import Check, Finding, Patient, Verdict, failed, skipped
from blobsight.doctor.resource_manager import PUBLIC, Deployed, Refused, ResourceManager
from blobsight.hosts import RESOURCE_MANAGER, require_trusted
from blobsight.running import run
from blobsight.terminal import Exit, Trouble, out, printable, progress, table, write_json
from pipeline.settings import ServiceUrl

LIMIT_SECONDS = 60
"""Seconds for one check: several requests, and `az`, which may take ten seconds for each kind of token."""

SENDING = "requests: send"
STORAGE: Mapping[str, Check] = {
    "images: read": storage_checks.read_images,
    "images: write": storage_checks.write_images,
    "results: read": storage_checks.read_results,
    "state: read": storage_checks.read_state,
    "trials": storage_checks.trials,
    "rates": storage_checks.rates_left,
    SENDING: storage_checks.send_requests,
    "queues: waiting": storage_checks.waiting,
    "poison": storage_checks.poison,
    "dead letters": storage_checks.dead_letters,
}
AZURE: Mapping[str, Check] = {
    "azure": azure_checks.token,
    "function app": azure_checks.function_app,
    "app settings": azure_checks.app_settings,
    "app roles": azure_checks.app_roles,
    "model deployment": azure_checks.model_deployment,
    "batches": azure_checks.batches,
    "service tier": tiers.service_tier,
    "event subscription": azure_checks.event_subscription,
}
MODEL: Mapping[str, Check] = {"model": azure_checks.model_answers}

_COLOURS = {Verdict.OK: "green", Verdict.FAILED: "red", Verdict.SKIPPED: "yellow"}


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check that a token may be sent to this address."""
    try:
        return None if not value else TypeAdapter[str](ServiceUrl).validate_python(value)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"]) from None


@click.command()
@click.option("--subscription", envvar="AZURE_SUBSCRIPTION_ID", help="Id of the subscription.")
@click.option("--resource-group", envvar="AZURE_RESOURCE_GROUP")
@click.option("--function-app", envvar="AZURE_FUNCTION_APP_NAME")
@click.option(
    "--topic", envvar="AZURE_EVENT_GRID_TOPIC_NAME", help="Event Grid system topic.  [default: the account's]"
)
@click.option("--model-endpoint", envvar="AZURE_OPENAI_ENDPOINT", callback=_url, help="Of the Azure OpenAI account.")
@click.option("--model-deployment", envvar="AZURE_OPENAI_DEPLOYMENT")
@click.option(
    "--resource-manager",
    envvar="BLOBSIGHT_RESOURCE_MANAGER",
    default=PUBLIC,
    show_default=True,
    callback=_url,
    help="Azure Resource Manager, for clouds other than the public one.",
)
@click.option(
    "--host",
    envvar="BLOBSIGHT_HOST",
    default="http://127.0.0.1:7071",
    show_default=True,
    callback=_url,
    help="The functions host on this machine, for the local cloud.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@account_options
def doctor(place: Place, /, resource_manager: str, host: str, *, as_json: bool, **names: str | None) -> Exit:
    """Check everything that the pipeline needs, and say how to fix what is wrong.

    Nothing is changed and nothing is paid: rights are tested by a write that can't succeed and a message that asks for
    nothing, the model by an empty question. What you may not read is skipped. The exit status is 1 if a check fails. In
    Azure, the names come from the environment:

    \b
    blobsight doctor --local
    eval "$(azd env get-values --output json | python3 tools/exports.py)"
    blobsight doctor
    blobsight doctor --json | jq '.[] | select(.verdict == "failed")'
    """  # noqa: D301 - click's mark of lines to leave alone
    if place.account is not None:
        require_trusted(resource_manager, RESOURCE_MANAGER, place.trusted_hosts, "--resource-manager")
    return run(_run(place, Deployed(**names), resource_manager, host, as_json=as_json))


async def _run(place: Place, deployed: Deployed, resource_manager: str, host: str, *, as_json: bool) -> Exit:
    async with place.opened(sign_in=False) as account, AsyncExitStack() as stack:
        azure = (
            None
            if account.credential is None
            else await stack.enter_async_context(ResourceManager(resource_manager, account.credential))
        )
        patient = Patient(account, deployed, azure, host)
        checks = await _checks(patient)
        with progress("Checking", len(checks)) as bar:

            async def find(check: Check | Finding) -> Finding:
                found = check if isinstance(check, Finding) else await look(check, patient)
                bar.advance()
                return found

            first = {name: check for name, check in checks.items() if name != SENDING}
            found = dict(zip(first, await asyncio.gather(*map(find, first.values())), strict=True))
            if SENDING in checks:  # after the queue's messages are counted
                found[SENDING] = await find(checks[SENDING])
    _show({name: found[name] for name in checks}, as_json=as_json)
    return Exit.SOME_FAILED if any(one.verdict is Verdict.FAILED for one in found.values()) else Exit.DONE


async def _checks(patient: Patient) -> dict[str, Check | Finding]:
    """Return the checks in the order of their lines; an outcome instead of a check that can't be made."""
    reached = await look(storage_checks.reached, patient)
    checks: dict[str, Check | Finding] = {"account": reached}
    if reached.verdict is Verdict.FAILED:
        return checks | dict.fromkeys([*STORAGE, *AZURE, *MODEL], skipped("see 'account'"))
    checks.update(STORAGE)
    if patient.azure is None:
        why = "not part of the local cloud" if patient.is_local else "a connection string is not a sign-in to Azure"
        checks |= dict.fromkeys(AZURE, skipped(why))
    elif patient.deployed.missing:
        missing = skipped(
            f"not set: {', '.join(patient.deployed.missing)}",
            'eval "$(azd env get-values --output json | python3 tools/exports.py)", or give the options',
        )
        checks |= dict.fromkeys(AZURE, missing)
    else:
        checks.update(AZURE)
    if patient.azure is None and patient.is_local:
        checks["function app"] = azure_checks.local_host
    checks.update(MODEL)
    return checks


async def look(check: Check, patient: Patient) -> Finding:
    """Make one check, and turn its errors into a finding."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            with explained(patient.account.place):
                return await check(patient)
    except TimeoutError:
        return failed(f"no answer within {LIMIT_SECONDS} seconds", "Is this machine online? Try again.")
    except Refused as error:
        return azure_checks.refused(error)
    except Trouble as trouble:
        return Finding(Verdict.FAILED, trouble.message)  # its message says what to do
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # an answer in a shape that is not documented
        return failed(
            f"the answer is not as documented ({type(error).__name__})", "Try again; then look in the portal."
        )
    except (aiohttp.ClientError, OSError) as error:
        return failed(f"Azure can't be reached ({type(error).__name__})", "Is this machine online? Try again.")


def _show(findings: Mapping[str, Finding], *, as_json: bool) -> None:
    if as_json:
        findings_json: Sequence[Mapping[str, Any]] = [
            {"check": name, "verdict": found.verdict.value, "seen": found.seen, "cure": found.cure}
            for name, found in findings.items()
        ]
        write_json(findings_json, indent=2)
    elif not out.is_terminal:
        table((), [(found.verdict.value, name, found.seen, found.cure or "") for name, found in findings.items()])
    else:
        width = max(map(len, findings))
        for name, found in findings.items():
            colour = _COLOURS[found.verdict]
            head = Text(f"{found.verdict.value:8}{name:{width}}  ", style=colour)
            out.print(head + Text(printable(found.seen)), soft_wrap=True)
            if found.cure:
                out.print(Text(" " * (width + 10) + printable(found.cure), style="dim"), soft_wrap=True)
