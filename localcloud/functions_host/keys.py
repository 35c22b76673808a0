"""The keys: the master key, the default function key, and the blobs extension's system key."""

import hmac
import json
import secrets
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Self

from aiohttp import web

from localcloud.functions_host.bindings import AuthLevel

BLOBS_EXTENSION = "blobs_extension"
"""The system key's name on the platform."""

VARIABLE = "LOCAL_HOST_KEYS"
"""Environment variable that passes the keys on to a restarted host, so that callers keep theirs."""


def _new() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Keys:
    master: str = field(default_factory=_new, repr=False)
    function: str = field(default_factory=_new, repr=False)
    blobs_extension: str = field(default_factory=_new, repr=False)

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> Self:
        """Take the keys from `environment`, where the app must not see them, or make new ones."""
        given = environment.pop(VARIABLE, None)
        return cls(**json.loads(given)) if given else cls()

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    def allow_master(self, request: web.Request) -> bool:
        return _is_one_of(request, self.master)

    def allow_webhook(self, request: web.Request) -> bool:
        return _is_one_of(request, self.blobs_extension, self.master)

    def allow_route(self, request: web.Request, level: AuthLevel) -> bool:
        match level:
            case AuthLevel.ANONYMOUS:
                return True
            case AuthLevel.FUNCTION:
                return _is_one_of(request, self.function, self.master)
            case AuthLevel.ADMIN:
                return self.allow_master(request)


def _is_one_of(request: web.Request, *keys: str) -> bool:
    given = request.headers.get("x-functions-key") or request.query.get("code", "")
    return any(hmac.compare_digest(given.encode(), key.encode()) for key in keys)
