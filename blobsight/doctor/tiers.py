"""The check of the service tier: whether the model is sold at the one that the app's setting chooses."""

import re

from blobsight.doctor import azure_checks
from blobsight.doctor.findings import Finding, Patient, failed, ok, skipped
from pipeline.model.question import SENT

FLEX_MODELS = frozenset({"gpt-5.6-sol", "gpt-5.6-luna", "gpt-5.6-terra", "gpt-6-astra"})
"""As documented in October 2026, all as Global Standard.
https://learn.microsoft.com/azure/foundry/openai/how-to/flex-processing"""

_OF_TIER = re.compile(r"service[ _]tier", re.IGNORECASE)
_CURE = "Deploy a model that is, or set SERVICE_TIER to default: docs/scaling.md#half-price."


async def service_tier(patient: Patient) -> Finding:
    """Ask an empty question at the tier, which costs no tokens, and look the model up among those that are documented.

    Which of a question's faults the service names first is not documented, so that it names another one proves nothing.
    """
    arm, deployed = azure_checks.resource_manager(patient), patient.deployed
    tier = ((await arm.app_settings(deployed.app)).get("SERVICE_TIER") or "default").strip()
    if tier not in SENT:
        return ok(f"'{tier}'")
    answer = await azure_checks.empty_question(patient, service_tier=tier)
    if not isinstance(answer, Finding) and answer[0] == 400 and _OF_TIER.search(answer[1]):
        return failed(f"SERVICE_TIER is '{tier}', and the model is not sold at it", _CURE)
    account = await azure_checks.model_account(arm, patient)
    found = await arm.model_deployments(account["id"]) if account else ()
    model = next((one for one in found if one["name"] == deployed.model_deployment), None)
    if model is None or tier != "flex":
        return skipped(f"whether the model is sold at the tier '{tier}' is not known", "Upload one image first.")
    name, sku = model["properties"]["model"]["name"], model.get("sku", {}).get("name")
    if name not in FLEX_MODELS or sku != "GlobalStandard":
        return skipped(
            f"SERVICE_TIER is 'flex', and {name} as {sku} is not among the models that are documented to be sold at it:"
            f" {', '.join(sorted(FLEX_MODELS))} as GlobalStandard",
            f"Upload one image first. {_CURE}",
        )
    return ok(f"'flex', at which {name} is sold")
