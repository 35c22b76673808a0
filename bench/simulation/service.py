"""A model deployment's quota as callers see it: tokens a minute, refusals, and rate-limit headers.

The service charges a request when it arrives: its prompt, and all that its answer may need.
https://learn.microsoft.com/azure/ai-services/openai/how-to/quota
"""

from dataclasses import dataclass, field

from bench.simulation.clock import now


class Bucket:
    """A minute's quota that refills evenly, as localcloud's `Quota`."""

    def __init__(self, tokens_per_minute: float) -> None:
        self.per_minute = self.level = tokens_per_minute
        self._at = 0.0

    @property
    def capacity(self) -> float:
        return self.per_minute

    def refill(self) -> None:
        self.level = min(self.capacity, self.level + (now() - self._at) * self.per_minute / 60)
        self._at = now()

    def wait_for(self, cost: float) -> float:
        return (cost - self.level) * 60 / self.per_minute if self.per_minute else 3600.0


class Windows(Bucket):
    """A sixth of a minute's quota for each ten seconds; what is left over is lost."""

    @property
    def capacity(self) -> float:
        return self.per_minute / 6

    def refill(self) -> None:
        if now() // 10 != self._at // 10 or not self._at:
            self.level = self.capacity
        self._at = now()

    def wait_for(self, cost: float) -> float:  # noqa: ARG002 - the window's end is the same for all
        return 10 - now() % 10


@dataclass
class Service:
    quota: Bucket
    talkative: bool
    """Whether it sends x-ratelimit headers, and retry-after-ms when it refuses."""
    accepted: list[tuple[float, float]] = field(default_factory=list)
    """When, and the tokens charged."""
    refused: list[float] = field(default_factory=list)

    def change_quota(self, tokens_per_minute: float) -> None:
        self.quota.refill()
        self.quota.per_minute = tokens_per_minute
        self.quota.level = min(self.quota.level, self.quota.capacity)

    def arrive(self, tokens: float) -> tuple[bool, dict[str, str]]:
        """Return whether the request is accepted, and the headers of its answer: the quota left when it arrived."""
        self.quota.refill()
        accepted = self.quota.level >= tokens
        if accepted:
            self.quota.level -= tokens
            self.accepted.append((now(), tokens))
        else:
            self.refused.append(now())
        if not self.talkative:
            return accepted, {}
        headers = {
            "x-ratelimit-limit-tokens": f"{self.quota.capacity:.0f}",
            "x-ratelimit-remaining-tokens": f"{self.quota.level:.0f}",
        }
        return accepted, headers | ({} if accepted else {"retry-after-ms": f"{self.quota.wait_for(tokens) * 1000:.0f}"})

    def used(self, since: float, until: float) -> float:
        """Part of the present quota."""
        used = sum(tokens for at, tokens in self.accepted if since <= at < until)
        return used / (self.quota.per_minute / 60 * (until - since))

    def refused_share(self, since: float, until: float) -> float:
        refused = sum(since <= at < until for at in self.refused)
        return refused / max(1, refused + sum(since <= at < until for at, _ in self.accepted))
