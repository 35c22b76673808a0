"""The report on the simulated days: a table, JSON, docs/scaling.md, and a plot of the queues."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

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

PRICES = {
    "blob write": 0.05, "blob read": 0.004, "blob metadata": 0.004, "listing": 0.05, "queue": 0.004, "delete": 0.0
}  # fmt: skip
"""US dollars for 10,000 operations (hot, LRS), assumed. Prices differ between regions and change. See
https://azure.microsoft.com/pricing/details/storage/blobs/"""


type Rows = list[tuple[str, list[str]]]
"""Of a table: a heading, and a figure for each of its columns."""


def show(names: Iterable[str], rows: Rows) -> None:
    """Write a table to stdout, with a column for each of the `names`."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=HORIZONTALS if console.is_terminal else None, pad_edge=False)
    table.add_column()
    for name in names:
        table.add_column(name, justify="right")
    for heading, cells in rows:
        table.add_row(heading, *cells)
    console.print(table)


def write(reports: Mapping[str, Any], file: str = "results.json") -> Path:
    """Write everything, and return the folder."""
    folder = ROOT / KEPT
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: asdict(report) for name, report in reports.items()}
    (folder / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return KEPT


def plot(reports: Mapping[str, Report], path: Path) -> None:
    from bench.simulation.plot import plot_queues  # noqa: PLC0415 - matplotlib, which only `make simulate` installs

    plot_queues(reports, path)


def publish(table: str, begin: str = BEGIN, end: str = END) -> None:
    """Write the table into docs/scaling.md, between its two marks."""
    page = ROOT / PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{table}\n{end}{after}", encoding="utf-8")


def turned(names: Iterable[str], rows: Rows) -> str:
    """The table of `show` in Markdown, turned: a row for each of the `names`."""
    lines = [
        "| | " + " | ".join(heading for heading, _ in rows) + " |",
        "| --- |" + " ---: |" * len(rows),
    ]
    lines += [
        f"| {name} | " + " | ".join(cells[number] for _, cells in rows) + " |" for number, name in enumerate(names)
    ]
    return "\n".join(lines) + "\n"


def straight(names: Iterable[str], rows: Rows) -> str:
    """The table of `show` in Markdown."""
    names = list(names)
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    lines += [f"| {heading} | " + " | ".join(cells) + " |" for heading, cells in rows]
    return "\n".join(lines) + "\n"


def rows(reports: Mapping[str, Report]) -> Rows:
    """Of the simulated days."""
    each = list(reports.values())
    return [
        ("images", [f"{one.scenario.images:,}" for one in each]),
        ("tokens a minute", [f"{one.scenario.quota:,.0f}" for one in each]),
        ("drained in", [duration(one.drained_seconds) for one in each]),
        ("quota's ideal", [duration(one.ideal_seconds) for one in each]),
        ("quota used", [f"{one.quota_used:.1%}" for one in each]),
        ("calls refused", [f"{one.refused_share:.1%}" for one in each]),
        ("half done within", [duration(one.waits["half"]) for one in each]),
        ("longest wait", [duration(one.waits["longest"]) for one in each]),
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
    return price(report.operations) / report.scenario.images * 1_000_000


def price(operations: Mapping[str, int]) -> float:
    """US dollars for so many storage operations of each class."""
    return sum(count / 10_000 * PRICES[kind] for kind, count in operations.items())


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
