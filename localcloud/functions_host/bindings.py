"""The functions' triggers, read from the worker's report (in function.json's form), with %SETTING% resolved and
checked.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from croniter import croniter

from localcloud.functions_host.connections import HOST_CONNECTION, Connection
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.worker_pool import IndexedFunction

_SETTING = re.compile(r"%([^%]+)%")
_NCRONTAB_FIELDS = 6


class AuthLevel(StrEnum):
    ANONYMOUS = "anonymous"
    FUNCTION = "function"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class BlobTrigger:
    container: str
    path: str
    connection: Connection


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    queue: str
    connection: Connection
    binary: bool
    """The function gets bytes (`dataType` binary), not text."""


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    schedule: str
    """NCRONTAB: second minute hour day month weekday, UTC."""
    run_on_startup: bool


@dataclass(frozen=True, slots=True)
class HttpTrigger:
    route: str
    methods: frozenset[str]
    """Empty: all."""
    auth_level: AuthLevel


type Trigger = BlobTrigger | QueueTrigger | TimerTrigger | HttpTrigger


@dataclass(frozen=True, slots=True)
class Function:
    indexed: IndexedFunction
    parameter: str
    """The function's parameter that takes the trigger's value."""
    trigger: Trigger
    disabled: bool

    @property
    def name(self) -> str:
        return self.indexed.name


def read(indexed: Iterable[IndexedFunction], settings: Mapping[str, str]) -> tuple[Function, ...]:
    """Reads all functions' bindings.

    Raises:
        HostError: with every problem of every function, each naming the function, the binding's property and
        the setting.
    """
    functions, problems = [], []
    for function in indexed:
        try:
            functions.append(_read_one(function, settings))
        except HostError as error:
            problems += [f"function '{function.name}': {problem}" for problem in error.problems]
    if problems:
        raise HostError(*problems)
    return tuple(functions)


def resolve(binding: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Replaces each %SETTING% in the binding's texts by the app setting.

    Raises:
        HostError: one problem for each setting that is missing.
    """
    problems: list[str] = []

    def replace(key: str, match: re.Match[str]) -> str:
        if (value := settings.get(match[1])) is None:
            problems.append(
                f"{binding['type']} '{binding['name']}', {key}: '{match[0]}' does not resolve to a value; "
                f"add the app setting {match[1]}"
            )
            return ""
        return value

    resolved = {
        key: _SETTING.sub(partial(replace, key), value) if isinstance(value, str) else value
        for key, value in binding.items()
    }
    if problems:
        raise HostError(*problems)
    return resolved


def _read_one(function: IndexedFunction, settings: Mapping[str, str]) -> Function:
    bindings = [resolve(json.loads(text), settings) for text in function.bindings]
    triggers = [binding for binding in bindings if binding["type"].endswith("Trigger")]
    others = [binding["type"] for binding in bindings if binding not in triggers and binding["type"] != "http"]
    if len(triggers) != 1:
        raise HostError(f"it has {len(triggers)} triggers; a function has exactly one")
    if others:
        raise HostError(f"the binding type {', '.join(others)} is not supported by this local host")
    if function.has_retry_policy:
        raise HostError(
            "retry policies are not supported by this local host (and on the platform not for storage triggers)"
        )
    (binding,) = triggers
    match binding["type"]:
        case "blobTrigger":
            trigger: Trigger = _blob(binding, settings)
        case "queueTrigger":
            connection = Connection.resolve(binding.get("connection") or HOST_CONNECTION, settings, ("queue",))
            binary = str(binding.get("dataType")).lower() == "binary"
            trigger = QueueTrigger(binding["queueName"].lower(), connection, binary)
        case "timerTrigger":
            trigger = TimerTrigger(_schedule(binding["schedule"]), bool(binding.get("runOnStartup")))
        case "httpTrigger":
            methods = frozenset(str(method).upper() for method in binding.get("methods") or ())
            level = AuthLevel(str(binding.get("authLevel") or AuthLevel.FUNCTION).lower())
            trigger = HttpTrigger(binding.get("route") or function.name, methods, level)
        case other:
            raise HostError(f"the trigger type {other} is not supported by this local host")
    return Function(function, binding["name"], trigger, _is_disabled(function.name, settings))


def _blob(binding: Mapping[str, Any], settings: Mapping[str, str]) -> BlobTrigger:
    source = binding.get("source") or "LogsAndContainerScan"
    if source != "EventGrid":
        raise HostError(
            f"blobTrigger '{binding['name']}': its source is {source}, but only EventGrid is supported here, "
            "as on Flex Consumption; set source=func.BlobSource.EVENT_GRID"
        )
    if not binding.get("properties", {}).get("SupportsDeferredBinding"):
        raise HostError(
            f"blobTrigger '{binding['name']}': its parameter must be of a type that takes no bytes, like "
            "BlobClient of azurefunctions.extensions.bindings.blob; this host sends no blob's bytes to the worker"
        )
    path = binding["path"]
    container = path.partition("/")[0]
    if not container or "{" in container:
        raise HostError(
            f"blobTrigger '{binding['name']}', path: {path!r} must begin with a container, e.g. images/{{name}}"
        )
    name = binding.get("connection") or HOST_CONNECTION
    return BlobTrigger(container, path, Connection.resolve(name, settings, ("blob", "queue")))


def _schedule(text: str) -> str:
    if len(text.split()) != _NCRONTAB_FIELDS or not croniter.is_valid(text, second_at_beginning=True):
        raise HostError(
            f"timerTrigger, schedule: {text!r} is not a NCRONTAB expression; it has six fields, "
            'second minute hour day month weekday, e.g. "0 */5 * * * *"'
        )
    return text


def _is_disabled(name: str, settings: Mapping[str, str]) -> bool:
    # The second form is the one for Linux, where a setting's name has no dots.
    keys = (f"AzureWebJobs.{name}.Disabled", f"AzureWebJobs__{name}__Disabled")
    return any(settings.get(key, "").lower() in {"true", "1"} for key in keys)
