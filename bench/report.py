"""The figures of one run: as a table on the screen, as JSON, as Markdown and as a plot."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from bench.measure import ROOT, Row, machine

KEPT = Path(".local") / "bench"
"""Below the root: the last run's `results.json`, `report.md` and `performance.svg`."""
PAGE, PLOT = "docs/performance.md", "docs/performance.svg"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
PACKAGES = (
    "azure-functions-runtime", "azure-storage-blob", "azure-identity", "openai", "aiohttp", "pillow", "pillow-heif",
    "pypdfium2",
)  # fmt: skip

_SECTION = "\n\n### "
WIDE = 160
"""Width in characters where the output is not a terminal."""
HEADINGS = ("what", "ours", "baseline", "", "unit", "ratio", "spread", "target", "")
NUMBERS = {1, 2, 5, 6}
"""Columns that are aligned to the right."""


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of a run."""

    rows: Sequence[Row]
    repeats: int
    quick: bool

    @property
    def verdict(self) -> str:
        """One sentence."""
        judged = [row for row in self.rows if row.met is not None]
        missed = [f"{row.benchmark}, {row.case} ({row.unit})" for row in judged if not row.met]
        said = f"{len(judged) - len(missed)} of {len(judged)} targets met."
        return f"{said} Missed: {'; '.join(missed)}." if missed else said

    @property
    def conditions(self) -> dict[str, str]:
        """The machine, the date and the versions."""
        return {
            "measured": f"{datetime.now(UTC):%Y-%m-%d}",
            **machine(),
            "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
            "repeats": f"{self.repeats}, in turns; figures are medians, spread is half the range of the ratios"
            + (" (quick: small sizes, for trying only)" if self.quick else ""),
        }

    def show(self) -> None:
        """Write a table for each benchmark to stdout; without lines and with a fixed width if it is not a terminal."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDE
        for key, value in self.conditions.items():
            console.print(f"{key:9} {value}", markup=False, soft_wrap=True)
        for name, rows in groupby(self.rows, key=lambda row: row.benchmark):
            table = Table(box=HORIZONTALS if console.is_terminal else None, pad_edge=False)
            for number, heading in enumerate(HEADINGS):
                table.add_column(heading, justify="right" if number in NUMBERS else "left")
            for row in rows:
                table.add_row(*_cells(row), style="red" if row.met is False else None)
            console.print(f"\n{_heading(name)}", style="bold")
            console.print(table)

    def write(self) -> Path:
        """Write everything, and return the folder."""
        folder = ROOT / KEPT
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "conditions": self.conditions,
            "quick": self.quick,
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
        }
        (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.markdown(), encoding="utf-8")
        if any(row.target for row in self.rows):
            self._plot(folder / "performance.svg")
        return KEPT

    def publish_parts(self) -> None:
        """Write the tables of these benchmarks into docs/performance.md, in place of theirs there or behind them all.

        The plot and the other tables, with the conditions above them, stay as they are: each says when it was measured.
        """
        page = ROOT / PAGE
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        tables, _, after = rest.partition(END)
        head, *sections = tables.rstrip().split(_SECTION)
        found = {section.partition("\n")[0]: section for section in sections}
        conditions = self.conditions
        note = f"{conditions['measured']}, {conditions['processor']}, {self.repeats} repeats"
        for name, rows in groupby(self.rows, key=lambda row: row.benchmark):
            heading = _heading(name)
            found[heading] = "\n".join([heading, "", f"Measured {note}.", "", *_table(rows)])
        body = _SECTION.join([head.rstrip(), *(section.rstrip() for section in found.values())])
        page.write_text(f"{before}{BEGIN}{body}\n\n{END}{after}", encoding="utf-8")

    def publish(self) -> None:
        """Write the table into docs/performance.md, between its two marks, and the plot next to that page."""
        page = ROOT / PAGE
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n{END}{after}", encoding="utf-8")
        self._plot(ROOT / PLOT)

    def markdown(self) -> str:
        """Conditions, and a table for each benchmark."""
        lines = [f"- {key}: {value}" for key, value in self.conditions.items()]
        for name, rows in groupby(self.rows, key=lambda row: row.benchmark):
            lines += ["", f"### {_heading(name)}", "", *_table(rows)]
        return "\n".join(lines) + "\n"

    def _plot(self, path: Path) -> None:
        from bench.plot import plot  # noqa: PLC0415 - matplotlib, which is installed for `make bench` only

        plot([row for row in self.rows if row.limit is not None], path)


def _heading(benchmark: str) -> str:
    return benchmark.replace("_", " ").capitalize()


def _table(rows: Iterable[Row]) -> list[str]:
    """Lines of Markdown."""
    return [
        "| " + " | ".join(HEADINGS) + " |",
        "| " + " | ".join("---:" if number in NUMBERS else "---" for number in range(len(HEADINGS))) + " |",
        *("| " + " | ".join(_cells(row)) + " |" for row in rows),
    ]


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: "met", False: "missed"}[row.met]
    return (
        row.case,
        _figure(row.ours),
        _figure(row.baseline),
        row.baseline_name,
        row.unit,
        _figure(row.ratio),
        f"± {row.spread:.0%}" if row.spread else "",
        row.target or "",
        met,
    )


def _figure(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
