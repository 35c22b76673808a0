"""`python -m bench.chaos`, for `make chaos`."""

import argparse
import asyncio
import logging
import signal
import sys

from azure.core.exceptions import AzureError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.chaos.campaign import ROOT
from bench.chaos.report import Report
from bench.chaos.run import BY_BATCH, KEPT, LONG, SHORT, run
from localcloud.errors import LocalCloudError
from localcloud.terminal import out, talk

SHOWN_PROBLEMS = 20


def main() -> int:
    """Return the exit status: 0 if nothing was lost or paid twice, 1 otherwise, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description="Checks that nothing is lost or paid twice while everything fails."
    )
    parser.add_argument("--uploads", type=int, help=f"images (default: {LONG.uploads:,}, or {SHORT.uploads} if short)")
    parser.add_argument("--seed", type=int, default=1, help="decides all faults (default: 1)")
    parser.add_argument("--short", action="store_true", help="less than a minute")
    parser.add_argument("--lane", choices=BY_BATCH, default="both", help="which way the images go (default: both)")
    asked = parser.parse_args()
    # The local cloud logs the emulator's restarts, which are expected here.
    log = ROOT / KEPT / "campaign.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=log, filemode="w", level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        report = asyncio.run(_until_stopped(asked.uploads, asked.seed, asked.lane, short=asked.short))
    except (LocalCloudError, AzureError, OSError) as error:
        talk.print(f"error: {str(error).partition(chr(10))[0]}", markup=False, soft_wrap=True)
        return 1
    if report is None:
        talk.print("Stopped.")
        return 130
    _show(report, asked.seed)
    return 1 if report.problems else 0


async def _until_stopped(uploads: int | None, seed: int, lane: str, *, short: bool) -> Report | None:
    """Run a campaign and return its report, None if it was stopped. Either way no process stays behind."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=talk) as progress:
        task = progress.add_task("Starting the local cloud", total=None)

        def say(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)

        running = asyncio.create_task(run(SHORT if short else LONG, seed, say, lane=lane, uploads=uploads))
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(sent, lambda: running.cancelling() or running.cancel())
        try:
            return await running
        except asyncio.CancelledError:
            return None


def _show(report: Report, seed: int) -> None:
    if out.is_terminal:
        table = Table(title=f"Chaos, seed {seed}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for row in report.rows:
            table.add_row(*row)
        out.print(table)
    else:  # for programs and files: no frame, and no wrapped lines
        out.print(f"seed\t{seed}")
        for what, count in report.rows:
            out.print(f"{what}\t{count}", markup=False, soft_wrap=True)
    if not report.problems:
        talk.print("Nothing was lost, and nothing was paid twice that did not have to be.")
        return
    talk.print(f"{len(report.problems)} problems; the log of the functions host is in {KEPT}:", soft_wrap=True)
    for problem in report.problems[:SHOWN_PROBLEMS]:
        talk.print(f"  - {problem}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
