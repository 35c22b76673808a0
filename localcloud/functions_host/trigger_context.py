"""What every kind of trigger is given by the host."""

from dataclasses import dataclass
from typing import Protocol

from localcloud.functions_host.bindings import Function
from localcloud.functions_host.connections import Storage
from localcloud.functions_host.queue_listener import QueueWatcher
from localcloud.functions_host.worker_pool import Input


class Invoke(Protocol):
    async def __call__(self, function: Function, given: Input) -> object:
        """Runs the function; raises InvocationError."""


@dataclass(frozen=True, slots=True)
class TriggerContext:
    storage: Storage
    watcher: QueueWatcher
    invoke: Invoke
