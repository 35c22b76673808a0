"""The operator decides which of the texts that strangers write count."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.some_files import Container
from support.some_settings import ENOUGH

from pipeline.errors import PermanentFailure
from pipeline.instructions import BUILT_IN, Authority, Instructions, InstructionSources
from pipeline.instructions.options import NAMES, Options
from pipeline.settings import Settings, SettingsError

IMAGE = "partner/a.jpg"
ALL: dict[str, dict[str, Any]] = {
    "request": {"request": "request"},
    "metadata": {"metadata": {"instructions": "metadata"}},
    "sidecar": {"blobs": {f"{IMAGE}.instructions.txt": b"sidecar"}},
    "folder": {"blobs": {"_instructions.md": b"folder"}},
    "setting": {"default": "setting"},
}


async def asked(
    settings: Mapping[str, str],
    *,
    image: str = IMAGE,
    blobs: Mapping[str, bytes] | None = None,
    metadata: Mapping[str, str] | None = None,
    request: str | None = None,
    given: Options | None = None,
    default: str | None = None,
) -> Instructions:
    authority = Authority.of(Settings.from_environment({**ENOUGH, **settings}))
    sources = InstructionSources(Container(dict(blobs or {})), default, authority)
    return await sources.find(image, metadata or {}, request, given)


def everything() -> dict[str, Any]:
    said: dict[str, Any] = {"blobs": {}}
    for source in ALL.values():
        said["blobs"] |= source.get("blobs", {})
        said |= {key: value for key, value in source.items() if key != "blobs"}
    return said


@pytest.mark.parametrize("order", [order for n in (1, 2, 5) for order in itertools.permutations(ALL, n)])
async def test_the_sources_count_that_the_operator_names_in_that_order(order: tuple[str, ...]) -> None:
    found = await asked({"INSTRUCTION_SOURCES": ",".join(order)}, **everything())
    assert (found.text, found.origin) == (order[0], order[0])


async def test_no_source_but_the_named_ones_is_even_read() -> None:
    container = Container({"_instructions.md": b"x", f"{IMAGE}.instructions.md": b"---\nnonsense: 1\n---\n"})
    settings = Settings.from_environment(ENOUGH | {"INSTRUCTION_SOURCES": "setting"})
    found = await InstructionSources(container, None, Authority.of(settings)).find(
        IMAGE, {"instructions": "metadata", "detail": "no such detail"}, "request", Options(detail="high")
    )
    assert (found.text, found.options, container.reads) == (BUILT_IN, Options(), [])


async def test_the_options_of_a_higher_source_stand() -> None:
    """A folder's question that the operator ranks first keeps its options, and costs no look at a sidecar."""
    blobs = {"_instructions.md": b"---\ndetail: low\n---\nHow many?", f"{IMAGE}.instructions.md": b"---\nbad: 1\n---\n"}
    metadata = {"instructions": "Write a novel.", "detail": "high", "reasoning_effort": "low"}
    found = await asked({"INSTRUCTION_SOURCES": "folder,sidecar,metadata"}, blobs=blobs, metadata=metadata)
    assert (found.text, found.options) == ("How many?", Options(detail="low", reasoning_effort="low"))


NAME_PARTS = st.sampled_from(["a.jpg", "victim.png", "_instructions.md", "_instructions.json", "x", "partner", ".."])
PATHS = st.lists(NAME_PARTS, min_size=1, max_size=4).map("/".join)
ENDINGS = st.sampled_from(["", ".instructions.txt", ".instructions.json", ".schema.json"])


@given(files=st.dictionaries(st.tuples(PATHS, ENDINGS).map("".join), st.binary(max_size=40), max_size=8), image=PATHS)
async def test_files_below_a_prefix_change_nothing_outside_it(files: dict[str, bytes], image: str) -> None:
    """Whoever may only write below `partner/` settles nothing about anyone else's images."""
    blobs = {f"partner/{name}": data for name, data in files.items()}
    if image.startswith("partner/"):
        image = f"other/{image}"
    found = await asked({}, image=image, blobs=blobs)
    assert (found.text, found.options) == (BUILT_IN, Options())


ABOVE = {
    "max_output_tokens": (4097, {}, "MAX_OUTPUT_TOKENS"),
    "detail": ("high", {"ALLOWED_DETAILS": "auto, Low"}, "ALLOWED_DETAILS"),
    "reasoning_effort": ("xhigh", {"ALLOWED_EFFORTS": "none,low"}, "ALLOWED_EFFORTS"),
    "deployment": ("dear", {}, "ALLOWED_DEPLOYMENTS"),
    "service_tier": ("priority", {}, "ALLOWED_TIERS"),
    "tier_fallback": ("default", {"ALLOWED_TIERS": "flex", "SERVICE_TIER": "flex"}, "ALLOWED_TIERS"),
}
LOCKED = {
    **{name: value for name, (value, *_) in ABOVE.items()},
    "flex_patience": 60,
    "pages": "1-3",
    "per_page": True,
    "schema": {"type": "object"},
}


