"""What the templates' role assignments allow, by container and queue."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from support.bicep_source import Declaration, Expression
from support.templates import TEMPLATES, source

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "storageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "storageBlobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "storageBlobDataReader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "storageQueueDataMessageSender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "monitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "cognitiveServicesOpenAiUser": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
    "cognitiveServicesOpenAiContributor": "a001fd3d-188f-4b5d-821b-7da978bf7442",
}
FILES = ("modules/roles.bicep", "modules/app-on-queue.bicep", "modules/openai-access.bicep")

ALLOWS = {
    "storageBlobDataContributor": {
        "blobs/read",
        "blobs/write",
        "blobs/add/action",
        "blobs/delete",
        "blobs/move/action",
    },
    "storageBlobDataReader": {"blobs/read"},
    "storageQueueDataContributor": {
        "queues/read",
        "queues/write",
        "queues/delete",
        "messages/read",
        "messages/write",
        "messages/delete",
        "messages/process/action",
    },
}
"""By role, what it allows within a container or a queue, from its definition. Actions on the container itself, which
only people's tools ask for, are left out: writing and deleting it come with Storage Blob Data Contributor."""


@dataclass(frozen=True, slots=True)
class Grant:
    who: str
    on: str
    roles: tuple[str, ...]
    kind: str = "ServicePrincipal"
    """What `who` is: with it, Azure does not look up an identity that is seconds old and not known everywhere."""
    condition: str | None = None


def assignments(name: str) -> list[Declaration]:
    return TEMPLATES[name].created("Microsoft.Authorization/roleAssignments")


def role(name: str, assignment: Declaration) -> str:
    """What stands for the role: a variable, or the variable of a loop."""
    definition = assignment.body["properties"]["roleDefinitionId"]
    found = re.fullmatch(r"subscriptionResourceId\('Microsoft.Authorization/roleDefinitions', (\w+)\)", definition)
    assert found, name
    return found[1]


def grant(name: str, assignment: Declaration, *, custom: bool = False) -> Grant:
    """The grant that an assignment is, with one of Azure's own roles or, where there is one, with one of ours."""
    of = role(name, assignment)
    looped = re.search(rf"resource {assignment.symbol} .*\[\n +for {of} in (\w+):", source(name))
    roles = TEMPLATES[name].variables[looped[1]] if looped else [_chosen(name, of, custom=custom)]
    properties = assignment.body["properties"]
    return Grant(
        properties["principalId"],
        assignment.body["scope"],
        tuple(roles),
        properties["principalType"],
        assignment.condition,
    )


def custom_roles() -> dict[str, frozenset[str]]:
    """Our own roles: the variable that holds their names, and what they allow."""
    made = {}
    for name in FILES:
        for definition in TEMPLATES[name].created("Microsoft.Authorization/roleDefinitions"):
            (permissions,) = definition.body["properties"]["permissions"]
            assert permissions["actions"] == []
            assert definition.condition == f"(customRoles{' && batches' if definition.symbol == 'batchSender' else ''})"
            allowed = (_within(each) for each in permissions["dataActions"])
            made[str(definition.body["name"])] = frozenset(allowed)
    return made


def of_the_app(*, custom: bool) -> Mapping[str, frozenset[str]]:
    """What the app may do on the data account, by the name of the container or the queue."""
    allows = {**ALLOWS, **custom_roles()}
    resources = TEMPLATES["resources.bicep"]
    values = {**{name: p.default for name, p in resources.parameters.items()}, **resources.variables}
    values["instructionsContainer"] = "instructions"
    existing = {each.symbol: each.body["name"] for each in TEMPLATES["modules/roles.bicep"].resources if each.existing}
    places: dict[str, frozenset[str]] = {}
    for assignment in assignments("modules/roles.bicep"):
        found = grant("modules/roles.bicep", assignment, custom=custom)
        if found.who == "appPrincipalId" and found.on not in {"hostStorage", "applicationInsights"}:
            parameter = existing[found.on].rpartition(": ")[2]
            places[values[parameter]] = frozenset().union(*(allows[role] for role in found.roles))
    (queue,) = assignments("modules/app-on-queue.bicep")
    (of_queues,) = grant("modules/app-on-queue.bicep", queue).roles
    for name in values["queues"]:
        given = values[name] if isinstance(name, Expression) else name
        places[re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], given)] = frozenset(allows[of_queues])
    return places


def _within(data_action: str) -> str:
    """The action without the kind of resource that it is on."""
    return re.sub(r"^.*/(?:containers|accounts/OpenAI)/", "", data_action)


def _chosen(name: str, of: str, *, custom: bool) -> str:
    value = TEMPLATES[name].variables[of]
    choice = re.fullmatch(r"customRoles \? (\w+) : (\w+)", value) if isinstance(value, Expression) else None
    return choice[1 if custom else 2] if choice else of
