"""`python -m bench`, for `make bench`."""

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import growth, report
from bench.measure import ContenderError, Row, Say, stop_contenders
from localcloud.errors import LocalCloudError
from localcloud.terminal import talk

BENCHMARKS = (
    "model_leg", "whole_function", "prepare", "cold_start", "growth", "command_line", "gallery", "pages", "batch_file",
)  # fmt: skip
REPEATS = 3


def main() -> int:
    """Return the exit status: 0 if everything was measured, targets met or not; 1 otherwise, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the pipeline against baselines in the same run.",
        epilog="examples: make bench ARGS=--quick    make bench ARGS='prepare cold_start --repeats 5'",
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, once: checks that it runs; the figures mean little"
    )
    parser.add_argument("--repeats", type=int, help=f"of each contender (default: {REPEATS}, or 1 if quick)")
    parser.add_argument("--long", action="store_true", help="growth with 50,000 events instead of 10,000")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="also put the tables, and of all benchmarks the plot, into docs/performance.md",
    )
    asked = parser.parse_args()
    chosen = [name for name in BENCHMARKS if name in asked.benchmarks] or list(BENCHMARKS)
    if unknown := set(asked.benchmarks) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    if asked.docs and asked.quick:
        parser.error("--docs needs the full sizes, without --quick")
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent, _stop)
    repeats = asked.repeats or (1 if asked.quick else REPEATS)
    try:
        rows = _measure(chosen, repeats, quick=asked.quick, long=asked.long)
    except (ContenderError, LocalCloudError) as error:
        talk.print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        talk.print("Stopped.")
        return 130
    measured = report.Report(rows, repeats, quick=asked.quick)
    measured.show()
    talk.print(f"{measured.verdict} Written to {measured.write()}.", markup=False, soft_wrap=True)
    if asked.docs and asked.benchmarks:
        measured.publish_parts()
    elif asked.docs:
        measured.publish()
    return 0


def _stop(*_: object) -> None:
    stop_contenders()  # first: a thread that waits for one would be waited for
    raise KeyboardInterrupt


def _measure(chosen: Sequence[str], repeats: int, *, quick: bool, long: bool) -> list[Row]:
    rows: list[Row] = []
    for name in chosen:
        with _progress(name) as say:
            if name == growth.NAME and long:
                rows += growth.run_long(say)
            else:
                rows += importlib.import_module(f"bench.{name}").run(repeats, quick, say)
    return rows


@contextmanager
def _progress(name: str) -> Iterator[Say]:
    """A line that changes on a terminal, one line for each benchmark elsewhere."""
    began = time.monotonic()
    with talk.status(f"{name} ...") as status:
        yield lambda what: status.update(f"{name}: {what} ...")
    talk.print(f"{name}: measured in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
