"""The plot in docs/performance.md: every ratio that has a target, and the target."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.measure import Row

MET, MISSED, EDGE = "#2a9d8f", "#d1495b", "#444444"


def plot(rows: Sequence[Row], path: Path) -> None:
    """One bar for each of `rows`, from the baseline (1) to ours, and a mark at the target. Text stays text."""
    names = [
        f"{row.benchmark.replace('_', ' ')}: {row.case}\n{row.unit}: {row.ratio:.2f} (target {row.target})"
        for row in rows
    ]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blobsight", "font.size": 9}):
        figure = Figure(figsize=(9, 0.9 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        for place, row in enumerate(rows):
            axes.barh(place, row.ratio - 1, left=1, height=0.5, color=MET if row.met else MISSED)
            axes.plot([row.limit or 1], [place], marker="D", color=EDGE, linestyle="none")
        axes.axvline(1, color=EDGE, linewidth=1)
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        ratios = [row.ratio for row in rows] + [row.limit or 1 for row in rows]
        axes.set_xlim(min(0.5, *ratios) / 2, max(2, *ratios) * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("ours, in baselines (1: as much as the baseline); diamonds: the targets")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})
