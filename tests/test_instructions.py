"""The question: every source, in order, and all that people write into files."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from string import printable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.some_files import Container

from pipeline.errors import MOST_OF_A_MESSAGE, PermanentFailure, RetryableFailure
from pipeline.instructions import BUILT_IN, InstructionSources
from pipeline.instructions.files import MAX_FILE_BYTES, InvalidFile, parse_file
from pipeline.instructions.options import NAMES, Options
from pipeline.instructions.plain_text import visible_text
from pipeline.instructions.sources import CACHED_BYTES
from pipeline.names import folders_of, image_of_sidecar, sidecars

IMAGE = "a/b/c.jpg"
SOURCES: dict[str, dict[str, Any]] = {  # in order of precedence
    "request": {"request": "from the request"},
    "metadata": {"metadata": {"instructions": "from metadata"}},
    "sidecar": {"blobs": {"a/b/c.jpg.instructions.md": b"from the sidecar"}},
    "folder a/b/": {"blobs": {"a/b/_instructions.txt": b"from a/b"}},
    "folder a/": {"blobs": {"a/_instructions.json": b'{"instructions": "from a"}'}},
    "folder root": {"blobs": {"_instructions.md": b"---\ndetail: low\n---\nfrom the root"}},
    "setting": {"default": "from the setting"},
    "builtin": {},
}
TEXTS = [
    "from the request",
    "from metadata",
    "from the sidecar",
    "from a/b",
    "from a",
    "from the root",
    "from the setting",
    BUILT_IN,
]


async def found_in(names: list[str]) -> tuple[str, str, str | None]:
    container = Container()
    arguments: dict[str, Any] = {"request": None, "metadata": {}, "default": None}
    for name in names:
        source = dict(SOURCES[name])
        container.blobs |= source.pop("blobs", {})
        arguments |= source
    sources = InstructionSources(container, arguments["default"])
    found = await sources.find(IMAGE, arguments["metadata"], arguments["request"])
    return found.text, found.origin, found.origin_name


@given(st.lists(st.sampled_from(list(SOURCES)), unique=True))
async def test_without_the_winning_source_the_next_one_counts(names: list[str]) -> None:
    present = [name for name in SOURCES if name in names or name == "builtin"]
    for winner in range(len(present)):
        text, origin, _ = await found_in(present[winner:])
        assert text == TEXTS[list(SOURCES).index(present[winner])]
        assert present[winner].startswith(origin)


async def test_the_source_is_named() -> None:
    assert [(await found_in(list(SOURCES)[n:]))[2] for n in range(len(SOURCES))] == [
        None,
        "instructions",
        "a/b/c.jpg.instructions.md",
        "a/b/_instructions.txt",
        "a/_instructions.json",
        "_instructions.md",
        "DEFAULT_INSTRUCTIONS",
        None,
    ]


async def test_options_are_merged_and_earlier_sources_win() -> None:
    container = Container(
        {
            "a/b/c.jpg.instructions.md": b"---\ndetail: high\n---\n",
            "a/_instructions.json": b'{"instructions": "Text", "detail": "low", "max_output_tokens": 7}',
            "_instructions.md": b"---\nreasoning_effort: high\n---\nnot looked at",
        }
    )
    found = await InstructionSources(container, None).find(IMAGE, {"Deployment": "other"})
    assert (found.text, found.options) == (
        "Text",
        Options(detail="high", max_output_tokens=7, deployment="other"),
    )


async def test_metadata_costs_no_further_read_and_folders_are_read_once_for_all_images() -> None:
    """The stated number of storage operations: none, or three for the sidecar and three for each folder."""
    container = Container()
    sources = InstructionSources(container, None)
    await sources.find(IMAGE, {"instructions": "here"})
    assert container.reads == []
    await sources.find(IMAGE, {})
    assert len(container.reads) == 3 + 3 * 3
    container.reads.clear()
    for n in range(100):
        await sources.find(f"a/b/{n}.jpg", {})
    assert len(container.reads) == 3 * 100


async def test_trouble_with_storage_is_not_remembered() -> None:
    container = Container({"_instructions.md": b"Text"}, broken=True)
    sources = InstructionSources(container, None)
    with pytest.raises(RetryableFailure):
        await sources.find("c.jpg", {})
    container.broken = False
    assert (await sources.find("c.jpg", {})).text == "Text"


async def test_remembered_files_are_bounded_by_bytes() -> None:
    """These become 25 times what they were written in: without a bound 30 of them would be 45 MB."""
    schema = {"type": "object", "examples": [[{} for _ in range(100)] for _ in range(200)]}
    file = json.dumps({"instructions": "Text", "schema": schema}, separators=(",", ":")).encode()
    assert len(file) < MAX_FILE_BYTES
    container = Container({f"{n}/_instructions.json": file for n in range(30)})
    sources = InstructionSources(container, None)
    tracemalloc.start()
    try:
        for n in range(30):
            with pytest.raises(PermanentFailure, match="more than 5,000 values"):
                await sources.find(f"{n}/a.jpg", {})
        assert tracemalloc.get_traced_memory()[0] < CACHED_BYTES
    finally:
        tracemalloc.stop()
    container.reads.clear()
    await sources.find("0/a.jpg", {"instructions": "Not looked for"})
    with pytest.raises(PermanentFailure):
        await sources.find("29/a.jpg", {})
    assert len(container.reads) == 3


async def test_images_that_come_together_share_one_look_at_their_folder() -> None:
    container = Container({"a/_instructions.md": b"Text"})
    sources = InstructionSources(container, None)
    found = await asyncio.gather(*(sources.find(f"a/{n}.jpg", {}) for n in range(9)))
    assert {one.text for one in found} == {"Text"}
    assert container.reads.count("a/_instructions.md") == 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.jpg.instructions.md", b"---\ndetial: high\n---\nText", ["line 2", "detial", "detail, max_output_tokens"]),
        (
            "x.jpg.instructions.md",
            b"---\n\ndetail: best\n---\nText",
            ["line 3", "'best'", "auto, low, high or original"],
        ),
        ("x.jpg.instructions.txt", b"---\ndetail: low\nText", ["line 1", "no end", "---"]),
        ("x.jpg.instructions.txt", b"---\n{\n---\nText", ["YAML"]),
        ("x.jpg.instructions.txt", b"---\n- a\n---\nText", ["line 2", "name: value"]),
        ("x.jpg.instructions.txt", b"---\ndetail: low\ndetail: high\n---\nText", ["line 3", "twice"]),
        ("x.jpg.instructions.txt", b"---\ndetail: &a low\nschema: *a\n---\nText", ["line 3", "alias"]),
        ("x.jpg.instructions.txt", b"Gr\xfc\xdfe\n", ["line 1", "0xfc", "UTF-8"]),
        ("x.jpg.instructions.json", b'{"instructions": "Text",\n"detail": }', ["line 2", "JSON"]),
        ("x.jpg.instructions.json", b'{"instructions": 7}', ["line 1", "quotation marks"]),
        ("x.jpg.instructions.json", b'"Text"', ["object"]),
        ("x.jpg.instructions.json", b'{\n"max_output_tokens": true}', ["line 2", "whole number"]),
        ("_instructions.json", b'{"schema": "receipt"}', ["receipt.schema.json", "upload it"]),
        ("_instructions.json", b'{"schema": {"type": "array"}}', ["schema"]),
        ("_instructions.md", b"x" * (MAX_FILE_BYTES + 1), ["65,536", "shorten"]),
        ("_instructions.md", b"---\n!!set {detail, schema}\n---\nx", ["line 2", "tag", "without it"]),
        ("_instructions.md", b"---\n\ndetail: !!bool x\n---\nx", ["line 3", "tag"]),
        ("_instructions.md", b"---\nmax_output_tokens: " + b"9" * 20000 + b"\n---\n", ["line 2", "1,000 digits"]),
        ("x.jpg.instructions.json", b'{\n"max_output_tokens": ' + b"9" * 20000 + b"}", ["line 2", "1,000 digits"]),
        ("x.jpg.instructions.json", b'{"instructions": "a\\u0000b"}', ["NUL"]),
        ("_instructions.txt", b"\xef\xbb\xbf{\\rtf1\\ansi What?}", ["RTF", "save", "plain text"]),
        ("_instructions.txt", b"\n<!DOCTYPE html><p>What?", ["HTML", "plain text"]),
        ("_instructions.txt", b"PK\x03\x04\x14\0\x06\0", ["Word", "plain text"]),
        ("_instructions.txt", gzip.compress(b"x" * (MAX_FILE_BYTES + 1), mtime=0), ["compressed", "65,536"]),
        ("_instructions.txt", gzip.compress(b"What is it?", mtime=0)[:-9], ["compressed", "unpacked", "uncompressed"]),
    ],
)
async def test_a_malformed_file_says_which_file_which_line_and_what_to_write(
    name: str, data: bytes, words: list[str]
) -> None:
    sources = InstructionSources(Container({name: data}), "never a silent default")
    for _ in range(2):  # what is remembered says it as well
        with pytest.raises(PermanentFailure) as caught:
            await sources.find("x.jpg", {})
        assert caught.value.code == "invalid_instructions"
        for word in [*words, name] if name != "_instructions.json" else words:
            assert word in caught.value.message


async def test_options_in_metadata_are_checked_too() -> None:
    with pytest.raises(PermanentFailure, match="'detail' is 'best'"):
        await InstructionSources(Container(), None).find("x.jpg", {"detail": "best"})


option_values = st.fixed_dictionaries(
    {},
    optional={
        "detail": st.sampled_from(["auto", "low", "high", "original"]),
        "max_output_tokens": st.integers(1, 10**6),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "service_tier": st.sampled_from(["default", "flex", "priority", "batch"]),
        "tier_fallback": st.sampled_from(["none", "default"]),
        "flex_patience": st.integers(0, 604_800),
        "deployment": st.text("abcdefg-0123456789_", min_size=1).map(lambda text: f"x{text}"),  # and so no number
        "schema": st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
    },
)
TAGS = ["!!set ", "!!bool ", "!!timestamp ", "!!int ", "!!binary ", "!!omap ", "! ", "!x ", "''", "x", "%TAG ! y\n"]
LINE_ENDS = "\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e\0"
free_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=LINE_ENDS)).map(visible_text)


@given(option_values, free_text)
def test_front_matter_and_json_carry_the_same_options_and_text(options: dict[str, Any], text: str) -> None:
    front = f"---\n{yaml.safe_dump(options) if options else ''}---\n{text}"
    whole = json.dumps({"instructions": text, **options})
    from_md, from_json = parse_file("x.md", front.encode()), parse_file("x.json", whole.encode())
    assert from_md == from_json
    assert from_md.text == text
    assert from_md.options.model_dump(by_alias=True, exclude_none=True) == options


@given(free_text.filter(lambda text: not text.startswith("---")))
def test_a_file_without_front_matter_is_all_text(text: str) -> None:
    assert parse_file("x.txt", text.encode()).text == text
    assert parse_file("x.txt", b"\xef\xbb\xbf" + text.encode()).text == text
    assert parse_file("x.txt", text.replace("\n", "\r\n").encode()).text.replace("\r\n", "\n") == text


@given(st.text(st.characters(categories=["Cf", "Cc", "Zs", "Zl", "Zp"])))
async def test_invisible_characters_are_not_text(text: str) -> None:
    for name in ("x.txt", "x.json"):
        data = text.encode() if name == "x.txt" else json.dumps({"instructions": text}).encode()
        if b"\0" not in data:
            assert parse_file(name, data).text == ""
    found = await InstructionSources(Container(), text).find("x.jpg", {"instructions": text}, text)
    assert found.text == BUILT_IN


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
async def test_compressed_files_are_unpacked(pack: Callable[[bytes], bytes]) -> None:
    schema = b'{"type": "object", "properties": {"a": {"type": "string"}}}'
    blobs = {"_instructions.md": pack(b"---\nschema: s\n---\nWhat is it?"), "s.schema.json": pack(schema)}
    found = await InstructionSources(Container(blobs), None).find("x.jpg", {})
    assert (found.text, found.schema is not None) == ("What is it?", True)


async def test_a_text_that_begins_as_compressed_data_does_is_text() -> None:
    found = await InstructionSources(Container({"_instructions.md": b"x^2: is it there?"}), None).find("x.jpg", {})
    assert found.text == "x^2: is it there?"


def test_a_compressed_file_is_named_where_it_is_not_unpacked() -> None:
    with pytest.raises(InvalidFile, match="gzip"):
        parse_file("x.md", gzip.compress(b"What is it?", mtime=0))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["x.md", "x.json"]),
    st.one_of(
        st.binary(),
        st.text(printable).map(lambda text: f"---\n{text}\n---\n".encode()),
        st.lists(
            st.sampled_from(
                [*TAGS, "{", "}", "[", "]", '"schema"', ":", "- ", "&a ", "*a", "? ", "\n", "---\n", *NAMES]
            )
        ).map(lambda parts: ("---\n" + "".join(parts) + "\n---\n").encode()),
    ),
)
@example("x.md", b"---\nschema: " + b"[" * 20000 + b"]" * 20000 + b"\n---\n")
@example("x.md", b"---\nschema: " + b"{a: " * 9000 + b"1" + b"}" * 9000 + b"\n---\n")
@example("x.json", b"[" * 30000 + b"]" * 30000)
@example("x.json", b'{"detail": ' + b"[" * 3000 + b"]" * 3000 + b"}")
@example("x.json", b'{"max_output_tokens": ' + b"9" * 5000 + b"}")
@example("x.md", b"---\nmax_output_tokens: " + b"9" * 5000 + b"\n---\n")
def test_no_file_breaks_the_parser(name: str, data: bytes) -> None:
    """Everything is understood, or refused with a message of one short printable line, and nothing else."""
    try:
        parse_file(name, data)
    except InvalidFile as error:
        assert 0 < len(str(error)) <= 600  # noqa: PT017 - most files are not refused
        assert str(error).isprintable()  # noqa: PT017


hostile = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["a\nb\x1b[31m", "\u2028", "'", "\u202e", "é" * 900, "q" * 40_000, "\n" * 20_000]),
)
HOSTILE: list[Callable[[str], tuple[str, dict[str, bytes], dict[str, str]]]] = [
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({text: 1}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": f"{{{json.dumps(text)}: 1, {json.dumps(text)}: 2}}".encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({"schema": text}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({"schema": {text: text}}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({"schema": {"type": text}}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({"detail": text}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.json": json.dumps({"detail": {text: [text]}}).encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.md": f"---\n{text}\n---\n".encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.md": f"---\ndetail: !!python/object:{text}\n---\n".encode()}, {}),
    lambda text: ("x.jpg", {"_instructions.md": f"---\n? {json.dumps(text)}\n: 1\n---\n".encode()}, {}),
    lambda text: ("x.jpg", {}, {"instructions": f"=?{text}?B?AAAA?="}),
    lambda text: ("x.jpg", {}, {"instructions_b64": text}),
    lambda text: ("x.jpg", {}, {"detail": text}),
    lambda text: ("x.jpg", {}, {"schema": text}),
    lambda text: (f"{text}/x.jpg", {f"{text}/_instructions.json": b"{"}, {}),
    lambda text: (f"{text}/_Instructions.txt", {}, {}),
    lambda text: (f"{text}.instructions.txt", {}, {}),
]
"""Ways to put a text into an image's name, its sidecar files and its metadata."""


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(HOSTILE), hostile)
async def test_a_message_that_quotes_any_text_is_one_short_printable_line(
    put: Callable[[str], tuple[str, dict[str, bytes], dict[str, str]]], text: str
) -> None:
    name, blobs, metadata = put(text)
    try:
        await InstructionSources(Container(blobs), None).find(name, metadata)
    except PermanentFailure as failure:
        assert len(failure.message) <= MOST_OF_A_MESSAGE  # noqa: PT017 - some are understood
        assert failure.message.isprintable()  # noqa: PT017
        assert failure.message.endswith((".", ".)")), "not cut, but what it quotes"  # noqa: PT017


@given(st.text(min_size=1, max_size=30).filter(lambda name: not name.endswith("/")))
def test_a_sidecar_is_its_images(name: str) -> None:
    assert {image_of_sidecar(sidecar) for sidecar in sidecars(name)} == {name}
    assert all(name.startswith(folder) for folder in folders_of(name))
    assert folders_of(name)[-1] == ""
