"""How commands end: at a pipe that is closed, and when they can't go on, for programs as well."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import pytest
from support.person import ROOT, Person
from support.pictures import picture
from support.some_results import failed, put_result, result_of
from support.terminal import blobsight

from blobsight.terminal import Exit

NOBODY_THERE = "BlobEndpoint=http://127.0.0.1:9/a;AccountName=a;AccountKey=YQ=="
OPTIONS = ("--images", "ending-images", "--results", "ending-results")
COMMANDS = {
    "results": ("results", *OPTIONS),
    "results of one": ("results", "a.png", *OPTIONS),
    "status": ("status", *OPTIONS),
    "status --json": ("status", "--json", *OPTIONS),
    "status --failed": ("status", "--failed", *OPTIONS),
    "status --watch": ("status", "--watch", *OPTIONS),
    "show": ("show", "a.png", *OPTIONS),
    "show --json": ("show", "a.png", "--json", *OPTIONS),
    "estimate": ("estimate", "--in-container", "", *OPTIONS),
    "retry": ("retry", "--dry-run", *OPTIONS),
    "upload": ("upload", "samples", "--dry-run", *OPTIONS),
    "doctor": ("doctor", *OPTIONS),
    "help": ("--help",),
    "help of one": ("results", "--help"),
    "version": ("--version",),
}


@pytest.fixture(scope="module")
async def account(person: Person) -> dict[str, str]:
    """The environment that names an account whose containers hold something to say for every command."""
    images, results = (person.blobs.get_container_client(f"ending-{kind}") for kind in ("images", "results"))
    await images.create_container()
    await results.create_container()
    for name, result in {"a.png": result_of("a.png"), "b.png": failed("b.png")}.items():
        etag = (await (await images.upload_blob(name, picture())).get_blob_properties()).etag.strip('"')
        code = {"errorcode": "crashed"} if result.error else {}
        await put_result(results, name, result, sourceetag=etag, **code)
    return dict(os.environ) | {"AZURE_STORAGE_CONNECTION_STRING": person.cloud.front.connection_string}


async def into_nothing(
    command: tuple[str, ...], environment: dict[str, str], *, talk_too: bool = False
) -> tuple[int | None, str]:
    """Exit status and talk of a command whose output is closed from the start."""
    reader, output = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blobsight", *command),
        stdout=output,
        stderr=output if talk_too else PIPE,
        cwd=ROOT,
        env=environment,
    )
    os.close(output)
    _, talk = await process.communicate()
    return process.returncode, (talk or b"").decode()


@pytest.mark.parametrize("few", [list(COMMANDS)[n::5] for n in range(5)], ids=" and ".join)
async def test_a_closed_pipe_ends_every_command_quietly(few: list[str], account: dict[str, str]) -> None:
    ended = await asyncio.gather(*(into_nothing(COMMANDS[name], account) for name in few))
    for name, (status, talk) in zip(few, ended, strict=True):
        assert status == Exit.PIPE_CLOSED, (name, talk)
        for sign in ("Traceback", "Exception ignored", "Broken", "error"):
            assert sign not in talk, (name, talk)


async def test_errors_into_a_closed_pipe_end_quietly_too(account: dict[str, str]) -> None:
    """As in `blobsight … 2>&1 | head`."""
    commands = [COMMANDS["estimate"], ("upload", "samples", "--images", "no-such-images"), ("show",)]
    ended = await asyncio.gather(*(into_nothing(command, account, talk_too=True) for command in commands))
    assert [status for status, _ in ended] == [Exit.PIPE_CLOSED] * len(commands)


@pytest.mark.parametrize(
    ("arguments", "status", "code", "message"),
    [
        (("show", "nothing-like-it", *OPTIONS), 3, None, "There is no image 'nothing-like-it'"),
        (("status", "--images", "no-such-images"), 3, "ContainerNotFound", "has no container 'no-such-images'"),
        (("retry", "--yes", "--images", "no-such-images"), 3, "ContainerNotFound", "no container"),
        (("upload", "samples", "--images", "no-such-images"), 3, "ContainerNotFound", "no container"),
        (("upload", "/no-such-file.png", "--images", "no-such-images"), 1, None, None),
        (("estimate", "--in-container", "no/such/", *OPTIONS), 3, None, "what you named holds no images"),
        (("results", "no/such/", *OPTIONS), 3, None, "' has no result"),
        (("doctor", "--connection-string", "nonsense"), 3, None, "That is not a storage connection string"),
        (("status", "--connection-string", NOBODY_THERE), 3, None, "can't be reached"),
        (("estimate",), 2, None, "Give either paths on this machine"),
        (("retry", "--all", "--missing", "--yes"), 2, None, "give one"),
        (("status", "--no-such-option"), 2, None, "No such option"),
        (("no-such-command",), 2, None, "No such command"),
        (("show", ""), 2, None, "a blob can't have this name"),
        (("show", "a/../../results/a.png.json"), 2, None, "a blob can't have this name"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("account")
async def test_a_command_that_can_not_go_on_says_so_to_programs_too(
    person: Person, arguments: tuple[str, ...], status: int, code: str | None, message: str | None
) -> None:
    ran = await blobsight(None if "--connection-string" in arguments else person, *arguments, "--json")
    assert ran.status == status
    output = ran.json()
    if message is None:
        assert output["problems"][0]["error"]["message"] == "it does not exist"
    else:
        assert list(output) == ["error"]
        assert output["error"]["code"] == code
        assert message in output["error"]["message"]
        assert message in ran.talk


async def test_names_without_a_blob_are_reported_and_not_queued(person: Person) -> None:
    """Half of a file name in another code page, a path out of the container; and a list of such files."""
    not_utf8 = os.fsdecode(b"caf\xe9.png")
    shown = (blobsight(person, "show", name) for name in (not_utf8, "..", "x" * 1025))
    assert {(ran.status, "a blob can't have this name" in ran.talk) for ran in await asyncio.gather(*shown)} == {
        (2, True)
    }
    commands = ("results", "status", "retry --yes", "estimate --in-container")
    begun = (blobsight(person, *command.split(), not_utf8) for command in commands)
    assert {(ran.status, "it is not UTF-8" in ran.talk) for ran in await asyncio.gather(*begun)} == {(2, True)}
    assert (await blobsight(person, "results", "..")).status == 3
