"""One place says which model is the default and until when; everything else agrees with it."""

import json
import re
from datetime import date, timedelta

import pytest
from check_model import MODEL, NOTICE, complaint
from support.bicep_source import read
from support.person import ROOT

from blobsight.doctor.azure_checks import NEAR_RETIREMENT
from blobsight.estimate.estimating import DEFAULT_MODEL
from blobsight.estimate.image_tokens import rules_of
from blobsight.estimate.prices import price_of

CHOICE = json.loads(MODEL.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["main.bicep", "resources.bicep"])
def test_the_templates_deploy_it(name: str) -> None:
    parameters = read(ROOT / "infra" / "bicep" / name).parameters
    assert (parameters["modelName"].default, parameters["modelVersion"].default) == (CHOICE["name"], CHOICE["version"])
    assert parameters["modelSku"].decorators["allowed"] == (["GlobalStandard", "DataZoneStandard"],)


def test_the_parameter_file_and_the_page_name_it() -> None:
    for path in ("infra/bicep/main.bicepparam", "docs/deploy.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert CHOICE["name"] in text, path
        assert CHOICE["version"] in text, path
    assert str(date.fromisoformat(CHOICE["retires"])) in text


def test_an_estimate_knows_what_it_costs() -> None:
    assert CHOICE["name"] == DEFAULT_MODEL
    assert rules_of(DEFAULT_MODEL)
    assert price_of(DEFAULT_MODEL) is not None


def test_it_was_chosen_for_more_than_a_year_and_its_sources_are_named() -> None:
    chosen, retires = date.fromisoformat(CHOICE["chosen"]), date.fromisoformat(CHOICE["retires"])
    assert retires - chosen > timedelta(days=365)
    assert all(re.match("https://learn.microsoft.com/", source) for source in CHOICE["sources"])


def test_the_check_complains_120_days_before() -> None:
    retires = date.fromisoformat(CHOICE["retires"])
    assert NOTICE == NEAR_RETIREMENT == timedelta(days=120)
    assert complaint(retires - timedelta(days=121)) is None
    for days in (120, 1, 0, -1):
        found = complaint(retires - timedelta(days=days))
        assert found is not None
        assert f"{CHOICE['name']} {CHOICE['version']} retires on {CHOICE['retires']}, in {days} days" in found
        assert "infra/model.json" in found
