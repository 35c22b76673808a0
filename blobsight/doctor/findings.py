"""The checks of `blobsight doctor`, and their outcomes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from blobsight.account import Account
from blobsight.doctor.resource_manager import Deployed, ResourceManager


class Verdict(StrEnum):
    """The outcome of one check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The check could not be made, which need not be a fault: `seen` says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check, with its explanation."""

    verdict: Verdict
    seen: str
    cure: str | None = None
    """What to do, if anything."""


def ok(seen: str) -> Finding:
    return Finding(Verdict.OK, seen)


def failed(seen: str, cure: str) -> Finding:
    return Finding(Verdict.FAILED, seen, cure)


def skipped(why: str, cure: str | None = None) -> Finding:
    return Finding(Verdict.SKIPPED, why, cure)


@dataclass(frozen=True, slots=True)
class Patient:
    """The account and the deployment to check."""

    account: Account
    deployed: Deployed
    azure: ResourceManager | None
    """None with a connection string, which is not a sign-in."""
    host: str
    """Address of the local functions host."""

    @property
    def account_name(self) -> str:
        url = urlsplit(self.account.blobs.url)
        return url.path.strip("/") or url.netloc.partition(".")[0]

    @property
    def is_local(self) -> bool:
        """Whether the account is the emulator on this machine."""
        return urlsplit(self.account.blobs.url).hostname in ("127.0.0.1", "localhost")


type Check = Callable[[Patient], Awaitable[Finding]]
