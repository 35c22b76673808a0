"""Every benchmark runs and gives figures. The figures themselves are the business of `make bench`."""

import importlib
import math
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.person import ROOT
from support.processes import PATIENCE_SECONDS, alive, descendants

from bench.__main__ import BENCHMARKS
from bench.measure import Row, in_turns, row
from bench.pictures import jpeg_of
from bench.report import BEGIN, END, PAGE, Report


@pytest.mark.usefixtures("program")  # each starts some
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_gives_figures_for_both_sides(name: str) -> None:
    """With the quick sizes, once."""
    said: list[str] = []
    rows: list[Row] = importlib.import_module(f"bench.{name}").run(1, True, said.append)
    assert rows
    assert said
    for figures in rows:
        assert figures.benchmark == name
        assert all(math.isfinite(figure) for figure in (figures.ours, figures.baseline, figures.ratio, figures.spread))
        assert figures.ours >= 0
        assert figures.baseline > 0
        assert (figures.met is None) == (figures.limit is None)


def test_contenders_take_turns() -> None:
    """So that neither side gains from going first, or from a machine that slows down."""
    began: list[str] = []
    assert in_turns(3, ours=lambda: began.append("ours"), theirs=lambda: began.append("theirs")) == {
        "ours": [None] * 3,
        "theirs": [None] * 3,
    }
    assert began == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


@pytest.mark.parametrize(
    ("ours", "at_most", "at_least", "expected"),
    [
        ([1.0, 1.5, 9.0], 1.5, None, ("≤ 1.5", True)),
        ([1.0, 1.6, 9.0], 1.5, None, ("≤ 1.5", False)),
        ([0.6, 0.5, 0.7], None, 0.6, ("≥ 0.6", True)),
        ([0.5, 0.5, 0.7], None, 0.6, ("≥ 0.6", False)),
        ([1.0, 1.0, 1.0], None, None, (None, None)),
    ],
)
def test_the_median_is_held_against_the_target(
    ours: list[float], at_most: float | None, at_least: float | None, expected: tuple[str | None, bool | None]
) -> None:
    """Expected: the target in words, and whether it is met."""
    figures = row("b", "case", "ms", ours, [1.0] * 3, baseline_name="other", at_most=at_most, at_least=at_least)
    assert (figures.target, figures.met) == expected


def test_the_spread_is_that_of_the_ratios() -> None:
    """A machine that slows down for both sides alike is not noise."""
    assert row("b", "case", "ms", [1, 2, 3], [2, 4, 6], baseline_name="other").spread == 0
    assert row("b", "case", "ms", [9, 10, 11], [10, 10, 10], baseline_name="other").spread == pytest.approx(0.1)


def test_the_report_names_what_missed_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    """On a pipe without colours or frames, one line for each row."""
    rows = [
        row("prepare", "JPEG", "ms", [10], [40], baseline_name="plain Pillow", at_most=0.3),
        row("prepare", "PNG", "ms", [50], [40], baseline_name="plain Pillow", at_most=1),
    ]
    report = Report(rows, 1, quick=False)
    assert report.verdict == "1 of 2 targets met. Missed: prepare, PNG (ms)."
    report.show()
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["JPEG", "10.0", "40.0", "plain", "Pillow", "ms", "0.25", "≤", "0.3", "met"],
        ["PNG", "50.0", "40.0", "plain", "Pillow", "ms", "1.25", "≤", "1", "missed"],
    ]
    assert "| PNG | 50.0 | 40.0 | plain Pillow | ms | 1.25 |  | ≤ 1 | missed |" in report.markdown()


def test_the_page_has_a_place_for_the_table() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert 0 < page.index(BEGIN) < page.index(END)


def test_the_tables_of_some_benchmarks_go_into_the_page_and_leave_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.report.ROOT", tmp_path)
    page = tmp_path / PAGE
    page.parent.mkdir()
    one, two = (row(name, "JPEG", "ms", [1.0], [2.0], baseline_name="other") for name in ("model_leg", "prepare"))
    page.write_text(f"# Cost\n\n{BEGIN}\n\n{Report([one, two], 1, quick=False).markdown()}\n{END}\n\nThe end.\n")
    whole = page.read_text()
    better = row("prepare", "JPEG", "ms", [1.0], [4.0], baseline_name="other")
    new = row("pages", "PDF", "ms", [3.0], [4.0], baseline_name="other")
    for _ in range(2):
        Report([better, new], 3, quick=False).publish_parts()
    text = page.read_text()
    assert text.startswith(whole[: whole.index("### Prepare")])
    assert text.endswith(whole[whole.index(f"\n{END}") :])
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### Model leg",
        "### Prepare",
        "### Pages",
    ]
    assert text.count("| JPEG | 1.00 | 4.00 | other | ms | 0.25 |") == text.count("| PDF | 3.00 | 4.00 |") == 1
    assert text.count("3 repeats") == 2


@pytest.mark.parametrize("size", [20_000, 69_000, 100_000, 1_000_001])
def test_a_made_jpeg_has_just_the_size_asked_for(size: int) -> None:
    assert len(jpeg_of(size)) == size


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminate"])
def test_stopping_leaves_nothing_running(sent: signal.Signals, program: Callable[..., list[str]]) -> None:
    with subprocess.Popen(
        program("bench", "growth"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        started = descendants(bench, at_least=3)  # stand-in, contender, worker
        bench.send_signal(sent)
        _, talked = bench.communicate(timeout=PATIENCE_SECONDS)
    assert (bench.returncode, talked.splitlines()[-1]) == (130, "Stopped.")
    psutil.wait_procs(started, timeout=10)
    assert alive(started) == []
