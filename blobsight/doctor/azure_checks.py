"""Check the deployment, through Azure Resource Manager and the model itself."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from blobsight.doctor.findings import Finding, Patient, failed, ok, skipped
from blobsight.doctor.resource_manager import Refused, ResourceManager
from blobsight.hosts import MODEL, host_of, is_trusted
from pipeline.job.public import BLOB_CREATED
from pipeline.model.original import ORIGINAL, takes_original
from pipeline.settings import Settings, SettingsError

MODEL_SCOPE = "https://cognitiveservices.azure.com/.default"
NEAR_RETIREMENT = timedelta(days=120)
"""Time to choose, try and roll out a new model: twice the shortest notice that the service gives.
https://learn.microsoft.com/azure/foundry/openai/concepts/model-retirements"""
COMPLETING_CALLS = {"PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"}
"""The storage calls that complete an upload, as in infra/bicep/event-subscription.bicep."""
FUNCTIONS = {
    "analyze_image",
    "analyze_request",
    "analyze_deferred",
    "record_poison_upload",
    "record_poison_request",
    "record_poison_deferred",
    "reconcile",
}
MODEL_RIGHT = "deployments/chat/completions/action"
"""The data action that asking a model takes."""
BATCH_FUNCTION = "run_batches"
"""It is there where BATCH_DEPLOYMENT is set."""
BATCH_SKUS = {"GlobalBatch", "DataZoneBatch"}
BATCH_RIGHTS = (
    "batch-jobs/write",
    "batches/cancel/action",
    "batches/read",
    "files/delete",
    "files/read",
    "files/write",
)
"""Data actions that sending batches takes, as in infra/bicep/modules/openai-access.bicep."""
BATCH_ROLE = "Cognitive Services OpenAI Contributor"
TRIGGERS_SETTINGS = {"INPUT_CONTAINER", "REQUESTS_QUEUE", "DEFERRED_QUEUE"}
"""Settings that function_app.py names in its triggers."""

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
_BLOB_WRITERS = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",  # Storage Blob Data Contributor
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",  # Storage Blob Data Owner
}
_BLOB_READERS = {"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", *_BLOB_WRITERS}  # Storage Blob Data Reader
_QUEUE_CONTRIBUTOR = {"974c5e8b-45b9-4653-ba55-5f855dd0fb88"}
_MODEL_USERS = {
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",  # Cognitive Services OpenAI User
    "a001fd3d-188f-4b5d-821b-7da978bf7442",  # Cognitive Services OpenAI Contributor
    "a97b65f3-24c7-4388-baec-2e87135dc908",  # Cognitive Services User
}
_OTHERS = {
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",  # Storage Queue Data Message Sender
    "8a0f0c08-91a1-4084-bc3d-661d67233fed",  # Storage Queue Data Message Processor
    "19e7f393-937e-4f77-808e-94535e297925",  # Storage Queue Data Reader
    "acdd72a7-3385-48ef-bd42-f606fba81ae7",  # Reader
    "b24988ac-6180-42a0-ab88-20f7382dd24c",  # Contributor
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",  # Owner
}
_AZURES = _BLOB_READERS | _QUEUE_CONTRIBUTOR | _MODEL_USERS | _OTHERS


async def token(patient: Patient) -> Finding:
    """Check that the sign-in gives a token for Resource Manager."""
    arm, credential = resource_manager(patient), patient.account.credential
    assert credential is not None  # noqa: S101 - without one there is no Resource Manager
    await credential.get_token(arm.scope)
    return ok(f"resource group {patient.deployed.resource_group}, function app {patient.deployed.function_app}")


async def function_app(patient: Patient) -> Finding:
    """Check that the function app runs with all its functions."""
    arm, app = resource_manager(patient), patient.deployed.app
    site = await arm.site(app)
    state = site["properties"].get("state")
    if state != "Running":
        return failed(
            f"{patient.deployed.function_app} is {str(state).lower()}",
            f"az functionapp start -g {patient.deployed.resource_group} -n {patient.deployed.function_app}",
        )
    missing = FUNCTIONS - set(await arm.functions(app))
    if missing:
        return failed(
            f"{patient.deployed.function_app} runs, but without {', '.join(sorted(missing))}",
            "Its code has not started. Either a setting is wrong (see 'app settings'), or `azd deploy` has not run. The"
            " app's log stream says which.",
        )
    return ok(f"{patient.deployed.function_app} runs, with all its functions")


