"""The functions' boundary: what leaves an invocation."""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import Failure

logger = logging.getLogger(__name__)

MOST_FRAMES = 8
"""Of an unexpected exception that are logged."""


class InvocationCancelled(Exception):
    """A CancelledError came out of the app's own work or a library's.

    The platform itself cancels nothing: it kills. But the worker catches only ordinary exceptions, and a CancelledError
    that leaves a function, such as that of a future shared with another invocation, would leave the host without a
    response: until functionTimeout, when it kills the worker and all that runs there.
    """


@contextmanager
def uncancelled(what: str) -> Iterator[None]:
    """The functions' boundary: turn a stray cancellation into an ordinary exception, and log what is not a Failure.

    An unexpected exception is logged with its type and where it came from, but without its message, which may hold
    people's text. The host logs it whole, where telemetry does not reach.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise InvocationCancelled(f"{what}: cancelled before it was done") from None
    except Failure:
        raise
    except Exception as error:
        logger.error(  # noqa: TRY400 - a traceback would end in the message
            "Unexpected %s at %s", type(error).__name__, _frames(error), extra={"error_type": type(error).__name__}
        )
        raise


def _frames(error: BaseException) -> str:
    """The last places that `error` came through, the innermost first: `module.py:12 in function`."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in reversed(frames))
