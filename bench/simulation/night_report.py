"""The report on the simulated nights."""

from collections.abc import Mapping

from bench.simulation.night import NightReport
from bench.simulation.report import Rows, duration, price

BEGIN, END = "<!-- make simulate, nights: begin -->", "<!-- make simulate, nights: end -->"
INPUT_PRICE, OUTPUT_PRICE = 0.20, 1.20
"""US dollars for a million tokens at the list price of the default model; see infra/model.json."""
ANSWER_TOKENS = 300
"""Of an answer, for the price alone: as in docs/deploy.md."""


def rows(reports: Mapping[str, NightReport]) -> Rows:
    """Of the simulated nights."""
    each = list(reports.values())
    return [
        ("images by batch", [f"{one.night.images:,}" for one in each]),
        ("images by the default lane meanwhile", [f"{one.night.others:,}" for one in each]),
        ("a batch takes about", [f"{one.night.service.hours:g} h" for one in each]),
        ("the service takes a file at", [f"{one.night.service.bytes_per_second / 1e6:,.0f} MB/s" for one in each]),
        ("quota of enqueued tokens", [f"{one.night.service.quota / 1e6:,.1f} M" for one in each]),
        ("most enqueued", [f"{one.seen.most_enqueued / 1e6:,.1f} M" for one in each]),
        ("files", [f"{one.seen.files:,}" for one in each]),
        ("the largest file", [f"{one.seen.largest / 1e6:,.1f} MB" for one in each]),
        ("most batches at a time", [f"{one.seen.most_batches:,}" for one in each]),
        ("refused for the quota", [f"{one.seen.refused:,}" for one in each]),
        ("last line written after", [duration(one.written) for one in each]),
        ("last file uploaded after", [duration(one.seen.last_upload) for one in each]),
        ("**last result after**", [duration(one.hours * 3600) for one in each]),
        ("longest run of the timer", [duration(one.longest_run) for one in each]),
        ("lines paid twice", [f"{one.paid_twice:,}" for one in each]),
        ("storage operations per image", [f"{sum(one.operations.values()) / one.night.all:.1f}" for one in each]),
        ("their price", [f"${price(one.operations):,.2f}" for one in each]),
        ("the model at list price", [f"${_model(one):,.2f}" for one in each]),
        ("the model by batch", [f"${_model(one) / 2:,.2f}" for one in each]),
        ("default lane: half done within", [_wait(one, "half") for one in each]),
        ("default lane: 99 % done within", [_wait(one, "99 %") for one in each]),
        ("results", [", ".join(f"{count:,} {what}" for what, count in one.results.items()) for one in each]),
    ]


def _model(report: NightReport) -> float:
    """US dollars for the images that went by batch."""
    answers = report.night.images * ANSWER_TOKENS
    return (report.seen.tokens * INPUT_PRICE + answers * OUTPUT_PRICE) / 1e6


def _wait(report: NightReport, part: str) -> str:
    return f"{report.waits[part]:.0f} s" if report.night.others else ""
