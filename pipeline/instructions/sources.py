"""The sources of instructions, in the operator's order of authority: the first one that has text wins.

Options are merged over the sources that were looked at: a key that an earlier source sets is not changed by a later
one. Once the text is found, only request and metadata are still looked at, since they are at hand: so an image with
instructions in its metadata costs no further storage operation. Otherwise the sidecar costs three (one for each
ending), and each folder three, once in `CACHE_SECONDS` per instance.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from cachetools import TTLCache

from pipeline.errors import ErrorCode, PermanentFailure
from pipeline.instructions.authority import Authority, Origin
from pipeline.instructions.files import (
    MAX_FILE_BYTES,
    InstructionFile,
    InvalidFile,
    parse_file,
    parse_json,
    unpacked_file,
)
from pipeline.instructions.metadata_text import UndecodableText, decode_base64, decode_text
from pipeline.instructions.misnamed import Misnamed, misnamed, other_forms, other_writings, usual_form
from pipeline.instructions.options import NAMES, InvalidOption, Options, parse_options
from pipeline.instructions.plain_text import visible_text
from pipeline.junk import has_image_ending
from pipeline.names import folder_files, folders_of, image_of_sidecar, is_blob_name, schema_blob, sidecars
from pipeline.one_line import short
from pipeline.schemas import AnswerSchema, InvalidSchema

BUILT_IN = "Describe this image."

_AT_HAND = frozenset({Origin.REQUEST, Origin.METADATA})
"""Sources that cost no storage operation."""

CACHE_SECONDS = 30
"""How long an instance goes by what a folder's instruction file (or a schema blob) said when it last looked."""
CACHED_BYTES = 32 * 1024 * 1024
"""Bytes of their contents that an instance holds at most, by the estimate of the two below."""
ENTRY_BYTES = 1_000
"""Bytes for a file that is not there: nearly all entries are folders without one."""
HELD_PER_BYTE = 32
"""Bytes that one byte of a file becomes at most when it is parsed: `[],` are 3, a list takes 64 and its place."""
PARSED_AT_ONCE_BYTES = 8 * 1024
"""Bytes that the slowest parser reads in a few milliseconds; anything longer is parsed in a thread."""


