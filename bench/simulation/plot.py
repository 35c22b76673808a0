"""The plot in docs/scaling.md: how many images wait, and where."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.simulation.burst import Report

LAYERS = {"queue of uploads": "#2a9d8f", "deferred queue": "#d1495b", "in the instances' hands": "#c9c9c9"}
IDEAL = "#444444"


def plot_queues(reports: Mapping[str, Report], path: Path) -> None:
    """A small plot for each of `reports`: where images wait, and how the quota alone would have drained them."""
    columns = 2
    rows = -(-len(reports) // columns)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blobsight", "font.size": 8}):
        figure = Figure(figsize=(9, 2.1 * rows), layout="constrained")
        for place, (name, report) in enumerate(reports.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            step = max(1, len(report.samples) // 300)
            samples = report.samples[::step]
            hours = [sample.at / 3600 for sample in samples]
            waiting = [[getattr(sample, layer) for sample in samples] for layer in ("uploads", "requests", "in_work")]
            axes.stackplot(hours, waiting, colors=LAYERS.values(), labels=LAYERS, linewidth=0)
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
