"""The managed identity endpoint behaves as App Service's, for the real azure-identity."""

import asyncio
from typing import Any

import aiohttp
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

from localcloud.identity import IdentityEndpoint, TokenRefused, TokenRequest, caller_of

STORAGE = "https://storage.azure.com"
MODELS = "https://cognitiveservices.azure.com"


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    async with IdentityEndpoint() as endpoint:
        for name, value in endpoint.environment().items():
            monkeypatch.setenv(name, value)
        yield endpoint


async def ask(endpoint: IdentityEndpoint, *, secret: str | None = None, **query: str) -> tuple[int, dict[str, Any]]:
    environment = endpoint.environment()
    header = environment["IDENTITY_HEADER"] if secret is None else secret
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
        session.get(
            environment["IDENTITY_ENDPOINT"],
            params={key.replace("_", "-") if key == "api_version" else key: value for key, value in query.items()},
            headers={"X-IDENTITY-HEADER": header} if header else {},
        ) as response,
    ):
        return response.status, await response.json()


async def test_both_forms_of_azure_identity_get_a_token_for_the_resource(endpoint: IdentityEndpoint) -> None:
    async with AsyncManagedIdentityCredential(client_id=endpoint.client_id) as credential:
        token = await credential.get_token(f"{STORAGE}/.default")
    endpoint.verify(token.token, STORAGE)

    with ManagedIdentityCredential(client_id=endpoint.client_id) as sync_credential:
        token = await asyncio.to_thread(sync_credential.get_token, f"{MODELS}/.default")
    claims = endpoint.verify(token.token, MODELS)

    assert abs(claims["exp"] - token.expires_on) <= 2
    assert endpoint.history == [
        TokenRequest(STORAGE, endpoint.client_id, 200),
        TokenRequest(MODELS, endpoint.client_id, 200),
    ]


async def test_the_answer_has_the_documented_form(endpoint: IdentityEndpoint) -> None:
    status, body = await ask(endpoint, api_version="2019-08-01", resource=STORAGE, client_id=endpoint.client_id)

    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (status, body) == (
        200,
        {
            "access_token": body["access_token"],
            "expires_on": str(claims["exp"]),
            "resource": STORAGE,
            "token_type": "Bearer",
            "client_id": endpoint.client_id,
        },
    )
    assert (claims["aud"], claims["iss"], claims["appid"]) == (
        STORAGE,
        f"https://sts.windows.net/{claims['tid']}/",
        endpoint.client_id,
    )
    assert claims["exp"] - claims["iat"] == 3600


async def test_a_process_that_gives_a_name_has_it_in_its_tokens(endpoint: IdentityEndpoint) -> None:
    header = endpoint.environment()["IDENTITY_HEADER"]
    query = {"api_version": "2019-08-01", "resource": STORAGE, "client_id": endpoint.client_id}
    for secret, caller in ((header, None), (f"{header}.4711", "4711"), (f"{header}.", None)):
        status, body = await ask(endpoint, secret=secret, **query)
        assert (status, caller_of(endpoint.verify(body["access_token"], STORAGE))) == (200, caller)
    for wrong in (f"{header}4711", f".{header}", "ä.4711"):
        assert (await ask(endpoint, secret=wrong, **query))[0] == 401


@pytest.mark.parametrize("client_id", ["somebody-elses", None])
@pytest.mark.usefixtures("endpoint")
async def test_an_identity_that_the_app_does_not_have_is_refused(client_id: str | None) -> None:
    """None is the system-assigned one: a client id left out of the settings fails here, as it does in Azure."""
    with (
        ManagedIdentityCredential(client_id=client_id) as credential,
        pytest.raises(ClientAuthenticationError, match="No User Assigned or Delegated Managed Identity found"),
    ):
        await asyncio.to_thread(credential.get_token, f"{STORAGE}/.default")


@pytest.mark.parametrize(
    ("secret", "query", "status"),
    [
        ("", {"api_version": "2019-08-01", "resource": STORAGE}, 401),
        ("wrong", {"api_version": "2019-08-01", "resource": STORAGE}, 401),
        (None, {"api_version": "2017-09-01", "resource": STORAGE}, 400),
        (None, {"resource": STORAGE}, 400),
        (None, {"api_version": "2019-08-01"}, 400),
    ],
)
async def test_a_request_that_is_not_the_platforms_form_is_refused(
    endpoint: IdentityEndpoint, secret: str | None, query: dict[str, str], status: int
) -> None:
    answered, body = await ask(endpoint, secret=secret, client_id=endpoint.client_id, **query)

    assert (answered, body["statusCode"]) == (status, status)
    assert [request.status for request in endpoint.history] == [status]


async def test_scripted_faults_come_first_and_once(endpoint: IdentityEndpoint) -> None:
    endpoint.faults.extend([429, 503, "hang"])
    form = {"api_version": "2019-08-01", "resource": STORAGE, "client_id": endpoint.client_id}

    assert (await ask(endpoint, **form))[0] == 429
    assert (await ask(endpoint, **form))[0] == 503
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(endpoint, **form), timeout=0.2)
    assert (await ask(endpoint, **form))[0] == 200
    assert [request.status for request in endpoint.history] == [429, 503, None, 200]


async def test_a_token_opens_only_what_it_was_issued_for(
    endpoint: IdentityEndpoint, identity: IdentityEndpoint
) -> None:
    endpoint.verify(endpoint.token(f"{MODELS}/"), MODELS)  # a trailing slash is the same resource

    for token, reason in [
        (endpoint.token(STORAGE), "audience is not https://cognitiveservices.azure.com"),
        (endpoint.token(MODELS, lifetime=-1), "expired"),
        (identity.token(MODELS), "Signature verification failed"),
        ("key-from-the-portal", "Not enough segments"),
    ]:
        with pytest.raises(TokenRefused, match=reason):
            endpoint.verify(token, MODELS)