_NEARLY_A_KEY = re.compile(r"_*instructions?_*(?P<base64>b(?:ase)?_?64)?_*")
"""Nothing that other tools write: they have `prompt`, `description` and the like."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """The instructions found. `origin_name` is the metadata key, file or setting that holds the text, if any."""

    text: str
    origin: Origin
    origin_name: str | None = None
    options: Options = field(default_factory=Options)
    schema: AnswerSchema | None = None
    """The schema that `options.schema` stands for."""

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class Files(Protocol):
    """The container of instruction files: the input container, unless there is one of its own."""

    async def read_start(self, name: str, length: int) -> bytes | None:
        """At most `length` bytes of the blob, None if there is none."""


class InstructionSources:
    """Finds the instructions of images; one per process, since it remembers folder files."""

    def __init__(self, files: Files, default_text: str | None, authority: Authority | None = None) -> None:
        self._files = files
        self._authority = authority or Authority()
        self._default_text = visible_text(default_text or "")
        self._remembered = _Remembered()

    async def find(
        self, name: str | None, metadata: Mapping[str, str], request: str | None = None, given: Options | None = None
    ) -> Instructions:
        """The instructions for one image.

        Args:
            name: the image blob's, None for an image that came by HTTP.
            metadata: the image blob's, as the service returned it.
            request: the text of the request itself (a re-analysis, the HTTP parameter).
            given: the request's own options.

        Raises:
            PermanentFailure: `invalid_instructions`, when a source that was looked at can't be understood. The next
                one is not asked then: the person meant this one. Also for an upload that is itself an instruction file
                under a wrong name, see `misnamed`.
            RetryableFailure: storage could not be read.
        """
        if name is not None and (failure := await self.misnamed(name)):
            raise failure
        # Metadata keys keep the case they were written in, but Azure compares them without it.
        metadata = {key.lower(): value for key, value in metadata.items()}
        found: tuple[str, Origin, str | None] | None = None
        options = Options()
        for origin in self._authority.sources:
            if found and origin not in _AT_HAND:
                continue
            async for said in self._said_by(origin, name, metadata, request, given, wants_text=found is None):
                self._require_allowed(said, origin)
                options = options.over(said.options)
                if said.text and found is None:
                    found = said.text, origin, said.name
                    break
        text, origin, origin_name = found or (BUILT_IN, Origin.BUILT_IN, None)
        if not _is_encodable(text):
            raise _invalid(f"The instructions ({short(origin_name or origin)}) hold half a character: write it out.")
        if "\0" in text:
            raise _invalid(f"The instructions ({short(origin_name or origin)}) hold a NUL character: leave it out.")
        return Instructions(text, origin, origin_name, options, await self._schema(options.schema_))

    async def misnamed(self, name: str) -> PermanentFailure | None:
        """The failure of an upload that was meant as an instruction file and does not count as one; None for others.

        Nearly all is told by the name. Only of a sidecar, whose image the caller did not find, is it looked whether
        that image is there under another form of its name.

        Raises:
            RetryableFailure: storage could not be read.
        """
        if not self._authority.uploaders_files_count:
            return None
        meant = misnamed(name)
        if meant and (meant.is_certain or meant.image is None):
            return _misnamed(name, meant)
        image = image_of_sidecar(name)
        if image is None:
            return None
        ending = name.removeprefix(image)
        if not has_image_ending(image):
            return _without_ending(name, image, ending)
        for other in other_forms(image):
            if await self._files.read_start(other, 1) is not None:
                return _in_another_form(name, other + ending)
        others = other_writings(image)
        found = await asyncio.gather(*(self._files.read_start(other, 1) for other in others))
        there = next((other for other, start in zip(others, found, strict=True) if start is not None), None)
        return None if there is None else _of_another_writing(name, image, there, ending)

    async def _said_by(  # noqa: PLR0913 - all that is known of the image
        self,
        origin: Origin,
        name: str | None,
        metadata: Mapping[str, str],
        request: str | None,
        given: Options | None,
        *,
        wants_text: bool,
    ) -> AsyncIterator["_Said"]:
        match origin:
            case Origin.REQUEST:
                yield _Said(None, "The request", visible_text(request or ""), given or Options())
            case Origin.METADATA:
                options = _metadata_options(metadata)
                key, text = (_metadata_text(metadata) if wants_text else None) or (None, "")
                yield _Said(key, "The blob's metadata", text, options)
            case Origin.SIDECAR if name is not None:
                for file in await self._sidecars(name):
                    yield _said_in(*file)
            case Origin.FOLDER if name is not None:
                for folder in folders_of(name):
                    for file in await self._remembered.get(("folder", folder), partial(self._read_folder, folder)):
                        yield _said_in(*file)
            case Origin.SETTING:
                yield _Said("DEFAULT_INSTRUCTIONS", "", self._default_text, Options())

    def _require_allowed(self, said: "_Said", origin: Origin) -> None:
        try:
            self._authority.require_allowed(said.options, origin)
        except InvalidOption as error:
            raise _invalid(f"{said.called} can't be used: {error}.", option=error.option) from None

    async def _sidecars(self, name: str) -> list[tuple[str, InstructionFile]]:
        if found := await self._read(sidecars(name)):
            return found
        if not self._authority.files_are_the_operators and (usual := usual_form(name)) != name:
            # A sidecar in the usual form, which came first: its own event found no image. Few names are in another one.
            for file_name, _ in await self._read(sidecars(usual)):
                raise _in_another_form(file_name, name + file_name.removeprefix(usual))
        return []

    async def _read_folder(self, folder: str) -> tuple[list[tuple[str, InstructionFile]], int]:
        """Its instruction files, and how many bytes they have."""
        contents = await self._contents(folder_files(folder))
        return await _all_parsed(contents), sum(map(len, contents.values()))

    async def _read(self, names: list[str]) -> list[tuple[str, InstructionFile]]:
        """Those of these files that exist."""
        return await _all_parsed(await self._contents(names))

    async def _contents(self, names: list[str]) -> dict[str, bytes]:
        contents = await asyncio.gather(*(self._files.read_start(name, MAX_FILE_BYTES + 1) for name in names))
        found = {name: data for name, data in zip(names, contents, strict=True) if data is not None}
        return {name: _unpacked(f"The instruction file '{short(name)}'", name, data) for name, data in found.items()}

    async def _schema(self, schema: dict[str, Any] | str | None) -> AnswerSchema | None:
        if schema is None:
            return None
        if isinstance(schema, str):
            name = schema_blob(schema)
            return await self._remembered.get(("schema", name), partial(self._read_schema, name))
        text = json.dumps(schema, default=str)
        compiled = partial(_compiled, text, "The schema in the instructions")
        return await self._remembered.get(("inline schema", text), compiled)

    async def _read_schema(self, name: str) -> tuple[AnswerSchema, int]:
        if not is_blob_name(name):
            raise _invalid(f"The schema '{short(name)}' has no name that a blob can have: correct it.")
        called = f"The schema '{short(name)}'"
        data = await self._files.read_start(name, MAX_FILE_BYTES + 1)
        if data is None:
            raise _invalid(f"{called} is not in the input container: upload it, or correct its name.", file=name)
        if len(data) > MAX_FILE_BYTES:
            raise _invalid(f"{called} is larger than the {MAX_FILE_BYTES:,} bytes that are read.", file=name)
        return await _compiled(_unpacked(called, name, data), called, file=name)


@dataclass(frozen=True, slots=True)
class _Said:
    """The contents of one source: a text, or "", and options. `called` begins a sentence about it."""

    name: str | None
    called: str
    text: str
    options: Options


def _said_in(name: str, file: InstructionFile) -> _Said:
    return _Said(name, f"The instruction file '{short(name)}'", file.text or "", file.options)


async def _all_parsed(contents: Mapping[str, bytes]) -> list[tuple[str, InstructionFile]]:
    return [(name, await _parsed(name, data)) for name, data in contents.items()]


async def _parsed(name: str, data: bytes) -> InstructionFile:
    try:
        if len(data) > PARSED_AT_ONCE_BYTES:
            return await asyncio.to_thread(parse_file, name, data)
        return parse_file(name, data)
    except InvalidFile as error:
        raise _invalid(f"The instruction file '{short(name)}' can't be used, {error}.", file=name) from None


def _unpacked(called: str, name: str, data: bytes) -> bytes:
    try:
        return unpacked_file(data)
    except InvalidFile as error:
        raise _invalid(f"{called} can't be used: {error}.", file=name) from None


async def _compiled(text: str | bytes, called: str, **details: str) -> tuple[AnswerSchema, int]:
    """The schema, and how many bytes it has. In a thread: a large one takes a while to look through."""
    try:
        return await asyncio.to_thread(
            lambda: AnswerSchema.of(json.loads(text) if isinstance(text, str) else parse_json(text))
        ), len(text)
    except (InvalidSchema, InvalidFile) as error:
        raise _invalid(f"{called} can't be used: {error}.", **details) from None


def _misnamed(name: str, meant: Misnamed) -> PermanentFailure:
    if meant.right.endswith(".schema.json"):
        return _invalid(
            f"'{short(name)}' is nearly the name of a schema, but not exactly, so instructions can't name it. If it is"
            f" one, upload it as '{short(meant.right)}'.",
            file=name,
            right_name=meant.right,
        )
    if meant.image is not None and not has_image_ending(meant.image):
        return _without_ending(name, meant.image, meant.right.removeprefix(meant.image))
    asked = f"the image '{short(meant.image)}'" if meant.image else "the images of its folder"
    saved = "" if meant.is_text else "save it as plain text and "
    return _invalid(
        f"'{short(name)}' is nearly the name of an instruction file, but not exactly, so it does not count as one. If"
        f" it says what to ask about {asked}, {saved}upload it as '{short(meant.right)}'.",
        file=name,
        right_name=meant.right,
    )


def _without_ending(name: str, image: str, ending: str) -> PermanentFailure:
    wanted, example = short(image), f"{image}.jpg"
    return _invalid(
        f"'{short(name)}' is the instruction file of an image called '{wanted}', and there is no such image. An"
        f" instruction file has the whole name of its image, ending included: '{short(example + ending)}' for"
        f" '{short(example)}'. Upload it under that name. (If '{wanted}' is still to come, upload that: this file"
        " counts for it.)",
        file=name,
        right_name=f"{example}{ending}",
    )


def _in_another_form(name: str, right: str) -> PermanentFailure:
    return _invalid(
        f"The names of the instruction file '{short(name)}' and of its image look alike, but their accented letters"
        " are encoded in different ways (Unicode NFC and NFD). Copy the image's name, and upload the file under it;"
        " `blobsight upload` does that.",
        file=name,
        right_name=right,
    )


def _of_another_writing(name: str, image: str, there: str, ending: str) -> PermanentFailure:
    right = there + ending
    return _invalid(
        f"'{short(name)}' is the instruction file of an image called '{short(image)}', and there is no such image, but"
        f" there is '{short(there)}'. If it is meant for that one, upload it as '{short(right)}'. (If '{short(image)}'"
        " is still to come, upload that: this file counts for it.)",
        file=name,
        right_name=right,
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


type _Key = tuple[str, str]
"""A kind, and a name within it."""
type _Loaded = tuple[Any, int]
"""A value that was read, and the number of bytes it was read from, those of its name included."""


class _Remembered:
    """Remembers what was loaded, for a while and as long as it fits; callers at the same time share one load."""

    def __init__(self) -> None:
        self._known: TTLCache[_Key, _Loaded] = TTLCache(CACHED_BYTES, CACHE_SECONDS, getsizeof=_held)
        self._loading: dict[_Key, asyncio.Future[_Loaded]] = {}

    async def get[Value](self, key: _Key, load: Callable[[], Awaitable[tuple[Value, int]]]) -> Value:
        known = self._known.get(key)
        if known is None:
            task = self._loading.get(key)
            if task is None:
                task = self._loading[key] = asyncio.ensure_future(self._load(key, load))
            known = await asyncio.shield(task)  # one asker's cancellation is not the others'
        value: Value | PermanentFailure = known[0]
        if isinstance(value, PermanentFailure):
            raise value.with_traceback(None)  # or it would grow with each asker
        return value

    async def _load(self, key: _Key, load: Callable[[], Awaitable[_Loaded]]) -> _Loaded:
        try:
            value, size = await load()
        except PermanentFailure as failure:
            value, size = failure, 0
        finally:
            del self._loading[key]
        self._known[key] = loaded = value, size + len(key[1])
        return loaded


def _held(loaded: _Loaded) -> int:
    return ENTRY_BYTES + HELD_PER_BYTE * loaded[1]


def _metadata_text(metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """The key that holds the instructions, and their text."""
    for key, decode in (("instructions_b64", decode_base64), ("instructions", decode_text)):
        try:
            text = visible_text(decode(metadata.get(key, "")))
        except UndecodableText as error:
            raise _invalid(f"The blob's metadata '{key}' can't be read: {error}.", metadata=key) from None
        if text:
            return key, text
    for key, value in metadata.items():
        if value.strip() and (near := _NEARLY_A_KEY.fullmatch(key)) and key not in ("instructions", "instructions_b64"):
            right = "instructions_b64" if near["base64"] else "instructions"
            raise _invalid(
                f"The blob's metadata '{short(key)}' is nearly the key of instructions, but not exactly, so it does not"
                f" count. If it says what to ask, write '{right}'.",
                metadata=key,
                right_key=right,
            )
    return None


def _metadata_options(metadata: Mapping[str, str]) -> Options:
    try:
        return parse_options({key: value.strip() for key in NAMES if (value := metadata.get(key, "")).strip()})
    except InvalidOption as error:
        raise _invalid(f"The blob's metadata can't be used: {error}.", metadata=error.option) from None


def _invalid(message: str, **details: str) -> PermanentFailure:
    return PermanentFailure(ErrorCode.INVALID_INSTRUCTIONS, message, details or None)
