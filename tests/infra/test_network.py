"""With networkIsolation, what the app calls is reached from inside the network only."""

import pytest
from support.templates import TEMPLATES, module, resources, source

RESOURCES = TEMPLATES["resources.bicep"]
ZONES = {
    "blob": "privatelink.blob.${environment().suffixes.storage}",
    "queue": "privatelink.queue.${environment().suffixes.storage}",
    "table": "privatelink.table.${environment().suffixes.storage}",
    "account": "privatelink.openai.azure.com",
}
"""https://learn.microsoft.com/azure/private-link/private-endpoint-dns, by group id."""


def test_every_service_that_the_app_calls_has_a_private_endpoint_in_its_zone() -> None:
    endpoints = [*RESOURCES.variables["storageEndpoints"], *RESOURCES.variables["openAiEndpoints"]]
    assert {(each["resourceId"], each["groupId"]) for each in endpoints} == {
        ("hostStorage.outputs.id", "blob"),
        ("hostStorage.outputs.id", "queue"),
        ("hostStorage.outputs.id", "table"),
        ("codeStorage.outputs.id", "blob"),
        ("dataStorage.outputs.id", "blob"),
        ("dataStorage.outputs.id", "queue"),
        ("openAiAccess.outputs.accountId", "account"),
    }
    names = RESOURCES.variables["dnsZones"]
    for each in endpoints:
        assert names[each["dnsZone"].removeprefix("dnsZones.")] == ZONES[each["groupId"]]


def test_the_app_calls_from_the_network() -> None:
    assert module("network").condition == "(isolated)"
    assert module("app").body["params"]["subnetId"] == (
        "isolated ? resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'app') : ''"
    )
    (network,) = resources("Microsoft.Network/virtualNetworks")
    app, endpoints = network.body["properties"]["subnets"]
    assert app["name"] == "app"
    (delegation,) = app["properties"]["delegations"]
    assert delegation["properties"]["serviceName"] == "Microsoft.App/environments", "what Flex Consumption asks for"
    assert "delegations" not in endpoints["properties"]
    (link,) = resources("Microsoft.Network/privateDnsZones/virtualNetworkLinks")
    assert link.body["properties"]["virtualNetwork"] == {"id": "network.id"}


def test_private_endpoints_are_made_one_after_the_other() -> None:
    """Several of one account at the same time are refused: https://github.com/Azure/bicep-registry-modules/issues/6001."""
    text = source("modules/network.bicep")
    assert text.count("'Microsoft.Network/privateEndpoints@") == text.count("@batchSize(1)\nresource privateEndpoints ")


@pytest.mark.parametrize("kind", ["Microsoft.Storage/storageAccounts", "Microsoft.CognitiveServices/accounts"])
def test_the_public_network_is_shut_out(kind: str) -> None:
    (account,) = resources(kind)
    assert account.body["properties"]["networkAcls"]["defaultAction"] == "networkIsolation ? 'Deny' : 'Allow'"


def test_event_grid_is_not_shut_out_of_storage() -> None:
    """It comes as a trusted service, through the firewall: there is none where public access is off altogether."""
    (storage,) = resources("Microsoft.Storage/storageAccounts")
    assert storage.body["properties"]["networkAcls"]["bypass"] == "AzureServices"
    assert storage.body["properties"]["publicNetworkAccess"] == "Enabled"
    (openai,) = resources("Microsoft.CognitiveServices/accounts")
    assert openai.body["properties"]["publicNetworkAccess"] == "networkIsolation ? 'Disabled' : 'Enabled'"


def test_the_app_is_made_when_it_has_its_roles_and_its_network() -> None:
    """It reads its package and its storage as soon as it is there."""
    assert module("app").body["dependsOn"] == ["roles", "network"]
