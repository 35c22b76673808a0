"""`blobsight doctor`: each line is green where all is well, red where it is not, and says what to do."""

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, override

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from support.fake_resource_manager import (
    APP,
    BATCH_SENDER,
    GROUP,
    MODEL,
    NAMES,
    STORAGE,
    TOPIC,
    FakeResourceManager,
    definition,
    healthy,
    role,
)
from support.guarded_storage import guarded
from support.person import ROOT, Person
from support.templates import TEMPLATES
from support.terminal import blobsight
from support.workshop import Identity

from blobsight.account import Account, Place
from blobsight.doctor import azure_checks, tiers
from blobsight.doctor import command as doctor
from blobsight.doctor.azure_checks import BATCH_FUNCTION, BATCH_RIGHTS, BATCH_ROLE, BATCH_SKUS
from blobsight.doctor.findings import Check, Finding, Patient, Verdict
from blobsight.doctor.resource_manager import Deployed, ResourceManager
from localcloud.cloud import DATA_ACCOUNT
from localcloud.model import errors

CHECKS = ["account", *doctor.STORAGE, *doctor.AZURE, *doctor.MODEL]


class SignedIn(Identity):
    """Gets a token for any scope."""

    def __init__(self, person: Person) -> None:
        super().__init__(person.cloud)
        self._endpoint = person.cloud.identity

    @override
    async def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._endpoint.token(scopes[0].removesuffix("/.default")), int(time()) + 3600)


@pytest.fixture
async def azure(person: Person) -> AsyncIterator[FakeResourceManager]:
    settings = person.cloud.app_settings()
    async with FakeResourceManager(person.cloud.identity.verify, healthy(settings)) as azure:
        yield azure


@pytest.fixture
async def patient(person: Person, azure: FakeResourceManager) -> AsyncIterator[Patient]:
    cloud, credential = person.cloud, SignedIn(person)
    verify = str(cloud.certificates.bundle)
    place = Place(
        account=cloud.azurite.blob_url(DATA_ACCOUNT),
        connection_string=None,
        queue_endpoint=cloud.azurite.queue_url(DATA_ACCOUNT),
        images="images",
        results="results",
        state="pipeline-state",
        requests="analysis-requests",
    )
    deployed = Deployed(
        subscription=NAMES["AZURE_SUBSCRIPTION_ID"],
        resource_group=NAMES["AZURE_RESOURCE_GROUP"],
        function_app=NAMES["AZURE_FUNCTION_APP_NAME"],
        topic=None,
        model_endpoint=cloud.model.endpoint,
        model_deployment="vision",
    )
    async with (
        BlobServiceClient(str(place.blob_url), credential, connection_verify=verify) as blobs,
        QueueServiceClient(str(place.queue_url), credential, connection_verify=verify) as queues,
        ResourceManager(azure.url, credential) as manager,
    ):
        yield Patient(Account(place, blobs, queues, credential), deployed, manager, cloud.functions.url)


# The whole command.


async def test_all_checks_pass_for_a_person_who_signed_in_without_any_key(
    person: Person, azure: FakeResourceManager
) -> None:
    """As in Azure: DefaultAzureCredential, tokens over TLS, names from the environment. Nothing is written or asked."""
    cloud = person.cloud
    before = len(cloud.model.history)
    environment = {
        **NAMES,
        **cloud.identity.environment(),
        "AZURE_CLIENT_ID": cloud.identity.client_id,
        "AZURE_STORAGE_BLOB_ENDPOINT": cloud.azurite.blob_url(DATA_ACCOUNT),
        "AZURE_STORAGE_QUEUE_ENDPOINT": cloud.azurite.queue_url(DATA_ACCOUNT),
        "AZURE_OPENAI_ENDPOINT": cloud.model.endpoint,
        "AZURE_OPENAI_DEPLOYMENT": "vision",
        "BLOBSIGHT_RESOURCE_MANAGER": azure.url,
        "REQUESTS_CA_BUNDLE": str(cloud.certificates.bundle),
        "SSL_CERT_FILE": str(cloud.certificates.bundle),
    }
    ran = await blobsight(None, "doctor", environment=environment)
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert [(line[0], line[1]) for line in lines] == [("ok", name) for name in CHECKS], ran
    assert (ran.status, ran.talk) == (0, "")
    images = person.blobs.get_container_client("images")
    assert [name async for name in images.list_blob_names(name_starts_with="._blobsight")] == []
    assert len(cloud.model.history) == before