async def local_host(patient: Patient) -> Finding:
    """Check that a local functions host answers: `make up` or Core Tools."""
    url = f"{patient.host}/admin/host/status"  # needs no key on a developer's machine
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, session.get(url) as answer:
            status = answer.status
    except (aiohttp.ClientError, OSError) as error:
        return failed(f"nothing answers at {patient.host} ({type(error).__name__})", "Start it with `make up`.")
    if status != 200:
        return failed(
            f"{patient.host} answers with HTTP {status}",
            "Give the functions host's address with --host; `make up` prints it.",
        )
    return ok(f"the functions host at {patient.host} answers")


async def app_settings(patient: Patient) -> Finding:
    """Check the function app's settings as the app does at its start."""
    given = await resource_manager(patient).app_settings(patient.deployed.app)
    problems = []
    try:
        settings: Settings | None = Settings.from_environment(given)
    except SettingsError as error:
        settings = None
        problems += [line.removeprefix("  - ") for line in str(error).splitlines()[1:]]
    if "AzureWebJobsStorage" in given:
        problems.append("AzureWebJobsStorage is set and overrides AzureWebJobsStorage__…: delete it.")
    problems += [
        f"{name} is not set: the host, which knows no default, needs it for its triggers."
        for name in sorted(TRIGGERS_SETTINGS - set(given))
    ]
    if settings is not None:
        problems += _elsewhere(patient, settings)
        if settings.image_detail == ORIGINAL and takes_original(settings.openai_model) is False:
            problems.append(
                f"IMAGE_DETAIL is '{ORIGINAL}', which {settings.openai_model} (AZURE_OPENAI_MODEL) does not"
                " take: set it to auto, low or high, or deploy a model that takes it."
            )
    if problems:
        return failed(
            " ".join(problems), "Correct them: azd env set BLOBSIGHT_SETTINGS …, then azd up. See docs/settings.md."
        )
    return ok(f"all {len(given)} are valid")


def _elsewhere(patient: Patient, settings: Settings) -> Iterator[str]:
    """Yield where the app uses other resources than this command."""
    place = patient.account.place
    pairs = {
        "INPUT_CONTAINER": (settings.input_container, place.images),
        "OUTPUT_CONTAINER": (settings.output_container, place.results),
        "TRIALS_CONTAINER": (settings.trials_container, place.trials),
        "REQUESTS_QUEUE": (settings.requests_queue, place.requests),
        "DEFERRED_QUEUE": (settings.deferred_queue, place.deferred),
        "DataStorage__blobServiceUri": (settings.blob_service_uri, (place.blob_url or "").rstrip("/")),
    }
    deployed = patient.deployed
    if deployed.model_deployment:
        pairs["AZURE_OPENAI_DEPLOYMENT"] = (settings.openai_deployment, deployed.model_deployment)
    if deployed.model_endpoint:
        pairs["AZURE_OPENAI_ENDPOINT"] = (_resource(settings.openai_endpoint), _resource(deployed.model_endpoint))
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            yield f"{name} of the app is {theirs}, but this command uses {ours}."


