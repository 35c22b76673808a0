"""The models behind deployments, as a person names them for their prices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import click

from blobsight.trials.variants import Variant


@dataclass(frozen=True, slots=True)
class Models:
    """The models behind deployments, as a person names them; `others` is that of those not named."""

    named: Mapping[str, str]
    others: str | None = None

    def answering(self, deployment: str | None) -> str | None:
        """The model of a deployment that has answered; None where the person names none."""
        return self.named.get(deployment or "", self.others)

    def of(self, variant: Variant, app: str) -> str | None:
        """The model of a variant where `app` is the app's own deployment; None: that of the results so far.

        Another deployment that is not named is taken to be called like its model, as many are.
        """
        deployment = variant.options.deployment
        known = self.named.get(deployment or app, self.others)
        return known or (deployment if deployment not in (None, app) else None)


def models_given(given: Iterable[str]) -> Models:
    """The models in `NAME` and `DEPLOYMENT=NAME`.

    Raises:
        click.UsageError: one is empty, or two are for the same.
    """
    named: dict[str, str] = {}
    for entry in given:
        deployment, equals, model = entry.rpartition("=")
        if not model or (equals and not deployment):
            raise click.BadParameter(f"{entry!r} should be NAME or DEPLOYMENT=NAME.", param_hint="--model")
        if named.setdefault(deployment, model) != model:
            raise click.BadParameter(f"it is given twice for {deployment or 'all'}.", param_hint="--model")
    return Models({name: model for name, model in named.items() if name}, named.get(""))


model_option = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[DEPLOYMENT=]NAME",
    help="Model behind the deployments, or behind one, for its price; can be repeated.",
)
