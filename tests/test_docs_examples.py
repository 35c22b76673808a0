"""The examples of docs/instructions.md and docs/results.md work as shown, and every table is complete.

A line of nothing but a name in backticks says what the code block below it is: a file dropped under that name, or the
result that lies there. Other blocks are shell or Python. A block of no known kind fails.
"""

import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from unicodedata import normalize

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from support.person import ROOT, Person
from support.pictures import picture

from localcloud.model import Answer
from pipeline.documents.choice import NoSuchPages, PageChoice
from pipeline.documents.refusals import no_such_pages
from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions import InstructionSources, Origin
from pipeline.instructions.files import MAX_FILE_BYTES, parse_file
from pipeline.instructions.options import NAMES, Options
from pipeline.instructions.sources import CACHE_SECONDS
from pipeline.job.asking import Asking
from pipeline.job.requests import Request
from pipeline.job.work import NotAsked
from pipeline.model.original import not_taken
from pipeline.model.question import Buying, Question
from pipeline.model.reasons import reason_in
from pipeline.model.refusals import refusal
from pipeline.names import image_of_sidecar, result_name, wants_result
from pipeline.result import Result
from pipeline.schemas import AnswerSchema, InvalidSchema
from pipeline.settings import Settings

PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("instructions.md", "results.md")}
INSTRUCTIONS, RESULTS = PAGES.values()
SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
RECEIPT = (ROOT / "samples" / "receipt.schema.json").read_bytes()
PNG = picture()

_BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`\n\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; `name` is what the line above it says, if it names anything."""

    page: str
    name: str | None
    language: str
    text: str

    def __str__(self) -> str:
        return self.name or f"{self.language}-{self.text.split(chr(10), 1)[0][:40]}"


BLOCKS = [
    Block(page, match["name"], match["language"], match["text"])
    for page, text in PAGES.items()
    for match in _BLOCK.finditer(text)
]
FILES = [block for block in BLOCKS if block.name and not block.name.startswith("results/")]
SHOWN_RESULTS = [block for block in BLOCKS if block.name and block.name.startswith("results/")]
SHELL = [block for block in BLOCKS if block.language == "sh"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def test_every_example_is_run() -> None:
    assert sum(page.count("\n```") for page in PAGES.values()) == 2 * len(BLOCKS)
    assert sorted(map(str, FILES + SHOWN_RESULTS + SHELL + PYTHON)) == sorted(map(str, BLOCKS))
    assert all((FILES, SHOWN_RESULTS, SHELL, PYTHON))


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    under = f"\n{page}".split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", under, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table[0].splitlines()[2:]]


def first_column(page: str, heading: str) -> list[str]:
    return [row[0].strip(" `") for row in rows(page, heading)]


# --- instruction files ---

DATA_ANSWERS = {
    "Read this receipt.": json.loads(SHOWN_RESULTS[0].text)["answer"]["text"],
    "Which car is this?": '{"plate": "EK12345", "country": "NO"}',
}


@pytest.mark.parametrize("block", FILES, ids=str)
async def test_an_instruction_file_does_what_the_page_says(person: Person, block: Block) -> None:
    """Dropped under its own name, then an image that it is for."""
    assert block.name is not None
    file = parse_file(block.name, block.text.encode())
    image = image_of_sidecar(block.name) or f"{block.name.rpartition('/')[0]}/deep/er/image.png"
    await person.drop("receipts/receipt.schema.json", RECEIPT)
    await person.drop(block.name, block.text.encode())
    if file.options.schema_:
        person.scripts[file.text] = deque([Answer(DATA_ANSWERS[file.text])])
    await person.drop(image, PNG)
    result = await person.result(image)
    assert (result["status"], result["instructions"]["text"]) == ("succeeded", file.text), result["error"]
    assert result["instructions"]["origin_name"] == block.name
    assert result["image_sent"]["detail"] == (file.options.detail or "auto")
    if file.options.schema_:
        assert result["answer"]["data"] == json.loads(DATA_ANSWERS[file.text])


def test_front_matter_and_json_say_the_same() -> None:
    front, whole = (
        parse_file(block.name, block.text.encode())
        for block in FILES
        if block.name and block.name.startswith("meters/")
    )
    assert front == whole
    assert front.options != Options()