async def app_roles(patient: Patient) -> Finding:
    """Check that the app's identity has its roles on storage and model."""
    arm, deployed = resource_manager(patient), patient.deployed
    principal = await _principal(arm, deployed.app)
    if principal is None:
        return failed(f"{deployed.function_app} has no identity, or several", "Run azd up, which gives it one.")
    wanted: list[_Wanted] = []
    storage = await _storage_id(arm, patient)
    if storage is not None:
        wanted += _on_storage(patient, storage)
    model = await model_account(arm, patient)
    if storage is None and model is None:
        return skipped("neither the storage account nor the model's account is in this subscription")
    has = await arm.roles(storage, principal) if storage else []
    missing = [each for each in wanted if not each.is_among(has)]
    if model is not None:
        calling = _Wanted("Cognitive Services OpenAI User", _MODEL_USERS, model["id"])
        wanted.append(calling)
        if await _lacking(arm, model["id"], principal, [MODEL_RIGHT]):
            missing.append(calling)
    if missing:
        return failed(
            "the app's identity lacks " + ", ".join(str(each) for each in missing),
            f"az role assignment create --role '{missing[0].name}' --assignee-object-id {principal}"
            f" --assignee-principal-type ServicePrincipal --scope {missing[0].scope}",
        )
    return ok("the app's identity has " + ", ".join(str(each) for each in wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A role that the app's identity needs on a resource, and the ids of those that will do."""

    name: str
    roles: set[str]
    scope: str

    def is_among(self, assigned: Iterable[tuple[str, str]]) -> bool:
        """Whether one of them is assigned there or above. A role of the operator's own is taken to be made for this."""
        return any(
            (role in self.roles or role not in _AZURES) and f"{self.scope}/".lower().startswith(f"{where}/".lower())
            for role, where in assigned
        )

    def __str__(self) -> str:
        return f"'{self.name}' on {self.scope.rpartition('/')[2]}"


def _on_storage(patient: Patient, account: str) -> Iterator[_Wanted]:
    """What the templates assign on the data account (infra/bicep/modules/roles.bicep)."""
    place = patient.account.place
    blobs, queues = f"{account}/blobServices/default/containers", f"{account}/queueServices/default/queues"
    yield _Wanted("Storage Blob Data Reader", _BLOB_READERS, f"{blobs}/{place.images}")
    for container in (place.results, place.state, place.trials):
        yield _Wanted("Storage Blob Data Contributor", _BLOB_WRITERS, f"{blobs}/{container}")
    for queue in (place.requests, place.deferred):
        for each in (queue, f"{queue}-poison"):
            yield _Wanted("Storage Queue Data Contributor", _QUEUE_CONTRIBUTOR, f"{queues}/{each}")
    yield _Wanted("Storage Queue Data Contributor", _QUEUE_CONTRIBUTOR, f"{queues}/webjobs-blobtrigger-poison")


async def model_deployment(patient: Patient) -> Finding:  # noqa: PLR0911 - one for each thing that may be wrong
    """Check that the model deployment exists, and that its model does not retire soon."""
    arm, deployed = resource_manager(patient), patient.deployed
    if not (deployed.model_endpoint and deployed.model_deployment):
        return skipped("AZURE_OPENAI_ENDPOINT or AZURE_OPENAI_DEPLOYMENT is not set")
    account = await model_account(arm, patient)
    if account is None:
        return skipped(f"no account in this subscription has the endpoint {deployed.model_endpoint}")
    name = deployed.model_deployment
    found = {deployment["name"]: deployment for deployment in await arm.model_deployments(account["id"])}
    deployment = found.get(name)
    if deployment is None:
        return failed(
            f"{account['name']} has no deployment '{name}'",
            f"It has {', '.join(found) or 'none'}. Correct AZURE_OPENAI_DEPLOYMENT, or deploy one of that name.",
        )
    state = deployment["properties"].get("provisioningState")
    if state != "Succeeded":
        return failed(f"the deployment '{name}' is {state}", f"See {account['name']} in the Foundry portal.")
    model = deployment["properties"]["model"]
    called = f"'{name}' is {model['name']} {model.get('version') or ''}".rstrip()
    retires = _retirement(await arm.models(account["id"]), model, deployment.get("sku", {}).get("name"))
    if retires is None:
        return ok(f"{called}; its retirement date is not known")
    if retires - datetime.now(UTC) < NEAR_RETIREMENT:
        gone = "retired on" if retires < datetime.now(UTC) else "retires on"
        return failed(
            f"{called}, which {gone} {retires:%Y-%m-%d}",
            f"Deploy a current model under the same name '{name}': AZURE_OPENAI_MODEL and …_VERSION, then azd up.",
        )
    return ok(f"{called}, until {retires:%Y-%m-%d} at least")


def _retirement(models: Any, used: Mapping[str, Any], sku: str | None) -> datetime | None:
    """When the service stops answering with this model. Its SKU may have its own date."""
    for model in models:
        if (model["name"], model.get("version")) == (used["name"], used.get("version")):
            dates = [one.get("deprecationDate") for one in model.get("skus") or [] if one.get("name") == sku]
            dates.append((model.get("deprecation") or {}).get("inference"))
            known = [datetime.fromisoformat(date) for date in dates if date]
            return min((date if date.tzinfo else date.replace(tzinfo=UTC) for date in known), default=None)
    return None


async def batches(patient: Patient) -> Finding:  # noqa: PLR0911 - one for each thing that may be wrong
    """Check that batches can be sent, where there is a deployment for them."""
    arm, deployed = resource_manager(patient), patient.deployed
    name = (await arm.app_settings(deployed.app)).get("BATCH_DEPLOYMENT", "").strip()
    if not name:
        return ok("off: BATCH_DEPLOYMENT is not set")
    if BATCH_FUNCTION not in await arm.functions(deployed.app):
        return failed(f"the app has no function {BATCH_FUNCTION}, which sends batches", "Deploy its code: azd deploy")
    account = await model_account(arm, patient)
    if account is None:
        return skipped(f"no account in this subscription has the endpoint {deployed.model_endpoint or '(not set)'}")
    found = {deployment["name"]: deployment for deployment in await arm.model_deployments(account["id"])}
    if name not in found:
        return failed(
            f"{account['name']} has no deployment '{name}'",
            "Have it deployed: azd env set AZURE_OPENAI_BATCH_DEPLOYMENT, then azd provision; in an account that was"
            " there before, by its owner.",
        )
    sku = found[name].get("sku", {}).get("name")
    if sku not in BATCH_SKUS:
        return failed(
            f"'{name}' is a deployment of the kind {sku}, which takes no batches",
            f"Give BATCH_DEPLOYMENT one of the kind {' or '.join(sorted(BATCH_SKUS))}.",
        )
    ours, main = _model_of(found[name]), _model_of(found.get(str(deployed.model_deployment)))
    if main and ours != main:
        return failed(
            f"'{name}' is {ours}, but '{deployed.model_deployment}' is {main}",
            "Deploy the same model in both: an answer counts for the same question, whichever of them gave it.",
        )
    principal = await _principal(arm, deployed.app)
    if principal is None:
        return skipped("the app has no identity, or several (see 'app roles')")
    missing = await _lacking(arm, account["id"], principal, BATCH_RIGHTS)
    if missing:
        return failed(
            f"the app's identity lacks {', '.join(missing)} on {account['name']}",
            f"az role assignment create --role '{BATCH_ROLE}' --assignee-object-id {principal}"
            f" --assignee-principal-type ServicePrincipal --scope {account['id']}",
        )
    return ok(f"'{name}' is {ours}, of the kind {sku}, and the app may send batches")


def _model_of(deployment: Mapping[str, Any] | None) -> str | None:
    if deployment is None:
        return None
    model = deployment["properties"]["model"]
    return f"{model['name']} {model.get('version') or ''}".rstrip()


async def _lacking(arm: ResourceManager, account: str, principal: str, rights: Iterable[str]) -> list[str]:
    """Return the data actions on the account's `OpenAI/` that none of the principal's roles allows."""
    assigned = [
        role
        for role, where in await arm.roles(account, principal)
        if f"{account}/".lower().startswith(f"{where}/".lower())
    ]
    roles = [await arm.data_actions(account, role) for role in dict.fromkeys(assigned)]

    def has(right: str) -> bool:
        action = f"Microsoft.CognitiveServices/accounts/OpenAI/{right}"
        return any(_among(allowed, action) and not _among(excluded, action) for allowed, excluded in roles)

    return [right for right in rights if not has(right)]


def _among(patterns: Iterable[str], action: str) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


async def model_answers(patient: Patient) -> Finding:
    """Ask an empty question. The service refuses it, after checking token and deployment; it costs no tokens."""
    answer = await empty_question(patient)
    if isinstance(answer, Finding):
        return answer
    return _meaning(str(patient.deployed.model_deployment), str(patient.deployed.model_endpoint), *answer)


async def empty_question(patient: Patient, **more: str) -> tuple[int, str] | Finding:
    """Ask an empty question with `more` in it; return the answer's status and text, or why there is none."""
    deployed, credential = patient.deployed, patient.account.credential
    if credential is None:
        return skipped(
            "a connection string is not a sign-in to Azure; upload an image to see whether the model answers"
        )
    if not (deployed.model_endpoint and deployed.model_deployment):
        return skipped("AZURE_OPENAI_ENDPOINT or AZURE_OPENAI_DEPLOYMENT is not set")
    if not is_trusted(deployed.model_endpoint, MODEL, patient.account.place.trusted_hosts):
        host = host_of(deployed.model_endpoint)
        return skipped(f"{host} is not one of Azure's hosts, and would get your token", f"--trust-host {host}")
    token = await credential.get_token(MODEL_SCOPE)
    url = f"{_resource(deployed.model_endpoint)}/openai/v1/chat/completions"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), trust_env=True) as session,
            session.post(
                url,
                json={"model": deployed.model_deployment, "messages": [], **more},
                headers={"Authorization": f"Bearer {token.token}"},
                allow_redirects=False,
            ) as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, OSError) as error:
        return failed(
            f"{deployed.model_endpoint} can't be reached ({type(error).__name__})",
            "Correct AZURE_OPENAI_ENDPOINT. If it is right, the resource is gone or your network blocks it.",
        )


