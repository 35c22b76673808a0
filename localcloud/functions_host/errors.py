"""The host's exceptions.

HostError               the app cannot be started; the message is for the developer
InvocationError         one invocation failed
    FunctionError       the function raised
    FunctionTimeout     it ran longer than functionTimeout; its worker was killed
    WorkerExited        its worker died or was killed under it

Any other exception that leaves a listener stops the whole host: see queue_listener.
"""

from localcloud.errors import LocalCloudError

MOST_SHOWN = 1000
"""Characters of a failure's message in the log. The function may quote whatever people write."""


def first_line(error: Exception) -> str:
    """The first line of the message of `error`, without what steers a terminal."""
    line = (str(error).splitlines() or [type(error).__name__])[0][:MOST_SHOWN]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


class HostError(LocalCloudError):
    """The host cannot start. `problems` has one line for each thing to fix."""

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = problems
        super().__init__("\n".join(problems))


class InvocationError(Exception):
    """An invocation did not succeed. Its message goes the failure path of its
    trigger.
    """


class FunctionError(InvocationError):
    """The function raised. `stack_trace` is the worker's text of it."""

    def __init__(self, message: str, stack_trace: str) -> None:
        super().__init__(message)
        self.stack_trace = stack_trace


class FunctionTimeout(InvocationError):
    """The function ran longer than host.json's functionTimeout."""


class WorkerExited(InvocationError):
    """The worker process ended before it answered."""