async def test_metadata_added_later_counts_when_a_sidecar_has_the_image_looked_at(person: Person) -> None:
    await person.drop("desk/later.png", PNG, {"instructions": "At first"})
    await person.result("desk/later.png")
    client = person.blobs.get_blob_client("images", "desk/later.png")
    await client.set_blob_metadata({"instructions": "Added later"})
    await person.drop("desk/later.png.instructions.md", b"Not asked")
    while (await person.result("desk/later.png"))["instructions"]["text"] != "Added later":
        await asyncio.sleep(0.05)
    assert person.asked("Not asked") == []

    etag = await person.drop("desk/later.png", PNG)  # an upload replaces the metadata too
    assert (await person.result("desk/later.png", etag=etag))["instructions"]["text"] == "Not asked"


# --- tables of docs/instructions.md ---


def test_the_table_of_sources_is_in_the_order_of_precedence() -> None:
    assert len(rows(INSTRUCTIONS, "# Asking something about an image")) == len(Origin)
    assert [f"`{origin}`" in RESULTS for origin in Origin] == [True] * len(Origin)


def test_the_table_of_options_is_complete() -> None:
    assert first_column(INSTRUCTIONS, "## Options") == list(NAMES)
    values = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows(INSTRUCTIONS, "## Options")}
    for name in ("detail", "reasoning_effort"):
        annotation = Options.model_fields[name].annotation
        allowed = get_args(get_args(annotation)[0].__value__)
        assert values[name] == list(allowed)


@pytest.mark.parametrize(
    "name",
    re.findall(
        r"`([^`]+)`", INSTRUCTIONS.split("## What gets no result\n")[1].split("Everything else gets a result")[0]
    ),
)
def test_files_documented_to_get_no_result_get_none(name: str) -> None:
    assert not wants_result(name)
    assert not wants_result(f"folder/{name}")


def test_the_limits_are_the_codes() -> None:
    assert MAX_FILE_BYTES == 64 * 1024
    assert f"for {CACHE_SECONDS} seconds" in INSTRUCTIONS
    assert f"within {CACHE_SECONDS} seconds" in INSTRUCTIONS
    assert f"the {CACHE_SECONDS} seconds for which" in INSTRUCTIONS