def _meaning(name: str, endpoint: str, status: int, said: str) -> Finding:  # noqa: PLR0911 - one for each answer
    """Explain the model's answer to an empty question."""
    match status:
        case 400 if "OperationNotSupported" in said:
            return failed(
                f"the model of '{name}' does not answer questions", "Deploy one that takes images: docs/deploy.md."
            )
        case 200 | 400 | 422:
            return ok(f"'{name}' accepts your token")
        case 429:
            return ok(f"'{name}' accepts your token, and is throttling at the moment")
        case 401:
            return skipped(
                "you have no role to call the model; the app has its own (see 'app roles')",
                "To call it, you need the role 'Cognitive Services OpenAI User' on the Azure OpenAI account.",
            )
        case 403:
            return skipped(
                "the Azure OpenAI account's firewall blocks you, though perhaps not the app",
                "az cognitiveservices account show --query properties.networkAcls",
            )
        case 404:
            return failed(
                f"{endpoint} has no deployment '{name}'",
                "Correct AZURE_OPENAI_DEPLOYMENT or AZURE_OPENAI_ENDPOINT.",
            )
        case 410:
            return failed(
                f"the model behind '{name}' is retired", f"Deploy a current model under the same name '{name}'."
            )
        case _:
            return failed(
                f"the model answers with HTTP {status}",
                "Try again. If it persists, look at the service's health in the portal.",
            )


