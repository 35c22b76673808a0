"""The managed identity endpoint of App Service and Functions, and its tokens.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference

All processes of an app share one secret, IDENTITY_HEADER. A process may append a dot and a name to it. Its tokens then
carry that name, by which the local storage and model distinguish processes. Worker processes append their process id.
"""

import asyncio
import secrets
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import jwt
from aiohttp import web

API_VERSION = "2019-08-01"
LIFETIME_SECONDS = 3600
TENANT_ID = "6f1d4c2e-0000-4000-8000-10ca1c10d000"
CLIENT_ID = "c11e27d0-0000-4000-8000-10ca1c10d001"
PRINCIPAL_ID = "0b7ec71d-0000-4000-8000-10ca1c10d002"
ISSUER = f"https://sts.windows.net/{TENANT_ID}/"
IDENTITY = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/localcloud"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/blobsight"
)

_CALLER = "localcloud_caller"
"""The claim that names the caller. Azure's tokens don't have it."""

type Fault = int | Literal["hang"]
"""An HTTP status to answer with, or no answer at all until the client gives up."""


def caller_of(claims: Mapping[str, Any]) -> str | None:
    """The caller named by a token's claims; None if its process gave no name."""
    return claims.get(_CALLER)


class TokenRefused(Exception):
    """A bearer token is not accepted; the message says why."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client's request and the status that it got."""

    resource: str | None
    client_id: str | None
    status: int | None
    """None for a request that is left unanswered."""


class IdentityEndpoint:
    """The App Service form of the endpoint, for an app with one user-assigned identity.

    As in Azure, a request that names no identity means the system-assigned one, which this app lacks. It
    is refused, so that a missing client id shows here and not after the deployment.
    """

    def __init__(self, *, client_id: str = CLIENT_ID) -> None:
        self.client_id = client_id
        self.history: list[TokenRequest] = []
        self.faults: deque[Fault] = deque()
        """Faults for the next requests, taken from the left; empty: no faults."""
        self._secret = secrets.token_hex(16).upper()
        self._signing_key = secrets.token_bytes(32)
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/msi/token", self._answer)
        # Don't wait for unanswered requests.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, "127.0.0.1", self._port)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def environment(self) -> dict[str, str]:
        """The variables that the platform gives an app. The app's own setting chooses the identity."""
        return {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{self._port}/msi/token",
            "IDENTITY_HEADER": self._secret,
        }

    def token(self, audience: str, *, lifetime: int = LIFETIME_SECONDS, caller: str = "") -> str:
        """Make a v1 access token of an app for `audience` (a resource, not a scope).

        `lifetime` is in seconds; a negative one makes a token that has expired. `caller`: see `caller_of`.
        """
        now = int(time.time())
        issued = min(now, now + lifetime)
        claims = {
            # Entra's v1 tokens repeat the resource as it was asked for, trailing slash or not.
            "aud": audience,
            "iss": ISSUER,
            "iat": issued,
            "nbf": issued,
            "exp": now + lifetime,
            "appid": self.client_id,
            "oid": PRINCIPAL_ID,
            "sub": PRINCIPAL_ID,
            "tid": TENANT_ID,
            "idtyp": "app",
            "ver": "1.0",
            "xms_mirid": IDENTITY,
        }
        if caller:
            claims[_CALLER] = caller
        return jwt.encode(claims, self._signing_key, algorithm="HS256")

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """Return the claims of a token that this endpoint issued for `audience`.

        Raises:
            TokenRefused: not a token, not ours, expired, or meant for another resource.
        """
        bare = audience.rstrip("/")
        try:
            return jwt.decode(
                token,
                self._signing_key,
                algorithms=["HS256"],
                audience=[bare, f"{bare}/"],
                issuer=ISSUER,
                options={"require": ["aud", "iss", "iat", "nbf", "exp"]},
            )
        except jwt.InvalidAudienceError:
            raise TokenRefused(f"The token's audience is not {bare}.") from None
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"{error}.") from None

    async def _answer(self, request: web.Request) -> web.Response:
        resource, client_id = request.query.get("resource"), request.query.get("client_id")
        secret, _, caller = request.headers.get("X-IDENTITY-HEADER", "").partition(".")
        fault = self.faults.popleft() if self.faults else None
        if fault == "hang":
            self.history.append(TokenRequest(resource, client_id, status=None))
            await asyncio.Event().wait()
        if isinstance(fault, int):
            response = _refusal(fault, "Scripted fault.")
        elif not secrets.compare_digest(secret.encode(), self._secret.encode()):
            response = _refusal(401, "The X-IDENTITY-HEADER header is missing or wrong.")
        elif request.query.get("api-version") != API_VERSION:
            response = _refusal(400, f"The api-version query parameter must be {API_VERSION}.")
        elif not resource:
            response = _refusal(400, "The resource query parameter is missing.")
        elif client_id != self.client_id:
            # The platform's message.
            response = _refusal(
                400,
                "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
            )
        else:
            response = web.json_response(
                {
                    "access_token": self.token(resource, caller=caller),
                    "expires_on": str(int(time.time()) + LIFETIME_SECONDS),
                    "resource": resource,
                    "token_type": "Bearer",
                    "client_id": client_id,
                }
            )
        self.history.append(TokenRequest(resource, client_id, response.status))
        return response


def _refusal(status: int, message: str) -> web.Response:
    """Build an error in the platform's form, which msal reads."""
    return web.json_response(
        {"statusCode": status, "message": message, "correlationId": str(uuid.uuid4())}, status=status
    )
