"""The local cloud as a whole: what is kept, the commands it prints for people, what ends with what."""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import aiohttp
import psutil
import pytest
from azure.storage.blob.aio import BlobServiceClient
from support.person import ROOT, Echo, Person
from support.pictures import picture

from localcloud.cloud import LocalCloud
from localcloud.gallery import gallery
from localcloud.up import GUIDE


async def test_uploads_and_results_survive_a_restart(tmp_path: Path, local_cloud: type[LocalCloud]) -> None:
    for start in ("first", "second"):
        cloud = local_cloud(directory=tmp_path, app=ROOT, in_memory=False, log=tmp_path / "log", brain=Echo())
        async with cloud, BlobServiceClient.from_connection_string(cloud.front.connection_string) as blobs:
            person = Person(cloud, blobs, tmp_path / "log")
            await person.drop(f"{start}.png", picture(), {"instructions": start})
            assert (await person.result(f"{start}.png"))["status"] == "succeeded"
            assert (await person.result("first.png"))["answer"]["text"] == "You asked: first"


def test_the_commands_that_are_printed_can_be_pasted(tmp_path: Path) -> None:
    """Run by a shell, with programs that only print their arguments."""
    for name in ("az", "curl"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*"\n')
        program.chmod(0o755)
    guide = GUIDE.format(
        gallery="http://127.0.0.1:7080/open/x", key="KEY", url="http://127.0.0.1:7071", kept=".local/up"
    )
    lines = guide.replace("\\\n", " ").splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith(("az ", "curl "))]
    done = subprocess.run(
        ["bash", "-c", "\n".join(commands)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["az", "az", "curl"]
    assert [" ".join(shlex.split(command)) for command in commands] == done.stdout.splitlines()


@pytest.mark.usefixtures("program")
async def test_the_gallery_runs_beside_the_cloud_and_ends_with_it(person: Person, tmp_path: Path) -> None:
    """As `make up` starts it: a guardian, and the gallery."""
    connection = person.cloud.front.connection_string
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    async with (
        gallery("--connection-string", connection, log=tmp_path / "gallery.log") as address,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        assert address
        async with http.get(address) as answer:
            assert answer.status == 200
        async with http.get(f"{address.partition('/open/')[0]}/api/session") as answer:
            assert (await answer.json())["images"] == "images"
        started = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
        assert len(started) >= 2
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


async def test_a_gallery_that_does_not_start_leaves_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "gallery.log"
    async with gallery("--no-such-option", log=log) as address:
        assert address is None
    assert "No such option" in log.read_text(encoding="utf-8")


def test_nothing_outlives_a_launcher_that_is_killed(program: Callable[..., list[str]]) -> None:
    """Not even SIGKILL, which no process can handle, leaves an emulator or a functions host behind."""
    demo = subprocess.Popen(
        program("localcloud", "demo"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with demo:
        deadline = monotonic() + 60
        started: list[psutil.Process] = []
        while len(started) < 5:  # two guardians, emulator, functions host, worker
            assert monotonic() < deadline
            started = psutil.Process(demo.pid).children(recursive=True)
            sleep(0.05)
        demo.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
