"""Let another OpenAI-compatible server on this machine answer instead, such as Ollama, vLLM or LM Studio."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

import aiohttp

from localcloud.errors import LocalCloudError
from localcloud.model.errors import ErrorReply, RefusedError, gateway_error
from localcloud.model.replies import Reply

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=600)
"""A vision model on a laptop's processor may think for minutes."""


class Relay:
    """Forwards checked requests to `upstream`, a base URL such as http://localhost:11434/v1. Use as a context manager.

    The caller's token stays here. A deployment name that the upstream does not list as a model becomes the first one
    that it does list.
    """

    def __init__(self, upstream: str) -> None:
        self._base = upstream.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._models: list[str] = []

    async def __aenter__(self) -> Self:
        """Check the upstream now instead of at the first image. Raises LocalCloudError if it can't be used."""
        self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            await self._model("")
        except RefusedError as error:
            await self.__aexit__()
            raise LocalCloudError(error.reply.body["error"]["message"]) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def forward(self, request: Mapping[str, Any]) -> Reply:
        """The upstream's reply, errors included. Raises RefusedError (502) when there is none."""
        body = {**request, "model": await self._model(str(request["model"]))}
        body.pop("service_tier", None)  # a server on this machine has one
        if "max_completion_tokens" in body:
            # Ollama and LM Studio know the limit by its older name only, and overlook the other.
            body["max_tokens"] = body["max_completion_tokens"]
        return await self._fetch("POST", "/chat/completions", json.dumps(body).encode())

    async def _model(self, deployment: str) -> str:
        if not self._models:
            listing = await self._fetch("GET", "/models")
            try:
                self._models = [entry["id"] for entry in json.loads(listing.body)["data"]]
            except (ValueError, KeyError, TypeError):
                raise RefusedError(
                    self._unusable(f"GET /models answered {listing.status}, and no list of models")
                ) from None
            if not self._models:
                raise RefusedError(self._unusable("it has no model. Load one first, e.g. `ollama pull qwen2.5vl`"))
        return deployment if deployment in self._models else self._models[0]

    async def _fetch(self, method: str, path: str, body: bytes | None = None) -> Reply:
        assert self._session is not None, "used before it was entered"  # noqa: S101 - a programming error
        try:
            async with self._session.request(
                method, self._base + path, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                return Reply(response.status, await response.read())
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:  # noqa: UP041 - aiohttp documents this name
            raise RefusedError(self._unusable(str(error) or type(error).__name__)) from error

    def _unusable(self, why: str) -> ErrorReply:
        return gateway_error(502, "UpstreamUnusable", f"The model server at {self._base} cannot be used: {why}.")
