"""Who may call what: the master key, the default function key, and the blobs extension's system key; random
at each start.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from aiohttp import web

from localcloud.functions_host.bindings import AuthLevel

BLOBS_EXTENSION = "blobs_extension"
"""The system key's name on the platform."""


def _new() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Keys:
    master: str = field(default_factory=_new, repr=False)
    function: str = field(default_factory=_new, repr=False)
    blobs_extension: str = field(default_factory=_new, repr=False)

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