def in_each_source(option: str, value: Any) -> list[dict[str, Any]]:
    file = f"---\n{option}: {value!r}\n---\n".encode()
    written: list[dict[str, Any]] = [
        {"given": Options.model_construct(**{option if option != "schema" else "schema_": value})},
        {"blobs": {f"{IMAGE}.instructions.md": file}},
        {"blobs": {"_instructions.md": file}},
    ]
    named = value if not isinstance(value, dict) else "receipt"  # a schema is named in metadata, not written out
    written.append({"metadata": {option.upper(): str(named)}})
    return written


@pytest.mark.parametrize("option", ABOVE)
async def test_an_option_above_its_ceiling_is_refused_from_any_source_and_never_lowered(option: str) -> None:
    value, settings, setting = ABOVE[option]
    for said in in_each_source(option, value):
        with pytest.raises(PermanentFailure, match=setting) as failed:
            await asked(settings, **said)
        assert failed.value.code == "invalid_instructions"
        assert failed.value.details == {"option": option}


async def test_what_is_within_the_ceilings_is_taken() -> None:
    metadata = {"max_output_tokens": "4096", "detail": "LOW", "reasoning_effort": "low", "deployment": "dear"}
    settings = {"ALLOWED_DETAILS": "auto,low", "ALLOWED_EFFORTS": "low", "ALLOWED_DEPLOYMENTS": "dear"}
    found = await asked(settings, metadata=metadata)
    assert found.options == Options(max_output_tokens=4096, detail="low", reasoning_effort="low", deployment="dear")
    assert (await asked(settings, metadata={"deployment": "vision"})).options.deployment == "vision"
    settings = {"ALLOWED_TIERS": "flex", "SERVICE_TIER": "priority"}
    for tier in ("Flex", "priority"):  # the app's own is always allowed
        said = {"service_tier": tier, "tier_fallback": "none"}
        assert (await asked(settings, metadata=said)).options.service_tier == tier.lower()


@pytest.mark.parametrize("option", NAMES)
async def test_a_locked_option_is_the_operators(option: str) -> None:
    settings = {
        "LOCKED_OPTIONS": option,
        "ALLOWED_DEPLOYMENTS": "dear",
        "ALLOWED_TIERS": "default,priority",
        "MAX_OUTPUT_TOKENS": "9999",
    }
    for said in in_each_source(option, LOCKED[option]):
        with pytest.raises(PermanentFailure, match=f"'{option}' is the operator's to set \\(LOCKED_OPTIONS\\)"):
            await asked(settings, **said)
        if "blobs" in said:  # but not where uploaders can't write
            found = await asked(settings | {"INSTRUCTIONS_CONTAINER": "instructions"}, **said)
            assert found.options.value_of(option) == LOCKED[option]


@pytest.mark.parametrize("name", ["a.jpg.instruction.txt", "_instruction.md", "a.jpg.Instructions.txt"])
async def test_nearly_an_instruction_file_is_an_image_like_any_other_where_such_files_do_not_count(name: str) -> None:
    with pytest.raises(PermanentFailure, match="nearly"):
        await asked({}, image=name)
    for settings in ({"INSTRUCTIONS_CONTAINER": "instructions"}, {"INSTRUCTION_SOURCES": "metadata"}):
        assert (await asked(settings, image=name)).text == BUILT_IN


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("INSTRUCTION_SOURCES", "metadata,sidecars", "'request', 'metadata', 'sidecar', 'folder' or 'setting'"),
        ("INSTRUCTION_SOURCES", "folder,metadata,folder", "names something twice"),
        ("LOCKED_OPTIONS", "prompt", "'schema'"),
        ("ALLOWED_DETAILS", "best", "'high'"),
        ("ALLOWED_TIERS", "cheap", "'batch'"),
        ("SERVICE_TIER", "cheap", "'batch'"),
        ("FLEX_PATIENCE_SECONDS", "604801", "604800"),
        ("INSTRUCTIONS_CONTAINER", "images", "must differ"),
    ],
)
def test_a_limit_that_can_not_be_meant_stops_the_start(key: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Settings.from_environment(ENOUGH | {key: value})