async def test_the_local_cloud_has_no_azure_to_look_at(person: Person) -> None:
    cloud = person.cloud
    local = ("doctor", "--json", "--host")
    ran = await blobsight(person, *local, cloud.functions.url)
    found = {line["check"]: (line["verdict"], line["seen"]) for line in json.loads(ran.out)}
    assert ran.status == 0
    assert list(found) == CHECKS
    assert found["function app"][0] == "ok"
    assert found["event subscription"] == ("skipped", "not part of the local cloud")
    down = await blobsight(person, *local, "http://127.0.0.1:1")
    lines = {line["check"]: line for line in json.loads(down.out)}
    assert (down.status, lines["function app"]["verdict"]) == (1, "failed")
    assert "make up" in lines["function app"]["cure"]


async def test_names_that_are_not_set_are_asked_for(person: Person) -> None:
    cloud = person.cloud
    environment = {
        **cloud.identity.environment(),
        "AZURE_CLIENT_ID": cloud.identity.client_id,
        "SSL_CERT_FILE": str(cloud.certificates.bundle),
    }
    ran = await blobsight(
        None, "doctor", "--json", "--account", cloud.azurite.blob_url(DATA_ACCOUNT), environment=environment
    )
    lines = {line["check"]: line for line in json.loads(ran.out)}
    assert lines["azure"]["verdict"] == "skipped"
    assert "AZURE_SUBSCRIPTION_ID" in lines["azure"]["seen"]
    assert "azd env get-values" in lines["azure"]["cure"]
    assert "--queue-endpoint" in lines["requests: send"]["cure"]


async def test_a_person_who_is_not_signed_in_gets_one_message(person: Person) -> None:
    """The identity endpoint refuses a client that it does not know."""
    cloud = person.cloud
    environment = {
        **cloud.identity.environment(),
        "AZURE_CLIENT_ID": "another-identity",
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "SSL_CERT_FILE": str(cloud.certificates.bundle),
    }
    account = cloud.azurite.blob_url(DATA_ACCOUNT)
    ran = await blobsight(None, "doctor", "--json", "--account", account, environment=environment)
    lines = json.loads(ran.out)
    assert (ran.status, [line["check"] for line in lines if line["verdict"] == "failed"]) == (1, ["account"])
    assert {line["seen"] for line in lines if line["verdict"] == "skipped"} == {"see 'account'"}
    assert "az login" in lines[0]["seen"]


async def test_an_unreachable_account_is_reported_once(person: Person) -> None:
    account = person.cloud.front.connection_string.replace(person.cloud.front.blob_url, "http://127.0.0.1:1/x")
    ran = await blobsight(None, "doctor", "--json", "--connection-string", account)
    failed = [line for line in ran.json() if line["verdict"] == "failed"]
    assert (ran.status, [line["check"] for line in failed]) == (1, ["account"])
    assert "make up" in failed[0]["seen"]


async def test_no_token_is_sent_in_the_clear_over_the_network() -> None:
    ran = await blobsight(None, "doctor", "--local", "--model-endpoint", "http://example.com")
    assert (ran.status, "https://" in ran.talk) == (2, True)


# Storage: what a person may not do, as Azure refuses it.


