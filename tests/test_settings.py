# ruff: noqa: E501 - whole messages, as people see them
"""A wrong setting stops the start, with one message that says what to correct."""

import re

import pytest
from inline_snapshot import snapshot
from support.person import ROOT
from support.some_settings import ENOUGH

from pipeline.settings import Settings, SettingsError


def message_for(changes: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(ENOUGH | changes)
    return str(caught.value)


def test_one_message_names_every_bad_key_its_problem_and_an_example() -> None:
    environment = {
        "AZURE_OPENAI_ENDPOINT": "http://ai.openai.azure.com",
        "DataStorage__queueServiceUri": " ",
        "INPUT_CONTAINER": "My Images",
        "MAX_OUTPUT_TOKENS": "lots",
        "IMAGE_DETAIL": "best",
        "PROCESS_IMAGE_ENABLED": "perhaps",
    }
    assert message_for(environment) == snapshot("""\
Blobsight cannot start, settings to fix: 6
  - DataStorage__queueServiceUri is missing. Example: DataStorage__queueServiceUri=https://myaccount.queue.core.windows.net
  - INPUT_CONTAINER is 'My Images': it should be 3 to 63 lowercase letters, digits and single hyphens. Example: INPUT_CONTAINER=images
  - AZURE_OPENAI_ENDPOINT is wrong: it should be an https:// address, without a key, a SAS or anything else behind it. Example: AZURE_OPENAI_ENDPOINT=https://my-resource.openai.azure.com
  - MAX_OUTPUT_TOKENS is 'lots': input should be a valid integer, unable to parse string as an integer. Example: MAX_OUTPUT_TOKENS=4096
  - IMAGE_DETAIL is 'best': input should be 'auto', 'low', 'high' or 'original'. Example: IMAGE_DETAIL=auto
  - PROCESS_IMAGE_ENABLED is 'perhaps': input should be a valid boolean, unable to interpret input. Example: PROCESS_IMAGE_ENABLED=true\
""")


def test_containers_must_differ_or_results_would_be_analyzed() -> None:
    assert message_for({"OUTPUT_CONTAINER": "images"}) == snapshot("""\
Blobsight cannot start, settings to fix: 1
  - INPUT_CONTAINER, OUTPUT_CONTAINER, STATE_CONTAINER, TRIALS_CONTAINER and INSTRUCTIONS_CONTAINER must differ, or results would be analyzed as uploads. Give each its own container.\
""")


@pytest.mark.parametrize(
    "changes",
    [
        {"REQUESTS_QUEUE": "deferred-work"},
        {"DEFERRED_QUEUE": "analysis-requests-poison"},
        {"REQUESTS_QUEUE": "deferred-work-poison"},
        {"REQUESTS_QUEUE": "webjobs-blobtrigger-poison"},
    ],
)
def test_queues_must_differ_or_what_others_send_would_be_believed(changes: dict[str, str]) -> None:
    assert message_for(changes) == snapshot("""\
Blobsight cannot start, settings to fix: 1
  - REQUESTS_QUEUE and DEFERRED_QUEUE must differ, also from the host's poison queues, or what others send would be taken for the app's own work. Give each its own queue.\
""")


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"REQUESTS_MAY_ASK": "false"}, False),
        ({"INSTRUCTION_SOURCES": "folder,metadata"}, False),
        ({"INSTRUCTION_SOURCES": "folder,request"}, True),
    ],
)
def test_a_question_by_message_is_refused_where_it_would_not_count(changes: dict[str, str], *, may: bool) -> None:
    assert Settings.from_environment(ENOUGH | changes).questions_by_message is may


def test_two_identities_are_refused() -> None:
    assert message_for({"AZURE_CLIENT_ID": "one", "DataStorage__clientId": "two"}) == snapshot("""\
Blobsight cannot start, settings to fix: 1
  - AZURE_CLIENT_ID and DataStorage__clientId name two identities; the app uses one for storage and model. Set both to the same client id.\
""")