async def event_subscription(patient: Patient) -> Finding:
    """Check that the event subscription delivers uploads to the app, each once, and nothing else."""
    arm, deployed, place = resource_manager(patient), patient.deployed, patient.account.place
    topic = deployed.topic or await _topic(arm, patient)
    if topic is None:
        return failed(
            f"no Event Grid topic has {patient.account_name} as its source",
            "Run azd up, or set it up without azd: docs/deploy.md.",
        )
    site = await arm.site(deployed.app)
    host = str(site["properties"].get("defaultHostName", ""))
    listed = await arm.event_subscriptions(deployed.group, topic)
    ours = [one for one in listed if _delivers_to_us(one["properties"], host, place.requests)]
    again = "azd hooks run postdeploy"
    if not ours:
        others = ", ".join(one["name"] for one in listed) or "none"
        return failed(f"no subscription of {topic} delivers to the app (it has: {others})", again)
    if len(ours) > 1:
        names = ", ".join(one["name"] for one in ours)
        return failed(
            f"{names} all deliver to the app: each upload arrives {len(ours)} times", f"Delete all but one, or: {again}"
        )
    name, properties = ours[0]["name"], ours[0]["properties"]
    problems = list(_filter_problems(properties, place.images))
    if problems:
        return failed(f"{name}: {'; '.join(problems)}", f"Deploy it again: {again}")
    return ok(f"{name} delivers uploads to '{place.images}', and nothing else")


