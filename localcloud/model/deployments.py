"""Deployments, the models behind them, and which requests each one takes: by its SKU, and by its tiers. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localcloud.model.errors import RefusedError, invalid_request, operation_not_supported, tier_unsupported
from localcloud.model.tokens import LONG_SIDE, LOW_SIDE, ORIGINAL_SIDE

type Sku = Literal["GlobalStandard", "DataZoneStandard", "Standard", "GlobalBatch", "DataZoneBatch"]

MODEL = "blobsight-local-ocr"
"""The name of the model in answers, unless a test says otherwise."""

DETAILS = ("low", "high", "auto")
"""Those that every model takes."""
TIERS = ("auto", "default", "flex", "priority")


@dataclass(frozen=True, slots=True)
class Deployed:
    """The model behind a deployment: its name in answers, whether it takes detail `original`, and how well it sees.

    Attributes:
        side: pixels on the longer side of a picture that are as many as it can make out, whatever the detail.
    """

    name: str = MODEL
    takes_original: bool = True
    side: int = ORIGINAL_SIDE

    @property
    def details(self) -> tuple[str, ...]:
        return (*DETAILS, "original") if self.takes_original else DETAILS

    def seen_side(self, detail: str) -> int:
        """Pixels on the longer side at which it sees a picture at most, if asked with this `detail`."""
        return min(self.side, {"low": LOW_SIDE, "original": ORIGINAL_SIDE}.get(detail, LONG_SIDE))


SMALL = Deployed("blobsight-local-ocr-small", takes_original=False, side=640)
"""A cheap model: it sees less than the other one, so it misses small print."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name that requests use as `model`.

    Attributes:
        tiers: the service tiers that its model takes, in addition to the default.
        model: the model behind it; None: the one that the service has for all others.
    """

    name: str
    sku: Sku = "GlobalStandard"
    tiers: tuple[str, ...] = ("flex", "priority")
    model: Deployed | None = None

    @property
    def is_for_batches(self) -> bool:
        return self.sku in ("GlobalBatch", "DataZoneBatch")


def by_name(deployments: Iterable[Deployment | str]) -> dict[str, Deployment]:
    """The deployments; a bare name is one of the SKU GlobalStandard."""
    made = [Deployment(given) if isinstance(given, str) else given for given in deployments]
    return {deployment.name: deployment for deployment in made}


def admit(request: Mapping[str, Any], deployments: Mapping[str, Deployment]) -> None:
    """Refuse a chat completion that its deployment does not take. Unknown deployments are left to `question.check`.

    Raises:
        RefusedError: the deployment is for batches, or its model does not take the tier.
    """
    deployment = deployments.get(str(request.get("model")))
    if deployment is None:
        return
    if deployment.is_for_batches:
        raise RefusedError(operation_not_supported(MODEL))
    check_tier(request, deployment.tiers)


def check_tier(request: Mapping[str, Any], taken: Collection[str]) -> None:
    """Refuse a tier other than the default that is not among those taken; the service falls back to no other.

    Raises:
        RefusedError: in the words of an unknown tier, or of one that the model does not take.
    """
    tier = request.get("service_tier")
    if tier is None or tier in ("auto", "default"):
        return
    if tier not in TIERS:
        names = ", ".join(f"'{name}'" for name in TIERS)
        message = f"Invalid value: '{tier}'. Supported values are: {names}."
        raise RefusedError(invalid_request(message, param="service_tier", code="invalid_value"))
    if tier not in taken:
        raise RefusedError(tier_unsupported(str(tier)))


def answered_tier(asked: object) -> str:
    """The tier that an answer names, by the one that was asked for."""
    return str(asked) if asked in ("flex", "priority") else "default"
