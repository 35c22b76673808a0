"""The report on the simulated days: a table, JSON, docs/scaling.md, and a plot of the queues."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from bench.measure import ROOT
from bench.simulation.burst import Report

KEPT = Path(".local") / "simulation"
"""Below the root: the last run's `results.json` and `scaling.svg`."""
PAGE, PLOT = "docs/scaling.md", "docs/scaling.svg"
BEGIN, END = "<!-- make simulate: begin -->", "<!-- make simulate: end -->"
WIDE = 200
"""Width in characters where the output is not a terminal."""

PRICES = {"blob write": 0.05, "blob read": 0.004, "queue": 0.004, "delete": 0.0}
"""US dollars for 10,000 operations (hot, LRS), assumed. Prices differ between regions and change. See
https://azure.microsoft.com/pricing/details/storage/blobs/"""


def show(reports: Mapping[str, Report]) -> None:
    """Write a table to stdout, with a column for each day."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=HORIZONTALS if console.is_terminal else None, pad_edge=False)
    table.add_column()
    for name in reports:
        table.add_column(name, justify="right")
    for heading, cells in _rows(reports):
        table.add_row(heading, *cells)
    console.print(table)


def write(reports: Mapping[str, Report]) -> Path:
    """Write everything, and return the folder."""
    folder = ROOT / KEPT
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: asdict(report) for name, report in reports.items()}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return KEPT


def plot(reports: Mapping[str, Report], path: Path) -> None:
    from bench.simulation.plot import plot_queues  # noqa: PLC0415 - matplotlib, which only `make simulate` installs

    plot_queues(reports, path)


def publish(reports: Mapping[str, Report]) -> None:
    """Write the table into docs/scaling.md, between its two marks, and the plot next to that page."""
    page = ROOT / PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{markdown(reports)}\n{END}{after}", encoding="utf-8")
    plot(reports, ROOT / PLOT)


def markdown(reports: Mapping[str, Report]) -> str:
    """A row for each day: the table of `show`, turned."""
    rows = _rows(reports)
    lines = [
        "| | " + " | ".join(heading for heading, _ in rows) + " |",
        "| --- |" + " ---: |" * len(rows),
    ]
    lines += [
        f"| {name} | " + " | ".join(cells[number] for _, cells in rows) + " |" for number, name in enumerate(reports)
    ]
    return "\n".join(lines) + "\n"


def _rows(reports: Mapping[str, Report]) -> list[tuple[str, list[str]]]:
    each = list(reports.values())
    return [
        ("images", [f"{one.scenario.images:,}" for one in each]),
        ("tokens a minute", [f"{one.scenario.quota:,.0f}" for one in each]),
        ("drained in", [_time(one.drained_seconds) for one in each]),
        ("quota's ideal", [_time(one.ideal_seconds) for one in each]),
        ("quota used", [f"{one.quota_used:.1%}" for one in each]),
        ("calls refused", [f"{one.refused_share:.1%}" for one in each]),
        ("half done within", [_time(one.waits["half"]) for one in each]),
        ("longest wait", [_time(one.waits["longest"]) for one in each]),
        ("most queued", [f"{one.most_waiting:,}" for one in each]),
        ("deliveries per image", [f"{one.deliveries / one.scenario.images:.2f}" for one in each]),
        ("deferred", [f"{one.deferred:,}" for one in each]),
        ("storage operations per image", [f"{one.operations_per_image:.1f}" for one in each]),
        ("their price for a million images", [f"${cost(one):,.0f}" for one in each]),
        ("instance hours", [f"{one.instance_hours:,.0f}" for one in each]),
        ("results", [", ".join(f"{count:,} {what}" for what, count in one.results.items()) for one in each]),
    ]


def cost(report: Report) -> float:
    """US dollars for the storage operations of a million images."""
    paid = sum(count / 10_000 * PRICES[kind] for kind, count in report.operations.items())
    return paid / report.scenario.images * 1_000_000


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