def test_defaults_are_the_contract() -> None:
    settings = Settings.from_environment(ENOUGH)
    assert settings.model_dump(exclude={"system_prompt"}) == snapshot(
        {
            "blob_service_uri": "https://data.blob.core.windows.net",
            "queue_service_uri": "https://data.queue.core.windows.net",
            "storage_credential": None,
            "storage_client_id": None,
            "client_id": None,
            "input_container": "images",
            "output_container": "results",
            "state_container": "pipeline-state",
            "dead_letter_container": "dead-letters",
            "trials_container": "trials",
            "requests_queue": "analysis-requests",
            "deferred_queue": "deferred-work",
            "requests_may_ask": True,
            "requests_may_redrive": False,
            "openai_endpoint": "https://ai.openai.azure.com",
            "openai_deployment": "vision",
            "openai_model": None,
            "default_instructions": None,
            "max_output_tokens": 4096,
            "reasoning_effort": None,
            "image_detail": "auto",
            "service_tier": "default",
            "tier_fallback": "none",
            "flex_patience_seconds": 3600,
            "batch_deployment": None,
            "batch_wait_seconds": 900,
            "batch_poll_seconds": 60,
            "instruction_sources": ("request", "metadata", "sidecar", "folder", "setting"),
            "instructions_container": None,
            "locked_options": None,
            "allowed_deployments": None,
            "allowed_details": None,
            "allowed_efforts": None,
            "allowed_tiers": ("default", "flex", "batch"),
            "tokens_per_day": None,
            "reanalyses_per_hour": None,
            "max_image_bytes": 52428800,
            "max_image_pixels": 250000000,
            "max_pages": 10,
            "max_concurrency": 32,
            "image_memory_bytes": 536870912,
            "model_timeout_seconds": 120,
            "retry_for_seconds": 86400,
            "settle_seconds": 30,
            "claim_seconds": 60,
            "process_image_enabled": False,
        }
    )


def test_the_names_of_the_2024_tutorial_still_work() -> None:
    old = {"GPT4V_ENDPOINT": ENOUGH["AZURE_OPENAI_ENDPOINT"], "GPT4V_DEPLOYMENT": "gpt4v"}
    storage = {key: value for key, value in ENOUGH.items() if key.startswith("DataStorage")}
    settings = Settings.from_environment(storage | old)
    assert (settings.openai_endpoint, settings.openai_deployment) == ("https://ai.openai.azure.com", "gpt4v")


def test_the_ranges_in_the_documentation_are_the_ones_that_hold() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| `[^|]*` \| (above )?([\d,]+) (?:to ([\d,]+)|or more) \| [^|]* \|", page, re.MULTILINE
    )
    assert len(rows) == 12
    for name, above, low, high in rows:
        least = int(low.replace(",", ""))
        refused = [str(least if above else least - 1)]
        taken = [str(least + 0.001 if above else least)]
        if high:
            most = int(high.replace(",", ""))
            refused.append(str(most + 1))
            taken.append(str(most))
        for value in taken:
            Settings.from_environment(ENOUGH | {name: value})
        for value in refused:
            assert f"{name} is '{value}'" in message_for({name: value})


def test_an_empty_value_counts_as_unset() -> None:
    """Templates write an app setting even when its parameter is empty."""
    settings = Settings.from_environment(ENOUGH | {"REASONING_EFFORT": "", "MAX_OUTPUT_TOKENS": " "})
    assert (settings.reasoning_effort, settings.max_output_tokens) == (None, 4096)


@pytest.mark.parametrize(("seconds", "schedule"), [(2, "*/2 * * * * *"), (60, "0 */1 * * * *"), (300, "0 */5 * * * *")])
def test_batches_are_looked_at_by_a_schedule(seconds: int, schedule: str) -> None:
    assert Settings.from_environment(ENOUGH | {"BATCH_POLL_SECONDS": str(seconds)}).batch_schedule == schedule


@pytest.mark.parametrize("seconds", ["0", "7", "90", "7200"])
def test_a_schedule_that_a_timer_cannot_say_is_refused(seconds: str) -> None:
    with pytest.raises(SettingsError, match="BATCH_POLL_SECONDS"):
        Settings.from_environment(ENOUGH | {"BATCH_POLL_SECONDS": seconds})


def test_the_tier_batch_needs_its_deployment() -> None:
    with pytest.raises(SettingsError, match="BATCH_DEPLOYMENT"):
        Settings.from_environment(ENOUGH | {"SERVICE_TIER": "batch"})
