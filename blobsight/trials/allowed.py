"""What the app allows to be asked, from its own note: so that what it would refuse is said before anything is paid."""

import json
from collections.abc import Sequence

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from pydantic import BaseModel, ConfigDict, ValidationError

from blobsight.account import Account, service_code
from blobsight.reading import UnreadableError, properties_of, read_blob
from blobsight.terminal import Trouble, shortened
from blobsight.trials.variants import Variant
from pipeline.instructions.authority import Authority, Origin
from pipeline.instructions.options import InvalidOption, Options
from pipeline.settings import MOST_OUTPUT_TOKENS
from pipeline.upkeep.readiness import NOTE

_MOST_BYTES = 1024 * 1024


class Allowance(BaseModel):
    """What may be asked, as the app noted it. None stands for anything."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trials: str
    """The container of trials."""
    requests_may_ask: bool
    deployment: str
    """The one that answers where nobody names another."""
    detail: str | None = None
    """The one that counts where nobody says another."""
    service_tier: str | None = None
    """Likewise."""
    reasoning_effort: str | None = None
    """Likewise."""
    instructions_sha256: str | None = None
    """Of what is asked where nobody asks anything; None: an older app, or the built-in question."""
    system_prompt_sha256: str | None = None
    deployments: tuple[str, ...]
    details: tuple[str, ...] | None = None
    efforts: tuple[str, ...] | None = None
    tiers: tuple[str, ...]
    locked_options: tuple[str, ...] = ()
    batch_deployment: str | None = None
    max_output_tokens: int = MOST_OUTPUT_TOKENS

    def alone(self, variant: Variant) -> Variant:
        """The question about images that bring no options of their own, without those that the app's settings say.

        Said or not, it is the same question.
        """
        own = self._own(variant)
        given = variant.options.model_dump(by_alias=True, exclude_none=True)
        options = {name: value for name, value in given.items() if own.get(name) != value}
        return _with(variant, Options.model_validate(options), own)

    def beside(self, variant: Variant) -> Variant:
        """The question about images that may bring options of their own, which those of a request replace."""
        given = variant.options.model_dump(by_alias=True, exclude_none=True)
        own = {f"own {name}": value for name, value in self._own(variant).items() if name not in given}
        return _with(variant, variant.options, own)

    def _own(self, variant: Variant) -> dict[str, str | int]:
        """What the app's settings say, as far as an answer to the variant depends on it."""
        own = {
            "deployment": self.deployment,
            "detail": self.detail,
            "service_tier": self.service_tier,
            "reasoning_effort": self.reasoning_effort,
            "max_output_tokens": self.max_output_tokens,
            "system_prompt_sha256": self.system_prompt_sha256,
            "instructions_sha256": self.instructions_sha256 if variant.instructions is None else None,
        }
        return {name: value for name, value in own.items() if value is not None}

    def refusals(self, variants: Sequence[Variant]) -> list[str]:
        """What the app would refuse, a sentence for each reason, with the setting's name and value."""
        authority = Authority(
            locked=frozenset(self.locked_options),
            details=self.details,
            efforts=self.efforts,
            deployments=self.deployments,
            tiers=self.tiers,
            most_output_tokens=self.max_output_tokens,
        )
        found: dict[str, None] = {}
        for variant in variants:
            try:
                authority.require_allowed(variant.options, Origin.REQUEST)
            except InvalidOption as error:
                found[str(error)] = None
            if variant.options.service_tier == "batch" and self.batch_deployment is None:
                found["the app has no deployment for the tier 'batch' (the operator's setting BATCH_DEPLOYMENT)"] = None
        return list(found)


def _with(variant: Variant, options: Options, settings: dict[str, str | int]) -> Variant:
    return Variant(label=variant.label, instructions=variant.instructions, options=options, settings=settings)


async def require_allowed(account: Account, variants: Sequence[Variant]) -> Allowance:
    """Check the container of trials and all variants before anything is sent.

    Raises:
        Trouble: there is no such container, the app is older or has not run, or it would refuse something.
        AzureError: as the SDK gives it.
    """
    await require_container(account)
    allowance = await _noted(account)
    if allowance.trials != account.place.trials:
        raise Trouble(
            f"The app's trials are in the container '{shortened(allowance.trials, 63)}', not in"
            f" '{account.place.trials}': name it with --trials."
        )
    if not allowance.requests_may_ask:
        raise Trouble(
            "The app takes no questions by message, so nothing can be tried: its setting REQUESTS_MAY_ASK is false, or"
            " INSTRUCTION_SOURCES leaves 'request' out."
        )
    if refusals := allowance.refusals(variants):
        raise Trouble(f"The app does not allow this, so nothing was sent: {'; '.join(refusals)}.")
    return allowance


async def require_container(account: Account) -> None:
    """Check that there is a container of trials.

    Raises:
        Trouble: there is none, or the person may not use it.
        AzureError: as the SDK gives it.
    """
    try:
        await account.trials.get_container_properties()
    except ResourceNotFoundError as error:
        local = account.place.is_here
        hint = "stop `make up` and start it again" if local else "run `azd provision` (docs/deploy.md)"
        raise Trouble(
            f"The account has no container '{account.place.trials}' for trials: {hint}, which makes it; or name yours"
            " with --trials.",
            service_code(error),
        ) from error
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        raise Trouble(
            f"You may not use the container '{account.place.trials}': trials take the role 'Storage Blob Data"
            " Contributor' on it. A new role takes effect within ten minutes.",
            service_code(error),
        ) from error


async def _noted(account: Account) -> Allowance:
    state = account.place.state
    try:
        found = await properties_of(account.state, NOTE)
        data = (await read_blob(account.state, NOTE, most=_MOST_BYTES)).data if found else b"{}"
        note = json.loads(data)
    except AzureError as error:
        if getattr(error, "status_code", None) == 403:
            raise Trouble(
                f"You may not read what the app allows: that takes the role 'Storage Blob Data Reader' on the container"
                f" '{state}'. A new role takes effect within ten minutes.",
                service_code(error),
            ) from error
        if isinstance(error, ResourceNotFoundError):
            raise Trouble(f"The account has no container '{state}' with the app's notes.") from error
        raise
    except (ValueError, UnreadableError) as error:
        raise Trouble(f"The app's note '{NOTE}' in '{state}' can't be read ({error}): restart the app.") from error
    if not found:
        raise Trouble(
            f"The app has not noted yet what it allows ('{NOTE}' in '{state}'), which it does soon after its start:"
            " `blobsight doctor` shows whether it runs."
        )
    if not isinstance(note, dict) or "asking" not in note:
        version = note.get("pipeline_version") if isinstance(note, dict) else None
        raise Trouble(
            f"The app{f' ({shortened(str(version), 20)})' if version else ''} is older than this program and knows no"
            " trials: bring it up to date with `azd up` (docs/operations.md)."
        )
    try:
        return Allowance.model_validate(note["asking"])
    except ValidationError as error:
        raise Trouble(f"The app's note '{NOTE}' says something unexpected: update this program.") from error
