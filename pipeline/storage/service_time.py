"""The storage service's own time, from its responses: instances' clocks do not matter."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any


class ServiceTime:
    """Hears of one request's responses: pass it to the storage SDK as `raw_response_hook`.

    When a connection breaks, the SDK has lost the hook by the time that it tries again: then no time is known.
    """

    def __init__(self) -> None:
        self._now: datetime | None = None

    def __call__(self, response: Any) -> None:
        self._now = parsedate_to_datetime(response.http_response.headers["Date"])

    def since(self, moment: datetime) -> float | None:
        """Seconds from `moment` to the response, in whole ones; None where no time is known."""
        return None if self._now is None else (self._now - moment).total_seconds()
