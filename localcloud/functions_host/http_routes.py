"""HTTP triggers: route templates, requests as the worker takes them, responses as the client gets them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from localcloud.functions_host.bindings import Function, HttpTrigger
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.worker_pool import Input, Returned, traceparent

_TRACEPARENT = re.compile(r"00-(?P<trace>(?!0{32})[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SEGMENT = re.compile(r"\{(?P<all>\*{0,2})(?P<name>\w+)(?::(?P<constraint>[a-z]+))?(?P<optional>\?)?\}")
_CONSTRAINTS = {
    None: "[^/]+",
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": "[A-Za-z]+",
    "guid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}


@dataclass(frozen=True, slots=True)
class Route:
    function: Function
    trigger: HttpTrigger
    pattern: re.Pattern[str]
    parameters: int
    """The fewer, the more exact: such a route is tried first."""

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The route's parameters, decoded; None when it is not for this request."""
        if self.trigger.methods and method not in self.trigger.methods:
            return None
        found = self.pattern.fullmatch(path)
        return {name: unquote(value) for name, value in found.groupdict().items() if value} if found else None


class Routes:
    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        """The app's routes.

        Raises:
            HostError: a route template that is not understood.
        """
        self._routes: list[Route] = []
        for function in functions:
            if isinstance(function.trigger, HttpTrigger) and not function.disabled:
                template = "/".join(part.strip("/") for part in (prefix, function.trigger.route) if part.strip("/"))
                pattern, parameters = compile_template(template, function.name)
                self._routes.append(Route(function, function.trigger, pattern, parameters))
        self._routes.sort(key=lambda route: route.parameters)

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """The route for a request, with its parameters. None, that is 404, also for a wrong method: so the
        platform has it.
        """
        for route in self._routes:
            if (parameters := route.match(method, raw_path)) is not None:
                return route, parameters
        return None


def compile_template(template: str, function_name: str) -> tuple[re.Pattern[str], int]:
    """A route template, such as `things/{id:int}/{rest?}`, as a pattern of the raw path, and its number of
    parameters.

    Raises:
        HostError: a segment that is not understood.
    """
    pattern, count = "", 0
    known = ", ".join(name for name in _CONSTRAINTS if name)
    for segment in template.split("/"):
        if "{" not in segment:
            # Literal text is compared as the client's library would encode it; case does not matter, as on
            # the platform.
            pattern += "/" + re.escape(segment)
            continue
        found = _SEGMENT.fullmatch(segment)
        if not found or found["constraint"] not in _CONSTRAINTS:
            raise HostError(
                f"function '{function_name}', route: {segment!r} is not understood by this local host; a parameter "
                f"fills a whole segment, with no constraint or one of {known}"
            )
        count += 1
        value = ".*" if found["all"] else _CONSTRAINTS[found["constraint"]]
        part = f"/(?P<{found['name']}>{value})"
        pattern += f"(?:{part})?" if found["optional"] or found["all"] else part
    return re.compile(pattern + "/?", re.IGNORECASE), count


async def http_input(function: Function, request: web.Request, parameters: Mapping[str, str]) -> Input:
    """The request as the host hands it to a worker: names of headers in lower case, the body as bytes.

    A body without a length, that is a chunked one, is not handed over: the host looks at Content-Length.
    """
    value = {
        "method": request.method,
        "url": str(request.url),
        "headers": _joined((name.lower(), value) for name, value in request.headers.items()),
        "query": {name: value for name, value in _joined(request.query.items()).items() if value},
        "params": dict(parameters),
    }
    body = await request.read()
    given = Input(function.parameter, "http", value, body=body if request.content_length else b"")
    # The caller's trace goes on, as the web server of the real host has it.
    caller = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return replace(given, traceparent=traceparent(caller["trace"])) if caller else given


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value for each name: repeated ones joined by commas, as the host's own dictionaries have them."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def response(returned: Returned | None) -> web.Response:
    if returned is None:
        return web.Response(status=204)
    headers = CIMultiDict(
        (name, value)
        for name, value in returned.headers.items()
        if name.lower() not in {"content-length", "transfer-encoding"}  # the server's business
    )
    for cookie in returned.cookies:
        headers.add("Set-Cookie", cookie)
    return web.Response(status=returned.status, headers=headers, body=returned.body)
