"""The plot in docs/scaling.md: how many images wait, day by day."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.simulation.burst import Report

UPLOADS, REQUESTS, IDEAL = "#2a9d8f", "#d1495b", "#444444"


def plot_queues(reports: Mapping[str, Report], path: Path) -> None:
    """A small plot for each of `reports`: both queues, and what the quota alone would have left."""
    columns = 2
    rows = -(-len(reports) // columns)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blobsight", "font.size": 8}):
        figure = Figure(figsize=(9, 2.1 * rows), layout="constrained")
        for place, (name, report) in enumerate(reports.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            step = max(1, len(report.samples) // 300)
            samples = report.samples[::step]
            hours = [sample.at / 3600 for sample in samples]
            queues = [[sample.uploads for sample in samples], [sample.requests for sample in samples]]
            axes.stackplot(hours, queues, colors=(UPLOADS, REQUESTS), labels=("uploads", "request queue"), linewidth=0)
            axes.plot(
                [0, report.ideal_seconds / 3600], [report.scenario.images, 0], color=IDEAL, linewidth=1, linestyle=":"
            )
            axes.set_title(name, loc="left", fontsize=8)
            axes.set_xlim(0, report.drained_seconds / 3600)
            axes.set_ylim(0)
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.set_xlabel("hours")
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        figure.axes[0].legend(frameon=False, loc="upper right")
        figure.savefig(path, format="svg", metadata={"Date": None})
