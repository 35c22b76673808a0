"""The part of the host that every kind of trigger uses."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from localcloud.functions_host.bindings import Function
from localcloud.functions_host.connections import Storage
from localcloud.functions_host.queue_listener import QueueWatcher, StopHost
from localcloud.functions_host.worker_pool import Input, Returned


class Invoke(Protocol):
    async def __call__(self, function: Function, given: Input) -> Returned | None:
        """Runs the function; raises InvocationError."""


@dataclass(frozen=True, slots=True)
class TriggerContext:
    storage: Storage
    watcher: QueueWatcher
    invoke: Invoke
    stop_host: StopHost
    hidden: timedelta
    """Seconds for which a fetched message is invisible."""


def system_data(function: Function) -> str:
    """The trigger metadata's `sys`, as JSON text."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"MethodName": function.name, "UtcNow": now, "RandGuid": str(uuid.uuid4())})
