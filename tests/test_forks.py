"""Commands that the tests run in forks end as those that people start."""

import sys
from pathlib import Path

import pytest
from support.forks import CAN_FORK, forks
from support.pictures import picture
from support.terminal import Ran, started

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="there are forks on Linux only")


async def ran(command: list[str], *arguments: str, stdin: str = "") -> Ran:
    process = await started(None, *arguments, command=command)
    said, talk = await process.communicate(stdin.encode())
    return Ran(process.returncode or 0, said.decode(), talk.decode())


async def test_a_fork_says_and_ends_as_a_process_does(tmp_path: Path) -> None:
    """Arguments, streams and the status of a run that reads its input, writes both outputs and fails in part."""
    image = tmp_path / "ä.png"
    image.write_bytes(picture("PNG", (64, 64)))
    arguments, stdin = ("estimate", "-", "--json"), f"{image}\n{tmp_path / 'none.png'}\n"
    process = await ran([sys.executable, "-m", "blobsight"], *arguments, stdin=stdin)
    assert await ran(forks(), *arguments, stdin=stdin) == process
    assert (process.status, process.json()["images"]) == (1, 1)


async def test_a_fork_has_the_environment_of_its_caller_and_no_other() -> None:
    """The second of two knows nothing of the first."""
    named = await started(None, "status", command=forks(), environment={"BLOBSIGHT_ACCOUNT": "No Name"})
    _, talk = await named.communicate()
    assert "Invalid value for --account" in talk.decode()
    assert "No storage account is named" in (await ran(forks(), "status")).talk