@pytest.mark.parametrize(
    ("check", "method", "part", "verdict", "role"),
    [
        ("images: read", "GET", "/images?", Verdict.FAILED, "Storage Blob Data Contributor"),
        ("images: write", "PUT", "/images/", Verdict.FAILED, "Storage Blob Data Contributor"),
        ("results: read", "GET", "/results?", Verdict.FAILED, "Storage Blob Data Reader"),
        ("state: read", "GET", "/pipeline-state?", Verdict.SKIPPED, "Storage Blob Data Reader"),
        ("trials", "GET", "/trials?", Verdict.SKIPPED, "Storage Blob Data Contributor"),
        ("trials", "PUT", "/trials/", Verdict.SKIPPED, "Storage Blob Data Contributor"),
        ("requests: send", "POST", "/analysis-requests/messages", Verdict.FAILED, "Storage Queue Data Message Sender"),
        ("queues: waiting", "GET", "/analysis-requests?", Verdict.SKIPPED, "Storage Queue Data Reader"),
        ("queues: waiting", "GET", "/deferred-work?", Verdict.SKIPPED, "Storage Queue Data Reader"),
        ("poison", "GET", "-poison?", Verdict.SKIPPED, "Storage Queue Data Reader"),
    ],
)
async def test_a_missing_role_is_named(
    person: Person, check: str, method: str, part: str, verdict: Verdict, role: str
) -> None:
    async with guarded(person, lambda asked, path: asked == method and part in path) as account:
        ran = await blobsight(
            None, "doctor", "--json", "--connection-string", account, "--host", person.cloud.functions.url
        )
    lines = {line["check"]: line for line in json.loads(ran.out)}
    assert (lines[check]["verdict"], role in lines[check]["cure"]) == (verdict, True)
    assert [name for name, line in lines.items() if line["verdict"] == "failed"] == (
        [check] if verdict is Verdict.FAILED else []
    )


async def test_a_missing_container_or_queue_is_named(person: Person) -> None:
    ran = await blobsight(
        None, "doctor", "--json", "--connection-string", person.cloud.front.connection_string, "--images", "no-images",
        "--results", "no-results", "--trials", "no-trials", "--queue", "no-queue", "--host", person.cloud.functions.url,
    )  # fmt: skip
    lines = {line["check"]: line["seen"] for line in json.loads(ran.out) if line["verdict"] == "failed"}
    assert lines == {
        "images: read": "the account has no container 'no-images'",
        "images: write": "the account has no container 'no-images'",
        "results: read": "the account has no container 'no-results'",
        "trials": "the account has no container 'no-trials'",
        "requests: send": "the account has no queue 'no-queue'",
        "queues: waiting": "the account has no queue 'no-queue'",
    }


async def test_dead_letters_are_counted(person: Person) -> None:
    account = person.cloud.front.connection_string
    before = await blobsight(None, "doctor", "--connection-string", account)
    assert "ok\tdead letters\tno container 'dead-letters', so Event Grid gave up no event" in before.out
    await person.blobs.create_container("dead-letters")
    for n in range(2):
        await person.blobs.get_blob_client("dead-letters", f"T/S/2026/11/27/2/{n}.json").upload_blob(b"[]")
    ran = await blobsight(None, "doctor", "--connection-string", account)
    await person.blobs.delete_container("dead-letters")
    assert "ok\tdead letters\t2 dead letters, the newest of " in ran.out


async def test_poison_that_stays_is_red(person: Person) -> None:
    account = person.cloud.front.connection_string
    async with QueueServiceClient.from_connection_string(account) as queues:
        for name in ("sick-poison", "ill-poison"):
            await queues.create_queue(name)
            await queues.get_queue_client(name).send_message("x")
        ran = await blobsight(
            None, "doctor", "--connection-string", account, "--queue", "sick", "--deferred-queue", "ill"
        )
        for name in ("sick-poison", "ill-poison"):
            await queues.delete_queue(name)
    assert "failed\tpoison\t1 message on 'sick-poison', 1 message on 'ill-poison'\t" in ran.out


async def test_messages_that_wait_are_counted_on_both_queues(person: Person) -> None:
    account = person.cloud.front.connection_string
    async with QueueServiceClient.from_connection_string(account) as queues:
        for name, messages in (("some-requests", 1), ("some-deferred", 2)):
            await queues.create_queue(name)
            for _ in range(messages):
                await queues.get_queue_client(name).send_message("x", visibility_timeout=600)
        ran = await blobsight(
            None, "doctor", "--connection-string", account, "--queue", "some-requests",
            "--deferred-queue", "some-deferred",
        )  # fmt: skip
        for name in ("some-requests", "some-deferred"):
            await queues.delete_queue(name)
    assert "ok\tqueues: waiting\t1 message on 'some-requests' and 2 messages on 'some-deferred'\t" in ran.out


# Azure: one thing wrong at a time.

FILTER = f"{TOPIC}/eventSubscriptions"


