"""What a check comes to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Of one check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be checked, which is no fault by itself: what was seen says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `blobsight doctor`."""

    check: str
    verdict: Verdict
    seen: str
    cure: str | None = None
    """What to do, when there is something to do."""


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Verdict.OK, seen)


def failed(check: str, seen: str, cure: str) -> Finding:
    return Finding(check, Verdict.FAILED, seen, cure)


def skipped(check: str, why: str, cure: str | None = None) -> Finding:
    return Finding(check, Verdict.SKIPPED, why, cure)
