"""A lane: what has a pace, pauses and a door of its own."""

from typing import NamedTuple


class Lane(NamedTuple):
    """Calls to one deployment at one tier."""

    deployment: str
    tier: str = "default"

    @property
    def lacks_capacity(self) -> bool:
        """Whether a refusal means that there is no capacity, for minutes or hours, rather than that a quota is used up.

        Whoever waits here for that to pass would hold up the other lanes.
        """
        return self.tier == "flex"

    def __str__(self) -> str:
        at = "" if self.tier == "default" else f" at the tier '{self.tier}'"
        return f"The deployment '{self.deployment}'{at}"
