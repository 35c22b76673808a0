"""Azure Resource Manager on loopback, as far as `blobsight doctor` asks it, in the shapes of its REST reference.

https://learn.microsoft.com/rest/api/appservice/web-apps/list-application-settings
https://learn.microsoft.com/rest/api/eventgrid/controlplane/system-topic-event-subscriptions/list-by-system-topic
https://learn.microsoft.com/rest/api/aifoundry/accountmanagement/models/list
https://learn.microsoft.com/rest/api/authorization/role-assignments/list-for-scope
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-blobsight"
APP = f"{GROUP}/providers/Microsoft.Web/sites/func-blobsight"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/devstoreaccount1"
CONTAINERS = f"{STORAGE}/blobServices/default/containers"
QUEUES = f"{STORAGE}/queueServices/default/queues"
MODEL = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/oai-blobsight"
TOPIC = f"{GROUP}/providers/Microsoft.EventGrid/systemTopics/evgt-blobsight"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-blobsight"
PRINCIPAL = "00000000-0000-0000-0000-000000000002"
ROLES = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"

BATCH_SENDER = "11111111-0000-0000-0000-000000000002"
"""A role of the operator's own."""

NAMES = {
    "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
    "AZURE_RESOURCE_GROUP": "rg-blobsight",
    "AZURE_FUNCTION_APP_NAME": "func-blobsight",
    "AZURE_EVENT_GRID_TOPIC_NAME": "evgt-blobsight",
}


def listing(*values: Any) -> dict[str, Any]:
    return {"value": list(values)}


def role(scope: str, identifier: str) -> dict[str, Any]:
    return {
        "id": f"{scope}/providers/Microsoft.Authorization/roleAssignments/{identifier}",
        "properties": {
            "roleDefinitionId": f"{ROLES}/{identifier}",
            "principalId": PRINCIPAL,
            "principalType": "ServicePrincipal",
            "scope": scope,
        },
    }


def definition(*allowed: str, excluded: tuple[str, ...] = ()) -> dict[str, Any]:
    """A role's, with these data actions on Azure OpenAI."""
    openai = "Microsoft.CognitiveServices/accounts/OpenAI"
    return {
        "properties": {
            "permissions": [
                {
                    "actions": [],
                    "dataActions": [f"{openai}/{action}" for action in allowed],
                    "notDataActions": [f"{openai}/{action}" for action in excluded],
                }
            ]
        }
    }


