"""`make demo` and `make up` as people run them: a process, a terminal, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.person import ROOT
from support.processes import PATIENCE_SECONDS, alive, descendants

SAMPLES = json.loads((ROOT / "samples" / "samples.json").read_text(encoding="utf-8"))


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "120"},
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_demo_answers_every_sample_and_leaves_nothing_running(program: Callable[..., list[str]]) -> None:
    with running(program("localcloud", "demo")) as demo:
        started = descendants(demo, at_least=3)  # emulator, functions host, worker
        shown, talked = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 0, talked
    for sample in SAMPLES:
        assert sample["file"] in shown
        result = json.loads(
            (ROOT / ".local" / "demo" / "results" / f"{sample['file']}.json").read_text(encoding="utf-8")
        )
        assert (result["status"], result["instructions"]["text"]) == ("succeeded", sample["instructions"])
    page = (ROOT / ".local" / "demo" / "answers.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == len(SAMPLES)
    assert "open .local/demo/answers.html in a browser" in talked
    assert "\x1b" not in shown + talked
    assert alive(started) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminate"])
def test_stopping_the_demo_half_way_leaves_nothing_running(
    sent: signal.Signals, program: Callable[..., list[str]]
) -> None:
    with running(program("localcloud", "demo")) as demo:
        started = descendants(demo, at_least=3)
        demo.send_signal(sent)
        _, talked = demo.communicate(timeout=PATIENCE_SECONDS)
    assert (demo.returncode, "Traceback" in talked) == (130, False), talked
    assert alive(started) == []


def test_a_port_in_use_is_one_clear_line(program: Callable[..., list[str]]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 10000))
        taken.listen()
        with running(program("localcloud", "up")) as up:
            _, talked = up.communicate(timeout=PATIENCE_SECONDS)
    lines = talked.strip().splitlines()
    assert up.returncode == 1
    assert len(lines) == 1
    assert "10000" in lines[0]
