"""Read Azure Resource Manager for `blobsight doctor`. Keys are never read.

This is plain REST with a token: the packages azure-mgmt-* would be a hundred times the size of this file.
The API versions are those that infra/bicep deploys with.
https://learn.microsoft.com/rest/api/azure/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from yarl import URL

PUBLIC = "https://management.azure.com"
"""Address in the public cloud; others have their own, such as https://management.usgovcloudapi.net."""

WEB = "2024-11-01"
EVENT_GRID = "2025-02-15"
COGNITIVE_SERVICES = "2025-06-01"
AUTHORIZATION = "2022-04-01"
STORAGE = "2025-01-01"

_ANSWER_SECONDS = 20


class Refused(Exception):
    """An error that Resource Manager returned: HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The deployment's resources, by the names that `azd env get-values` prints; None where not given."""

    subscription: str | None
    resource_group: str | None
    function_app: str | None
    topic: str | None
    model_endpoint: str | None
    model_deployment: str | None

    @property
    def missing(self) -> list[str]:
        """The variables that are needed and not set."""
        needed = {
            "AZURE_SUBSCRIPTION_ID": self.subscription,
            "AZURE_RESOURCE_GROUP": self.resource_group,
            "AZURE_FUNCTION_APP_NAME": self.function_app,
        }
        return [name for name, value in needed.items() if not value]

    @property
    def group(self) -> str:
        """The resource group's id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def app(self) -> str:
        """The function app's id."""
        return f"{self.group}/providers/Microsoft.Web/sites/{self.function_app}"


class ResourceManager:
    """A client of Resource Manager, to be used inside `async with`.

    Each method raises `Refused`; aiohttp.ClientError or OSError if it can't be reached; AzureError without a token.
    """

    def __init__(self, url: str, credential: AsyncTokenCredential) -> None:
        self._url = url.rstrip("/")
        self._credential = credential
        self._session: aiohttp.ClientSession | None = None

    @property
    def scope(self) -> str:
        """The scope of the tokens that it takes."""
        return f"{self._url}/.default"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS), trust_env=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def site(self, app: str) -> Mapping[str, Any]:
        """The function app: `properties.state`, `identity`, …"""
        return await self._ask("GET", app, WEB)

    async def app_settings(self, app: str) -> dict[str, str]:
        """The function app's settings."""
        answer = await self._ask("POST", f"{app}/config/appsettings/list", WEB)
        return {name: str(value) for name, value in answer["properties"].items()}

    async def functions(self, app: str) -> list[str]:
        """The names of the functions that the host has found in the deployed code."""
        found = await self._list(f"{app}/functions", WEB)
        return [function["name"].rpartition("/")[2] for function in found]

    async def topics(self, group: str) -> Sequence[Mapping[str, Any]]:
        """The Event Grid system topics of a resource group: `name`, `properties.source`."""
        return await self._list(f"{group}/providers/Microsoft.EventGrid/systemTopics", EVENT_GRID)

    async def event_subscriptions(self, group: str, topic: str) -> Sequence[Mapping[str, Any]]:
        """The subscriptions of a system topic: `name`, `properties.filter`, `properties.destination`, …"""
        path = f"{group}/providers/Microsoft.EventGrid/systemTopics/{topic}/eventSubscriptions"
        return await self._list(path, EVENT_GRID)

    async def storage_accounts(self, subscription: str) -> Sequence[Mapping[str, Any]]:
        """The storage accounts: `id`, `name`."""
        return await self._list(f"/subscriptions/{subscription}/providers/Microsoft.Storage/storageAccounts", STORAGE)

    async def model_accounts(self, subscription: str) -> Sequence[Mapping[str, Any]]:
        """The Azure OpenAI and AI Services accounts: `id`, `properties.endpoint`, `properties.endpoints`."""
        path = f"/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/accounts"
        return await self._list(path, COGNITIVE_SERVICES)

    async def model_deployments(self, account: str) -> Sequence[Mapping[str, Any]]:
        """The deployments of an account: `name`, `properties.model`, `sku`, …"""
        return await self._list(f"{account}/deployments", COGNITIVE_SERVICES)

    async def models(self, account: str) -> Sequence[Mapping[str, Any]]:
        """The models that an account may deploy: `name`, `version`, when they retire (`deprecation`, `skus`), …"""
        return await self._list(f"{account}/models", COGNITIVE_SERVICES)

    async def roles(self, scope: str, principal: str) -> list[tuple[str, str]]:
        """Roles that a principal has on a resource and on parts of it, assigned there or above, to it or to its groups.

        Each with its id, and where it is assigned.
        """
        found = await self._list(
            f"{scope}/providers/Microsoft.Authorization/roleAssignments",
            AUTHORIZATION,
            {"$filter": f"assignedTo('{principal}')"},
        )
        properties = [assignment["properties"] for assignment in found]
        return [
            (str(each["roleDefinitionId"]).rpartition("/")[2].lower(), str(each["scope"]).rstrip("/"))
            for each in properties
        ]

    async def data_actions(self, scope: str, role: str) -> tuple[list[str], list[str]]:
        """The data actions that a role allows, and those that it excludes from them; either may have wildcards."""
        found = await self._ask(
            "GET", f"{scope}/providers/Microsoft.Authorization/roleDefinitions/{role}", AUTHORIZATION
        )
        permissions = found["properties"]["permissions"]
        return (
            [action for each in permissions for action in each.get("dataActions") or []],
            [action for each in permissions for action in each.get("notDataActions") or []],
        )

    async def _list(self, path: str, version: str, query: Mapping[str, str] | None = None) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        answer = await self._ask("GET", path, version, query)
        while True:
            found += answer["value"]
            if not answer.get("nextLink"):
                return found
            answer = await self._send("GET", URL(answer["nextLink"], encoded=True))

    async def _ask(
        self, method: str, path: str, version: str, query: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        return await self._send(method, URL(self._url + path) % {"api-version": version, **(query or {})})

    async def _send(self, method: str, url: URL) -> Mapping[str, Any]:
        if URL(self._url).origin() != url.origin():
            raise Refused(0, "InvalidNextLink", "the list continues at another address, which must not get the token")
        assert self._session is not None  # noqa: S101 - used inside `async with`
        token = await self._credential.get_token(self.scope)
        async with self._session.request(
            method, url, headers={"Authorization": f"Bearer {token.token}"}, allow_redirects=False
        ) as answer:
            try:
                body = await answer.json(content_type=None)
            except ValueError:
                body = None
            if answer.status != 200 or not isinstance(body, dict):
                error = body.get("error") if isinstance(body, dict) else None
                given = error if isinstance(error, dict) else {}
                raise Refused(
                    answer.status,
                    str(given.get("code") or f"HTTP {answer.status}"),
                    str(given.get("message") or "no explanation").partition("\n")[0],
                )
            return body
