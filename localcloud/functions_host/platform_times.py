"""The platform's times that tests and the chaos campaign shorten, by app settings that Azure does not know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from localcloud.functions_host.errors import HostError


@dataclass(frozen=True, slots=True)
class PlatformTimes:
    """The times, in seconds."""

    hidden: float = 600.0
    """Seconds for which a fetched message is invisible to others; it is renewed at half of that."""
    unreachable: float = 25.0
    """Seconds for which a request to storage is retried, six tries in all, as the .NET SDK does by default."""
    restart: float = 1.0
    """Seconds before a host that ended is started again; doubled, up to 30 times as long, if it ends at once again."""

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
