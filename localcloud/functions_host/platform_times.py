"""The platform's times that tests and the chaos campaign shorten, by app settings that Azure does not know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from localcloud.functions_host.errors import HostError


@dataclass(frozen=True, slots=True)
class PlatformTimes:
    """All in seconds."""

    hidden: float = 600.0
    """How long a message that was fetched stays invisible to everybody else; it is renewed at half of that."""
    unreachable: float = 25.0
    """For how long a request to storage is tried again, six tries in all: the .NET SDK's retries as they come."""
    restart: float = 1.0
    """Before a host that ended is started again; doubled, up to 30 times as long, for one that ends at once again."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """The times with what `settings` say: LOCAL_HOST_HIDDEN_SECONDS, LOCAL_HOST_UNREACHABLE_SECONDS and
        LOCAL_HOST_RESTART_SECONDS.

        Raises:
            HostError: a value is not a number of seconds.
        """
        times, problems = {}, []
        for name in cls.__slots__:
            key = f"LOCAL_HOST_{name.upper()}_SECONDS"
            if (text := settings.get(key)) is None:
                continue
            try:
                times[name] = float(text)
            except ValueError:
                problems.append(f"the app setting {key} is {text!r}; it must be a number of seconds, e.g. 2.5")
        if problems:
            raise HostError(*problems)
        return cls(**times)
