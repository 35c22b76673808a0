"""`python -m bench.simulation`, for `make simulate`."""

import argparse
import sys
from dataclasses import replace

from bench.measure import ROOT
from bench.simulation import night_report, report
from bench.simulation.burst import Report, Scenario, simulate
from bench.simulation.days import days
from bench.simulation.night import NightReport, nights, spend
from localcloud.terminal import talk

LONG, QUICK, OF_EACH_DAY, OF_A_NIGHT, OF_A_QUICK_NIGHT = 1_000_000, 20_000, 20_000, 100_000, 5_000
"""Images."""


def main() -> int:
    """Return the exit status: 0 if every image has its result, 1 otherwise, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulation",
        description="A burst of images over many instances that share a quota, with the app's own code.",
        epilog="examples: make simulate ARGS=--quick    make simulate ARGS='--instances 100 --quota 1000000'",
    )
    usual = Scenario()
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} images instead of {LONG:,}: under a minute")
    parser.add_argument("--images", type=int, help="how many")
    parser.add_argument("--instances", type=int, default=usual.instances, help="at most (default: %(default)s)")
    parser.add_argument("--quota", type=float, default=usual.quota, help="tokens a minute (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="decides everything (default: %(default)s)")
    parser.add_argument("--days", action="store_true", help=f"other sizes and bad days: {OF_EACH_DAY:,} images each")
    parser.add_argument(
        "--nights", action="store_true", help=f"by batch: {OF_A_NIGHT:,} images of 1 MB, and variations"
    )
    parser.add_argument(
        "--docs", action="store_true", help="all of it, into docs/scaling.md: an hour or less; with --nights, those"
    )
    asked = parser.parse_args()
    try:
        is_complete = all([asked.nights or _days(asked), _nights(asked)])
    except KeyboardInterrupt:
        talk.print("Stopped.")
        return 130
    return 0 if is_complete else 1


def _days(asked: argparse.Namespace) -> bool:
    """Simulate days; return whether every image has its result."""
    usual, images = Scenario(), asked.images or (QUICK if asked.quick else LONG)
    chosen: dict[str, Scenario] = {}
    if asked.days or asked.docs:
        chosen |= days(asked.images or OF_EACH_DAY, asked.seed)
    if asked.docs or not asked.days:
        burst = replace(usual, images=images, instances=asked.instances, quota=asked.quota, seed=asked.seed)
        chosen[f"{images:,} images, {asked.instances} instances"] = burst
    reports: dict[str, Report] = {}
    for name, scenario in chosen.items():
        with talk.status(f"{name} ..."):
            reports[name] = simulate(scenario)
        talk.print(f"{name}: simulated in {reports[name].wall_seconds:,.0f} s")
    report.show(reports, report.rows(reports))
    folder = report.write(reports)
    report.plot(reports, ROOT / folder / "scaling.svg")
    talk.print(f"Written to {folder}.", markup=False)
    if asked.docs:
        report.publish(report.turned(reports, report.rows(reports)))
        report.plot(reports, ROOT / report.PLOT)
    return all(one.is_complete for one in reports.values())


def _nights(asked: argparse.Namespace) -> bool:
    """Simulate nights by batch, if asked for; return whether every image has its result, and none was paid twice."""
    if not (asked.nights or asked.docs):
        return True
    images = asked.images or (OF_A_QUICK_NIGHT if asked.quick else OF_A_NIGHT)
    reports: dict[str, NightReport] = {}
    for name, night in nights(images, asked.seed).items():
        with talk.status(f"{name} ..."):
            reports[name] = spend(night)
        talk.print(f"{name}: simulated in {reports[name].wall_seconds:,.0f} s")
    rows = night_report.rows(reports)
    report.show(reports, rows)
    talk.print(f"Written to {report.write(reports, 'nights.json')}.", markup=False)
    if asked.docs:
        report.publish(report.straight(reports, rows), night_report.BEGIN, night_report.END)
    return all(one.is_complete for one in reports.values())


if __name__ == "__main__":
    sys.exit(main())