def _delivers_to_us(properties: Mapping[str, Any], host: str, queue: str) -> bool:
    delivery = properties.get("deliveryWithResourceIdentity") or {}
    destination = properties.get("destination") or delivery.get("destination") or {}
    target = destination.get("properties") or {}
    if destination.get("endpointType") == "StorageQueue":
        return bool(target.get("queueName") == queue)
    url = urlsplit(str(target.get("endpointBaseUrl") or ""))  # without the key, which is never requested
    return bool(host) and url.hostname == host.lower() and url.path == "/runtime/webhooks/blobs"


def _filter_problems(properties: Mapping[str, Any], images: str) -> Iterator[str]:
    if properties.get("provisioningState") != "Succeeded":
        yield f"it is {properties.get('provisioningState')}"
    chosen = properties.get("filter") or {}
    begins, expected = chosen.get("subjectBeginsWith") or "", f"/blobServices/default/containers/{images}/blobs/"
    if not begins.startswith(expected):
        yield f"subjectBeginsWith is '{begins}' and should be '{expected}'"
    types = chosen.get("includedEventTypes")
    if types != [BLOB_CREATED]:
        yield f"it delivers {', '.join(types) if types else 'all events'}, and should deliver only {BLOB_CREATED}"
    calls = {
        call
        for advanced in chosen.get("advancedFilters") or []
        if str(advanced.get("key")).lower() == "data.api" and advanced.get("operatorType") == "StringIn"
        for call in advanced.get("values") or []
    }
    if calls != COMPLETING_CALLS:
        yield f"data.api should be one of {', '.join(sorted(COMPLETING_CALLS))}: uploads in pieces raise more events"


async def _topic(arm: ResourceManager, patient: Patient) -> str | None:
    ending = f"/storageaccounts/{patient.account_name}"
    for topic in await arm.topics(patient.deployed.group):
        if str(topic["properties"].get("source", "")).lower().endswith(ending):
            return str(topic["name"])
    return None


async def _principal(arm: ResourceManager, app: str) -> str | None:
    """Return the object id of the identity that the app uses."""
    identity = (await arm.site(app)).get("identity") or {}
    assigned = [one["principalId"] for one in (identity.get("userAssignedIdentities") or {}).values()]
    if len(assigned) == 1:
        return str(assigned[0])
    if len(assigned) > 1:
        client_id = (await arm.app_settings(app)).get("AZURE_CLIENT_ID")
        chosen = [one for one in identity["userAssignedIdentities"].values() if one.get("clientId") == client_id]
        return str(chosen[0]["principalId"]) if chosen else None
    return identity.get("principalId")


async def _storage_id(arm: ResourceManager, patient: Patient) -> str | None:
    for account in await arm.storage_accounts(str(patient.deployed.subscription)):
        if account["name"] == patient.account_name:
            return str(account["id"])
    return None


async def model_account(arm: ResourceManager, patient: Patient) -> Mapping[str, Any] | None:
    """Find the account with the model's endpoint: an AI Services account has several endpoints."""
    wanted = urlsplit(patient.deployed.model_endpoint or "").netloc
    for account in await arm.model_accounts(str(patient.deployed.subscription)):
        properties = account["properties"]
        endpoints = [properties.get("endpoint"), *(properties.get("endpoints") or {}).values()]
        if wanted and wanted in {urlsplit(str(endpoint)).netloc for endpoint in endpoints if endpoint}:
            return account
    return None


def _resource(endpoint: str) -> str:
    """The address of the resource, without the path of its v1 endpoint."""
    return endpoint.rstrip("/").removesuffix("/openai/v1")


def resource_manager(patient: Patient) -> ResourceManager:
    assert patient.azure is not None  # noqa: S101 - these checks run only with one
    return patient.azure


def refused(error: Refused) -> Finding:
    """Explain an error of Resource Manager."""
    if error.status == 403:
        return skipped(
            f"you may not read it ({error.code})",
            "You need the role 'Reader' on the resource group; for the app's settings 'Website Contributor'.",
        )
    if error.status == 401:
        return skipped(f"Resource Manager does not accept your sign-in ({error.code})", "az login")
    if error.status == 404:
        return failed(
            f"it does not exist ({error.message})",
            "Check the names: `azd env get-values` prints those of a deployment.",
        )
    return failed(f"Resource Manager answers with {error.code}: {error.message}", "Try again.")