@dataclass
class Container:
    """An input container of instruction files, that counts how often it is read."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    reads: int = 0

    async def read_start(self, name: str, length: int) -> bytes | None:
        self.reads += 1
        found = self.blobs.get(name)
        return None if found is None else found[:length]


async def reads(
    folder: str, metadata: dict[str, str], blobs: dict[str, bytes], form: Literal["NFC", "NFD"] = "NFC"
) -> list[int]:
    container = Container(blobs)
    sources = InstructionSources(container, None)
    counts = []
    for name in ("1ä.png", "2ä.png"):
        before = container.reads
        await sources.find(folder + normalize(form, name), metadata)
        counts.append(container.reads - before)
    return counts


async def test_the_documented_numbers_of_reads_are_right() -> None:
    sidecars = {f"{n}ä.png.instructions.md": b"Text" for n in (1, 2)}
    asked = {"instructions": "Text"}
    measured = [
        await reads("", asked, {}),
        await reads("", {}, sidecars),
        await reads("", {}, {}),
        await reads("a/b/", {}, {}),
        await reads("", asked | {"schema": "receipt"}, {"receipt.schema.json": RECEIPT}),
        [nfd - nfc for nfd, nfc in zip(await reads("", {}, {}, "NFD"), await reads("", {}, {}), strict=True)],
    ]
    assert [[int(cell) for cell in row[1:]] for row in rows(INSTRUCTIONS, "## What it costs")] == measured


SIDECAR, JSON_SIDECAR = "x.jpg.instructions.md", "x.jpg.instructions.json"
NEAR_MISSES: dict[str, dict[str, bytes]] = {
    "_Instructions.txt": {},
    "x.instructions.txt": {},
    "r.Schema.json": {},
    "x.jpeg.instructions.txt": {"x.jpg": PNG},
    "ä.jpg.instructions.txt": {normalize("NFD", "ä.jpg"): PNG},
}
MALFORMED: list[tuple[dict[str, bytes], dict[str, str]]] = [
    ({SIDECAR: b"---\ndetial: high\n---\nText"}, {}),
    ({SIDECAR: b"---\ndetail: best\n---\nText"}, {}),
    ({SIDECAR: b"---\ndetail: low\nText"}, {}),
    ({SIDECAR: b"---\n- detail\n---\nText"}, {}),
    ({SIDECAR: b"---\ndetail: [\n---\nText"}, {}),
    ({SIDECAR: b"---\ndetail: low\ndetail: low\n---\nText"}, {}),
    ({SIDECAR: b"---\ndetail: &a low\nschema: *a\n---\nText"}, {}),
    ({SIDECAR: b"---\nschema: " + b"[" * 99 + b"]" * 99 + b"\n---\nText"}, {}),
    ({SIDECAR: "Größe?".encode("latin-1")}, {}),
    ({SIDECAR: b"x" * (MAX_FILE_BYTES + 1)}, {}),
    ({"r.schema.json": b" " * (MAX_FILE_BYTES + 1)}, {"schema": "r"}),
    ({JSON_SIDECAR: b'{"instructions": '}, {}),
    ({JSON_SIDECAR: b'["Text"]'}, {}),
    ({JSON_SIDECAR: b'{"instructions": 7}'}, {}),
    ({}, {"schema": "receipt"}),
    ({"r.schema.json": b'{"type": "array"}'}, {"schema": "r"}),
    ({JSON_SIDECAR: b'{"schema": {"type": "array"}}'}, {}),
    ({JSON_SIDECAR: b'{"schema": {"type": "object", "properties": {"a": {"pattern": "^(?=a)"}}}}'}, {}),
    ({}, {"instructions_b64": "not base64!"}),
    ({}, {"instructions_b64": "R3L832U"}),
    ({}, {"instructions": "=?klingon?Q?nuqneH?="}),
    ({}, {"instructions": "Gr\udcfc\udcdfe"}),
    ({}, {"detail": "best"}),
    ({}, {"instruction": "Text"}),
    ({}, {"instructions_b64": "YQBi"}),
    ({SIDECAR: b"---\n!!set {detail, schema}\n---\nText"}, {}),
    ({SIDECAR: b"---\nmax_output_tokens: " + b"9" * 1001 + b"\n---\nText"}, {}),
    ({SIDECAR: b"a\0b"}, {}),
    ({JSON_SIDECAR: rb'{"instructions": "a\u0000b"}'}, {}),
    ({SIDECAR: rb"{\rtf1 Text}"}, {}),
    ({SIDECAR: gzip.compress(b"Text")[:-9]}, {}),
    ({"r.schema.json": gzip.compress(b" " * (MAX_FILE_BYTES + 1))}, {"schema": "r"}),
]


async def not_allowed() -> list[str]:
    """The messages about options that are well written, and that the app does not take."""
    needed = ("DataStorage__blobServiceUri", "DataStorage__queueServiceUri", "AZURE_OPENAI_ENDPOINT")
    environment = {**dict.fromkeys(needed, "https://a.example"), "AZURE_OPENAI_DEPLOYMENT": "vision"}
    batches = {"BATCH_DEPLOYMENT": "vision-batch", "ALLOWED_DEPLOYMENTS": "another"}
    said = []
    for settings, metadata in (
        ({}, {"service_tier": "priority"}),
        ({"LOCKED_OPTIONS": "detail"}, {"detail": "low"}),
        ({}, {"service_tier": "batch"}),
        (batches, {"service_tier": "batch", "deployment": "another"}),
    ):
        asking = Asking(Settings.from_environment(environment | settings), Container())
        found = await asking.about("x.jpg", metadata, Request(container="images", name="x.jpg"))
        assert isinstance(found, NotAsked)
        said.append(found.failure.message)
    with pytest.raises(NoSuchPages) as none:
        PageChoice.parse("9").numbers(2)
    return [*said, no_such_pages("PDF", 2, str(none.value)).message]


async def test_every_invalid_instructions_message_is_explained() -> None:
    """Each message matches a row of the table, and each row a message."""
    said = []
    dropped = [("x.jpg", blobs, metadata) for blobs, metadata in MALFORMED]
    for name, blobs, metadata in [*dropped, *((name, blobs, {}) for name, blobs in NEAR_MISSES.items())]:
        with pytest.raises(PermanentFailure) as caught:
            await InstructionSources(Container(blobs), None).find(name, metadata)
        assert caught.value.code is ErrorCode.INVALID_INSTRUCTIONS
        said.append(caught.value.message)
    at_flex = Question("?", "vision", "", "auto", 100, buying=Buying("flex", by_option=True))
    unsold = b'{"error": {"message": "Unsupported service_tier: flex", "param": "service_tier"}}'
    said.append(refusal(reason_in(400, {}, unsold, at_flex), {}, at_flex).message)
    said.append(not_taken(Question("?", "vision", "", "original", 100)).message)
    said += await not_allowed()
    explained = first_column(INSTRUCTIONS, "## When the result says invalid_instructions")
    patterns = {row: re.compile(".*".join(map(re.escape, row.split("…")))) for row in explained}
    assert [message for message in said if not any(p.search(message) for p in patterns.values())] == []
    assert [row for row, pattern in patterns.items() if not any(map(pattern.search, said))] == []


# --- structured answers ---

TEXT: dict[str, Any] = {"type": "string"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def nested(levels: int) -> dict[str, Any]:
    return of(a=nested(levels - 1)) if levels else of(a=TEXT)


@pytest.mark.parametrize(
    "schema",
    [
        {**of(a=TEXT), "required": []},
        of(a={"type": "number", "minimum": 0, "maximum": 9}),
        of(a={"type": "string", "pattern": "^[A-Z]+$", "format": "date"}),
        of(a={"type": "array", "items": TEXT, "maxItems": 3}),
        of(a={"oneOf": [TEXT, {"type": "number"}]}),
        json.loads(RECEIPT),
    ],
)
def test_schemas_documented_as_adapted_are_sent_strictly(schema: dict[str, Any]) -> None:
    sent = AnswerSchema.of(schema)
    assert sent.strict, sent.loosened
    assert not {"minimum", "pattern", "format", "maxItems", "oneOf"} & set(re.findall(r'"(\w+)":', str(sent)))


@pytest.mark.parametrize(
    "pasted",
    [
        {"type": "json_schema", "json_schema": {"name": "a", "schema": of(a=TEXT)}},
        {"name": "a", "schema": of(a=TEXT)},
        {"type": "function", "function": {"name": "a", "parameters": of(a=TEXT)}},
        of(a={"type": "string", "nullable": True}),
        {"openapi": "3.1.0", "components": {"schemas": {"A": of(a=TEXT)}}, "$ref": "#/components/schemas/A"},
    ],
)
def test_schemas_documented_as_understood_are_sent_strictly(pasted: dict[str, Any]) -> None:
    assert AnswerSchema.of(pasted).strict


@pytest.mark.parametrize(
    "schema",
    [
        of(a={"not": TEXT}),
        {**of(a=TEXT), "if": {"required": ["a"]}},
        {"type": "object", "patternProperties": {"^a": TEXT}},
        of(a={"allOf": [TEXT, {"maxLength": 3}]}),
        of(a={"type": "object"}),
        nested(5),
        of(**{f"p{n}": TEXT for n in range(101)}),
    ],
)
def test_schemas_documented_as_guidance_are_sent_as_guidance(schema: dict[str, Any]) -> None:
    assert not AnswerSchema.of(schema).strict


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"vendor": "Café Nord"},
        {**of(a=TEXT), "unevaluatedProperties": False},
        of(a={"pattern": "^(?!a)"}),
        of(a={"pattern": "a" * 4001}),
        of(a={"pattern": "^.{1,999}$"}),
        of(a={"enum": list(range(5000))}),
        of(a={"$ref": "https://example.com/schema.json"}),
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, **of(a={"$ref": "#/$defs/a"})},
        of(a={"enum": ["x" * 70_000]}),
        nested(70),
        of(a={"type": "text"}),
    ],
)
def test_schemas_documented_as_refused_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchema):
        AnswerSchema.of(schema)


# --- az ---

# What `az storage blob <command> --help` of azure-cli 2.91 lists, as far as people need it here.
AZ_ACCOUNT = {"--auth-mode", "--account-name", "--connection-string", "--query", "--output", "--only-show-errors"}
AZ_UPLOAD = {"--metadata", "--overwrite", "--content-type", "--if-none-match", "--no-progress", "--tier"}
AZ_OPTIONS = {
    "storage blob upload": {"--container-name", "--file", "--name"} | AZ_UPLOAD,
    "storage blob upload-batch": {"--destination", "--destination-path", "--source", "--pattern"} | AZ_UPLOAD,
    "storage blob list": {"--container-name", "--include", "--num-results", "--prefix"},
    "storage blob download": {"--container-name", "--name", "--file", "--no-progress", "--overwrite"},
}
RECORDER = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["AZ_RECORD"], "a", encoding="utf-8") as record:
    print(json.dumps(sys.argv[1:]), file=record)
"""


