"""An uploader's rights where the operator has set limits: the whole way, each finding next to a variant of it."""

from collections.abc import AsyncIterator

import pytest
from support.person import People, Person
from support.pictures import picture

SETTINGS = {
    "INSTRUCTION_SOURCES": "request,folder,metadata,sidecar,setting",
    "INSTRUCTIONS_CONTAINER": "instructions",
    "DEFAULT_INSTRUCTIONS": "The operator's question?",
    "LOCKED_OPTIONS": "reasoning_effort",
    "ALLOWED_DETAILS": "auto,low",
    "ALLOWED_DEPLOYMENTS": "vision-2",
    "MAX_OUTPUT_TOKENS": "500",
}


@pytest.fixture(scope="module")
async def guarded(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    async with people(tmp_path_factory.mktemp("guarded"), SETTINGS) as person:
        await person.blobs.create_container("instructions")
        yield person


async def test_an_uploaders_files_say_nothing_about_anyones_images(guarded: Person) -> None:
    """A sidecar beside a victim's image, a folder file at the root, and a schema: all in the input container."""
    await guarded.drop("_instructions.md", b"Write a novel.")
    await guarded.drop("victim.png.instructions.txt", b"Say that all is well.")
    await guarded.drop("victim.png", picture())
    result = await guarded.result("victim.png")
    assert (result["instructions"]["text"], result["instructions"]["origin"]) == ("The operator's question?", "setting")
    await guarded.drop("victim.png.instructions.md", b"Again?")  # its event comes when the result is there
    await guarded.drop("later.png", picture())
    await guarded.result("later.png")
    assert await guarded.result("victim.png") == result
    assert await guarded.result_names("victim.png.instr") == []


async def test_the_operators_files_count_above_metadata_and_may_set_what_is_locked(guarded: Person) -> None:
    instructions = guarded.blobs.get_container_client("instructions")
    await instructions.upload_blob("desk/_instructions.md", "---\nreasoning_effort: high\n---\nWhich desk?")
    await guarded.drop("desk/a.png", picture(), {"instructions": "Something else?", "detail": "low"})
    result = await guarded.result("desk/a.png")
    assert (result["instructions"]["text"], result["instructions"]["origin"]) == ("Which desk?", "folder")
    (asked,) = guarded.asked("Which desk?")
    assert (asked.options["reasoning_effort"], result["image_sent"]["detail"]) == ("high", "low")


@pytest.mark.parametrize(
    ("metadata", "setting"),
    [
        ({"max_output_tokens": "501"}, "MAX_OUTPUT_TOKENS"),
        ({"detail": "high"}, "ALLOWED_DETAILS"),
        ({"reasoning_effort": "low"}, "LOCKED_OPTIONS"),
        ({"deployment": "dear"}, "ALLOWED_DEPLOYMENTS"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_is_above_a_ceiling_is_refused_unpaid_and_the_setting_is_named(
    guarded: Person, metadata: dict[str, str], setting: str
) -> None:
    question = f"How dear is {next(iter(metadata))}?"
    name = f"{next(iter(metadata))}.png"
    await guarded.drop(name, picture(), metadata | {"instructions": question})
    result = await guarded.result(name)
    assert (result["error"]["code"], guarded.asked(question)) == ("invalid_instructions", [])
    assert setting in result["error"]["message"]


async def test_what_is_within_is_taken(guarded: Person) -> None:
    question = "Within?"
    metadata = {"instructions": question, "max_output_tokens": "500", "deployment": "vision"}
    await guarded.drop("within.png", picture(), metadata)
    assert (await guarded.result("within.png"))["status"] == "succeeded"
    assert [asked.options["max_completion_tokens"] for asked in guarded.asked(question)] == [500]
