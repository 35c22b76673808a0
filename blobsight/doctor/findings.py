"""What `blobsight doctor` looks at, and what a look comes to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from blobsight.account import Account
from blobsight.doctor.resource_manager import Deployed, ResourceManager


class Verdict(StrEnum):
    """Of one check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It can't be looked at, which is no fault by itself: what was seen says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    verdict: Verdict
    seen: str
    cure: str | None = None
    """What to do, when there is something to do."""


def ok(seen: str) -> Finding:
    return Finding(Verdict.OK, seen)


def failed(seen: str, cure: str) -> Finding:
    return Finding(Verdict.FAILED, seen, cure)


def skipped(why: str, cure: str | None = None) -> Finding:
    return Finding(Verdict.SKIPPED, why, cure)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    account: Account
    deployed: Deployed
    azure: ResourceManager | None
    """None with a connection string: nobody is signed in then."""
    host: str
    """Address of the local functions host."""

    @property
    def account_name(self) -> str:
        url = urlsplit(self.account.blobs.url)
        return url.path.strip("/") or url.netloc.partition(".")[0]

    @property
    def is_local(self) -> bool:
        """Whether it is the emulator of this machine."""
        return urlsplit(self.account.blobs.url).hostname in ("127.0.0.1", "localhost")


type Check = Callable[[Patient], Awaitable[Finding]]