def healthy(app_settings: dict[str, str]) -> dict[str, Any]:
    """The answers of each path when all is well; for tests to change."""
    return {
        APP: {
            "id": APP,
            "identity": {
                "type": "UserAssigned",
                "userAssignedIdentities": {IDENTITY: {"principalId": PRINCIPAL, "clientId": "client"}},
            },
            "properties": {"state": "Running", "defaultHostName": "func-blobsight.azurewebsites.net"},
        },
        f"{APP}/config/appsettings/list": {"id": f"{APP}/config/appsettings", "properties": app_settings},
        f"{APP}/functions": listing(
            *(
                {"name": f"func-blobsight/{name}", "properties": {"isDisabled": False}}
                for name in (
                    "analyze_image",
                    "analyze_request",
                    "analyze_deferred",
                    "record_poison_upload",
                    "record_poison_request",
                    "record_poison_deferred",
                    "reconcile",
                    "run_batches",
                )
            )
        ),
        f"{GROUP}/providers/Microsoft.EventGrid/systemTopics": listing(
            {"name": "evgt-blobsight", "properties": {"source": STORAGE}}
        ),
        f"{TOPIC}/eventSubscriptions": listing(
            {
                "name": "analyze-image-webhook",
                "properties": {
                    "provisioningState": "Succeeded",
                    "destination": {
                        "endpointType": "WebHook",
                        "properties": {
                            "endpointUrl": None,
                            "endpointBaseUrl": "https://func-blobsight.azurewebsites.net/runtime/webhooks/blobs",
                        },
                    },
                    "filter": {
                        "subjectBeginsWith": "/blobServices/default/containers/images/blobs/",
                        "subjectEndsWith": "",
                        "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
                        "advancedFilters": [
                            {
                                "operatorType": "StringIn",
                                "key": "data.api",
                                "values": ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"],
                            }
                        ],
                    },
                },
            }
        ),
        f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts": listing(
            {"id": STORAGE, "name": "devstoreaccount1"}
        ),
        f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts": listing(
            {
                "id": MODEL,
                "name": "oai-blobsight",
                "properties": {"endpoint": f"{app_settings['AZURE_OPENAI_ENDPOINT']}/", "endpoints": {}},
            }
        ),
        f"{MODEL}/deployments": listing(
            {
                "name": "vision",
                "sku": {"name": "GlobalStandard", "capacity": 50},
                "properties": {
                    "provisioningState": "Succeeded",
                    "model": {"format": "OpenAI", "name": "gpt-5.4-mini", "version": "2026-03-17"},
                },
            },
            {
                "name": "vision-batch",
                "sku": {"name": "GlobalBatch", "capacity": 10000},
                "properties": {
                    "provisioningState": "Succeeded",
                    "model": {"format": "OpenAI", "name": "gpt-5.4-mini", "version": "2026-03-17"},
                },
            },
        ),
        f"{MODEL}/models": listing(
            {"format": "OpenAI", "name": "gpt-5.4-mini", "version": "2025-01-01", "deprecation": {}},
            {
                "format": "OpenAI",
                "name": "gpt-5.4-mini",
                "version": "2026-03-17",
                "lifecycleStatus": "GenerallyAvailable",
                "deprecation": {"inference": "2999-03-17T00:00:00Z"},
                "skus": [{"name": "GlobalStandard", "deprecationDate": "2999-03-17T00:00:00Z"}],
            },
        ),
        f"{STORAGE}/providers/Microsoft.Authorization/roleAssignments": listing(
            role(f"{CONTAINERS}/images", "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"),
            role(f"{CONTAINERS}/results", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"),
            role(f"{CONTAINERS}/trials", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"),
            role(f"{CONTAINERS}/pipeline-state", "11111111-0000-0000-0000-000000000001"),  # the operator's own
            role(f"{QUEUES}/webjobs-blobtrigger-poison", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
            role(f"{QUEUES}/analysis-requests-poison", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
            role(f"{QUEUES}/deferred-work", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
            role(f"{QUEUES}/deferred-work-poison", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
            role(f"{QUEUES}/analysis-requests", "974c5e8b-45b9-4653-ba55-5f855dd0fb88"),
        ),
        f"{MODEL}/providers/Microsoft.Authorization/roleAssignments": listing(
            role(GROUP, BATCH_SENDER), role(MODEL, "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd")
        ),
        f"{MODEL}/providers/Microsoft.Authorization/roleDefinitions/5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": definition(
            "*/read", "deployments/chat/completions/action", excluded=("stored-completions/read",)
        ),
        f"{MODEL}/providers/Microsoft.Authorization/roleDefinitions/{BATCH_SENDER}": definition(
            "batch-jobs/write", "batches/*", "files/write", "files/delete"
        ),
    }


class FakeResourceManager:
    """Answers with `answers`, by path, to requests with a token for it; lists two to a page."""

    def __init__(self, verify: Callable[[str, str], object], answers: dict[str, Any]) -> None:
        self.answers = answers
        self.refusals: dict[str, tuple[int, str]] = {}
        """Status and code, by path; "*" for all."""
        self._verify = verify
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self._verify(request.headers["Authorization"].removeprefix("Bearer "), self.url)
        refusal = self.refusals.get(request.path) or self.refusals.get("*")
        if refusal:
            return _error(*refusal)
        found = self.answers.get(request.path)
        method = "POST" if request.path.endswith("/list") else "GET"
        if found is None or "api-version" not in request.query or request.method != method:
            return _error(404, "ResourceNotFound")
        if "roleAssignments" in request.path and request.query.get("$filter") != (f"assignedTo('{PRINCIPAL}')"):
            return _error(400, "BadRequest")
        if "value" not in found:
            return web.json_response(found)
        start = int(request.query.get("$skipToken", 0))
        page = {**found, "value": found["value"][start : start + 2]}
        if start + 2 < len(found["value"]):
            query = {**request.query, "$skipToken": str(start + 2)}
            page["nextLink"] = str(request.url.with_query(query))
        return web.json_response(page)


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": f"{code}, it says."}}, status=status)