@dataclass(frozen=True)
class Call:
    """One az command line, as the shell hands it to az."""

    command: str
    options: dict[str, list[str]]

    def one(self, option: str) -> str:
        [value] = self.options[option]
        return value

    @property
    def metadata(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.options.get("--metadata", []))


def call_of(words: list[str]) -> Call:
    start = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    options: dict[str, list[str]] = {}
    for word in words[start:]:
        if word.startswith("--"):
            assert word not in options
            options[word] = []
        else:
            options[list(options)[-1]].append(word)
    return Call(" ".join(words[:start]), options)


@pytest.fixture(scope="module")
def az_calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """The shell blocks, run by a shell in a folder with the files they speak of; az only notes how it was called."""
    folder = tmp_path_factory.mktemp("az")
    programs, record = folder / "bin", folder / "calls"
    programs.mkdir()
    (programs / "az").write_text(RECORDER, encoding="utf-8")
    (programs / "az").chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "AZ_RECORD": str(record), "PYTHONUTF8": "1"}
    for block in SHELL:
        subprocess.run(["/bin/sh", "-eu", "-c", block.text], cwd=folder, env=environment, check=True)
    return [call_of(json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def test_az_is_called_with_options_that_it_has(az_calls: list[Call]) -> None:
    assert [call for call in az_calls if call.command != "login" and call.command not in AZ_OPTIONS] == []
    for call in az_calls:
        assert set(call.options) <= AZ_OPTIONS.get(call.command, set()) | AZ_ACCOUNT


MEANT = {
    "desk/photo.jpg": "Which of the labels is torn?",
    "desk/closer.jpg": "Read the small print.",
    "desk/bakery.jpg": "Was kostet das Brötchen?",
    "desk/panya.jpg": "パンはいくらですか?",
    "desk/all/1.jpg": "How many people are in this picture?",
    "shelf-7/1.jpg": next(block.text.strip() for block in FILES if block.name == "shelf-7/_instructions.md"),
}


async def test_the_documented_az_commands_ask_what_the_page_says(person: Person, az_calls: list[Call]) -> None:
    files = {block.name: block.text.encode() for block in FILES}
    for call in az_calls:
        if call.command == "storage blob upload":
            assert call.one("--container-name") == "images"
            await person.drop(call.one("--name"), files.get(call.one("--file"), PNG), call.metadata)
        elif call.command == "storage blob upload-batch":
            folder = call.one("--destination-path")
            assert (call.one("--destination"), call.one("--source")) == ("images", "shelf-7")
            await person.drop(f"{folder}/1.jpg", PNG, call.metadata)
    assert {name: (await person.result(name))["instructions"]["text"] for name in MEANT} == MEANT
    assert person.asked("Read the small print.")[0].pictures[0].detail == "high"


# --- results ---

VOLATILE = {
    *("created_at", "pipeline_version", "work_key", "attempts"),
    *("source.url", "source.etag", "source.last_modified"),
    *("model.model", "model.endpoint", "model.request_id"),
    *("usage.input_tokens", "usage.output_tokens"),
    *("timings_ms.download", "timings_ms.prepare", "timings_ms.model", "timings_ms.total"),
}
"""Fields that differ from run to run; only whether they are null is compared."""


def settled(result: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: settled(value, f"{prefix}{key}.")
        if isinstance(value, dict)
        else (value is not None if f"{prefix}{key}" in VOLATILE else value)
        for key, value in result.items()
    }


@pytest.fixture(scope="module")
async def shown(person: Person) -> list[dict[str, Any]]:
    """The results that the page shows, from the same uploads; the model says what it says there."""
    await person.drop("receipts/receipt.schema.json", RECEIPT)
    await person.drop("receipts/_instructions.md", b"---\nschema: receipts/receipt\n---\nRead this receipt.\n")
    person.scripts["Read this receipt."] = deque([Answer(DATA_ANSWERS["Read this receipt."])])
    uploads = [
        (ROOT / "samples" / "receipt.jpg").read_bytes(),
        b"PK\x03\x04" + bytes(26) + b"word/document.xml" + bytes(462),
    ]
    results = []
    for block, data in zip(SHOWN_RESULTS, uploads, strict=True):
        assert block.name is not None
        name = block.name.removeprefix("results/").removesuffix(".json")
        await person.drop(name, data, content_type="image/jpeg")
        results.append(await person.result(name))
    return results


async def test_the_documented_results_are_those_that_come_out(shown: list[dict[str, Any]]) -> None:
    for block, real in zip(SHOWN_RESULTS, shown, strict=True):
        example = json.loads(block.text)
        jsonschema.validate(example, SCHEMA, format_checker=jsonschema.FormatChecker())
        assert settled(example) == settled(real)


async def test_the_metadata_of_results_is_all_in_the_table(person: Person, shown: list[dict[str, Any]]) -> None:
    listing = person.blobs.get_container_client("results").list_blobs(
        name_starts_with="receipts/march/", include=["metadata"]
    )
    found = {key: value async for blob in listing for key, value in blob.metadata.items()}
    assert sorted(found) == sorted(first_column(RESULTS, "## Which ones failed"))
    assert found["workkey"] in {result["work_key"] for result in shown}


def model_of(section: str) -> type[BaseModel]:
    annotation = Result.model_fields[section].annotation
    return next(
        kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and kind is not type(None)
    )


FIELD_TABLES = re.findall(r"^### (.+)$", RESULTS, re.MULTILINE)


def test_every_section_of_a_result_has_its_table() -> None:
    sections = [name for name in Result.model_fields if "object" in str(dict(_types("The result")).get(name))]
    assert ["The result", *sections] == FIELD_TABLES


@pytest.mark.parametrize("section", FIELD_TABLES)
def test_the_table_of_fields_is_complete(section: str) -> None:
    """Every field, in the order of the code, and whether it may be null."""
    model = Result if section == "The result" else model_of(section)
    properties = model.model_json_schema(mode="serialization")["properties"]
    in_code = [(name, _nullable(schema)) for name, schema in properties.items()]
    assert [(name, kind.endswith("or null")) for name, kind in _types(section)] == in_code


def _types(section: str) -> list[tuple[str, str]]:
    return [(row[0].strip("`"), row[1]) for row in rows(RESULTS, f"### {section}")]


def _nullable(schema: dict[str, Any]) -> bool:
    anything = not {"type", "anyOf", "$ref", "const", "enum"} & set(schema)
    return anything or {"type": "null"} in schema.get("anyOf", [])


def test_the_table_of_error_codes_is_complete() -> None:
    assert first_column(RESULTS, "## Every error code") == list(ErrorCode)


# --- Python ---


def _id(block: Block) -> str:
    return block.text.split("\n", 1)[0]


@pytest.mark.parametrize("block", [b for b in PYTHON if "UseDevelopmentStorage" in b.text], ids=_id)
async def test_a_python_example_reads_a_result(person: Person, shown: list[dict[str, Any]], block: Block) -> None:
    """Run as a program of its own against the emulator, by the connection string that the page means."""
    code = block.text.replace("UseDevelopmentStorage=true", person.cloud.front.connection_string)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code),
        cwd=ROOT,
        env=os.environ | {"PYTHONUTF8": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, trouble = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, trouble.decode()
    if "list_blobs" in code:
        assert "unsupported_image receipts/march/002.jpg.json" in output.decode().splitlines()
        assert "001.jpg" not in output.decode()
    else:
        assert output.decode().strip() == str(shown[0]["answer"]["data"])


@given(st.text(min_size=1).map(lambda text: (text * 1200)[:1100]) | st.text(min_size=1))
def test_the_name_of_a_result_is_what_the_page_computes(image: str) -> None:
    [block] = [block for block in PYTHON if "def result_name" in block.text]
    scope: dict[str, Any] = {}
    exec(block.text, scope)  # noqa: S102 - our own page
    assert scope["result_name"](image) == result_name(image)


async def test_the_client_for_azure_can_be_made_as_shown() -> None:
    [block] = [block for block in PYTHON if "DefaultAzureCredential" in block.text]
    scope: dict[str, Any] = {}
    exec(block.text, scope)  # noqa: S102 - our own page
    with scope["results"]:
        assert scope["results"].url == "https://myaccount.blob.core.windows.net/results"


def test_every_link_has_a_target() -> None:
    for page in PAGES.values():
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page):
            path, _, anchor = target.partition("#")
            linked = ROOT / "docs" / path
            assert linked.exists(), target
            text = linked.read_text(encoding="utf-8") if path and anchor else page
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, target