def subscription(answers: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = answers[FILTER]["value"][0]["properties"]
    return properties


def soon(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")


def stopped(answers: dict[str, Any]) -> None:
    answers[APP]["properties"]["state"] = "Stopped"


def without_code(answers: dict[str, Any]) -> None:
    answers[f"{APP}/functions"]["value"] = []


def setting(name: str, value: str | None) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        settings = dict(answers[f"{APP}/config/appsettings/list"]["properties"])
        settings.pop(name, None)
        answers[f"{APP}/config/appsettings/list"]["properties"] = settings | ({} if value is None else {name: value})

    return change


def two_bad_settings(answers: dict[str, Any]) -> None:
    setting("MAX_OUTPUT_TOKENS", "many")(answers)
    setting("AZURE_OPENAI_DEPLOYMENT", None)(answers)


def detail_not_taken(answers: dict[str, Any]) -> None:
    setting("IMAGE_DETAIL", "original")(answers)
    setting("AZURE_OPENAI_MODEL", "gpt-5.4-mini")(answers)


def without_role(scope: str) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        answers[f"{scope}/providers/Microsoft.Authorization/roleAssignments"]["value"].pop()

    return change


def a_role_above(scope: str) -> Callable[[dict[str, Any]], None]:
    """On the account, for all queues at once: that will do. A role of another kind will not."""

    def change(answers: dict[str, Any]) -> None:
        roles = answers[f"{scope}/providers/Microsoft.Authorization/roleAssignments"]
        of_queues = role(scope, "974c5e8b-45b9-4653-ba55-5f855dd0fb88")
        reader = role(f"{scope}/blobServices/default/containers/images", "acdd72a7-3385-48ef-bd42-f606fba81ae7")
        roles["value"] = [reader, *roles["value"][1:3], of_queues]

    return change


def without_identity(answers: dict[str, Any]) -> None:
    answers[APP]["identity"] = None


def other_deployment(answers: dict[str, Any]) -> None:
    answers[f"{MODEL}/deployments"]["value"][0]["name"] = "another"


def unfinished_deployment(answers: dict[str, Any]) -> None:
    answers[f"{MODEL}/deployments"]["value"][0]["properties"]["provisioningState"] = "Failed"


def retiring(days: int) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        answers[f"{MODEL}/models"]["value"][1]["skus"][0]["deprecationDate"] = soon(days)

    return change


def deployed_for_batches(answers: dict[str, Any]) -> Any:
    return answers[f"{MODEL}/deployments"]["value"][1]


def without_batch_function(answers: dict[str, Any]) -> None:
    answers[f"{APP}/functions"]["value"].pop()


def without_batch_deployment(answers: dict[str, Any]) -> None:
    answers[f"{MODEL}/deployments"]["value"].pop()


def a_deployment_that_takes_no_batches(answers: dict[str, Any]) -> None:
    deployed_for_batches(answers)["sku"]["name"] = "GlobalStandard"


def another_model_for_batches(answers: dict[str, Any]) -> None:
    deployed_for_batches(answers)["properties"]["model"]["version"] = "2026-09-01"


def without_batch_role(answers: dict[str, Any]) -> None:
    answers[f"{MODEL}/providers/Microsoft.Authorization/roleAssignments"]["value"].pop(0)


def a_batch_role_on_another_account(answers: dict[str, Any]) -> None:
    roles = answers[f"{MODEL}/providers/Microsoft.Authorization/roleAssignments"]["value"]
    roles[0] = role(f"{MODEL}-2", BATCH_SENDER)


def a_batch_role_that_excludes(answers: dict[str, Any]) -> None:
    answers[f"{MODEL}/providers/Microsoft.Authorization/roleDefinitions/{BATCH_SENDER}"] = definition(
        "*", excluded=("batches/cancel/*",)
    )


def without_topic(answers: dict[str, Any]) -> None:
    answers[f"{GROUP}/providers/Microsoft.EventGrid/systemTopics"]["value"] = []


def without_subscription(answers: dict[str, Any]) -> None:
    answers[FILTER]["value"] = []


def twice(answers: dict[str, Any]) -> None:
    queue = {
        "name": "analyze-image-queue",
        "properties": {
            "deliveryWithResourceIdentity": {
                "destination": {
                    "endpointType": "StorageQueue",
                    "properties": {"resourceId": STORAGE, "queueName": "analysis-requests"},
                }
            }
        },
    }
    answers[FILTER]["value"].append(queue)


def to_another_app(answers: dict[str, Any]) -> None:
    subscription(answers)["destination"]["properties"]["endpointBaseUrl"] = "https://other.azurewebsites.net/x"


def filtered(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda answers: subscription(answers)["filter"].update(changed)


def unfinished_subscription(answers: dict[str, Any]) -> None:
    subscription(answers)["provisioningState"] = "AwaitingManualAction"


def test_the_settings_that_the_triggers_name_are_looked_for() -> None:
    named = re.findall(r"%(\w+)%", (ROOT / "function_app.py").read_text(encoding="utf-8"))
    assert set(named) == azure_checks.TRIGGERS_SETTINGS


def test_what_batches_need_is_what_the_templates_give() -> None:
    sender = TEMPLATES["modules/openai-access.bicep"].resource("batchSender")["properties"]
    assert sender["permissions"][0]["dataActions"] == [
        f"Microsoft.CognitiveServices/accounts/OpenAI/{right}" for right in BATCH_RIGHTS
    ]
    assert TEMPLATES["main.bicep"].parameters["batchSku"].decorators["allowed"] == (["", *sorted(BATCH_SKUS)[::-1]],)
    assert f"def {BATCH_FUNCTION}(" in (ROOT / "function_app.py").read_text(encoding="utf-8")


async def test_batches_that_are_not_wanted_are_no_problem(patient: Patient, azure: FakeResourceManager) -> None:
    setting("BATCH_DEPLOYMENT", None)(azure.answers)
    for change in (without_batch_function, without_batch_deployment, without_batch_role):
        change(azure.answers)
    found = await doctor.look(doctor.AZURE["batches"], patient)
    assert (found.verdict, found.seen) == (Verdict.OK, "off: BATCH_DEPLOYMENT is not set")


@pytest.mark.parametrize(
    ("check", "change", "seen", "cure"),
    [
        ("function app", stopped, "func-blobsight is stopped", "az functionapp start"),
        ("function app", without_code, "without analyze_deferred, analyze_image, analyze_request", "azd deploy"),
        ("app settings", two_bad_settings, "MAX_OUTPUT_TOKENS is 'many'", "docs/settings.md"),
        ("app settings", two_bad_settings, "AZURE_OPENAI_DEPLOYMENT is missing", "docs/settings.md"),
        ("app settings", detail_not_taken, "IMAGE_DETAIL is 'original', which gpt-5.4-mini", "docs/settings.md"),
        ("app settings", setting("AzureWebJobsStorage", ""), "AzureWebJobsStorage is set", "azd up"),
        ("app settings", setting("DEFERRED_QUEUE", None), "DEFERRED_QUEUE is not set", "azd up"),
        ("app settings", setting("INPUT_CONTAINER", "pictures"), "INPUT_CONTAINER of the app is pictures", "azd up"),
        ("app roles", without_role(STORAGE), "lacks 'Storage Queue Data Contributor' on analysis-requests", "az role"),
        ("app roles", a_role_above(STORAGE), "lacks 'Storage Blob Data Reader' on images", f"{STORAGE}/blobServices"),
        ("app roles", without_role(MODEL), "'Cognitive Services OpenAI User' on oai-blobsight", f"--scope {MODEL}"),
        ("app roles", without_identity, "has no identity", "azd up"),
        ("model deployment", other_deployment, "has no deployment 'vision'", "It has another"),
        ("model deployment", unfinished_deployment, "'vision' is Failed", "Foundry"),
        ("model deployment", retiring(119), "which retires on", "AZURE_OPENAI_MODEL"),
        ("model deployment", retiring(-30), "which retired on", "AZURE_OPENAI_MODEL"),
        ("batches", without_batch_function, "no function run_batches", "azd deploy"),
        ("batches", without_batch_deployment, "has no deployment 'vision-batch'", "AZURE_OPENAI_BATCH_DEPLOYMENT"),
        ("batches", a_deployment_that_takes_no_batches, "of the kind GlobalStandard", "DataZoneBatch or GlobalBatch"),
        ("batches", another_model_for_batches, "2026-09-01, but 'vision' is gpt-5.4-mini 2026-03-17", "same model"),
        ("batches", without_batch_role, "lacks batch-jobs/write, batches/cancel/action, files/delete", BATCH_ROLE),
        ("batches", a_batch_role_on_another_account, "lacks batch-jobs/write", f"--scope {MODEL}"),
        ("batches", a_batch_role_that_excludes, "lacks batches/cancel/action on oai-blobsight", BATCH_ROLE),
        ("event subscription", without_topic, "no Event Grid topic", "azd up"),
        ("event subscription", without_subscription, "it has: none", "azd hooks run postdeploy"),
        ("event subscription", to_another_app, "it has: analyze-image-webhook", "azd hooks run postdeploy"),
        ("event subscription", twice, "each upload arrives 2 times", "Delete all but one"),
        (
            "event subscription",
            filtered(subjectBeginsWith="/blobServices/default/containers/images"),
            "should be '/blobServices/default/containers/images/blobs/'",
            "postdeploy",
        ),
        ("event subscription", filtered(includedEventTypes=None), "it delivers all events", "postdeploy"),
        ("event subscription", filtered(advancedFilters=[]), "data.api should be one of", "postdeploy"),
        ("event subscription", unfinished_subscription, "it is AwaitingManualAction", "postdeploy"),
    ],
)
async def test_a_problem_in_azure_is_red_and_comes_with_its_fix(
    patient: Patient,
    azure: FakeResourceManager,
    check: str,
    change: Callable[[dict[str, Any]], None],
    seen: str,
    cure: str,
) -> None:
    good = await doctor.look(doctor.AZURE[check], patient)
    assert good.verdict is Verdict.OK, good
    change(azure.answers)
    found = await doctor.look(doctor.AZURE[check], patient)
    assert found.verdict is Verdict.FAILED
    assert seen in found.seen
    assert cure in (found.cure or "")


async def test_a_model_that_stays_long_enough_is_green(patient: Patient, azure: FakeResourceManager) -> None:
    retiring(121)(azure.answers)
    found = await doctor.look(doctor.AZURE["model deployment"], patient)
    assert (found.verdict, "'vision' is gpt-5.4-mini 2026-03-17" in found.seen) == (Verdict.OK, True)


async def test_delivery_by_queue_passes_the_check_too(patient: Patient, azure: FakeResourceManager) -> None:
    twice(azure.answers)
    by_queue, webhook = azure.answers[FILTER]["value"][1], azure.answers[FILTER]["value"].pop(0)
    by_queue["properties"] |= {key: webhook["properties"][key] for key in ("filter", "provisioningState")}
    assert (await doctor.look(doctor.AZURE["event subscription"], patient)).verdict is Verdict.OK


@pytest.mark.parametrize("check", [name for name in doctor.AZURE if name != "azure"])
@pytest.mark.parametrize(
    ("status", "code", "verdict", "help_"),
    [
        (403, "AuthorizationFailed", Verdict.SKIPPED, "Reader"),
        (401, "ExpiredAuthenticationToken", Verdict.SKIPPED, "az login"),
        (404, "ResourceNotFound", Verdict.FAILED, "azd env get-values"),
        (500, "InternalServerError", Verdict.FAILED, "Try again"),
    ],
)
async def test_refusals_of_resource_manager_are_explained(
    patient: Patient, azure: FakeResourceManager, check: str, status: int, code: str, verdict: Verdict, help_: str
) -> None:
    azure.refusals["*"] = (status, code)
    found = await doctor.look(doctor.AZURE[check], patient)
    assert (found.verdict, code in found.seen, help_ in (found.cure or "")) == (verdict, True, True)


async def test_an_unreachable_resource_manager_is_red(patient: Patient, person: Person) -> None:
    async with ResourceManager("http://127.0.0.1:1", SignedIn(person)) as nowhere:
        found = await doctor.look(doctor.AZURE["function app"], replace(patient, azure=nowhere))
    assert (found.verdict, "can't be reached" in found.seen) == (Verdict.FAILED, True)


async def test_no_token_goes_where_a_list_says_it_goes_on(patient: Patient, azure: FakeResourceManager) -> None:
    azure.answers[f"{APP}/functions"]["nextLink"] = "https://example.com/more"
    found = await doctor.look(doctor.AZURE["function app"], patient)
    assert (found.verdict, "at another address" in found.seen) == (Verdict.FAILED, True)


# The model, asked an empty question.


@pytest.mark.parametrize(
    ("reply", "verdict", "seen"),
    [
        (errors.invalid_request("Invalid 'messages': empty array."), Verdict.OK, "accepts your token"),
        (
            errors.gateway_error(400, "OperationNotSupported", "Not with this model."),
            Verdict.FAILED,
            "does not answer questions",
        ),
        (errors.throttled(7), Verdict.OK, "throttling"),
        (errors.role_missing(), Verdict.SKIPPED, "the app has its own"),
        (errors.network_denied(), Verdict.SKIPPED, "firewall"),
        (errors.deployment_not_found(), Verdict.FAILED, "no deployment 'vision'"),
        (errors.model_retired(), Verdict.FAILED, "retired"),
        (errors.server_error(503), Verdict.FAILED, "HTTP 503"),
    ],
)
async def test_the_models_refusals_are_explained(
    patient: Patient, reply: errors.ErrorReply, verdict: Verdict, seen: str
) -> None:
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(reply.body, status=reply.status)

    found = await _ask(patient, answer)
    assert (found.verdict, seen in found.seen) == (verdict, True)
    assert asked == [{"model": "vision", "messages": []}]


async def test_a_model_that_can_not_be_reached_is_red(patient: Patient) -> None:
    deployed = replace(patient.deployed, model_endpoint="http://127.0.0.1:1")
    found = await doctor.look(azure_checks.model_answers, replace(patient, deployed=deployed))
    assert (found.verdict, "AZURE_OPENAI_ENDPOINT" in (found.cure or "")) == (Verdict.FAILED, True)


NOT_SOLD = errors.tier_unsupported("flex")
EMPTY = errors.invalid_request("Invalid 'messages': empty array.")


def sold(name: str, sku: str = "GlobalStandard") -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        deployment = answers[f"{MODEL}/deployments"]["value"][0]
        deployment["properties"]["model"]["name"] = name
        deployment["sku"] = {"name": sku}

    return change


@pytest.mark.parametrize(
    ("tier", "reply", "model", "verdict", "seen"),
    [
        ("", EMPTY, sold("gpt-5.4-mini"), Verdict.OK, "'default'"),
        ("flex", EMPTY, sold("gpt-5.6-luna"), Verdict.OK, "gpt-5.6-luna is sold"),
        ("flex", NOT_SOLD, sold("gpt-5.6-luna"), Verdict.FAILED, "is not sold at it"),
        ("flex", EMPTY, sold("gpt-5.4-mini"), Verdict.SKIPPED, "gpt-5.4-mini as GlobalStandard is not among"),
        ("flex", EMPTY, sold("gpt-5.6-luna", "DataZoneStandard"), Verdict.SKIPPED, "as DataZoneStandard is not among"),
        ("priority", EMPTY, sold("gpt-5.6-luna"), Verdict.SKIPPED, "is not known"),
    ],
)
async def test_the_tier_that_the_setting_chooses_is_checked_before_anybody_pays(
    patient: Patient,
    azure: FakeResourceManager,
    tier: str,
    reply: errors.ErrorReply,
    model: Callable[[dict[str, Any]], None],
    verdict: Verdict,
    seen: str,
) -> None:
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(reply.body, status=reply.status)

    setting("SERVICE_TIER", tier)(azure.answers)
    model(azure.answers)
    found = await _ask(patient, answer, azure, check=tiers.service_tier)
    assert (found.verdict, seen in found.seen) == (verdict, True), found
    assert asked == ([{"model": "vision", "messages": [], "service_tier": tier}] if tier else [])


async def _ask(
    patient: Patient,
    answer: Callable[[web.Request], Any],
    azure: FakeResourceManager | None = None,
    check: Check = azure_checks.model_answers,
) -> Finding:
    application = web.Application()
    application.router.add_post("/openai/v1/chat/completions", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    deployed = replace(patient.deployed, model_endpoint=endpoint)
    if azure:
        for account in azure.answers[
            MODEL.partition("/resourceGroups")[0] + "/providers/Microsoft.CognitiveServices/accounts"
        ]["value"]:
            account["properties"]["endpoint"] = endpoint
    try:
        return await doctor.look(check, replace(patient, deployed=deployed))
    finally:
        await runner.cleanup()
